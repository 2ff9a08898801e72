package client

import (
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/discreet-fl/discreet/model"
	pb "github.com/discreet-fl/discreet/proto"
)

// errAnswered is returned for a second answer where a device gives one.
var errAnswered = errors.New("this device has answered already")

// ledger is what a device has done in a task, kept so that no restart makes it do
// what must not be done twice. Fields that an earlier version did not write are zero.
type ledger struct {
	// Round and Attempt are the last that this device joined.
	Round   uint64 `json:"round"`
	Attempt uint32 `json:"attempt"`
	// Confirmed tells whether it has signed a set of survivors in that attempt. Whoever
	// gets a second signature from it may assemble two quorums.
	Confirmed bool `json:"confirmed"`
	// Revealed is the last round in which it revealed. The sums of two attempts at
	// one round over almost the same devices would differ by somebody's update.
	Revealed uint64 `json:"revealed"`
	// RevealedFor is the SHA-256, in hexadecimal, of the checkpoint that round was
	// about, and Rounds the rounds that checkpoint had been through. So would the sums of
	// two rounds on one checkpoint, whether or not others came between.
	RevealedFor string `json:"revealed_for,omitempty"`
	Rounds      uint64 `json:"rounds,omitempty"`
	// Counted is the number of rounds it was counted in.
	Counted uint64 `json:"counted"`
	// Promise is what the task promised of the noise in its sums, nil before a vector was
	// sent to one; Vectors are those, in order, and Exact is how many were sent to sums
	// without noise.
	Promise *promise `json:"promise,omitempty"`
	Vectors []Vector `json:"vectors,omitempty"`
	Exact   uint64   `json:"exact,omitempty"`
}

// readLedger returns what a device has done in a task.
func (c *Client) readLedger(task string) (*ledger, error) {
	l := new(ledger)
	if _, err := c.readRecord(ledgerRecord+task, l); err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	return l, nil
}

// mayJoin refuses an attempt that this device has joined before, any that came
// before it, every attempt at a round in which it has revealed, and every other round
// on the checkpoint that it has revealed for.
func (c *Client) mayJoin(plan *pb.Plan) error {
	l, err := c.readLedger(plan.GetTask())
	if err != nil {
		return err
	}
	if err := l.mayJoin(plan); err != nil {
		return fmt.Errorf("client: task %q, round %d, attempt %d: %w: %w", plan.GetTask(), plan.GetRound(), plan.GetAttempt(), ErrPlanRefused, err)
	}
	return nil
}

func (l *ledger) mayJoin(plan *pb.Plan) error {
	round, attempt := plan.GetRound(), plan.GetAttempt()
	if round <= l.Revealed {
		return fmt.Errorf("this device has already revealed in round %d; the coordinator must go on with a later round", l.Revealed)
	}
	if l.RevealedFor != "" && hex.EncodeToString(plan.GetCheckpointSha256()) == l.RevealedFor {
		return fmt.Errorf("this device has already revealed for checkpoint %.8s in round %d; the coordinator must go on with a later checkpoint", l.RevealedFor, l.Revealed)
	}
	if round < l.Round || round == l.Round && attempt <= l.Attempt {
		return fmt.Errorf("this device has already joined round %d, attempt %d; the coordinator must go on with a later attempt", l.Round, l.Attempt)
	}
	return l.mayCharge(plan)
}

// mayTrain refuses a checkpoint that is no later than the one that this device last
// revealed for: a coordinator that returns to it would get a second sum over it.
func (c *Client) mayTrain(plan *pb.Plan, m *model.Manifest) error {
	l, err := c.readLedger(plan.GetTask())
	if err != nil {
		return err
	}
	if l.RevealedFor != "" && m.Round <= l.Rounds {
		return fmt.Errorf("client: task %q, round %d, attempt %d: %w: its checkpoint has been through %d rounds, and this device has already revealed for one that had been through %d; the coordinator must go on with a later one",
			plan.GetTask(), plan.GetRound(), plan.GetAttempt(), ErrPlanRefused, m.Round, l.Rounds)
	}
	return nil
}

// record notes a step of an attempt on a checkpoint: what it returns nil for is on
// disk. It refuses what this device must not do twice.
func (c *Client) record(plan *pb.Plan, m *model.Manifest, step pb.Step) error {
	l, err := c.readLedger(plan.GetTask())
	if err != nil {
		return err
	}
	joined := l.Round == plan.GetRound() && l.Attempt == plan.GetAttempt()
	switch step {
	case pb.Step_STEP_ADVERTISE:
		if err := c.mayJoin(plan); err != nil {
			return err
		}
		l.Round, l.Attempt, l.Confirmed = plan.GetRound(), plan.GetAttempt(), false
	case pb.Step_STEP_SUBMIT:
		if !joined || l.sent(plan) {
			return fmt.Errorf("client: task %q, round %d, attempt %d: %w: it sends one vector in an attempt, the last of which is round %d, attempt %d",
				plan.GetTask(), plan.GetRound(), plan.GetAttempt(), errAnswered, l.Round, l.Attempt)
		}
		if err := l.charge(plan, time.Now()); err != nil {
			return fmt.Errorf("client: task %q, round %d, attempt %d: %w: %w", plan.GetTask(), plan.GetRound(), plan.GetAttempt(), ErrPlanRefused, err)
		}
	case pb.Step_STEP_CONFIRM:
		if !joined || l.Confirmed {
			return fmt.Errorf("client: task %q, round %d, attempt %d: %w: it confirms one set of survivors in an attempt, the last of which is round %d, attempt %d",
				plan.GetTask(), plan.GetRound(), plan.GetAttempt(), errAnswered, l.Round, l.Attempt)
		}
		l.Confirmed = true
	case pb.Step_STEP_REVEAL:
		if !joined || plan.GetRound() <= l.Revealed {
			return fmt.Errorf("client: task %q, round %d, attempt %d: %w: it reveals once in a round, and has in round %d",
				plan.GetTask(), plan.GetRound(), plan.GetAttempt(), errAnswered, l.Revealed)
		}
		l.Revealed, l.RevealedFor, l.Rounds = plan.GetRound(), hex.EncodeToString(plan.GetCheckpointSha256()), m.Round
	}
	return c.writeLedger(plan.GetTask(), plan.GetRound(), l)
}

// counted notes a round whose receipt has arrived.
func (c *Client) counted(r *Result) error {
	l, err := c.readLedger(r.Task)
	if err != nil {
		return err
	}
	l.Counted++
	return c.writeLedger(r.Task, r.Round, l)
}

func (c *Client) writeLedger(task string, round uint64, l *ledger) error {
	if err := c.writeRecord(ledgerRecord+task, l); err != nil {
		return fmt.Errorf("client: task %q: noting round %d: %w", task, round, err)
	}
	return nil
}
