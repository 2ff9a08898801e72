package coordinator

import (
	"github.com/discreet-fl/discreet/aggregation"
	pb "github.com/discreet-fl/discreet/proto"
)

// ChoiceOf is the strategy that a specification names.
func ChoiceOf(spec *pb.TaskSpec) aggregation.Choice {
	c := aggregation.Choice{Name: spec.GetStrategy().GetName()}
	for _, n := range spec.GetStrategy().GetNumbers() {
		c.Numbers = append(c.Numbers, aggregation.Number{Name: n.GetName(), Value: n.GetValue()})
	}
	return c
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
