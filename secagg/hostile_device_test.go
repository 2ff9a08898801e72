package secagg

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"slices"
	"testing"

	"github.com/cloudflare/circl/dh/x25519"
)

// TestHostileAdvert sends the server bad adverts; each is refused and the others
// go on.
func TestHostileAdvert(t *testing.T) {
	r := newRig(t, 200, 5)
	first := r.devices[0]
	var err error
	first.advertised, first.advert, err = Advertise(r.params, first.signer, first.rand)
	r.must(err)
	_, second, err := Advertise(r.params, first.signer, first.rand)
	r.must(err)
	r.must(r.adverts.Add(first.id, first.advert))

	d := r.devices[1]
	_, good, err := Advertise(r.params, d.signer, stream(1, "thrown away", 0))
	r.must(err)
	changed := func(change func(a *advert)) []byte {
		a := decodeAdvert(good[headerSize:])
		change(&a)
		return a.append(message(kindAdvert, 0))
	}
	resigned := func(change func(a *advert)) []byte {
		return changed(func(a *advert) { change(a); r.resign(a, 1, r.params) })
	}
	firstKeys := decodeAdvert(first.advert[headerSize:])
	other := newKey(1, "other authority", 0)
	tests := []struct {
		name string
		kind error
		from ID
		msg  []byte
	}{
		{"a second advert", ErrDiffers, first.id, second},
		{"another's advert", ErrMember, r.devices[2].id, good},
		{"short", ErrMalformed, d.id, good[:len(good)-1]},
		{"long", ErrMalformed, d.id, append(bytes.Clone(good), 0)},
		{"empty", ErrMalformed, d.id, nil},
		{"another kind", ErrMalformed, d.id, append([]byte{byte(kindReveal), 1}, good[2:]...)},
		{"another version", ErrMalformed, d.id, append([]byte{byte(kindAdvert), 2}, good[2:]...)},
		{"another authority", ErrForged, d.id, changed(func(a *advert) {
			copy(a.credential[:], Certify(other, d.signer.public()))
		})},
		{"not signed", ErrForged, d.id, changed(func(a *advert) { a.mask[0] ^= 1 })},
		{"low order", ErrBadKey, d.id, resigned(func(a *advert) { a.mask = x25519.Key{} })},
		{"first device's key", ErrBadKey, d.id, resigned(func(a *advert) { a.mask = firstKeys.channel })},
	}
	for _, test := range tests {
		err := r.adverts.Add(test.from, test.msg)
		t.Run(test.name, func(t *testing.T) { wantRefusal(t, err, test.kind, &test.from) })
	}
	r.must(r.advertise([]int{1, 2, 3, 4}))
	r.finishAll()
}

// finishAll runs the rest of an attempt and checks its sum.
func (r *rig) finishAll() {
	r.t.Helper()
	r.must(r.share(r.all()))
	r.must(r.submit(r.all()))
	r.must(r.finish(r.all()))
	if want := r.plain(r.all()); !slices.Equal(r.sum, want) {
		r.t.Errorf("sum %v, want %v", r.sum, want)
	}
}

func TestFullCohort(t *testing.T) {
	r := newRig(t, 201, 4)
	p := r.params
	p.Cohort = 3
	var err error
	r.adverts, err = NewServer(p)
	r.must(err)
	for i, d := range r.devices {
		_, msg, err := Advertise(p, d.signer, d.rand)
		r.must(err)
		if err := r.adverts.Add(d.id, msg); i < 3 && err != nil || i == 3 && !errors.Is(err, ErrMember) {
			t.Errorf("advert %d: %v", i, err)
		}
	}
}

// TestHostileShares sends the server bad shares; each is refused and the others go
// on.
func TestHostileShares(t *testing.T) {
	r := newRig(t, 202, 5)
	r.must(r.advertise(r.all()))
	replayed := newRig(t, 202, 5)
	replayed.params.Attempt++
	var err error
	replayed.adverts, err = NewServer(replayed.params)
	r.must(err)
	replayed.must(replayed.advertise(replayed.all()))
	replayed.shareOne(1)

	d := r.devices[1]
	r.shareOne(0)
	r.shareOne(1)
	r.must(r.shares.Add(r.devices[0].id, r.devices[0].shares))
	flipped := func(msg []byte, at int) []byte {
		b := bytes.Clone(msg)
		b[at] ^= 1
		return b
	}
	stranger := DeviceID(newKey(1, "stranger", 0).Public().(ed25519.PublicKey))
	tests := []struct {
		name string
		kind error
		from ID
		msg  []byte
	}{
		{"not in the roster", ErrMember, stranger, d.shares},
		{"another's", ErrForged, r.devices[2].id, d.shares},
		{"of another attempt", ErrForged, d.id, replayed.devices[1].shares},
		{"changed commitment", ErrForged, d.id, flipped(d.shares, headerSize)},
		{"changed signature", ErrForged, d.id, flipped(d.shares, headerSize+40)},
		{"changed seal", ErrForged, d.id, flipped(d.shares, len(d.shares)-1)},
		{"short", ErrMalformed, d.id, d.shares[:len(d.shares)-sealedSize]},
		{"long", ErrMalformed, d.id, append(bytes.Clone(d.shares), 0)},
		{"empty", ErrMalformed, d.id, nil},
		{"second", ErrDiffers, r.devices[0].id, flipped(r.devices[0].shares, 50)},
	}
	for _, test := range tests {
		err := r.shares.Add(test.from, test.msg)
		t.Run(test.name, func(t *testing.T) { wantRefusal(t, err, test.kind, &test.from) })
	}
	r.must(r.shares.Add(d.id, d.shares))
	r.must(r.share([]int{2, 3, 4}))
	r.must(r.submit(r.all()))
	r.must(r.finish(r.all()))
	if want := r.plain(r.all()); !slices.Equal(r.sum, want) {
		t.Errorf("sum %v, want %v", r.sum, want)
	}
}

func TestHostileSubmission(t *testing.T) {
	r := newRig(t, 203, 4)
	r.must(r.advertise(r.all()))
	r.must(r.share([]int{0, 1, 2}))
	wantRefusal(t, r.submissions.Add(r.devices[3].id), ErrMember, &r.devices[3].id)
	if got := len(r.submissions.Members()); got != 3 {
		t.Errorf("%d members may submit, want 3", got)
	}
	r.must(r.submit([]int{0, 1, 2}))
	r.must(r.finish([]int{0, 1, 2}))
}

// TestHostileReveal sends the server bad reveals; each is refused and the others go
// on.
func TestHostileReveal(t *testing.T) {
	r := newRig(t, 204, 6) // threshold 4
	r.must(r.advertise(r.all()))
	r.must(r.share(r.all()))
	r.must(r.submit([]int{0, 1, 2, 3, 4}))
	d := r.devices[1]
	good, err := d.done.Reveal(r.survivors)
	r.must(err)
	first, err := r.devices[0].done.Reveal(r.survivors)
	r.must(err)
	r.must(r.reveals.Add(r.devices[0].id, first))
	notScalar := bytes.Clone(good)
	copy(notScalar[headerSize+32:], bytes.Repeat([]byte{0xff}, scalarSize))
	otherSet := bytes.Clone(good)
	otherSet[headerSize] ^= 1
	secondReveal := bytes.Clone(first)
	secondReveal[len(secondReveal)-5] ^= 1
	tests := []struct {
		name string
		kind error
		from ID
		msg  []byte
	}{
		{"not a survivor", ErrMember, r.devices[5].id, good},
		{"other survivors", ErrMalformed, d.id, otherSet},
		{"no scalar", ErrMalformed, d.id, notScalar},
		{"short", ErrMalformed, d.id, good[:len(good)-1]},
		{"long", ErrMalformed, d.id, append(bytes.Clone(good), 0)},
		{"empty", ErrMalformed, d.id, nil},
		{"second", ErrDiffers, r.devices[0].id, secondReveal},
	}
	for _, test := range tests {
		err := r.reveals.Add(test.from, test.msg)
		t.Run(test.name, func(t *testing.T) { wantRefusal(t, err, test.kind, &test.from) })
	}
	if r.reveals.Ready() {
		t.Error("ready after one reveal")
	}
	if _, err := r.reveals.Close(); !errors.Is(err, ErrTooFew) {
		t.Errorf("closed after one reveal: %v", err)
	}
	r.must(r.finish([]int{1, 2, 3, 4}))
	if want := r.plain([]int{0, 1, 2, 3, 4}); !slices.Equal(r.sum, want) {
		t.Errorf("sum %v, want %v", r.sum, want)
	}
}

// TestWrongShare has a survivor reveal a scalar that it was not dealt: the secret
// does not match and its dealer is named.
func TestWrongShare(t *testing.T) {
	for name, dealer := range map[string]int{"of b": 2, "of σ": 5} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 205, 6)
			r.must(r.advertise(r.all()))
			r.must(r.share(r.all()))
			r.must(r.submit([]int{0, 1, 2, 3, 4}))
			for i := range 4 {
				d := r.devices[i]
				msg, err := d.done.Reveal(r.survivors)
				r.must(err)
				if i == 3 {
					msg[headerSize+32+scalarSize*dealer] ^= 1
				}
				r.must(r.reveals.Add(d.id, msg))
			}
			_, err := r.reveals.Close()
			wantRefusal(t, err, ErrMismatch, &r.devices[dealer].id)
			if _, err := r.reveals.Close(); !errors.Is(err, ErrSpent) {
				t.Errorf("after the mismatch: %v, want ErrSpent", err)
			}
		})
	}
}

// TestBadDealer has a device deal shares that do not lie on one polynomial.
func TestBadDealer(t *testing.T) {
	const n, dealer = 5, 2
	r := newRig(t, 206, n)
	r.must(r.advertise(r.all()))
	for i := range n {
		r.shareOne(i)
	}
	s := r.devices[dealer].shared.session
	m, err := decodeShares(bytes.Clone(r.devices[dealer].shares), n, dealer)
	r.must(err)
	var pair [sharePair]byte // zeros are scalars, but not the right ones
	m.sealed[0], err = seal(&s.roster[0].channel, s.sealedContext(dealer, 0, &m.commitment), pair[:], stream(1, "bad", 0))
	r.must(err)
	root := s.leaves(dealer, m).root()
	copy(m.signature[:], r.devices[dealer].signer.sign(s.sharesSigned(dealer, &m.commitment, &root)))
	r.devices[dealer].shares = m.encode()
	for _, d := range r.devices {
		r.must(r.shares.Add(d.id, d.shares))
	}
	r.must(r.share(nil))
	r.must(r.submit(r.all()))
	err = r.finish(r.all())
	wantRefusal(t, err, ErrMismatch, &r.devices[dealer].id)
}
