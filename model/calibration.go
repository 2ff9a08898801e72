package model

import (
	"fmt"

	"github.com/discreet-fl/discreet/model/kernel"
)

// Calibration is what the chats that devices hold back say of how far a checkpoint's answers are to be trusted. The
// zero value of no calibration is nil: the model's own probabilities are told, and every text gets an answer.
type Calibration struct {
	// Slope and Offset turn the margin m of an answer, log(p/(1−p)) of its probability p, into the confidence
	// 1/(1+e^−(slope·m+offset)) (Platt 1999, "Probabilistic outputs for support vector machines", eq. 1, of the margin).
	Slope  float32 `json:"slope"` // above 0
	Offset float32 `json:"offset"`
	// Threshold is the largest score (logit) below which a text is taken for none of the intents; nil where every
	// text gets an answer.
	Threshold *float32 `json:"threshold,omitempty"`
}

// maxCalibration bounds each number of a Calibration, far above what any fit gives.
const maxCalibration = 1e6

// Validate returns an error, which says what was wanted, unless every number lies in its range.
func (c *Calibration) Validate() error {
	switch {
	case c == nil:
		return nil
	case !(c.Slope > 0 && c.Slope <= maxCalibration):
		return fmt.Errorf("calibration with a slope of %v, want more than 0 and at most %v", c.Slope, float32(maxCalibration))
	case !(c.Offset >= -maxCalibration && c.Offset <= maxCalibration):
		return fmt.Errorf("calibration with an offset of %v, want at most %v either side of 0", c.Offset, float32(maxCalibration))
	case c.Threshold != nil && !(*c.Threshold >= -maxCalibration && *c.Threshold <= maxCalibration):
		return fmt.Errorf("calibration with a threshold of %v, want at most %v either side of 0", *c.Threshold, float32(maxCalibration))
	}
	return nil
}

// Confidence returns how sure the model is of an answer with this margin.
func (c *Calibration) Confidence(margin float32) float32 {
	if c == nil {
		return kernel.Logistic(margin)
	}
	return kernel.Logistic(float32(c.Slope*margin) + c.Offset)
}

// apply puts the calibrated confidence in the place of the answer's probability. The next-best share out what it
// leaves as the model does, and none gets more than the answer.
func (c *Calibration) apply(top []Intent, margin float32) {
	if c == nil || len(top) == 0 {
		return
	}
	answer, others := c.Confidence(margin), kernel.Logistic(-margin)
	top[0].Confidence = answer
	for i := range top[1:] {
		share := float32(0)
		if others > 0 {
			share = min(top[1+i].Confidence/others, 1)
		}
		top[1+i].Confidence = min(float32((1-answer)*share), answer)
	}
}

// Knows tells whether a text whose largest score is this is taken for one of the intents.
func (c *Classifier) Knows(score float32) bool {
	return c.calibration == nil || c.calibration.Threshold == nil || score >= *c.calibration.Threshold
}
