package aggregation

import (
	"math"
	"slices"
	"testing"

	"github.com/discreet-fl/discreet/privacy"
)

// A canary is a device whose update somebody knows, and who wants to find out from a sum
// whether it is in it. He knows every other device's update, and all noise but that of the
// honest; what he sees is the decoded sum. This is the strongest attack that the promise is
// about, and how far it gets bounds ε from below (Jagielski, Ullman, Oprea 2020, "Auditing
// differentially private machine learning").
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

// lowerBound attacks so many sums with the canary and as many without. Half of them choose
// the threshold, the others give the ε at δ that the mechanism has at least, with 97.5%
// confidence.
func (c canary) lowerBound(t *testing.T, trials int, delta float64) float64 {
	t.Helper()
	scores := map[bool][]float64{}
	for _, in := range []bool{true, false} {
		for trial := range trials {
			scores[in] = append(scores[in], c.score(t, in, trial))
		}
	}
	above := func(in bool, from, to int, threshold float64) (n int) {
		for _, s := range scores[in][from:to] {
			if s > threshold {
				n++
			}
		}
		return n
	}
	half := trials / 2
	odds := func(a, b int) float64 { return math.Log(float64(a+10) / float64(b+10)) } // wary of rare events
	best, threshold := math.Inf(-1), 0.0
	for _, s := range slices.Concat(scores[true][:half], scores[false][:half]) {
		hits, misses := above(true, 0, half, s), above(false, 0, half, s)
		if o := max(odds(hits, misses), odds(half-misses, half-hits)); o > best {
			best, threshold = o, s
		}
	}
	// Two bounds that both hold with 97.5%; and the same with in and out exchanged.
	n := trials - half
	hit, clear := atLeast(above(true, half, trials, threshold), n), atLeast(n-above(false, half, trials, threshold), n)
	bound := max(math.Log((hit-delta)/(1-clear)), math.Log((clear-delta)/(1-hit)))
	return max(0, bound)
}

// atLeast is the lower end of the one-sided 98.75% interval of Clopper and Pearson for a
// probability, of which k of n trials came true: where as many or more do with 1.25%.
func atLeast(k, n int) float64 {
	if k == 0 {
		return 0
	}
	low, high := 0.0, float64(k)/float64(n)
	for range 60 {
		p := (low + high) / 2
		if tail(k, n, p) < 0.0125 {
			low = p
		} else {
			high = p
		}
	}
	return low
}

// tail is the probability of k or more of n, each of probability p.
func tail(k, n int, p float64) (sum float64) {
	all, _ := math.Lgamma(float64(n + 1))
	for i := k; i <= n; i++ {
		a, _ := math.Lgamma(float64(i + 1))
		b, _ := math.Lgamma(float64(n - i + 1))
		sum += math.Exp(all - a - b + float64(i)*math.Log(p) + float64(n-i)*math.Log1p(-p))
	}
	return sum
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
	if claimed := privacy.Epsilon(privacy.DistributedRho(g.Norm(d), honest, g.Sigma, d), delta); claimed > epsilon || claimed < 1.99 {
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
