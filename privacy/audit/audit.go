// Package audit bounds from below what a mechanism gives away, by how well an attack tells
// two cases apart. It is for tests: a bound above what is claimed proves the claim wrong,
// one below it proves nothing; the proofs are in package privacy. Begin with [Epsilon].
package audit

import (
	"math"
	"slices"
)

// Epsilon is a lower bound on the ε, at δ, of a mechanism that an attack was made on many
// times with somebody in it and as many times without, given a score of each trial, which
// is to be larger where he is in. It holds with a confidence of 97.5%. The first half of
// either choose the threshold, the others are counted (Jagielski, Ullman, Oprea 2020,
// "Auditing differentially private machine learning").
func Epsilon(in, out []float64, delta float64) float64 {
	half := min(len(in), len(out)) / 2
	threshold := choose(in[:half], out[:half])
	in, out = in[half:], out[half:]
	// Two bounds that both hold with 98.75%; and the same with in and out exchanged.
	hit, clear := atLeast(above(in, threshold), len(in)), atLeast(len(out)-above(out, threshold), len(out))
	return max(0, math.Log((hit-delta)/(1-clear)), math.Log((clear-delta)/(1-hit)))
}

// choose is the threshold that tells these best apart.
func choose(in, out []float64) (threshold float64) {
	in, out = slices.Sorted(slices.Values(in)), slices.Sorted(slices.Values(out))
	n, best := len(in), math.Inf(-1)
	odds := func(a, b int) float64 { return math.Log(float64(a+10) / float64(b+10)) } // wary of rare events
	for _, s := range slices.Concat(in, out) {
		hits, misses := n-notAbove(in, s), n-notAbove(out, s)
		if o := max(odds(hits, misses), odds(n-misses, n-hits)); o > best {
			best, threshold = o, s
		}
	}
	return threshold
}

// notAbove is how many of the scores, which ascend, are at most s.
func notAbove(scores []float64, s float64) int {
	n, _ := slices.BinarySearchFunc(scores, s, func(x, s float64) int {
		if x > s {
			return 1
		}
		return -1
	})
	return n
}

func above(scores []float64, threshold float64) (n int) {
	for _, s := range scores {
		if s > threshold {
			n++
		}
	}
	return n
}

// atLeast is the lower end of the one-sided 98.75% interval of Clopper and Pearson (1934)
// for a probability, of which k of n trials came true: where as many or more do with 1.25%.
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
