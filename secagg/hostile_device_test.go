package secagg

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"slices"
	"testing"

	"github.com/cloudflare/circl/dh/x25519"
)

// hostileMessage is a message that a server refuses.
type hostileMessage struct {
	name string
	kind error
	from ID
	msg  []byte
}

// refused sends the messages, each of which costs its sender that message and names it.
func refused(t *testing.T, send func(ID, []byte) error, tests []hostileMessage) {
	t.Helper()
	for _, test := range tests {
		err := send(test.from, test.msg)
		t.Run(test.name, func(t *testing.T) { wantRefusal(t, err, test.kind, &test.from) })
	}
}

var stranger = DeviceID(newKey(1, "stranger", 0).Public().(ed25519.PublicKey))

// TestHostileAdvert sends the server bad adverts; each is refused and the others go on.
func TestHostileAdvert(t *testing.T) {
	for _, keys := range []KeyExchange{Hybrid, Classical} {
		r := newRigWith(t, 200, 5, func(p *Params) { p.Keys = keys })
		first, d := r.devices[0], r.devices[1]
		fresh := *first.checkedIn
		r.must(r.advertiseOne(0))
		_, second, err := fresh.Advertise(r.params, first.signer, first.committed, first.rand)
		r.must(err)
		r.must(r.adverts.Add(first.id, first.advert))
		r.must(r.advertiseOne(1))
		good := d.advert
		changed := func(change func(a *advert)) []byte {
			a := decodeAdvert(keys, bytes.Clone(good[headerSize:]))
			change(a)
			return a.append(message(kindAdvert, 0))
		}
		resigned := func(p Params, change func(a *advert)) []byte {
			return changed(func(a *advert) {
				change(a)
				ctx0 := p.context()
				copy(a.signature[:], d.signer.sign(a.signed(&ctx0, &r.adverts.root)))
			})
		}
		elsewhere := func(change func(p *Params)) []byte {
			p := r.params
			change(&p)
			return resigned(p, func(*advert) {})
		}
		own := func(change func(a *advert)) []byte { return resigned(r.params, change) }
		taken := decodeAdvert(keys, first.advert[headerSize:])
		tests := []hostileMessage{
			{"not checked in", ErrMember, stranger, good},
			{"a second advert", ErrDiffers, first.id, second},
			{"another's advert", ErrMember, r.devices[2].id, good},
			{"short", ErrMalformed, d.id, good[:len(good)-1]},
			{"long", ErrMalformed, d.id, append(bytes.Clone(good), 0)},
			{"empty", ErrMalformed, d.id, nil},
			{"another kind", ErrMalformed, d.id, with(good, 0, []byte{byte(kindReveal)})},
			{"version 3", ErrMalformed, d.id, with(good, 1, []byte{3})},
			{"wrong credential", ErrForged, d.id, changed(func(a *advert) {
				copy(a.credential[:], Certify(newKey(1, "other authority", 0), d.signer.public()))
			})},
			{"another's credential", ErrForged, d.id, changed(func(a *advert) { a.credential = taken.credential })},
			{"nonce not committed", ErrForged, d.id, own(func(a *advert) { a.nonce[0] ^= 1 })},
			{"not signed", ErrForged, d.id, changed(func(a *advert) { a.mask[0] ^= 1 })},
			{"swapped model", ErrForged, d.id, elsewhere(func(p *Params) { p.Plan = []byte("another") })},
			{"another round", ErrForged, d.id, elsewhere(func(p *Params) { p.Round++ })},
			{"another attempt", ErrForged, d.id, elsewhere(func(p *Params) { p.Attempt-- })},
			{"low-order mask key", ErrBadKey, d.id, own(func(a *advert) { a.mask = with(a.mask, -x25519.Size, lowOrderPoints[0]) })},
			{"low-order channel key", ErrBadKey, d.id, own(func(a *advert) { a.channel = with(a.channel, -x25519.Size, lowOrderPoints[4]) })},
			{"non-canonical X25519 key", ErrBadKey, d.id, own(func(a *advert) { a.channel = with(a.channel, -x25519.Size, fieldPrimeBytes) })},
			{"another's key", ErrBadKey, d.id, own(func(a *advert) { a.mask = taken.channel })},
			{"one key for both uses", ErrBadKey, d.id, own(func(a *advert) { a.mask = a.channel })},
		}
		if keys == Hybrid {
			tests = append(tests, hostileMessage{"wrong ML-KEM key", ErrBadKey, d.id, own(func(a *advert) { a.mask = with(a.mask, 3, []byte{0xff, 0xff, 0xff}) })})
		}
		t.Run(keys.String(), func(t *testing.T) { refused(t, r.adverts.Add, tests) })
		r.must(r.adverts.Add(d.id, good))
		for _, i := range []int{2, 3, 4} {
			r.must(r.advertiseOne(i))
		}
		r.must(r.advertiseAgain())
		r.must(r.share(r.all()))
		r.endWith(r.all())
	}
}

// TestHostileShares sends the server bad shares; each is refused and the others go on.
func TestHostileShares(t *testing.T) {
	for _, keys := range []KeyExchange{Hybrid, Classical} {
		r := newRigWith(t, 202, 5, func(p *Params) { p.Keys = keys })
		r.must(r.advertise(r.all()))
		replayed := toShares(t, 202, 5, func(p *Params) { p.Keys = keys; p.Attempt++ })
		for i := range r.devices {
			r.shareOne(i)
		}
		s, first := r.shares.session, r.devices[0]
		// One that deals to the same ends in both attempts, so that it is not the length that tells.
		d, at := r.devices[1], 1
		for i, other := range replayed.devices {
			if len(other.shares) == len(r.devices[i].shares) && i > 0 {
				d, at = r.devices[i], i
			}
		}
		r.must(r.shares.Add(first.id, first.shares))
		low := func(change func(q *parcel)) []byte {
			return r.redeal(at, func(m *dealing) {
				for slot, j := range s.graph.neighbours(at) {
					if s.graph.encapsulates(at, j) {
						change(m.parcels[slot])
						return
					}
				}
			})
		}
		tests := []hostileMessage{
			{"not in the roster", ErrMember, stranger, d.shares},
			{"from another attempt", ErrForged, d.id, replayed.devices[at].shares},
			{"another commitment to b", ErrForged, d.id, flipped(d.shares, headerSize)},
			{"another commitment to its own share", ErrForged, d.id, flipped(d.shares, headerSize+32)},
			{"another signature", ErrForged, d.id, flipped(d.shares, headerSize+64)},
			{"another seal", ErrForged, d.id, flipped(d.shares, headerSize+130)},
			{"another commitment at the end", ErrForged, d.id, flipped(d.shares, -1)},
			{"low-order point in a seal", ErrBadKey, d.id, low(func(q *parcel) {
				q.sealed = with(q.sealed, len(q.sealed)-sharePair-sealTag-x25519.Size, lowOrderPoints[2])
			})},
			{"non-canonical point in a seal", ErrBadKey, d.id, low(func(q *parcel) {
				q.sealed = with(q.sealed, len(q.sealed)-sharePair-sealTag-x25519.Size, fieldPrimeBytes)
			})},
			{"short", ErrMalformed, d.id, d.shares[:len(d.shares)-1]},
			{"long", ErrMalformed, d.id, append(bytes.Clone(d.shares), 0)},
			{"empty", ErrMalformed, d.id, nil},
			{"of another kind", ErrMalformed, d.id, with(d.shares, 0, []byte{byte(kindInbox)})},
			{"second", ErrDiffers, first.id, flipped(first.shares, 50)},
		}
		if keys == Hybrid {
			tests = append(tests, hostileMessage{"low-order point in a ciphertext", ErrBadKey, d.id, low(func(q *parcel) {
				q.ciphertext = with(q.ciphertext, -x25519.Size, lowOrderPoints[3])
			})})
		}
		t.Run(keys.String(), func(t *testing.T) { refused(t, r.shares.Add, tests) })
		for _, d := range r.devices {
			r.must(r.shares.Add(d.id, d.shares))
		}
		r.must(r.closeShares(r.all()))
		r.endWith(r.all())
	}
}

// TestHostileSubmission submits for members that have not shared, or are none.
func TestHostileSubmission(t *testing.T) {
	r := newRigWith(t, 203, 5, classical)
	r.must(r.advertise(r.all()))
	sharers := without(r.all(), 3)
	r.must(r.share(sharers))
	for _, id := range []ID{r.devices[3].id, stranger} {
		wantRefusal(t, r.submissions.Admit(id), ErrMember, &id)
		wantRefusal(t, r.submissions.Viable(id), ErrMember, &id)
		wantRefusal(t, r.submissions.Add(id), ErrMember, &id)
		_, err := r.submissions.Inbox(id)
		wantRefusal(t, err, ErrMember, &id)
	}
	if got := len(r.submissions.Members()); got != 4 {
		t.Errorf("%d members may submit, want 4", got)
	}
	r.endWith(sharers)
}

// TestHostileConfirm sends the server bad signatures; each is refused and the others go
// on.
func TestHostileConfirm(t *testing.T) {
	r := settledRig(t, 207)
	survivors := []int{0, 1, 2, 3, 4}
	for _, i := range survivors {
		d := r.devices[i]
		var err error
		d.confirmed, d.confirm, err = d.done.Confirm(d.survivors)
		r.must(err)
	}
	s, first, d := r.shares.session, r.devices[0], r.devices[1]
	r.must(r.confirms.Add(first.id, first.confirm))
	other := append(message(kindConfirm, 0), d.signer.sign(s.confirmSigned(setOf(7, 0, 1, 2, 3, 4, 5), setOf(7, 0, 1, 2, 3, 5)))...)
	refused(t, r.confirms.Add, []hostileMessage{
		{"not in the roster", ErrMember, stranger, d.confirm},
		{"not a survivor", ErrMember, r.devices[5].id, d.confirm},
		{"another's", ErrForged, d.id, first.confirm},
		{"for other survivors", ErrForged, d.id, other},
		{"forged", ErrForged, d.id, flipped(d.confirm, 20)},
		{"with a seed that nobody asked for", ErrMalformed, d.id, append(bytes.Clone(d.confirm), make([]byte, 32)...)},
		{"short", ErrMalformed, d.id, d.confirm[:20]},
		{"empty", ErrMalformed, d.id, nil},
		{"of another kind", ErrMalformed, d.id, with(d.confirm, 0, []byte{byte(kindQuorum)})},
		{"second", ErrDiffers, first.id, flipped(first.confirm, 20)},
	})
	for _, id := range []ID{r.devices[5].id, stranger} {
		_, err := r.confirms.Survivors(id)
		wantRefusal(t, err, ErrMember, &id)
	}
	for n, i := range survivors {
		if r.confirms.Ready() != (n >= 4) {
			t.Errorf("ready %v after %d signatures", r.confirms.Ready(), n)
		}
		if n < 4 {
			_, err := r.confirms.Close()
			wantRefusal(t, err, ErrTooFew, nil)
		}
		r.must(r.confirms.Add(r.devices[i].id, r.devices[i].confirm))
	}
	var err error
	r.reveals, err = r.confirms.Close()
	r.must(err)
	r.must(r.finish(survivors))
	r.checkSum(survivors)
}

// TestHostileReveal sends the server bad reveals, among them lies about a share of b, a
// share of σ and a seed; each is refused, names its sender, and the others go on.
func TestHostileReveal(t *testing.T) {
	for _, keys := range []KeyExchange{Hybrid, Classical} {
		const dropped = 5
		r := toShares(t, 204, 7, func(p *Params) { p.Keys = keys }) // threshold 5
		survivors := without(r.all(), dropped)
		r.must(r.submit(survivors))
		r.must(r.confirm(survivors))
		reveal := func(i int) []byte {
			msg, err := r.devices[i].confirmed.Reveal(r.reveals.Quorum())
			r.must(err)
			return msg
		}
		first, d := r.devices[0], r.devices[1]
		one, good := reveal(0), reveal(1)
		r.must(r.reveals.Add(first.id, bytes.Clone(one)))
		share := func(place int) int { return headerSize + 32 + place*scalarSize }
		refused(t, r.reveals.Add, []hostileMessage{
			{"not in the roster", ErrMember, stranger, good},
			{"not a survivor", ErrMember, r.devices[dropped].id, good},
			{"another's", ErrMismatch, d.id, one},
			{"for other survivors", ErrMalformed, d.id, flipped(good, headerSize)},
			{"a lie about a share of b", ErrMismatch, d.id, flipped(good, share(0)+3)},
			{"a lie about its own share", ErrMismatch, d.id, flipped(good, share(1)+3)},
			{"a lie about a share of σ", ErrMismatch, d.id, flipped(good, share(dropped)+3)},
			{"a lie about a seed", ErrMismatch, d.id, flipped(good, share(dropped+1)+3)},
			{"duplicate share", ErrMismatch, d.id, with(good, share(2), good[share(0):share(1)])},
			{"no scalar", ErrMismatch, d.id, with(good, share(0), bytes.Repeat([]byte{0xff}, scalarSize))},
			{"both kinds of share", ErrMalformed, d.id, append(bytes.Clone(good), good[share(0):share(1)]...)},
			{"short", ErrMalformed, d.id, good[:len(good)-1]},
			{"empty", ErrMalformed, d.id, nil},
			{"second", ErrDiffers, first.id, flipped(one, -5)},
		})
		if r.reveals.Ready() {
			t.Error("ready after one reveal")
		}
		_, err := r.reveals.Close()
		wantRefusal(t, err, ErrTooFew, nil)
		r.must(r.reveals.Add(d.id, good))
		r.must(r.finish(without(survivors, 0, 1)))
		r.checkSum(survivors)
	}
}

// TestLiarAlone has a member lie in its reveal and be refused for good: the others
// finish without it.
func TestLiarAlone(t *testing.T) {
	const n, liar, dropped = 7, 2, 5
	for name, at := range map[string]int{"about a share of b": 0, "about a share of σ": 5, "about a seed": 6} {
		r := toShares(t, 205, n, classical)
		survivors := without(r.all(), dropped)
		r.must(r.submit(survivors))
		r.must(r.confirm(survivors))
		msg, err := r.devices[liar].confirmed.Reveal(r.reveals.Quorum())
		r.must(err)
		err = r.reveals.Add(r.devices[liar].id, flipped(msg, headerSize+32+at*32))
		t.Run(name, func(t *testing.T) { wantRefusal(t, err, ErrMismatch, r.id(liar)) })
		r.must(r.finish(without(survivors, liar)))
		r.checkSum(survivors)
	}
}

// TestDuplicateShareID: there is no share that a member could send twice or under
// another's number, and where places are interpolated two equal ones are refused.
func TestDuplicateShareID(t *testing.T) {
	if _, err := newLagrange([]int{0, 3, 1, 3}); !errors.Is(err, ErrMalformed) {
		t.Errorf("two shares of place 3: %v, want ErrMalformed", err)
	}
	r := settledRig(t, 208)
	survivors := []int{0, 1, 2, 3, 4}
	r.must(r.confirm(survivors))
	for _, i := range survivors {
		msg, err := r.devices[i].confirmed.Reveal(r.reveals.Quorum())
		r.must(err)
		// The same reveal under every other member's name is a lie of that member.
		for _, j := range without(survivors, i) {
			if r.reveals.got[j] == nil {
				wantRefusal(t, r.reveals.Add(r.devices[j].id, msg), ErrMismatch, r.id(j))
			}
		}
		r.must(r.reveals.Add(r.devices[i].id, msg))
	}
	if counts := slices.Compact(slices.Clone(r.reveals.shares[:6])); len(counts) != 1 || counts[0] != 5 {
		t.Errorf("%v shares of the six sharers, want 5 of each", r.reveals.shares)
	}
	r.must(r.finish(nil))
	r.checkSum(survivors)
}
