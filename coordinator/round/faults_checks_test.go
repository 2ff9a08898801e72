package round

import (
	"errors"
	"strings"
	"sync/atomic"

	"github.com/discreet-fl/discreet/secagg"
)

// What is held of each effect and each refusal, whatever the model says.

// forfeit is what a device that keeps to the protocol loses by another's fault. There is
// nothing but these, which docs/threat-model.md tells of.
type forfeit int

const (
	cohortLost   forfeit = iota // its cohort's sum: too few are left, or a member spoilt it; it may check in again
	accusedOut                  // its place: so many say that it dealt badly that its masks might not come off again
	tooFewShares                // its place: so many vanished or dealt badly to it that its own masks might not
	accusedGone                 // its good name, if it happens again: its word, or a lie about it, lost its cohort when others had vanished or it had itself
	framedByMany                // its good name: more members accuse it falsely than the plan counts on being corrupt
	forfeitKinds
)

var forfeits [forfeitKinds]atomic.Int64

func (s *stage) forfeit(f forfeit) { forfeits[f].Add(1) }

// namesNobody holds that a reason, which goes to all members, names none of them.
func (s *stage) namesNobody(reason string) {
	for _, a := range s.agents {
		if strings.Contains(reason, a.id.String()) {
			s.failf("%q names device %d", reason, a.number)
		}
	}
	if reason == "" {
		s.failf("an end without a reason")
	}
}

// checkBlame holds that nobody who keeps to the protocol is said to have broken it; one
// who only is accused, is so by or beside a liar.
func (s *stage) checkBlame(e Blamed) {
	a := s.find(e.Peer)
	if e.Err == nil {
		s.failf("device %d is blamed for nothing", a.number)
	}
	switch {
	case e.Verdict != Accused:
		switch i := s.model.members[a.number]; {
		case a.hostile:
		case e.Verdict == Spoilt && i.accusers > max(1, len(i.cohort.members)*s.params.Corrupt/10_000):
			s.forfeit(framedByMany)
		default:
			s.failf("device %d is blamed and has done nothing: %v", a.number, e.Err)
		}
		s.note("%d %s in %v (%s)", a.number, [...]string{"", "broke the protocol", "spoilt its cohort"}[e.Verdict], e.Step, kindOf(e.Err))
	default:
		accuser := s.find(e.Accuser)
		if !a.hostile && !accuser.hostile {
			s.failf("device %d accuses device %d, and neither lies: %v", accuser.number, a.number, e.Err)
		}
		s.note("%d accuses %d (%s)", accuser.number, a.number, kindOf(e.Err))
	}
}

// checkDispute holds that of each two one lies.
func (s *stage) checkDispute(e Disputed) {
	for _, d := range e.Pairs {
		a, accuser := s.find(d.Accused), s.find(d.Accuser)
		if !a.hostile && !accuser.hostile {
			s.failf("device %d is accused by device %d, and neither lies", a.number, accuser.number)
		}
		if !a.hostile || !accuser.hostile {
			s.forfeit(accusedGone)
		}
		s.note("%d, accused by %d, is missing in %v (%s)", a.number, accuser.number, e.Step, kindOf(e.Err))
	}
}

// kindOf is the text of the typed error in one, without what stands in the message.
func kindOf(err error) string {
	for _, kind := range []error{ErrDiffers, secagg.ErrMember, secagg.ErrDiffers, secagg.ErrMalformed, secagg.ErrForged, secagg.ErrBadKey,
		secagg.ErrTooFew, secagg.ErrRefused, secagg.ErrMismatch, secagg.ErrRevoked} {
		if errors.Is(err, kind) {
			return strings.TrimPrefix(kind.Error(), "secagg: ")
		}
	}
	return "an error without a kind: " + err.Error()
}

// checkSum holds a cohort's sum against the plain one: that of the vectors that were
// taken from its survivors, each once.
func (s *stage) checkSum(e CohortSummed) {
	want := make([]uint32, s.params.Length)
	for _, id := range e.Survivors {
		a := s.find(id)
		if !s.round.Answered(id, Submit) {
			s.failf("device %d is in the sum and did not submit", a.number)
		}
		for w := range want {
			want[w] += a.vector[w] + a.delta[w]
		}
	}
	if len(e.Survivors) < s.params.MinSurvivors {
		s.failf("a sum of %d", len(e.Survivors))
	}
	e.Unmask()
	for w := range want {
		if (e.Sum[w]^want[w])&(1<<s.params.RingBits-1) != 0 {
			s.failf("word %d of the sum of cohort %d is %#x, want %#x", w, e.Cohort, e.Sum[w]&(1<<s.params.RingBits-1), want[w]&(1<<s.params.RingBits-1))
		}
	}
	s.note("sum of %d", len(e.Survivors))
}
