package privacy

import (
	"fmt"
	"math"
)

// A Schedule is who may take part when: of Devices, PerRound in each of Rounds, no device
// more than Participations times, nor in rounds whose numbers differ by less than
// Separation.
type Schedule struct {
	Devices, PerRound, Rounds  int
	Participations, Separation int
}

// Needed is how often a device takes part on average, rounded up: with fewer
// participations a device the rounds cannot be filled.
func (s Schedule) Needed() int { return (s.Rounds*s.PerRound + s.Devices - 1) / s.Devices }

// Most is how often a device takes part at most: what its Participations say, or as often
// as rounds of its Separation fit into all of them.
func (s Schedule) Most() int {
	return min(s.Participations, (s.Rounds+s.Separation-1)/s.Separation)
}

// Check returns an error unless all rounds can be filled.
func (s Schedule) Check() error {
	for _, n := range []struct {
		name string
		n    int
	}{{"devices", s.Devices}, {"devices a round", s.PerRound}, {"rounds", s.Rounds}, {"participations", s.Participations}, {"rounds of separation", s.Separation}} {
		if n.n < 1 || n.n > math.MaxInt32 {
			return fmt.Errorf("privacy: %d %s, want 1 to %d", n.n, n.name, math.MaxInt32)
		}
	}
	switch turns := s.Rounds * s.PerRound; {
	case s.PerRound > s.Devices:
		return fmt.Errorf("privacy: %d devices a round of %d, want no more than there are", s.PerRound, s.Devices)
	case s.Rounds > 1 && min(s.Separation, s.Rounds)*s.PerRound > s.Devices:
		return fmt.Errorf("privacy: rounds of %d devices that rest until %d rounds later need %d devices, got %d; let them come back earlier, or have fewer a round",
			s.PerRound, s.Separation, min(s.Separation, s.Rounds)*s.PerRound, s.Devices)
	case turns > s.Devices*s.Most():
		return fmt.Errorf("privacy: %d rounds of %d devices are %d turns, but %d devices that take part at most %d times have %d; allow %d participations, or have fewer rounds or more devices",
			s.Rounds, s.PerRound, turns, s.Devices, s.Most(), s.Devices*s.Most(), s.Needed())
	}
	return nil
}

// PerRound is what each of so many participations may cost where all of them together may
// cost ε at δ.
func PerRound(epsilon, delta float64, participations int) (Charge, error) {
	switch {
	case !(epsilon > 0) || math.IsInf(epsilon, 0):
		return 0, fmt.Errorf("privacy: ε is %v, want a positive number", epsilon)
	case !(delta > 0 && delta < 1):
		return 0, fmt.Errorf("privacy: δ is %v, want a number between 0 and 1, and far below one in the number of devices", delta)
	case participations < 1:
		return 0, fmt.Errorf("privacy: %d participations, want at least 1", participations)
	}
	budget, err := NewBudget(Rho(epsilon, delta))
	if err != nil {
		return 0, fmt.Errorf("%w; choose a smaller ε", err)
	}
	charge := budget / Charge(participations)
	if charge == 0 {
		return 0, fmt.Errorf("privacy: ε=%v at δ=%v leaves less than 10^−12 of ρ for each of %d participations; allow fewer, or a larger ε", epsilon, delta, participations)
	}
	return charge, nil
}

// Multiplier is the noise at which a sum costs no more than c: its standard deviation in
// terms of what one device can change the sum by, 1/√(2ρ). It is a billionth larger, so
// that rounding on the way never makes a sum cost a unit more.
func (c Charge) Multiplier() float64 {
	if c == 0 {
		return math.Inf(1)
	}
	return (1 + 1e-9) / math.Sqrt(2*c.Rho())
}

// Guess bounds how often somebody who knows everything else, and sees all the sums, is
// right in saying whether a device took part with its own chats or with none, where a
// coin was tossed for it: ½ + ½·min{√(ρ/2), √(1−e^−ρ)}, by the inequalities of Pinsker and
// of Bretagnolle and Huber, as the divergence of order 1 is at most ρ.
func (c Charge) Guess() float64 {
	rho := c.Rho()
	return 0.5 + 0.5*min(math.Sqrt(rho/2), math.Sqrt(-math.Expm1(-rho)))
}
