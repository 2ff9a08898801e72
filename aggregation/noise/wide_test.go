package noise

import (
	"math"
	"testing"
)

// TestWideIsADiscreteGaussian convolves the parts' distributions and compares with the one
// that they are to make.
func TestWideIsADiscreteGaussian(t *testing.T) {
	const sigma = 2100.5 // little above one table
	w, err := NewWide(sigma)
	if err != nil {
		t.Fatal(err)
	}
	if len(w.parts) != 2 || w.parts[0].multiple != 3 || w.parts[1].multiple != 1 {
		t.Fatalf("parts %v, want two, the first three times as wide", w.parts)
	}
	// P(|X| ≤ k) of a part, as its table has it.
	mass := func(s *Sampler) func(k int) float64 {
		p, before := make([]float64, len(s.table)), 0.0
		for k, entry := range s.table {
			upTo := math.Ldexp(float64(entry.hi), -64) + math.Ldexp(float64(entry.lo), -128)
			if p[k] = upTo - before; k > 0 {
				p[k] /= 2
			}
			before = upTo
		}
		return func(k int) float64 {
			if k < 0 {
				k = -k
			}
			if k >= len(p) {
				return 0
			}
			return p[k]
		}
	}
	wide, narrow := mass(w.parts[0].sampler), mass(w.parts[1].sampler)
	whole := 0.0
	for k := -40_000; k <= 40_000; k++ {
		whole += math.Exp(-float64(k) * float64(k) / (2 * sigma * sigma))
	}
	for _, x := range []int{0, 1, 2, 3, 100, 2101, -2102, 4444, 6001} {
		got := 0.0
		for k := -20_000; k <= 20_000; k++ {
			got += wide(k) * narrow(x-3*k)
		}
		want := math.Exp(-float64(x)*float64(x)/(2*sigma*sigma)) / whole
		if math.Abs(got/want-1) > 1e-9 {
			t.Errorf("P(X = %d) is %v, want %v", x, got, want)
		}
	}
}

func TestWideHasTheStandardDeviation(t *testing.T) {
	const n = 20_000 // for an error of 0.5%
	for _, sigma := range []float64{4, 1000, 1e6 + 0.5, MaxWideSigma} {
		w, err := NewWide(sigma)
		if err != nil {
			t.Fatal(err)
		}
		exact := 0.0
		for _, p := range w.parts {
			exact = math.Hypot(exact, float64(p.multiple)*p.sampler.sigma())
		}
		if math.Abs(exact/sigma-1) > 1e-3 {
			t.Errorf("σ %v: the parts make %v", sigma, exact)
		}
		into := make([]int64, n)
		w.Draw(into, [32]byte{1, 2})
		mean, square := 0.0, 0.0
		for _, x := range into {
			mean += float64(x) / n
			square += float64(x) * float64(x) / n
		}
		if got := math.Sqrt(square); math.Abs(got/sigma-1) > 0.015 || math.Abs(mean) > 0.02*sigma {
			t.Errorf("σ %v: %d draws have mean %v and standard deviation %v", sigma, n, mean, got)
		}
	}
	for _, sigma := range []float64{3.9, math.NaN(), math.Inf(1), 2 * MaxWideSigma} {
		if _, err := NewWide(sigma); err == nil {
			t.Errorf("σ %v is taken", sigma)
		}
	}
}

// sigma is the standard deviation that a table has.
func (s *Sampler) sigma() float64 {
	square, before := 0.0, 0.0
	for k, entry := range s.table {
		upTo := math.Ldexp(float64(entry.hi), -64) + math.Ldexp(float64(entry.lo), -128)
		square += float64(k) * float64(k) * (upTo - before)
		before = upTo
	}
	return math.Sqrt(square)
}

func TestWideIsTheSameEverywhere(t *testing.T) {
	w, err := NewWide(1e6)
	if err != nil {
		t.Fatal(err)
	}
	var into [4]int64
	w.Draw(into[:], [32]byte{7})
	if want := [4]int64{44151, -721935, -2140030, -532708}; into != want {
		t.Errorf("draws %v, want %v", into, want)
	}
}

func BenchmarkWide(b *testing.B) {
	w, err := NewWide(1e7)
	if err != nil {
		b.Fatal(err)
	}
	into := make([]int64, 1000)
	for b.Loop() {
		w.Draw(into, [32]byte{})
	}
}
