package coordinator

import (
	"context"
	"crypto/sha256"
	"errors"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/discreet-fl/discreet/aggregation"
	"github.com/discreet-fl/discreet/coordinator/round"
	"github.com/discreet-fl/discreet/coordinator/store"
	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/secagg"
)

// attempt is the one that a task is running.
type attempt struct {
	plan     *pb.Plan
	raw      []byte                 // the plan's bytes, the same for every member
	checkIns map[secagg.ID][32]byte // of its members
	round    *round.Round           // nil once it was aborted
	started  time.Time
	split    time.Time                              // when the cohorts were
	opened   map[int]time.Time                      // when each cohort's current step was, from Submit on
	held     map[round.Step]map[secagg.ID]*stepCall // calls that wait for their step to close
	uploads  map[secagg.ID]*upload                  // vectors that are not complete
	added    map[secagg.ID][sha256.Size]byte        // those that are in a sum, by their hash
	size     int                                    // of a packed vector in bytes
	sums     *sums
	outbox   outbox
	done     bool   // every cohort has ended, and the total is being committed
	revealed bool   // members were told to reveal: the checkpoint is spent
	aborted  string // why, once it is
}

// errReplaced answers a held call whose device has called again.
var errReplaced = status.Error(codes.Aborted, "a newer call of this device took the place of this one")

// stepCall is a call of one step.
type stepCall struct {
	from secagg.ID
	done chan reply // takes one
}

// reply answers a step's call.
type reply struct {
	payload []byte   // of the step
	sum     [32]byte // of the checkpoint that the round made
	size    uint64
	err     error
}

// start begins an attempt with the devices that were gathered.
func (t *task) start(now time.Time, devices []*checkIn) {
	r, err := t.prepare(now, devices)
	if err != nil {
		// The devices come again by themselves, when the disk has room or the clock ticks.
		t.log.Error("attempt could not begin", "round", t.round, "attempt", t.attempt, "error", err)
		t.notBefore = now.Add(storePause)
		// Where noting that members may reveal failed and still reached the disk, the
		// checkpoint is spent without this task having known.
		t.spent = t.spent || errors.Is(err, store.ErrRevealed)
		for _, c := range devices {
			c.done <- later(storePause, "the coordinator cannot begin a round; its operator finds the reason in its log")
		}
		return
	}
	t.running = r
	if t.attempt == 1 {
		t.began = now
	}
	cohorts, _ := r.round.Cohorts()
	t.metrics.cohort.Observe(float64(len(devices)))
	t.log.Info("cohort formed", "round", t.round, "attempt", t.attempt, "devices", len(devices), "cohorts", cohorts)
	for _, c := range devices {
		c.done <- r.invitation(c.id)
	}
	for _, c := range devices {
		if !t.presence.connected(c.id) {
			t.gone(now, c.id)
		}
	}
}

// prepare makes the next attempt and records that it begins.
func (t *task) prepare(now time.Time, devices []*checkIn) (*attempt, error) {
	head, err := t.logHead(context.Background(), t.name)
	if err != nil {
		return nil, err
	}
	from := Basis{Checkpoint: t.current.sum, Bytes: t.current.size, Layout: t.current.Manifest.Layout, LogHead: head}
	list, revoked := t.authority.Revocations()
	if list != nil {
		sum := sha256.Sum256(list)
		from.Revocations = sum[:]
	}
	plan, raw, err := NewPlan(t.spec, t.round, t.attempt, from)
	if err != nil {
		return nil, err
	}
	checkIns := make(map[secagg.ID][32]byte, len(devices))
	for _, c := range devices {
		checkIns[c.id] = c.commitment
	}
	config := RoundConfig(plan, raw, t.authority.PublicKey(), checkIns, t.grace)
	config.Params.Revoked = revoked.Has
	machine, err := round.New(now, config)
	if err != nil {
		return nil, err
	}
	if err := t.store.Begin(context.Background(), t.name, t.round, t.attempt); err != nil {
		return nil, err
	}
	cohorts, _ := machine.Cohorts()
	return &attempt{
		plan: plan, raw: raw, checkIns: checkIns, round: machine, started: now, opened: make(map[int]time.Time, cohorts),
		held: make(map[round.Step]map[secagg.ID]*stepCall), uploads: make(map[secagg.ID]*upload), added: make(map[secagg.ID][sha256.Size]byte),
		size: aggregation.PackedSize(config.Params.Length, config.Params.RingBits), sums: newSums(plan, t.current.Manifest.Layout, cohorts),
		outbox: newOutbox(t.memory.limit, config.Step),
	}, nil
}

// has tells whether a device is a member of the attempt.
func (r *attempt) has(id secagg.ID) bool {
	_, ok := r.checkIns[id]
	return ok
}

// invitation is the reply that takes a member into the attempt.
func (r *attempt) invitation(id secagg.ID) *pb.CheckInResponse {
	committed, err := r.round.Committed(id)
	if err != nil { // Advertise has closed at once: too few have a connection
		return later(comeBack, "the round was over before this device could begin")
	}
	return &pb.CheckInResponse{Version: pb.Current(), Plan: r.raw, Committed: committed}
}

// awaitsAdvert tells whether a member that checks in again may still begin: with the
// nonce that it committed to.
func (r *attempt) awaitsAdvert(c *checkIn) bool {
	return r.checkIns[c.id] == c.commitment && r.round.Admit(c.id, round.Advertise) == nil && !r.round.Answered(c.id, round.Advertise)
}

// hold keeps a call until its step closes. A device that calls again has given up
// the earlier call.
func (r *attempt) hold(step round.Step, c *stepCall) {
	if r.held[step] == nil {
		r.held[step] = make(map[secagg.ID]*stepCall)
	}
	if earlier := r.held[step][c.from]; earlier != nil {
		earlier.done <- reply{err: errReplaced}
	}
	r.held[step][c.from] = c
}

// answer replies to a held call, if there is one.
func (r *attempt) answer(step round.Step, id secagg.ID, a reply) {
	if c := r.held[step][id]; c != nil {
		delete(r.held[step], id)
		c.done <- a
	}
}

// fail answers every held call of a member with an error.
func (r *attempt) fail(id secagg.ID, err error) {
	for step := range r.held {
		r.answer(step, id, reply{err: err})
	}
}

// failAll answers every held call with an error.
func (r *attempt) failAll(err error) {
	for _, calls := range r.held {
		for _, c := range calls {
			c.done <- reply{err: err}
		}
	}
	clear(r.held)
}

// receive is the event of a step's message, but for Submit, which comes in chunks.
func (t *task) receive(now time.Time, c *stepCall, at *pb.RoundStep, step round.Step, payload []byte) {
	if err := t.admit(c.from, at); err != nil {
		c.done <- reply{err: err}
		return
	}
	effects, err := t.running.round.Receive(now, c.from, step, payload)
	if err != nil {
		c.done <- reply{err: t.refuse(step, err)}
	} else {
		t.running.hold(step, c)
	}
	t.apply(now, effects)
}

// complain is the event of a complaint, which is answered at once.
func (t *task) complain(now time.Time, c *stepCall, at *pb.RoundStep, complaint []byte) {
	if err := t.admit(c.from, at); err != nil {
		c.done <- reply{err: err}
		return
	}
	effects, err := t.running.round.Complain(now, c.from, complaint)
	if err != nil {
		err = t.refuse(round.Share, err)
	}
	c.done <- reply{err: err}
	t.apply(now, effects)
}

// admit refuses a message that is not for the running attempt or not of a member. A
// member that calls has read the reply to its call before.
func (t *task) admit(from secagg.ID, at *pb.RoundStep) error {
	if l := t.last; l != nil && l.is(at) && l.has(from) {
		return status.Errorf(codes.Aborted, "round %d attempt %d was aborted: %s", at.GetRound(), at.GetAttempt(), l.aborted)
	}
	switch r := t.running; {
	case r == nil || !r.is(at):
		return status.Errorf(codes.FailedPrecondition, "round %d attempt %d of task %s is not running; check in again", at.GetRound(), at.GetAttempt(), t.name)
	case !r.has(from):
		return status.Errorf(codes.PermissionDenied, "this device is not in the cohort of round %d attempt %d", at.GetRound(), at.GetAttempt())
	default:
		r.outbox.forget(from)
		return nil
	}
}

func (r *attempt) is(at *pb.RoundStep) bool {
	return r.plan.GetRound() == at.GetRound() && r.plan.GetAttempt() == at.GetAttempt()
}

// refuse counts a round's refusal and turns it into what goes to the sender.
func (t *task) refuse(step round.Step, err error) error {
	t.metrics.refusals.WithLabelValues(step.String(), reasonOf(err)).Inc()
	code := codes.Internal
	switch {
	case errors.Is(err, round.ErrNotMember):
		code = codes.PermissionDenied
	case errors.Is(err, round.ErrDiffers), errors.Is(err, round.ErrOver):
		code = codes.Aborted
	case errors.Is(err, round.ErrMalformed):
		code = codes.InvalidArgument
	case errors.Is(err, round.ErrLate), errors.Is(err, round.ErrEarly), errors.Is(err, round.ErrOut):
		code = codes.FailedPrecondition
	}
	return status.Error(code, strings.TrimPrefix(err.Error(), "round: "))
}

// apply carries out a round's effects.
func (t *task) apply(now time.Time, effects []round.Effect) {
	r := t.running
	for _, e := range effects {
		switch e := e.(type) {
		case round.Reply:
			if e.Step == round.Confirm && !t.mayReveal(now, r) {
				return // the attempt is aborted, whatever else came of the event
			}
			r.outbox.put(e)
		case round.Closed:
			t.closed(now, e)
		case round.Blamed:
			t.blame(now, e)
		case round.CohortLost:
			t.lost(e)
		case round.CohortSummed:
			t.summed(r, e)
		case round.Done:
			r.done = true
			r.sums.close(r.record(now))
		case round.Aborted:
			t.abort(now, e.Reason)
		}
	}
}

// mayReveal notes, before the first member is told to reveal, that the checkpoint is
// spent, and tells whether members may be told. After a crash, or where the attempt
// gives no sum, another checkpoint then takes its place: devices that had revealed for
// two sums on one checkpoint would show their difference.
func (t *task) mayReveal(now time.Time, r *attempt) bool {
	if r.revealed {
		return true
	}
	if err := t.store.Revealing(context.Background(), t.name, t.round, t.attempt); err != nil {
		t.log.Error("attempt cannot reveal", "round", t.round, "attempt", t.attempt, "error", err)
		t.abort(now, "the coordinator could not note that the sum is to be revealed; its operator finds the reason in its log")
		t.pause(now)
		return false
	}
	r.revealed = true
	return true
}

// closed logs and measures a step that has closed, and answers devices whose
// vectors did not become complete in time.
func (t *task) closed(now time.Time, e round.Closed) {
	r, log := t.running, t.log.With("round", t.round, "attempt", t.attempt)
	opened := r.started
	if e.Step == round.Advertise {
		r.split = now
	} else {
		log = log.With("cohort", e.Cohort)
		if opened = r.opened[e.Cohort]; e.Step == round.Share {
			opened = r.split
		}
		r.opened[e.Cohort] = now
	}
	t.metrics.step.WithLabelValues(e.Step.String()).Observe(now.Sub(opened).Seconds())
	log.Info(e.Step.String()+" closed", "answered", e.Answered, "expected", e.Expected)
	if e.Step == round.Submit {
		t.sweepUploads()
	}
}

// lost answers the members of a cohort that was given up. They may check in again.
func (t *task) lost(e round.CohortLost) {
	t.metrics.cohorts.WithLabelValues("lost").Inc()
	t.log.Warn("cohort lost", "round", t.round, "attempt", t.attempt, "cohort", e.Cohort, "step", e.Step.String(), "reason", e.Reason)
	err := status.Errorf(codes.Aborted, "this device's cohort was given up: %s; check in again", e.Reason)
	for _, id := range e.Members {
		t.running.fail(id, err)
	}
	t.sweepUploads()
}

// abort ends the running attempt without a checkpoint of its own. The held calls are
// answered with the reason, so that their devices check in again.
func (t *task) abort(now time.Time, reason string) {
	r := t.running
	r.aborted = reason
	t.metrics.rounds.WithLabelValues("aborted").Inc()
	t.log.Warn("attempt aborted", "round", t.round, "attempt", t.attempt, "reason", reason)
	record := r.record(now)
	record.Aborted = reason
	if err := t.store.Abort(context.Background(), t.name, record); err != nil {
		t.log.Error("attempt could not be recorded", "round", t.round, "attempt", t.attempt, "error", err)
	}
	r.failAll(status.Errorf(codes.Aborted, "round %d attempt %d was aborted: %s", record.Round, record.Attempt, reason))
	r.sums.giveUp()
	t.memory.give(r.dropUploads())
	r.round, r.uploads, r.added, r.sums, r.outbox = nil, nil, nil, nil, outbox{}
	t.running, t.last = nil, r
	if r.revealed || t.attempt >= MaxAttempts {
		t.log.Warn("round left", "round", t.round, "attempt", t.attempt, "reason", reason)
		t.next()
	} else {
		t.attempt++
	}
	if t.spent = r.revealed; t.spent {
		t.hold(now)
	}
}

// next goes on to the next round.
func (t *task) next() {
	t.round++
	t.attempt = 1
	t.notBefore = t.began.Add(milliseconds(t.spec.GetEveryMs()))
}

// pause lets the task rest after its store failed.
func (t *task) pause(now time.Time) {
	if pause := now.Add(storePause); t.notBefore.Before(pause) {
		t.notBefore = pause
	}
}

// record is the attempt as it is kept.
func (r *attempt) record(now time.Time) store.Attempt {
	all, lost := r.round.Cohorts()
	return store.Attempt{
		Round: r.plan.GetRound(), Attempt: r.plan.GetAttempt(),
		Cohort: len(r.checkIns), Roster: r.round.Roster(), Cohorts: all, CohortsLost: lost,
		Started: r.started, Ended: now,
	}
}
