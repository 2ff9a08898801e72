package privacy

import (
	"fmt"
	"math"
)

// perRho is how many units of a Charge are one ρ.
const perRho = 1e12

// Charge is an amount of ρ in a ledger, in trillionths. Whole numbers add up to the same
// in any order, so that device and coordinator come to one sum to the last digit, and a
// budget of so many equal charges is used up by exactly so many. What is charged is
// rounded up and what may be spent is rounded down.
type Charge uint64

// NewCharge returns what ρ is charged as.
func NewCharge(rho float64) (Charge, error) { return newCharge(rho, math.Ceil) }

// NewBudget returns what may be spent of ρ.
func NewBudget(rho float64) (Charge, error) { return newCharge(rho, math.Floor) }

func newCharge(rho float64, round func(float64) float64) (Charge, error) {
	units := round(rho * perRho)
	if !(rho >= 0) || units >= math.MaxUint64 {
		return 0, fmt.Errorf("privacy: ρ is %v, want a number from 0 to below %.3g", rho, math.MaxUint64/perRho)
	}
	return Charge(units), nil
}

// Rho is the amount as a number.
func (c Charge) Rho() float64 { return float64(c) / perRho }

// Plus is the sum of both amounts, or the largest amount there is.
func (c Charge) Plus(d Charge) Charge {
	if d > math.MaxUint64-c {
		return math.MaxUint64
	}
	return c + d
}

// Times is n times the amount, or the largest amount there is; 0 where n is below 1.
func (c Charge) Times(n int) Charge {
	if n < 1 || c == 0 {
		return 0
	}
	if uint64(n) > math.MaxUint64/uint64(c) {
		return math.MaxUint64
	}
	return c * Charge(n)
}

// Within is how many times the amount fits into a budget; an amount of 0 fits as often
// as an int can say.
func (c Charge) Within(budget Charge) int {
	if c == 0 {
		return math.MaxInt
	}
	return int(min(uint64(budget)/uint64(c), math.MaxInt))
}

// Epsilon is the ε at δ of all that was charged.
func (c Charge) Epsilon(delta float64) float64 { return Epsilon(c.Rho(), delta) }
