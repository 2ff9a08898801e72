// Package round is one attempt at a round of secure aggregation, seen by the
// coordinator: who may answer what, when a step closes, and what follows.
//
// A [Round] is a pure state machine. It has no clock, goroutine, network or disk:
// every call is told the time, and what is to be done comes back as a list of
// effects. The same calls give the same effects.
//
// Begin with [New]. Then
//
//  1. [Round.Receive] takes each message; [Round.Gone] and [Round.Back] say that a
//     member's connection ended or came back.
//  2. [Round.Tick] is called at [Round.Deadline], which moves with every call.
//  3. [Reply] effects answer the members of a step that closed. The round ends with
//     exactly one [Aborted] or [Summed].
//
// A step closes when every member that is still expected has answered, or at its
// deadline, whichever is first. Its members are those who answered the one before.
// A message that is refused costs at most its sender its place.
package round

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/discreet-fl/discreet/aggregation"
	"github.com/discreet-fl/discreet/secagg"
)

// Step is one exchange of a round, in order.
type Step int

const (
	// Advertise: an advert, answered with the roster.
	Advertise Step = iota
	// Share: sealed shares, answered with the member's own inbox.
	Share
	// Submit: the packed masked vector, answered with the survivors.
	Submit
	// Reveal: shares that unmask the sum. The round has no answer of its own to it:
	// its caller answers once the sum is safe.
	Reveal
	steps // how many there are, and the state of a round that is over
)

// String returns the step in lower case.
func (s Step) String() string {
	if s < 0 || s > steps {
		return fmt.Sprintf("step %d", int(s))
	}
	return [...]string{"advertise", "share", "submit", "reveal", "over"}[s]
}

// Why a message is refused. The error that Receive returns wraps one of these.
var (
	// ErrNotMember: the sender was not in the cohort of this attempt.
	ErrNotMember = errors.New("not in the cohort of this attempt")
	// ErrLate: the step has closed without the sender, which is out of this attempt.
	ErrLate = errors.New("the step has closed")
	// ErrEarly: the step has not opened.
	ErrEarly = errors.New("the step is not open yet")
	// ErrDiffers: the sender answered this step before, with other bytes.
	ErrDiffers = errors.New("differs from the message sent before")
	// ErrMalformed: the message itself is wrong.
	ErrMalformed = errors.New("message refused")
	// ErrOver: the attempt has ended.
	ErrOver = errors.New("the attempt has ended")
)

// Config describes an attempt.
type Config struct {
	// Params are the protocol's. MinSurvivors is the fewest devices that any step may
	// be left with.
	Params secagg.Params
	// Members are the cohort, at most Params.Cohort.
	Members []secagg.ID
	// Advertise is how long the first step, which holds the training, may take, and
	// Step how long each later one.
	Advertise, Step time.Duration
	// Grace is how long a member whose connection ended is still waited for.
	Grace time.Duration
}

// Effect is something that the owner of a round is to do: a [Reply], [Closed],
// [Aborted] or [Summed].
type Effect interface{ effect() }

// Reply is the answer to a member's message of a step.
type Reply struct {
	To      secagg.ID
	Step    Step
	Payload []byte // shared with other replies: not to be changed
}

// Closed tells that a step has closed, for logs and measurements.
type Closed struct {
	Step     Step
	Answered int // members who answered
	Expected int // of how many
}

// Aborted ends a round without a sum.
type Aborted struct {
	Reason string // for people: what was left and what was wanted
	Step   Step   // in which it happened
}

// Summed ends a round with the masked sum and what unmasks it.
type Summed struct {
	Unmasking *secagg.Unmasking
	Sum       []uint32 // Params.Length words, of which the low RingBits count
	Survivors []secagg.ID
}

func (Reply) effect()   {}
func (Closed) effect()  {}
func (Aborted) effect() {}
func (Summed) effect()  {}

// Round is one attempt. It is not safe for concurrent use.
type Round struct {
	config   Config
	members  map[secagg.ID]*member
	step     Step // the one that is open; steps when the round is over
	summed   bool
	expected []secagg.ID // who may answer the open step, ascending
	roster   int         // members of the roster once that is known
	deadline time.Time   // of the open step

	// The protocol's value of the open step; the others are nil.
	adverts     *secagg.Adverts
	shares      *secagg.Shares
	submissions *secagg.Submissions
	reveals     *secagg.Reveals
	sum         []uint32 // of the masked vectors, from Submit on
}

type member struct {
	sent  [steps]*[sha256.Size]byte // hash of the message that was accepted
	reply [steps][]byte             // what the closed step answered
	gone  time.Time                 // when the connection ended; zero while there is one
}

// New begins an attempt whose Advertise step is open from now on.
func New(now time.Time, c Config) (*Round, error) {
	adverts, err := secagg.NewServer(c.Params)
	if err != nil {
		return nil, fmt.Errorf("round: %w", err)
	}
	r := &Round{config: c, members: make(map[secagg.ID]*member, len(c.Members)), adverts: adverts, deadline: now.Add(c.Advertise)}
	for _, id := range c.Members {
		r.members[id] = new(member)
	}
	r.expected = slices.SortedFunc(maps.Keys(r.members), compareIDs)
	if len(r.expected) != len(c.Members) || len(r.expected) > c.Params.Cohort || len(r.expected) < c.Params.MinSurvivors {
		return nil, fmt.Errorf("round: a cohort of %d devices, %d of them distinct, want %d to %d distinct ones",
			len(c.Members), len(r.expected), c.Params.MinSurvivors, c.Params.Cohort)
	}
	return r, nil
}

func compareIDs(a, b secagg.ID) int { return slices.Compare(a[:], b[:]) }

// Receive takes a member's message of a step. The error says that this message is
// refused and is one of the typed ones above; effects are to be carried out also
// where there is an error, because time has passed. A message that was accepted
// before is accepted again: while its step is open there is nothing to do but to
// wait, afterwards the reply comes again. The payload of Submit is the whole packed
// vector and is not kept.
func (r *Round) Receive(now time.Time, from secagg.ID, step Step, payload []byte) ([]Effect, error) {
	m := r.members[from]
	if m == nil {
		return r.Tick(now), fmt.Errorf("round: device %s: %w", from, ErrNotMember)
	}
	effects := r.Tick(now)
	m.gone = time.Time{}
	if step < 0 || step >= steps {
		return effects, fmt.Errorf("round: %v: %w: there is no such step", step, ErrMalformed)
	}
	hash := sha256.Sum256(payload)
	if before := m.sent[step]; before != nil {
		if *before != hash {
			return effects, fmt.Errorf("round: %v of device %s: %w; only the same bytes may be sent again", step, from, ErrDiffers)
		}
		if reply := m.reply[step]; reply != nil {
			effects = append(effects, Reply{from, step, reply})
		} else if r.step == steps && !r.summed {
			return effects, fmt.Errorf("round: %w", ErrOver)
		}
		return effects, nil
	}
	if err := r.admit(from, step); err != nil {
		return effects, err
	}
	if r.step == steps {
		return effects, nil // the sum is complete without this reveal
	}
	if err := r.accept(from, payload); err != nil {
		return effects, fmt.Errorf("round: %v of device %s: %w: %w", step, from, ErrMalformed, err)
	}
	m.sent[step] = &hash
	return append(effects, r.advance(now)...), nil
}

// admit returns an error unless the member may answer that step now.
func (r *Round) admit(from secagg.ID, step Step) error {
	_, expected := slices.BinarySearchFunc(r.expected, from, compareIDs)
	switch {
	case r.step == steps && r.summed && step == Reveal && expected:
		return nil
	case r.step == steps:
		return fmt.Errorf("round: %w", ErrOver)
	case step > r.step:
		return fmt.Errorf("round: %v of device %s: %w; %v is", step, from, ErrEarly, r.step)
	case step < r.step || !expected:
		return fmt.Errorf("round: %v of device %s: %w without this device; check in for the next attempt", step, from, ErrLate)
	}
	return nil
}

// accept hands a message of the open step to the protocol, which stays as it was
// where it refuses.
func (r *Round) accept(from secagg.ID, payload []byte) error {
	switch r.step {
	case Advertise:
		return r.adverts.Add(from, payload)
	case Share:
		return r.shares.Add(from, payload)
	case Submit:
		// Only a member of the step comes here, and only once: once the vector is in the
		// sum, nothing refuses its sender.
		if err := aggregation.AddPacked(r.sum, payload, r.config.Params.RingBits); err != nil {
			return err
		}
		return r.submissions.Add(from)
	default:
		return r.reveals.Add(from, payload)
	}
}

// Gone says that a member's connection ended. Unless it comes back, it is no longer
// waited for after Config.Grace; what it sent stays.
func (r *Round) Gone(now time.Time, id secagg.ID) []Effect {
	if m := r.members[id]; m != nil && m.gone.IsZero() {
		m.gone = now
	}
	return r.Tick(now)
}

// Back says that a member has a connection again. A message from it says so, too.
func (r *Round) Back(now time.Time, id secagg.ID) []Effect {
	effects := r.Tick(now)
	if m := r.members[id]; m != nil {
		m.gone = time.Time{}
	}
	return effects
}

// Tick lets time pass.
func (r *Round) Tick(now time.Time) []Effect { return r.advance(now) }

// Deadline returns when the next Tick is due, zero when the round is over.
func (r *Round) Deadline() time.Time {
	if r.step == steps {
		return time.Time{}
	}
	next := r.deadline
	for _, id := range r.expected {
		m := r.members[id]
		if m.sent[r.step] == nil && !m.gone.IsZero() {
			if end := m.gone.Add(r.config.Grace); end.Before(next) {
				next = end
			}
		}
	}
	return next
}

// Progress returns the open step, how many have answered it and how many may. When
// the round is over the step is "over".
func (r *Round) Progress() (step Step, answered, expected int) {
	if r.step == steps {
		return r.step, 0, 0
	}
	for _, id := range r.expected {
		if r.members[id].sent[r.step] != nil {
			answered++
		}
	}
	return r.step, answered, len(r.expected)
}

// Roster returns how many devices are in the roster, 0 before it is fixed.
func (r *Round) Roster() int { return r.roster }

// Admit returns nil where Receive would take the member's first message of a step, as
// far as can be told without the message.
func (r *Round) Admit(from secagg.ID, step Step) error {
	if r.members[from] == nil {
		return fmt.Errorf("round: device %s: %w", from, ErrNotMember)
	}
	return r.admit(from, step)
}

// Reply returns what a closed step answered a member, nil where there is no answer.
func (r *Round) Reply(to secagg.ID, step Step) []byte {
	if m := r.members[to]; m != nil && step >= 0 && step < steps {
		return m.reply[step]
	}
	return nil
}

// Answered tells whether a member's message of a step was accepted.
func (r *Round) Answered(id secagg.ID, step Step) bool {
	m := r.members[id]
	return m != nil && step >= 0 && step < steps && m.sent[step] != nil
}
