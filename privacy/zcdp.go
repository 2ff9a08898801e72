package privacy

import "math"

// minOrder is the lowest order α that conversions look at. Below it they would lose
// digits; a minimum over fewer orders is still a bound.
const minOrder = 1.01

// sensible tells whether all numbers are finite and not negative.
func sensible(numbers ...float64) bool {
	for _, x := range numbers {
		if !(x >= 0) || math.IsInf(x, 0) {
			return false
		}
	}
	return true
}

// Epsilon is the ε at δ of what is ρ-zCDP: the least over the orders α > 1.01 of
//
//	ρα + ln(1−1/α) − ln(δα)/(α−1)
//
// (Canonne, Kamath, Steinke 2020, "The discrete Gaussian for differential privacy",
// Proposition 12), or 0. It has one minimum, where ρ(α−1)² = −ln(δα). A δ of 1 or more
// allows everything, so that ε is 0.
func Epsilon(rho, delta float64) float64 {
	if !sensible(rho, delta) || delta == 0 {
		return math.Inf(1)
	}
	if delta >= 1 {
		return 0
	}
	// The minimum is sought over x = ln(α−1), as α may come near 1/δ.
	low, high := math.Log(minOrder-1), math.Log(1/delta)
	for range 100 {
		x := (low + high) / 2
		above := math.Exp(x)
		if rho*above*above+math.Log(delta)+math.Log1p(above) < 0 {
			low = x
		} else {
			high = x
		}
	}
	above := math.Exp(low)
	return RDPEpsilon(1+above, rho*(1+above), delta)
}

// Rho is the largest ρ whose [Epsilon] at δ is at most ε, to the last digits of a number,
// on the safe side. It is 0 where ε or δ make no sense.
func Rho(epsilon, delta float64) float64 {
	if !sensible(epsilon, delta) || delta == 0 || delta >= 1 {
		return 0
	}
	low, high := 0.0, 1.0
	for Epsilon(high, delta) <= epsilon {
		low, high = high, 2*high
	}
	for range 200 {
		rho := (low + high) / 2
		if low > 0 && high > 4*low {
			rho = math.Sqrt(low) * math.Sqrt(high)
		}
		if rho == low || rho == high {
			break
		}
		if Epsilon(rho, delta) <= epsilon {
			low = rho
		} else {
			high = rho
		}
	}
	return low
}

// GaussianRho is ρ of Gaussian noise of standard deviation sigma on a sum that one device
// changes by at most sensitivity, in L2 norm: sensitivity²/(2·sigma²) (Bun, Steinke 2016,
// Proposition 1.6). The discrete Gaussian on integers has the same for a change by
// integers (Canonne, Kamath, Steinke 2020, Theorem 4).
func GaussianRho(sensitivity, sigma float64) float64 {
	if !sensible(sensitivity, sigma) || sigma == 0 {
		return math.Inf(1)
	}
	ratio := sensitivity / sigma
	return ratio * ratio / 2
}
