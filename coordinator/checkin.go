package coordinator

import (
	"math"
	"time"

	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/secagg"
)

// later asks a device to check in again.
func later(after time.Duration, reason string) *pb.CheckInResponse {
	ms := min(max(after.Milliseconds(), 1), math.MaxUint32)
	return &pb.CheckInResponse{Version: pb.Current(), RetryAfterMs: uint32(ms), Reason: reason}
}

// checkIn is the event of a device that wants to take part.
func (t *task) checkIn(now time.Time, c *checkIn) {
	for _, r := range t.open {
		if r.has(c.id) && r.awaitsAdvert(c) {
			c.done <- r.invitation(c.id) // the reply was lost
			return
		}
	}
	t.gone(now, c.id) // where it was at work it has started anew and lost its secrets: no need to wait for it
	wait, reason := t.barred(now, c.id)
	if t.over() {
		wait, reason = time.Minute, t.state()
	}
	if wait > 0 {
		c.turnAway(wait, reason)
		return
	}
	if far := t.notBefore.Sub(now); t.roomy() && far > holdTime {
		c.done <- later(far, t.state())
		return
	}
	if replaced := t.gathering.add(c); replaced != nil {
		replaced.done <- later(comeBack, "a newer check-in of this device took its place")
	}
	t.log.Debug("device checked in", "device", short(c.id), "waiting", len(t.gathering.waiting))
}

// barred returns for how long a device is to stay away from this task, and why; zero
// where it need not.
func (t *task) barred(now time.Time, id secagg.ID) (wait time.Duration, reason string) {
	if wait, reason = t.keptOut(now, id); wait > 0 {
		return wait, reason
	}
	if wait, reason = t.spentOut(id); wait > 0 {
		return wait, reason
	}
	if t.given(id) {
		return comeBack, "this device is in a sum for the current checkpoint; the next one is made when the buffer is full"
	}
	return 0, ""
}

// welcome tells whether a device that waits may be taken into a round. One that was
// revoked meanwhile is told.
func (t *task) welcome(now time.Time, c *checkIn) bool {
	if t.revoked(c.id) {
		c.done <- later(time.Hour, "the enrolment authority has revoked this device")
		return false
	}
	if wait, reason := t.barred(now, c.id); wait > 0 { // since, by an attempt that it left
		c.turnAway(wait, reason)
		return false
	}
	return true
}
