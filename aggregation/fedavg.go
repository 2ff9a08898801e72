package aggregation

// FedAvg is federated averaging, w ← w + Rate·Δ, where Δ is the mean client update
// weighted by examples (McMahan et al. 2017, "Communication-efficient learning of deep
// networks from decentralized data", algorithm 1, where Rate is 1).
type FedAvg struct {
	Rate float32 // the server's learning rate, η
}

// State is 0: nothing is kept.
func (f FedAvg) State(int) int { return 0 }

// Step is Strategy's.
func (f FedAvg) Step(params, state, mean []float32) error {
	if err := checkStep(f, params, state, mean); err != nil {
		return err
	}
	for i, u := range mean {
		params[i] += float32(f.Rate * u)
	}
	return nil
}

// FedAvgM is federated averaging with server momentum: v ← Momentum·v + Δ and
// w ← w + Rate·v (Hsu, Qi and Brown 2019, "Measuring the effects of non-identical data
// distribution for federated visual classification", section 4.3).
type FedAvgM struct {
	Rate     float32 // the server's learning rate, η
	Momentum float32 // β, 0 to below 1
}

// State is one number a parameter: v.
func (f FedAvgM) State(parameters int) int { return parameters }

// Step is Strategy's.
func (f FedAvgM) Step(params, state, mean []float32) error {
	if err := checkStep(f, params, state, mean); err != nil {
		return err
	}
	for i, u := range mean {
		state[i] = float32(f.Momentum*state[i]) + u
		params[i] += float32(f.Rate * state[i])
	}
	return nil
}
