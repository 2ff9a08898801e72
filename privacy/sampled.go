package privacy

import "math"

// SampledGaussianRDP is the Rényi divergence of order alpha of Gaussian noise of sigma
// times the sensitivity, on the sum of a sample that every device is in with probability
// q, by itself and in secret (Mironov, Talwar, Zhang 2019, "Rényi differential privacy of
// the sampled Gaussian mechanism"). For whole orders it is ln(A)/(α−1) with
//
//	A = Σ_i C(α,i)·(1−q)^(α−i)·q^i·e^((i²−i)/(2σ²))
//
// (Section 3.3, equation 6) and for others with two infinite series, of signed binomials
// (Section 3.3).
//
// It is for comparing with others' figures. A coordinator knows who took part in its
// rounds, and rounds of its own choice are no sample, so that no guarantee of this
// software comes from here.
func SampledGaussianRDP(alpha, q, sigma float64) float64 {
	if !sensible(alpha, q, sigma) || sigma == 0 || alpha <= 1 || q > 1 {
		return math.Inf(1)
	}
	switch {
	case q == 0:
		return 0
	case q == 1:
		return alpha * GaussianRho(1, sigma)
	case alpha == math.Trunc(alpha):
		return sampledWhole(int(alpha), q, sigma) / (alpha - 1)
	}
	return max(0, sampledFraction(alpha, q, sigma)) / (alpha - 1)
}

// sampledWhole is ln A of a whole order. The binomials without the exponential add up to
// 1, so that A−1 is a sum of what the exponential adds to each: none for i = 0 and 1, and
// positive for the others. So it keeps its digits where A is nearly 1.
func sampledWhole(alpha int, q, sigma float64) float64 {
	var above logSum
	binomial := 0.0 // ln C(α,i)
	for i := 1; i <= alpha; i++ {
		binomial += math.Log(float64(alpha-i+1) / float64(i))
		if i == 1 {
			continue
		}
		exponent := float64(i) * float64(i-1) / 2 / sigma / sigma
		if math.IsInf(exponent, 1) {
			return exponent
		}
		above.add(binomial+float64(i)*math.Log(q)+float64(alpha-i)*math.Log1p(-q)+logExpm1(exponent), 1)
	}
	return logOnePlus(above.log())
}

// sampledFraction is ln A of a fractional order: the integral of A is split at z₀, where
// both halves of the mixture weigh the same, and each part is developed in powers of the
// lighter half. From i > α on the terms change their sign with each step and fall as
// i^−(α+2), so that the sum stops early, at half of the last term.
func sampledFraction(alpha, q, sigma float64) float64 {
	z0 := sigma*sigma*(math.Log1p(-q)-math.Log(q)) + 0.5
	var a, last logSum
	binomial, sign := 0.0, 1.0 // C(α,i) as logarithm and sign
	for i := 0.0; i < 1e6; i++ {
		j := alpha - i
		low := i*math.Log(q) + j*math.Log1p(-q) + i*(i-1)/2/sigma/sigma + logErfc((i-z0)/(math.Sqrt2*sigma))
		high := j*math.Log(q) + i*math.Log1p(-q) + j*(j-1)/2/sigma/sigma + logErfc((z0-j)/(math.Sqrt2*sigma))
		if math.IsInf(low, 1) || math.IsInf(high, 1) || math.IsNaN(low) || math.IsNaN(high) {
			return math.Inf(1)
		}
		last = logSum{}
		for _, part := range []float64{low, high} {
			last.add(binomial+part-math.Ln2, sign)
			a.add(binomial+part-math.Ln2, sign)
		}
		if i > alpha && math.Log(math.Abs(last.sum))+last.max < a.log()-28 {
			break
		}
		if j < 0 {
			sign = -sign
		}
		binomial += math.Log(math.Abs(j)) - math.Log(i+1)
	}
	a.add(last.max+math.Log(math.Abs(last.sum))-math.Ln2, -math.Copysign(1, last.sum))
	return a.log()
}

// logSum adds up signed numbers of which the logarithms are known: its sum is
// e^max·sum.
type logSum struct {
	max, sum float64
	begun    bool
}

func (s *logSum) add(log, sign float64) {
	switch {
	case math.IsInf(log, -1):
	case !s.begun || log > s.max:
		if s.begun {
			s.sum *= math.Exp(s.max - log)
		}
		s.max, s.begun = log, true
		s.sum += sign
	default:
		s.sum += sign * math.Exp(log-s.max)
	}
}

// log is the logarithm of the sum; −Inf where it is 0 or less.
func (s *logSum) log() float64 {
	if !s.begun || s.sum <= 0 {
		return math.Inf(-1)
	}
	return s.max + math.Log(s.sum)
}

// logExpm1 is ln(e^x − 1) for x > 0.
func logExpm1(x float64) float64 {
	if x > 1 {
		return x + math.Log1p(-math.Exp(-x))
	}
	return math.Log(math.Expm1(x))
}

// logOnePlus is ln(1 + e^x).
func logOnePlus(x float64) float64 {
	if x > 0 {
		return x + math.Log1p(math.Exp(-x))
	}
	return math.Log1p(math.Exp(x))
}
