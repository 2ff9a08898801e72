package privacy

import (
	"math"
	"math/rand/v2"
	"testing"
)

// draws calls f with n streams of one seed, which a failure prints.
func draws(t *testing.T, n int, f func(*rand.Rand)) {
	t.Helper()
	const seed = 20210607
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	for range n {
		f(r)
	}
}

// between draws a number whose logarithm is uniform.
func between(r *rand.Rand, low, high float64) float64 {
	return low * math.Exp(r.Float64()*math.Log(high/low))
}

func TestEpsilonAgainstGrid(t *testing.T) {
	draws(t, 40, func(r *rand.Rand) {
		rho, delta := between(r, 1e-6, 1e3), between(r, 1e-15, 1e-2)
		grid := math.Inf(1)
		for x := math.Log(0.01); x < math.Log(1/delta); x += 1e-3 {
			alpha := 1 + math.Exp(x)
			grid = min(grid, rho*alpha+math.Log1p(-1/alpha)-math.Log(delta*alpha)/(alpha-1))
		}
		grid = max(0, grid)
		got := Epsilon(rho, delta)
		if got > grid+1e-12 || got < grid-1e-5*grid-1e-9 {
			t.Errorf("Epsilon(%v, %v) = %v, a grid of orders gives %v", rho, delta, got, grid)
		}
	})
}

// TestEpsilonAboveExact holds the bound above the exact ε of a Gaussian of the same ρ.
func TestEpsilonAboveExact(t *testing.T) {
	draws(t, 200, func(r *rand.Rand) {
		rho, delta := between(r, 1e-8, 1e4), between(r, 1e-15, 0.1)
		bound, exact := Epsilon(rho, delta), GaussianEpsilon(math.Sqrt(2*rho), delta)
		if bound < exact || bound > 1.6*exact+2 {
			t.Errorf("ρ=%v, δ=%v: the bound is %v, the exact value %v", rho, delta, bound, exact)
		}
		if improved, classic := RDPEpsilon(2, 2*rho, delta), max(0, 2*rho-math.Log(delta)); improved > classic { // Mironov 2017, Prop. 3
			t.Errorf("ρ=%v, δ=%v: the improved conversion gives %v, the classic %v", rho, delta, improved, classic)
		}
	})
}

func TestEpsilonIsMonotone(t *testing.T) {
	draws(t, 300, func(r *rand.Rand) {
		rho, delta, more := between(r, 1e-12, 1e12), between(r, 1e-300, 0.9), between(r, 1, 100)
		e := Epsilon(rho, delta)
		if math.IsNaN(e) || math.IsInf(e, 0) || e < 0 {
			t.Fatalf("Epsilon(%v, %v) = %v", rho, delta, e)
		}
		if up := Epsilon(rho*more, delta); up < e*(1-1e-12) {
			t.Errorf("δ=%v: ε falls from %v to %v where ρ grows from %v by %v", delta, e, up, rho, more)
		}
		if down := Epsilon(rho, min(1, delta*more)); down > e*(1+1e-12) {
			t.Errorf("ρ=%v: ε grows from %v to %v where δ grows from %v by %v", rho, e, down, delta, more)
		}
	})
}

func TestRhoIsTheInverse(t *testing.T) {
	draws(t, 100, func(r *rand.Rand) {
		epsilon, delta := between(r, 1e-4, 1e6), between(r, 1e-30, 0.1)
		rho := Rho(epsilon, delta)
		if got := Epsilon(rho, delta); got > epsilon || got < epsilon*(1-1e-9)-1e-12 {
			t.Errorf("ε=%v, δ=%v: ρ is %v, whose ε is %v", epsilon, delta, rho, got)
		}
		if got := Rho(Epsilon(rho, delta), delta); got < rho*(1-1e-6) {
			t.Errorf("ρ=%v, δ=%v comes back as %v", rho, delta, got)
		}
	})
}

// TestNonsenseCosts holds that what makes no sense never passes for privacy.
func TestNonsenseCosts(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	for name, cost := range map[string]float64{
		"ε of NaN":               Epsilon(nan, 1e-6),
		"ε of ρ below 0":         Epsilon(-1, 1e-6),
		"ε of all ρ":             Epsilon(inf, 1e-6),
		"ε at δ of 0":            Epsilon(1, 0),
		"ε at δ of NaN":          Epsilon(1, nan),
		"ρ without noise":        GaussianRho(1, 0),
		"ρ of negative noise":    GaussianRho(1, -1),
		"ρ of NaN":               GaussianRho(nan, 1),
		"ρ of infinite noise":    GaussianRho(1, inf),
		"ρ of little noise":      SummedRho(100, 10, []float64{3.99}, 1000),
		"ρ of nobody's noise":    SummedRho(100, 0, []float64{10}, 1000),
		"ρ of endless values":    SummedRho(inf, 10, []float64{10}, 1000),
		"sampled without noise":  SampledGaussianRDP(2, 0.5, 0),
		"sampled more than all":  SampledGaussianRDP(2, 1.5, 1),
		"sampled at order 1":     SampledGaussianRDP(1, 0.5, 1),
		"conversion at order 1":  RDPEpsilon(1, 1, 1e-6),
		"conversion at δ of 0":   RDPEpsilon(2, 1, 0),
		"exact at δ of 0":        GaussianEpsilon(1, 0),
		"exact of NaN":           GaussianEpsilon(nan, 1e-6),
		"tree without rounds":    TreeSensitivity(-1, 1, 1),
		"rounds zero apart":      ParticipationSensitivity([]float64{1}, 0, 1),
		"growing coefficients":   ParticipationSensitivity([]float64{1, 2}, 1, 1),
		"negative coefficients":  ParticipationSensitivity([]float64{1, -1}, 1, 1),
		"coefficients not a one": ParticipationSensitivity([]float64{nan}, 1, 1),
	} {
		if !math.IsInf(cost, 1) {
			t.Errorf("%s: got %v, want +Inf", name, cost)
		}
	}
	if got := GaussianDelta(nan, 1); got != 1 {
		t.Errorf("δ of NaN: got %v, want 1", got)
	}
	for _, rho := range []float64{Rho(nan, 1e-6), Rho(1, 0), Rho(-1, 1e-6), Rho(1, 1), Rho(inf, 0.5)} {
		if rho != 0 {
			t.Errorf("ρ for what makes no sense: got %v, want 0", rho)
		}
	}
}

func TestCharge(t *testing.T) {
	// A tenth has no exact value in binary; ten charges of it use up one all the same.
	charge, err := NewCharge(0.1)
	if err != nil {
		t.Fatal(err)
	}
	budget, err := NewBudget(1)
	if err != nil {
		t.Fatal(err)
	}
	if n := charge.Within(budget); n != 10 {
		t.Errorf("0.1 fits into 1 %d times, want 10", n)
	}
	var sum Charge
	for range 10 {
		sum = sum.Plus(charge)
	}
	if sum != budget || sum != charge.Times(10) || sum.Rho() != 1 {
		t.Errorf("ten tenths are %d, %d by one step, want %d", sum, charge.Times(10), budget)
	}
	if got, want := sum.Epsilon(1e-6), Epsilon(1, 1e-6); got != want {
		t.Errorf("ε of ten tenths is %v, want %v", got, want)
	}
	up, _ := NewCharge(1.5e-12)
	down, _ := NewBudget(1.5e-12)
	if up != 2 || down != 1 {
		t.Errorf("1.5 units are charged as %d and spent as %d, want 2 and 1", up, down)
	}
	const most = Charge(math.MaxUint64)
	if most.Plus(1) != most || most.Times(2) != most || Charge(0).Times(5) != 0 || charge.Times(-1) != 0 {
		t.Error("charges leave their range")
	}
	if Charge(0).Within(0) != math.MaxInt || Charge(2).Within(1) != 0 {
		t.Error("what fits into nothing is miscounted")
	}
	for _, rho := range []float64{-1, math.NaN(), math.Inf(1), 1e8} {
		if _, err := NewCharge(rho); err == nil {
			t.Errorf("a charge of %v is taken", rho)
		}
	}
}
