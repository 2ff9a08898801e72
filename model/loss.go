package model

import "github.com/discreet-fl/discreet/model/kernel"

// Loss returns the mean cross-entropy of the examples that have a label, in nats, without
// smoothing or dropout; 0 where none has. It has the same bits on every platform.
func (c *Classifier) Loss(examples []Example) float32 {
	var sum float32
	n := 0
	for _, e := range examples {
		if e.Not {
			continue
		}
		shares := c.Probabilities(e.Features)
		sum += kernel.CrossEntropy(c.scores, shares, len(shares), []int32{int32(e.Label)}, []float32{1}, 0)
		n++
	}
	if n == 0 {
		return 0
	}
	return sum / float32(n)
}
