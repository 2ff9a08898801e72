package secagg

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/cloudflare/circl/kem/xwing"
)

// The steps of one device and of the server, hybrid, vectors left out: BenchmarkMaskRange
// has those. 10 and 100 members are a complete graph, 1,000 a sparse one.

var benchSizes = []int{10, 100, 1000}

func benchSized(b *testing.B, run func(b *testing.B, n int)) {
	for _, n := range benchSizes {
		b.Run(fmt.Sprintf("n=%d", n), func(b *testing.B) { run(b, n) })
	}
}

// benchRig is an attempt up to the rosters.
func benchRig(b *testing.B, n int) *rig {
	r := newRig(b, 700, n)
	for i, d := range r.devices {
		r.must(r.advertiseOne(i))
		r.must(r.adverts.Add(d.id, d.advert))
	}
	cohorts, err := r.adverts.Close()
	r.must(err)
	r.shares = cohorts[0]
	return r
}

// dealFor has members deal without each checking the roster anew, which takes a thousand
// of them minutes.
func (r *rig) dealFor(who []int) {
	r.t.Helper()
	s := r.shares.session
	for _, i := range who {
		d, a := r.devices[i], r.devices[i].advertised
		b, err := randomScalar(d.rand)
		r.must(err)
		x := &dealer{session: s, self: i, mask: newMaskKey(s.params.Keys, &s.ctx0, a.sigma), rand: d.rand}
		m, err := x.deal(a.sigma, b, nil)
		r.must(err)
		leaves := s.leaves(i, m)
		root := leaves.root()
		copy(m.signature[:], d.signer.sign(s.sharesSigned(i, m, &root)))
		d.shares = m.encode(s, i)
		d.shared = &Shared{
			session: s, self: i, signer: d.signer, channel: a.channel.copy(), mask: x.mask,
			seed: selfSeed(&s.ctx1, b), ownShare: x.ownShare, pairs: x.pairs,
		}
		r.shares.got[i] = s.newReceived(i, d.shares, m, leaves)
	}
}

func BenchmarkDeviceAdvertise(b *testing.B) {
	r := newRig(b, 700, 10)
	d := r.devices[0]
	for b.Loop() {
		fresh := *d.checkedIn // Advertise uses its value up
		_, _, err := fresh.Advertise(r.params, d.signer, d.committed, d.rand)
		r.must(err)
	}
}

func BenchmarkDeviceShare(b *testing.B) {
	benchSized(b, func(b *testing.B, n int) {
		r := benchRig(b, n)
		d := r.devices[0]
		roster, err := r.shares.Roster(d.id)
		r.must(err)
		for b.Loop() {
			_, _, err := d.advertised.again().Share(roster, d.rand)
			r.must(err)
		}
		b.ReportMetric(float64(len(roster)), "roster-B")
	})
}

func BenchmarkDeviceOpen(b *testing.B) {
	benchSized(b, func(b *testing.B, n int) {
		r := benchRig(b, n)
		r.dealFor(append([]int{0}, r.shares.session.graph.neighbours(0)...))
		d := r.devices[0]
		// The others have shared as well, but what they did does not reach this device.
		c := newSubmissions(r.shares.session, setOf(n, r.all()...), r.shares.got)
		inbox, err := c.Inbox(d.id)
		r.must(err)
		for b.Loop() {
			m, _, err := d.shared.again().Open(inbox)
			r.must(err)
			m.Wipe()
		}
		b.ReportMetric(float64(len(inbox)), "inbox-B")
	})
}

// finishedBench is a finished attempt of which every tenth member vanished before Submit.
func finishedBench(b *testing.B, n int) (r *rig, survivors []int) {
	r = benchRig(b, n)
	r.dealFor(r.all())
	r.must(r.closeShares(r.all()))
	survivors = without(r.all(), scattered(n, n/10)...)
	r.must(r.submit(survivors))
	r.must(r.confirm(survivors))
	return r, survivors
}

func BenchmarkDeviceConfirmAndReveal(b *testing.B) {
	benchSized(b, func(b *testing.B, n int) {
		r, survivors := finishedBench(b, n)
		d := r.devices[survivors[0]]
		d.done.spent = false
		var reveal []byte
		for b.Loop() {
			c, _, err := d.done.again().Confirm(d.survivors)
			r.must(err)
			reveal, err = c.Reveal(r.reveals.Quorum())
			r.must(err)
		}
		b.ReportMetric(float64(len(reveal)), "reveal-B")
	})
}

// BenchmarkServer is all steps of the server, a tenth of the members lost after Share.
func BenchmarkServer(b *testing.B) {
	benchSized(b, func(b *testing.B, n int) {
		r, survivors := finishedBench(b, n)
		commitments := make(map[ID][32]byte)
		for i, d := range r.devices {
			commitments[d.id] = r.adverts.commit[i]
		}
		for _, i := range survivors {
			var err error
			r.devices[i].reveal, err = r.devices[i].confirmed.Reveal(r.reveals.Quorum())
			r.must(err)
		}
		var u *Unmasking
		for b.Loop() {
			u = r.serve(commitments, survivors)
		}
		b.ReportMetric(float64(u.Expansions()), "expansions")
	})
}

// serve plays the recorded messages of a finished attempt to a new server.
func (r *rig) serve(commitments map[ID][32]byte, survivors []int) *Unmasking {
	adverts, err := NewServer(r.params, commitments)
	r.must(err)
	for _, d := range r.devices {
		_, err := adverts.Committed(d.id)
		r.must(err)
		r.must(adverts.Add(d.id, d.advert))
	}
	cohorts, err := adverts.Close()
	r.must(err)
	shares := cohorts[0]
	var reply []byte
	for _, d := range r.devices {
		reply, err = shares.AppendRoster(reply[:0], d.id)
		r.must(err)
		r.must(shares.Add(d.id, d.shares))
	}
	submissions, err := shares.Close()
	r.must(err)
	for _, d := range r.devices {
		reply, err = submissions.AppendInbox(reply[:0], d.id)
		r.must(err)
	}
	for _, i := range survivors {
		if d := r.devices[i]; d.complaint != nil {
			_, err := submissions.Complain(d.id, d.complaint)
			r.must(err)
		}
		r.must(submissions.Add(r.devices[i].id))
	}
	confirms, err := submissions.Close()
	r.must(err)
	for _, i := range survivors {
		_, err := confirms.Survivors(r.devices[i].id)
		r.must(err)
		r.must(confirms.Add(r.devices[i].id, r.devices[i].confirm))
	}
	reveals, err := confirms.Close()
	r.must(err)
	for _, i := range survivors {
		r.must(reveals.Add(r.devices[i].id, bytes.Clone(r.devices[i].reveal)))
	}
	u, err := reveals.Close()
	r.must(err)
	if slices.IndexFunc(u.masks.keys, func(k digest) bool { return k == digest{} }) >= 0 {
		r.t.Fatal("a mask under no key")
	}
	return u
}

// BenchmarkReplies is a roster and an inbox of a thousand members, in new memory and in that of
// the one before, with nothing in a cache: other work comes between two of them.
func BenchmarkReplies(b *testing.B) {
	const n = 1000
	r := benchRig(b, n)
	r.dealFor(r.all())
	inboxes := newSubmissions(r.shares.session, setOf(n, r.all()...), r.shares.got)
	others := make([]uint64, 5<<20)
	for _, reply := range []struct {
		name string
		to   func(b []byte, id ID) ([]byte, error)
	}{{"roster", r.shares.AppendRoster}, {"inbox", inboxes.AppendInbox}} {
		for _, memory := range []string{"new", "again"} {
			b.Run(reply.name+"/memory="+memory, func(b *testing.B) {
				var before []byte
				for i := 0; b.Loop(); i++ {
					b.StopTimer()
					for j := range others {
						others[j]++
					}
					b.StartTimer()
					msg, err := reply.to(before, r.devices[i%n].id)
					r.must(err)
					if memory == "again" {
						before = msg[:0]
					}
				}
			})
		}
	}
}

// BenchmarkHashAfterEncapsulation is what a hash of a block takes on its own and after an encapsulation, where circl's
// code leaves the registers as it does and where they are cleared.
func BenchmarkHashAfterEncapsulation(b *testing.B) {
	sk, pk := xwing.DeriveKeyPair(make([]byte, xwing.SeedSize))
	defer func() { *sk = xwing.PrivateKey{} }()
	ciphertext, secret, coins := make([]byte, xwing.CiphertextSize), make([]byte, 32), make([]byte, xwing.EncapsulationSeedSize)
	for _, before := range []struct {
		name string
		do   func()
	}{
		{"alone", func() {}},
		{"left", func() { pk.EncapsulateTo(ciphertext, secret, coins) }},
		{"cleared", func() { pk.EncapsulateTo(ciphertext, secret, coins); clearUpper() }},
	} {
		b.Run(before.name, func(b *testing.B) {
			var hashing time.Duration
			for b.Loop() {
				before.do()
				start := time.Now()
				sha256.Sum256(secret)
				hashing += time.Since(start)
			}
			b.ReportMetric(float64(hashing.Nanoseconds())/float64(b.N), "hash-ns")
		})
	}
}
