package coordinator

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
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
// Where a cohort is lost by one member's word against another's, one of the two breaks
// the protocol, and it cannot be told which by that cohort. Over several it can: who
// does it again does so with other devices, and these, who keep to the protocol, have
// fallen out with nobody else. So each such loss counts against the one of the two that
// has lost cohorts with more others, and against both as long as these are as many. The
// second one that counts keeps a device out. Both are kept out, then, if it is always
// the same two: a device that breaks the protocol can put one other out of rounds by it,
// for as long as itself.
//
// That is kept in memory: a coordinator that starts anew has forgotten it, and a device
// that goes on is found out again. It takes a few words for each enrolled device at
// most. A round that cannot come about, because too few others are left, ends an
// exclusion by its time.

// mostRounds is the longest exclusion.
const mostRounds = 1024

// mostOthers bounds what is kept of disputes: who has fallen out with so many has fallen
// out with more than any device that keeps to the protocol.
const mostOthers = 8

// conduct is what a task remembers of a device that broke the protocol, or may have.
type conduct struct {
	caught uint32      // attempts in which it did
	lost   uint32      // cohorts lost by accusations of which it is likely to be the end that lies
	others []secagg.ID // up to mostOthers that were the other end of those, or of any others
	spans  int         // exclusions so far
	until  uint64      // the last round that it is kept out of; 0 for none
	end    time.Time   // when the exclusion ends in any case
}

// blame logs that somebody broke the protocol, and remembers it where it is proven.
func (t *task) blame(now time.Time, r *attempt, e round.Blamed) {
	log := t.logOf(r).With("device", short(e.Peer), "step", e.Step.String(), "reason", brief(e.Err))
	if e.Step != round.Advertise {
		log = log.With("cohort", e.Cohort)
	}
	if e.Verdict == round.Accused {
		t.metrics.refusals.WithLabelValues(e.Step.String(), "complaint").Inc()
		log.Warn("protocol broken", "accuser", short(e.Accuser), "proven", false)
		return
	}
	log.Warn("protocol broken", "proven", true)
	k := t.conduct(e.Peer)
	if k.caught++; e.Verdict == round.Spoilt || k.caught >= 2 {
		t.keepOut(now, r, e.Peer)
	}
}

// dispute logs by whose word a cohort was lost, and remembers it.
func (t *task) dispute(now time.Time, r *attempt, e round.Disputed) {
	log := t.logOf(r).With("step", e.Step.String(), "cohort", e.Cohort, "reason", brief(e.Err))
	for _, p := range e.Pairs {
		log.Warn("protocol broken", "device", short(p.Accused), "accuser", short(p.Accuser), "proven", false)
		t.conduct(p.Accused).fallOut(p.Accuser)
		t.conduct(p.Accuser).fallOut(p.Accused)
	}
	var suspects []secagg.ID // each once, however many it accuses
	for _, p := range e.Pairs {
		more := len(t.kept[p.Accuser].others) - len(t.kept[p.Accused].others)
		if more >= 0 && !slices.Contains(suspects, p.Accuser) {
			suspects = append(suspects, p.Accuser)
		}
		if more <= 0 && !slices.Contains(suspects, p.Accused) {
			suspects = append(suspects, p.Accused)
		}
	}
	for _, id := range suspects {
		k := t.kept[id]
		if k.lost++; k.lost >= 2 {
			t.keepOut(now, r, id)
		}
	}
}

// conduct is what is remembered of a device from now on.
func (t *task) conduct(id secagg.ID) *conduct {
	if t.kept[id] == nil {
		t.kept[id] = new(conduct)
	}
	return t.kept[id]
}

// fallOut notes with whom a device has lost a cohort.
func (k *conduct) fallOut(other secagg.ID) {
	if len(k.others) < mostOthers && !slices.Contains(k.others, other) {
		k.others = append(k.others, other)
	}
}

// keepOut keeps a device out of rounds that follow.
func (t *task) keepOut(now time.Time, r *attempt, id secagg.ID) {
	k := t.kept[id]
	rounds := uint64(min(1<<min(k.spans, 30), mostRounds))
	k.spans++
	k.until, k.end = t.round+rounds, now.Add(time.Duration(rounds)*t.longestRound())
	if r.revealed {
		k.until++ // where this round is lost, the next one's number is the held checkpoint's
	}
	t.logOf(r).Warn("device kept out", "device", short(id), "rounds", rounds)
	if c := t.gathering.waiting[id]; c != nil { // it has checked in for the next round already
		t.gathering.remove(c, now)
		wait, reason := t.keptOut(now, id)
		c.turnAway(wait, reason)
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
	return k.end.Sub(now), fmt.Sprintf("this device seems to have broken the protocol and is kept out of this task up to round %d, or until %s",
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
		{round.ErrOut, "out"}, {round.ErrTooOften, "too_often"}, {round.ErrOver, "over"}, {round.ErrNotMember, "stranger"},
	} {
		if errors.Is(err, class.err) {
			return class.name
		}
	}
	return "other"
}
