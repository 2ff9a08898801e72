package privacy

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

// randomBLT draws one that passes its check.
func randomBLT(r *rand.Rand, buffers int) BLT {
	m := BLT{make([]float64, buffers), make([]float64, buffers)}
	for i := range buffers {
		m.Scale[i], m.Decay[i] = r.Float64()/float64(buffers), r.Float64()
	}
	return m
}

// TestBLTIsItsMatrix inverts C by substitution, row by row.
func TestBLTIsItsMatrix(t *testing.T) {
	draws(t, 50, func(r *rand.Rand) {
		m, rounds := randomBLT(r, r.IntN(5)), 1+r.IntN(60)
		c := m.Coefficients(rounds)
		for at := range c {
			want := 0.0
			for i := range m.Scale {
				want += m.Scale[i] * math.Pow(m.Decay[i], float64(at-1))
			}
			if at == 0 {
				want = 1
			}
			if math.Abs(c[at]-want) > 1e-14 || at > 0 && c[at] > c[at-1] {
				t.Fatalf("%+v: coefficient %d is %v, want %v and no increase", m, at, c[at], want)
			}
		}
		inverse, squared, sum := make([]float64, rounds), 0.0, 0.0
		for at := range inverse {
			if at == 0 {
				inverse[at] = 1
			}
			for j := 1; j <= at; j++ {
				inverse[at] -= c[j] * inverse[at-j]
			}
			sum += inverse[at]
			squared += sum * sum
		}
		if got := m.Spread(rounds); math.Abs(got/math.Sqrt(squared)-1) > 1e-9 {
			t.Errorf("%+v: spread %v over %d rounds, want %v", m, got, rounds, math.Sqrt(squared))
		}
		if m.Spread(rounds-1) > m.Spread(rounds) {
			t.Errorf("%+v: a sum of %d rounds has more noise than one of %d", m, rounds-1, rounds)
		}
	})
}

// TestBLTSensitivity tries every pattern of participation.
func TestBLTSensitivity(t *testing.T) {
	draws(t, 30, func(r *rand.Rand) {
		m, rounds, b, k := randomBLT(r, 1+r.IntN(3)), 1+r.IntN(11), 1+r.IntN(4), 1+r.IntN(4)
		c, worst := m.Coefficients(rounds), 0.0
		patterns(rounds, b, k, func(chosen []int) {
			squared := 0.0
			for at := range c {
				row := 0.0
				for _, in := range chosen {
					if in <= at {
						row += c[at-in]
					}
				}
				squared += row * row
			}
			worst = max(worst, math.Sqrt(squared))
		})
		if got := m.Sensitivity(rounds, b, k); math.Abs(got-worst) > 1e-12*worst {
			t.Errorf("%+v, %d rounds, %d apart, %d times: sensitivity %v, the worst pattern has %v", m, rounds, b, k, got, worst)
		}
	})
}

// TestOptimisedBLT holds the gain over independent noise at equal ρ: 7.4 against 22.4 for
// 100 rounds and devices in 5 of them, 20 apart.
func TestOptimisedBLT(t *testing.T) {
	for _, tc := range []struct {
		buffers, rounds, separation, participations int
		most, independent                           float64
	}{
		{1, 100, 20, 5, 7.4, 22.4},
		{3, 100, 20, 5, 7.3, 22.4},
		{2, 50, 10, 5, 6.8, 15.8},
		{2, 1, 1, 1, 1, 1},
		{2, 20, 1, 20, 20, 20}, // all devices in all rounds: independent noise is best
	} {
		m, err := OptimiseBLT(tc.buffers, tc.rounds, tc.separation, tc.participations)
		if err != nil {
			t.Fatal(err)
		}
		got, independent := m.Noise(tc.rounds, tc.separation, tc.participations), BLT{}.Noise(tc.rounds, tc.separation, tc.participations)
		t.Logf("%d buffers, %d rounds, %d apart, %d times: %.4f against %.4f, %+v", tc.buffers, tc.rounds, tc.separation, tc.participations, got, independent, m)
		if m.Check() != nil || got > tc.most*(1+1e-6) || math.Abs(independent-tc.independent) > 0.05 {
			t.Errorf("noise %v against %v, want at most %v against %v", got, independent, tc.most, tc.independent)
		}
	}
}

// TestVectorsAreChargedInFull holds the charges of a device above what it has given away
// after each of its vectors, also where the last ones cost less than the first.
func TestVectorsAreChargedInFull(t *testing.T) {
	draws(t, 40, func(r *rand.Rand) {
		m, rounds, b, k := randomBLT(r, 1+r.IntN(3)), 1+r.IntN(40), 1+r.IntN(9), 1+r.IntN(6)
		const norm, sigma, d = 1e5, 1e6, 1000
		each, worst := m.VectorRho(norm, sigma, d, rounds, b, k), 0.0
		for j := 1; j <= k; j++ {
			if given := CorrelatedRho(norm, m.Sensitivity(rounds, b, j), sigma, rounds, d); given > each*float64(j)*(1+1e-12) {
				t.Errorf("%+v, %d rounds, %d apart: %d of %d vectors give away ρ %v, charged at %v each", m, rounds, b, j, k, given, each)
			} else {
				worst = max(worst, given/float64(j))
			}
		}
		if math.Abs(each/worst-1) > 1e-12 {
			t.Errorf("%+v, %d rounds, %d apart: a vector is charged ρ %v, %v would do", m, rounds, b, each, worst)
		}
	})
	if !math.IsInf(BLT{}.VectorRho(1, 10, 1, 1, 0, 1), 1) || !math.IsInf(BLT{}.VectorRho(math.NaN(), 10, 1, 1, 1, 1), 1) {
		t.Error("what makes no sense has a price")
	}
}

func TestBLTRefuses(t *testing.T) {
	nan := math.NaN()
	for _, m := range []BLT{
		{[]float64{0.5}, nil}, {[]float64{0.5}, []float64{1}}, {[]float64{0.5}, []float64{-0.1}}, {[]float64{-0.5}, []float64{0.5}},
		{[]float64{0.6, 0.6}, []float64{0.5, 0.5}}, {[]float64{nan}, []float64{0.5}}, {[]float64{0.5}, []float64{nan}},
	} {
		if m.Check() == nil || !math.IsInf(m.Sensitivity(10, 1, 1), 1) {
			t.Errorf("%+v passes", m)
		}
	}
	for want, args := range map[string][4]int{"0 buffers": {0, 1, 1, 1}, "9 buffers": {9, 1, 1, 1}, "0 rounds": {1, 0, 1, 1}, "0 apart": {1, 1, 0, 1}, "0 participations": {1, 1, 1, 0}} {
		if _, err := OptimiseBLT(args[0], args[1], args[2], args[3]); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("OptimiseBLT(%v): error %v, want one with %q", args, err, want)
		}
	}
	if got := CorrelatedRho(1000, 2, 500, 100, 0); got != 8 {
		t.Errorf("a vector of no coordinates costs %v, want 2000²/(2·500²) = 8", got)
	}
	if CorrelatedRho(1000, 2, 500, 100, 10_000) < 8.01 {
		t.Error("rounding costs nothing")
	}
	if !math.IsInf(CorrelatedRho(1, 1, 3, 1, 1), 1) || !math.IsInf(CorrelatedRho(1, math.Inf(1), 10, 1, 1), 1) {
		t.Error("too little noise, or endless sensitivity, has a price")
	}
}
