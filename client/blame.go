package client

import (
	"errors"
	"fmt"

	"github.com/discreet-fl/discreet/secagg"
)

// ErrBroken is returned for an attempt in which the coordinator, or a member, broke
// the protocol. The error says who, in which step, and how. Nothing was sent after
// that.
var ErrBroken = errors.New("broke the protocol")

// blame says who is at fault where the protocol refused what the coordinator
// answered, logs it and returns the error that ends the attempt. An error that is
// nobody else's fault only gets the attempt's name.
func (a *attempt) blame(step string, err error) error {
	if peer := new(secagg.PeerError); errors.As(err, &peer) {
		// A coordinator that keeps to the protocol refuses what a member may not send, so
		// whatever comes as far as this has passed through its hands, or is its own.
		by := fmt.Sprintf("the coordinator or device %s", short(peer.Peer))
		a.log.Warn("protocol broken", "by", by, "step", step, "reason", peer.Err)
		return a.failed(step, fmt.Errorf("%s %w: %w", by, ErrBroken, peer.Err))
	}
	if open := (*secagg.DisputeError)(nil); errors.As(err, &open) {
		return a.failed(step, err) // members that this device has accused may have done it alone
	}
	for _, breach := range []error{
		secagg.ErrMalformed, secagg.ErrForged, secagg.ErrMismatch, secagg.ErrDiffers, secagg.ErrMember,
		secagg.ErrBadKey, secagg.ErrTooFew, secagg.ErrRefused, secagg.ErrRevoked,
	} {
		if errors.Is(err, breach) {
			return a.breach(step, err)
		}
	}
	return a.failed(step, err)
}

// breach is blame where only the coordinator can have done it.
func (a *attempt) breach(step string, err error) error {
	a.log.Warn("protocol broken", "by", "the coordinator", "step", step, "reason", err)
	return a.failed(step, fmt.Errorf("the coordinator %w: %w", ErrBroken, err))
}

// accuse logs a member that dealt badly under its own signature, which a coordinator
// cannot see.
func (a *attempt) accuse(step string, peer *secagg.PeerError) {
	a.log.Warn("protocol broken", "by", "device "+short(peer.Peer), "step", step, "reason", peer.Err)
}

// short is how another device appears in logs and errors.
func short(id secagg.ID) string { return id.String()[:8] }
