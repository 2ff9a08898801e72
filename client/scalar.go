package client

import (
	"errors"

	"github.com/discreet-fl/discreet/aggregation"
	"github.com/discreet-fl/discreet/model"
	pb "github.com/discreet-fl/discreet/proto"
)

// checkScalar refuses a plan that asks for scalars of two kinds, or for one that its
// training does not give. Settings out of their ranges are refused with the codec.
func checkScalar(t *pb.Training) error {
	switch {
	case t.GetNormalise() == 0:
		return nil
	case t.GetFairness() != nil:
		return errors.New("updates both normalised and weighted by losses, want one of the two")
	case t.GetProximal() != 0:
		return errors.New("normalised updates with a proximal term, under which a step's norm is another")
	}
	return nil
}

// scalar is what a plan's strategy needs beside update and weight, nil for nothing.
func scalar(plan *pb.Plan) aggregation.Scalar {
	const largest = 1 << 16 // above the bound, and an int everywhere
	switch t := plan.GetTraining(); {
	case t.GetFairness() != nil:
		f := t.GetFairness()
		return aggregation.Fair{Eighths: int(min(f.GetEighths(), largest)), Lipschitz: f.GetLipschitz(), Reference: f.GetReference()}
	case t.GetNormalise() != 0:
		return aggregation.Normalised{Scale: t.GetNormalise()}
	}
	return nil
}

// weigh returns the weight of an update for a plan's strategy and the strategy's scalar,
// and divides the update, which may be shortened, where the strategy wants that. whole is
// what training has moved, and labelled how many examples have a label, at least 1.
func weigh(l aggregation.Layout, update, whole []float32, c *model.Checkpoint, examples []model.Example, s model.Training, labelled int) (weight int, scalar uint32) {
	weight = min(labelled, l.Codec.MaxWeight)
	switch of := l.Scalar.(type) {
	case aggregation.Normalised:
		return weight, of.Divide(update, aggregation.Norm(len(examples), s.Epochs, s.Batch), weight)
	case aggregation.Fair:
		return of.Weigh(model.NewClassifier(c).Loss(examples), whole)
	}
	return weight, 0
}
