package secagg

import (
	"errors"
	"fmt"
)

// The kinds of refusal; test with errors.Is. The errors returned wrap one of
// these and say what was got and what was wanted.
var (
	// ErrSpent: the value's step is over, or the value was wiped.
	ErrSpent = errors.New("secagg: this value was used or wiped already; each serves one step of one attempt")
	// ErrMember: the sender may not send this message in this step.
	ErrMember = errors.New("secagg: the sender has no place in this step")
	// ErrDiffers: the sender's message differs from the one accepted before.
	ErrDiffers = errors.New("secagg: differs from what was accepted before")
	// ErrMalformed: the bytes are not an encoding of the expected message.
	ErrMalformed = errors.New("secagg: malformed message")
	// ErrForged: a credential, signature or seal does not verify. A member that
	// was given another plan or roster shows up as this, too.
	ErrForged = errors.New("secagg: does not verify")
	// ErrBadKey: a public key is not canonical, of low order, or used twice.
	ErrBadKey = errors.New("secagg: unacceptable public key")
	// ErrTooFew: fewer members than the minimum or the threshold.
	ErrTooFew = errors.New("secagg: too few members")
	// ErrRefused: the other side asked for something this side does not do.
	ErrRefused = errors.New("secagg: refused")
	// ErrMismatch: a secret, a share or a pair's seed is not the one that was
	// committed to.
	ErrMismatch = errors.New("secagg: does not match its commitment")
	// ErrRevoked: a member that the enrolment authority has revoked.
	ErrRevoked = errors.New("secagg: revoked by the enrolment authority")
	// ErrParams: the parameters of the attempt are out of bounds.
	ErrParams = errors.New("secagg: parameters out of bounds")
)

// PeerError is an error that looks to be the fault of one member.
type PeerError struct {
	Peer ID
	Err  error
}

func (e *PeerError) Error() string { return fmt.Sprintf("%v (device %v)", e.Err, e.Peer) }

// Unwrap returns the error without the member's name.
func (e *PeerError) Unwrap() error { return e.Err }

// Dispute is an accusation of which nothing tells whether it is true: one of the two
// does not keep to the protocol.
type Dispute struct{ Accused, Accuser ID }

// DisputeError is a cohort that accusations have lost, together with members that
// vanished: it would not be lost without them. For a device it is its own place in the
// cohort, and the accusations are its own.
type DisputeError struct {
	Disputes []Dispute // in the order of the accused, then of the accusers
	Err      error
}

func (e *DisputeError) Error() string { return e.Err.Error() }

// Unwrap returns the error without the members.
func (e *DisputeError) Unwrap() error { return e.Err }
