package privacy

import "math"

// MinLocalSigma is the least standard deviation of a device's own noise, in whole units,
// that sums of discrete Gaussians are relied on for: from there on such a sum is as good
// as one discrete Gaussian, to far below what a number can tell.
const MinLocalSigma = 4

// RoundedNorm is Δ̃₂, the largest L2 norm of an update in whole units: of d coordinates,
// clipped so that their norm is at most scaled, then rounded stochastically again and
// again until the norm is at most Δ̃₂. It is the square root of
//
//	min{(scaled+√d)², scaled² + d/4 + √(2·ln(1/β))·(scaled + √d/2)}
//
// (Kairouz, Liu, Steinke 2021, "The distributed discrete Gaussian mechanism for federated
// learning with secure aggregation", Algorithm 1), at β = e^−½, where the root of the
// logarithm is 1 and a try fails with a probability of at most β.
func RoundedNorm(scaled float64, d int) float64 {
	if !sensible(scaled) || d < 0 {
		return math.Inf(1)
	}
	root := math.Sqrt(float64(d))
	certain := scaled + root
	return min(certain, math.Sqrt(scaled*scaled+float64(d)/4+scaled+root/2))
}

// DistributedRho is ρ of one sum of integer vectors of dimension d and L2 norm of at most
// norm, to which at least honest devices each added discrete Gaussian noise N_Z(0,
// sigma²) of their own in every coordinate (Kairouz, Liu, Steinke 2021, Theorem 1 and
// Proposition 14):
//
//	½·min{Δ̃₂²/(t·σ²) + 2τd, (Δ̃₂/(√t·σ) + τ√d)²},  τ = 10·Σ_{k=1}^{t−1} exp(−2π²σ²·k/(k+1))
//
// Below [MinLocalSigma] it is +Inf: there sums of discrete Gaussians are not relied on.
// Above, τ is below 10·t·e^−157.
func DistributedRho(norm float64, honest int, sigma float64, d int) float64 {
	if !sensible(norm, sigma) || honest < 1 || d < 0 || sigma < MinLocalSigma {
		return math.Inf(1)
	}
	ratio := norm / (math.Sqrt(float64(honest)) * sigma)
	tau := discreteExcess(honest, sigma)
	apart := ratio + tau*math.Sqrt(float64(d))
	return min(ratio*ratio+2*tau*float64(d), apart*apart) / 2
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

// LocalSigma is the standard deviation of a device's own noise, in whole units, at which
// a sum with so many honest devices costs ρ, the τ term left out: norm/√(2·honest·ρ),
// but no less than [MinLocalSigma].
func LocalSigma(norm float64, honest int, rho float64) float64 {
	if !sensible(norm, rho) || honest < 1 || rho == 0 {
		return math.Inf(1)
	}
	return max(MinLocalSigma, norm/math.Sqrt(2*float64(honest)*rho))
}
