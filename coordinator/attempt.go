package coordinator

import (
	"context"
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
	raw      []byte // the plan's bytes, the same for every member
	members  map[secagg.ID]bool
	round    *round.Round
	started  time.Time
	opened   time.Time                              // when the current step was
	held     map[round.Step]map[secagg.ID]*stepCall // calls that wait for their step to close
	uploads  map[secagg.ID]*upload
	size     int    // of a packed vector in bytes
	summed   bool   // the sum is being unmasked and committed
	revealed bool   // the survivors were told to reveal: the round cannot be tried again
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

// start begins an attempt with a cohort that has formed.
func (t *task) start(now time.Time, cohort []*checkIn) {
	ids := make([]secagg.ID, len(cohort))
	for i, c := range cohort {
		ids[i] = c.id
	}
	r, err := t.prepare(now, ids)
	if err != nil {
		// The devices come again by themselves, when the disk has room or the clock ticks.
		t.log.Error("attempt could not begin", "round", t.round, "attempt", t.attempt, "error", err)
		t.notBefore = now.Add(storePause)
		for _, c := range cohort {
			c.done <- later(storePause, "the coordinator cannot begin a round; its operator finds the reason in its log")
		}
		return
	}
	t.running = r
	if t.attempt == 1 {
		t.began = now
	}
	t.metrics.cohort.Observe(float64(len(cohort)))
	t.log.Info("cohort formed", "round", t.round, "attempt", t.attempt, "cohort", len(cohort))
	for _, c := range cohort {
		c.done <- r.invitation()
	}
	for _, id := range ids {
		if !t.presence.connected(id) {
			t.gone(now, id)
		}
	}
}

// prepare makes the next attempt and records that it begins.
func (t *task) prepare(now time.Time, ids []secagg.ID) (*attempt, error) {
	plan, raw, err := NewPlan(t.spec, t.round, t.attempt, t.current.sum, t.current.size, t.current.Manifest.Layout)
	if err != nil {
		return nil, err
	}
	config := RoundConfig(plan, raw, t.authority.PublicKey(), ids, t.grace)
	machine, err := round.New(now, config)
	if err != nil {
		return nil, err
	}
	if err := t.store.Begin(context.Background(), t.name, t.round, t.attempt); err != nil {
		return nil, err
	}
	r := &attempt{
		plan: plan, raw: raw, members: make(map[secagg.ID]bool, len(ids)), round: machine, started: now, opened: now,
		held: make(map[round.Step]map[secagg.ID]*stepCall), uploads: make(map[secagg.ID]*upload),
		size: aggregation.PackedSize(config.Params.Length, config.Params.RingBits),
	}
	for _, id := range ids {
		r.members[id] = true
	}
	return r, nil
}

// invitation is the reply that takes a member into the attempt.
func (r *attempt) invitation() *pb.CheckInResponse {
	return &pb.CheckInResponse{Version: pb.Current(), Plan: r.raw}
}

// awaitsAdvert tells whether a member may still begin.
func (r *attempt) awaitsAdvert(id secagg.ID) bool {
	step, _, _ := r.round.Progress()
	return step == round.Advertise && !r.round.Answered(id, round.Advertise)
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

// failAll answers every held call with an error.
func (r *attempt) failAll(err error) {
	for _, calls := range r.held {
		for _, c := range calls {
			c.done <- reply{err: err}
		}
	}
	clear(r.held)
}

// dropUploads forgets vectors that are not in the sum and returns their bytes.
func (r *attempt) dropUploads() (freed int) {
	for id, u := range r.uploads {
		if !u.added {
			freed += len(u.buffer)
			delete(r.uploads, id)
		}
	}
	return freed
}

// receive is the event of a step's message, but for Submit, which comes in chunks.
func (t *task) receive(now time.Time, c *stepCall, at *pb.RoundStep, step round.Step, payload []byte) {
	if err := t.admit(c.from, at, step); err != nil {
		c.done <- reply{err: err}
		return
	}
	if t.running.summed { // only a reveal comes here: its receipt is near
		t.running.hold(step, c)
		return
	}
	t.deliver(now, c, step, payload)
}

// deliver hands a message to the round and holds its call.
func (t *task) deliver(now time.Time, c *stepCall, step round.Step, payload []byte) {
	r := t.running
	effects, err := r.round.Receive(now, c.from, step, payload)
	if err != nil {
		c.done <- reply{err: refusal(err)}
	} else {
		r.hold(step, c)
	}
	t.apply(now, effects)
}

// admit refuses a message that is not for the running attempt or not of a member.
func (t *task) admit(from secagg.ID, at *pb.RoundStep, step round.Step) error {
	if l := t.last; l != nil && l.is(at) && l.members[from] {
		return status.Errorf(codes.Aborted, "round %d attempt %d was aborted: %s", at.GetRound(), at.GetAttempt(), l.aborted)
	}
	r := t.running
	switch {
	case r == nil || !r.is(at):
		return status.Errorf(codes.FailedPrecondition, "round %d attempt %d of task %s is not running; check in again", at.GetRound(), at.GetAttempt(), t.name)
	case !r.members[from]:
		return status.Errorf(codes.PermissionDenied, "this device is not in the cohort of round %d attempt %d", at.GetRound(), at.GetAttempt())
	case r.summed && step != round.Reveal:
		return status.Errorf(codes.FailedPrecondition, "round %d attempt %d has its sum already; check in again", at.GetRound(), at.GetAttempt())
	}
	return nil
}

func (r *attempt) is(at *pb.RoundStep) bool {
	return r.plan.GetRound() == at.GetRound() && r.plan.GetAttempt() == at.GetAttempt()
}

// refusal turns the round's refusal into what goes to the sender.
func refusal(err error) error {
	code := codes.Internal
	switch {
	case errors.Is(err, round.ErrNotMember):
		code = codes.PermissionDenied
	case errors.Is(err, round.ErrDiffers):
		code = codes.Aborted
	case errors.Is(err, round.ErrMalformed):
		code = codes.InvalidArgument
	case errors.Is(err, round.ErrLate), errors.Is(err, round.ErrEarly), errors.Is(err, round.ErrOver):
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
			r.revealed = r.revealed || e.Step == round.Submit
			r.answer(e.Step, e.To, reply{payload: e.Payload})
		case round.Closed:
			t.closed(now, e)
		case round.Aborted:
			t.abort(now, e.Reason)
		case round.Summed:
			r.summed = true
			go func() { t.finished <- t.commit(r, e) }()
		}
	}
}

// closed logs and measures a step that has closed, and answers devices whose
// vectors did not become complete in time.
func (t *task) closed(now time.Time, e round.Closed) {
	r := t.running
	t.metrics.step.WithLabelValues(e.Step.String()).Observe(now.Sub(r.opened).Seconds())
	r.opened = now
	t.log.Info(e.Step.String()+" closed", "round", t.round, "attempt", t.attempt, "answered", e.Answered, "expected", e.Expected)
	if e.Step != round.Submit {
		return
	}
	for id, u := range r.uploads {
		if !u.added {
			r.answer(round.Submit, id, reply{err: status.Errorf(codes.FailedPrecondition, "submit has closed without this device: %s", u.lacks())})
		}
	}
	t.memory.give(r.dropUploads())
}

// abort ends the running attempt without a checkpoint. The held calls are answered
// with the reason, so that their devices check in again.
func (t *task) abort(now time.Time, reason string) {
	r := t.running
	r.aborted = reason
	t.running, t.last = nil, r
	t.metrics.rounds.WithLabelValues("aborted").Inc()
	t.log.Warn("attempt aborted", "round", t.round, "attempt", t.attempt, "reason", reason)
	record := r.record(now, 0)
	record.Aborted = reason
	if err := t.store.Abort(context.Background(), t.name, record); err != nil {
		t.log.Error("attempt could not be recorded", "round", t.round, "attempt", t.attempt, "error", err)
	}
	if r.revealed || t.attempt >= MaxAttempts {
		t.log.Warn("round left", "round", t.round, "attempt", t.attempt, "reason", reason)
		t.next()
	} else {
		t.attempt++
	}
	r.failAll(status.Errorf(codes.Aborted, "round %d attempt %d was aborted: %s", record.Round, record.Attempt, reason))
}

// next goes on to the next round.
func (t *task) next() {
	t.round++
	t.attempt = 1
	t.notBefore = t.began.Add(milliseconds(t.spec.GetEveryMs()))
}

// record is the attempt as it is kept.
func (r *attempt) record(now time.Time, survivors int) store.Attempt {
	return store.Attempt{
		Round: r.plan.GetRound(), Attempt: r.plan.GetAttempt(),
		Cohort: len(r.members), Roster: r.round.Roster(), Survivors: survivors,
		Started: r.started, Ended: now,
	}
}
