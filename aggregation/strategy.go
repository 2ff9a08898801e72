package aggregation

import (
	"fmt"
	"math"
)

// Strategy is what the server does with the mean update of a round. A strategy sees
// sums only, so secure aggregation hides from it what it hides from everybody; what
// needs a single client's update is none ([ParseChoice] says of each why).
type Strategy interface {
	// State is the length of the strategy's state for so many parameters.
	State(parameters int) int
	// Step moves params in place by one mean update, which is as long. state, of
	// State(len(params)) numbers, is kept by the caller from round to round and all zero
	// at first. An update that is not finite is refused before anything moves.
	Step(params, state, mean []float32) error
}

// checkStep returns an error unless the vectors of a step fit each other and the mean
// is finite.
func checkStep(s Strategy, params, state, mean []float32) error {
	n := len(params)
	if len(state) != s.State(n) || len(mean) != n {
		return fmt.Errorf("aggregation: a step over %d parameters with %d of state and a mean of %d, want a state of %d and a mean of %d",
			n, len(state), len(mean), s.State(n), n)
	}
	for i, u := range mean {
		if u-u != 0 {
			return fmt.Errorf("aggregation: coordinate %d of the mean update is %v: %w", i, u, ErrNotFinite)
		}
	}
	return nil
}

// adapt is the step that the adaptive strategies share, m ← beta1·m + (1−beta1)·Δ and
// w ← w + rate·m/(√v + epsilon), with v's next value from second.
func adapt(params, state, mean []float32, rate, beta1, epsilon float32, second func(v, square float32) float32) {
	n := len(params)
	spread(n, func(lo, hi int) {
		m, v, u, w := state[lo:hi], state[n+lo:n+hi], mean[lo:hi], params[lo:hi]
		for i, x := range u {
			m[i] = float32(beta1*m[i]) + float32((1-beta1)*x)
			v[i] = second(v[i], float32(x*x))
			w[i] += float32(rate*m[i]) / (float32(math.Sqrt(float64(v[i]))) + epsilon)
		}
	})
}
