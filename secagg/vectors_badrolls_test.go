package secagg

import "slices"

// rolls makes bad rosters for the device at place 0 of a cohort whose members stand in two
// rolls of the authority, or in none.
func (k *badBook) rolls() {
	c := k.m.cohort
	s, v := c.shares.session, c.vectorRun
	with := func(change func(a *admission)) []byte {
		return k.rosterTo(0, func(r *roster, adverts []*advert) {
			r.admission = k.admission(r.members, adverts)
			for i := range r.admission.rolls {
				p := &r.admission.rolls[i]
				p.members, p.places, p.proof = slices.Clone(p.members), slices.Clone(p.places), slices.Clone(p.proof)
			}
			change(&r.admission)
		})
	}
	first := v.rolls[0]
	taken := first.among(s.members, nil)
	free := slices.IndexFunc(first.ids, func(id ID) bool { _, in := s.place(id); return !in }) // of a device that is no member
	loner := slices.IndexFunc(s.members, func(m member) bool {
		return !slices.ContainsFunc(v.rolls, func(r *Roll) bool { return slices.Contains(r.ids, m.id) })
	})
	moved := func(a *admission, off, on int) {
		p := &a.rolls[0]
		p.places[off/8] &^= 1 << (off % 8)
		p.places.set(on)
		p.proof = first.tree.proof(len(first.Keys), p.places)
	}
	other, err := SignRoll(newKey(77, "authority", 0), first.Keys)
	c.must(err)
	k.add("a roll of another authority", "forged", "the signature is not the pinned authority's", with(func(a *admission) {
		a.rolls[0] = other.prove(len(s.members), taken)
	}))
	k.add("a member that is in no roll", "forged", "the roll has another device's key at that place", with(func(a *admission) {
		p := &a.rolls[0]
		p.members.set(loner)
		p.places.set(free)
		p.proof = first.tree.proof(len(first.Keys), p.places)
		a.credentials = a.credentials[1:]
	}))
	k.add("another device's place", "forged", "the roll has another device's key at that place", with(func(a *admission) { moved(a, taken[1][1], free) }))
	k.add("one hash of a roll changed", "forged", "the root under the signature is another", with(func(a *admission) { a.rolls[0].proof[0][0] ^= 1 }))
	k.add("one hash of a roll too few", "forged", "the root under the signature is another", with(func(a *admission) { a.rolls[1].proof = a.rolls[1].proof[1:] }))
	k.add("one device more than a roll has", "forged", "the size is in the signature", with(func(a *admission) { a.rolls[0].size++ }))
	k.add("a roll of nobody", "malformed", "a roll has 1 to 32,768 devices", with(func(a *admission) { a.rolls[0].size = 0 }))
	k.add("a roll that is too large", "malformed", "a roll has 1 to 32,768 devices", with(func(a *admission) { a.rolls[0].size = MaxRoll + 1 }))
	k.add("a place past a roll", "malformed", "bits of a bitmap past its places are zero", with(func(a *admission) { a.rolls[0].places[1] |= 1 << 2 }))
	k.add("fewer places than members", "malformed", "each member that a roll shows has a place in it", with(func(a *admission) {
		a.rolls[0].places[taken[1][1]/8] &^= 1 << (taken[1][1] % 8)
	}))
	k.add("a member in two rolls", "malformed", "a member is shown once", with(func(a *admission) {
		a.rolls = append(a.rolls, first.prove(len(s.members), taken[1:2]))
	}))
	k.add("a roll without members", "malformed", "a roll shows a member at least", with(func(a *admission) {
		a.rolls = append(a.rolls, first.prove(len(s.members), nil))
	}))
	k.add("a credential for a roll", "forged", "what an authority signs for a roll begins otherwise", with(func(a *admission) {
		a.rolls[0].signature = [signatureSize]byte(c.devices[0].signer.Credential)
	}))
	good := c.devices[0].roster
	k.add("a revoked member in a roll", "revoked", "the member is on the authority's list", good).Revoked = []hexed{slices.Clone(s.members[taken[1][0]].id[:])}
}
