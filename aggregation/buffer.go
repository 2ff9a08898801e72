package aggregation

import (
	"fmt"
	"math"
)

// Buffer gathers the sums of cohorts that began at different checkpoints, for one step of
// the strategy: FedBuff (Nguyen et al. 2022, "Federated learning with buffered asynchronous
// aggregation", algorithm 1), adapted to secure aggregation. There the buffer holds the
// updates Δᵢ of K devices, and the server moves by (1/K)·Σ s(τᵢ)·Δᵢ. Here it holds the
// weighted means Δ_c of K cohorts, of weights W_c, and the mean update is
//
//	Δ = Σ_c s(τ_c)·W_c·Δ_c / Σ_c W_c,   s(τ) = 1/√(1+τ)   (Staleness)
//
// where τ_c is how many checkpoints came after the one that the cohort trained. As in the
// paper what is stale makes the step smaller: s is not in the denominator.
type Buffer struct {
	sum    []float64
	weight float64
}

// Staleness is s(τ), the weight of an update that is so many checkpoints late (Nguyen et
// al. 2022, section 5 and appendix D, of Xie et al. 2019's polynomial kind with exponent ½).
func Staleness(late int) float64 { return 1 / math.Sqrt(1+float64(late)) }

// NewBuffer returns an empty buffer for updates of so many parameters.
func NewBuffer(parameters int) *Buffer { return &Buffer{sum: make([]float64, parameters)} }

// Add takes a cohort's mean update and its weight, so many checkpoints late. It panics
// where the update has not the buffer's length or late is negative.
func (b *Buffer) Add(mean []float32, weight, late int) {
	if len(mean) != len(b.sum) || late < 0 {
		panic(fmt.Sprintf("aggregation: a mean of %d parameters that is %d late for a buffer of %d", len(mean), late, len(b.sum)))
	}
	factor := Staleness(late) * float64(weight)
	for i, u := range mean {
		b.sum[i] += float64(factor * float64(u))
	}
	b.weight += float64(weight)
}

// Mean writes the mean update to mean, zero where nobody had data.
func (b *Buffer) Mean(mean []float32) {
	if b.weight == 0 {
		clear(mean)
		return
	}
	for i, s := range b.sum {
		mean[i] = float32(s / b.weight)
	}
}
