package aggregation

import (
	"errors"
	"math"
	"slices"
	"testing"
)

// Each step by hand, over two parameters that begin at 10 and 20.
func TestStrategiesStepByHand(t *testing.T) {
	for _, tc := range []struct {
		name          string
		strategy      Strategy
		means         [][]float32
		params, state []float32
	}{
		{"FedAvg", FedAvg{Rate: 1}, [][]float32{{1, -2}, {0.5, 0}}, []float32{11.5, 18}, nil},
		// v: 1, 1.5, 0.75; w: 10 + 2·(1 + 1.5 + 0.75).
		{"FedAvgM", FedAvgM{Rate: 2, Momentum: 0.5}, [][]float32{{1, 0}, {1, 0}, {0, 0}}, []float32{16.5, 20}, []float32{0.75, 0}},
		// m: 2, 1. v: 0 + 16/4 = 4, then 4 − 4/4 = 3 since Δ² = 4 is not below v: it stays 4.
		{"FedYogi", FedYogi{Rate: 3, Beta1: 0.5, Beta2: 0.75, Epsilon: 1}, [][]float32{{4, 0}, {2, 0}},
			[]float32{10 + 3*2.0/3 + 3*2.0/3, 20}, []float32{2, 0, 4, 0}},
		// v: 4, then 4 − 1/4 since Δ² = 1 < v, then 3.75 + 16/4 since Δ² = 16 > v; m is Δ.
		{"FedYogi up and down", FedYogi{Rate: 1, Beta2: 0.75, Epsilon: 1}, [][]float32{{4, 0}, {1, 0}, {4, 0}},
			[]float32{10 + 4.0/3 + 1/(1+float32(math.Sqrt(3.75))) + 4/(1+float32(math.Sqrt(7.75))), 20}, []float32{4, 0, 7.75, 0}},
		// v: 9, 25; m: 3, 4. w: 10 + 2·3/(3 + 1) + 2·4/(5 + 1).
		{"FedAdagrad", FedAdagrad{Rate: 2, Epsilon: 1}, [][]float32{{3, 0}, {4, 0}}, []float32{10 + 1.5 + 8.0/6, 20}, []float32{4, 0, 25, 0}},
		// m: 2, 1 + 1 = 2. v: 16, 20.
		{"FedAdagrad with momentum", FedAdagrad{Rate: 1, Beta1: 0.5, Epsilon: 1}, [][]float32{{4, 0}, {2, 0}},
			[]float32{10 + 2.0/5 + 2/(1+float32(math.Sqrt(20))), 20}, []float32{2, 0, 20, 0}},
	} {
		params, state := []float32{10, 20}, make([]float32, tc.strategy.State(2))
		for _, mean := range tc.means {
			if err := tc.strategy.Step(params, state, mean); err != nil {
				t.Fatal(err)
			}
		}
		for i, p := range params {
			if math.Abs(float64(p-tc.params[i])) > 1e-5 {
				t.Errorf("%s: %v, want %v", tc.name, params, tc.params)
			}
		}
		if !slices.Equal(state, tc.state) {
			t.Errorf("%s: state %v, want %v", tc.name, state, tc.state)
		}
	}
}

func TestStrategiesRefuseWithoutMoving(t *testing.T) {
	for _, name := range StrategyNames() {
		s := Choice{Name: name}.Strategy(10)
		params, state := []float32{1, 2}, make([]float32, s.State(2))
		err := s.Step(params, state, []float32{1, float32(math.Inf(1))})
		if !errors.Is(err, ErrNotFinite) || params[0] != 1 || slices.ContainsFunc(state, func(x float32) bool { return x != 0 }) {
			t.Errorf("%s: %v with params %v, state %v; want ErrNotFinite and nothing moved", name, err, params, state)
		}
		if s.Step(params, state, make([]float32, 3)) == nil || s.Step(params, append(state, 0), make([]float32, 2)) == nil {
			t.Errorf("%s: a mean or a state of another length was taken", name)
		}
	}
}
