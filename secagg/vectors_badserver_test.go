package secagg

import (
	"bytes"
	"slices"
)

// adverts changes the last device's advert, or sends another after it.
func (k *badBook) adverts() {
	v := k.m.run
	d := v.devices[k.m.place]
	if k.m.after {
		k.add("a second one", "differs", "the device's first advert stands", flipped(d.advert, -1))
		return
	}
	k.shapes(d.advert)
	root, ctx0 := v.adverts.root, v.params.context()
	with := func(change func(a *advert), ctx0, root digest) []byte {
		a := decodeAdvert(v.keys, bytes.Clone(d.advert[headerSize:]))
		change(a)
		copy(a.signature[:], d.signer.sign(a.signed(&ctx0, &root)))
		return a.append(message(kindAdvert, 0))
	}
	nothing := func(*advert) {}
	swapped := v.params
	swapped.Plan = []byte("a plan with another checkpoint")
	k.add("a forged signature", "forged", "the signature is not the device's", flipped(d.advert, -1))
	k.add("swapped model", "forged", "the device was told another plan, so signed under another ctx0", with(nothing, swapped.context(), root))
	k.add("another attempt", "forged", "the device signed for another attempt", with(nothing, k.other.params.context(), root))
	k.add("another root", "forged", "the device signed another root of check-ins", with(nothing, ctx0, k.other.adverts.root))
	k.add("another nonce", "forged", "the nonce is not the one committed to at check-in", with(func(a *advert) { a.nonce[0] ^= 1 }, ctx0, root))
	k.add("another authority's credential", "forged", "the credential is not the pinned authority's", with(func(a *advert) {
		copy(a.credential[:], Certify(newKey(77, "authority", 0), a.key[:]))
	}, ctx0, root))
	k.add("another device's", "member", "the advert is not of the device that sends it", v.devices[0].advert)
	k.add("a device that did not check in", "member", "there is no such place", d.advert).Sender = make(hexed, 16)
	k.add("a revoked device", "revoked", "the device is on the authority's list", d.advert).Revoked = []hexed{slices.Clone(d.id[:])}
	for _, bad := range badKeys {
		k.add("a channel key "+bad.Why, "bad-key", "the X25519 key is "+bad.Why, with(func(a *advert) { a.channel = bad.Bytes }, ctx0, root))
	}
	k.add("somebody else's mask key", "bad-key", "no key is advertised twice", with(func(a *advert) {
		a.mask = decodeAdvert(v.keys, v.devices[0].advert[headerSize:]).mask
	}, ctx0, root))
	k.add("one key for both", "bad-key", "no key is advertised twice", with(func(a *advert) { a.mask = a.channel }, ctx0, root))
}

// shares changes the last member's Share message.
func (k *badBook) shares() {
	c, from := k.m.cohort, k.m.place
	d := c.devices[from]
	if k.m.after {
		k.add("a second one", "differs", "the member's first shares stand", flipped(d.shares, -1))
		return
	}
	k.shapes(d.shares)
	k.add("a forged seal", "forged", "the root under the signature is another", flipped(d.shares, -1))
	k.add("another commitment to b", "forged", "it is in the signature", flipped(d.shares, headerSize))
	k.add("another own share", "forged", "it is in the signature", flipped(d.shares, headerSize+32))
	k.add("a device outside the roster", "member", "it has no place", d.shares).Sender = make(hexed, 16)
	if other := k.other.devices[from].shares; len(other) == len(d.shares) {
		k.add("shares from another attempt", "forged", "they are signed under another ctx1", other)
	}
	kept := d.shares
	c.misdeal(from, 0, func(_ *session, q *parcel) { clear(q.sealed[:32]) })
	k.add("a seal to a point of low order", "bad-key", "the encapsulated key is zero", d.shares)
	d.shares = kept
}

// complaints accuses on behalf of the last member, before its vector and after it.
func (k *badBook) complaints() {
	c, by := k.m.cohort, k.m.place
	s, d := c.shares.session, c.devices[k.m.place]
	signed := func(whom int, said reason) (a accusation) {
		a.place, a.reason = whom, said
		copy(a.signature[:], d.signer.sign(s.complaintSigned(by, whom, said)))
		return a
	}
	with := func(a ...accusation) []byte { return (&complaint{accusations: a}).encode() }
	good := with(signed(1, unopened), signed(2, badPair))
	if k.m.after {
		k.add("after the vector", "differs", "a complaint comes before the vector", good)
		return
	}
	k.shapes(good)
	k.add("about itself", "malformed", "it deals nothing to itself", with(signed(by, unopened)))
	k.add("out of order", "malformed", "places ascend", with(signed(2, unopened), signed(1, unopened)))
	k.add("twice about one", "malformed", "places ascend", with(signed(1, unopened), signed(1, badPair)))
	k.add("no such reason", "malformed", "reasons are 1 to 4", with(signed(1, 0)))
	k.add("no such place", "malformed", "there are five places", with(accusation{place: 5, reason: unopened}))
	k.add("one more than it can go on without", "too-few", "three of its five shares open, and the threshold is four", good)
	forged := signed(1, unopened)
	forged.reason = badPair
	k.add("another reason than signed", "forged", "the reason is in the signature", with(forged))
}

func (k *badBook) confirms() {
	c := k.m.cohort
	s, d := c.shares.session, c.devices[k.m.place]
	if k.m.after {
		k.add("a second one", "differs", "the member's first signature stands", flipped(d.confirm, -1))
		return
	}
	k.shapes(d.confirm)
	of := func(sharers, survivors bitmap) []byte {
		return append(message(kindConfirm, 0), d.signer.sign(s.confirmSigned(sharers, survivors))...)
	}
	all := setOf(5, 0, 1, 2, 3, 4)
	k.add("other survivors", "forged", "the member was shown another set", of(all, setOf(5, 1, 2, 3, 4)))
	k.add("other sharers", "forged", "the member was told of other sharers", of(setOf(5, 1, 2, 3, 4), all))
	k.add("another attempt's", "forged", "it is under another ctx1", k.other.devices[k.m.place].confirm)
	k.add("somebody else's", "forged", "the signature is another member's", c.devices[0].confirm)
}

// reveals changes what the last member reveals, which is one share of b for each.
func (k *badBook) reveals() {
	c := k.m.cohort
	d := c.devices[k.m.place]
	if k.m.after {
		k.add("a second one", "differs", "the member's first reveal stands", flipped(d.reveal, -1))
		return
	}
	k.shapes(d.reveal)
	at := func(i int) int { return headerSize + 32 + 32*i }
	sigma := c.devices[k.m.place].done.keeping.sigma[0]
	k.add("both share kinds", "malformed", "there is room for one share of each member", slices.Concat(d.reveal[:at(1)], sigma[:], d.reveal[at(1):]))
	k.add("a share of σ of a survivor", "mismatch", "of a survivor a share of b is revealed", slices.Concat(d.reveal[:at(0)], sigma[:], d.reveal[at(1):]))
	k.add("another share", "mismatch", "it is not the share that was dealt", flipped(d.reveal, at(2)))
	k.add("another own share", "mismatch", "it is not the share that the member has committed to", flipped(d.reveal, -1))
	k.add("other survivors", "malformed", "the hash names another set", flipped(d.reveal, headerSize))
	k.add("another attempt's", "malformed", "the hash names another attempt", k.other.devices[k.m.place].reveal)
	k.add("a device outside the roster", "member", "it has no place", d.reveal).Sender = make(hexed, 16)
}
