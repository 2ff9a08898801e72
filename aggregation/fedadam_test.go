package aggregation

import (
	"errors"
	"math"
	"slices"
	"testing"
)

// Each step by hand, from zero, with β1 = 1/2, β2 = 3/4, ε = 1 and η = 2.
func TestFedAdamStepsByHand(t *testing.T) {
	f := FedAdam{Rate: 2, Beta1: 0.5, Beta2: 0.75, Epsilon: 1}
	params, state := []float32{10, 20, 30}, make([]float32, f.State(3))
	for i, step := range []struct{ mean, params, state []float32 }{
		// m: 2, −1, 0. v: 4, 1, 0. The step is 2·m/(√v + 1).
		{[]float32{4, -2, 0}, []float32{10 + 4.0/3, 20 - 1, 30}, []float32{2, -1, 0, 4, 1, 0}},
		// m: 1, −1/2, 8. v: 3, 3/4, 64.
		{[]float32{0, 0, 16}, []float32{10 + 4.0/3 + 2/(1+float32(math.Sqrt(3))), 19 - 1/(1+float32(math.Sqrt(0.75))), 30 + 16.0/9},
			[]float32{1, -0.5, 8, 3, 0.75, 64}},
	} {
		if err := f.Step(params, state, step.mean); err != nil {
			t.Fatal(err)
		}
		for j, p := range params {
			if math.Abs(float64(p-step.params[j])) > 1e-5 {
				t.Errorf("step %d: parameter %d is %v, want %v", i+1, j, p, step.params[j])
			}
		}
		if !slices.Equal(state, step.state) {
			t.Errorf("step %d: state %v, want %v", i+1, state, step.state)
		}
	}
}

// A long vector, which several cores step, moves as its parts do.
func TestFedAdamStepsPartsAlike(t *testing.T) {
	f := FedAdam{Rate: 0.03, Beta1: 0.7, Beta2: 0.99, Epsilon: 3e-4}
	const n = 1 << 19
	params, state, mean := make([]float32, n), make([]float32, f.State(n)), make([]float32, n)
	for i := range mean {
		mean[i] = float32(i%7) / 3
	}
	for range 2 {
		if err := f.Step(params, state, mean); err != nil {
			t.Fatal(err)
		}
	}
	few, own := make([]float32, 7), make([]float32, 14)
	for range 2 {
		if err := f.Step(few, own, mean[:7]); err != nil {
			t.Fatal(err)
		}
	}
	for i, p := range params {
		if p != few[i%7] || state[i] != own[i%7] || state[n+i] != own[7+i%7] {
			t.Fatalf("parameter %d is %v with m %v and v %v, want %v with %v and %v", i, p, state[i], state[n+i], few[i%7], own[i%7], own[7+i%7])
		}
	}
}

func TestFedAdamRefusesWithoutMoving(t *testing.T) {
	f := FedAdam{Rate: 1, Beta1: 0.9, Beta2: 0.99, Epsilon: 1e-3}
	params, state := []float32{1, 2}, []float32{3, 4, 5, 6}
	err := f.Step(params, state, []float32{1, float32(math.NaN())})
	if !errors.Is(err, ErrNotFinite) || params[0] != 1 || !slices.Equal(state, []float32{3, 4, 5, 6}) {
		t.Errorf("%v with params %v, state %v; want ErrNotFinite and nothing moved", err, params, state)
	}
	if f.Step(params, state, make([]float32, 3)) == nil || f.Step(params, state[:2], make([]float32, 2)) == nil {
		t.Error("a mean or a state of another length was taken")
	}
}
