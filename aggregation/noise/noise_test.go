package noise

import (
	"crypto/aes"
	"crypto/cipher"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// sigmas are what is tested: squares that the exact sampler can take as whole numbers of
// quarters.
var sigmas = []float64{4, 4.5, 21.5, 150}

func sampler(t testing.TB, sigma float64) *Sampler {
	t.Helper()
	s, err := New(sigma)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// draws takes n of them.
func draws(t testing.TB, sigma float64, n int, seed byte) []int32 {
	words, into := make([]uint32, n), make([]int32, n)
	sampler(t, sigma).Add(words, [32]byte{seed})
	for i, w := range words {
		into[i] = int32(w)
	}
	return into
}

// masses64 are the probabilities of |X| = 0, 1, …, in float64 by the definition.
func masses64(sigma float64) []float64 {
	var p []float64
	whole := 0.0
	for k := 0.0; k <= 14*sigma+1; k++ {
		m := math.Exp(-k * k / (2 * sigma * sigma))
		if k > 0 {
			m *= 2
		}
		p, whole = append(p, m), whole+m
	}
	for k := range p {
		p[k] /= whole
	}
	return p
}

func TestTableHoldsTheDistribution(t *testing.T) {
	for _, sigma := range append([]float64{2 * math.Pi, 1000.25}, sigmas...) {
		p, upTo := masses64(sigma), 0.0
		table := sampler(t, sigma).table
		for k, entry := range table {
			upTo += p[k]
			got := math.Ldexp(float64(entry.hi), -64) + math.Ldexp(float64(entry.lo), -128)
			if math.Abs(got-upTo) > 1e-13 {
				t.Fatalf("σ %v: P(|X| ≤ %d) is %v in the table, want %v", sigma, k, got, upTo)
			}
			if entry.lo&1 != 0 || k > 0 && (entry.hi < table[k-1].hi || entry.hi == table[k-1].hi && entry.lo < table[k-1].lo) {
				t.Fatalf("σ %v: entry %d, %x, is odd or below the one before", sigma, k, entry)
			}
		}
		// What falls to the last number is as little as what lies beyond it.
		last := table[len(table)-1]
		if rest := -math.Ldexp(float64(int64(last.hi)), -64) - math.Ldexp(float64(last.lo), -128); last.hi != math.MaxUint64 || rest > math.Ldexp(1, -100) {
			t.Errorf("σ %v: %v is left for the last of %d numbers", sigma, rest, len(table))
		}
	}
}

// exact is the exact sampler (Canonne, Kamath, Steinke 2020, algorithms 1 to 3) of a
// variance of square/4: whole random numbers only, and no table.
type exact struct {
	square int64 // four times the variance
	draw   *rand.Rand
}

// bernoulli is true with probability num/den.
func (e exact) bernoulli(num, den int64) bool { return e.draw.Int64N(den) < num }

// exp is true with probability exp(−num/den).
func (e exact) exp(num, den int64) bool {
	for ; num > den; num -= den {
		if !e.exp(1, 1) {
			return false
		}
	}
	k := int64(1)
	for e.bernoulli(num, den*k) {
		k++
	}
	return k%2 == 1
}

// laplace draws from the discrete Laplace distribution of a whole scale.
func (e exact) laplace(scale int64) int64 {
	for {
		u := e.draw.Int64N(scale)
		if !e.exp(u, scale) {
			continue
		}
		v := int64(0)
		for e.exp(1, 1) {
			v++
		}
		x := u + scale*v
		if e.bernoulli(1, 2) {
			if x == 0 {
				continue
			}
			return -x
		}
		return x
	}
}

// gaussian draws from the discrete Gaussian distribution.
func (e exact) gaussian() int64 {
	scale := int64(math.Sqrt(float64(e.square)/4)) + 1
	for {
		y := e.laplace(scale)
		// (|y| − σ²/scale)²/2σ², with σ² = square/4
		d := 4*scale*max(y, -y) - e.square
		if e.exp(d*d, 8*scale*scale*e.square) {
			return y
		}
	}
}

// TestTableDrawsLikeTheExactSampler compares both samplers with the distribution, and
// with each other, by χ² over cells that are expected 20 times or more.
func TestTableDrawsLikeTheExactSampler(t *testing.T) {
	const n, seed = 60_000, 5
	for _, sigma := range sigmas {
		p := masses64(sigma)
		// cell numbers the values, from the middle out, tails together.
		edge := 0
		for edge+1 < len(p) && n*p[edge+1]/2 >= 20 {
			edge++
		}
		cell := func(x int64) int { return int(min(max(x, -int64(edge)-1), int64(edge)+1)) + edge + 1 }
		expected, table, oracle := make([]float64, 2*edge+3), make([]float64, 2*edge+3), make([]float64, 2*edge+3)
		for k, m := range p {
			expected[cell(int64(k))] += n * m / 2
			expected[cell(-int64(k))] += n * m / 2
		}
		for _, x := range draws(t, sigma, n, seed) {
			table[cell(int64(x))]++
		}
		e := exact{int64(4 * sigma * sigma), rand.New(rand.NewPCG(seed, uint64(sigma)))}
		for range n {
			oracle[cell(e.gaussian())]++
		}
		var ofTable, ofOracle, between float64
		for i := range expected {
			if expected[i] < 10 { // a tail that all but never happens
				continue
			}
			ofTable += (table[i] - expected[i]) * (table[i] - expected[i]) / expected[i]
			ofOracle += (oracle[i] - expected[i]) * (oracle[i] - expected[i]) / expected[i]
			between += (table[i] - oracle[i]) * (table[i] - oracle[i]) / (table[i] + oracle[i])
		}
		// χ² of so many degrees has their number as mean and twice that as variance.
		degrees := float64(len(expected) - 1)
		limit := degrees + 5*math.Sqrt(2*degrees)
		for what, got := range map[string]float64{"table": ofTable, "exact sampler": ofOracle, "one against the other": between} {
			if got > limit {
				t.Errorf("seed %d, σ %v: χ² of the %s is %.1f over %d cells, want at most %.1f", seed, sigma, what, got, len(expected), limit)
			}
		}
	}
}

func TestDrawsHaveTheirVariance(t *testing.T) {
	const n, seed = 400_000, 9
	for _, sigma := range sigmas {
		var sum, squares float64
		for _, x := range draws(t, sigma, n, seed) {
			sum, squares = sum+float64(x), squares+float64(x)*float64(x)
		}
		// The relative error of a variance over n draws has √(2/n) as standard deviation.
		if got := squares / n / (sigma * sigma); math.Abs(got-1) > 5*math.Sqrt(2.0/n) {
			t.Errorf("seed %d, σ %v: variance is %.4f of σ²", seed, sigma, got)
		}
		if got := sum / n / sigma; math.Abs(got) > 5/math.Sqrt(n) {
			t.Errorf("seed %d, σ %v: mean is %.4f of σ", seed, sigma, got)
		}
	}
}

// TestDrawsAreTheSameEverywhere holds some draws on every platform that runs this test.
func TestDrawsAreTheSameEverywhere(t *testing.T) {
	const want = "[3 6 -27 1 29 -30 -3 -6]"
	if got := fmt.Sprint(draws(t, 21.5, 8, 1)); got != want {
		t.Errorf("draws are %s, want %s", got, want)
	}
}

func TestSamplerRefusesOtherSigmas(t *testing.T) {
	for _, sigma := range []float64{math.NaN(), -1, 0, 3.99, MaxSigma + 1, math.Inf(1)} {
		if _, err := New(sigma); err == nil {
			t.Errorf("σ %v makes a sampler, want an error", sigma)
		}
	}
}

// BenchmarkAdd times a draw; BenchmarkLimit the 16 bytes of AES-256 in counter mode that
// one draw would take at the least.
func BenchmarkAdd(b *testing.B) { benchmarkDraws(b, (*Sampler).Add) }

func BenchmarkSubtract(b *testing.B) { benchmarkDraws(b, (*Sampler).Subtract) }

func benchmarkDraws(b *testing.B, f func(*Sampler, []uint32, [32]byte)) {
	for _, sigma := range []float64{21.5, 150, 2000} {
		b.Run(fmt.Sprintf("sigma=%v", sigma), func(b *testing.B) {
			s, words := sampler(b, sigma), make([]uint32, 1<<15)
			for b.Loop() {
				f(s, words, [32]byte{1})
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(words)), "ns/draw")
		})
	}
}

func BenchmarkLimit(b *testing.B) {
	block, err := aes.NewCipher(make([]byte, 32))
	if err != nil {
		b.Fatal(err)
	}
	stream, buffer := cipher.NewCTR(block, make([]byte, 16)), make([]byte, 16<<15)
	for b.Loop() {
		stream.XORKeyStream(buffer, buffer)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/(1<<15), "ns/draw")
}

func BenchmarkNew(b *testing.B) {
	for b.Loop() {
		recent.samplers = nil
		sampler(b, 150)
	}
}

// TestSubtract: what was added goes off again, to the last word, and draws at the bounds of
// the guide's parts are those of the whole table.
func TestSubtract(t *testing.T) {
	for _, sigma := range append([]float64{16384, 620.441}, sigmas...) {
		s := sampler(t, sigma)
		words := make([]uint32, 20_000)
		for i := range words {
			words[i] = uint32(i) * 0x9e3779b9
		}
		before := slices.Clone(words)
		s.Add(words, [32]byte{9})
		if slices.Equal(words, before) {
			t.Fatalf("σ %v: nothing was added", sigma)
		}
		s.Subtract(words, [32]byte{9})
		if !slices.Equal(words, before) {
			t.Errorf("σ %v: what was added is not what was taken off", sigma)
		}
		for _, entry := range s.table { // at each entry, and next to it
			for _, lo := range []uint64{entry.lo, entry.lo - 1, entry.lo + 1} {
				if got, want := s.guided(entry.hi, lo), place(s.table, entry.hi, lo); got != want {
					t.Fatalf("σ %v: a draw of %x %x lies at %d by the guide, and at %d", sigma, entry.hi, lo, got, want)
				}
			}
		}
		for first := range uint64(1 << guideBits) {
			for _, hi := range []uint64{first << (64 - guideBits), (first+1)<<(64-guideBits) - 1} {
				for _, lo := range []uint64{0, ^uint64(0)} {
					if got, want := s.guided(hi, lo), place(s.table, hi, lo); got != want {
						t.Fatalf("σ %v: a draw of %x %x lies at %d by the guide, and at %d", sigma, hi, lo, got, want)
					}
				}
			}
		}
	}
}

// TestSamplersAreKept: the samplers of a round's levels are made once.
func TestSamplersAreKept(t *testing.T) {
	first := sampler(t, 100)
	for i := range mostRecent - 1 {
		sampler(t, 101+float64(i))
	}
	if sampler(t, 100) != first {
		t.Error("one of the latest samplers was made anew")
	}
	if sampler(t, 200); len(recent.samplers) != mostRecent || made(100) != nil {
		t.Errorf("%d samplers are kept, the oldest among them", len(recent.samplers))
	}
}
