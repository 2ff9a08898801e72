package client

import (
	"fmt"

	pb "github.com/discreet-fl/discreet/proto"
)

// ledger is what a device has done in a task, kept so that no restart makes it do
// what must not be done twice.
type ledger struct {
	// Round and Attempt are the last that this device joined.
	Round   uint64 `json:"round"`
	Attempt uint32 `json:"attempt"`
	// Revealed is the last round in which it revealed. The sums of two attempts at
	// one round over almost the same devices would differ by somebody's update.
	Revealed uint64 `json:"revealed"`
	// Counted is the number of rounds it was counted in.
	Counted uint64 `json:"counted"`
}

// mayJoin refuses an attempt that this device has joined before, any that came
// before it, and every attempt at a round in which it has revealed.
func (c *Client) mayJoin(plan *pb.Plan) error {
	var l ledger
	if _, err := c.readRecord(ledgerRecord+plan.GetTask(), &l); err != nil {
		return fmt.Errorf("client: %w", err)
	}
	return l.mayJoin(plan.GetTask(), plan.GetRound(), plan.GetAttempt())
}

func (l *ledger) mayJoin(task string, round uint64, attempt uint32) error {
	if round <= l.Revealed {
		return fmt.Errorf("client: task %q, round %d, attempt %d: %w: this device has already revealed in round %d; the coordinator must go on with a later round",
			task, round, attempt, ErrPlanRefused, l.Revealed)
	}
	if round < l.Round || round == l.Round && attempt <= l.Attempt {
		return fmt.Errorf("client: task %q, round %d, attempt %d: %w: this device has already joined round %d, attempt %d; the coordinator must go on with a later attempt",
			task, round, attempt, ErrPlanRefused, l.Round, l.Attempt)
	}
	return nil
}

// record is Participant.Record: what it returns nil for is on disk.
func (c *Client) record(at *pb.RoundStep, step pb.Step) error {
	var l ledger
	name := ledgerRecord + at.GetTask()
	if _, err := c.readRecord(name, &l); err != nil {
		return fmt.Errorf("client: %w", err)
	}
	switch step {
	case pb.Step_STEP_ADVERTISE:
		if err := l.mayJoin(at.GetTask(), at.GetRound(), at.GetAttempt()); err != nil {
			return err
		}
		l.Round, l.Attempt = at.GetRound(), at.GetAttempt()
	case pb.Step_STEP_REVEAL:
		l.Revealed = at.GetRound()
	}
	if err := c.writeRecord(name, &l); err != nil {
		return fmt.Errorf("client: noting round %d, attempt %d: %w", at.GetRound(), at.GetAttempt(), err)
	}
	return nil
}

// counted notes a round whose receipt has arrived.
func (c *Client) counted(r *Result) error {
	var l ledger
	if _, err := c.readRecord(ledgerRecord+r.Task, &l); err != nil {
		return fmt.Errorf("client: %w", err)
	}
	l.Counted++
	if err := c.writeRecord(ledgerRecord+r.Task, &l); err != nil {
		return fmt.Errorf("client: noting round %d: %w", r.Round, err)
	}
	return nil
}
