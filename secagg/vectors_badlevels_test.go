package secagg

import (
	"bytes"
	"slices"
)

// levels makes bad messages about the levels of an attempt, of which seven survivors of
// eight reach the second.
func (k *badBook) levels() {
	m := k.m
	switch {
	case m.step == stepAdvert && !m.after:
		k.levelsAdverts()
	case m.step == stepShares && !m.after:
		k.levelsShares()
	case m.step == stepInbox && m.place == 0:
		k.levelsInboxes()
	case m.step == stepReveal && !m.after:
		k.levelsReveals()
	}
}

func (k *badBook) levelsAdverts() {
	v := k.m.run
	d := v.devices[k.m.place]
	for _, other := range []struct {
		name   string
		levels []int
	}{{"told of no levels", nil}, {"told of another level", []int{5, 6, 8}}, {"told of a level less", []int{5, 7}}} {
		told := v.params
		told.Levels = other.levels
		ctx0, a := told.context(), decodeAdvert(v.keys, bytes.Clone(d.advert[headerSize:]))
		copy(a.signature[:], d.signer.sign(a.signed(&ctx0, &v.adverts.root)))
		k.add(other.name, "forged", "the levels are in ctx0", a.append(message(kindAdvert, 0)))
	}
}

// levelsShares changes the last member's dealing. Its head has com_b, three commitments to
// secrets, own_b and three to its own shares of them.
func (k *badBook) levelsShares() {
	d := k.m.cohort.devices[k.m.place]
	k.shapes(d.shares)
	k.add("another commitment to a level's secret", "forged", "it is in the signature", flipped(d.shares, headerSize+32))
	k.add("another commitment to its own share of a level", "forged", "it is in the signature", flipped(d.shares, headerSize+5*32))
	k.add("another commitment to a neighbour's share of a level", "forged", "it is in the leaf", flipped(d.shares, headerSize+8*32+64+176+64+96))
	k.add("without the third level", "malformed", "there is a commitment for every level", slices.Delete(bytes.Clone(d.shares), headerSize+96, headerSize+128))
}

func (k *badBook) levelsInboxes() {
	c := k.m.cohort
	k.shapes(c.devices[0].inbox)
	k.complain("another commitment to a share of a level", "reason 3: a share does not match its commitment", 1, func(_ *session, q *parcel) { q.levels[2][0] ^= 1 })
	k.complain("shares of levels in another order", "reason 3: a share does not match its commitment", 2, func(s *session, q *parcel) {
		plain := k.open(2, q)
		k.sealInstead(2, slices.Concat(plain[:64], plain[96:128], plain[64:96], plain[128:]))(s, q)
	})
	k.complain("a share of a level that is no scalar", "reason 2: what was sealed is not scalars", 4, func(s *session, q *parcel) {
		k.sealInstead(4, append(k.open(4, q)[:128], bytes.Repeat([]byte{0xff}, 32)...))(s, q)
	})
}

// levelsReveals changes what the member at place 7 reveals: for each of seven survivors a
// share of b and one of level 2, and for 3, between them, one of σ and a seed.
func (k *badBook) levelsReveals() {
	d := k.m.cohort.devices[k.m.place]
	kept := d.done.keeping.again()
	k.shapes(d.reveal)
	at := func(i int) int { return headerSize + 32 + 64*i }
	of := func(place, g int) []byte { return kept.levels[place*3+g-1][:] } // of those before 7 the slot is the place
	k.add("a share of a lower level", "mismatch", "one of the level reached is called for", with(d.reveal, at(0)+32, of(0, 1)))
	k.add("a share of a higher level", "mismatch", "one of the level reached is called for", with(d.reveal, at(0)+32, of(0, 3)))
	k.add("another member's share of the level", "mismatch", "it is not the share that was dealt", with(d.reveal, at(0)+32, of(1, 2)))
	k.add("a level in place of σ's seed", "mismatch", "of a member that did not survive no level is revealed", with(d.reveal, at(3)+32, of(3, 2)))
	k.add("a level's share of who did not survive", "malformed", "there is no room for it", slices.Concat(d.reveal[:at(4)], of(3, 2), d.reveal[at(4):]))
	k.add("no share of a level", "malformed", "there is one of each survivor", slices.Delete(bytes.Clone(d.reveal), at(0)+32, at(1)))
	k.add("another own share of the level", "mismatch", "it is not the share that the member has committed to", flipped(d.reveal, -1))
}
