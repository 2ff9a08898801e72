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
	return convert(alpha, rdp, delta, math.Log1p(-1/alpha)-math.Log(alpha)/(alpha-1))
}

// ClassicEpsilon is the older and larger rdp − ln δ/(α−1) (Mironov 2017, "Rényi
// differential privacy", Proposition 3).
func ClassicEpsilon(alpha, rdp, delta float64) float64 { return convert(alpha, rdp, delta, 0) }

// convert is rdp − ln δ/(α−1) with what a sharper proof takes off it.
func convert(alpha, rdp, delta, less float64) float64 {
	if !sensible(alpha, rdp, delta) || delta == 0 || alpha < minOrder {
		return math.Inf(1)
	}
	if delta >= 1 {
		return 0
	}
	return max(0, rdp-math.Log(delta)/(alpha-1)+less)
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

// DiscreteGaussianRDP bounds the Rényi divergence of order alpha of discrete Gaussian
// noise N_Z(0, sigma²) on integers, of which one device changes the sum by at most
// sensitivity, in L2 norm: α·sensitivity²/(2·sigma²) (Canonne, Kamath, Steinke 2020,
// Proposition 5). It is reached at every whole sensitivity.
func DiscreteGaussianRDP(alpha, sensitivity, sigma float64) float64 {
	if !(alpha > 1) {
		return math.Inf(1)
	}
	return alpha * GaussianRho(sensitivity, sigma)
}

// SkellamRDP bounds the Rényi divergence of order alpha of Skellam noise of the given
// variance on integers, of which one device changes the sum by at most l1 in L1 and l2 in
// L2 norm (Agarwal, Kairouz, Liu 2021, "The Skellam mechanism for differentially private
// federated learning", Corollary 3.6, at scale 1):
//
//	α·l2²/(2v) + min(((2α−1)·l2² + 6·l1)/(4v²), 3·l1/(2v))
//
// for whole orders of 2 and more; a fractional order has the bound of the next whole one,
// as the divergence grows with it.
func SkellamRDP(alpha, l1, l2, variance float64) float64 {
	if !sensible(alpha, l1, l2, variance) || variance == 0 || alpha <= 1 {
		return math.Inf(1)
	}
	alpha = math.Ceil(alpha)
	share := l2 * l2 / variance
	rest := min(((2*alpha-1)*share+6*l1/variance)/(4*variance), 3*l1/(2*variance))
	return alpha*share/2 + rest
}
