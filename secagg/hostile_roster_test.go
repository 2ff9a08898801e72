package secagg

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"github.com/cloudflare/circl/dh/x25519"
)

// forgery is a roster under a hostile server's hands.
type forgery struct {
	r     *rig
	to    int
	list  []*advert // of the members, in roster order
	place []int     // of each in the tree of check-ins
	admit func(a *admission)
	tail  func(b []byte) []byte
}

// forgeRoster is what a device is shown by a server that changed the members' adverts,
// left some out or put others in. Everything else follows as an honest server would
// have it: hashes, proof, and whose keys the device is sent.
func (r *rig) forgeRoster(to int, change func(f *forgery)) []byte {
	r.t.Helper()
	a := r.shares.session
	f := &forgery{r: r, to: to, place: slices.Clone(r.shares.places), admit: func(*admission) {}, tail: func(b []byte) []byte { return b }}
	for _, ad := range a.adverts {
		changed := *ad
		changed.channel, changed.mask = bytes.Clone(ad.channel), bytes.Clone(ad.mask)
		f.list = append(f.list, &changed)
	}
	change(f)
	present := newBitmap(len(r.devices))
	members, credentials := make([]member, len(f.list)), make([][signatureSize]byte, len(f.list))
	for i, ad := range f.list {
		present.set(f.place[i])
		members[i], credentials[i] = ad.member(), ad.credential
	}
	out := &roster{present: present, members: members, proof: r.adverts.tree.proof(len(r.devices), present)}
	out.admission = a.params.admission(members, credentials)
	f.admit(&out.admission)
	b := out.prefix()
	binary.BigEndian.PutUint16(b[headerSize:], uint16(len(members)))
	s := newSession(a.params, a.ctx0, r.adverts.root, drawn{cohorts: 1}, members)
	if self, ok := s.place(r.devices[to].id); ok {
		for _, j := range s.graph.neighbours(self) {
			b = f.list[j].appendKeys(b)
		}
	}
	return f.tail(b)
}

// leaveOut takes members out.
func (f *forgery) leaveOut(places ...int) {
	slices.Sort(places)
	for _, p := range slices.Backward(places) {
		f.list, f.place = slices.Delete(f.list, p, p+1), slices.Delete(f.place, p, p+1)
	}
}

// resign makes a member's advert its own again after a change.
func (f *forgery) resign(i int, p Params) {
	ctx0 := p.context()
	copy(f.list[i].signature[:], f.r.devices[i].signer.sign(f.list[i].signed(&ctx0, &f.r.adverts.root)))
}

// keyOf is a public key of the rig's exchange that nobody uses.
func (f *forgery) keyOf(seed uint64) []byte {
	k, err := newChannelKey(f.r.params.Keys, stream(seed, "swap", 0))
	f.r.must(err)
	return k.public
}

// rosterTest is a roster that a device refuses.
type rosterTest struct {
	name   string
	kind   error
	blamed int // −1: nobody
	forge  func(f *forgery)
}

// TestHostileRoster shows device 0 rosters that its server made up.
func TestHostileRoster(t *testing.T) {
	const victim = 0
	swapped := func(i int, change func(a *advert, f *forgery)) func(f *forgery) {
		return func(f *forgery) { change(f.list[i], f) }
	}
	signed := func(i int, change func(a *advert)) func(f *forgery) {
		return func(f *forgery) { change(f.list[i]); f.resign(i, f.r.params) }
	}
	elsewhere := func(i int, change func(p *Params)) func(f *forgery) {
		return func(f *forgery) { p := f.r.params; change(&p); f.resign(i, p) }
	}
	tests := []rosterTest{
		{"small cohort", ErrTooFew, -1, func(f *forgery) { f.leaveOut(2, 3, 4, 5) }},
		{"without the device itself", ErrRefused, -1, func(f *forgery) { f.leaveOut(victim) }},
		{"more than the plan allows", ErrRefused, -1, func(f *forgery) {
			f.tail = func(b []byte) []byte { return with(b, headerSize, []byte{0, 7}) }
		}},
		{"more members than places", ErrMalformed, -1, func(f *forgery) {
			f.tail = func(b []byte) []byte { return with(b, headerSize+2, []byte{0x1f}) }
		}},
		{"a place past the check-ins", ErrMalformed, -1, func(f *forgery) {
			f.tail = func(b []byte) []byte { return with(b, headerSize+2, []byte{0x7e}) }
		}},
		{"short", ErrMalformed, -1, func(f *forgery) { f.tail = func(b []byte) []byte { return b[:len(b)-1] } }},
		{"long", ErrMalformed, -1, func(f *forgery) { f.tail = func(b []byte) []byte { return append(b, 0) } }},
		{"a member twice", ErrMalformed, 2, func(f *forgery) { f.list[3] = f.list[2] }},
		{"out of order", ErrMalformed, 1, func(f *forgery) { f.list[1], f.list[2] = f.list[2], f.list[1] }},
		{"a member of another authority", ErrForged, 2, swapped(2, func(a *advert, f *forgery) {
			copy(a.credential[:], Certify(newKey(1, "other authority", 0), a.key[:]))
		})},
		{"another member's credential", ErrForged, 2, func(f *forgery) { f.list[2].credential = f.list[1].credential }},
		{"nonce not committed", ErrForged, -1, signed(2, func(a *advert) { a.nonce[0] ^= 1 })},
		{"the device's own nonce swapped", ErrForged, -1, signed(victim, func(a *advert) { a.nonce[0] ^= 1 })},
		{"a member that did not check in", ErrForged, -1, func(f *forgery) {
			key := newKey(1, "stranger", 4) // its id falls between two members'
			f.list[2] = &advert{nonce: f.list[2].nonce, channel: f.keyOf(1), mask: f.keyOf(2)}
			copy(f.list[2].key[:], key[32:])
			copy(f.list[2].credential[:], Certify(f.r.ca, f.list[2].key[:]))
			f.list[2].id = DeviceID(f.list[2].key[:])
			slices.SortFunc(f.list, func(a, b *advert) int { return compareIDs(a.id, b.id) })
		}},
		{"a member at another's place", ErrForged, -1, func(f *forgery) { f.leaveOut(2); f.place[2] = 2 }},
		{"a channel key swapped by the server", ErrForged, 3, swapped(3, func(a *advert, f *forgery) { a.channel = f.keyOf(1) })},
		{"a mask key swapped by the server", ErrForged, 3, swapped(3, func(a *advert, f *forgery) { a.mask = f.keyOf(1) })},
		{"keys of another advert than the roster names", ErrForged, 5, func(f *forgery) {
			f.tail = func(b []byte) []byte { return flipped(b, -1) }
		}},
		{"another advert that the neighbour has signed, too", ErrForged, 5, func(f *forgery) {
			second := *f.list[5]
			second.mask = f.keyOf(3)
			ctx0 := f.r.params.context()
			copy(second.signature[:], f.r.devices[5].signer.sign(second.signed(&ctx0, &f.r.adverts.root)))
			f.tail = func(b []byte) []byte { return with(b, -f.r.params.Keys.keysSize(), second.appendKeys(nil)) }
		}},
		{"the device's own advert swapped", ErrForged, -1, func(f *forgery) {
			f.list[victim].mask = f.keyOf(1)
			f.resign(victim, f.r.params)
		}},
		{"swapped model", ErrForged, 1, elsewhere(1, func(p *Params) { p.Plan = []byte("another plan, with another checkpoint") })},
		{"another task", ErrForged, 1, elsewhere(1, func(p *Params) { p.Task, p.Plan = p.Task+"a", p.Plan[1:] })},
		{"another round", ErrForged, 1, elsewhere(1, func(p *Params) { p.Round-- })},
		{"another attempt", ErrForged, 1, elsewhere(1, func(p *Params) { p.Attempt++ })},
		{"another corrupt fraction", ErrForged, 1, elsewhere(1, func(p *Params) { p.Corrupt = 0 })},
		{"another member's channel key", ErrBadKey, 4, func(f *forgery) {
			f.list[4].channel = f.list[3].channel
			f.resign(4, f.r.params)
		}},
		{"another member's mask key", ErrBadKey, 4, func(f *forgery) { f.list[4].mask = f.list[3].mask; f.resign(4, f.r.params) }},
		{"the device's own key", ErrBadKey, 4, func(f *forgery) { f.list[4].mask = f.list[victim].channel; f.resign(4, f.r.params) }},
		{"one key for both uses", ErrBadKey, 4, signed(4, func(a *advert) { a.mask = a.channel })},
		{"low-order mask key", ErrBadKey, 2, signed(2, func(a *advert) { a.mask = with(a.mask, -x25519.Size, lowOrderPoints[2]) })},
		{"low-order channel key", ErrBadKey, 2, signed(2, func(a *advert) { a.channel = with(a.channel, -x25519.Size, lowOrderPoints[1]) })},
		{"non-canonical X25519 key", ErrBadKey, 2, signed(2, func(a *advert) { a.mask[len(a.mask)-1] |= 0x80 })},
	}
	hybridOnly := []rosterTest{
		{"non-canonical ML-KEM mask key", ErrBadKey, 2, signed(2, func(a *advert) { a.mask[0], a.mask[1] = 0xff, 0xff })},
		{"non-canonical ML-KEM channel key", ErrBadKey, 2, signed(2, func(a *advert) {
			a.channel[699], a.channel[700], a.channel[701] = 0xff, 0xff, 0xff
		})},
	}
	for _, keys := range []KeyExchange{Hybrid, Classical} {
		r := newRigWith(t, 100, 6, func(p *Params) { p.Keys = keys })
		r.must(r.advertise(r.all()))
		d := r.devices[victim]
		if !bytes.Equal(r.forgeRoster(victim, func(*forgery) {}), d.roster) {
			t.Fatal("a roster that nothing was changed in is not the server's")
		}
		list := tests
		if keys == Hybrid {
			list = slices.Concat(tests, hybridOnly)
		}
		for _, test := range list {
			forged := r.forgeRoster(victim, test.forge)
			t.Run(keys.String()+"/"+test.name, func(t *testing.T) {
				a := d.advertised.again()
				_, msg, err := a.Share(forged, stream(1, "unused", 0))
				wantRefusal(t, err, test.kind, r.id(test.blamed))
				if msg != nil {
					t.Error("a message came with the error")
				}
				if _, _, err := a.Share(d.roster, d.rand); !errors.Is(err, ErrSpent) {
					t.Errorf("after the refusal: %v, want ErrSpent", err)
				}
			})
		}
		r.must(r.share(r.all()))
		r.endWith(r.all())
	}
}
