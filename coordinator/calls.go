package coordinator

import (
	"errors"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/discreet-fl/discreet/coordinator/round"
	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/secagg"
)

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
	r, err := t.admit(c.from, at)
	if err != nil {
		c.done <- reply{err: err}
		return
	}
	effects, err := r.round.Receive(now, c.from, step, payload)
	if err != nil {
		c.done <- reply{err: t.refuse(step, err)}
	} else {
		r.hold(step, c)
	}
	t.apply(now, r, effects)
}

// complain is the event of a complaint, which is answered at once.
func (t *task) complain(now time.Time, c *stepCall, at *pb.RoundStep, complaint []byte) {
	r, err := t.admit(c.from, at)
	if err != nil {
		c.done <- reply{err: err}
		return
	}
	effects, err := r.round.Complain(now, c.from, complaint)
	if err != nil {
		err = t.refuse(round.Share, err)
	}
	c.done <- reply{err: err}
	t.apply(now, r, effects)
}

// admit returns the attempt that a message is for, and refuses one that is for none
// that runs or not of a member. A member that calls has read the reply to its call before.
func (t *task) admit(from secagg.ID, at *pb.RoundStep) (*attempt, error) {
	if l := t.last; l != nil && l.is(at) && l.has(from) {
		return nil, status.Errorf(codes.Aborted, "round %d attempt %d was aborted: %s", at.GetRound(), at.GetAttempt(), l.aborted)
	}
	i := slices.IndexFunc(t.open, func(r *attempt) bool { return r.is(at) })
	if i < 0 {
		return nil, status.Errorf(codes.FailedPrecondition, "round %d attempt %d of task %s is not running; check in again", at.GetRound(), at.GetAttempt(), t.name)
	}
	r := t.open[i]
	if !r.has(from) {
		return nil, status.Errorf(codes.PermissionDenied, "this device is not in the cohort of round %d attempt %d", at.GetRound(), at.GetAttempt())
	}
	r.outbox.forget(from)
	return r, nil
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
	case errors.Is(err, round.ErrTooOften):
		code = codes.ResourceExhausted
	case errors.Is(err, round.ErrMalformed):
		code = codes.InvalidArgument
	case errors.Is(err, round.ErrLate), errors.Is(err, round.ErrEarly), errors.Is(err, round.ErrOut):
		code = codes.FailedPrecondition
	}
	return status.Error(code, strings.TrimPrefix(err.Error(), "round: "))
}
