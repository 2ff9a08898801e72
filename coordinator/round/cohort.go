package round

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/discreet-fl/discreet/aggregation"
	"github.com/discreet-fl/discreet/secagg"
)

// cohort is a cohort from Share on. Its exchange is the step that is open; that is over
// once the cohort has a sum or is lost.
type cohort struct {
	exchange
	number int
	params *secagg.Params
	roster []secagg.ID
	lost   bool

	// The protocol's values, each there from its step on. All are nil when the cohort is
	// lost, and those that hold secrets when it has its sum.
	shares      *secagg.Shares
	submissions *secagg.Submissions
	confirms    *secagg.Confirms
	reveals     *secagg.Reveals
	quorum      []byte   // the answer to Confirm
	sum         []uint32 // of the masked vectors, from the first one on
}

// reply builds the answer to a member's message of a step that has closed, nil where
// there is none any more. A roster and an inbox are appended to memory.
func (c *cohort) reply(memory []byte, id secagg.ID, step Step) []byte {
	var reply []byte
	var err error
	switch {
	case c.lost || step >= c.step:
		return nil
	case step == Advertise:
		reply, err = c.shares.AppendRoster(memory, id)
	case step == Share && c.step == Submit:
		reply, err = c.submissions.AppendInbox(memory, id)
	case step == Submit:
		reply, err = c.confirms.Survivors(id)
	case step == Confirm:
		return c.quorum
	}
	if err != nil {
		return nil // the member is not in that step
	}
	return reply
}

// accept hands a message of the open step to the protocol, which stays as it was where
// it refuses.
func (c *cohort) accept(from secagg.ID, payload []byte) error {
	switch c.step {
	case Share:
		return c.shares.Add(from, payload)
	case Submit:
		return c.add(from, payload)
	case Confirm:
		return c.confirms.Add(from, payload)
	default:
		return c.reveals.Add(from, bytes.Clone(payload)) // it wipes what it was given
	}
}

// add adds a vector to the sum. Only a member that may submit comes here, and only
// once: once the vector is in the sum, nothing refuses its sender.
func (c *cohort) add(from secagg.ID, packed []byte) error {
	if c.sum == nil {
		c.sum = make([]uint32, c.params.Length)
	}
	if err := aggregation.AddPacked(c.sum, packed, c.params.RingBits); err != nil {
		return &secagg.PeerError{Peer: from, Err: fmt.Errorf("%w: %w", secagg.ErrMalformed, err)}
	}
	return c.submissions.Add(from)
}

// admitVector returns an error where a member's vector may not be taken: its masks could
// not come off again, or, on a sparse graph, it has not sent what goes before the vector.
func (c *cohort) admitVector(m *member) error {
	if err := c.submissions.Viable(m.id); err != nil {
		return fmt.Errorf("round: %v of device %s: %w: %w", Submit, m.id, ErrOut, nameless(err))
	}
	if err := c.submissions.Admit(m.id); err != nil {
		return fmt.Errorf("round: %v of device %s: %w: %w", Submit, m.id, ErrEarly, nameless(err))
	}
	return nil
}

// nameless is an error without the member that it names.
func nameless(err error) error {
	if fault := (*secagg.PeerError)(nil); errors.As(err, &fault) {
		return fault.Err
	}
	return err
}

// needed is how many have to answer the open step.
func (c *cohort) needed() int {
	switch c.step {
	case Share:
		return c.shares.Needed()
	case Submit:
		return c.submissions.Needed()
	case Confirm:
		return c.confirms.Needed()
	}
	return 0 // it depends on whose reveals they are
}

// advance closes a cohort's open step, and those behind it, while there is nobody left
// to wait for.
func (r *Round) advance(now time.Time, c *cohort) (effects []Effect) {
	for c.step < steps && c.closes(now, c.needed()) {
		effects = append(effects, Closed{c.number, c.step, c.answered, len(c.expected)})
		switch needed := c.needed(); {
		case c.answered < needed:
			// Those still working are too few, whatever they send.
			effects = append(effects, r.lose(c, errors.New(c.tooFew(now, c.want(needed))))...)
		case c.step == Reveal:
			effects = append(effects, r.closeReveal(now, c)...)
		default:
			effects = append(effects, r.closeStep(now, c)...)
		}
	}
	return effects
}

// want says how many are needed, and for what.
func (c *cohort) want(needed int) string {
	if c.step != Confirm && needed == c.params.MinSurvivors {
		return fmt.Sprintf("%d are the minimum of this task", needed)
	}
	return fmt.Sprintf("%d of the %d in the roster are needed to agree on their sum and unmask it", needed, len(c.roster))
}

// closeStep closes a cohort's open step and opens the next.
func (r *Round) closeStep(now time.Time, c *cohort) (effects []Effect) {
	step, answered := c.step, c.expected
	var next []secagg.ID
	var err error
	switch step {
	case Share:
		if c.submissions, err = c.shares.Close(); err == nil {
			next = c.submissions.Members()
		}
	case Submit:
		if c.confirms, err = c.submissions.Close(); err == nil {
			next = c.confirms.Members()
		}
	default:
		if c.reveals, err = c.confirms.Close(); err == nil {
			next, c.quorum = c.reveals.Members(), c.reveals.Quorum()
		}
	}
	if err != nil {
		return r.lose(c, err)
	}
	c.open(step+1, r.list(next), now.Add(r.config.Step), r.config.Grace)
	for _, m := range answered {
		if m.sent[step] != nil {
			effects = append(effects, Reply{m.id, step, c})
		}
	}
	return effects
}

func (r *Round) closeReveal(now time.Time, c *cohort) []Effect {
	unmasking, err := c.reveals.Close()
	if fault := (*secagg.PeerError)(nil); errors.Is(err, secagg.ErrTooFew) && !errors.As(err, &fault) {
		err = errors.New(c.tooFew(now, "too few to unmask their sum"))
	}
	if err != nil {
		return r.lose(c, err)
	}
	s := CohortSummed{Cohort: c.number, Unmasking: unmasking, Sum: c.sum, Survivors: unmasking.Survivors()}
	c.submissions, c.reveals, c.sum, c.step = nil, nil, nil, steps
	return []Effect{s}
}

// lose gives a cohort up. Where the reason names a member, that is reported apart: the
// reason is logged and told to all members and names none of them.
func (r *Round) lose(c *cohort, reason error) (effects []Effect) {
	if fault := (*secagg.PeerError)(nil); errors.As(reason, &fault) {
		effects = append(effects, Blamed{Cohort: c.number, Peer: fault.Peer, Verdict: Spoilt, Step: c.step, Err: fault.Err})
		reason = fault.Err
	}
	if open := (*secagg.DisputeError)(nil); errors.As(reason, &open) {
		effects = append(effects, r.settle(c, open)...)
	}
	effects = append(effects, CohortLost{c.number, c.step, reason.Error(), c.roster})
	c.drop()
	r.lost++
	r.latest = effects[len(effects)-1].(CohortLost)
	return effects
}

// settle tells of the accusations that have lost a cohort which of them are proven.
func (r *Round) settle(c *cohort, e *secagg.DisputeError) (effects []Effect) {
	open := Disputed{Cohort: c.number, Step: c.step, Err: e.Err}
	for i, d := range e.Disputes {
		switch {
		case !c.convicted(r.members[d.Accused]):
			open.Pairs = append(open.Pairs, d)
		case i == 0 || e.Disputes[i-1].Accused != d.Accused:
			effects = append(effects, Blamed{Cohort: c.number, Peer: d.Accused, Verdict: Spoilt, Step: c.step, Err: e.Err})
		}
	}
	if open.Pairs != nil {
		effects = append(effects, open)
	}
	return effects
}

// drop forgets what the protocol holds.
func (c *cohort) drop() {
	if c.reveals != nil {
		c.reveals.Wipe()
	}
	c.shares, c.submissions, c.confirms, c.reveals, c.quorum, c.sum = nil, nil, nil, nil, nil, nil
	c.step, c.lost = steps, true
}
