package aggregation

import (
	"fmt"
	"math"
)

// FedAdam is Adam at the server, with the mean client update as its gradient:
//
//	m ← Beta1·m + (1−Beta1)·Δ
//	v ← Beta2·v + (1−Beta2)·Δ²
//	w ← w + Rate·m/(√v + Epsilon)
//
// (Reddi et al. 2021, "Adaptive federated optimization", algorithm 2). As there, m and v
// are not corrected for their start at zero. A coordinate that few devices of a cohort
// have something to say about has a small mean and is moved about as far as one that all
// speak of, so one rate serves cohorts of any size; Epsilon is the mean below which it is
// not.
type FedAdam struct {
	Rate    float32 // the server's learning rate, η
	Beta1   float32 // 0 to below 1
	Beta2   float32 // 0 to below 1
	Epsilon float32 // ε, above 0
}

// State returns the length of the strategy's state for so many parameters: m, then v.
func (f FedAdam) State(parameters int) int { return 2 * parameters }

// Step moves params in place by one mean update, which is as long. state, of State(len(params))
// numbers, is kept by the caller from round to round and all zero at first. An update that
// is not finite is refused before anything moves.
func (f FedAdam) Step(params, state, mean []float32) error {
	n := len(params)
	if len(state) != f.State(n) || len(mean) != n {
		return fmt.Errorf("aggregation: a step over %d parameters with %d of state and a mean of %d, want a state of %d and a mean of %d",
			n, len(state), len(mean), f.State(n), n)
	}
	for i, u := range mean {
		if u-u != 0 {
			return fmt.Errorf("aggregation: coordinate %d of the mean update is %v: %w", i, u, ErrNotFinite)
		}
	}
	spread(n, func(lo, hi int) {
		m, v, u, w := state[lo:hi], state[n+lo:n+hi], mean[lo:hi], params[lo:hi]
		for i, x := range u {
			m[i] = float32(f.Beta1*m[i]) + float32((1-f.Beta1)*x)
			v[i] = float32(f.Beta2*v[i]) + float32((1-f.Beta2)*float32(x*x))
			w[i] += float32(f.Rate*m[i]) / (float32(math.Sqrt(float64(v[i]))) + f.Epsilon)
		}
	})
	return nil
}
