package privacy

import "math"

// MinLocalSigma is the least standard deviation of a device's own noise, in whole units,
// that sums of discrete Gaussians are relied on for: from there on such a sum is as good
// as one discrete Gaussian, to far below what a number can tell.
const MinLocalSigma = 4

// DistributedRho is ρ of one sum of integer vectors of dimension d and L2 norm of at most
// norm, Δ̃₂, to which at least honest devices each added discrete Gaussian noise N_Z(0,
// sigma²) of their own in every coordinate (Kairouz, Liu, Steinke 2021, "The distributed
// discrete Gaussian mechanism for federated learning with secure aggregation", Theorem 1
// and Proposition 14):
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
