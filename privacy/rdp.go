package privacy

import "math"

// RDPEpsilon is the ε at δ of a mechanism whose Rényi divergence of order alpha is rdp:
//
//	rdp + ln(1−1/α) − ln(δα)/(α−1)
//
// (Canonne, Kamath, Steinke 2020, Proposition 12; Balle et al. 2020, "Hypothesis testing
// interpretations and Rényi differential privacy", Theorem 21), or 0 where that is below
// 0. Orders of 1.01 and below bound nothing here.
func RDPEpsilon(alpha, rdp, delta float64) float64 {
	if !sensible(alpha, rdp, delta) || delta == 0 || alpha < minOrder {
		return math.Inf(1)
	}
	if delta >= 1 {
		return 0
	}
	return max(0, rdp-math.Log(delta)/(alpha-1)+(math.Log1p(-1/alpha)-math.Log(alpha)/(alpha-1)))
}

// BestEpsilon is the least [RDPEpsilon] over the orders alphas, at each of which rdp
// tells the divergence, and the order that it is found at. Without an order it is +Inf.
func BestEpsilon(alphas []float64, rdp func(alpha float64) float64, delta float64) (epsilon, order float64) {
	epsilon = math.Inf(1)
	for _, alpha := range alphas {
		if e := RDPEpsilon(alpha, rdp(alpha), delta); e < epsilon {
			epsilon, order = e, alpha
		}
	}
	return epsilon, order
}
