package client

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/discreet-fl/discreet/privacy"
	pb "github.com/discreet-fl/discreet/proto"
)

// ErrSpent is returned by Participate where this device has given away all that a task's
// promise of privacy allows. It goes on classifying, with newer checkpoints.
var ErrSpent = errors.New("this device's privacy budget is spent")

// errPromise is returned for a task that promises something else than before.
var errPromise = errors.New("the task no longer promises this device what it did")

// promise is what a task promised when this device first sent it a vector with noise.
type promise struct {
	Epsilon        float64 `json:"epsilon"`
	Delta          float64 `json:"delta"`
	Participations uint32  `json:"participations"`
	Separation     uint32  `json:"separation"`
	// Central is the noise that the coordinator adds, empty where devices do.
	Central string `json:"central,omitempty"`
}

func promiseOf(p *pb.Privacy) promise {
	central := ""
	if c := p.GetCentral(); c != nil {
		central = fmt.Sprintf("over %d rounds, scales %v, decays %v", c.GetRounds(), c.GetScale(), c.GetDecay())
	}
	return promise{p.GetEpsilon(), p.GetDelta(), p.GetParticipations(), p.GetSeparation(), central}
}

// Vector is one that a device sent, and what it gave away with it: noted before it left,
// whatever became of the round.
type Vector struct {
	Round   uint64    `json:"round"`
	Attempt uint32    `json:"attempt"`
	At      time.Time `json:"at"`
	// Charge is in trillionths of ρ, of zero-concentrated differential privacy.
	Charge privacy.Charge `json:"charge"`
}

// given is all that the device has given away in a task, with noise.
func (l *ledger) given() (sum privacy.Charge) {
	for _, v := range l.Vectors {
		sum = sum.Plus(v.Charge)
	}
	return sum
}

// mayGive refuses, of a task that promises p or, where p is nil, has exact sums: another
// promise than before, and any vector once the budget is spent. It is asked before
// checking in, and of every plan.
func (l *ledger) mayGive(p *pb.Privacy) error {
	switch {
	case l.Promise == nil:
		return nil
	case p == nil:
		return fmt.Errorf("%w: its sums are exact now, and ε was %v; create another task", errPromise, l.Promise.Epsilon)
	case promiseOf(p) != *l.Promise:
		return fmt.Errorf("%w: %+v, and it was %+v; create another task", errPromise, promiseOf(p), *l.Promise)
	case len(l.Vectors) >= int(l.Promise.Participations):
		return fmt.Errorf("%w: it has sent %d vectors of the %d that the task allows", ErrSpent, len(l.Vectors), l.Promise.Participations)
	}
	return nil
}

// mayCharge refuses a plan's vector where it would take this device beyond its budget, or
// comes too soon after the one before. Another attempt at the same round may be charged.
func (l *ledger) mayCharge(plan *pb.Plan) error {
	n := plan.GetNoise()
	if err := l.mayGive(n.GetPrivacy()); err != nil || n == nil {
		return err
	}
	p, charge := n.GetPrivacy(), privacy.Charge(n.GetCharge())
	budget, err := budgetOf(p.GetEpsilon(), p.GetDelta())
	if err != nil {
		return err
	}
	if given := l.given(); given.Plus(charge) > budget {
		return fmt.Errorf("%w: it has given away ρ %v of %v, and a vector costs %v", ErrSpent, given.Rho(), budget.Rho(), charge.Rho())
	}
	if len(l.Vectors) == 0 {
		return nil
	}
	if last := l.Vectors[len(l.Vectors)-1].Round; plan.GetRound() != last && plan.GetRound() < last+uint64(p.GetSeparation()) {
		return fmt.Errorf("this device sent a vector in round %d, and may send the next in round %d", last, last+uint64(p.GetSeparation()))
	}
	return nil
}

// charge notes that a vector of the plan is about to leave.
func (l *ledger) charge(plan *pb.Plan, now time.Time) error {
	if err := l.mayCharge(plan); err != nil {
		return err
	}
	n := plan.GetNoise()
	if n == nil {
		l.Exact++
		return nil
	}
	p := promiseOf(n.GetPrivacy())
	l.Promise = &p
	l.Vectors = append(l.Vectors, Vector{Round: plan.GetRound(), Attempt: plan.GetAttempt(), At: now.UTC(), Charge: privacy.Charge(n.GetCharge())})
	return nil
}

// sent tells whether a vector was noted in an attempt.
func (l *ledger) sent(plan *pb.Plan) bool {
	n := len(l.Vectors)
	return n > 0 && l.Vectors[n-1].Round == plan.GetRound() && l.Vectors[n-1].Attempt == plan.GetAttempt()
}

// Given is what a device has given away in a task.
type Given struct {
	Task string `json:"task"`
	// Exact is how many vectors it sent to sums without noise. Of these nothing is
	// promised.
	Exact uint64 `json:"exact"`
	// Epsilon and Delta are what was promised of all others together; 0 where there are
	// none.
	Epsilon float64 `json:"epsilon,omitempty"`
	Delta   float64 `json:"delta,omitempty"`
	// Participations is how many vectors with noise it may send, Separation how many rounds
	// lie between one and the next, or between the rounds of two.
	Participations uint32 `json:"participations,omitempty"`
	Separation     uint32 `json:"separation,omitempty"`
	// GivenRho is what it gave away so far, BudgetRho what it may, and GivenEpsilon what the
	// first means at Delta.
	GivenRho     float64  `json:"given_rho"`
	BudgetRho    float64  `json:"budget_rho"`
	GivenEpsilon float64  `json:"given_epsilon"`
	Vectors      []Vector `json:"vectors,omitempty"`
}

// Privacy returns what this device has given away, by task.
func (c *Client) Privacy() ([]Given, error) {
	names, err := c.store.Records(ledgerRecord)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	slices.Sort(names)
	all := make([]Given, 0, len(names))
	for _, name := range names {
		task := strings.TrimPrefix(name, ledgerRecord)
		l, err := c.readLedger(task)
		if err != nil {
			return nil, err
		}
		g, err := l.export(task)
		if err != nil {
			return nil, fmt.Errorf("client: task %q: %w", task, err)
		}
		all = append(all, g)
	}
	return all, nil
}

func (l *ledger) export(task string) (Given, error) {
	g := Given{Task: task, Exact: l.Exact, Vectors: l.Vectors}
	if p := l.Promise; p != nil {
		budget, err := budgetOf(p.Epsilon, p.Delta)
		if err != nil {
			return g, err
		}
		g.Epsilon, g.Delta, g.Participations, g.Separation = p.Epsilon, p.Delta, p.Participations, p.Separation
		g.GivenRho, g.BudgetRho, g.GivenEpsilon = l.given().Rho(), budget.Rho(), l.given().Epsilon(p.Delta)
	}
	return g, nil
}

// exactSums is what Status says of a task without noise.
const exactSums = "EXACT: no noise is added, so that sums, and models made from them, may tell what single devices added"

// sumsText says what the sums of a task are worth that promises p, nil for nothing.
func (l *ledger) sumsText(p *pb.Privacy) string {
	if p == nil {
		return exactSums
	}
	by := "noised"
	if p.GetCentral() != nil {
		by = "noised by the coordinator, which is trusted with what they are without"
	}
	text := fmt.Sprintf("%s: what this device gives away is differentially private, ε at most %v at δ %v; so far ε %.3g, in %d of %d vectors",
		by, p.GetEpsilon(), p.GetDelta(), l.given().Epsilon(p.GetDelta()), len(l.Vectors), p.GetParticipations())
	if l.Exact > 0 {
		text += fmt.Sprintf("; and %d vectors in EXACT sums, of which nothing is promised", l.Exact)
	}
	return text
}
