package aggregation

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/discreet-fl/discreet/privacy"
)

// TestVotesByHand holds a mechanism with votes to numbers done by hand: 800 parameters at a
// scale of √(800/0.08) = 100, so that Norm² is 100² + 800/4 + 100 + √800/2 = 10,314.142 for the
// update. With a multiplier of 2 votes may lie 2·√10,314.142/4 = 50.8 apart, which leaves 40.
func TestVotesByHand(t *testing.T) {
	g, err := NewAdaptiveGaussian(1, 2, 4, 10, 800, 10)
	if err != nil {
		t.Fatal(err)
	}
	if g.Below != 20 || g.Above != 20 || g.Scale != 100 || g.Length(800) != 802 || g.Noised(800) != 801 {
		t.Errorf("%+v in %d words, want votes of 20 at a scale of 100 in 802", g, g.Length(800))
	}
	near := func(what string, got, want float64) {
		t.Helper()
		if math.Abs(got/want-1) > 1e-6 {
			t.Errorf("%s is %v, want %v", what, got, want)
		}
	}
	near("the norm", g.Norm(800), math.Sqrt(10_314.142135+400))
	near("σ", g.Sigma, 2*g.Norm(800)/2)
	// A vector costs 1/(2·2²), of which the vote has what a count of ±½ with such noise costs, with the noise of four
	// in units of the 40 that lie between two votes.
	vote := privacy.GaussianRho(0.5, 2*g.Sigma/40)
	update := 10_314.142135 / (2 * 4 * g.Sigma * g.Sigma)
	near("ρ of vote and update", vote+update, 0.125)
	near("ρ", privacy.SummedRho(g.Norm(800), 4, []float64{g.Sigma}, 801), 0.125)
	if worth := 2 * g.Sigma / 40; worth < 4 {
		t.Errorf("noise of %v votes, want at least twice the multiplier", worth)
	}

	// Large cohorts have a twentieth of them: 1,000/20 = 50 devices.
	g, err = NewAdaptiveGaussian(1, 9, 700, 1000, 16_000, 16)
	if err != nil {
		t.Fatal(err)
	}
	worth := math.Sqrt(700) * g.Sigma / float64(g.Below+g.Above)
	if g.Above != 4*g.Below || worth < 50 || worth > 70 {
		t.Errorf("%+v: noise of %v votes for a quantile of %v, want 50 and little more, for 0.8", g, worth, float64(g.Above)/float64(g.Below+g.Above))
	}
	if bare, err := NewDiscreteGaussian(1, 9, 700, 16_000); err != nil || g.Sigma/bare.Sigma > 1.02 {
		t.Errorf("σ %v in place of %v, %v; want 2%% more at most", g.Sigma, bare.Sigma, err)
	}
}

func TestWhatDevicesVote(t *testing.T) {
	g, err := NewAdaptiveGaussian(1, 2, 4, 10, 800, 16)
	if err != nil {
		t.Fatal(err)
	}
	if g.Below*4 != g.Above {
		t.Errorf("votes of %d and −%d for a quantile of 0.8", g.Below, g.Above)
	}
	g.Sigma = 0 // so that votes can be seen
	for _, tc := range []struct {
		first float32
		want  int
	}{{0, 0}, {0.5, g.Below}, {1, g.Below}, {1.0001, -g.Above}, {100, -g.Above}} {
		words, update := make([]uint32, g.Length(800)), make([]float32, 800)
		update[0] = tc.first
		if err := g.Encode(words, update, [32]byte{}, [32]byte{}); err != nil {
			t.Fatal(err)
		}
		if got := int(int32(words[800])); got != tc.want || words[801] != 1 {
			t.Errorf("norm %v: vote %d and weight %d, want %d and 1", tc.first, got, words[801], tc.want)
		}
	}
}

func TestNextClipByHand(t *testing.T) {
	g := DiscreteGaussian{Clip: 1, Below: 20, Above: 20}
	skewed := DiscreteGaussian{Clip: 1, Below: 8, Above: 32} // for a quantile of 0.8
	for _, tc := range []struct {
		of    DiscreteGaussian
		votes int64
		want  float64
	}{
		{g, 0, 1}, {g, 200, 0.904837}, {g, -200, 1.105171}, // e^∓0.1
		{g, 100, 0.951229},                                // three quarters keep to it: e^−0.05
		{g, 1 << 40, 0.904837}, {g, -(1 << 40), 1.105171}, // more than ten devices can say
		{skewed, 80, 0.960789}, {skewed, -320, 1.173511}, // e^−0.04 and e^0.16
		{skewed, 8*8 - 2*32, 1}, {skewed, math.MaxInt64, .96079}, // four in five keep to it
	} {
		if got := float64(tc.of.NextClip(1, tc.votes, 10)); math.Abs(got-tc.want) > 1e-5 {
			t.Errorf("votes of %d and −%d that add up to %d: a clip of %v, want %v", tc.of.Below, tc.of.Above, tc.votes, got, tc.want)
		}
	}
	for votes, want := range map[int64]float32{math.MinInt64: 1024, math.MaxInt64: 1. / 1024} {
		h := g
		for range 1000 {
			h.Clip = h.NextClip(1, votes, 10)
		}
		if h.Clip != want {
			t.Errorf("a thousand rounds of hostile sums make a clip of %v, want %v", h.Clip, want)
		}
	}
}

// TestWorstVotesFit sums the loudest votes of as many devices as a ring is for, with the
// most noise that there is room for on top.
func TestWorstVotesFit(t *testing.T) {
	for _, n := range []int{3, 20, 1000} {
		for _, parts := range []int{1, 10, 19} {
			g, err := NewAdaptiveGaussian(0.5, 2, max(n*7/10, 1), n, 400, parts)
			if err != nil {
				t.Fatal(err)
			}
			l := Layout{Noise: g, Parameters: 400}
			ring := l.RingBits(n)
			if err := l.Fits(n, ring); err != nil {
				t.Error(err)
			}
			if g.loudest() > g.Norm(400) {
				t.Errorf("a vote of %v above the norm, %v, for which there is room", g.loudest(), g.Norm(400))
			}
			for _, vote := range []int64{int64(g.Below), -int64(g.Above)} {
				sign := int64(1)
				if vote < 0 {
					sign = -1
				}
				worst := int64(n)*vote + sign*int64(9*math.Sqrt(float64(n))*g.Sigma)
				words, total := make([]uint32, l.Length()), make([]int64, l.Length())
				words[400], words[401] = uint32(worst)&(1<<ring-1), uint32(n)
				Lift(total, words, l.Signed(), ring)
				if l.Votes(total) != worst || l.Weight(total) != int64(n) {
					t.Errorf("%d devices: votes of %d are read as %d, %d devices", n, worst, l.Votes(total), l.Weight(total))
				}
			}
		}
	}
}

// TestClipComesToTheQuantile runs rounds of updates of known norms from a clip ten times too
// small and ten times too large, through encodings, noise and the ring. A quarter of the
// devices have nothing to send, and say nothing.
func TestClipComesToTheQuantile(t *testing.T) {
	const devices, rounds, seed = 200, 140, 21
	random := rand.New(rand.NewPCG(seed, 1))
	norms := make([]float64, devices*3/4)
	for i := range norms {
		norms[i] = 0.4 * math.Exp(0.5*random.NormFloat64())
	}
	slices.Sort(norms)
	for _, parts := range []int{10, 16} {
		truth := norms[len(norms)*parts/20]
		for _, factor := range []float64{0.1, 10} {
			first := float32(truth * factor)
			g, err := NewAdaptiveGaussian(first, 1, 140, devices, 20, parts)
			if err != nil {
				t.Fatal(err)
			}
			scaled, l, late := g.Scale*float64(g.Clip), Layout{Noise: g, Parameters: 20}, 0.0
			ring := l.RingBits(devices)
			words, update := make([]uint32, l.Length()), make([]float32, 20)
			for round := range rounds {
				sum, total := make([]uint32, l.Length()), make([]int64, l.Length())
				for i := range devices {
					update[3] = 0
					if i < len(norms) {
						update[3] = float32(norms[i])
					}
					own := [32]byte{byte(round), byte(i), byte(parts), byte(factor)}
					if err := g.Encode(words, update, own, own); err != nil {
						t.Fatal(err)
					}
					for j, w := range words {
						sum[j] += w
					}
				}
				Lift(total, sum, l.Signed(), ring)
				g.Clip = g.NextClip(first, l.Votes(total), devices)
				g.Scale = scaled / float64(g.Clip)
				if round >= rounds-20 {
					late += float64(g.Clip) / 20
				}
			}
			if math.Abs(math.Log(late/truth)) > 0.15 {
				t.Errorf("seed %d: from %v the clip comes to %.3f, want %.3f, which %d of 20 updates keep to", seed, first, late, truth, parts)
			}
			t.Logf("from %.3f to %.3f, of %.3f", first, late, truth)
		}
	}
}

func TestVotesThatCannotBe(t *testing.T) {
	for _, parts := range []int{0, 20, -1} {
		if _, err := NewAdaptiveGaussian(1, 1, 4, 10, 100, parts); err == nil || !strings.Contains(err.Error(), "want 1 to 19") {
			t.Errorf("a quantile of %d twentieths: %v", parts, err)
		}
	}
	good := DiscreteGaussian{Clip: 1, Scale: 100, Sigma: 50, Below: 20, Above: 20}
	for _, v := range [][2]int{{0, 1}, {1, 0}, {-1, 1}, {1, 1<<22 + 1}} {
		g := good
		g.Below, g.Above = v[0], v[1]
		if err := g.Fits(10, 100, 30); err == nil || !strings.Contains(err.Error(), "want 1 to 4194304 of both") {
			t.Errorf("votes of %v: %v", v, err)
		}
	}
}
