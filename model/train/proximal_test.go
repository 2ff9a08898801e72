package train

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/discreet-fl/discreet/model"
)

// One step from w₀ goes 1/(1 + r·μ) of the way that it goes without the term.
func TestProximalStepByHand(t *testing.T) {
	s := model.Training{Epochs: 1, Batch: 1, LearningRate: 0.5}
	ex := synthetic(1, 10, odd.Labels, 3)
	from := odd.Init(7)
	free, _ := trained(t, New, odd, ex, s, 5)
	s.Proximal = 6
	held, _ := trained(t, New, odd, ex, s, 5)
	moved := 0
	for i, w := range from {
		if got, want := held[i]-w, (free[i]-w)/4; math.Abs(float64(got-want)) > 1e-6 {
			t.Fatalf("parameter %d has moved by %v, want %v", i, got, want)
		}
		if held[i] != w {
			moved++
		}
	}
	if moved == 0 {
		t.Error("nothing has moved")
	}
}

// Pulls that were put off come to what pulling every parameter in every step comes to,
// with every engine to the same bit.
func TestProximalRowsArePulledInTheEnd(t *testing.T) {
	s := usual
	s.Proximal = 0.3
	ex := synthetic(50, 20, odd.Labels, 3)
	trainer, err := NewPlain(odd, s.Batch)
	if err != nil {
		t.Fatal(err)
	}
	defer trainer.Close()
	want := odd.Init(7)
	origin := slices.Clone(want)
	if err := trainer.engine.bind(want); err != nil {
		t.Fatal(err)
	}
	random, order := rand.NewPCG(5, 0x747261696e), make([]int, len(ex))
	for i := range order {
		order[i] = i
	}
	step, steps := 0, s.Epochs*((len(ex)+s.Batch-1)/s.Batch)
	for range s.Epochs {
		shuffle(order, random)
		for part := range slices.Chunk(order, s.Batch) {
			trainer.batch.fill(ex, part, s, random)
			rate := float32(s.LearningRate*float32(steps-step)) / float32(steps)
			if _, err := trainer.engine.step(rate); err != nil {
				t.Fatal(err)
			}
			toward(want, origin, 1/(1+float32(rate*s.Proximal)))
			step++
		}
	}
	free, _ := trained(t, New, odd, ex, usual, 5)
	var bits string
	for _, e := range engines {
		got, _ := trained(t, e.make, odd, ex, s, 5)
		for i, w := range want {
			if math.Abs(float64(got[i]-w)) > 1e-5 {
				t.Fatalf("%s: parameter %d is %v, want %v", e.name, i, got[i], w)
			}
		}
		if bits == "" {
			bits = digest(got)
		}
		if digest(got) != bits {
			t.Errorf("%s: digest %s, want %s", e.name, digest(got), bits)
		}
		if far, near := distance(free, origin), distance(got, origin); near >= far {
			t.Errorf("%s: training went %v far, and %v without the term", e.name, near, far)
		}
	}
}

func distance(x, y []float32) float64 {
	var sum float64
	for i := range x {
		sum += math.Pow(float64(x[i]-y[i]), 2)
	}
	return math.Sqrt(sum)
}
