package audit

import (
	"math"
	"math/rand/v2"
	"testing"
)

// TestAtLeast compares with published ends of two-sided 97.5% intervals, which have 1.25%
// on either side, where they have a closed form: none and all of the trials.
func TestAtLeast(t *testing.T) {
	for _, n := range []int{1, 30, 1000} {
		if got, want := atLeast(n, n), math.Pow(0.0125, 1/float64(n)); math.Abs(got-want) > 1e-9 || atLeast(0, n) != 0 {
			t.Errorf("all of %d: at least %v, want %v; none: %v", n, got, want, atLeast(0, n))
		}
	}
	if got := atLeast(7, 20); tail(7, 20, got) > 0.0125 || tail(7, 20, got+1e-6) < 0.0125 {
		t.Errorf("7 of 20: at least %v, where as many have a chance of %v", got, tail(7, 20, got))
	}
}

// TestEpsilonOfRandomisedResponse attacks a bit that is told rightly with probability
// e^ε/(1+e^ε), whose ε is exact: the bound is below it, and near it.
func TestEpsilonOfRandomisedResponse(t *testing.T) {
	const seed, epsilon, trials = 3, 1.5, 20_000
	random := rand.New(rand.NewPCG(seed, 5))
	right := math.Exp(epsilon) / (1 + math.Exp(epsilon))
	scores := func(in float64) []float64 {
		s := make([]float64, trials)
		for i := range s {
			if s[i] = in; random.Float64() >= right {
				s[i] = 1 - in
			}
		}
		return s
	}
	if got := Epsilon(scores(1), scores(0), 0); got > epsilon || got < epsilon-0.15 {
		t.Errorf("seed %d: ε is %v at least, want little below %v", seed, got, epsilon)
	}
	if got := Epsilon(scores(1), scores(1), 0); got > 0.05 {
		t.Errorf("seed %d: of what tells nothing ε is %v at least", seed, got)
	}
}
