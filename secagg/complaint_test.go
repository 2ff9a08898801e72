package secagg

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
)

// misdeal is a way to deal badly to one member, under a signature that holds.
type misdeal struct {
	name    string
	reason  reason
	kind    error
	forward bool // only an end that encapsulates can
	change  func(r *rig, m *dealing, dealer, to int)
}

func slotOf(r *rig, m *dealing, dealer, to int) *parcel {
	return m.parcels[r.shares.session.graph.slot(dealer, to)]
}

var misdeals = []misdeal{
	{"a seal that does not open", unopened, ErrForged, false, func(r *rig, m *dealing, dealer, to int) {
		q := slotOf(r, m, dealer, to)
		q.sealed = flipped(q.sealed, -1)
	}},
	{"shares sealed for another member", unopened, ErrForged, false, func(r *rig, m *dealing, dealer, to int) {
		for _, other := range r.shares.session.graph.neighbours(dealer) {
			if other != to {
				slotOf(r, m, dealer, to).sealed = slotOf(r, m, dealer, other).sealed
			}
		}
	}},
	{"shares that are no scalars", notScalars, ErrMalformed, false, func(r *rig, m *dealing, dealer, to int) {
		r.reseal(m, dealer, to, bytes.Repeat([]byte{0xff}, sharePair))
	}},
	{"a share whose commitment fails", uncommitted, ErrMismatch, false, func(r *rig, m *dealing, dealer, to int) {
		r.reseal(m, dealer, to, make([]byte, sharePair))
	}},
	{"another commitment to the share of σ", uncommitted, ErrMismatch, false, func(r *rig, m *dealing, dealer, to int) {
		slotOf(r, m, dealer, to).sigma[0] ^= 1
	}},
	{"another commitment to the share of b", uncommitted, ErrMismatch, false, func(r *rig, m *dealing, dealer, to int) {
		slotOf(r, m, dealer, to).b[0] ^= 1
	}},
	{"another commitment to the pair's seed", badPair, ErrMismatch, true, func(r *rig, m *dealing, dealer, to int) {
		slotOf(r, m, dealer, to).pair[0] ^= 1
	}},
}

// substituted is a ciphertext by the dealer that gives the other end another seed than
// the dealer committed to and masks with.
var substituted = misdeal{"substituted ciphertext", badPair, ErrMismatch, true, func(r *rig, m *dealing, dealer, to int) {
	s, d := r.shares.session, r.devices[dealer]
	secret, _ := decodeScalar(bytes.Repeat([]byte{1}, scalarSize))
	_, c, err := newMaskKey(Hybrid, &s.ctx0, secret).encapsulate(s.members[to].id, s.adverts[to].mask)
	r.must(err)
	slotOf(r, m, dealer, to).ciphertext = c
	// The seal is bound to the ciphertext: the dealer seals the same shares again.
	r.reseal(m, dealer, to, d.plain(r, dealer, to))
}}

// plain is what a dealer sealed for a member, which opens it.
func (d *testDevice) plain(r *rig, dealer, to int) []byte {
	r.t.Helper()
	s := r.shares.session
	m, err := s.decodeDealing(d.shares, dealer)
	r.must(err)
	q := slotOf(r, m, dealer, to)
	key, err := r.devices[to].advertised.channel.copy().opener()
	r.must(err)
	plain, err := key.open(q.sealed, s.sealedContext(dealer, to, &m.b, q.hash()))
	r.must(err)
	return plain
}

// Ways in which the two ends of a complaint go on.
const (
	bothStay = iota
	accuserGoneBeforeSubmit
	accuserGoneBeforeConfirm
	accuserGoneBeforeReveal
	accusedGoneBeforeSubmit
	accusedGoneBeforeReveal
	endings
)

var endingNames = []string{"both stay", "accuser gone before Submit", "accuser gone before Confirm", "accuser gone before Reveal",
	"accused gone before Submit", "accused gone before Reveal"}

// TestComplaint deals badly to one member, who complains before it submits. It costs the
// two the mask that they have in common: the sum is right, with both in it as long as
// they stay.
func TestComplaint(t *testing.T) {
	t.Parallel()
	for _, keys := range []KeyExchange{Hybrid, Classical} {
		list := misdeals
		if keys == Hybrid {
			list = append(slices.Clone(misdeals), substituted)
		}
		for at, bad := range list {
			for _, forward := range []bool{true, false} {
				if bad.forward && !forward || keys == Hybrid && !bad.forward && at > 0 {
					continue // Hybrid is for what has to do with its ciphertexts
				}
				for ending := range endings {
					if ending != bothStay && !bad.forward && at > 0 {
						continue // they differ in the reason alone
					}
					end := "forwards"
					if !forward {
						end = "backwards"
					}
					t.Run(fmt.Sprintf("%v/%s, %s, %s", keys, bad.name, end, endingNames[ending]), func(t *testing.T) {
						testComplaint(t, keys, bad, forward, ending)
					})
				}
			}
		}
	}
}

// edge is an edge of the graph on which the dealer encapsulates, or the other end does.
func (r *rig) edge(forward bool) (dealer, to int) {
	g := r.shares.session.graph
	for dealer = range g.n {
		for _, to = range g.neighbours(dealer) {
			if g.encapsulates(dealer, to) == forward {
				return dealer, to
			}
		}
	}
	r.t.Fatal("no such edge")
	return
}

// misdeal deals for everybody up to the inboxes, badly from one member to some.
func (r *rig) misdeal(bad misdeal, dealer int, to ...int) {
	r.t.Helper()
	for i, d := range r.devices {
		kept := d.advertised.again() // for plain, which wants the channel key
		r.shareOne(i)
		d.advertised = kept
	}
	r.devices[dealer].shares = r.redeal(dealer, func(m *dealing) {
		for _, j := range to {
			bad.change(r, m, dealer, j)
		}
	})
	for _, d := range r.devices {
		r.must(r.shares.Add(d.id, d.shares))
	}
	r.must(r.closeShares(r.all()))
}

func testComplaint(t *testing.T, keys KeyExchange, bad misdeal, forward bool, ending int) {
	const n = 7 // threshold 5, quorum 4
	r := newRigWith(t, 150, n, func(p *Params) { p.Keys = keys })
	r.must(r.advertise(r.all()))
	dealer, to := r.edge(forward)
	accused, accuser := r.devices[dealer], r.devices[to]
	r.misdeal(bad, dealer, to)
	for i := range n {
		r.maskOne(i)
		if i != to && r.devices[i].complaint != nil {
			t.Fatalf("device %d complains", i)
		}
	}
	said := accuser.masking.Accused()
	if len(said) != 1 {
		t.Fatalf("%v accused, want one", said)
	}
	wantRefusal(t, said[0], bad.kind, &accused.id)
	named, err := r.submissions.Complain(accuser.id, accuser.complaint)
	r.must(err)
	if len(named) != 1 {
		t.Fatalf("the server reads %d accusations, want one", len(named))
	}
	wantRefusal(t, named[0], ErrMismatch, &accused.id)
	if c, _ := r.shares.session.decodeComplaint(accuser.complaint); c.accusations[0].reason != bad.reason {
		t.Errorf("the reason is %q, want %q", c.accusations[0].reason, bad.reason)
	}
	accuser.complaint = nil // it was sent

	present := func(accuserGone, accusedGone []int) []int {
		who := r.all()
		if slices.Contains(accuserGone, ending) {
			who = without(who, to)
		}
		if slices.Contains(accusedGone, ending) {
			who = without(who, dealer)
		}
		return who
	}
	survivors := present([]int{accuserGoneBeforeSubmit}, []int{accusedGoneBeforeSubmit})
	for _, i := range survivors {
		r.must(r.submissions.Add(r.devices[i].id))
		add(r.sum, r.devices[i].masked)
	}
	r.must(r.closeSubmissions(survivors))
	r.must(r.confirm(present([]int{accuserGoneBeforeSubmit, accuserGoneBeforeConfirm}, []int{accusedGoneBeforeSubmit})))
	r.must(r.finish(present([]int{accuserGoneBeforeSubmit, accuserGoneBeforeConfirm, accuserGoneBeforeReveal},
		[]int{accusedGoneBeforeSubmit, accusedGoneBeforeReveal})))
	r.checkSum(survivors)
}
