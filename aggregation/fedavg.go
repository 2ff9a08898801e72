package aggregation

import "fmt"

// FedAvg is federated averaging with server momentum: v ← Momentum·v + Δ and
// w ← w + Rate·v, where Δ is the mean client update (McMahan et al. 2017, "Communication-
// efficient learning of deep networks from decentralized data"; the momentum is
// FedAvgM of Hsu, Qi and Brown 2019, "Measuring the effects of non-identical data
// distribution for federated visual classification"). Momentum 0 and Rate 1 are
// plain FedAvg.
type FedAvg struct {
	Rate     float32 // the server's learning rate, η
	Momentum float32 // β, 0 to below 1
}

// Step moves params in place by one mean update. velocity is the strategy's state,
// kept by the caller from round to round and all zero at first. The three vectors
// have one length. An update that is not finite is refused before anything moves.
func (f FedAvg) Step(params, velocity, mean []float32) error {
	if len(params) != len(velocity) || len(params) != len(mean) {
		return fmt.Errorf("aggregation: a step over %d parameters with %d of velocity and a mean of %d, want one length",
			len(params), len(velocity), len(mean))
	}
	for i, u := range mean {
		if u-u != 0 {
			return fmt.Errorf("aggregation: coordinate %d of the mean update is %v: %w", i, u, ErrNotFinite)
		}
	}
	for i, u := range mean {
		velocity[i] = float32(f.Momentum*velocity[i]) + u
		params[i] += float32(f.Rate * velocity[i])
	}
	return nil
}
