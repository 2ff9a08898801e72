package secagg

import (
	"bytes"
	"slices"
)

// classical makes bad messages of every kind for an attempt in which nothing else goes
// wrong. Those for devices are for the one at place 0.
func (k *badBook) classical() {
	m := k.m
	switch {
	case m.step == stepCommitted && m.place == 0:
		k.committed()
	case m.step == stepAdvert:
		k.adverts()
	case m.step == stepRoster && m.place == 0:
		k.rosters()
	case m.step == stepShares:
		k.shares()
	case m.step == stepInbox && m.place == 0:
		k.inboxes()
		k.complained()
	case m.step == stepComplaint, m.step == stepVector && m.after:
		k.complaints()
	case m.step == stepSurvivors && m.place == 0:
		k.survivors()
	case m.step == stepConfirm:
		k.confirms()
	case m.step == stepQuorum && m.place == 0:
		k.quorums()
	case m.step == stepReveal:
		k.reveals()
	}
}

func (k *badBook) committed() {
	good := k.m.run.devices[0].committed
	k.shapes(good)
	c, err := decodeCommitted(good)
	k.m.run.must(err)
	with := func(change func(c *committed)) []byte {
		d := *c
		change(&d)
		return d.encode()
	}
	k.add("another root", "forged", "the device's own commitment is not in the tree", flipped(good, headerSize+8))
	k.add("another path", "forged", "the device's own commitment is not in the tree", flipped(good, len(good)-1))
	k.add("another place", "forged", "the path belongs to another place", with(func(c *committed) { c.place = 1 }))
	k.add("two devices", "refused", "no sum is taken of fewer than three", with(func(c *committed) { c.devices, c.path = 2, c.path[:32] }))
	k.add("too many devices", "refused", "a round has at most 20,000 devices", with(func(c *committed) { c.devices = MaxDevices + 1 }))
	k.add("a place past the devices", "refused", "there are five places", with(func(c *committed) { c.place = 5 }))
}

// rosterTo is the roster that a member would get from a server that had made these
// changes to what it knows.
func (k *badBook) rosterTo(place int, change func(r *roster, adverts []*advert)) []byte {
	c := k.m.cohort
	s := c.shares.session
	r := &roster{present: newBitmap(len(c.vectorRun.devices)), members: slices.Clone(s.members)}
	for _, i := range c.shares.places {
		r.present.set(i)
	}
	adverts := make([]*advert, len(s.adverts))
	for i, a := range s.adverts {
		changed := *a
		adverts[i] = &changed
	}
	if c.shares.opened != nil {
		r.opened, r.path = c.shares.opened.root(), c.shares.opened.path(c.shares.places[place])
	}
	change(r, adverts)
	r.proof = c.adverts.tree.proof(len(c.vectorRun.devices), r.present)
	if r.admission.credentials == nil && r.admission.rolls == nil {
		r.admission = k.admission(r.members, adverts)
	}
	b := r.prefix()
	if c.shares.opened != nil {
		b = append(append(b, r.opened[:]...), r.path...)
	}
	for _, j := range s.graph.neighbours(place) {
		b = adverts[j].appendKeys(b)
	}
	return b
}

// admission is what a server that has these adverts shows of members' being admitted.
func (k *badBook) admission(members []member, adverts []*advert) admission {
	of := make(map[ID][signatureSize]byte)
	for _, d := range k.m.run.devices {
		of[d.id] = [signatureSize]byte(d.signer.Credential)
	}
	for _, a := range adverts {
		of[a.id] = a.credential
	}
	credentials := make([][signatureSize]byte, len(members))
	for i := range members {
		credentials[i] = of[members[i].id]
	}
	return k.m.run.params.admission(members, credentials)
}

// resign has a member sign its advert anew, under some other context.
func (k *badBook) resign(r *roster, adverts []*advert, place int, ctx0, committed digest) {
	a := adverts[place]
	copy(a.signature[:], k.m.cohort.devices[place].signer.sign(a.signed(&ctx0, &committed)))
	r.members[place].advert = a.hash()
}

func (k *badBook) rosters() {
	c := k.m.cohort
	s, v := c.shares.session, c.vectorRun
	good := c.devices[0].roster
	root := v.adverts.root
	k.shapes(good)
	k.add("bits past the places", "malformed", "bits of a bitmap past its places are zero", setBit(good, headerSize+2, 7))
	k.add("a member of another authority", "forged", "the credential is not the pinned authority's", k.rosterTo(0, func(_ *roster, a []*advert) {
		other := newKey(77, "authority", 0)
		copy(a[1].credential[:], Certify(other, a[1].key[:]))
	}))
	k.add("another nonce", "forged", "the nonce is not the one committed to at check-in: the graph could be chosen", k.rosterTo(0, func(r *roster, _ []*advert) {
		r.members[1].nonce[0] ^= 1
	}))
	k.add("a member twice", "malformed", "ids ascend", k.rosterTo(0, func(r *roster, _ []*advert) { r.members[2] = r.members[1] }))
	k.add("members out of order", "malformed", "ids ascend", k.rosterTo(0, func(r *roster, _ []*advert) {
		r.members[1], r.members[2] = r.members[2], r.members[1]
	}))
	k.add("swapped model", "forged", "the neighbour was told another plan, so signed under another ctx0", k.rosterTo(0, func(r *roster, a []*advert) {
		p := v.params
		p.Plan = []byte("a plan with another checkpoint")
		k.resign(r, a, 1, p.context(), root)
	}))
	k.add("another attempt's signature", "forged", "the neighbour signed for another attempt", k.rosterTo(0, func(r *roster, a []*advert) {
		k.resign(r, a, 1, k.other.params.context(), root)
	}))
	k.add("another root's signature", "forged", "the neighbour signed another root of check-ins", k.rosterTo(0, func(r *roster, a []*advert) {
		k.resign(r, a, 1, s.ctx0, k.other.adverts.root)
	}))
	k.add("another mask key", "forged", "the neighbour's advert is not the one that the roster names", k.rosterTo(0, func(_ *roster, a []*advert) {
		a[1].mask = flipped(a[1].mask, 0)
	}))
	k.add("small cohort", "too-few", "two members, the device's own minimum is three", k.rosterTo(0, func(r *roster, _ []*advert) {
		r.members, r.present = r.members[:2], setOf(5, 0, 1)
	}))
	k.add("too many members", "refused", "nine members, the plan allows eight", setByte(good, headerSize+1, 9))
	k.add("without the device", "refused", "the device is not in its own roster", k.rosterTo(0, func(r *roster, _ []*advert) {
		r.members, r.present = r.members[1:], setOf(5, 1, 2, 3, 4)
	}))
	k.add("another advert for the device", "forged", "the device sent another advert", k.rosterTo(0, func(r *roster, _ []*advert) { r.members[0].advert[0] ^= 1 }))
	for _, v := range badKeys {
		k.add("a mask key "+v.Why, "bad-key", "the neighbour's signed X25519 key is "+v.Why, k.rosterTo(0, func(r *roster, a []*advert) {
			a[1].mask = v.Bytes
			k.resign(r, a, 1, s.ctx0, root)
		}))
	}
	k.add("a key twice", "bad-key", "two neighbours have the same channel key", k.rosterTo(0, func(r *roster, a []*advert) {
		a[2].channel = a[1].channel
		k.resign(r, a, 2, s.ctx0, root)
	}))
	k.add("a revoked member", "revoked", "the member is on the authority's list", good).Revoked = []hexed{slices.Clone(s.members[3].id[:])}
}

// inboxWith is the moment's inbox with changes.
func (k *badBook) inboxWith(change func(in *inbox)) []byte {
	c := k.m.cohort
	s := c.shares.session
	sharers, entries, err := s.decodeInbox(bytes.Clone(c.devices[k.m.place].inbox), k.m.place)
	c.must(err)
	in := &inbox{sharers, entries}
	change(in)
	return in.encode(s, k.m.place)
}

// inboxes changes what member 1 sent to the device at place 0; slot 0 is its.
func (k *badBook) inboxes() {
	c := k.m.cohort
	s := c.shares.session
	good := c.devices[0].inbox
	k.shapes(good)
	k.add("bits past the places", "malformed", "bits of a bitmap past its places are zero", setBit(good, headerSize, 5))
	unsigned := "it is not what its sender signed"
	for _, v := range []struct {
		name   string
		change func(e *inboxEntry)
	}{
		{"a seal forged by the server", func(e *inboxEntry) { e.parcel.sealed[40] ^= 1 }},
		{"another commitment to b", func(e *inboxEntry) { e.b[0] ^= 1 }},
		{"another own share", func(e *inboxEntry) { e.ownShare[0] ^= 1 }},
		{"another commitment to a share", func(e *inboxEntry) { e.parcel.b[0] ^= 1 }},
		{"commitments exchanged", func(e *inboxEntry) { e.parcel.b, e.parcel.sigma = e.parcel.sigma, e.parcel.b }},
		{"another path", func(e *inboxEntry) { e.path[0] ^= 1 }},
		{"no signature", func(e *inboxEntry) { e.signature = [signatureSize]byte{} }},
		{"another sender's signature", func(e *inboxEntry) { e.signature = c.submissions.received[2].dealing.signature }},
	} {
		k.add(v.name, "forged", unsigned, k.inboxWith(func(in *inbox) { v.change(in.entries[0]) }))
	}
	k.add("a replayed share", "forged", "the entry is from another attempt", k.inboxWith(func(in *inbox) {
		_, entries, err := k.other.ran[0].shares.session.decodeInbox(bytes.Clone(k.other.devices[0].inbox), 0)
		c.must(err)
		swap(in.entries[0], entries[0])
	}))
	k.add("another recipient's share", "forged", "the entry is for the member at place 2", k.inboxWith(func(in *inbox) {
		inbox, err := c.submissions.Inbox(c.devices[2].id)
		c.must(err)
		_, entries, err := s.decodeInbox(inbox, 2)
		c.must(err)
		swap(in.entries[0], entries[1]) // of member 1, who stands behind 0 there
	}))
	k.add("few sharers", "too-few", "three of five, the quorum and the threshold are four", k.inboxWith(func(in *inbox) {
		in.sharers, in.entries[2], in.entries[3] = setOf(5, 0, 1, 2), nil, nil
	}))
	k.add("without the device", "refused", "the device is not among those who shared", k.inboxWith(func(in *inbox) { in.sharers = setOf(5, 1, 2, 3, 4) }))
}

// swap puts another entry in the place of one, with what it lacks.
func swap(e, with *inboxEntry) {
	parcel := *with.parcel
	if parcel.pair == (digest{}) {
		parcel.ciphertext, parcel.pair = e.parcel.ciphertext, e.parcel.pair
	}
	*e = *with
	e.parcel = &parcel
}

// complained makes dealings that are signed and bad.
func (k *badBook) complained() {
	for _, dealing := range []struct {
		name, reason string
		from         int
		change       func(s *session, q *parcel)
	}{
		{"a seal that does not open", "reason 1: the seal does not open", 1, flipSealed},
		{"a seal to a point of low order", "reason 1: the encapsulated key is of low order", 2, func(_ *session, q *parcel) { clear(q.sealed[:32]) }},
		{"no scalars", "reason 2: what was sealed is not two scalars", 3, k.sealInstead(3, bytes.Repeat([]byte{0xff}, sharePair))},
		{"another share", "reason 3: a share does not match its commitment", 4, func(_ *session, q *parcel) { q.sigma[0] ^= 1 }},
	} {
		k.complain(dealing.name, dealing.reason, dealing.from, dealing.change)
	}
	k.add("more bad dealers than it can go on with", "too-few", "check 4: the shares of two neighbours open, want three", k.misdealt(flipSealed, 1, 2))
	s := k.m.cohort.shares.session
	for from := range s.members {
		if s.graph.encapsulates(from, 0) {
			k.complain("another pair's seed", "reason 4: the key agreement does not give the seed that was committed to", from,
				func(_ *session, q *parcel) { q.pair[0] ^= 1 })
			break
		}
	}
}

// complain adds an inbox for the device at place 0 in which one member has dealt badly.
func (k *badBook) complain(name, reason string, from int, change func(s *session, q *parcel)) {
	bad := k.misdealt(change, from)
	_, complaint, err := k.m.cohort.devices[k.m.place].shared.again().Open(bytes.Clone(bad))
	k.m.run.must(err)
	k.add(name, "", reason, bad).Complaint = complaint
}

// misdealt is an inbox for the moment's device in which some members have dealt badly.
func (k *badBook) misdealt(change func(s *session, q *parcel), dealers ...int) []byte {
	c := k.m.cohort
	s, before := c.shares.session, slices.Clone(c.submissions.received)
	for _, from := range dealers {
		kept := c.devices[from].shares
		c.misdeal(from, k.m.place, change)
		m, err := s.decodeDealing(bytes.Clone(c.devices[from].shares), from)
		c.must(err)
		c.submissions.received[from] = s.newReceived(from, c.devices[from].shares, m, s.leaves(from, m))
		c.devices[from].shares = kept
	}
	bad, err := c.submissions.Inbox(c.devices[k.m.place].id)
	c.must(err)
	copy(c.submissions.received, before)
	return bad
}

// sealInstead seals other bytes than two shares from a member to the moment's device.
func (k *badBook) sealInstead(from int, plain []byte) func(*session, *parcel) {
	return func(s *session, q *parcel) {
		var h *digest
		if len(q.ciphertext) > 0 {
			sum := ciphertextHash(q.ciphertext)
			h = &sum
		}
		to, b := k.m.place, k.m.cohort.submissions.received[from].dealing.b
		var err error
		q.sealed, err = s.params.Keys.seal(s.adverts[to].channel, s.sealedContext(from, to, &b, h), plain, stream(1, "instead", from))
		k.m.run.must(err)
	}
}

func (k *badBook) survivors() {
	c := k.m.cohort
	s := c.shares.session
	good := c.devices[0].survivors
	k.shapes(good)
	all := setOf(5, 0, 1, 2, 3, 4)
	with := func(a ...accusation) []byte { return (&shown{alive: all, accusations: a}).encode() }
	signed := func(by int, said reason) (a accusation) {
		a.place, a.reason = by, said
		copy(a.signature[:], c.devices[by].signer.sign(s.complaintSigned(by, 0, said)))
		return a
	}
	k.add("bits past the places", "malformed", "bits of a bitmap past its places are zero", setBit(good, headerSize, 5))
	k.add("without the device", "refused", "the device's own vector would not be in the sum", survivorsOf(5, 1, 2, 3, 4))
	k.add("too few", "too-few", "three of five, the quorum and the threshold are four", survivorsOf(5, 0, 1, 2))
	forged := signed(1, unopened)
	forged.signature[0] ^= 1
	k.add("an accusation that is not signed", "forged", "the neighbour did not accuse", with(forged))
	again := signed(1, unopened)
	ctx1 := k.other.out.Cohorts[0].Context
	copy(again.signature[:], c.devices[1].signer.sign(transcript(labelComplaint, ctx1, s.members[1].id[:], s.members[0].id[:], []byte{byte(unopened)})))
	k.add("an accusation from another attempt", "forged", "the neighbour did not accuse in this attempt", with(again))
	k.add("an accusation by the device itself", "forged", "a device is no neighbour of its own", with(signed(0, unopened)))
	k.add("accusations out of order", "malformed", "places ascend", with(signed(2, unopened), signed(1, unopened)))
	k.add("an accuser twice", "malformed", "places ascend", with(signed(1, unopened), signed(1, unopened)))
	k.add("no such reason", "malformed", "reasons are 1 to 4", with(signed(1, reasonsAbove)))
	k.add("no such place", "malformed", "there are five places", with(accusation{place: 5, reason: unopened}))
}

func (k *badBook) quorums() {
	c := k.m.cohort
	s := c.shares.session
	good := c.reveals.Quorum()
	k.shapes(good)
	k.add("bits past the places", "malformed", "bits of a bitmap past its places are zero", setBit(good, headerSize, 5))
	quorum := func(places []int, sign func(place int) []byte) []byte {
		signatures, signers := make(map[int][]byte), newBitmap(5)
		for _, p := range places {
			signatures[p] = sign(p)
			signers.set(p)
		}
		return encodeQuorum(signers, signatures)
	}
	own := func(p int) []byte { return c.confirms.signatures[p] }
	k.add("one signature less", "too-few", "three of five, the quorum is four", quorum([]int{0, 1, 2}, own))
	k.add("forked survivors", "forged", "one member signed other survivors", quorum([]int{0, 1, 2, 3}, func(p int) []byte {
		if p < 3 {
			return own(p)
		}
		return c.devices[p].signer.sign(s.confirmSigned(setOf(5, 0, 1, 2, 3, 4), setOf(5, 0, 1, 2, 3)))
	}))
	k.add("other sharers", "forged", "one member was told of other sharers", quorum([]int{0, 1, 2, 3}, func(p int) []byte {
		if p < 3 {
			return own(p)
		}
		return c.devices[p].signer.sign(s.confirmSigned(setOf(5, 0, 1, 2, 3), setOf(5, 0, 1, 2, 3, 4)))
	}))
	k.add("another attempt's signatures", "forged", "they are under another ctx1", quorum([]int{0, 1, 2, 3}, func(p int) []byte {
		return k.other.devices[p].confirm[headerSize:][:signatureSize]
	}))
	k.add("another signer", "forged", "the last signature is not of the member it is said to be of", quorum([]int{0, 1, 2, 4}, func(p int) []byte { return own(min(p, 3)) }))
}

func setBit(b []byte, at, bit int) []byte { return setByte(b, at, b[at]|1<<bit) }

func setByte(b []byte, at int, value byte) []byte {
	b = bytes.Clone(b)
	b[at] = value
	return b
}

// badKeys are X25519 keys that nobody may have.
var badKeys = []validVector{
	{Why: "of low order", Bytes: mustHex(lowOrder[2])},
	{Why: "that is zero", Bytes: mustHex(lowOrder[0])},
	{Why: "that is not canonical", Bytes: mustHex(fieldPrime)},
}
