// Package round is one attempt at a round of secure aggregation, seen by the
// coordinator: who may answer what, when a step closes, and what follows.
//
// A [Round] is a pure state machine. It has no clock, goroutine, network or disk:
// every call is told the time, and what is to be done comes back as a list of
// effects. The same calls give the same effects.
//
// Begin with [New], and answer each check-in with [Round.Committed]. Then
//
//  1. [Round.Receive] takes each message and [Round.Complain] each complaint;
//     [Round.Gone] and [Round.Back] say that a member's connection ended or came back.
//  2. [Round.Tick] is called at [Round.Deadline], which moves with every call.
//  3. [Reply] effects answer the members of a step that closed. Each cohort ends with
//     one [CohortSummed] or [CohortLost], and the round with one [Done] or [Aborted].
//
// Advertise is common to all devices. When it closes they are split into cohorts by
// lot, each of which goes through Share, Submit, Confirm and Reveal by itself, with
// deadlines of its own. A cohort that loses too many members, or that one of them
// spoils, is left out; the round goes on while at least half of its cohorts may still
// give a sum, and is aborted otherwise.
//
// A step closes when every member that is still expected has answered, or at its
// deadline, whichever is first. Its members are those who answered the one before.
//
// # What a member can cost
//
// Each member has one message in each step and one complaint, whose sizes follow from
// the plan and are checked before anything is computed; a repeated one is told by its
// hash, and not even hashed where it comes too often. A message that is refused for its sender's fault, which a second, different one
// is, too, costs its sender its place in the attempt: what it has sent before stands,
// nothing more is taken from it, and it is reported as [Blamed], once. The others wait
// for a member at most until the deadline of a step.
package round

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/discreet-fl/discreet/secagg"
)

// Step is one exchange of a round, in order.
type Step int

const (
	// Advertise: an advert, answered with the roster of the member's cohort.
	Advertise Step = iota
	// Share: sealed shares, answered with the member's own inbox. A complaint about
	// what is in it comes between this step and the member's vector.
	Share
	// Submit: the packed masked vector, answered with the survivors.
	Submit
	// Confirm: a signature under the survivors, answered with the quorum of them.
	Confirm
	// Reveal: shares that unmask the sum. The round has no answer of its own to it:
	// its caller answers once the sum is safe.
	Reveal
	steps // how many there are, and the state of what is over
)

// String returns the step in lower case.
func (s Step) String() string {
	if s < 0 || s > steps {
		return fmt.Sprintf("step %d", int(s))
	}
	return [...]string{"advertise", "share", "submit", "confirm", "reveal", "over"}[s]
}

// Why a message is refused. The error that Receive returns wraps one of these.
var (
	// ErrNotMember: the sender did not check in for this attempt.
	ErrNotMember = errors.New("not in the cohort of this attempt")
	// ErrLate: the step has closed without the sender, which is out of this attempt.
	ErrLate = errors.New("the step has closed")
	// ErrEarly: the step has not opened.
	ErrEarly = errors.New("the step is not open yet")
	// ErrDiffers: the sender answered this step before, with other bytes. The first
	// message stands, and the sender is out of this attempt.
	ErrDiffers = errors.New("differs from the message sent before")
	// ErrMalformed: the message itself is wrong, and its sender is out of this attempt.
	ErrMalformed = errors.New("message refused")
	// ErrOut: the sender has lost its place in this attempt.
	ErrOut = errors.New("out of this attempt")
	// ErrTooOften: the sender repeats itself too often. It loses nothing but this call.
	ErrTooOften = errors.New("repeated too often; send it again in a second")
	// ErrOver: the attempt, or the sender's cohort in it, has ended.
	ErrOver = errors.New("the attempt has ended")
)

// mostRepeats is how often a member may repeat itself in a second, over all steps. A
// device whose line breaks again and again does so six times in the first second, and
// then less and less.
const mostRepeats = 20

// Config describes an attempt.
type Config struct {
	// Params are the protocol's. MinSurvivors is the fewest members that a cohort may
	// be left with.
	Params secagg.Params
	// CheckIns are the devices, MinSurvivors to secagg.MaxDevices of them, with what
	// each committed to when it checked in.
	CheckIns map[secagg.ID][32]byte
	// Advertise is how long the first step, which holds the training, may take, and
	// Step how long each later one.
	Advertise, Step time.Duration
	// Grace is how long a member whose connection ended is still waited for.
	Grace time.Duration
}

// Round is one attempt. It is not safe for concurrent use.
type Round struct {
	config  Config
	members map[secagg.ID]*member
	lobby   exchange        // the step Advertise
	adverts *secagg.Adverts // nil once it has closed
	cohorts []*cohort       // from then on
	roster  int             // members of all rosters
	lost    int             // cohorts
	latest  CohortLost      // of them
	over    bool
	aborted bool
}

// member is a device that checked in.
type member struct {
	id        secagg.ID
	cohort    *cohort                   // nil while Advertise is open, and after it for who did not answer
	turn      Step                      // the latest step that it may answer
	sent      [steps]*[sha256.Size]byte // hash of the message that was accepted
	complaint *[sha256.Size]byte        // of the one that was taken
	accusers  int                       // members whose complaints accuse this one
	repeats   int                       // since second
	second    time.Time                 // when the latest second with repeats began
	gone      time.Time                 // when the connection ended; zero while there is one
	left      bool                      // not waited for in the step that is open
	out       bool                      // its place is lost: nothing more is taken from it
}

// New begins an attempt whose Advertise step is open from now on.
func New(now time.Time, c Config) (*Round, error) {
	adverts, err := secagg.NewServer(c.Params, c.CheckIns)
	if err != nil {
		return nil, fmt.Errorf("round: %w", err)
	}
	r := &Round{config: c, members: make(map[secagg.ID]*member, len(c.CheckIns)), adverts: adverts}
	for id := range c.CheckIns {
		r.members[id] = &member{id: id}
	}
	r.lobby.open(Advertise, r.list(adverts.Members()), now.Add(c.Advertise), c.Grace)
	return r, nil
}

// list returns the members with those ids, in their order.
func (r *Round) list(ids []secagg.ID) []*member {
	members := make([]*member, len(ids))
	for i, id := range ids {
		members[i] = r.members[id]
	}
	return members
}

// Committed returns what the check-in of a member is answered with beside the plan,
// while Advertise is open.
func (r *Round) Committed(id secagg.ID) ([]byte, error) {
	if r.adverts == nil {
		return nil, fmt.Errorf("round: %v: %w", Advertise, ErrLate)
	}
	b, err := r.adverts.Committed(id)
	if err != nil {
		return nil, fmt.Errorf("round: %w", err)
	}
	return b, nil
}

// Receive takes a member's message of a step. The error says that this message is
// refused and is one of the typed ones above; effects are to be carried out also
// where there is an error, because time has passed. A message that was accepted
// before is accepted again: while its step is open there is nothing to do but to
// wait, afterwards the reply comes again, for as long as it can still be built. The
// payload of Submit is the whole packed vector and is not kept; others are.
func (r *Round) Receive(now time.Time, from secagg.ID, step Step, payload []byte) ([]Effect, error) {
	return r.receive(now, from, step, payload, nil)
}

// ReceiveVector is Receive of a Submit whose SHA-256 the caller has computed: a vector is too
// long to be hashed a second time.
func (r *Round) ReceiveVector(now time.Time, from secagg.ID, packed []byte, sum [sha256.Size]byte) ([]Effect, error) {
	return r.receive(now, from, Submit, packed, &sum)
}

// receive takes a message, whose hash it computes where that is nil.
func (r *Round) receive(now time.Time, from secagg.ID, step Step, payload []byte, hash *[sha256.Size]byte) ([]Effect, error) {
	m := r.members[from]
	if m == nil {
		return r.Tick(now), fmt.Errorf("round: device %s: %w", from, ErrNotMember)
	}
	effects := r.Back(now, from)
	if step < 0 || step >= steps {
		return effects, fmt.Errorf("round: %v: %w: there is no such step", step, ErrMalformed)
	}
	before := m.sent[step]
	if before == nil { // what is not due is not even hashed
		if err := r.admit(m, step); err != nil {
			return effects, err
		}
		if c := m.cohort; c != nil && c.step == steps { // the sum is complete without this reveal, which is not kept
			return effects, r.Repeats(now, from, step)
		}
	} else if err := r.Repeats(now, from, step); err != nil {
		return effects, err
	}
	if hash == nil {
		sum := sha256.Sum256(payload)
		hash = &sum
	}
	if before != nil && *before != *hash {
		return append(effects, r.Expel(now, from, step, ErrDiffers)...),
			fmt.Errorf("round: %v of device %s: %w; only the same bytes may be sent again", step, from, ErrDiffers)
	}
	if before != nil {
		reply, err := r.again(m, step)
		return append(effects, reply...), err
	}
	if c := m.cohort; c != nil && step < c.step { // a late Confirm
		m.sent[step] = hash
		return append(effects, Reply{from, step, c}), nil
	}
	if err := r.accept(m, payload); err != nil {
		more, err := r.refuse(now, m, step, err)
		return append(effects, more...), err
	}
	m.sent[step] = hash
	r.exchangeOf(m).answer(m)
	return append(effects, r.Tick(now)...), nil
}

// Repeats counts that a member repeats a message that was accepted, or reveals where nothing
// is kept of it, and returns an error where it does so too often. Receive does it by itself.
func (r *Round) Repeats(now time.Time, from secagg.ID, step Step) error {
	m := r.members[from]
	if m == nil {
		return fmt.Errorf("round: device %s: %w", from, ErrNotMember)
	}
	if now.Sub(m.second) >= time.Second {
		m.second, m.repeats = now, 0
	}
	if m.repeats++; m.repeats > mostRepeats {
		return fmt.Errorf("round: %v of device %s: %w", step, from, ErrTooOften)
	}
	return nil
}

// again answers a message that was accepted before: with nothing while its step is
// open, with the reply afterwards.
func (r *Round) again(m *member, step Step) ([]Effect, error) {
	c := m.cohort
	switch {
	case r.aborted || c != nil && c.lost:
		return nil, fmt.Errorf("round: %w", ErrOver)
	case c == nil || step >= c.step || step == Reveal:
		return nil, nil
	case step == Share && c.step != Submit: // an inbox is of no use behind the vectors
		return nil, fmt.Errorf("round: %v of device %s: %w and its reply is no longer there; check in for the next attempt", step, m.id, ErrLate)
	}
	return []Effect{Reply{m.id, step, c}}, nil
}

// admit returns an error unless the member may answer that step now for the first time.
func (r *Round) admit(m *member, step Step) error {
	c := m.cohort
	open := Advertise
	if c != nil {
		open = c.step
	} else if r.adverts == nil {
		open = steps // for a device that has no cohort
	}
	switch {
	case r.aborted || c != nil && c.lost:
		return fmt.Errorf("round: %w", ErrOver)
	case m.out:
		return fmt.Errorf("round: %v of device %s: %w: it broke the protocol, or too many say so; check in for the next", step, m.id, ErrOut)
	case c != nil && open == steps && step == Reveal && m.turn == Reveal:
		return nil
	case step > open:
		return fmt.Errorf("round: %v of device %s: %w; %v is", step, m.id, ErrEarly, open)
	case step == Confirm && open == Reveal && m.turn == Reveal:
		return nil // too late to be in the quorum, in time to reveal by it
	case step < open || m.turn != step:
		return fmt.Errorf("round: %v of device %s: %w without this device; check in for the next attempt", step, m.id, ErrLate)
	case step == Submit:
		return c.admitVector(m)
	}
	return nil
}

// accept hands a message of the open step to the protocol, which stays as it was
// where it refuses.
func (r *Round) accept(m *member, payload []byte) error {
	if m.cohort == nil {
		return r.adverts.Add(m.id, payload)
	}
	return m.cohort.accept(m.id, payload)
}

// exchangeOf is the open step that a member takes part in.
func (r *Round) exchangeOf(m *member) *exchange {
	if m.cohort == nil {
		return &r.lobby
	}
	return &m.cohort.exchange
}

// refuse gives up on a member whose message the protocol refused, where that is the
// member's fault.
func (r *Round) refuse(now time.Time, m *member, step Step, err error) ([]Effect, error) {
	var fault *secagg.PeerError
	if !errors.As(err, &fault) {
		return nil, fmt.Errorf("round: %v of device %s: %w: %w", step, m.id, ErrOut, err)
	}
	return r.Expel(now, m.id, step, fault.Err), fmt.Errorf("round: %v of device %s: %w: %w", step, m.id, ErrMalformed, fault.Err)
}

// Expel takes a member its place in the attempt because of a message that its caller
// could not hand to Receive, such as a vector that is not what its sender said. What
// the member has sent before stands.
func (r *Round) Expel(now time.Time, id secagg.ID, step Step, err error) (effects []Effect) {
	if m := r.members[id]; m != nil && !m.out && !r.over {
		m.out = true
		r.exchangeOf(m).leave(m)
		effects = []Effect{Blamed{Cohort: m.number(), Peer: id, Verdict: Broke, Step: step, Err: err}}
	}
	return append(effects, r.Tick(now)...)
}

// GiveUp stops waiting for a member in the open step, which keeps its place: its message is
// taken if it comes in time.
func (r *Round) GiveUp(now time.Time, id secagg.ID) []Effect {
	if m := r.members[id]; m != nil && !r.over {
		r.exchangeOf(m).leave(m)
	}
	return r.Tick(now)
}

// Left tells whether a member's connection ended so long ago that it is not waited for.
func (r *Round) Left(id secagg.ID) bool {
	m := r.members[id]
	return m != nil && m.left && !m.gone.IsZero()
}

// number is that of a member's cohort, 0 while it has none.
func (m *member) number() int {
	if m.cohort == nil {
		return 0
	}
	return m.cohort.number
}

// Gone says that a member's connection ended. Unless it comes back, it is no longer
// waited for after Config.Grace; what it sent stays.
func (r *Round) Gone(now time.Time, id secagg.ID) []Effect {
	if m := r.members[id]; m != nil && m.gone.IsZero() {
		m.gone = now
		r.exchangeOf(m).depart(m)
	}
	return r.Tick(now)
}

// Back says that a member has a connection again. A message from it says so, too.
func (r *Round) Back(now time.Time, id secagg.ID) []Effect {
	effects := r.Tick(now)
	if m := r.members[id]; m != nil && !m.gone.IsZero() {
		m.gone = time.Time{}
		r.exchangeOf(m).comeBack(m)
	}
	return effects
}

// Deadline returns when the next Tick is due, zero when the round is over.
func (r *Round) Deadline() (next time.Time) {
	if r.over {
		return time.Time{}
	}
	if r.adverts != nil {
		return r.lobby.due()
	}
	for _, c := range r.cohorts {
		if due := c.due(); c.step != steps && (next.IsZero() || due.Before(next)) {
			next = due
		}
	}
	return next
}

// Admit returns nil where Receive would take the member's first message of a step, as
// far as can be told without the message.
func (r *Round) Admit(from secagg.ID, step Step) error {
	m := r.members[from]
	if m == nil {
		return fmt.Errorf("round: device %s: %w", from, ErrNotMember)
	}
	return r.admit(m, step)
}

// Reply builds what a closed step answers a member, nil where there is no answer.
func (r *Round) Reply(to secagg.ID, step Step) []byte {
	if m := r.members[to]; m != nil && m.cohort != nil && step < m.cohort.step && m.sent[step] != nil {
		return m.cohort.reply(nil, to, step)
	}
	return nil
}

// Answered tells whether a member's message of a step was accepted.
func (r *Round) Answered(id secagg.ID, step Step) bool {
	m := r.members[id]
	return m != nil && step >= 0 && step < steps && m.sent[step] != nil
}

// Roster returns how many devices are in the rosters of all cohorts, 0 before these
// are fixed.
func (r *Round) Roster() int { return r.roster }

// Cohorts returns how many cohorts there are, and how many of them are lost.
func (r *Round) Cohorts() (all, lost int) {
	return secagg.Cohorts(len(r.members), r.config.Params.Cohort), r.lost
}

// Progress returns the open step, how many have answered it and how many may. Where
// cohorts are at several steps it is the earliest, over all cohorts at it. When the
// round is over the step is "over".
func (r *Round) Progress() (step Step, answered, expected int) {
	switch {
	case r.over:
		return steps, 0, 0
	case r.adverts != nil:
		return Advertise, r.lobby.answered, len(r.lobby.expected)
	}
	step = steps
	for _, c := range r.cohorts {
		step = min(step, c.step)
	}
	for _, c := range r.cohorts {
		if c.step == step {
			answered, expected = answered+c.answered, expected+len(c.expected)
		}
	}
	return step, answered, expected
}
