package secagg

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/cloudflare/circl/group"
)

// wantRefusal checks an error's kind and whom it names; a nil blamed wants it to name
// nobody.
func wantRefusal(t testing.TB, err, kind error, blamed *ID) {
	t.Helper()
	var peer *PeerError
	named := errors.As(err, &peer)
	switch {
	case !errors.Is(err, kind):
		t.Fatalf("got error %v, want %v", err, kind)
	case blamed == nil && named:
		t.Fatalf("got error %v, want it to name nobody", err)
	case blamed != nil && (!named || peer.Peer != *blamed):
		t.Fatalf("got error %v, want it to name %v", err, blamed)
	}
}

// id is the id of a device to be blamed, nil for −1.
func (r *rig) id(place int) *ID {
	if place < 0 {
		return nil
	}
	return &r.devices[place].id
}

// The values of a device serve one step once. These are copies, so that one attempt can
// be shown many forgeries and go on in the end.

func (a *Advertised) again() *Advertised {
	c := *a
	c.channel, c.sigma = a.channel.copy(), a.sigma.Copy()
	return &c
}

func (d *Shared) again() *Shared {
	c := *d
	c.channel, c.pairs = d.channel.copy(), slices.Clone(d.pairs)
	c.levels, c.ownLevels = slices.Clone(d.levels), slices.Clone(d.ownLevels)
	mask := *d.mask
	if mask.kem != nil {
		kem := *mask.kem
		mask.kem = &kem
	}
	c.mask = &mask
	return &c
}

func (k *keeping) again() *keeping {
	c := *k
	c.sigma, c.b, c.pairs = slices.Clone(k.sigma), slices.Clone(k.b), slices.Clone(k.pairs)
	c.levels, c.ownLevels = slices.Clone(k.levels), slices.Clone(k.ownLevels)
	return &c
}

func (m *Masked) again() *Masked { return &Masked{keeping: m.keeping.again()} }

func (c *Confirmed) again() *Confirmed { return &Confirmed{keeping: c.keeping.again(), alive: c.alive} }

// toShares is an attempt up to the server's inboxes.
func toShares(t testing.TB, seed uint64, n int, change func(*Params)) *rig {
	t.Helper()
	r := newRigWith(t, seed, n, change)
	r.must(r.advertise(r.all()))
	r.must(r.share(r.all()))
	return r
}

func classical(p *Params) { p.Keys = Classical }

// sparse makes of 101 members or more a cohort with a small sparse graph.
func sparse(p *Params) { p.Keys, p.Corrupt, p.Dropout = Classical, 500, 500 }

// endWith runs the rest of an attempt, from Submit on, and checks the sum.
func (r *rig) endWith(survivors []int) {
	r.t.Helper()
	r.must(r.submit(survivors))
	r.end(survivors)
}

// end runs Confirm and Reveal and checks the sum.
func (r *rig) end(survivors []int) {
	r.t.Helper()
	r.must(r.confirm(survivors))
	r.must(r.finish(survivors))
	r.checkSum(survivors)
}

// inbox is a device's inbox taken apart: who shared, by place, and what they sent, by
// slot.
type inbox struct {
	sharers bitmap
	entries []*inboxEntry
}

// openInbox takes a device's inbox apart; nothing in it is shared with the original.
func (r *rig) openInbox(to int) *inbox {
	r.t.Helper()
	sharers, entries, err := r.shares.session.decodeInbox(bytes.Clone(r.devices[to].inbox), to)
	r.must(err)
	return &inbox{sharers, entries}
}

// entry is what from sent to.
func (r *rig) entry(to, from int) *inboxEntry {
	return r.openInbox(to).entries[r.shares.session.graph.slot(to, from)]
}

// drop withholds a sender's entry.
func (in *inbox) drop(s *session, to, from int) {
	in.sharers[from/8] &^= 1 << (from % 8)
	if slot := s.graph.slot(to, from); slot >= 0 {
		in.entries[slot] = nil
	}
}

func (in *inbox) encode(s *session, to int) []byte {
	b := append(message(kindInbox, 0), in.sharers...)
	for slot, from := range s.graph.neighbours(to) {
		if e := in.entries[slot]; e != nil {
			b = e.dealing.appendHead(b, s)
			b = e.parcel.append(b, s.graph.encapsulates(from, to))
			b = append(b, e.path...)
		}
	}
	return b
}

// forgeInbox is a device's inbox with a change in what one member sent.
func (r *rig) forgeInbox(to, from int, change func(e *inboxEntry)) []byte {
	r.t.Helper()
	s, in := r.shares.session, r.openInbox(to)
	change(in.entries[s.graph.slot(to, from)])
	return in.encode(s, to)
}

// pruneInbox is a device's inbox without what some members sent.
func (r *rig) pruneInbox(to int, gone ...int) []byte {
	r.t.Helper()
	s, in := r.shares.session, r.openInbox(to)
	for _, from := range gone {
		in.drop(s, to, from)
	}
	return in.encode(s, to)
}

// redeal is a Share message that its sender has changed and signed.
func (r *rig) redeal(dealer int, change func(m *dealing)) []byte {
	r.t.Helper()
	s, d := r.shares.session, r.devices[dealer]
	m, err := s.decodeDealing(bytes.Clone(d.shares), dealer)
	r.must(err)
	change(m)
	root := s.leaves(dealer, m).root()
	copy(m.signature[:], d.signer.sign(s.sharesSigned(dealer, m, &root)))
	return m.encode(s, dealer)
}

// reseal seals plain for a recipient in place of its shares.
func (r *rig) reseal(m *dealing, dealer, to int, plain []byte) {
	r.t.Helper()
	s := r.shares.session
	q := m.parcels[s.graph.slot(dealer, to)]
	var err error
	q.sealed, err = s.params.Keys.seal(s.adverts[to].channel, s.sealedContext(dealer, to, &m.b, q.hash()), plain, stream(1, "reseal", dealer))
	r.must(err)
}

// hash is that of the ciphertext, nil where there is none.
func (q *parcel) hash() *digest {
	if q.ciphertext == nil {
		return nil
	}
	h := ciphertextHash(q.ciphertext)
	return &h
}

// setOf is the bitmap of some of n places.
func setOf(n int, places ...int) bitmap {
	b := newBitmap(n)
	for _, p := range places {
		b.set(p)
	}
	return b
}

// survivorsOf is what a device of a complete graph is shown of a set without accusers.
func survivorsOf(n int, places ...int) []byte { return (&shown{alive: setOf(n, places...)}).encode() }

// flipped is b with a bit at a place changed; a negative place counts from the end.
func flipped(b []byte, at int) []byte {
	if at < 0 {
		at += len(b)
	}
	return with(b, at, []byte{b[at] ^ 1})
}

// rebuilt is a member's secret from what its neighbours keep of it.
func (r *rig) rebuilt(dealer int, secret byte) group.Scalar {
	r.t.Helper()
	s := r.shares.session
	var places []int
	var shares []group.Scalar
	for _, j := range s.graph.neighbours(dealer)[:s.graph.threshold] {
		k := r.devices[j].done.keeping
		list := k.b
		if secret == shareOfSigma {
			list = k.sigma
		}
		share := list[s.graph.slot(j, dealer)]
		x, err := decodeScalar(share[:])
		r.must(err)
		places, shares = append(places, s.shareIndex(dealer, j)), append(shares, x)
	}
	l, err := newLagrange(places)
	r.must(err)
	return l.secret(shares)
}

// advertiseAgain hands the server adverts that were made before, those of all unless
// some are named, and closes the step.
func (r *rig) advertiseAgain(who ...int) error {
	r.t.Helper()
	if who == nil {
		who = r.all()
	}
	for _, i := range who {
		r.must(r.adverts.Add(r.devices[i].id, r.devices[i].advert))
	}
	cohorts, err := r.adverts.Close()
	if err != nil {
		return err
	}
	r.shares = cohorts[0]
	for _, i := range who {
		r.devices[i].roster, err = r.shares.Roster(r.devices[i].id)
		r.must(err)
	}
	return nil
}
