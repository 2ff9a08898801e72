package secagg

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/cloudflare/circl/dh/x25519"
)

// inboxRig is an attempt of five up to the inboxes, and in it a recipient, two members
// that encapsulate to it, and a second recipient to whom the first of them does, too.
func inboxRig(t *testing.T, keys KeyExchange, change func(*Params)) (r *rig, to, from, other, second int) {
	t.Helper()
	r = toShares(t, 102, 5, func(p *Params) { p.Keys = keys; change(p) })
	g := r.shares.session.graph
	for to := range g.n {
		var dealers []int
		for _, from := range g.neighbours(to) {
			if g.encapsulates(from, to) {
				dealers = append(dealers, from)
			}
		}
		for _, second := range g.neighbours(dealers[0]) {
			if second != to && g.encapsulates(dealers[0], second) {
				return r, to, dealers[0], dealers[1], second
			}
		}
	}
	t.Fatal("nobody encapsulates to two")
	return
}

// hostileInbox is a change to what one member sent, which the recipient refuses.
type hostileInbox struct {
	name  string
	forge func(e *inboxEntry)
}

// TestHostileInbox shows a device an inbox that is not what a member sent to it.
func TestHostileInbox(t *testing.T) {
	for _, keys := range []KeyExchange{Hybrid, Classical} {
		r, to, from, other, second := inboxRig(t, keys, func(*Params) {})
		s := r.shares.session
		replayed := func(change func(*Params)) *inboxEntry {
			// The same devices with the same secrets; it is the context that differs.
			elsewhere := toShares(t, 102, 5, func(p *Params) { p.Keys = keys; change(p) })
			e := elsewhere.entry(to, from)
			if want := keys.sizes().ciphertext; len(e.parcel.ciphertext) != want {
				e.parcel.ciphertext = make([]byte, want) // there the other end encapsulates
			}
			return e
		}
		tests := []hostileInbox{
			{"share forged by the server", func(e *inboxEntry) {
				h := ciphertextHash(e.parcel.ciphertext)
				var err error
				e.parcel.sealed, err = keys.seal(s.adverts[to].channel, s.sealedContext(from, to, &e.b, &h), make([]byte, sharePair), stream(2, "server", 0))
				r.must(err)
			}},
			{"share signed by another member", func(e *inboxEntry) { *e = *r.entry(to, other) }},
			{"replayed share: of another recipient", func(e *inboxEntry) { *e = *r.entry(second, from) }},
			{"replayed share: of another recipient on the right path", func(e *inboxEntry) {
				e.parcel.sealed = r.entry(second, from).parcel.sealed
			}},
			{"replayed share: from another attempt", func(e *inboxEntry) { *e = *replayed(func(p *Params) { p.Attempt++ }) }},
			{"replayed share: from another round", func(e *inboxEntry) { *e = *replayed(func(p *Params) { p.Round++ }) }},
			{"replayed share: from another task", func(e *inboxEntry) { *e = *replayed(func(p *Params) { p.Task = "x" }) }},
			{"another member's parcel", func(e *inboxEntry) { e.parcel = r.entry(to, other).parcel }},
			{"low-order point in the seal", func(e *inboxEntry) {
				at := len(e.parcel.sealed) - sharePair - sealTag - x25519.Size
				e.parcel.sealed = with(e.parcel.sealed, at, lowOrderPoints[3])
			}},
			{"another commitment to b", func(e *inboxEntry) { e.b[0] ^= 1 }},
			{"another commitment to the dealer's own share", func(e *inboxEntry) { e.ownShare[0] ^= 1 }},
			{"another commitment to the share of σ", func(e *inboxEntry) { e.parcel.sigma[0] ^= 1 }},
			{"another commitment to the share of b", func(e *inboxEntry) { e.parcel.b[0] ^= 1 }},
			{"another commitment to the pair's seed", func(e *inboxEntry) { e.parcel.pair[0] ^= 1 }},
			{"a flipped bit in the signature", func(e *inboxEntry) { e.signature[3] ^= 1 }},
			{"a flipped bit in the path", func(e *inboxEntry) { e.path[33] ^= 1 }},
		}
		if keys == Hybrid {
			tests = append(tests, hostileInbox{"substituted ciphertext", func(e *inboxEntry) {
				sigma, err := randomScalar(stream(2, "server", 1))
				r.must(err)
				_, e.parcel.ciphertext, err = newMaskKey(keys, &s.ctx0, sigma).encapsulate(s.members[to].id, s.adverts[to].mask)
				r.must(err)
			}}, hostileInbox{"low-order point in the ciphertext", func(e *inboxEntry) {
				e.parcel.ciphertext = with(e.parcel.ciphertext, -x25519.Size, lowOrderPoints[3])
			}})
		}
		for _, test := range tests {
			forged := r.forgeInbox(to, from, test.forge)
			t.Run(keys.String()+"/"+test.name, func(t *testing.T) {
				d := r.devices[to].shared.again()
				m, complaint, err := d.Open(forged)
				wantRefusal(t, err, ErrForged, r.id(from))
				if m != nil || complaint != nil {
					t.Error("a value or a complaint came with the error: nobody is to be accused of what the server forged")
				}
				if _, _, err := d.Open(r.devices[to].inbox); !errors.Is(err, ErrSpent) {
					t.Errorf("after the refusal: %v, want ErrSpent", err)
				}
			})
		}
		r.endWith(r.all())
	}
}

// TestCohortReplay shows a device what a neighbour dealt to another cohort of the same
// round.
func TestCohortReplay(t *testing.T) {
	r := newRigWith(t, 120, 12, func(p *Params) { p.Cohort, p.Keys = 6, Classical })
	for i, d := range r.devices {
		r.must(r.advertiseOne(i))
		r.must(r.adverts.Add(d.id, d.advert))
	}
	cohorts, err := r.adverts.Close()
	r.must(err)
	var groups [][]int
	for _, shares := range cohorts {
		r.shares = shares
		groups = append(groups, slices.Clone(shares.places))
		for _, i := range shares.places {
			r.devices[i].roster, err = shares.Roster(r.devices[i].id)
			r.must(err)
		}
		r.must(r.share(shares.places))
	}
	// r.shares is the second cohort now; its members' messages reach one of the first.
	victim := groups[0][1]
	d, s := r.devices[victim], r.devices[victim].shared.session
	self, _ := s.place(d.id)
	sharers, entries, err := s.decodeInbox(bytes.Clone(d.inbox), self)
	r.must(err)
	dealer := r.devices[groups[1][2]]
	theirs := dealer.shared.session
	place, _ := theirs.place(dealer.id)
	m, err := theirs.decodeDealing(dealer.shares, place)
	r.must(err)
	in := &inbox{sharers, entries}
	e := in.entries[0]
	e.dealing = *m
	e.parcel.sealed, e.parcel.sigma, e.parcel.b = m.parcels[0].sealed, m.parcels[0].sigma, m.parcels[0].b
	_, _, err = d.shared.again().Open(in.encode(s, self))
	wantRefusal(t, err, ErrForged, &s.members[s.graph.neighbours(self)[0]].id)
	if m, _, err := d.shared.Open(d.inbox); err != nil || m == nil {
		t.Errorf("its own inbox: %v", err)
	}
}

// TestMalformedInbox cuts and stretches an inbox.
func TestMalformedInbox(t *testing.T) {
	r := toShares(t, 121, 5, classical)
	good := r.devices[0].inbox
	for name, msg := range map[string][]byte{
		"empty":               nil,
		"header alone":        good[:headerSize],
		"short":               good[:len(good)-1],
		"long":                append(bytes.Clone(good), 0),
		"another kind":        with(good, 0, []byte{byte(kindRoster)}),
		"version 3":           with(good, 1, []byte{3}),
		"a bit past the last": with(good, headerSize, []byte{0x3f}),
		"an entry missing":    with(good, headerSize, []byte{0x0f}),
	} {
		_, _, err := r.devices[0].shared.again().Open(msg)
		t.Run(name, func(t *testing.T) { wantRefusal(t, err, ErrMalformed, nil) })
	}
}

// TestPrunedInbox withholds what members sent: below the threshold, or the recipient
// itself, no vector is masked at all; above it the ends of a pruned edge disagree, and
// whoever is shown survivors that have both refuses them.
func TestPrunedInbox(t *testing.T) {
	const n, victim = 7, 0 // threshold 5
	r := toShares(t, 122, n, classical)
	for name, test := range map[string]struct {
		kind error
		gone []int
	}{
		"below the threshold":   {ErrTooFew, []int{4, 5, 6}},
		"all":                   {ErrTooFew, []int{1, 2, 3, 4, 5, 6}},
		"without the recipient": {ErrRefused, []int{victim}},
	} {
		_, _, err := r.devices[victim].shared.again().Open(r.pruneInbox(victim, test.gone...))
		t.Run(name, func(t *testing.T) { wantRefusal(t, err, test.kind, nil) })
	}

	picky := r.devices[victim].shared.again()
	own := *picky.session
	own.params.MinSurvivors = 7
	picky.session = &own
	_, _, err := picky.Open(r.pruneInbox(victim, 6))
	t.Run("below the device's own minimum", func(t *testing.T) { wantRefusal(t, err, ErrTooFew, nil) })

	r.devices[victim].inbox = r.pruneInbox(victim, 5, 6)
	for i := range n {
		r.maskOne(i)
		r.must(r.submissions.Add(r.devices[i].id))
	}
	r.must(r.closeSubmissions(r.all()))
	_, _, err = r.devices[victim].done.Confirm(r.devices[victim].survivors)
	wantRefusal(t, err, ErrRefused, r.id(5))
	// What the others sign covers who shared as they saw it, so that the victim's
	// signature would not have counted among theirs.
	others := without(r.all(), victim)
	r.must(r.confirm(others))
	r.must(r.finish(others))
	if slices.Equal(r.sum, r.plain(r.all())) {
		t.Error("the sum is right though a mask of it is left")
	}
}
