package secagg

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"slices"
	"testing"
)

// wantRefusal checks an error's kind and, unless blamed is nil, whom it names.
func wantRefusal(t *testing.T, err, kind error, blamed *ID) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Fatalf("got error %v, want %v", err, kind)
	}
	var peer *PeerError
	if blamed != nil && (!errors.As(err, &peer) || peer.Peer != *blamed) {
		t.Fatalf("got error %v, want it to name %v", err, blamed)
	}
}

// forgeInbox replaces what member from sealed in the inbox of member to.
func (r *rig) forgeInbox(to, from int, change func(e *inboxEntry)) {
	r.t.Helper()
	n := len(r.devices)
	d := r.devices[to]
	in, err := decodeInbox(bytes.Clone(d.inbox), n, to)
	r.must(err)
	change(in.entries[from])
	d.inbox = encodeInbox(in)
}

func encodeInbox(in *inbox) []byte {
	b := append(message(kindInbox, 0), in.shared...)
	for _, e := range in.entries {
		if e != nil {
			b = e.append(b)
		}
	}
	return b
}

// entry is what from sealed for to.
func (r *rig) entry(to, from int) *inboxEntry {
	r.t.Helper()
	in, err := decodeInbox(r.devices[to].inbox, len(r.devices), to)
	r.must(err)
	return in.entries[from]
}

// dealAgain signs as device from a message in which what it sealed for to is
// replaced, as a hostile device would.
func (r *rig) dealAgain(to, from int, sealed []byte) *inboxEntry {
	r.t.Helper()
	d := r.devices[from]
	s := d.shared.session
	m, err := decodeShares(bytes.Clone(d.shares), len(r.devices), from)
	r.must(err)
	m.sealed[to] = sealed
	leaves := s.leaves(from, m)
	root := leaves.root()
	e := &inboxEntry{commitment: m.commitment, sealed: sealed, path: leaves.path(to)}
	copy(e.signature[:], d.signer.sign(s.sharesSigned(from, &m.commitment, &root)))
	return e
}

// TestHostileInbox shows device 0 an inbox that is not what device 3 sent.
func TestHostileInbox(t *testing.T) {
	const n, to, from = 5, 0, 3
	tests := []struct {
		name  string
		kind  error
		forge func(r *rig)
	}{
		{"share forged by the server", ErrForged, func(r *rig) {
			r.forgeInbox(to, from, func(e *inboxEntry) {
				s := r.devices[to].shared.session
				plain := make([]byte, sharePair)
				e.sealed, _ = seal(&s.roster[to].channel, s.sealedContext(from, to, &e.commitment), plain, stream(2, "server", 0))
			})
		}},
		{"share signed by another member", ErrForged, func(r *rig) {
			r.forgeInbox(to, from, func(e *inboxEntry) { *e = *r.entry(to, 2) })
		}},
		{"share for another recipient", ErrForged, func(r *rig) {
			other := r.entry(1, from)
			r.forgeInbox(to, from, func(e *inboxEntry) { *e = *other })
		}},
		{"share for another recipient under the right path", ErrForged, func(r *rig) {
			other := r.entry(1, from)
			r.forgeInbox(to, from, func(e *inboxEntry) { e.sealed = other.sealed })
		}},
		{"share from another attempt", ErrForged, func(r *rig) {
			r.forgeInbox(to, from, func(e *inboxEntry) { *e = *otherAttempt(r, func(p *Params) { p.Attempt++ }).entry(to, from) })
		}},
		{"share from another round", ErrForged, func(r *rig) {
			r.forgeInbox(to, from, func(e *inboxEntry) { *e = *otherAttempt(r, func(p *Params) { p.Round++ }).entry(to, from) })
		}},
		{"another commitment", ErrForged, func(r *rig) {
			r.forgeInbox(to, from, func(e *inboxEntry) { e.commitment[0] ^= 1 })
		}},
		{"a flipped bit in the seal", ErrForged, func(r *rig) {
			r.forgeInbox(to, from, func(e *inboxEntry) { e.sealed[40] ^= 1 })
		}},
		{"a flipped bit in the signature", ErrForged, func(r *rig) {
			r.forgeInbox(to, from, func(e *inboxEntry) { e.signature[3] ^= 1 })
		}},
		{"a flipped bit in the path", ErrForged, func(r *rig) {
			r.forgeInbox(to, from, func(e *inboxEntry) { e.path[70] ^= 1 })
		}},
		{"garbage that its dealer signed", ErrForged, func(r *rig) {
			r.forgeInbox(to, from, func(e *inboxEntry) { *e = *r.dealAgain(to, from, make([]byte, sealedSize)) })
		}},
		{"another recipient's share that its dealer signed", ErrForged, func(r *rig) {
			other := r.entry(1, from).sealed
			r.forgeInbox(to, from, func(e *inboxEntry) { *e = *r.dealAgain(to, from, other) })
		}},
		{"a share that is no scalar", ErrMalformed, func(r *rig) {
			r.forgeInbox(to, from, func(e *inboxEntry) {
				s := r.devices[to].shared.session
				sealed, err := seal(&s.roster[to].channel, s.sealedContext(from, to, &e.commitment),
					bytes.Repeat([]byte{0xff}, sharePair), stream(2, "dealer", 0))
				r.must(err)
				*e = *r.dealAgain(to, from, sealed)
			})
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t, 102, n)
			r.must(r.advertise(r.all()))
			r.must(r.share(r.all()))
			test.forge(r)
			d := r.devices[to]
			_, err := d.shared.Open(d.inbox)
			wantRefusal(t, err, test.kind, &r.devices[from].id)
			if _, err := d.shared.Open(d.inbox); !errors.Is(err, ErrSpent) {
				t.Errorf("after the refusal: %v, want ErrSpent", err)
			}
		})
	}
}

// otherAttempt is the same devices in an attempt of other parameters, up to Share.
func otherAttempt(r *rig, change func(*Params)) *rig {
	r.t.Helper()
	other := newRig(r.t, 102, len(r.devices))
	change(&other.params)
	var err error
	other.adverts, err = NewServer(other.params)
	r.must(err)
	r.must(other.advertise(other.all()))
	r.must(other.share(other.all()))
	return other
}

// TestPrunedInbox leaves senders, or the recipient, out of an inbox.
func TestPrunedInbox(t *testing.T) {
	for _, test := range []struct {
		name string
		kind error
		keep []int
	}{
		{"below the threshold", ErrTooFew, []int{0, 1, 2}},
		{"without the recipient", ErrRefused, []int{1, 2, 3, 4}},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t, 103, 5)
			r.must(r.advertise(r.all()))
			r.must(r.share(r.all()))
			d := r.devices[0]
			in, err := decodeInbox(d.inbox, 5, 0)
			r.must(err)
			in.shared = newBitmap(5)
			for i := range in.entries {
				if slices.Contains(test.keep, i) {
					in.shared.set(i)
				} else {
					in.entries[i] = nil
				}
			}
			_, err = d.shared.Open(encodeInbox(in))
			wantRefusal(t, err, test.kind, nil)
		})
	}
}

// survivorsOf encodes a set of roster places.
func survivorsOf(n int, places ...int) []byte {
	b := newBitmap(n)
	for _, p := range places {
		b.set(p)
	}
	return encodeSurvivors(b)
}

// TestHostileSurvivors shows device 0, after a Share step without device 6, sets
// that it must not answer.
func TestHostileSurvivors(t *testing.T) {
	const n = 7 // threshold 5
	r := newRig(t, 104, n)
	r.must(r.advertise(r.all()))
	r.must(r.share(without(r.all(), 6)))
	r.must(r.submit([]int{0, 1, 2, 3, 4}))
	d := r.devices[0]
	tests := []struct {
		name   string
		kind   error
		blamed *ID
		msg    []byte
	}{
		{"without the device itself", ErrRefused, nil, survivorsOf(n, 1, 2, 3, 4, 5)},
		{"below the threshold", ErrTooFew, nil, survivorsOf(n, 0, 1, 2, 3)},
		{"with one that never shared", ErrRefused, &r.devices[6].id, survivorsOf(n, 0, 1, 2, 3, 6)},
		{"with one outside the roster", ErrMalformed, nil, append(message(kindSurvivors, 1), 0x9f)},
		{"short", ErrMalformed, nil, message(kindSurvivors, 0)},
		{"long", ErrMalformed, nil, append(survivorsOf(n, 0, 1, 2, 3, 4), 0)},
		{"of another kind", ErrMalformed, nil, append(message(kindReveal, 1), 0x1f)},
	}
	for _, test := range tests {
		_, err := d.done.Reveal(test.msg)
		t.Run(test.name, func(t *testing.T) { wantRefusal(t, err, test.kind, test.blamed) })
	}
	// A refused set costs nothing; an answered one is the only one.
	first, err := d.done.Reveal(r.survivors)
	r.must(err)
	for name, set := range map[string][]byte{
		"a second set":         survivorsOf(n, 0, 1, 2, 3, 5),
		"one more survivor":    survivorsOf(n, 0, 1, 2, 3, 4, 5),
		"a set once malformed": append(survivorsOf(n, 0, 1, 2, 3, 4), 0),
	} {
		_, err := d.done.Reveal(set)
		t.Run(name, func(t *testing.T) { wantRefusal(t, err, ErrDiffers, nil) })
	}
	again, err := d.done.Reveal(r.survivors)
	r.must(err)
	if !bytes.Equal(first, again) {
		t.Error("the answer changed")
	}
}

// TestOneKind looks into a reveal: for each member exactly one share, of the kind
// that the survivors ask for, and none for who never shared.
func TestOneKind(t *testing.T) {
	const n = 7
	r := newRig(t, 105, n)
	r.must(r.advertise(r.all()))
	r.must(r.share(without(r.all(), 6)))
	r.must(r.submit([]int{0, 1, 2, 3, 4}))
	k := r.devices[0].done.keeping
	kept := &keeping{}
	for j := range n {
		kept.b, kept.sigma = append(kept.b, nil), append(kept.sigma, nil)
		if k.b[j] != nil {
			kept.b[j] = k.b[j].Copy()
		}
		if k.sigma[j] != nil {
			kept.sigma[j] = k.sigma[j].Copy()
		}
	}
	msg, err := r.devices[0].done.Reveal(r.survivors)
	r.must(err)
	want := message(kindReveal, 0)
	want = append(want, r.reveals.survivorsHash[:]...)
	for j := range 6 {
		share := kept.b[j]
		if j == 5 {
			share = kept.sigma[j]
		}
		e := encodeScalar(share)
		want = append(want, e[:]...)
	}
	if !bytes.Equal(msg, want) {
		t.Error("the reveal is not one share for each sharer, b for survivors and σ for device 5")
	}
	if kept.b[6] != nil || kept.sigma[6] != nil {
		t.Error("shares were kept for a device that never shared")
	}
	if kept.sigma[0] != nil {
		t.Error("a device keeps a share of its own σ")
	}
	for _, share := range slices.Concat(k.b, k.sigma) {
		if share != nil && !share.IsZero() {
			t.Error("shares outlive the reveal")
		}
	}
}

// TestParams holds the bounds on which a device insists whatever the plan says.
func TestParams(t *testing.T) {
	ca := newKey(1, "authority", 0)
	key := newKey(1, "device", 0)
	signer := Signer{key, Certify(ca, key.Public().(ed25519.PublicKey))}
	for name, change := range map[string]func(p *Params){
		"no task":                 func(p *Params) { p.Task = "" },
		"no authority":            func(p *Params) { p.CA = nil },
		"no words":                func(p *Params) { p.Length = 0 },
		"a word too many":         func(p *Params) { p.Length = maxLength + 1 },
		"no ring":                 func(p *Params) { p.RingBits = 0 },
		"too wide a ring":         func(p *Params) { p.RingBits = 33 },
		"a cohort of two":         func(p *Params) { p.Cohort = 2 },
		"too large a cohort":      func(p *Params) { p.Cohort = MaxCohort + 1 },
		"a sum of two":            func(p *Params) { p.MinSurvivors = 2 },
		"a minimum out of reach":  func(p *Params) { p.MinSurvivors = p.Cohort + 1 },
		"a name that is too long": func(p *Params) { p.Task = string(make([]byte, 65)) },
	} {
		p := testParams(5, ca)
		change(&p)
		if _, _, err := Advertise(p, signer, stream(1, "secrets", 0)); !errors.Is(err, ErrParams) {
			t.Errorf("device with %s: %v, want ErrParams", name, err)
		}
		if _, err := NewServer(p); !errors.Is(err, ErrParams) {
			t.Errorf("server with %s: %v, want ErrParams", name, err)
		}
	}
	p := testParams(5, newKey(1, "other authority", 0))
	if _, _, err := Advertise(p, signer, stream(1, "secrets", 0)); !errors.Is(err, ErrForged) {
		t.Errorf("device of another authority: %v, want ErrForged", err)
	}
}
