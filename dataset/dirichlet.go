package dataset

import (
	"math"
	"math/rand/v2"
)

// dirichlet fills p with one draw from the symmetric Dirichlet distribution:
// gamma variates of shape alpha, divided by their sum. They are kept as
// logarithms until then, because at a small alpha nearly all of them are below
// the smallest float64.
func dirichlet(rng *rand.Rand, alpha float64, p []float64) {
	most := math.Inf(-1)
	for i := range p {
		p[i] = logGamma(rng, alpha)
		most = max(most, p[i])
	}
	sum := 0.0
	for i := range p {
		p[i] = exp(p[i] - most)
		sum += p[i]
	}
	for i := range p {
		p[i] /= sum
	}
}

// logGamma draws the logarithm of a gamma variate of the given shape and scale
// one: G. Marsaglia and W. W. Tsang, "A Simple Method for Generating Gamma
// Variables", ACM TOMS 26(3), 2000, with their boost for shapes below one.
//
// Products are rounded by a conversion before they are added to, so that no
// compiler fuses the two and the draw has the same bits on every platform.
func logGamma(rng *rand.Rand, shape float64) float64 {
	boost := 0.0
	if shape < 1 {
		boost = log(uniform(rng)) / shape
		shape++
	}
	d := shape - 1.0/3
	c := 1 / math.Sqrt(float64(9*d))
	for {
		x := normal(rng)
		v := 1 + float64(c*x)
		if v <= 0 {
			continue
		}
		v = v * v * v
		logV := log(v)
		limit := float64(0.5*x*x) + d - float64(d*v) + float64(d*logV)
		if log(uniform(rng)) < limit {
			return log(d) + logV + boost
		}
	}
}

// normal draws a standard normal variate by Marsaglia's polar method. The
// generator's own NormFloat64 is not used: it goes through math.Exp and
// math.Log, which differ between platforms in the last bit.
func normal(rng *rand.Rand) float64 {
	for {
		x, y := float64(2*rng.Float64())-1, float64(2*rng.Float64())-1
		r := float64(x*x) + float64(y*y)
		if r > 0 && r < 1 {
			return x * math.Sqrt(-2*log(r)/r)
		}
	}
}

// uniform draws from the open interval (0, 1).
func uniform(rng *rand.Rand) float64 {
	for {
		if u := rng.Float64(); u > 0 {
			return u
		}
	}
}

// log is the natural logarithm of a positive number, to about 1e-15, with the
// same bits everywhere: x = 2^e·m with m near one, and
// log m = 2·artanh((m−1)/(m+1)) by its series.
func log(x float64) float64 {
	m, e := math.Frexp(x)
	if m < math.Sqrt2/2 {
		m *= 2
		e--
	}
	s := (m - 1) / (m + 1)
	square := float64(s * s)
	sum := 0.0
	for k := 25; k >= 1; k -= 2 {
		sum = float64(sum*square) + 1/float64(k)
	}
	return float64(float64(e)*math.Ln2) + float64(2*s*sum)
}

// exp is the exponential of x ≤ 0, likewise: x = k·ln 2 + r, and e^r by its
// series.
func exp(x float64) float64 {
	if x < -745 {
		return 0
	}
	k := math.Round(x / math.Ln2)
	r := x - float64(k*math.Ln2)
	sum := 1.0
	for n := 16; n >= 1; n-- {
		sum = float64(sum*r)/float64(n) + 1
	}
	return math.Ldexp(sum, int(k))
}
