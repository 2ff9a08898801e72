package model

import "fmt"

// Example is one chat as training sees it: its features and the index of its intent in the model's labels.
type Example struct {
	Features Features
	Label    int
	// Not says that the label is one the text does not have, and nothing of which it has. Training then lowers the
	// label's probability p: the loss is −log(1−p) (Kim et al., NLNL: Negative Learning for Noisy Labels, ICCV 2019,
	// equation 2), without label smoothing.
	Not bool
	// Weight is what the loss is multiplied by, above 0 and up to 1. 0 stands for 1, that of a label one is sure of;
	// what is to count nothing is left out.
	Weight float32
}

// Training says how a device trains on its examples in one round. Package model/train carries it out.
type Training struct {
	// Epochs is how often every example is seen.
	Epochs int
	// Batch is the examples of one step. The gradients of a batch are summed, not averaged, so that a rate
	// found at one small batch size serves the others; only large batches want a smaller rate.
	Batch int
	// LearningRate is the rate of the first step; it falls linearly to zero over all steps.
	LearningRate float32
	// FeatureDropout is the chance that a feature of an example is left out of one step; at least one is kept.
	FeatureDropout float32
	// HiddenDropout is the chance that a unit of the hidden layer is left out of an example in one step; those that
	// stay are scaled up by 1/(1−chance), so that their sum is as large in the mean (Srivastava et al. 2014, "Dropout:
	// a simple way to prevent neural networks from overfitting", section 10).
	HiddenDropout float32
	// LabelSmoothing is the share of the target spread evenly over all labels.
	LabelSmoothing float32
	// Proximal is μ of FedProx: training is held back by μ/2 times the square of its distance from where it
	// began. 0 leaves that out.
	Proximal float32
	// Averaged is over how many of the last passes the parameters at their ends are averaged, to those that training
	// gives (Izmailov et al. 2018, "Averaging weights leads to wider optima and better generalization", algorithm 1).
	// 0 gives the last. It does not go with a proximal term.
	Averaged int
	// Consistency is α of R-Drop (Liang et al. 2021, "R-Drop: Regularized dropout for neural networks", equation 4):
	// a step sees half as many examples, each twice, with features left out of each afresh, and beside the mean of
	// their losses α/4·(KL(p‖q)+KL(q‖p)) of what the two say is lowered. 0 leaves that out. No plan
	// carries it, Averaged or HiddenDropout: they are for training in one place, not for rounds.
	Consistency float32
	// Rows, where it is not nil, tells for each row of the embedding whether training moves it; the others are
	// only read. It has as many as the layout, and is not part of what Validate looks at.
	Rows []bool `json:"-"`
}

// Bounds of Training: what a device accepts from a plan.
const (
	MaxEpochs       = 1000
	MaxBatch        = 1024
	MaxLearningRate = 100
	MaxProximal     = 100
	MaxConsistency  = 100
)

// DefaultTraining returns settings for a device of a hundred or so examples in one federated round, per size.
func DefaultTraining(size string) (Training, error) {
	switch size {
	case "small":
		return Training{Epochs: 5, Batch: 8, LearningRate: 0.3, FeatureDropout: 0.3, LabelSmoothing: 0.1}, nil
	case "base":
		return Training{Epochs: 5, Batch: 8, LearningRate: 0.3, FeatureDropout: 0.5, LabelSmoothing: 0.1}, nil
	}
	return Training{}, fmt.Errorf("model size %q is unknown: choose small or base", size)
}

// Validate reports the first setting that is out of bounds.
func (s Training) Validate() error {
	switch {
	case s.Epochs < 1 || s.Epochs > MaxEpochs:
		return fmt.Errorf("training has %d epochs, want 1 to %d", s.Epochs, MaxEpochs)
	case s.Batch < 1 || s.Batch > MaxBatch:
		return fmt.Errorf("training has batches of %d, want 1 to %d", s.Batch, MaxBatch)
	case !(s.LearningRate > 0 && s.LearningRate <= MaxLearningRate):
		return fmt.Errorf("training has learning rate %v, want above 0 and up to %d", s.LearningRate, MaxLearningRate)
	case !(s.FeatureDropout >= 0 && s.FeatureDropout < 1):
		return fmt.Errorf("training has feature dropout %v, want 0 up to but not 1", s.FeatureDropout)
	case !(s.HiddenDropout >= 0 && s.HiddenDropout < 1):
		return fmt.Errorf("training has hidden dropout %v, want 0 up to but not 1", s.HiddenDropout)
	case !(s.LabelSmoothing >= 0 && s.LabelSmoothing < 1):
		return fmt.Errorf("training has label smoothing %v, want 0 up to but not 1", s.LabelSmoothing)
	case !(s.Proximal >= 0 && s.Proximal <= MaxProximal):
		return fmt.Errorf("training has a proximal term of %v, want 0 to %d", s.Proximal, MaxProximal)
	case !(s.Consistency >= 0 && s.Consistency <= MaxConsistency):
		return fmt.Errorf("training has a consistency of %v, want 0 to %d", s.Consistency, MaxConsistency)
	case s.Averaged < 0 || s.Averaged > s.Epochs:
		return fmt.Errorf("training averages %d passes, want 0 up to its %d", s.Averaged, s.Epochs)
	case s.Averaged > 0 && s.Proximal > 0:
		return fmt.Errorf("training averages %d passes and has a proximal term of %v, want one of them", s.Averaged, s.Proximal)
	case s.Consistency > 0 && s.Batch < 2:
		return fmt.Errorf("training has batches of %d, want 2 and more, as consistency needs an example twice", s.Batch)
	}
	return nil
}
