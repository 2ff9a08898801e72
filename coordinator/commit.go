package coordinator

import (
	"context"
	"time"

	"github.com/discreet-fl/discreet/coordinator/round"
	"github.com/discreet-fl/discreet/coordinator/store"
)

// outcome is how an attempt that has its sum ended.
type outcome struct {
	next checkpoint
	err  error
}

// commit makes the next checkpoint from the masked sum and stores it. It runs beside
// the task's goroutine, which meanwhile leaves the attempt and the current
// checkpoint alone. Whatever fails leaves the last committed checkpoint current.
func (t *task) commit(r *attempt, s round.Summed) outcome {
	log := t.log.With("round", r.plan.GetRound(), "attempt", r.plan.GetAttempt())
	began, expansions := time.Now(), s.Unmasking.Expansions()
	s.Unmask()
	log.Info("sum unmasked", "survivors", len(s.Survivors), "masks", expansions, "seconds", time.Since(began).Seconds())
	moved, velocity, err := Apply(t.current.Checkpoint, t.current.velocity, r.plan, s.Sum, len(s.Survivors))
	if err != nil {
		return outcome{err: err}
	}
	raw := moved.Encode()
	sum, err := t.store.Commit(context.Background(), store.Commit{
		Task: t.name, Attempt: r.record(time.Now(), len(s.Survivors)), Previous: t.current.sum,
		Checkpoint: raw, Velocity: velocity, Survivors: s.Survivors,
	})
	if err != nil {
		return outcome{err: err}
	}
	log.Info("round committed", "cohort", len(r.members), "roster", r.round.Roster(), "survivors", len(s.Survivors), "checkpoint", hexHead(sum))
	return outcome{next: checkpoint{moved, sum, uint64(len(raw)), velocity}}
}

// finish ends the attempt whose sum was committed, or could not be, and answers the
// devices that wait for their receipt.
func (t *task) finish(now time.Time, o outcome) {
	if o.err != nil {
		t.log.Error("commit failed", "round", t.round, "attempt", t.attempt, "error", o.err)
		t.abort(now, "the sum could not become a checkpoint; the operator finds the reason in the coordinator's log")
		if pause := now.Add(storePause); t.notBefore.Before(pause) {
			t.notBefore = pause
		}
		return
	}
	r := t.running
	t.running, t.last = nil, nil
	t.current = o.next
	t.done++
	t.metrics.rounds.WithLabelValues("committed").Inc()
	t.next()
	t.publish() // a device that has its receipt finds the new checkpoint
	for id := range r.held[round.Reveal] {
		r.answer(round.Reveal, id, reply{sum: o.next.sum, size: o.next.size})
	}
	if !t.over() {
		return
	}
	t.log.Info("task done", "rounds", t.done)
	for _, w := range t.gathering.waiting {
		w.done <- later(time.Minute, t.state())
	}
	t.gathering.waiting = nil
}
