package coordinator

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/discreet-fl/discreet/aggregation"
	"github.com/discreet-fl/discreet/coordinator/round"
	"github.com/discreet-fl/discreet/coordinator/store"
	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/secagg"
)

// attempt is one that a task is running.
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
	dropped  map[secagg.ID]bool                     // whose vectors gave way to others
	added    map[secagg.ID][sha256.Size]byte        // those that are in a sum, by their hash
	size     int                                    // of a packed vector in bytes
	sums     *sums
	outbox   outbox
	base     uint64             // rounds committed when it began
	told     map[secagg.ID]bool // members that were told to reveal, where the task has a buffer
	summed   time.Time          // when its sum came into the task's buffer
	done     bool               // every cohort has ended, and the total is being committed
	charged  map[secagg.ID]bool // those that may have sent a vector, where sums have noise in them
	revealed bool               // members were told to reveal: the checkpoint is spent
	aborted  string             // why, once it is
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
	t.open = append(t.open, r)
	t.able, t.rests, t.unfilled = time.Time{}, time.Time{}, 0
	if t.attempt == 1 || t.spec.GetBuffer() != nil {
		t.began = now
	}
	if t.spec.GetBuffer() != nil { // the next may begin beside it
		t.attempt++
		t.notBefore = now.Add(milliseconds(t.spec.GetEveryMs()))
	}
	cohorts, _ := r.round.Cohorts()
	t.metrics.cohort.Observe(float64(len(devices)))
	t.logOf(r).Info("cohort formed", "devices", len(devices), "cohorts", cohorts)
	for _, c := range devices {
		c.done <- r.invitation(c.id)
	}
	for _, c := range devices {
		if r.aborted == "" && !t.presence.connected(c.id) {
			r.outbox.forget(c.id)
			t.apply(now, r, r.round.Gone(now, c.id))
		}
	}
}

// prepare makes the next attempt and records that it begins.
func (t *task) prepare(now time.Time, devices []*checkIn) (*attempt, error) {
	head, err := t.logHead(context.Background(), t.name)
	if err != nil {
		return nil, err
	}
	from := Basis{Checkpoint: t.current.sum, Bytes: t.current.size, Layout: t.current.Manifest.Layout, LogHead: head, Clip: t.current.clip, Devices: len(devices)}
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
	config.Params.Revoked, config.Params.Rolls = revoked.Has, t.rollsOf
	machine, err := round.New(now, config)
	if err != nil {
		return nil, err
	}
	begin, room := t.store.Begin, t.memory.limit
	if t.spec.GetBuffer() != nil {
		begin, room = t.store.BeginBeside, t.memory.limit/mostWorking
	}
	if err := begin(context.Background(), t.name, t.round, t.attempt); err != nil {
		return nil, err
	}
	cohorts, _ := machine.Cohorts()
	return &attempt{
		plan: plan, raw: raw, checkIns: checkIns, round: machine, started: now, opened: make(map[int]time.Time, cohorts),
		held: make(map[round.Step]map[secagg.ID]*stepCall), uploads: make(map[secagg.ID]*upload), dropped: make(map[secagg.ID]bool), added: make(map[secagg.ID][sha256.Size]byte),
		size: aggregation.PackedSize(config.Params.Length, config.Params.RingBits), sums: newSums(plan, t.current.Manifest.Layout, cohorts),
		outbox: newOutbox(room, config.Step), base: t.done, told: make(map[secagg.ID]bool), charged: make(map[secagg.ID]bool),
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

// apply carries out the effects of an attempt's round.
func (t *task) apply(now time.Time, r *attempt, effects []round.Effect) {
	if len(effects) > 0 && !t.mayUpload(now, r, effects) {
		return // the attempt is aborted, whatever else came of the event
	}
	for _, e := range effects {
		switch e := e.(type) {
		case round.Reply:
			if e.Step == round.Confirm && !t.mayReveal(now, r) {
				return // the attempt is aborted, whatever else came of the event
			}
			if e.Step == round.Confirm && t.spec.GetBuffer() != nil {
				r.told[e.To] = true
			}
			r.outbox.put(e)
		case round.Closed:
			t.closed(now, r, e)
		case round.Blamed:
			t.blame(now, r, e)
		case round.Disputed:
			t.dispute(now, r, e)
		case round.CohortLost:
			t.lost(r, e)
		case round.CohortSummed:
			t.summed(r, e)
		case round.Done:
			r.done = true
			r.sums.close(r.record(now))
		case round.Aborted:
			t.abort(now, r, e.Reason)
		}
	}
}

// mayReveal notes, before the first member is told to reveal, that the checkpoint is
// spent, and tells whether members may be told. After a crash, or where the attempt
// gives no sum, another checkpoint then takes its place: devices that had revealed for
// two sums on one checkpoint would show their difference.
func (t *task) mayReveal(now time.Time, r *attempt) bool {
	if r.revealed || t.noted || !t.on(r) { // a checkpoint that is no longer current is spent already
		r.revealed = true
		return true
	}
	if err := t.store.Revealing(context.Background(), t.name, r.plan.GetRound(), r.plan.GetAttempt(), t.current.sum); err != nil {
		t.logOf(r).Error("attempt cannot reveal", "error", err)
		t.abort(now, r, "the coordinator could not note that the sum is to be revealed; its operator finds the reason in its log")
		t.pause(now)
		return false
	}
	r.revealed, t.noted = true, true
	return true
}

// closed logs and measures a step that has closed, and answers devices whose
// vectors did not become complete in time.
func (t *task) closed(now time.Time, r *attempt, e round.Closed) {
	log := t.logOf(r)
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
		t.sweepUploads(r)
	}
}

// lost answers the members of a cohort that was given up. They may check in again.
func (t *task) lost(r *attempt, e round.CohortLost) {
	t.metrics.cohorts.WithLabelValues("lost").Inc()
	t.logOf(r).Warn("cohort lost", "cohort", e.Cohort, "step", e.Step.String(), "reason", e.Reason)
	err := status.Errorf(codes.Aborted, "this device's cohort was given up: %s; check in again", e.Reason)
	for _, id := range e.Members {
		r.fail(id, err)
	}
	t.sweepUploads(r)
}

// abort ends an attempt without a checkpoint of its own. The held calls are answered
// with the reason, so that their devices check in again.
func (t *task) abort(now time.Time, r *attempt, reason string) {
	r.aborted = reason
	t.metrics.rounds.WithLabelValues("aborted").Inc()
	t.logOf(r).Warn("attempt aborted", "reason", reason)
	record := r.record(now)
	record.Aborted = reason
	if err := t.store.Abort(context.Background(), t.name, record); err != nil {
		t.logOf(r).Error("attempt could not be recorded", "error", err)
	}
	r.failAll(status.Errorf(codes.Aborted, "round %d attempt %d was aborted: %s", record.Round, record.Attempt, reason))
	r.sums.giveUp()
	t.memory.give(r.dropUploads())
	r.round, r.uploads, r.added, r.sums, r.outbox = nil, nil, nil, nil, outbox{}
	t.close(r)
	t.last = r
	if t.spec.GetBuffer() != nil {
		t.spent = t.spent || r.revealed && t.on(r) // the buffer, or a held checkpoint, comes next
		return
	}
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

// close takes an attempt out of those that run.
func (t *task) close(r *attempt) {
	same := func(other *attempt) bool { return other == r }
	t.open, t.buffer = slices.DeleteFunc(t.open, same), slices.DeleteFunc(t.buffer, same)
}

// logOf is the log with an attempt's numbers.
func (t *task) logOf(r *attempt) *slog.Logger {
	return t.log.With("round", r.plan.GetRound(), "attempt", r.plan.GetAttempt())
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
		Started: r.started, Ended: now, ChargedDevices: len(r.charged), Charge: r.plan.GetNoise().GetCharge(), Clip: r.plan.GetNoise().GetClip(),
	}
}
