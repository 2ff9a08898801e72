package aggregation

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/discreet-fl/discreet/aggregation/noise"
)

var twoBuffers = []Memory{{Scale: 0.43, Decay: 0.887}, {Scale: 0.033, Decay: 0.999999}}

func correlated(t testing.TB, words int, sigma float64) *Correlated {
	t.Helper()
	c, err := NewCorrelated(words, sigma, 0, twoBuffers)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// coefficients are the first column of the mechanism's matrix.
func coefficients(memory []Memory, rounds int) []float64 {
	c := make([]float64, rounds)
	c[0] = 1
	for t := 1; t < rounds; t++ {
		for _, m := range memory {
			c[t] += m.Scale * math.Pow(m.Decay, float64(t-1))
		}
	}
	return c
}

// TestStreamingIsTheMatrix multiplies the noise of all rounds by C, which has to give the
// fresh noise again, but for half a unit for the rounding of each round.
func TestStreamingIsTheMatrix(t *testing.T) {
	const words, rounds, sigma = 200, 40, 5000
	stream := correlated(t, words, sigma)
	sampler, err := noise.NewWide(sigma)
	if err != nil {
		t.Fatal(err)
	}
	c := coefficients(twoBuffers, rounds)
	var all [][]int64
	for round := range rounds {
		seed := [32]byte{byte(round), 1}
		total := make([]int64, words)
		for i := range total {
			total[i] = int64(i * (round - 7))
		}
		if err := stream.Next(total, seed); err != nil {
			t.Fatal(err)
		}
		fresh := make([]int64, words)
		sampler.Draw(fresh, seed)
		for i := range total {
			total[i] -= int64(i*(round-7)) << NoiseBits
		}
		all = append(all, total)
		for i, z := range fresh {
			got := 0.0
			for j := range round + 1 {
				got += c[j] * float64(all[round-j][i])
			}
			if math.Abs(got-float64(z)) > 0.5001 {
				t.Fatalf("round %d, word %d: row of C times the noise is %v, the fresh noise %d", round, i, got, z)
			}
		}
	}
	if stream.Rounds() != rounds {
		t.Errorf("%d rounds counted, want %d", stream.Rounds(), rounds)
	}
}

// TestNeighboursDifferByWholeNumbers is the argument of privacy.CorrelatedRho: the noise
// that makes a neighbour's sums come out the same differs by whole numbers, and by no more
// than C times what the sums differ by, and little over one.
func TestNeighboursDifferByWholeNumbers(t *testing.T) {
	const rounds, seed = 60, 12
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	c := coefficients(twoBuffers, rounds)
	differ := make([]float64, rounds) // by which a device's coordinate changes the sums, in units of noise
	for i := 0; i < rounds; i += 12 {
		differ[i] = float64(r.Int64N(2000)-1000) * (1 << NoiseBits)
	}
	// z = n + back of earlier n, with n of the one less differ for the other.
	var own, other [2]float64
	for round := range rounds {
		n := math.Round(5000 * r.NormFloat64())
		backs := [2]float64{}
		for k, m := range twoBuffers {
			backs[0] += float64(m.Scale * own[k])
			backs[1] += float64(m.Scale * other[k])
		}
		fresh := n + math.RoundToEven(backs[0])
		moved := n - differ[round] + math.RoundToEven(backs[1])
		for k, m := range twoBuffers {
			own[k], other[k] = float64(m.Decay*own[k])+n, float64(m.Decay*other[k])+n-differ[round]
		}
		want := 0.0
		for j := range round + 1 {
			want -= c[j] * differ[round-j]
		}
		if got := moved - fresh; got != math.Trunc(got) || math.Abs(got-want) > 1.001 {
			t.Errorf("round %d: the noise differs by %v, C says %v", round, got, want)
		}
	}
}

// TestCorrelatedNoiseTakesItselfBack measures the noise in the sum of all rounds.
func TestCorrelatedNoiseTakesItselfBack(t *testing.T) {
	const words, rounds, sigma = 4000, 100, 3000
	stream := correlated(t, words, sigma)
	model := make([]float64, words)
	for round := range rounds {
		total := make([]int64, words)
		if err := stream.Next(total, [32]byte{byte(round), 9}); err != nil {
			t.Fatal(err)
		}
		for i, n := range total {
			model[i] += float64(n)
		}
	}
	square := 0.0
	for _, x := range model {
		square += x * x / words
	}
	// 4,000 words measure it with an error of 1.1%.
	c, inverse, sum, want := coefficients(twoBuffers, rounds), make([]float64, rounds), 0.0, 0.0
	for at := range inverse {
		if at == 0 {
			inverse[0] = 1
		}
		for j := 1; j <= at; j++ {
			inverse[at] -= c[j] * inverse[at-j]
		}
		sum += inverse[at]
		want += sum * sum
	}
	got, want := math.Sqrt(square)/sigma, math.Sqrt(want)
	t.Logf("noise of all %d rounds is %.3f times a round's, want %.3f; independent noise has 10", rounds, got, want)
	if math.Abs(got/want-1) > 0.04 || want > 2 {
		t.Errorf("noise of all rounds is %v times a round's, want %v", got, want)
	}
}

func TestCorrelatedNoiseGoesOnAfterARestart(t *testing.T) {
	const words, sigma = 50, 1e6
	steady, stopped := correlated(t, words, sigma), correlated(t, words, sigma)
	for round := range 6 {
		a, b := make([]int64, words), make([]int64, words)
		seed := [32]byte{byte(round), 5}
		if err := errors.Join(steady.Next(a, seed), stopped.Next(b, seed)); err != nil {
			t.Fatal(err)
		}
		for i := range a {
			if a[i] != b[i] {
				t.Fatalf("round %d, word %d: %d after a restart, want %d", round, i, b[i], a[i])
			}
		}
		again, err := DecodeCorrelated(stopped.Encode())
		if err != nil {
			t.Fatal(err)
		}
		if again.Rounds() != uint64(round+1) || !bytes.Equal(again.Encode(), steady.Encode()) {
			t.Fatalf("round %d: the state comes back as another", round)
		}
		stopped = again
	}
}

// Noise without buffers, which is independent from round to round, is kept like any other.
func TestIndependentNoiseGoesOnAfterARestart(t *testing.T) {
	c, err := NewCorrelated(3, 100, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Next(make([]int64, 3), [32]byte{1}); err != nil {
		t.Fatal(err)
	}
	again, err := DecodeCorrelated(c.Encode())
	if err != nil || again.Rounds() != 1 || !bytes.Equal(again.Encode(), c.Encode()) {
		t.Errorf("the state comes back as %+v, %v", again, err)
	}
}

func TestCorrelatedRefuses(t *testing.T) {
	c := correlated(t, 3, 100)
	good := c.Encode()
	changed := func(at int, b byte) []byte { x := bytes.Clone(good); x[at] = b; return x }
	decodes := func(b []byte) error { _, err := DecodeCorrelated(b); return err }
	makes := func(words int, sigma float64, m ...Memory) error {
		_, err := NewCorrelated(words, sigma, 0, m)
		return err
	}
	damaged := bytes.Clone(good)
	for i := range 8 {
		damaged[len(damaged)-1-i] = 0xff
	}
	wrong, err := DecodeCorrelated(damaged)
	if err != nil {
		t.Fatal(err)
	}
	old := correlated(t, 3, 100)
	old.rounds = mostRounds
	for _, tc := range []struct {
		name string
		err  error
		want string
	}{
		{"no words", makes(0, 10), "0 words"},
		{"little noise", makes(1, 3), "σ 3"},
		{"endless memory", makes(1, 10, Memory{0.5, 1}), "decays from 0 to below 1"},
		{"growing", makes(1, 10, Memory{0.6, 0.5}, Memory{0.6, 0.5}), "a sum of at most 1"},
		{"NaN", makes(1, 10, Memory{math.NaN(), 0.5}), "want decays"},
		{"short total", c.Next(make([]int64, 2), [32]byte{}), "2 words, want 3"},
		{"large total", c.Next([]int64{0, -1 << 47, 0}, [32]byte{}), "word 1"},
		{"nothing", decodes(nil), "0 bytes"},
		{"something else", decodes(changed(0, 'x')), "no state"},
		{"another version", decodes(changed(len(correlatedMagic)-1, 2)), "no state"},
		{"cut off", decodes(good[:len(good)-1]), "behind its head"},
		{"more words", decodes(changed(len(correlatedMagic)+16, 4)), "behind its head"},
		{"a buffer that is no number", wrong.Next(make([]int64, 3), [32]byte{}), "holds NaN"},
		{"too many rounds", old.Next(make([]int64, 3), [32]byte{}), "8192 rounds"},
		{"too much noise", makes(1, 1e9), "σ 1e+09"},
	} {
		if tc.err == nil || !strings.Contains(tc.err.Error(), tc.want) {
			t.Errorf("%s: error %v, want one with %q", tc.name, tc.err, tc.want)
		}
	}
	if !bytes.Equal(c.Encode(), good) {
		t.Error("a refused total changed the noise")
	}
}
