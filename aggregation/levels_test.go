package aggregation

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
)

func TestSurvivors(t *testing.T) {
	for _, tc := range []struct {
		least, most, corrupt int
		want                 []int
	}{
		{7, 10, 1, []int{8, 9, 10}},
		{700, 1000, 100, []int{727, 759, 798, 845, 902, 971}},
		{800, 1000, 100, []int{848, 906, 976}},
		{900, 1000, 100, []int{969}},
		{1000, 1000, 100, nil},
		{980, 1000, 100, nil},
		{700, 1000, 0, []int{848}},
		{5, 8, 0, []int{7}},
		{67, 100, 33, []int{68, 69, 71, 75, 83, 99}}, // the corrupt third alone costs 40%
	} {
		if got := Survivors(tc.least, tc.most, tc.corrupt); !slices.Equal(got, tc.want) {
			t.Errorf("%d to %d survivors, %d corrupt: levels at %v, want %v", tc.least, tc.most, tc.corrupt, got, tc.want)
		}
	}
	for _, bad := range [][3]int{{5, 4, 0}, {5, 10, 5}, {5, 10, 6}, {5, 10, -1}, {0, 10, 0}} {
		if got := Survivors(bad[0], bad[1], bad[2]); got != nil {
			t.Errorf("%v: levels at %v, want none", bad, got)
		}
	}
	for _, n := range []int{3, 10, 37, 100, 555, 2000} {
		for _, corrupt := range []int{0, n / 100, n / 10, n / 5, n / 3} {
			for least := max(3, corrupt+1); least <= n; least += 1 + n/20 {
				if got := Survivors(least, n, corrupt); len(got) > MostLevels || !slices.IsSorted(got) || len(got) > 0 && (got[0] <= least || got[len(got)-1] > n) {
					t.Errorf("%d to %d survivors, %d corrupt: levels at %v", least, n, corrupt, got)
				}
			}
		}
	}
}

// levelled is a mechanism with levels.
func levelled(clip float32, multiplier float64, least, most, corrupt, d int) (DiscreteGaussian, error) {
	g, err := NewDiscreteGaussian(clip, multiplier, least-corrupt, d)
	if err != nil {
		return g, err
	}
	return g.Levelled(multiplier, least, most, corrupt, d)
}

// TestLeftIsWhatWasAskedFor goes through every number of survivors: what is left of the noise
// of those that are not corrupt is never less than was asked for, and the noise of all not
// 10% more where that can be.
func TestLeftIsWhatWasAskedFor(t *testing.T) {
	const d, multiplier = 500, 3.5
	for _, tc := range []struct {
		least, most, corrupt int
		over                 float64 // at most, in standard deviation
	}{
		{700, 1000, 100, 1.10}, {800, 1000, 100, 1.10}, {1000, 1000, 100, 1.10}, {350, 500, 50, 1.10}, {67, 100, 10, 1.10}, {7, 10, 1, 1.10}, {5, 9, 0, 1.10},
		{400, 1000, 100, 1.21}, {67, 100, 33, 1.43}, {3, 2000, 0, 1.60},
	} {
		t.Run(fmt.Sprintf("%d to %d, %d corrupt", tc.least, tc.most, tc.corrupt), func(t *testing.T) {
			g, err := levelled(2, multiplier, tc.least, tc.most, tc.corrupt, d)
			if err != nil {
				t.Fatal(err)
			}
			asked, worst := multiplier*g.Norm(d), 0.0
			for n := tc.least; n <= tc.most; n++ {
				sigma := g.sigmaOf(g.Reached(n))
				if honest := math.Sqrt(float64(n-tc.corrupt)) * sigma; honest < asked*(1-1e-12) {
					t.Fatalf("%d survivors: noise of σ %v of the honest, %v was asked for", n, honest, asked)
				}
				if got := g.Left(n); math.Abs(got-math.Sqrt(float64(n))*sigma) > 1e-9*got {
					t.Fatalf("%d survivors: σ %v is left, want that of %d devices of σ %v", n, got, n, sigma)
				}
				worst = max(worst, g.Left(n)/asked)
			}
			if over := g.Overshoot(tc.least-tc.corrupt, tc.least, tc.most); math.Abs(over/worst-1) > 1e-9 {
				t.Errorf("Overshoot is %v, want %v", over, worst)
			}
			if worst > tc.over {
				t.Errorf("up to %v of what was asked for, want at most %v", worst, tc.over)
			}
			if bits := g.RingBits(tc.most, d); g.Fits(tc.most, d, bits) != nil || g.Fits(tc.most, d, bits-1) == nil {
				t.Errorf("it fits other rings than of %d bits and more", bits)
			}
		})
	}
}

// TestLevelsRaiseTheScale: parts of a small σ are made larger, together with the update.
func TestLevelsRaiseTheScale(t *testing.T) {
	plain, err := NewDiscreteGaussian(1, 1, 600, 100)
	if err != nil {
		t.Fatal(err)
	}
	g, err := levelled(1, 1, 700, 1000, 100, 100)
	if err != nil {
		t.Fatal(err)
	}
	smallest := g.Sigma
	for _, l := range g.Levels {
		smallest = min(smallest, l.Sigma)
	}
	if smallest < 4 || smallest > 4.1 || g.Scale < 2*plain.Scale {
		t.Errorf("the smallest σ is %v at scale %v, want 4 at more than twice %v", smallest, g.Scale, plain.Scale)
	}
}

// TestLevelsWithVotes: noise in levels covers update and vote together, and votes are raised
// with the scale.
func TestLevelsWithVotes(t *testing.T) {
	const multiplier, d = 1, 100
	plain, err := NewAdaptiveGaussian(1, multiplier, 600, 1000, d, 10)
	if err != nil {
		t.Fatal(err)
	}
	g, err := plain.Levelled(multiplier, 700, 1000, 100, d)
	if err != nil {
		t.Fatal(err)
	}
	if times := g.Below / plain.Below; times < 2 || g.Below != times*plain.Below || g.Above != times*plain.Above {
		t.Errorf("votes of %d and −%d, want the same multiple of %d and −%d", g.Below, g.Above, plain.Below, plain.Above)
	}
	for n := 700; n <= 1000; n++ {
		if honest := math.Sqrt(float64(n-100)) * g.sigmaOf(g.Reached(n)); honest < multiplier*g.Norm(d)*(1-1e-12) {
			t.Fatalf("%d survivors: noise of σ %v, %v was asked for", n, honest, multiplier*g.Norm(d))
		}
	}
	l, seeds := Layout{Noise: g, Parameters: d}, make([][32]byte, len(g.Levels))
	vector := make([]uint32, l.Length())
	if err := l.AddLevels(vector, seeds, 0); err != nil {
		t.Fatal(err)
	}
	if vector[d] == 0 || vector[d+1] != 0 {
		t.Errorf("the vote is %d and the weight %d once noise was added, want noise in the first alone", vector[d], vector[d+1])
	}
}

// TestLevelsComeOff adds the noise of levels to devices' vectors and takes that of some off
// the sum, on every core count.
func TestLevelsComeOff(t *testing.T) {
	const d, devices = 999, 7
	g, err := levelled(1, 2, 700, 1000, 100, d)
	if err != nil {
		t.Fatal(err)
	}
	l := Layout{Noise: g, Parameters: d}
	for reached := range len(g.Levels) + 1 {
		sum, want := make([]uint32, l.Length()), make([]uint32, l.Length())
		back := make([][][32]byte, reached)
		for i := range devices {
			seeds := make([][32]byte, len(g.Levels))
			for j := range seeds {
				seeds[j] = [32]byte{byte(i), byte(j), 1}
				if j < reached {
					back[j] = append(back[j], seeds[j])
				}
			}
			vector := make([]uint32, l.Length())
			vector[d] = 1
			if err := l.AddLevels(vector, seeds, 0); err != nil {
				t.Fatal(err)
			}
			left := make([]uint32, l.Length())
			left[d] = 1
			if err := l.AddLevels(left, seeds, reached); err != nil {
				t.Fatal(err)
			}
			for w := range sum {
				sum[w] += vector[w]
				want[w] += left[w]
			}
		}
		if err := l.RemoveLevels(sum, back); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(sum, want) {
			t.Errorf("%d of %d levels off: another sum than of vectors without them", reached, len(g.Levels))
		}
	}
	for _, err := range []error{
		l.AddLevels(make([]uint32, d), make([][32]byte, len(g.Levels)), 0),
		l.AddLevels(make([]uint32, d+1), nil, 0),
		l.RemoveLevels(make([]uint32, d), nil),
		l.RemoveLevels(make([]uint32, d+1), make([][][32]byte, len(g.Levels)+1)),
	} {
		if err == nil || !strings.Contains(err.Error(), "want") && !strings.Contains(err.Error(), "for") {
			t.Errorf("a vector or seeds that do not fit: %v", err)
		}
	}
}

// TestLevelsAreChecked: levels that cannot be are refused by everything that uses them.
func TestLevelsAreChecked(t *testing.T) {
	for name, levels := range map[string][]Level{
		"small noise":   {{5, 3.9}},
		"large noise":   {{5, 16385}},
		"no noise":      {{5, math.NaN()}},
		"no survivors":  {{0, 5}},
		"twice as many": {{5, 5}, {5, 5}},
		"out of order":  {{6, 5}, {5, 5}},
		"too many":      {{1, 5}, {2, 5}, {3, 5}, {4, 5}, {5, 5}, {6, 5}, {7, 5}, {8, 5}, {9, 5}},
	} {
		g := DiscreteGaussian{Clip: 1, Scale: 10, Sigma: 5, Levels: levels}
		if g.Fits(10, 10, 32) == nil || g.Encode(make([]uint32, 2), []float32{1}, [32]byte{}, [32]byte{}) == nil {
			t.Errorf("%s: levels %v are taken", name, levels)
		}
	}
}

// BenchmarkRemoveLevels takes a level off the sum of a thousand devices, in 2^15 coordinates.
func BenchmarkRemoveLevels(b *testing.B) {
	const d, devices = 1 << 15, 1000
	l := Layout{Noise: DiscreteGaussian{Clip: 1, Scale: 600, Sigma: 150, Levels: []Level{{700, 150}}}, Parameters: d}
	sum, seeds := make([]uint32, d+1), [][][32]byte{make([][32]byte, devices)}
	for b.Loop() {
		if err := l.RemoveLevels(sum, seeds); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/d/devices, "ns/draw")
}
