package aggregation

import (
	"math"
	"testing"
)

// TestPlattFindsWhatMadeTheCounts counts what a known slope and offset expect of each bin.
func TestPlattFindsWhatMadeTheCounts(t *testing.T) {
	h := Histogram{-5, 5}
	for _, want := range [][2]float64{{1, 0}, {1.15, 1.14}, {0.5, -1}, {2, 2}} {
		margins, right := make([]int64, 20), make([]int64, 20)
		for i := range margins {
			margins[i] = 1_000_000
			right[i] = int64(1e6 / (1 + math.Exp(-want[0]*h.Centre(i, 20)-want[1])))
		}
		slope, offset, ok := FitPlatt(h, margins, right)
		if !ok || math.Abs(slope-want[0]) > 1e-4 || math.Abs(offset-want[1]) > 1e-4 {
			t.Errorf("%v and %v are fitted as %v and %v, %v", want[0], want[1], slope, offset, ok)
		}
	}
	for name, counts := range map[string][2][]int64{
		"nothing counted":   {{0, 0}, {0, 0}},
		"all right":         {{5, 5}, {5, 5}},
		"all wrong":         {{5, 5}, {0, 0}},
		"larger, and worse": {{50, 50}, {40, 10}},
	} {
		if slope, offset, ok := FitPlatt(h, counts[0], counts[1]); ok {
			t.Errorf("%s: fitted as %v and %v", name, slope, offset)
		}
	}
	// Two bins that the margin parts have no greatest likelihood but for Platt's targets.
	if slope, offset, ok := FitPlatt(h, []int64{5, 5}, []int64{0, 5}); !ok || slope > 3 || math.Abs(offset) > 1e-9 {
		t.Errorf("parted bins are fitted as %v and %v, %v", slope, offset, ok)
	}
}

func TestQuantilesByHand(t *testing.T) {
	h, counts := Histogram{0, 8}, []int64{0, 4, 0, 6}
	for share, want := range map[float64]float64{0: 2, 0.2: 3, 0.4: 4, 0.7: 7, 1: 8} {
		if got := Quantile(h, counts, share); math.Abs(got-want) > 1e-12 {
			t.Errorf("%v of them are below %v, want %v", share, got, want)
		}
	}
	if got := Quantile(h, []int64{0, 0}, 0.5); got != 0 {
		t.Errorf("half of nothing is below %v", got)
	}
}
