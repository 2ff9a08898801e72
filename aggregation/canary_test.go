package aggregation

import (
	"testing"

	"github.com/discreet-fl/discreet/privacy"
	"github.com/discreet-fl/discreet/privacy/audit"
)

// A canary is a device whose update somebody knows, and who wants to find out from a sum
// whether it is in it. He knows every other device's update, and all noise but that of the
// honest; what he sees is the decoded sum. This is the strongest attack that the promise is
// about, and how far it gets bounds ε from below; package simulate has one that trains.
type canary struct {
	mechanism DiscreteGaussian
	honest    int
	update    []float32
	noisy     bool // whether devices add noise
}

// score is what he thinks of one sum: the decoded sum along the canary's direction, in
// clips, which is 1 with the canary in it and 0 without, but for noise and rounding.
func (c canary) score(t *testing.T, in bool, trial int) float64 {
	t.Helper()
	d, g := len(c.update), c.mechanism
	sum, words := make([]uint32, g.Length(d)), make([]uint32, g.Length(d))
	for i := range c.honest {
		update := make([]float32, d) // he has taken the others' off
		if i == 0 && in {
			update = c.update
		}
		seed := [32]byte{byte(trial), byte(trial >> 8), byte(i), 1}
		if in {
			seed[4] = 1
		}
		if c.noisy {
			noising := seed
			noising[5] = 1
			if err := g.Encode(words, update, seed, noising); err != nil {
				t.Fatal(err)
			}
		} else {
			g.round(words[:d], update, g.Scale, seed)
			words[d] = 1
		}
		for j, w := range words {
			sum[j] += w
		}
	}
	mean := make([]float32, d)
	n, err := g.Decode(mean, lifted(g.RingBits(c.honest, d), sum))
	if err != nil {
		t.Fatal(err)
	}
	var dot, square float64
	for j, u := range c.update {
		dot, square = dot+float64(u)*float64(mean[j]), square+float64(u)*float64(u)
	}
	return dot * float64(n) / square
}

// lowerBound attacks so many sums with the canary and as many without.
func (c canary) lowerBound(t *testing.T, trials int, delta float64) float64 {
	t.Helper()
	scores := map[bool][]float64{}
	for _, in := range []bool{true, false} {
		for trial := range trials {
			scores[in] = append(scores[in], c.score(t, in, trial))
		}
	}
	return audit.Epsilon(scores[true], scores[false], delta)
}

// TestCanaryStaysHidden attacks the mechanism at ε = 2, with an update in one coordinate and
// with one over all of them. With noise the attack must not prove more than was claimed;
// without it, it must: otherwise it would prove nothing.
func TestCanaryStaysHidden(t *testing.T) {
	const epsilon, delta, honest, d, trials = 2, 1e-6, 4, 16, 2000
	charge, err := privacy.PerRound(epsilon, delta, 1)
	if err != nil {
		t.Fatal(err)
	}
	g, err := NewDiscreteGaussian(1, charge.Multiplier(), honest, d)
	if err != nil {
		t.Fatal(err)
	}
	if claimed := privacy.Epsilon(privacy.SummedRho(g.Norm(d), honest, []float64{g.Sigma}, d), delta); claimed > epsilon || claimed < 1.99 {
		t.Fatalf("the mechanism claims ε %v, want little below %d", claimed, epsilon)
	}
	spike, flat := make([]float32, d), make([]float32, d)
	spike[3] = 1
	for i := range flat {
		flat[i] = 0.25
	}
	for name, update := range map[string][]float32{"spike": spike, "flat": flat} {
		t.Run(name, func(t *testing.T) {
			c := canary{mechanism: g, honest: honest, update: update, noisy: true}
			with := c.lowerBound(t, trials, delta)
			c.noisy = false
			without := c.lowerBound(t, trials, delta)
			t.Logf("ε is %.2f at least with noise, of %d claimed, and %.2f without", with, epsilon, without)
			if with > epsilon {
				t.Errorf("the attack proves an ε of %v, more than the %d that is claimed", with, epsilon)
			}
			if without <= epsilon {
				t.Errorf("without noise the attack proves no more than an ε of %v", without)
			}
		})
	}
}
