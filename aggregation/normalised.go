package aggregation

import (
	"fmt"
	"math"
)

// Strategies that need more of a device than its update and weight take one more word of
// its vector, a scalar of 0 to MaxScalar behind all other blocks. Of it, too, nobody sees
// more than the sum. A round's mean is then multiplied by what the scalars' sum says.

// Scalar is how a strategy's scalar is to be read.
type Scalar interface {
	// Check returns an error unless the settings lie in their ranges and a codec's weights
	// are what they take.
	Check(c Codec) error
	// Factor is what a mean update is multiplied by, given the sums of the weights and of
	// the scalars.
	Factor(weights int, scalars int64) float64
}

// scale multiplies a mean update.
func scale(mean []float32, factor float64) {
	for i, u := range mean {
		mean[i] = float32(factor * float64(u))
	}
}

// MaxScalar bounds a device's scalar. The sum of as many as there are 16-bit coordinates
// in a ring fits that ring, too.
const MaxScalar = 1<<16 - 1

// Normalised is the device's part in FedNova (Wang et al. 2020, "Tackling the objective
// inconsistency problem in heterogeneous federated optimization", equations 6 and 7):
// devices that take more steps do not pull the model more. Device i sends its update
// divided by the norm ‖aᵢ‖₁ of what its steps' gradients were multiplied by, and, as its
// scalar, pᵢ·‖aᵢ‖₁ with pᵢ its weight; the model moves by
//
//	Δ = (Σ pᵢ‖aᵢ‖₁ / Σ pᵢ) · (Σ pᵢ·Δᵢ/‖aᵢ‖₁ / Σ pᵢ).
//
// So that the codec's resolution is not lost the update is sent times Scale.
type Normalised struct {
	Scale float32 // above 0, up to MaxScale
}

// MaxScale bounds Scale, and mostNorm a norm: the largest weight that FedNova's codec
// takes, MostNormWeight, times it is a scalar.
const (
	MaxScale       = 1e6
	MostNormWeight = 32
	mostNorm       = MaxScalar / MostNormWeight
)

// Check is Scalar's.
func (n Normalised) Check(c Codec) error {
	if c.MaxWeight > MostNormWeight {
		return fmt.Errorf("aggregation: normalised updates of weight %d, want at most %d", c.MaxWeight, MostNormWeight)
	}
	if !(n.Scale > 0 && n.Scale <= MaxScale) {
		return fmt.Errorf("aggregation: normalised updates times %v, want above 0 and up to %v", n.Scale, MaxScale)
	}
	return nil
}

// Norm is ‖a‖₁ of a device that goes through so many examples in batches whose gradients
// are added up, epochs times, at a rate that falls linearly to zero over all steps: each
// step counts its examples times the share of the rate that is left. It is at least 1.
func Norm(examples, epochs, batch int) float64 {
	perEpoch := (examples + batch - 1) / batch
	steps := epochs * perEpoch
	var a int64
	for k := range steps {
		seen := batch
		if k%perEpoch == perEpoch-1 {
			seen = examples - (perEpoch-1)*batch
		}
		a += int64(seen) * int64(steps-k)
	}
	return max(float64(a)/float64(max(steps, 1)), 1)
}

// Divide turns an update into what a device sends, in place, and returns its scalar. A
// norm above MaxScalar/MostNormWeight counts like that one.
func (n Normalised) Divide(update []float32, norm float64, weight int) (scalar uint32) {
	norm = min(norm, mostNorm)
	factor := float32(float64(n.Scale) / norm)
	for i, u := range update {
		update[i] = float32(factor * u)
	}
	return uint32(min(math.Round(float64(weight)*norm), MaxScalar))
}

// Factor is Scalar's: the mean is of the updates as they were sent.
func (n Normalised) Factor(weights int, scalars int64) float64 {
	if weights == 0 {
		return 0
	}
	return float64(scalars) / float64(weights) / float64(n.Scale)
}

// Fair is the device's part in q-FedAvg (Li et al. 2020, "Fair resource allocation in
// federated learning", algorithm 2), which minimises Σ F_k^(q+1)/(q+1): devices for which
// the model is bad count for more. With F_k the device's mean loss before training, Δ_k
// its update and L what gradients change by at most,
//
//	w ← w + Σ F_k^q·Δ_k / Σ (F_k^q + q·F_k^(q−1)·L·‖Δ_k‖²),
//
// which is the paper's step with numerator and denominator divided by L. F_k^q takes the
// place of the weight and the second term of h_k, divided by L, is the scalar. Losses are
// told in parts of Reference, and counted as Reference where they are above it.
type Fair struct {
	Eighths   int     // q in eighths, so that powers are square roots and products, of the same bits everywhere; 0 to MaxEighths
	Lipschitz float32 // L, above 0, up to MaxLipschitz
	Reference float32 // the loss of a model that knows nothing, above 0, up to MaxReference
}

const (
	MaxEighths   = 64
	MaxLipschitz = 1000
	MaxReference = 100
	// FairWeight is the largest weight of q-FedAvg's codec, that of a loss of Reference.
	FairWeight = 1<<16 - 1
	// fairUnit is the scalar of one: MaxScalar stands for 64.
	fairUnit = 1024
)

// Check is Scalar's.
func (f Fair) Check(c Codec) error {
	switch {
	case c.MaxWeight != FairWeight:
		return fmt.Errorf("aggregation: updates weighted by losses up to %d, want %d", c.MaxWeight, FairWeight)
	case f.Eighths < 0 || f.Eighths > MaxEighths:
		return fmt.Errorf("aggregation: q is %d eighths, want 0 to %d", f.Eighths, MaxEighths)
	case !(f.Lipschitz > 0 && f.Lipschitz <= MaxLipschitz):
		return fmt.Errorf("aggregation: a Lipschitz constant of %v, want above 0 and up to %d", f.Lipschitz, MaxLipschitz)
	case !(f.Reference > 0 && f.Reference <= MaxReference):
		return fmt.Errorf("aggregation: a reference loss of %v, want above 0 and up to %d", f.Reference, MaxReference)
	}
	return nil
}

// Weigh returns the weight of a device's update, 1 to FairWeight, and its scalar. A loss
// that is no number counts as Reference.
func (f Fair) Weigh(loss float32, update []float32) (weight int, scalar uint32) {
	share := 1.0
	if loss < f.Reference {
		share = max(float64(loss)/float64(f.Reference), 1e-6)
	}
	var square float64
	for _, u := range update {
		square += float64(float64(u) * float64(u))
	}
	weight = int(max(math.Round(FairWeight*power(share, f.Eighths)), 1))
	q := float64(f.Eighths) / 8
	second := float64(float64(q*power(share, f.Eighths-8)) * float64(float64(float64(f.Lipschitz)*square)/float64(f.Reference)))
	return weight, uint32(min(math.Round(fairUnit*second), MaxScalar))
}

// power is x to so many eighths, by square roots and products in a fixed order.
func power(x float64, eighths int) float64 {
	root, p := math.Sqrt(math.Sqrt(math.Sqrt(x))), 1.0
	for range max(eighths, -eighths) {
		p = float64(p * root)
	}
	if eighths < 0 {
		return 1 / p
	}
	return p
}

// Factor is Scalar's: the mean is that of the updates, weighted by F_k^q.
func (f Fair) Factor(weights int, scalars int64) float64 {
	if weights == 0 {
		return 0
	}
	a := float64(weights) / FairWeight
	return a / (a + float64(scalars)/fairUnit)
}

// FairOf is a choice's part of q-FedAvg for a model of so many labels, false for another
// strategy. The reference is the loss of a model that finds all labels alike. The choice
// has passed Check.
func (c Choice) FairOf(labels int) (Fair, bool) {
	if c.Filled().Name != "qfedavg" {
		return Fair{}, false
	}
	n := c.values()
	return Fair{Eighths: int(math.Round(8 * n["q"])), Lipschitz: float32(n["lipschitz"]), Reference: float32(math.Log(float64(max(labels, 2))))}, true
}

// NormalisedOf is a choice's part of FedNova for devices that train so, false for another
// strategy: a device of MostNormWeight examples sends its update as it is. The choice has
// passed Check.
func (c Choice) NormalisedOf(epochs, batch int) (Normalised, bool) {
	return Normalised{Scale: float32(Norm(MostNormWeight, epochs, batch))}, c.Filled().Name == "fednova"
}

// ByRound tells whether a strategy's step is one fraction over all devices of a round, so
// that sums of several rounds do not add up to one. The choice has passed Check.
func (c Choice) ByRound() bool {
	name := c.Filled().Name
	return name == "fednova" || name == "qfedavg" || c.Apart()
}
