package model

import "errors"

// MinJudges is the fewest held-back examples that a personal part is judged by. Below it the checkpoint answers:
// docs/decisions.md has the figures.
const MinJudges = 5

// Personal is what a device makes its own of a checkpoint: an output layer that was trained on its own examples, over
// the checkpoint's embedding, and how both do on examples that neither was trained on. It is the device's alone.
type Personal struct {
	Output []float32 `json:"output,omitempty"` // as Layout.Output gives it; none where there were too few examples to train or to judge by

	Held        int     `json:"held"`         // examples that both were judged by
	SharedRight int     `json:"shared_right"` // of them, named rightly by the checkpoint
	OwnRight    int     `json:"own_right"`    // and with Output in its place
	SharedLoss  float64 `json:"shared_loss"`  // mean cross-entropy on them, in nats
	OwnLoss     float64 `json:"own_loss"`
}

// Better tells whether the personal output layer is to answer: it names more of the held-back examples rightly than
// the checkpoint's or, where both name as many, gives them the smaller cross-entropy.
func (p *Personal) Better() bool {
	if len(p.Output) == 0 || p.Held < MinJudges {
		return false
	}
	return p.OwnRight > p.SharedRight || p.OwnRight == p.SharedRight && p.OwnLoss < p.SharedLoss
}

// Classifier returns one over the checkpoint's embedding and the personal output layer, both of which must stay as
// they are while it is in use. An output layer of another layout, or one that is not finite, is an error.
func (p *Personal) Classifier(c *Checkpoint) (*Classifier, error) {
	own := NewClassifier(c)
	if len(p.Output) != len(own.weights)+len(own.bias) {
		return nil, errors.New("a personal output layer of another layout than the checkpoint's")
	}
	if err := finite(p.Output); err != nil {
		return nil, err
	}
	own.weights, own.bias = p.Output[:len(own.weights)], p.Output[len(own.weights):]
	return own, nil
}
