package aggregation

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math"
	"strings"
	"testing"
)

// noised is a mechanism for updates of so many parameters with five honest devices.
func noised(t testing.TB, multiplier float64, parameters int) DiscreteGaussian {
	t.Helper()
	g, err := NewDiscreteGaussian(2, multiplier, 5, parameters)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// noisySum encodes the update n times, with seeds of their own, and adds the words.
func noisySum(t testing.TB, g DiscreteGaussian, u []float32, n int, trial byte) []uint32 {
	t.Helper()
	sum, words := make([]uint32, g.Length(len(u))), make([]uint32, g.Length(len(u)))
	for i := range n {
		if err := g.Encode(words, u, [32]byte{trial, byte(i), byte(i >> 8)}, [32]byte{trial, byte(i), byte(i >> 8), 1}); err != nil {
			t.Fatal(err)
		}
		for j, w := range words {
			sum[j] += w
		}
	}
	return sum
}

func TestNoiseOfTheDecodedMeanIsWhatWasAskedFor(t *testing.T) {
	// Where all are honest the mean's noise has multiplier·Norm/(n·Scale) as standard
	// deviation. Over 80,000 coordinates it is measured with an error of 0.25%; zeros are
	// rounded without one, so that noise is all there is.
	const n, dim, multiplier, trials = 5, 20_000, 0.5, 4
	g := noised(t, multiplier, dim)
	want := multiplier * g.Norm(dim) / n / g.Scale
	var squares float64
	for trial := range trials {
		mean := make([]float32, dim)
		ring := g.RingBits(n, dim)
		devices, err := g.Decode(mean, lifted(ring, noisySum(t, g, make([]float32, dim), n, byte(trial))))
		if err != nil || devices != n {
			t.Fatalf("trial %d: %d devices, %v; want %d", trial, devices, err, n)
		}
		for _, x := range mean {
			squares += float64(x) * float64(x)
		}
	}
	got := math.Sqrt(squares / trials / dim)
	t.Logf("standard deviation %.6g over %d draws, want %.6g: %.2f%% off", got, trials*dim, want, 100*(got/want-1))
	if math.Abs(got/want-1) > 0.01 {
		t.Errorf("standard deviation of the decoded mean is %v, want %v within 1%%", got, want)
	}
}

func TestNoisedMeanIsTheMeanOfUpdatesOfBoundedNorm(t *testing.T) {
	const n, dim, seed = 5, 4000, 3
	g := noised(t, 0.05, dim)
	u := update(dim, seed) // of a norm far above the clip
	mean := make([]float32, dim)
	if _, err := g.Decode(mean, lifted(g.RingBits(n, dim), noisySum(t, g, u, n, 7))); err != nil {
		t.Fatal(err)
	}
	var dot, square, norm float64
	for i := range u {
		dot, square, norm = dot+float64(u[i])*float64(mean[i]), square+float64(u[i])*float64(u[i]), norm+float64(mean[i])*float64(mean[i])
	}
	// The part of the mean along the update is the clip; noise and rounding are beside it.
	if got := dot / math.Sqrt(square); math.Abs(got-2) > 0.02 {
		t.Errorf("seed %d: the mean of %d updates of norm %.1f has %.4f along them, want the clip, 2", seed, n, math.Sqrt(square), got)
	}
	if got := math.Sqrt(norm); got > 2*math.Sqrt(1+0.05*0.05*dim) {
		t.Errorf("seed %d: the mean has norm %v", seed, got)
	}
}

// TestWholeNumbersStayWithinTheNorm looks at what noise is added to: on updates that are
// hardest to round, all coordinates halfway between two whole numbers, and on one that no
// try can round.
func TestWholeNumbersStayWithinTheNorm(t *testing.T) {
	for _, dim := range []int{1, 2, 50, 4000} {
		g := noised(t, 1, dim)
		x := float32(2 / math.Sqrt(float64(dim)))
		for trial := range 20 {
			u, words := make([]float32, dim), make([]uint32, dim)
			for i := range u {
				u[i] = x
			}
			g.round(words, u, g.Scale, [32]byte{byte(trial)})
			var square float64
			for _, w := range words {
				square += float64(int32(w)) * float64(int32(w))
			}
			if square > g.Norm(dim)*g.Norm(dim) || square == 0 && dim > 2 {
				t.Fatalf("%d parameters, trial %d: whole numbers of norm %v, want above 0 and at most %v", dim, trial, math.Sqrt(square), g.Norm(dim))
			}
		}
	}
	g, words := noised(t, 1, 4), []uint32{1, 2, 3, 4}
	g.round(words, []float32{2, 2, 2, 2}, g.Scale, [32]byte{})
	for _, w := range words {
		if w != 0 {
			t.Fatalf("an update of twice the norm is rounded to %d, want zeros", words)
		}
	}
}

func TestWorstNoisedSumFits(t *testing.T) {
	for _, n := range []int{3, 20, 1000} {
		for _, dim := range []int{1, 33_000} {
			g := noised(t, 2, dim)
			ring := g.RingBits(n, dim)
			if err := g.Fits(n, dim, ring); err != nil {
				t.Errorf("%d devices in the ring that RingBits gives: %v", n, err)
			}
			if err := g.Fits(n, dim, ring-1); err == nil {
				t.Errorf("%d devices of %d parameters fit %d bits, yet RingBits says %d", n, dim, ring-1, ring)
			}
			if need := float64(n)*g.Norm(dim) + 9*math.Sqrt(float64(n))*g.Sigma; need >= math.Ldexp(1, ring-1) {
				t.Errorf("%d devices of %d parameters need %v on either side, more than %d bits have", n, dim, need, ring)
			}
		}
	}
}

func TestScaleMakesRoundingCheap(t *testing.T) {
	for _, dim := range []int{1000, 33_000, 1_000_000} {
		g := noised(t, 1, dim)
		if cost := g.Norm(dim) / (g.Scale * float64(g.Clip)); cost > 1.016 {
			t.Errorf("%d parameters: rounding adds %.2f%% to the norm", dim, 100*(cost-1))
		}
	}
	// Little noise of many devices each: the scale grows until each has enough.
	g, err := NewDiscreteGaussian(1, 0.01, 900, 100)
	if err != nil || g.Sigma < 4 || g.Sigma > 4.1 {
		t.Errorf("σ %v, %v; want little above 4", g.Sigma, err)
	}
}

func TestDiscreteGaussianRefusesBadInput(t *testing.T) {
	good := noised(t, 1, 2)
	dst := make([]uint32, 3)
	encodes := func(g DiscreteGaussian, u ...float32) error { return g.Encode(dst, u, [32]byte{}, [32]byte{}) }
	decodes := func(total ...int64) error { _, err := good.Decode(make([]float32, 2), total); return err }
	makes := func(clip float32, multiplier float64, honest int) error {
		_, err := NewDiscreteGaussian(clip, multiplier, honest, 1000)
		return err
	}
	with := func(change func(*DiscreteGaussian)) DiscreteGaussian { g := good; change(&g); return g }
	for _, tc := range []struct {
		name string
		err  error
		want string
	}{
		{"NaN", encodes(good, 1, float32(math.NaN())), "coordinate 1 of the update is NaN"},
		{"infinity", encodes(good, float32(math.Inf(1)), 1), "coordinate 0 of the update is +Inf"},
		{"short destination", encodes(good, 1, 2, 3), "3 coordinates into 3 words, want 4"},
		{"no clip", encodes(with(func(g *DiscreteGaussian) { g.Clip = 0 }), 1, 2), "clip is 0"},
		{"NaN scale", encodes(with(func(g *DiscreteGaussian) { g.Scale = math.NaN() }), 1, 2), "scale NaN"},
		{"large scale", encodes(with(func(g *DiscreteGaussian) { g.Scale = 1e9 }), 1, 2), "want 1 to 4194304"},
		{"little noise", encodes(with(func(g *DiscreteGaussian) { g.Sigma = 3.9 }), 1, 2), "σ 3.9, want 4"},
		{"NaN noise", encodes(with(func(g *DiscreteGaussian) { g.Sigma = math.NaN() }), 1, 2), "σ NaN"},
		{"short total", decodes(1, 2), "want 3 words"},
		{"nobody", decodes(1, 2, 0), "over 0 devices"},
		{"fewer", decodes(1, 2, -3), "over -3 devices"},
		{"no honest device", makes(1, 1, 0), "0 honest devices"},
		{"no noise", makes(1, 0, 3), "multiplier of 0"},
		{"too much noise", makes(1, 1e6, 3), "survivors"},
		{"a wide ring", good.Fits(3, 2, 33), "33 bits"},
		{"a narrow ring", good.Fits(3, 2, 4), "overflow a ring of 4 bits"},
		{"a sum of none", good.Fits(0, 2, 20), "0 devices"},
	} {
		if tc.err == nil || !strings.Contains(tc.err.Error(), tc.want) {
			t.Errorf("%s: error %v, want one with %q", tc.name, tc.err, tc.want)
		}
	}
	if err := encodes(good, 1, float32(math.NaN())); !errors.Is(err, ErrNotFinite) {
		t.Errorf("error %v, want ErrNotFinite", err)
	}
}

func TestNoisedEncodingIsTheSameEverywhere(t *testing.T) {
	words := make([]uint32, 1001)
	if err := noised(t, 1, 1000).Encode(words, update(1000, 11), [32]byte{1}, [32]byte{2}); err != nil {
		t.Fatal(err)
	}
	var raw []byte
	for _, w := range words {
		raw = binary.LittleEndian.AppendUint32(raw, w)
	}
	digest := sha256.Sum256(raw)
	if got := hex.EncodeToString(digest[:8]); got != "33ec19173ca9fb19" {
		t.Errorf("digest %s, want 33ec19173ca9fb19", got)
	}
}

func BenchmarkNoisedEncode(b *testing.B) {
	const dim = 33_000
	g, u, words := noised(b, 1, dim), update(dim, 1), make([]uint32, dim+1)
	for b.Loop() {
		if err := g.Encode(words, u, [32]byte{}, [32]byte{1}); err != nil {
			b.Fatal(err)
		}
	}
}
