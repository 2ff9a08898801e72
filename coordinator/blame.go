package coordinator

import (
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/discreet-fl/discreet/coordinator/round"
	"github.com/discreet-fl/discreet/secagg"
)

// A device that breaks the protocol loses its place in the attempt; the round sees to
// that. What it may do to the rounds that follow is bounded here: a device that makes
// its cohort fail, or is caught in a second attempt, is kept out of the task's next
// round, then of the next two, and so on up to mostRounds. A complaint alone proves
// nothing against either side and is only logged.
//
// That is kept in memory: a coordinator that starts anew has forgotten it, and a device
// that goes on is found out again. It takes a few words for each enrolled device at
// most. A round that cannot come about, because too few others are left, ends an
// exclusion by its time.

// mostRounds is the longest exclusion.
const mostRounds = 1024

// conduct is what a task remembers of a device that broke the protocol.
type conduct struct {
	caught uint32    // attempts in which it did
	spans  int       // exclusions so far
	until  uint64    // the last round that it is kept out of; 0 for none
	end    time.Time // when the exclusion ends in any case
}

// blame logs that somebody broke the protocol, and remembers it where it is proven.
func (t *task) blame(now time.Time, r *attempt, e round.Blamed) {
	log := t.logOf(r).With("device", short(e.Peer), "step", e.Step.String(), "reason", brief(e.Err))
	if e.Step != round.Advertise {
		log = log.With("cohort", e.Cohort)
	}
	if e.Verdict == round.Accused {
		t.metrics.refusals.WithLabelValues(e.Step.String(), "complaint").Inc()
		if e.Accuser != (secagg.ID{}) {
			log = log.With("accuser", short(e.Accuser))
		}
		log.Warn("protocol broken", "proven", false)
		return
	}
	log.Warn("protocol broken", "proven", true)
	k := t.kept[e.Peer]
	if k == nil {
		k = new(conduct)
		t.kept[e.Peer] = k
	}
	if k.caught++; e.Verdict != round.Spoilt && k.caught < 2 {
		return
	}
	rounds := uint64(min(1<<min(k.spans, 30), mostRounds))
	k.spans++
	k.until, k.end = t.round+rounds, now.Add(time.Duration(rounds)*t.longestRound())
	if r.revealed {
		k.until++ // where this round is lost, the next one's number is the held checkpoint's
	}
	t.logOf(r).Warn("device kept out", "device", short(e.Peer), "rounds", rounds)
	if c := t.gathering.waiting[e.Peer]; c != nil { // it has checked in for the next round already
		t.gathering.remove(c, now)
		wait, reason := t.keptOut(now, e.Peer)
		c.done <- later(wait, reason)
	}
}

// longestRound is how long a round may take, or lie behind the one before.
func (t *task) longestRound() time.Duration {
	const steps = trainingShare + 4 // deadlines: Advertise, and the four steps that follow
	return max(milliseconds(t.spec.GetEveryMs()), steps*milliseconds(t.spec.GetDeadlineMs()))
}

// keptOut returns for how long a device is kept out of the task's rounds, and why;
// zero where it is not.
func (t *task) keptOut(now time.Time, id secagg.ID) (time.Duration, string) {
	k := t.kept[id]
	if k == nil || k.until < t.round || !now.Before(k.end) {
		return 0, ""
	}
	return k.end.Sub(now), fmt.Sprintf("this device broke the protocol and is kept out of this task up to round %d, or until %s",
		k.until, k.end.UTC().Format(time.RFC3339))
}

var identifier = regexp.MustCompile(`[0-9a-f]{32}`)

// brief is a reason in which devices appear as they do in every record.
func brief(err error) string {
	return identifier.ReplaceAllStringFunc(err.Error(), func(id string) string { return id[:8] })
}

// reasonOf is the class of a refusal, for measurements.
func reasonOf(err error) string {
	for _, class := range []struct {
		err  error
		name string
	}{
		{secagg.ErrForged, "forged"}, {secagg.ErrMismatch, "mismatch"}, {secagg.ErrBadKey, "bad_key"}, {secagg.ErrRevoked, "revoked"},
		{round.ErrDiffers, "differs"}, {round.ErrMalformed, "malformed"}, {round.ErrLate, "late"}, {round.ErrEarly, "early"},
		{round.ErrOut, "out"}, {round.ErrOver, "over"}, {round.ErrNotMember, "stranger"},
	} {
		if errors.Is(err, class.err) {
			return class.name
		}
	}
	return "other"
}
