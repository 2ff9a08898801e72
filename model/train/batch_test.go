package train

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/discreet-fl/discreet/model"
)

func TestFillPadsAndScales(t *testing.T) {
	ex := []model.Example{{Features: model.Features{1, 2, 2, 9}, Label: 4}, {Label: 1, Not: true, Weight: 0.25}, {Features: model.Features{7}, Label: 2}}
	b := newBatch(4, 2)
	b.fill(ex, []int{2, 0}, model.Training{}, nil) // fuller than the next one
	b.fill(ex, []int{2, 1, 0}, model.Training{LabelSmoothing: 0.2}, nil)
	for i, want := range [][]uint32{{7}, {}, {1, 2, 2, 9}, {}} {
		if !slices.Equal(b.of(i), want) {
			t.Errorf("example %d has features %v, want %v", i, b.of(i), want)
		}
	}
	if !slices.Equal(b.scale, []float32{1, 0, 0.5, 0}) || !slices.Equal(b.weight, []float32{1, 0.25, 1, 0}) ||
		!slices.Equal(b.label, []int32{2, ^1, 4, 0}) || b.smoothing != 0.2 {
		t.Errorf("batch is %+v", b)
	}
}

func TestDropoutKeepsTheShareAndAtLeastOne(t *testing.T) {
	random := rand.NewPCG(1, 1)
	features := make(model.Features, 103)
	for i := range features {
		features[i] = uint32(i)
	}
	for _, dropout := range []float32{0, 0.1, 0.5, 0.9} {
		var kept int
		seen := make([]int, len(features))
		const rounds = 2000
		for range rounds {
			got := appendKept([]uint32{1 << 20}, features, dropout, random)[1:]
			if !slices.IsSorted(got) || len(got) == 0 {
				t.Fatalf("dropout %v keeps %v, want some features in their order", dropout, got)
			}
			kept += len(got)
			for _, f := range got {
				seen[f]++
			}
		}
		mean := float64(kept) / float64(rounds*len(features))
		if math.Abs(mean-float64(1-dropout)) > 0.005 {
			t.Errorf("dropout %v keeps %v", dropout, mean)
		}
		for f, n := range seen {
			if math.Abs(float64(n)/rounds-float64(1-dropout)) > 0.06 {
				t.Errorf("dropout %v keeps feature %d in %d of %d draws", dropout, f, n, rounds)
			}
		}
	}
	seen := map[uint32]bool{}
	for range 200 {
		got := appendKept(nil, model.Features{5, 6, 7}, 0.999, random)
		if len(got) == 0 {
			t.Fatal("nothing is kept")
		}
		seen[got[0]] = true
	}
	if len(seen) != 3 {
		t.Errorf("the one that is kept is always among %v", seen)
	}
	if got := appendKept(nil, nil, 0.5, random); len(got) != 0 {
		t.Errorf("no features become %v", got)
	}
}

func TestHiddenDropoutLeavesOutTheShareAndKeepsTheMean(t *testing.T) {
	random := rand.NewPCG(1, 1)
	for _, dropout := range []float32{0.1, 0.5, 0.9} {
		var out, sum float64
		const n = 200_003
		for _, x := range appendUnits(nil, n, dropout, random) {
			sum += float64(x)
			if x == 0 {
				out++
			}
		}
		if math.Abs(out/n-float64(dropout)) > 0.005 || math.Abs(sum/n-1) > 0.02 {
			t.Errorf("dropout %v leaves out %v and has a mean of %v", dropout, out/n, sum/n)
		}
	}
}

func TestShuffleReachesEveryPlace(t *testing.T) {
	random := rand.NewPCG(1, 1)
	var count [4][4]int
	for range 4000 {
		order := []int{0, 1, 2, 3}
		shuffle(order, random)
		for place, i := range order {
			count[i][place]++
		}
	}
	for i := range count {
		for place, n := range count[i] {
			if n < 850 || n > 1150 {
				t.Errorf("%d comes to place %d in %d of 4000 shuffles, want about 1000", i, place, n)
			}
		}
	}
}
