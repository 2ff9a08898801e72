package aggregation

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// DefaultStrategy is the strategy of a task that names none.
const DefaultStrategy = "fedadam"

// Number is one setting of a strategy, by its name.
type Number struct {
	Name  string
	Value float64
}

// Choice is a strategy by its name with the numbers that were chosen for it. Those that
// were not have their defaults. The zero Choice is DefaultStrategy.
type Choice struct {
	Name    string
	Numbers []Number // in the order of the strategy's own
}

// kind is a strategy that can be chosen.
type kind struct {
	name    string
	numbers []Number // with their defaults, in order
	// of makes the strategy for a round of so many survivors.
	of func(n map[string]float64, survivors int) Strategy
	// trim is how many of n cohorts' means are left out on either side; nil where cohorts
	// are added up.
	trim func(numbers map[string]float64, n int) int
}

var adaptive = []Number{{"rate", 0.03}, {"beta1", 0.5}, {"beta2", 0.99}, {"epsilon", 1.3e-3}, {"mu", 0}}

// kinds are all of them. What only a few devices of a cohort have seen is diluted in the
// mean, the more so the larger the cohort, so FedAvgM's rate and the means above which
// the adaptive strategies take whole steps go with the root of the survivors.
var kinds = []kind{
	{"fedavg", []Number{{"rate", 1}, {"mu", 0}}, func(n map[string]float64, _ int) Strategy {
		return FedAvg{Rate: float32(n["rate"])}
	}, nil},
	// FedProx is FedAvg of devices that Proximal holds back (Li et al. 2020, "Federated
	// optimization in heterogeneous networks", algorithm 2).
	{"fedprox", []Number{{"rate", 1}, {"mu", 0.01}}, func(n map[string]float64, _ int) Strategy {
		return FedAvg{Rate: float32(n["rate"])}
	}, nil},
	// A lasting update moves the model by rate·√survivors times its size.
	{"fedavgm", []Number{{"rate", 1.5}, {"momentum", 0.7}, {"mu", 0}}, func(n map[string]float64, survivors int) Strategy {
		lasting := n["rate"] * math.Sqrt(float64(survivors))
		return FedAvgM{Rate: float32(lasting * (1 - n["momentum"])), Momentum: float32(n["momentum"])}
	}, nil},
	{"fedadam", adaptive, func(n map[string]float64, survivors int) Strategy {
		return FedAdam{Rate: float32(n["rate"]), Beta1: float32(n["beta1"]), Beta2: float32(n["beta2"]), Epsilon: epsilon(n, survivors)}
	}, nil},
	{"fedyogi", adaptive, func(n map[string]float64, survivors int) Strategy {
		return FedYogi{Rate: float32(n["rate"]), Beta1: float32(n["beta1"]), Beta2: float32(n["beta2"]), Epsilon: epsilon(n, survivors)}
	}, nil},
	{"fedadagrad", []Number{{"rate", 0.1}, {"beta1", 0}, {"epsilon", 1.3e-3}, {"mu", 0}}, func(n map[string]float64, survivors int) Strategy {
		return FedAdagrad{Rate: float32(n["rate"]), Beta1: float32(n["beta1"]), Epsilon: epsilon(n, survivors)}
	}, nil},
	// What the devices do for these two is in Normalised and Fair.
	{"fednova", []Number{{"rate", 1}}, func(n map[string]float64, _ int) Strategy {
		return FedAvg{Rate: float32(n["rate"])}
	}, nil},
	{"qfedavg", []Number{{"rate", 1}, {"q", 1}, {"lipschitz", 0.01}, {"mu", 0}}, func(n map[string]float64, _ int) Strategy {
		return FedAvg{Rate: float32(n["rate"])}
	}, nil},
	{"median", []Number{{"rate", 1}, {"mu", 0}}, func(n map[string]float64, _ int) Strategy {
		return FedAvg{Rate: float32(n["rate"])}
	}, medianTrim},
	{"trimmed", []Number{{"rate", 1}, {"share", 0.2}, {"mu", 0}}, func(n map[string]float64, _ int) Strategy {
		return FedAvg{Rate: float32(n["rate"])}
	}, shareTrim},
}

func epsilon(n map[string]float64, survivors int) float32 {
	return float32(n["epsilon"] / math.Sqrt(float64(max(survivors, 1))))
}

// ruledOut says why a strategy cannot be had where only sums are seen.
var ruledOut = map[string]string{
	"krum":             "it compares the updates of single clients (Blanchard et al. 2017), which secure aggregation keeps from the coordinator",
	"multi-krum":       "it compares the updates of single clients (Blanchard et al. 2017), which secure aggregation keeps from the coordinator",
	"bulyan":           "it compares the updates of single clients (El Mhamdi et al. 2018), which secure aggregation keeps from the coordinator",
	"geometric-median": "it weighs the updates of single clients by their distances, which secure aggregation keeps from the coordinator",
	"client-median":    "it orders the updates of single clients (Yin et al. 2018), which secure aggregation keeps from the coordinator",
	"scaffold":         "it keeps a control variate for each client (Karimireddy et al. 2020), by which devices of many rounds ago would be told apart",
}

// bounds are what a number may be, whatever its strategy.
var bounds = map[string]struct {
	ok   func(float64) bool
	want string
}{
	"rate":      {func(x float64) bool { return x > 0 && x <= 1000 }, "above 0 and up to 1000"},
	"momentum":  {share, "0 up to but not 1"},
	"beta1":     {share, "0 up to but not 1"},
	"beta2":     {share, "0 up to but not 1"},
	"mu":        {func(x float64) bool { return x >= 0 && x <= 100 }, "0 to 100"},
	"share":     {func(x float64) bool { return x > 0 && x < 0.5 }, "above 0 and below 0.5"},
	"q":         {func(x float64) bool { return x >= 0 && x <= MaxEighths/8 && x*8 == math.Trunc(x*8) }, "0 to 8, in steps of 0.125"},
	"lipschitz": {func(x float64) bool { return x >= 1e-9 && x <= MaxLipschitz }, "1e-9 to 1000"},
	"epsilon":   {func(x float64) bool { return x >= 1e-8 && x <= 1 }, "1e-8 to 1"},
}

// share tells whether x lies in [0, 1), also as a float32.
func share(x float64) bool { return x >= 0 && float32(x) < 1 }

// StrategyNames lists the strategies that can be chosen.
func StrategyNames() []string {
	names := make([]string, len(kinds))
	for i, k := range kinds {
		names[i] = k.name
	}
	return names
}

// ParseChoice reads NAME or NAME:key=value,key=value. The numbers of the choice stand in
// the strategy's own order, so that the same choice is always the same.
func ParseChoice(text string) (Choice, error) {
	name, settings, some := strings.Cut(text, ":")
	c := Choice{Name: name}
	if some {
		for _, setting := range strings.Split(settings, ",") {
			key, value, _ := strings.Cut(setting, "=")
			x, err := strconv.ParseFloat(value, 64)
			if err != nil {
				return Choice{}, fmt.Errorf("strategy %q: setting %q, want key=value with a number", text, setting)
			}
			c.Numbers = append(c.Numbers, Number{key, x})
		}
	}
	k, err := c.kind()
	if err != nil {
		return Choice{}, err
	}
	slices.SortStableFunc(c.Numbers, func(a, b Number) int { return k.place(a.Name) - k.place(b.Name) })
	return c, c.Check()
}

// place is where a number stands among the strategy's own, -1 where it is none of them.
func (k kind) place(name string) int {
	return slices.IndexFunc(k.numbers, func(n Number) bool { return n.Name == name })
}

func (c Choice) kind() (kind, error) {
	name := c.Name
	if name == "" {
		name = DefaultStrategy
	}
	for _, k := range kinds {
		if k.name == name {
			return k, nil
		}
	}
	if why, ok := ruledOut[name]; ok {
		return kind{}, fmt.Errorf("strategy %q cannot be had: %s; choose %s", name, why, strings.Join(StrategyNames(), ", "))
	}
	return kind{}, fmt.Errorf("strategy %q is not known, want %s", name, strings.Join(StrategyNames(), ", "))
}

// Check returns an error, for the operator to read, unless the strategy exists and its
// numbers are its own, each once, and within their bounds.
func (c Choice) Check() error {
	k, err := c.kind()
	if err != nil {
		return err
	}
	last := -1
	for _, n := range c.Numbers {
		place := k.place(n.Name)
		if place < 0 {
			var keys []string
			for _, own := range k.numbers {
				keys = append(keys, own.Name)
			}
			return fmt.Errorf("strategy %s has no setting %q, want %s", k.name, n.Name, strings.Join(keys, ", "))
		}
		if place <= last {
			return fmt.Errorf("strategy %s: %s stands twice or out of order, want each setting once, in the strategy's own order", k.name, n.Name)
		}
		last = place
		if b := bounds[n.Name]; !b.ok(n.Value) {
			return fmt.Errorf("strategy %s: %s is %v, want %s", k.name, n.Name, n.Value, b.want)
		}
	}
	return nil
}

// Filled is the choice with its name and all of its numbers. The choice has passed Check.
func (c Choice) Filled() Choice {
	k, err := c.kind()
	if err != nil {
		panic(err.Error())
	}
	full := Choice{k.name, slices.Clone(k.numbers)}
	for _, n := range c.Numbers {
		full.Numbers[k.place(n.Name)] = n
	}
	return full
}

// Strategy is what is chosen, for a round of so many survivors. The length of its state
// is the same for any. The choice has passed Check.
func (c Choice) Strategy(survivors int) Strategy {
	k, err := c.kind()
	if err != nil {
		panic(err.Error())
	}
	return k.of(c.values(), survivors)
}

// Slowed is the choice with a share, above 0 and up to 1, of its rate where it is one of the adaptive strategies, whose
// steps do not shrink with the means; the others are as they were. The choice has passed Check.
func (c Choice) Slowed(share float64) Choice {
	k, err := c.kind()
	if err != nil {
		panic(err.Error())
	}
	if k.place("epsilon") < 0 {
		return c
	}
	full := c.Filled()
	full.Numbers[k.place("rate")].Value *= share
	return full
}

// values are all numbers of the choice by name.
func (c Choice) values() map[string]float64 {
	numbers := make(map[string]float64)
	for _, n := range c.Filled().Numbers {
		numbers[n.Name] = n.Value
	}
	return numbers
}

// Proximal is μ of the proximal term that holds training on the devices back, μ/2 times
// the squared distance from the checkpoint; 0 where there is none. The choice has passed
// Check.
func (c Choice) Proximal() float32 {
	return float32(c.values()["mu"]) // 0 for a strategy without
}

// String is the choice as ParseChoice reads it, with all of its numbers.
func (c Choice) String() string {
	full := c.Filled()
	settings := make([]string, len(full.Numbers))
	for i, n := range full.Numbers {
		settings[i] = n.Name + "=" + strconv.FormatFloat(n.Value, 'g', -1, 64)
	}
	return full.Name + ":" + strings.Join(settings, ",")
}
