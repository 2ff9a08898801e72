package noise

import (
	"fmt"
	"math"
	"math/rand/v2"
)

// The largest σ of a Wide sampler, and what it is put together from: tables of a σ of up
// to about wideStep, each one wideOver times as wide as the step to the next.
const (
	MaxWideSigma = 1 << 40
	wideStep     = 1024
	wideOver     = 6
)

// Wide draws from discrete Gaussian distributions of a σ far beyond that of one table:
// X₁ + m·X₂, with X₁ of σ₁ and X₂ of σ₂ and a whole number m, has the distribution of
// σ² = σ₁² + m²σ₂² (Micciancio, Walter 2017, "Gaussian sampling over the integers", Section
// 4). For the probability of x is exp(−x²/2σ²) times a sum, over all whole k, of
// exp(−(k−cx)²/2s²), with 1/s² = 1/σ₂² + m²/σ₁²; and at s of 5.9 that sum is the same for
// every cx to a part in 10^290, by Poisson's summation formula. X₁ may be wide itself. It
// holds no secret and is safe for concurrent use.
type Wide struct {
	parts []part
}

// part is drawn and multiplied.
type part struct {
	sampler  *Sampler
	multiple int64
}

// NewWide makes the sampler of σ, MinSigma to MaxWideSigma, in some hundredths of a second.
func NewWide(sigma float64) (*Wide, error) {
	if !(sigma >= MinSigma && sigma <= MaxWideSigma) {
		return nil, fmt.Errorf("noise: a discrete Gaussian with σ %v, want %d to %.4g", sigma, MinSigma, float64(MaxWideSigma))
	}
	w := new(Wide)
	for sigma > 2*wideStep {
		m := math.Ceil(sigma / wideStep)
		// What is left for X₁ has a σ of 6m, so that s is above 5.9.
		over := math.Sqrt((sigma/m - wideOver) * (sigma/m + wideOver))
		s, err := New(over)
		if err != nil {
			return nil, err
		}
		w.parts = append(w.parts, part{s, int64(m)})
		sigma = wideOver * m
	}
	s, err := New(sigma)
	if err != nil {
		return nil, err
	}
	w.parts = append(w.parts, part{s, 1})
	return w, nil
}

// Draw writes a draw to each number. The draws come from ChaCha8(seed), sixteen bytes for
// each part of each number, and are the same on every platform; a seed serves one vector.
// The state of the generator is wiped, the seed is the caller's to wipe.
func (w *Wide) Draw(into []int64, seed [32]byte) {
	source := rand.NewChaCha8(seed)
	defer source.Seed([32]byte{})
	for i := range into {
		x := int64(0)
		for _, p := range w.parts {
			x += p.multiple * int64(p.sampler.draw(source.Uint64(), source.Uint64()))
		}
		into[i] = x
	}
}
