package secagg

import (
	"fmt"
	"math/bits"
	"testing"
)

// TestNoTwoQuorums goes through all ways to part up to eight members over two stories of
// who shared and who survived: each honest one signs one of them or none, and as many as
// may be corrupt sign both. Nobody's check takes a quorum under either story where
// another's takes one under the other, and with one signature fewer they could both.
func TestNoTwoQuorums(t *testing.T) {
	for n := MinCohort; n <= 8; n++ {
		for corrupt := range n*mostTolerated/10000 + 1 {
			t.Run(fmt.Sprintf("%d members, %d corrupt", n, corrupt), func(t *testing.T) {
				gamma := (corrupt*10000 + n - 1) / n // the least with which as many may be
				r := newRigWith(t, 220, n, func(p *Params) { p.Keys, p.Corrupt = Classical, gamma })
				r.must(r.advertise(r.all()))
				s := r.shares.session
				if s.quorum != Quorum(n, gamma) || n*gamma/10000 != corrupt {
					t.Fatalf("quorum %d of %d members with %d in 10,000 corrupt, which are %d", s.quorum, n, gamma, n*gamma/10000)
				}
				forks := newForks(r, corrupt)
				taken := forks.try(s.quorum)
				if taken[0] == 0 || taken[0] != taken[1] {
					t.Errorf("%v quorums under the two stories, want as many of either", taken)
				}
				s.quorum--
				if forks.both == 0 {
					forks.try(s.quorum)
				} else {
					t.Errorf("%d ways to have a quorum of %d under each of two stories", forks.both, s.quorum+1)
				}
				if forks.both == 0 {
					t.Errorf("no way to have %d signatures under each of two stories: the quorum is higher than it need be", s.quorum)
				}
			})
		}
	}
}

// forks is a server that has two stories signed. The first members work for it.
type forks struct {
	r          *rig
	corrupt    int
	sharers    bitmap
	alive      [2]bitmap
	signatures [2]map[int][]byte
	both       int // ways in which both had a quorum
}

func newForks(r *rig, corrupt int) *forks {
	n := len(r.devices)
	f := &forks{r: r, corrupt: corrupt, sharers: setOf(n, r.all()...)}
	f.alive = [2]bitmap{setOf(n, r.all()...), setOf(n, r.all()[1:]...)}
	for story := range f.alive {
		f.signatures[story] = make(map[int][]byte)
		for i, d := range r.devices {
			f.signatures[story][i] = d.signer.sign(r.shares.session.confirmSigned(f.sharers, f.alive[story]))
		}
	}
	return f
}

// try goes through the ways and returns how many different quorums were taken of each
// story.
func (f *forks) try(quorum int) (taken [2]int) {
	n := len(f.r.devices)
	var known [2]map[int]bool // by signers: what a device says
	for story := range known {
		known[story] = make(map[int]bool)
		for signers := range 1 << n {
			msg := encodeQuorum(bitmap{byte(signers)}, f.signatures[story])
			err := f.r.shares.session.checkQuorum(msg, f.sharers, f.alive[story])
			if err != nil && bits.OnesCount(uint(signers)) >= quorum {
				f.r.t.Errorf("story %d signed by %b: %v", story, signers, err)
			}
			if other := f.r.shares.session.checkQuorum(msg, f.sharers, f.alive[1-story]); signers != 0 && other == nil {
				f.r.t.Errorf("story %d is taken, and %b signed the other", 1-story, signers)
			}
			if err == nil {
				known[story][signers] = true
				taken[story]++
			}
		}
	}
	ways := 1
	for range n - f.corrupt {
		ways *= 3
	}
	for way := range ways {
		signers := [2]int{1<<f.corrupt - 1, 1<<f.corrupt - 1}
		for i := f.corrupt; i < n; i++ {
			if story := way % 3; story < 2 {
				signers[story] |= 1 << i
			}
			way /= 3
		}
		if known[0][signers[0]] && known[1][signers[1]] {
			f.both++
		}
	}
	return taken
}
