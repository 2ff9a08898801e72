package main

import (
	"fmt"
	"strings"

	"github.com/spf13/pflag"

	"github.com/discreet-fl/discreet/aggregation"
)

// strategyValue is a strategy as a flag: NAME or NAME:key=value,key=value.
type strategyValue aggregation.Choice

// strategyFlag adds --strategy, by default the coordinator's own.
func strategyFlag(f *pflag.FlagSet, c *aggregation.Choice) {
	f.Var((*strategyValue)(c), "strategy", "what is done with a round's mean update: "+strings.Join(aggregation.StrategyNames(), ", ")+
		"; with numbers of its own after a colon, as in fedavgm:rate=1,momentum=0.9")
}

func (v *strategyValue) String() string { return aggregation.Choice(*v).String() }

func (v *strategyValue) Set(text string) error {
	if text == "" {
		return fmt.Errorf("want one of %s", strings.Join(aggregation.StrategyNames(), ", "))
	}
	c, err := aggregation.ParseChoice(text)
	if err == nil {
		*v = strategyValue(c)
	}
	return err
}

func (v *strategyValue) Type() string { return "strategy" }
