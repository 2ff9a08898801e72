package secagg

import (
	"bytes"
	"testing"
)

// Every decoder, fed with real messages and what the fuzzer makes of them, either
// refuses or gives something that encodes to the same bytes again: there is one
// encoding of everything. Where a message is signed or committed to in whole, the one
// that was sent is the only one that is taken.

const fuzzSize = 9 // one more than a byte of a bitmap holds

// fuzzRig is an attempt whose messages are seeds, up to the reveals. Member 8 has not
// shared, 4 has not submitted, and 0 falsely accuses 1.
func fuzzRig(f *testing.F, keys KeyExchange, levels ...int) *rig {
	f.Helper()
	r := newRigWith(f, 500, fuzzSize, func(p *Params) { p.Keys, p.Levels = keys, levels })
	r.must(r.advertise(r.all()))
	r.must(r.share(without(r.all(), 8)))
	survivors := without(r.all(), 8, 4)
	for _, i := range survivors {
		r.maskOne(i)
	}
	r.lie(0, unopened, 1)
	r.devices[0].complaint = r.accuse(0, unopened, 1)
	for _, i := range survivors {
		r.must(r.submissions.Add(r.devices[i].id))
	}
	r.must(r.closeSubmissions(survivors))
	r.must(r.confirm(survivors))
	for _, i := range survivors {
		var err error
		r.devices[i].reveal, err = r.devices[i].confirmed.Reveal(r.reveals.Quorum())
		r.must(err)
	}
	return r
}

// sparseSession is the cohort's session as it would be on a sparse graph.
func (r *rig) sparseSession() *session {
	s := *r.shares.session
	seed := hash("test graph", nil)
	s.graph = newGraph(fuzzSize, 4, 3, false, &seed)
	return &s
}

// seed adds the message, one that is cut and one that is too long.
func seed(f *testing.F, msg []byte) {
	f.Add(msg)
	f.Add(msg[:len(msg)/2])
	f.Add(append(bytes.Clone(msg), 0))
	f.Add([]byte{})
}

// same holds a message against what it encodes to again.
func same(t *testing.T, msg, again []byte) {
	t.Helper()
	if !bytes.Equal(again, msg) {
		t.Errorf("%x encodes again to %x", msg, again)
	}
}

func FuzzCommitted(f *testing.F) {
	r := newRig(f, 501, 5)
	seed(f, r.devices[3].committed)
	f.Add(with(r.devices[3].committed, headerSize, []byte{0, 0, 0x4e, 0x20, 0, 0, 0x4e, 0x1f}))
	f.Fuzz(func(t *testing.T, msg []byte) {
		if c, err := decodeCommitted(msg); err == nil {
			same(t, msg, c.encode())
		}
	})
}

func FuzzAdvert(f *testing.F) {
	for _, keys := range []KeyExchange{Hybrid, Classical} {
		r := newRigWith(f, 502, 3, func(p *Params) { p.Keys = keys })
		r.must(r.advertiseOne(0))
		seed(f, r.devices[0].advert)
	}
	f.Fuzz(func(t *testing.T, msg []byte) {
		for _, keys := range []KeyExchange{Hybrid, Classical} {
			if b, err := body(kindAdvert, msg, keys.advertSize()); err == nil {
				same(t, msg, decodeAdvert(keys, b).append(message(kindAdvert, 0)))
			}
		}
	})
}

func FuzzRoster(f *testing.F) {
	one := newRigWith(f, 503, fuzzSize, classical)
	one.must(one.advertise(without(one.all(), 2, 5)))
	seed(f, one.devices[0].roster)
	three := withRolls(f, 504, 20, func(r *rig) []*Roll {
		return []*Roll{r.rollOf(r.ca, upTo(15)), r.rollOf(r.ca, []int{15, 16, 17, 18}, strangers(504, 3)...)}
	}, func(p *Params) { p.Cohort = 7 })
	for i, d := range three.devices {
		three.must(three.advertiseOne(i))
		three.must(three.adverts.Add(d.id, d.advert))
	}
	cohorts, err := three.adverts.Close()
	three.must(err)
	msg, err := cohorts[1].Roster(cohorts[1].Members()[2])
	three.must(err)
	seed(f, msg)
	f.Add(append(message(kindRoster, 2), 0xff, 0xff))
	f.Fuzz(func(t *testing.T, msg []byte) {
		for _, r := range []*rig{one, three} {
			c := &committed{devices: len(r.devices)}
			out, err := decodeRoster(msg, &r.params, c)
			if err != nil {
				continue
			}
			again := out.prefix()
			if Cohorts(c.devices, r.params.Cohort) > 1 {
				again = append(append(again, out.opened[:]...), out.path...)
			}
			same(t, msg, append(again, out.keys...))
		}
	})
}

func FuzzShares(f *testing.F) {
	var sessions []*session
	for _, keys := range []KeyExchange{Hybrid, Classical} {
		r := fuzzRig(f, keys)
		seed(f, r.devices[0].shares)
		sessions = append(sessions, r.shares.session, r.sparseSession())
	}
	levelled := fuzzRig(f, Classical, 5, 7, 9)
	seed(f, levelled.devices[0].shares)
	sessions = append(sessions, levelled.shares.session, levelled.sparseSession())
	f.Fuzz(func(t *testing.T, msg []byte) {
		for _, s := range sessions {
			if m, err := s.decodeDealing(msg, 0); err == nil {
				same(t, msg, m.encode(s, 0))
			}
		}
	})
}

func FuzzInbox(f *testing.F) {
	var sessions []*session
	for _, keys := range []KeyExchange{Hybrid, Classical} {
		r := fuzzRig(f, keys)
		seed(f, r.devices[0].inbox)
		sessions = append(sessions, r.shares.session, r.sparseSession())
	}
	levelled := fuzzRig(f, Classical, 5, 7, 9)
	seed(f, levelled.devices[0].inbox)
	sessions = append(sessions, levelled.shares.session, levelled.sparseSession())
	f.Fuzz(func(t *testing.T, msg []byte) {
		for _, s := range sessions {
			if sharers, entries, err := s.decodeInbox(msg, 0); err == nil {
				same(t, msg, (&inbox{sharers, entries}).encode(s, 0))
			}
		}
	})
}

func FuzzComplaint(f *testing.F) {
	r := fuzzRig(f, Classical)
	sessions := []*session{r.shares.session, r.sparseSession()}
	good := r.devices[0].complaint
	seed(f, good)
	seed(f, append(append(bytes.Clone(good[:headerSize]), make([]byte, signatureSize)...), good[headerSize:]...))
	f.Add(append(message(kindComplaint, 2), 0xff, 0xff))
	f.Fuzz(func(t *testing.T, msg []byte) {
		for _, s := range sessions {
			if c, err := s.decodeComplaint(msg); err == nil {
				same(t, msg, c.encode())
			}
		}
	})
}

func FuzzSurvivors(f *testing.F) {
	r := fuzzRig(f, Classical)
	sessions := []*session{r.shares.session, r.sparseSession()}
	good := r.devices[1].survivors
	seed(f, good)
	pledges := 4 * signatureSize
	seed(f, append(append(bytes.Clone(good[:headerSize+2]), make([]byte, pledges)...), good[headerSize+2:]...))
	f.Fuzz(func(t *testing.T, msg []byte) {
		for _, s := range sessions {
			if v, err := s.decodeSurvivors(msg, 1); err == nil {
				same(t, msg, v.encode())
			}
		}
	})
}

func FuzzConfirm(f *testing.F) {
	r := fuzzRig(f, Classical)
	for _, i := range []int{0, 1} { // 1 stands accused and gives a seed away
		seed(f, r.devices[i].confirm)
	}
	f.Fuzz(func(t *testing.T, msg []byte) {
		for _, i := range []int{0, 1} {
			c := newConfirms(r.shares.session, r.confirms.cohort)
			if err := c.Add(r.devices[i].id, msg); err == nil {
				same(t, msg, r.devices[i].confirm)
			}
		}
	})
}

func FuzzQuorum(f *testing.F) {
	r := fuzzRig(f, Classical)
	k, s := r.devices[0].done.keeping, r.shares.session
	seed(f, r.reveals.Quorum())
	alive := setOf(fuzzSize, 0, 1, 2, 3, 5, 6, 7)
	seed(f, quorumOf(fuzzSize, alive.places(), func(i int) []byte { return r.devices[i].confirm[headerSize:][:signatureSize] }))
	f.Fuzz(func(t *testing.T, msg []byte) {
		if s.checkQuorum(msg, k.sharers, alive) == nil {
			signers, err := decodeBitmap(msg[headerSize:][:bitmapSize(fuzzSize)], fuzzSize)
			if err != nil || signers.count() < s.quorum {
				t.Fatalf("%v signed, %v, want a quorum of %d", signers.places(), err, s.quorum)
			}
			same(t, msg, quorumOf(fuzzSize, signers.places(), func(i int) []byte { return r.devices[i].confirm[headerSize:][:signatureSize] }))
		}
	})
}

func FuzzReveal(f *testing.F) {
	rigs := []*rig{fuzzRig(f, Classical), fuzzRig(f, Classical, 5, 7, 9)}
	for _, r := range rigs {
		for _, i := range []int{0, 1} {
			seed(f, r.devices[i].reveal)
		}
	}
	f.Fuzz(func(t *testing.T, msg []byte) {
		for _, r := range rigs {
			for _, i := range []int{0, 1} {
				if _, err := r.reveals.decode(i, msg); err == nil {
					same(t, msg, r.devices[i].reveal)
				}
			}
		}
	})
}
