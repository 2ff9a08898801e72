package coordinator

import (
	"fmt"

	"github.com/discreet-fl/discreet/aggregation"
	"github.com/discreet-fl/discreet/model"
	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/secagg"
)

// ChoiceOf is the strategy that a specification names.
func ChoiceOf(spec *pb.TaskSpec) aggregation.Choice {
	c := aggregation.Choice{Name: spec.GetStrategy().GetName()}
	for _, n := range spec.GetStrategy().GetNumbers() {
		c.Numbers = append(c.Numbers, aggregation.Number{Name: n.GetName(), Value: n.GetValue()})
	}
	return c
}

// checkStrategy is what CheckSpec says of the strategy, whose choice has passed Check.
func checkStrategy(spec *pb.TaskSpec) error {
	c := ChoiceOf(spec)
	if bits := spec.GetCompression().GetBits(); bits != 0 && specLayout(spec, model.Layout{}).Scalar != nil {
		return fmt.Errorf("strategy %s with %d bits a coordinate: devices send one number of 16 bits for it, and all words have as many; leave the bits out", c.Name, bits)
	}
	return CheckCohorts(c, int(spec.GetPerRound()), int(cohortOf(spec)), int(spec.GetMinSurvivors()))
}

// CheckCohorts returns an error, for the operator to read, unless rounds of so many devices
// have the cohorts that a strategy needs.
func CheckCohorts(c aggregation.Choice, perRound, cohort, least int) error {
	if n := secagg.Cohorts(perRound, cohort); c.Apart() && (n < aggregation.MinApart || n > aggregation.MaxApart) {
		cohorts, next := fmt.Sprintf("%d cohorts", n), "raise --cohort or lower --per-round"
		if n == 1 {
			cohorts = "1 cohort"
		}
		if n < aggregation.MinApart {
			next = "lower --cohort or raise --per-round"
		}
		return fmt.Errorf("strategy %s with %d devices a round in cohorts of %d at most has %s, want %d to %d: %s", c.Name, perRound, cohort, cohorts, aggregation.MinApart, aggregation.MaxApart, next)
	}
	if c.Apart() && perRound < aggregation.MinApart*least {
		return fmt.Errorf("strategy %s with %d devices a round, want at least %d, for %d cohorts of %d: raise --per-round or lower --min-survivors", c.Name, perRound, aggregation.MinApart*least, aggregation.MinApart, least)
	}
	return nil
}

// needOf is the fewest devices that a round begins with: the minimum of a cohort, or
// where the strategy combines cohorts what makes enough of them.
func needOf(spec *pb.TaskSpec) int {
	least := int(spec.GetMinSurvivors())
	if !ChoiceOf(spec).Apart() {
		return least
	}
	return max((aggregation.MinApart-1)*int(cohortOf(spec))+1, aggregation.MinApart*least)
}

// Tell adds to what a plan says of training what a task's strategy needs of devices, for
// a model of this layout. The specification has passed CheckSpec.
func Tell(t *pb.Training, spec *pb.TaskSpec, m model.Layout) {
	c := ChoiceOf(spec)
	if f, ok := c.FairOf(m.Labels); ok {
		t.Fairness = &pb.Fairness{Eighths: uint32(f.Eighths), Lipschitz: f.Lipschitz, Reference: f.Reference}
	}
	settings, err := model.DefaultTraining(spec.GetModel())
	if err != nil {
		return // a specification that CheckSpec refuses for its model
	}
	if n, ok := c.NormalisedOf(settings.Epochs, settings.Batch); ok {
		t.Normalise = n.Scale
	}
}

// scalarOf is how the scalar that a plan asks for is read, nil where it asks for none.
func scalarOf(t *pb.Training) aggregation.Scalar {
	switch f := t.GetFairness(); {
	case f != nil:
		return aggregation.Fair{Eighths: int(f.GetEighths()), Lipschitz: f.GetLipschitz(), Reference: f.GetReference()}
	case t.GetNormalise() != 0:
		return aggregation.Normalised{Scale: t.GetNormalise()}
	}
	return nil
}

// StrategyFor is how a specification names a strategy.
func StrategyFor(c aggregation.Choice) *pb.Strategy {
	s := &pb.Strategy{Name: c.Name}
	for _, n := range c.Numbers {
		s.Numbers = append(s.Numbers, &pb.StrategyNumber{Name: n.Name, Value: n.Value})
	}
	return s
}

// StrategyOf returns how the mean update of so many devices in a round, the first being 1,
// moves the model of a task, whose specification has passed CheckSpec.
func StrategyOf(spec *pb.TaskSpec, round uint64, survivors int) aggregation.Strategy {
	return ChoiceOf(spec).Slowed(left(round, spec.GetRounds())).Strategy(survivors)
}

// StateLength is the length of the strategy's state for a model of so many parameters.
// It is all zero before the first round.
func StateLength(spec *pb.TaskSpec, parameters int) int {
	return StrategyOf(spec, 1, 1).State(parameters)
}
