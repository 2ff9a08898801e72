package privacy

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

func TestScheduleThatCannotBeFilled(t *testing.T) {
	good := Schedule{Devices: 10_000, PerRound: 1000, Rounds: 50, Participations: 5, Separation: 10}
	if err := good.Check(); err != nil || good.Most() != 5 || good.Needed() != 5 {
		t.Errorf("%+v: %v, at most %d times, needed %d; want no error, 5 and 5", good, err, good.Most(), good.Needed())
	}
	rare := good
	rare.Participations, rare.Separation, rare.PerRound = 50, 13, 700
	if err := rare.Check(); err != nil || rare.Most() != 4 {
		t.Errorf("13 rounds apart: %v, at most %d times in 50 rounds, want 4", err, rare.Most())
	}
	with := func(change func(*Schedule)) Schedule { s := good; change(&s); return s }
	for _, tc := range []struct {
		s    Schedule
		want string
	}{
		{with(func(s *Schedule) { s.Devices = 0 }), "0 devices, want"},
		{with(func(s *Schedule) { s.Rounds = -1 }), "-1 rounds, want"},
		{with(func(s *Schedule) { s.Separation = 0 }), "0 rounds of separation"},
		{with(func(s *Schedule) { s.PerRound = 10_001 }), "no more than there are"},
		{with(func(s *Schedule) { s.Separation = 11 }), "need 11000 devices, got 10000"},
		{with(func(s *Schedule) { s.Participations = 4 }), "allow 5 participations"},
	} {
		if err := tc.s.Check(); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%+v: error %v, want one with %q", tc.s, err, tc.want)
		}
	}
	if err := (Schedule{Devices: 3, PerRound: 3, Rounds: 1, Participations: 1, Separation: 100}).Check(); err != nil {
		t.Errorf("a single round: %v", err)
	}
}

// TestPerRoundKeepsTheBudget goes the way of a plan: from ε to a charge for each round, to
// noise, to what that noise costs, and back to ε.
func TestPerRoundKeepsTheBudget(t *testing.T) {
	draws(t, 200, func(r *rand.Rand) {
		epsilon, delta, participations := between(r, 0.01, 100), between(r, 1e-12, 1e-3), 1+r.IntN(500)
		charge, err := PerRound(epsilon, delta, participations)
		if err != nil {
			t.Fatal(err)
		}
		norm, honest := between(r, 100, 1e6), 1+r.IntN(2000)
		sigma := max(MinLocalSigma, charge.Multiplier()*norm/math.Sqrt(float64(honest)))
		cost, err := NewCharge(SummedRho(norm, honest, []float64{sigma}, 1<<20))
		if err != nil || cost > charge {
			t.Errorf("ε=%v, δ=%v, %d times: noise for %d costs %d (%v)", epsilon, delta, participations, charge, cost, err)
		}
		if got := cost.Times(participations).Epsilon(delta); got > epsilon {
			t.Errorf("ε=%v, δ=%v, %d times: all cost ε=%v", epsilon, delta, participations, got)
		}
		if got := cost.Times(participations + 1).Epsilon(delta); got <= cost.Times(participations).Epsilon(delta) {
			t.Errorf("ε=%v, δ=%v: one more than %d times costs no more, ε=%v", epsilon, delta, participations, got)
		}
		if less := SummedRho(norm, honest, []float64{1.01 * sigma}, 1<<20); less >= SummedRho(norm, honest, []float64{sigma}, 1<<20) {
			t.Errorf("norm %v, %d honest, σ %v: more noise costs as much", norm, honest, sigma)
		}
		if got := charge.Times(participations).Epsilon(delta); got < 0.999*epsilon {
			t.Errorf("ε=%v, δ=%v, %d times: only ε=%v is planned for", epsilon, delta, participations, got)
		}
	})
	for name, tc := range map[string]struct {
		epsilon, delta float64
		participations int
		want           string
	}{
		"no ε":      {0, 1e-6, 1, "ε is 0"},
		"NaN":       {math.NaN(), 1e-6, 1, "ε is NaN"},
		"endless ε": {math.Inf(1), 1e-6, 1, "ε is +Inf"},
		"huge ε":    {1e9, 1e-6, 1, "smaller ε"},
		"no δ":      {1, 0, 1, "δ is 0"},
		"δ of 1":    {1, 1, 1, "δ is 1"},
		"nobody":    {1, 1e-6, 0, "0 participations"},
		"tiny ε":    {1e-6, 1e-6, math.MaxInt, "allow fewer"},
	} {
		if _, err := PerRound(tc.epsilon, tc.delta, tc.participations); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v, want one with %q", name, err, tc.want)
		}
	}
	if !math.IsInf(Charge(0).Multiplier(), 1) {
		t.Error("a sum that may cost nothing has a finite amount of noise")
	}
}

// TestGuess compares with the best guess at exact Gaussian noise of the same ρ, Φ(μ/2).
func TestGuess(t *testing.T) {
	draws(t, 100, func(r *rand.Rand) {
		rho := between(r, 1e-9, 100)
		charge, err := NewCharge(rho)
		if err != nil {
			t.Fatal(err)
		}
		best := math.Erfc(-math.Sqrt(2*rho)/2/math.Sqrt2) / 2
		if got := charge.Guess(); got < best || got > 1 || got > 0.5+1.5*(best-0.5) {
			t.Errorf("ρ=%v: the bound is %v, the best guess %v", rho, got, best)
		}
	})
	if got := Charge(0).Guess(); got != 0.5 {
		t.Errorf("without a sum a guess is right in %v, want ½", got)
	}
}
