package coordinator

import (
	"fmt"

	"github.com/discreet-fl/discreet/aggregation"
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

// checkStrategy is what CheckSpec says of the strategy.
func checkStrategy(spec *pb.TaskSpec) error {
	c := ChoiceOf(spec)
	if err := c.Check(); err != nil {
		return err
	}
	return CheckCohorts(c, int(spec.GetPerRound()), int(cohortOf(spec)), int(spec.GetMinSurvivors()))
}

// CheckCohorts returns an error, for the operator to read, unless rounds of so many devices
// have the cohorts that a strategy needs.
func CheckCohorts(c aggregation.Choice, perRound, cohort, least int) error {
	if n := secagg.Cohorts(perRound, cohort); c.Apart() && (n < aggregation.MinApart || n > aggregation.MaxApart) {
		return fmt.Errorf("strategy %s with %d devices a round in cohorts of %d at most has %d cohorts, want %d to %d", c.Name, perRound, cohort, n, aggregation.MinApart, aggregation.MaxApart)
	}
	if c.Apart() && perRound < aggregation.MinApart*least {
		return fmt.Errorf("strategy %s with %d devices a round, want at least %d, for %d cohorts of %d", c.Name, perRound, aggregation.MinApart*least, aggregation.MinApart, least)
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

// StrategyFor is how a specification names a strategy.
func StrategyFor(c aggregation.Choice) *pb.Strategy {
	s := &pb.Strategy{Name: c.Name}
	for _, n := range c.Numbers {
		s.Numbers = append(s.Numbers, &pb.StrategyNumber{Name: n.Name, Value: n.Value})
	}
	return s
}

// StrategyOf returns how the mean update of so many devices moves the model of a task,
// whose specification has passed CheckSpec.
func StrategyOf(spec *pb.TaskSpec, survivors int) aggregation.Strategy {
	return ChoiceOf(spec).Strategy(survivors)
}

// StateLength is the length of the strategy's state for a model of so many parameters.
// It is all zero before the first round.
func StateLength(spec *pb.TaskSpec, parameters int) int {
	return StrategyOf(spec, 1).State(parameters)
}
