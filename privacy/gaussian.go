package privacy

import "math"

// GaussianDelta is the exact δ at ε of Gaussian noise of which the sensitivity is mu
// standard deviations (Balle, Wang 2018, "Improving the Gaussian mechanism for
// differential privacy", Theorem 8):
//
//	Φ(μ/2 − ε/μ) − e^ε·Φ(−μ/2 − ε/μ)
//
// What is ρ-zCDP by way of Gaussian noise has mu = √(2ρ), over any number of rounds.
func GaussianDelta(mu, epsilon float64) float64 {
	if !sensible(mu, epsilon) {
		return 1
	}
	if mu == 0 {
		return 0
	}
	// With Φ(x) = ½·erfc(−x/√2), and e^ε = e^(b²−a²), which would overflow by itself.
	a := (epsilon/mu - mu/2) / math.Sqrt2
	b := (epsilon/mu + mu/2) / math.Sqrt2
	tail := math.Exp(-a*a) * erfcx(b)
	if a <= 0 {
		return min(1, max(0, (math.Erfc(a)-tail)/2))
	}
	return max(0, math.Exp(-a*a)*(erfcx(a)-erfcx(b))/2)
}

// GaussianEpsilon is the exact ε at δ of Gaussian noise of which the sensitivity is mu
// standard deviations: where [GaussianDelta] is δ, to the last digits of a number, on the
// safe side.
func GaussianEpsilon(mu, delta float64) float64 {
	if !sensible(mu, delta) || delta == 0 {
		return math.Inf(1)
	}
	if GaussianDelta(mu, 0) <= delta {
		return 0
	}
	low, high := 0.0, max(1, mu*mu)
	for GaussianDelta(mu, high) > delta {
		low, high = high, 2*high
		if math.IsInf(high, 1) {
			return high
		}
	}
	for range 200 {
		epsilon := low + (high-low)/2
		if epsilon == low || epsilon == high {
			break
		}
		if GaussianDelta(mu, epsilon) > delta {
			low = epsilon
		} else {
			high = epsilon
		}
	}
	return high
}

// erfcx is e^(x²)·erfc(x) for x ≥ 0, which does not vanish where erfc does.
func erfcx(x float64) float64 {
	if x < 20 {
		return math.Exp(x*x) * math.Erfc(x)
	}
	// 1/(x√π)·(1 − 1/(2x²) + 1·3/(2x²)² − …), whose tenth term is far below an ulp of 1.
	term, sum := 1.0, 1.0
	for k := 1.0; k < 20; k += 2 {
		term *= -k / (2 * x * x)
		sum += term
	}
	return sum / (x * math.SqrtPi)
}

// logErfc is ln erfc(x), also where erfc vanishes.
func logErfc(x float64) float64 {
	if x < 1 {
		return math.Log(math.Erfc(x))
	}
	return math.Log(erfcx(x)) - x*x
}
