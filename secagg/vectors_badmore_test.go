package secagg

import (
	"bytes"
	"slices"
)

// hybrid makes bad keys and ciphertexts.
func (k *badBook) hybrid() {
	m := k.m
	switch {
	case m.step == stepAdvert && !m.after:
		k.hybridAdverts()
	case m.step == stepShares && !m.after:
		k.hybridShares()
	case m.step == stepInbox:
		k.hybridInboxes()
	}
}

func (k *badBook) hybridAdverts() {
	v := k.m.run
	d, ctx0 := v.devices[k.m.place], v.params.context()
	with := func(change func(a *advert)) []byte {
		a := decodeAdvert(v.keys, bytes.Clone(d.advert[headerSize:]))
		change(a)
		copy(a.signature[:], d.signer.sign(a.signed(&ctx0, &v.adverts.root)))
		return a.append(message(kindAdvert, 0))
	}
	for _, bad := range badKeys {
		k.add("a mask key whose X25519 part is one "+bad.Why, "bad-key", "the last 32 bytes of an X-Wing key are an X25519 key", with(func(a *advert) {
			copy(a.mask[len(a.mask)-32:], bad.Bytes)
		}))
	}
	k.add("a channel key with a coefficient of 4095", "bad-key", "coefficients of an ML-KEM key are below 3329", with(func(a *advert) {
		copy(a.channel, []byte{0xff, 0xff, 0xff})
	}))
}

// hybridShares spoils a seal of the last member's, and the ciphertext that it encapsulated.
func (k *badBook) hybridShares() {
	c, from := k.m.cohort, k.m.place
	s, d := c.shares.session, c.devices[k.m.place]
	kept := d.shares
	c.misdeal(from, 0, func(s *session, q *parcel) {
		enc := s.params.Keys.encapsulated(q.sealed)
		clear(enc[len(enc)-32:])
	})
	k.add("a seal to a point of low order", "bad-key", "the last 32 bytes of an X-Wing encapsulated key are an X25519 key", d.shares)
	d.shares = kept
	for to := range s.members {
		if !s.graph.encapsulates(from, to) {
			continue
		}
		c.misdeal(from, to, func(_ *session, q *parcel) { clear(q.ciphertext[len(q.ciphertext)-32:]) })
		k.add("a ciphertext of low order", "bad-key", "the last 32 bytes of an X-Wing ciphertext are an X25519 key", d.shares)
		d.shares = kept
		return
	}
}

// hybridInboxes substitutes ciphertexts in the inbox of a device that receives one.
func (k *badBook) hybridInboxes() {
	c, to := k.m.cohort, k.m.place
	s := c.shares.session
	for slot, from := range s.graph.neighbours(to) {
		if !s.graph.encapsulates(from, to) {
			continue
		}
		k.complain("a seal to a point of low order", "reason 1: the last 32 bytes of the encapsulated key are zero; the seal opens where that is not checked", from, k.lowSeal(from))
		k.add("a substituted ciphertext", "forged", "it is not the one that its sender signed", k.inboxWith(func(in *inbox) {
			in.entries[slot].parcel.ciphertext[5] ^= 1
		}))
		k.complain("a ciphertext of another seed", "reason 4: the ciphertext does not give the seed that was committed to; its hash is in the seal, too, so the seal is made for it",
			from, func(s *session, q *parcel) {
				plain := k.open(from, q)
				q.ciphertext[5] ^= 1
				k.sealInstead(from, plain)(s, q)
			})
		k.complain("a ciphertext that is not in the seal", "reason 1: the seal holds the hash of another ciphertext", from,
			func(_ *session, q *parcel) { q.ciphertext[5] ^= 1 })
	}
}

// open is what was sealed to the moment's device, by one that encapsulates to it.
func (k *badBook) open(from int, q *parcel) []byte {
	key, err := k.m.cohort.devices[k.m.place].shared.channel.opener()
	k.m.run.must(err)
	plain, err := key.open(q.sealed, k.sealedContext(from, q))
	k.m.run.must(err)
	return plain
}

func (k *badBook) sealedContext(from int, q *parcel) []byte {
	h := ciphertextHash(q.ciphertext)
	return k.m.cohort.shares.session.sealedContext(from, k.m.place, &k.m.cohort.submissions.received[from].dealing.b, &h)
}

// lowSeal seals the same shares to the moment's device by a point of low order: with the secret that
// the device's key gives of it, since whoever deals so knows what X25519 gives.
func (k *badBook) lowSeal(from int) func(*session, *parcel) {
	return func(s *session, q *parcel) {
		plain, x := k.open(from, q), s.params.Keys
		key, err := k.m.cohort.devices[k.m.place].shared.channel.opener()
		k.m.run.must(err)
		enc := bytes.Clone(x.encapsulated(q.sealed))
		clear(enc[len(enc)-32:])
		secret, err := x.kem().Scheme().Decapsulate(key.key, enc)
		k.m.run.must(err)
		aead, nonce, err := x.aead(secret)
		k.m.run.must(err)
		q.sealed = aead.Seal(enc, nonce, plain, k.sealedContext(from, q))
	}
}

// losses makes bad messages about members that vanished or were accused. Member 2 is in
// the roster and did not share; the member at place 8 shared and sent no vector; 6 has
// accused 0.
func (k *badBook) losses() {
	m, c := k.m, k.m.cohort
	switch {
	case m.step == stepRoster && m.place == 0:
		const half = 7 // of the check-ins
		msg := k.rosterTo(0, func(r *roster, _ []*advert) {
			for _, place := range c.shares.places[half:] {
				r.present[place/8] &^= 1 << (place % 8)
			}
			r.members = r.members[:half]
		})
		msg = msg[:len(msg)-(len(c.devices)-half)*c.keys.keysSize()]
		k.add("half of the check-ins", "too-few", "fourteen checked in, so that a roster has more than seven members", msg)
		k.rolls()
	case m.step == stepSurvivors && m.place == 1:
		s := c.shares.session
		alive := slices.Clone(c.confirms.cohort.survivors)
		alive.set(2)
		k.add("one who did not share", "refused", "the device was told that place 2 had not shared", (&shown{alive: alive}).encode())
		if sharers := c.submissions.shared; sharers.has(2) || s.graph.slot(1, 2) < 0 {
			c.t.Fatal("place 2 was to be a neighbour of place 1 that did not share")
		}
	case m.step == stepSurvivors && m.place == 6:
		alive := newBitmap(len(c.devices))
		alive.set(6)
		for _, place := range c.submissions.shared.places() {
			if alive.count() < c.out.Needed {
				alive.set(place)
			}
		}
		k.add("too few that it holds shares of", "too-few", "check 4: there are as many as are needed, and it has accused place 0", (&shown{alive: alive}).encode())
	case m.step == stepComplaint:
		k.add("of one who did not share", "member", "it has no place in this step", c.devices[6].complaint).Sender = k.ofPlace(2)
		k.late = c.masked(8)
	case m.step == stepVector && m.late:
		k.add("after the survivors are fixed", "late", "the survivors are shown to others, who sign that they have masked with whom they are summed", k.late)
	case m.step == stepVector && !m.after:
		k.add("of one who did not share", "member", "its secrets are not shared, so its masks would not come off", k.late).Sender = k.ofPlace(2)
	case m.step == stepConfirm && !m.after:
		k.add("of one who is no survivor", "member", "its vector is not in the sum", c.devices[m.place].confirm).Sender = k.ofPlace(8)
	case m.step == stepQuorum && m.place == 0:
		alive := slices.Clone(c.confirms.cohort.survivors)
		alive.set(8)
		signers, signatures := newBitmap(len(c.devices)), make(map[int][]byte)
		for p := range 8 {
			if c.devices[p].done != nil {
				signers.set(p)
				signatures[p] = c.devices[p].signer.sign(c.shares.session.confirmSigned(c.submissions.shared, alive))
			}
		}
		for p := 9; signers.count() < c.out.Quorum; p++ {
			signers.set(p)
			signatures[p] = c.devices[p].signer.sign(c.shares.session.confirmSigned(c.submissions.shared, alive))
		}
		k.add("forked survivors", "forged", "all signed a set with place 8 in it, which this device was shown without", encodeQuorum(signers, signatures))
	case m.step == stepReveal && !m.after:
		good := c.devices[m.place].reveal
		k.add("of one who is no survivor", "member", "its vector is not in the sum", good).Sender = k.ofPlace(8)
		k.add("another seed", "mismatch", "it is not the seed that was committed to", k.withSeed(good, func(seed []byte) { seed[0] ^= 1 }))
	}
}

// ofPlace is the id of the member at a place of the cohort.
func (k *badBook) ofPlace(place int) hexed {
	id := k.m.cohort.devices[place].id
	return id[:]
}

// withSeed changes the seed of the mask in common with the member at place 8 in a reveal.
func (k *badBook) withSeed(good []byte, change func(seed []byte)) []byte {
	c := k.m.cohort
	b, at := bytes.Clone(good), headerSize+32
	for _, j := range c.reveals.holding(k.m.place) {
		at += scalarSize
		if !c.reveals.cohort.survivors.has(j) {
			change(b[at : at+32])
			at += 32
		}
	}
	return b
}

// sparse makes bad pledges, and survivors that are parted.
func (k *badBook) sparse() {
	m, c := k.m, k.m.cohort
	switch {
	case m.step == stepComplaint:
		s, d := c.shares.session, c.devices[m.place]
		told := slices.Clone(c.submissions.shared)
		told[0] &^= 1
		other := &complaint{pledge: d.signer.sign(s.pledgeSigned(m.place, told))}
		k.add("a pledge under other sharers", "forged", "the member was told that place 0 had not shared", other.encode())
		k.add("no pledge", "malformed", "on a sparse graph a pledge comes first", (&complaint{}).encode())
		stranger := slices.IndexFunc(s.members, func(x member) bool {
			place, _ := s.place(x.id)
			return place != m.place && s.graph.slot(m.place, place) < 0
		})
		a := accusation{place: stranger, reason: unopened}
		copy(a.signature[:], d.signer.sign(s.complaintSigned(m.place, stranger, unopened)))
		good, err := s.decodeComplaint(d.complaint)
		c.must(err)
		k.add("about one who is no neighbour", "malformed", "the accused dealt nothing to it", (&complaint{good.pledge, []accusation{a}}).encode())
	case m.step == stepSurvivors && m.place == 0:
		k.sparseSurvivors()
	}
}

func (k *badBook) sparseSurvivors() {
	c := k.m.cohort
	s := c.shares.session
	good, err := s.decodeSurvivors(bytes.Clone(c.devices[0].survivors), 0)
	c.must(err)
	pruned := slices.Clone(c.submissions.shared)
	by := s.beside(0, good.alive)[0]
	pruned[0] &^= 1
	pledges := slices.Clone(good.pledges)
	pledges[0] = c.devices[by].signer.sign(s.pledgeSigned(by, pruned))
	k.add("pruned edges", "forged", "a neighbour was told that this device had not shared, and so does not mask with it",
		(&shown{good.alive, pledges, nil}).encode())
	k.add("exchanged pledges", "forged", "a pledge is another neighbour's",
		(&shown{good.alive, append([][]byte{good.pledges[1], good.pledges[0]}, good.pledges[2:]...), nil}).encode())
	k.add("no pledges", "malformed", "there is one of each surviving neighbour", (&shown{alive: good.alive}).encode())
	for _, by := range good.alive.places() {
		if by != 0 && s.graph.slot(0, by) < 0 {
			a := accusation{place: by, reason: unopened}
			copy(a.signature[:], c.devices[by].signer.sign(s.complaintSigned(by, 0, unopened)))
			k.add("an accusation by one who is no neighbour", "forged", "check 7: it was dealt nothing", (&shown{good.alive, good.pledges, []accusation{a}}).encode())
			break
		}
	}
	// Two runs of k/2 places, away from the device, without a survivor.
	alive := slices.Clone(good.alive)
	for d := range s.graph.k / 2 {
		for _, ahead := range []int{20, 60} {
			place := s.graph.order[(s.graph.position[0]+ahead+d)%s.graph.n]
			alive[place/8] &^= 1 << (place % 8)
		}
	}
	k.add("two parts", "too-few", "nobody in two runs of k/2 places of the circle survived: there would be two sums", (&shown{alive, good.pledges, nil}).encode())
}

// cohorts makes messages about a cohort that was not drawn.
func (k *badBook) cohorts() {
	m := k.m
	switch {
	case m.cohort == nil || m.cohort.out.Cohort != 0:
	case m.step == stepRoster && m.place == 0:
		k.rostersNotDrawn()
	case m.step == stepShares && !m.after:
		k.sharesOfAnotherLot()
	}
}

// sharesOfAnotherLot signs what a member deals as one does who was shown another lot.
func (k *badBook) sharesOfAnotherLot() {
	v, c, place := k.m.run, k.m.cohort, k.m.place
	s, d := *c.shares.session, c.devices[k.m.place]
	lot := drawn{cohort: c.out.Cohort, cohorts: Cohorts(len(v.devices), v.params.Cohort), opened: c.shares.opened.root()}
	lot.opened[0] ^= 1
	roster, seed := contextParts(&s, &v.adverts.root, lot)
	s.ctx1 = hash(labelCohort, s.ctx0[:], roster[:], seed[:])
	m, err := s.decodeDealing(bytes.Clone(d.shares), place)
	c.must(err)
	root := s.leaves(place, m).root()
	copy(m.signature[:], d.signer.sign(s.sharesSigned(place, m, &root)))
	k.add("another lot", "forged", "the member was shown another root of the nonces than the others, and signs for another cohort", m.encode(&s, place))
}

func (k *badBook) rostersNotDrawn() {
	c := k.m.cohort
	good := c.devices[0].roster
	k.shapes(good)
	k.add("another lot", "forged", "the root of the nonces shown is one without the device's own", k.rosterTo(0, func(r *roster, _ []*advert) { r.opened[0] ^= 1 }))
	k.add("a member of another cohort", "forged", "the member was drawn into the other cohort", k.rosterTo(0, func(r *roster, adverts []*advert) {
		other, gone := c.ran[1].devices[0], c.checkIn[1]
		place, _ := c.adverts.place(other.id)
		r.present.set(place)
		r.present[gone/8] &^= 1 << (gone % 8)
		r.members = slices.Delete(r.members, 1, 2)
		a := decodeAdvert(c.keys, other.advert[headerSize:])
		at, _ := slices.BinarySearchFunc(r.members, other.id, func(m member, id ID) int { return compareIDs(m.id, id) })
		r.members = slices.Insert(r.members, at, a.member())
	}))
}
