package coordinator

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/discreet-fl/discreet/aggregation"
	"github.com/discreet-fl/discreet/coordinator/round"
	"github.com/discreet-fl/discreet/coordinator/store"
	"github.com/discreet-fl/discreet/model"
	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/secagg"
)

// sums takes the masks off the sums of an attempt's cohorts, one after another as they
// come, and adds them up. Its goroutine begins with the first of them, beside the
// task's, to which everything but total and survivors belongs.
type sums struct {
	bits    int                     // of the ring
	layout  aggregation.Layout      // of a vector
	cohorts chan round.CohortSummed // has room for all of them
	begun   bool
	closed  bool
	record  store.Attempt // of the attempt, once its cohorts have ended
	dropped atomic.Bool   // the attempt was aborted

	total     *aggregation.Sums
	survivors []secagg.ID
	err       error // why a sum is of no use
}

func newSums(plan *pb.Plan, m model.Layout, cohorts int) *sums {
	return &sums{bits: int(plan.GetCodec().GetRingBits()), layout: LayoutOf(plan, m), cohorts: make(chan round.CohortSummed, cohorts)}
}

// close says that no more sums come, and how the attempt is to be recorded.
func (s *sums) close(record store.Attempt) {
	s.record, s.closed = record, true
	close(s.cohorts)
}

// giveUp lets the goroutine end without a commit, if it has not been asked for one.
func (s *sums) giveUp() {
	if !s.closed {
		s.dropped.Store(true)
		s.close(store.Attempt{})
	}
}

// summed hands on the sum of a cohort.
func (t *task) summed(r *attempt, e round.CohortSummed) {
	t.metrics.cohorts.WithLabelValues("summed").Inc()
	r.sums.cohorts <- e
	if !r.sums.begun {
		r.sums.begun = true
		current := t.current
		t.owners.Go(func() { t.sumUp(r, r.sums, current) })
	}
}

// sumUp unmasks until no more sums come, and then commits their total, or hands it to
// the task's buffer. Of the attempt it reads the plan alone.
func (t *task) sumUp(r *attempt, s *sums, current checkpoint) {
	log := t.logOf(r)
	for e := range s.cohorts {
		if s.dropped.Load() {
			e.Unmasking.Wipe()
			continue
		}
		began, expansions, levels := time.Now(), e.Unmasking.Expansions(), len(e.Unmasking.Seeds())
		if err := Unmask(s.layout, e); err != nil && s.err == nil {
			s.err = err
		}
		if s.total == nil {
			s.total = ChoiceOf(t.spec).Sums(len(e.Sum))
		}
		s.total.Add(e.Sum, s.layout.Signed(), s.bits)
		s.survivors = append(s.survivors, e.Survivors...)
		log.Info("sum unmasked", "cohort", e.Cohort, "survivors", len(e.Survivors), "masks", expansions, "noise_levels_off", levels, "seconds", time.Since(began).Seconds())
	}
	switch {
	case s.dropped.Load():
	case t.spec.GetBuffer() != nil:
		t.finished <- outcome{of: []*attempt{r}, buffered: true}
	default:
		o := t.commit(r.plan, s, current)
		o.of = []*attempt{r}
		t.finished <- o
	}
}

// evaluate adds to the task's standing what the devices counted of the checkpoint that
// the round began with, and returns it for the record, nil where nothing was counted.
// Counts that contradict each other are left out: whoever bends them could bend the update.
func (t *task) evaluate(plan *pb.Plan, total []int64, current checkpoint) (record []byte, after Standing, err error) {
	e, err := Evaluate(current.Checkpoint, plan, total)
	if e == nil {
		if err != nil {
			t.log.Warn("evaluation left out", "round", plan.GetRound(), "attempt", plan.GetAttempt(), "error", err)
		}
		return nil, current.standing, nil
	}
	if record, err = proto.Marshal(e); err != nil {
		return nil, current.standing, fmt.Errorf("coordinator: encoding an evaluation: %w", err)
	}
	t.metrics.evaluated(t.name, e)
	t.log.Info("round evaluated", "round", plan.GetRound(), "attempt", plan.GetAttempt(), "chats", e.Chats, "accuracy", e.Accuracy)
	return record, current.standing.After(e), nil
}

// outcome is how attempts that have their total ended.
type outcome struct {
	of       []*attempt
	buffered bool // the total waits in the task's buffer
	next     checkpoint
	err      error
}

// commit makes the next checkpoint from the total and stores it. The task's goroutine
// meanwhile leaves the current checkpoint alone. Whatever fails leaves the last
// committed checkpoint current.
func (t *task) commit(plan *pb.Plan, s *sums, current checkpoint) outcome {
	if s.err != nil {
		return outcome{err: s.err}
	}
	seed := func() (seed [32]byte) {
		rand.Read(seed[:]) // which never fails
		return seed
	}
	noise, err := AddNoise(plan, current.Manifest.Layout, current.noise, s.total, seed)
	if errors.Is(err, errOtherNoise) { // of another build of this program
		t.log.Warn("noise begins anew", "round", plan.GetRound(), "reason", err)
		noise, err = AddNoise(plan, current.Manifest.Layout, nil, s.total, seed)
	}
	if err != nil {
		return outcome{err: err}
	}
	moved, state, err := Apply(t.spec, current.Checkpoint, current.state, plan, s.total, len(s.survivors))
	if err != nil {
		return outcome{err: err}
	}
	evaluation, standing, err := t.evaluate(plan, s.total.Whole(), current)
	if err != nil {
		return outcome{err: err}
	}
	standing.Calibrate(moved, t.spec)
	raw, record, clip := moved.Encode(), s.record, NextClip(plan, current.Manifest.Layout, s.total, len(s.survivors))
	record.Survivors, record.Ended, record.Evaluation = len(s.survivors), time.Now(), evaluation
	sum, err := t.store.Commit(context.Background(), store.Commit{
		Task: t.name, Attempt: record, Previous: current.sum, Checkpoint: raw, State: state, Clip: clip, Survivors: s.survivors, Best: standing.best,
	})
	if err != nil {
		return outcome{err: err}
	}
	t.log.Info("round committed", "round", record.Round, "attempt", record.Attempt, "devices", record.Cohort, "roster", record.Roster,
		"survivors", record.Survivors, "cohorts", record.Cohorts, "cohorts_lost", record.CohortsLost, "checkpoint", hexHead(sum))
	return outcome{next: checkpoint{moved, sum, uint64(len(raw)), state, noise, clip, standing}}
}

// finish ends the attempts whose totals were committed, or could not be, and answers the
// devices that wait for their receipt.
func (t *task) finish(now time.Time, o outcome) {
	if o.buffered {
		t.fill(now, o.of[0])
		return
	}
	t.flushing = false
	if o.err != nil {
		t.log.Error("commit failed", "round", t.round, "attempt", t.attempt, "error", o.err)
		for _, r := range o.of {
			t.abort(now, r, "the sum could not become a checkpoint; the operator finds the reason in the coordinator's log")
		}
		t.pause(now)
		return
	}
	t.last = nil
	for _, r := range o.of {
		t.close(r)
		t.metrics.rounds.WithLabelValues("committed").Inc()
	}
	t.adopt(o.next)
	for _, r := range o.of {
		for id := range r.held[round.Reveal] {
			r.answer(round.Reveal, id, reply{sum: o.next.sum, size: o.next.size})
		}
		r.failAll(status.Errorf(codes.FailedPrecondition, "round %d attempt %d was committed without this device; check in again", r.plan.GetRound(), r.plan.GetAttempt()))
	}
	t.retire(now)
}

// hold commits, in the place of a round that was lost after its devices were told to
// reveal, a checkpoint with the same parameters. The devices know it by its hash for
// another and train on it; the spent one is used no more.
func (t *task) hold(now time.Time) {
	next, err := successor(t.current.Checkpoint, t.current.Params)
	if err != nil {
		t.log.Error("checkpoint could not be held", "round", t.round, "error", err)
		t.pause(now)
		return
	}
	raw := next.Encode()
	sum, err := t.store.Commit(context.Background(), store.Commit{
		Task: t.name, Attempt: store.Attempt{Round: t.round, Attempt: t.attempt, Started: now, Ended: now},
		Previous: t.current.sum, Checkpoint: raw, State: t.current.state, Best: t.current.standing.best, Held: true,
	})
	if err != nil {
		t.log.Error("checkpoint could not be held", "round", t.round, "error", err)
		t.pause(now)
		return
	}
	t.log.Info("checkpoint held", "round", t.round, "attempt", t.attempt, "checkpoint", hexHead(sum))
	t.adopt(checkpoint{next, sum, uint64(len(raw)), t.current.state, t.current.noise, t.current.clip, t.current.standing})
	t.retire(now)
}

// adopt goes on from a checkpoint that was committed.
func (t *task) adopt(next checkpoint) {
	t.current, t.spent, t.noted = next, false, false
	t.done++
	t.next()
	t.publish() // a device that has its receipt finds the new checkpoint
}

// retire tells the devices that wait, or are still at work, when all rounds are done.
func (t *task) retire(now time.Time) {
	if !t.over() {
		return
	}
	for _, r := range slices.Clone(t.open) {
		t.abort(now, r, "all rounds of the task are done")
	}
	t.log.Info("task done", "rounds", t.done, "state", t.state())
	for _, c := range t.gathering.drain() {
		c.turnAway(time.Minute, t.state())
	}
}
