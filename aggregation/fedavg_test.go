package aggregation

import (
	"errors"
	"math"
	"slices"
	"testing"
)

func TestFedAvgStepsByHand(t *testing.T) {
	for _, tc := range []struct {
		name     string
		strategy FedAvg
		means    [][]float32
		want     []float32
	}{
		{"plain averaging", FedAvg{Rate: 1}, [][]float32{{1, -2}, {0.5, 0}}, []float32{11.5, 18}},
		// v: 1, 1.5, 0.75; w: 10 + 2·(1 + 1.5 + 0.75).
		{"momentum and rate", FedAvg{Rate: 2, Momentum: 0.5}, [][]float32{{1, 0}, {1, 0}, {0, 0}}, []float32{16.5, 20}},
	} {
		params, velocity := []float32{10, 20}, make([]float32, 2)
		for _, mean := range tc.means {
			if err := tc.strategy.Step(params, velocity, mean); err != nil {
				t.Fatal(err)
			}
		}
		if !slices.Equal(params, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, params, tc.want)
		}
	}
}

func TestFedAvgRefusesWithoutMoving(t *testing.T) {
	params, velocity := []float32{1, 2}, []float32{3, 4}
	err := FedAvg{Rate: 1, Momentum: 0.9}.Step(params, velocity, []float32{1, float32(math.Inf(1))})
	if !errors.Is(err, ErrNotFinite) || params[0] != 1 || velocity[0] != 3 {
		t.Errorf("%v with params %v, velocity %v; want ErrNotFinite and nothing moved", err, params, velocity)
	}
	if err := (FedAvg{Rate: 1}).Step(params, velocity, make([]float32, 3)); err == nil {
		t.Error("a mean of another length was taken")
	}
}
