package privacy

import (
	"math"
	"math/rand/v2"
	"testing"
)

// TestSummedRhoOfOneNoise compares with ρ = Δ̃₂²/(2tσ²), from which the τ term may only be
// seen where there is very little noise.
func TestSummedRhoOfOneNoise(t *testing.T) {
	draws(t, 100, func(r *rand.Rand) {
		norm, sigma := between(r, 1, 1e6), between(r, MinLocalSigma, 1e5)
		honest, d := 1+r.IntN(20000), 1+r.IntN(1<<20)
		want := norm * norm / (2 * float64(honest) * sigma * sigma)
		if got := SummedRho(norm, honest, []float64{sigma}, d); math.Abs(got-want) > 1e-9*want {
			t.Errorf("SummedRho(%v, %d, %v, %d) = %v, want %v", norm, honest, sigma, d, got, want)
		}
		if more := SummedRho(norm, honest+1, []float64{sigma}, d); more > want {
			t.Errorf("another honest device raises ρ from %v to %v", want, more)
		}
	})
	// The sum over all k, written out.
	const n, sigma = 50, 1.0
	tau := 0.0
	for k := 1; k < n; k++ {
		tau += 10 * math.Exp(-2*math.Pi*math.Pi*sigma*sigma*float64(k)/float64(k+1))
	}
	if got := discreteExcess(n, sigma); got < tau || got > tau*(1+1e-12) {
		t.Errorf("τ of %d devices is %v, want %v", n, got, tau)
	}
}

// TestDiscreteGaussianRho computes divergences of discrete Gaussian noise term by term: at order
// α they are at most α·ρ, and that much where α is whole.
func TestDiscreteGaussianRho(t *testing.T) {
	for _, sigma := range []float64{0.7, 1.5, 4} {
		for _, alpha := range []float64{1.5, 2, 8} {
			for _, shift := range []int{1, 3} {
				reach := 40 * (int(sigma) + 1)
				var weights, sum float64
				for x := -reach; x <= reach; x++ {
					weights += math.Exp(-float64(x*x) / (2 * sigma * sigma))
				}
				for x := -reach; x <= reach; x++ {
					a, b := float64(x-shift), float64(x)
					sum += math.Exp(-(alpha*a*a+(1-alpha)*b*b)/(2*sigma*sigma)) / weights
				}
				got, bound := math.Log(sum)/(alpha-1), alpha*GaussianRho(float64(shift), sigma)
				if got > bound*(1+1e-9) || alpha == math.Trunc(alpha) && got < bound*(1-1e-6) {
					t.Errorf("σ=%v, α=%v, shift %d: the divergence is %v, the bound %v", sigma, alpha, shift, got, bound)
				}
			}
		}
	}
}

// integralRDP is the divergence of the sampled Gaussian by its definition, E over N(0, σ²)
// of (1−q+q·e^((2x−1)/2σ²))^α, by the trapezoidal rule, which for such functions is exact
// to the last digits. Without 1 and the linear term, whose expectations are known, nothing
// cancels.
func integralRDP(alpha, q, sigma float64) float64 {
	var above logSum
	step := min(sigma/6, sigma*sigma/2)
	for x := -40 * sigma; x < alpha+40*sigma; x += step {
		exponent := (2*x - 1) / (2 * sigma * sigma)
		density := -x*x/(2*sigma*sigma) - math.Log(sigma*math.Sqrt(2*math.Pi)) + math.Log(step)
		if exponent > 300 { // where only the highest power counts
			above.add(density+alpha*(math.Log(q)+exponent), 1)
			continue
		}
		u := q * math.Expm1(exponent)
		var g float64
		if math.Abs(u) < 1e-4 {
			g = alpha * (alpha - 1) / 2 * u * u * (1 + (alpha-2)/3*u*(1+(alpha-3)/4*u))
		} else {
			g = math.Expm1(alpha*math.Log1p(u)) - alpha*u
		}
		above.add(density+math.Log(math.Abs(g)), math.Copysign(1, g))
	}
	return logOnePlus(above.log()) / (alpha - 1)
}

func TestSampledGaussianIsItsIntegral(t *testing.T) {
	for _, q := range []float64{1e-3, 0.04, 0.5, 0.9} {
		for _, sigma := range []float64{0.35, 0.7, 1.5, 4} {
			for _, alpha := range []float64{1.1, 1.5, 2, 2.7, 5, 10.9} {
				got, want := SampledGaussianRDP(alpha, q, sigma), integralRDP(alpha, q, sigma)
				if math.Abs(got-want) > 1e-8*want+1e-12/(alpha-1) {
					t.Errorf("α=%v, q=%v, σ=%v: got %v, the integral is %v", alpha, q, sigma, got, want)
				}
			}
		}
	}
}

func TestSampledGaussianIsMonotone(t *testing.T) {
	draws(t, 150, func(r *rand.Rand) {
		q, sigma := between(r, 1e-6, 1), between(r, 0.05, 1000)
		alpha := 1.05 + between(r, 0.01, 40)
		if r.IntN(2) == 0 {
			alpha = math.Ceil(alpha)
		}
		rdp := SampledGaussianRDP(alpha, q, sigma)
		slack := 1e-9*rdp + 1e-11
		if math.IsNaN(rdp) || math.IsInf(rdp, 0) || rdp < 0 || rdp > alpha*GaussianRho(1, sigma)*(1+1e-9)+slack {
			t.Fatalf("α=%v, q=%v, σ=%v: %v", alpha, q, sigma, rdp)
		}
		for name, less := range map[string]float64{
			"more noise":     SampledGaussianRDP(alpha, q, sigma*1.1),
			"fewer sampled":  SampledGaussianRDP(alpha, q*0.9, sigma),
			"a lower order":  SampledGaussianRDP(1+0.9*(alpha-1), q, sigma),
			"a smaller step": SampledGaussianRDP(alpha, q, sigma*1.001),
		} {
			if less > rdp+slack {
				t.Errorf("α=%v, q=%v, σ=%v: %s raises %v to %v", alpha, q, sigma, name, rdp, less)
			}
		}
	})
}

// TestFarOut holds that nothing overflows or stops being a number where noise is tiny or
// huge.
func TestFarOut(t *testing.T) {
	for _, x := range []float64{1e-150, 1e-30, 1e-3, 0.01, 0.1, 1, 10, 1e3, 1e30, 1e150} {
		for _, alpha := range []float64{1.02, 1.5, 2, 3.3, 63, 512, 1000.5} {
			for _, q := range []float64{1e-12, 0.3, 0.5, 1 - 1e-12, 1} {
				if got := SampledGaussianRDP(alpha, q, x); math.IsNaN(got) || got < 0 || x >= 1e-3 && math.IsInf(got, 0) {
					t.Errorf("sampled: α=%v, q=%v, σ=%v: %v", alpha, q, x, got)
				}
			}
		}
		for _, y := range []float64{0, 1e-300, 1e-10, 1e-3, 1, 30, 1e4, 1e100} {
			if got := GaussianDelta(x, y); !(got >= 0 && got <= 1) {
				t.Errorf("GaussianDelta(%v, %v) = %v", x, y, got)
			}
			if delta := math.Exp(-y) / 2; delta > 0 {
				if got := GaussianEpsilon(x, delta); math.IsNaN(got) || got < 0 || GaussianDelta(x, got) > delta {
					t.Errorf("GaussianEpsilon(%v, %v) = %v", x, delta, got)
				}
			}
		}
	}
}

func TestExactGaussian(t *testing.T) {
	draws(t, 200, func(r *rand.Rand) {
		mu, epsilon := between(r, 1e-3, 30), between(r, 1e-4, 50)
		delta := GaussianDelta(mu, epsilon)
		if delta < 1e-280 {
			return
		}
		if got := GaussianEpsilon(mu, delta); math.Abs(got-epsilon) > 1e-8*epsilon+1e-10 && delta < 1-1e-6 {
			t.Errorf("μ=%v, ε=%v: δ is %v, whose ε is %v", mu, epsilon, delta, got)
		}
		if GaussianDelta(mu*1.01, epsilon) < delta || GaussianDelta(mu, epsilon*1.01) > delta {
			t.Errorf("μ=%v, ε=%v: δ is not monotone", mu, epsilon)
		}
	})
	// Φ(½) − Φ(−½) at ε = 0.
	if got, want := GaussianDelta(1, 0), math.Erf(0.5/math.Sqrt2); math.Abs(got-want) > 1e-15 {
		t.Errorf("δ of one standard deviation at ε = 0 is %v, want %v", got, want)
	}
}

func TestErfcx(t *testing.T) {
	for _, x := range []float64{19.999, 20, 20.001, 24} {
		if got, want := erfcx(x), math.Exp(x*x)*math.Erfc(x); math.Abs(got-want) > 1e-12*want {
			t.Errorf("erfcx(%v) = %v, want %v", x, got, want)
		}
	}
	// From a continued fraction of the Mills ratio, at x where erfc is 0 as a float.
	for _, x := range []float64{30, 1e3, 1e8} {
		mills := x
		for k := 40.0; k >= 1; k-- {
			mills = x + k/2/mills
		}
		if got, want := erfcx(x), 1/(mills*math.SqrtPi); math.Abs(got-want) > 1e-14*want {
			t.Errorf("erfcx(%v) = %v, want %v", x, got, want)
		}
		if got, want := logErfc(x), math.Log(erfcx(x))-x*x; got != want {
			t.Errorf("logErfc(%v) = %v, want %v", x, got, want)
		}
	}
}

// TestSumsOfUnequalDiscreteGaussians holds the bound by which [SummedRho] tells a sum of two
// from one to their probabilities.
func TestSumsOfUnequalDiscreteGaussians(t *testing.T) {
	mass := func(variance float64) []float64 { // of 0, 1, …, by the definition
		p, whole := make([]float64, 60), 0.0
		for k := range p {
			p[k] = math.Exp(-float64(k*k) / (2 * variance))
			whole += p[k]
			if k > 0 {
				whole += p[k]
			}
		}
		for k := range p {
			p[k] /= whole
		}
		return p
	}
	for _, pair := range [][2]float64{{2, 2}, {1.2, 7}, {3, 1.6}, {1.1, 20}} {
		v, w := pair[0], pair[1]
		a, b, one := mass(v), mass(w), mass(v+w)
		apart := 0.0
		for x := range 20 {
			sum := 0.0
			for k := -59; k < 60; k++ {
				if rest := x - k; rest > -60 && rest < 60 {
					sum += a[max(k, -k)] * b[max(rest, -rest)]
				}
			}
			apart = max(apart, math.Abs(math.Log(sum/one[x])))
		}
		s := v * w / (v + w)
		if bound := 5 * math.Exp(-2*math.Pi*math.Pi*s); s >= 1 && apart > bound {
			t.Errorf("variances %v and %v: probabilities differ by e^%v, want at most e^%v", v, w, apart, bound)
		} else if apart < bound/1000 && bound > 1e-11 {
			t.Errorf("variances %v and %v: probabilities differ by e^%v, far below e^%v: the comparison has no edge", v, w, apart, bound)
		}
	}
}

// TestSummedRho: several noises of a device count by the sum of their variances, and none may
// be small.
func TestSummedRho(t *testing.T) {
	for _, sigmas := range [][]float64{{10}, {6, 8}, {8, 6}, {5, 5, 5, 5}, {4, math.Sqrt(84)}} {
		if got, want := SummedRho(100, 7, sigmas, 1000), SummedRho(100, 7, []float64{10}, 1000); math.Abs(got/want-1) > 1e-12 {
			t.Errorf("noises of %v cost %v, want %v as one of 10", sigmas, got, want)
		}
	}
	for _, sigmas := range [][]float64{nil, {}, {10, 3.9}, {10, 0}, {10, -1}, {math.NaN(), 10}, {10, math.Inf(1)}} {
		if got := SummedRho(100, 7, sigmas, 1000); !math.IsInf(got, 1) {
			t.Errorf("noises of %v cost %v, want +Inf", sigmas, got)
		}
	}
}
