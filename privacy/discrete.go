package privacy

import "math"

// MinLocalSigma is the least standard deviation of a device's own noise, in whole units,
// that sums of discrete Gaussians are relied on for: from there on such a sum is as good
// as one discrete Gaussian, to far below what a number can tell.
const MinLocalSigma = 4

// SummedRho is ρ of one sum of integer vectors of dimension d and L2 norm of at most
// norm, Δ̃₂, to which at least honest devices each added discrete Gaussian noises of their
// own in every coordinate, independent of each other, of these standard deviations (Kairouz,
// Liu, Steinke 2021, "The distributed discrete Gaussian mechanism for federated learning
// with secure aggregation", Theorem 1 and Proposition 14):
//
//	½·min{Δ̃₂²/(t·σ²) + 2τd, (Δ̃₂/(√t·σ) + τ√d)²},  τ = 10·Σ_{k=1}^{m−1} exp(−2π²σ_min²·k/(k+1))
//
// with t honest devices, σ² the sum of the squares of what each adds, and m noises in all,
// the least of them of σ_min. With one below [MinLocalSigma] it is +Inf: there sums of
// discrete Gaussians are not relied on. Above, τ is below 10·m·e^−157.
//
// The paper has it for equal noises; here is why it holds for all. The probability of x under
// N_Z(0, v) + N_Z(0, w) is in proportion to
// exp(−x²/2(v+w)) times the sum of exp(−(k−cx)²/2s²) over all whole k, with s² = vw/(v+w) and
// c = v/(v+w), which by Poisson's summation formula lies within √(2π)·s·(1 ± q), q =
// 2·Σ_{j≥1} exp(−2π²s²j²). Both it and N_Z(0, v+w) add up to 1, so that their probabilities differ
// by a factor of (1+q)/(1−q) at most, which from s² of 1 on is below exp(5·exp(−2π²s²)). More
// independent noise on both leaves that so. When the next noise is added to the sum of k, s² is no
// less than σ_min²·k/(k+1), as it grows with v and w. In all that is τ/2, and twice that where
// the probabilities of two data sets are compared.
func SummedRho(norm float64, honest int, sigmas []float64, d int) float64 {
	if !sensible(norm) || !sensible(sigmas...) || honest < 1 || d < 0 || len(sigmas) == 0 {
		return math.Inf(1)
	}
	square, least := 0.0, math.Inf(1)
	for _, s := range sigmas {
		square, least = square+s*s, min(least, s)
	}
	if least < MinLocalSigma {
		return math.Inf(1)
	}
	ratio := norm / (math.Sqrt(float64(honest)) * math.Sqrt(square))
	tau := discreteExcess(honest*len(sigmas), least)
	apart := ratio + tau*math.Sqrt(float64(d))
	return min(ratio*ratio+2*tau*float64(d), apart*apart) / 2
}

// LevelledRho is the most that a sum costs of noise in levels: there are at least honest[i]
// devices in one that the noise of sigmas[i:] of each is left in ([SummedRho]).
func LevelledRho(norm float64, honest []int, sigmas []float64, d int) float64 {
	if len(honest) == 0 || len(honest) != len(sigmas) {
		return math.Inf(1)
	}
	most := 0.0
	for i, n := range honest {
		most = max(most, SummedRho(norm, n, sigmas[i:], d))
	}
	return most
}

// discreteExcess is τ, by which a sum of n discrete Gaussians differs from one: the term
// of k = n−1 at most falls short of the first, so that few are worth adding.
func discreteExcess(n int, sigma float64) float64 {
	tau := 0.0
	for k := 1; k < n; k++ {
		term := math.Exp(-2 * math.Pi * math.Pi * sigma * sigma * float64(k) / float64(k+1))
		tau += term
		if term < 1e-17*tau {
			return 10 * (tau + term*float64(n-1-k)) // all further ones are smaller
		}
	}
	return 10 * tau
}
