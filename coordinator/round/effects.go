package round

import (
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/discreet-fl/discreet/secagg"
)

// Effect is something that the owner of a round is to do: a [Reply], [Closed],
// [Blamed], [Disputed], [CohortLost], [CohortSummed], [Done] or [Aborted].
type Effect interface{ effect() }

// Reply is the answer to a member's message of a step.
type Reply struct {
	To     secagg.ID
	Step   Step
	cohort *cohort
}

// Payload builds the reply. A cohort's rosters and inboxes are too large to be kept for
// all its members, so it is built anew each time: of Advertise and Share in the memory, from
// its beginning, as far as that suffices. It is nil where the round has gone on
// since and the reply is of no use any more: what came of the member then stands in
// another effect.
func (r Reply) Payload(memory []byte) []byte { return r.cohort.reply(memory[:0], r.To, r.Step) }

// Closed tells that a step has closed, for logs and measurements.
type Closed struct {
	Cohort   int // from 0; 0 for Advertise, which all have in common
	Step     Step
	Answered int // members who answered
	Expected int // of how many
}

// Verdict is how much is known of a member that is blamed.
type Verdict int

const (
	// Accused: another member says that it broke the protocol, and nothing proves it. It
	// may as well be the accuser who did.
	Accused Verdict = iota
	// Broke: it sent something that no device which keeps to the protocol sends.
	Broke
	// Spoilt: its cohort was lost by what it dealt: its own commitments say so, or more
	// members than may be corrupt.
	Spoilt
)

// Blamed names a member that seems to have broken the protocol.
type Blamed struct {
	Cohort  int       // from 0; 0 in Advertise
	Peer    secagg.ID // who
	Accuser secagg.ID // who says so; zero where nothing rests on one member's word
	Verdict Verdict
	Step    Step  // in which
	Err     error // how; wraps one of secagg's errors or ErrDiffers
}

// Disputed tells that a cohort is lost by accusations that nothing proves, as members
// have vanished, too, whom it could have done without otherwise. Of each pair one breaks
// the protocol, and it cannot be told which: who vanished may have done so honestly.
type Disputed struct {
	Cohort int
	Step   Step // in which
	Pairs  []secagg.Dispute
	Err    error // what is missing; wraps one of secagg's errors
}

// CohortLost tells that a cohort gives no sum.
type CohortLost struct {
	Cohort  int
	Step    Step        // in which it happened
	Reason  string      // for people: what was left and what was wanted; it names nobody
	Members []secagg.ID // of its roster
}

// CohortSummed brings a cohort's masked sum and what unmasks it.
type CohortSummed struct {
	Cohort    int
	Unmasking *secagg.Unmasking
	Sum       []uint32 // Params.Length words, of which the low RingBits count
	Survivors []secagg.ID
}

// Done ends a round: every cohort has ended, and enough of them with a sum.
type Done struct {
	Cohorts, Lost int
}

// Aborted ends a round without a sum. Sums of single cohorts that came before are of no
// use.
type Aborted struct {
	Reason string // for people: what was left and what was wanted; it names nobody
	Step   Step   // in which it happened
}

func (Reply) effect()        {}
func (Closed) effect()       {}
func (Blamed) effect()       {}
func (Disputed) effect()     {}
func (CohortLost) effect()   {}
func (CohortSummed) effect() {}
func (Done) effect()         {}
func (Aborted) effect()      {}

// Unmask takes the masks off the sum, in place, on all cores, and then forgets the
// masks. It is called once.
func (s CohortSummed) Unmask() {
	// Words of a range: it fits a core's cache, and there are enough of them to share
	// out. Each range expands all keys anew, so that a larger one is cheaper.
	const smallest, largest = 1 << 15, 1 << 16
	cores := runtime.GOMAXPROCS(0)
	block := max(smallest, min(largest, len(s.Sum)/(4*cores)))
	var next atomic.Int64
	var group sync.WaitGroup
	for range cores {
		group.Go(func() {
			for {
				hi := int(next.Add(int64(block)))
				lo := hi - block
				if lo >= len(s.Sum) {
					return
				}
				s.Unmasking.Range(s.Sum, lo, min(hi, len(s.Sum)))
			}
		})
	}
	group.Wait()
	s.Unmasking.Wipe()
}
