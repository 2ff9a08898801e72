package aggregation

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

// State is two numbers a parameter: m, then v.
func (f FedAdam) State(parameters int) int { return 2 * parameters }

// Step is Strategy's.
func (f FedAdam) Step(params, state, mean []float32) error {
	if err := checkStep(f, params, state, mean); err != nil {
		return err
	}
	adapt(params, state, mean, f.Rate, f.Beta1, f.Epsilon, func(v, square float32) float32 {
		return float32(f.Beta2*v) + float32((1-f.Beta2)*square)
	})
	return nil
}

// FedYogi is FedAdam with a second moment that follows Δ² by steps of its size:
//
//	m ← Beta1·m + (1−Beta1)·Δ
//	v ← v − (1−Beta2)·Δ²·sign(v − Δ²)
//	w ← w + Rate·m/(√v + Epsilon)
//
// (Reddi et al. 2021, algorithm 2). After a large update v falls slowly, so the steps
// stay small for longer.
type FedYogi FedAdam

// State is two numbers a parameter: m, then v.
func (f FedYogi) State(parameters int) int { return 2 * parameters }

// Step is Strategy's.
func (f FedYogi) Step(params, state, mean []float32) error {
	if err := checkStep(f, params, state, mean); err != nil {
		return err
	}
	adapt(params, state, mean, f.Rate, f.Beta1, f.Epsilon, func(v, square float32) float32 {
		by := float32((1 - f.Beta2) * square)
		switch {
		case v > square:
			return v - by
		case v < square:
			return v + by
		}
		return v
	})
	return nil
}

// FedAdagrad is Adagrad at the server:
//
//	m ← Beta1·m + (1−Beta1)·Δ
//	v ← v + Δ²
//	w ← w + Rate·m/(√v + Epsilon)
//
// (Reddi et al. 2021, algorithm 2, where Beta1 is 0 in the experiments). v only grows:
// the steps of a coordinate fall with the root of the rounds that moved it.
type FedAdagrad struct {
	Rate    float32 // the server's learning rate, η
	Beta1   float32 // 0 to below 1
	Epsilon float32 // ε, above 0
}

// State is two numbers a parameter: m, then v.
func (f FedAdagrad) State(parameters int) int { return 2 * parameters }

// Step is Strategy's.
func (f FedAdagrad) Step(params, state, mean []float32) error {
	if err := checkStep(f, params, state, mean); err != nil {
		return err
	}
	adapt(params, state, mean, f.Rate, f.Beta1, f.Epsilon, func(v, square float32) float32 { return v + square })
	return nil
}
