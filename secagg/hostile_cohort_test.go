package secagg

import (
	"bytes"
	"slices"
	"testing"
)

// TestHostileCommitted answers a check-in with a tree that the device's nonce is not in
// or that is none.
func TestHostileCommitted(t *testing.T) {
	r := newRig(t, 110, 6)
	other := newRig(t, 111, 6)
	d := r.devices[2]
	tests := []struct {
		name string
		kind error
		msg  []byte
	}{
		{"another root", ErrForged, flipped(d.committed, headerSize+8)},
		{"another path", ErrForged, flipped(d.committed, -1)},
		{"another place", ErrForged, flipped(d.committed, headerSize+7)},
		{"another device's", ErrForged, r.devices[3].committed},
		{"of other check-ins", ErrForged, other.devices[2].committed},
		{"two devices", ErrRefused, with(d.committed, headerSize, []byte{0, 0, 0, 2, 0, 0, 0, 1})},
		{"too many devices", ErrRefused, with(d.committed, headerSize, []byte{0, 0, 0x4e, 0x21})},
		{"a place past the devices", ErrRefused, with(d.committed, headerSize+4, []byte{0, 0, 0, 6})},
		{"a path too short", ErrMalformed, d.committed[:len(d.committed)-32]},
		{"of another kind", ErrMalformed, with(d.committed, 0, []byte{byte(kindRoster)})},
		{"of version 3", ErrMalformed, with(d.committed, 1, []byte{3})},
		{"empty", ErrMalformed, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := *d.checkedIn
			_, msg, err := c.Advertise(r.params, d.signer, test.msg, stream(1, "unused", 0))
			wantRefusal(t, err, test.kind, nil)
			if msg != nil {
				t.Error("a message came with the error")
			}
		})
	}
	r.must(r.advertise(r.all()))
}

// TestSwappedModel gives one device another checkpoint to train on: the server refuses
// its advert, every other device refuses a roster with it and names it, and it refuses
// theirs.
func TestSwappedModel(t *testing.T) {
	const victim = 2
	r := newRig(t, 112, 6)
	p := r.params
	p.Plan = []byte("a plan for one")
	d := r.devices[victim]
	fresh := *d.checkedIn
	poisoned, msg, err := fresh.Advertise(p, d.signer, d.committed, stream(1, "poisoned", 0))
	r.must(err)
	wantRefusal(t, r.adverts.Add(d.id, msg), ErrForged, &d.id)
	r.must(r.advertise(r.all()))
	swap := func(f *forgery) { f.list[victim] = decodeAdvert(r.params.Keys, msg[headerSize:]) }
	for i, other := range r.devices {
		a := poisoned.again()
		if i != victim {
			a = other.advertised.again()
		}
		_, _, err := a.Share(r.forgeRoster(i, swap), other.rand)
		if i == victim {
			wantRefusal(t, err, ErrForged, r.id(0))
		} else {
			wantRefusal(t, err, ErrForged, r.id(victim))
		}
	}
	r.must(r.share(r.all()))
	r.endWith(r.all())
}

// TestForkedRoster shows three of seven devices a roster without the last one. What they
// deal is signed for another cohort than what the others deal: nobody opens enough.
func TestForkedRoster(t *testing.T) {
	const n = 7
	r := newRig(t, 113, n)
	r.must(r.advertise(r.all()))
	fork := []int{0, 1, 2}
	for _, i := range fork {
		r.devices[i].roster = r.forgeRoster(i, func(f *forgery) { f.leaveOut(6) })
	}
	for i := range n {
		r.shareOne(i)
	}
	// An honest server does not take what the three send, and names them.
	for i, d := range r.devices {
		if err := r.shares.Add(d.id, d.shares); i < 3 {
			wantRefusal(t, err, ErrMalformed, &d.id)
		} else {
			r.must(err)
		}
	}
	// A hostile one hands it on, cut to the form that the recipient expects.
	theirs := r.devices[0].shared.session
	m, err := theirs.decodeDealing(r.devices[0].shares, 0)
	r.must(err)
	in := r.inboxFrom(3, []int{3, 4, 5, 6})
	s := r.devices[3].shared.session
	q := *m.parcels[theirs.graph.slot(0, 3)]
	if s.graph.encapsulates(0, 3) && q.ciphertext == nil {
		q.ciphertext = make([]byte, s.params.Keys.sizes().ciphertext)
	}
	in.sharers.set(0)
	in.entries[0] = &inboxEntry{dealing: *m, parcel: &q, path: theirs.leaves(0, m).path(theirs.graph.slot(0, 3))}
	_, _, err = r.devices[3].shared.again().Open(in.encode(s, 3))
	wantRefusal(t, err, ErrForged, r.id(0))
	// One that keeps the two groups apart has neither mask anything.
	for _, group := range [][]int{fork, {3, 4, 5, 6}} {
		for _, i := range group {
			_, _, err := r.devices[i].shared.again().Open(r.inboxFrom(i, group).encode(r.devices[i].shared.session, i))
			wantRefusal(t, err, ErrTooFew, nil)
		}
	}
}

// inboxFrom is an inbox with what these members have dealt for the recipient's roster.
func (r *rig) inboxFrom(to int, group []int) *inbox {
	r.t.Helper()
	s := r.devices[to].shared.session
	in := &inbox{newBitmap(len(s.members)), make([]*inboxEntry, s.graph.k)}
	self, _ := s.place(r.devices[to].id)
	for _, i := range group {
		from, _ := s.place(r.devices[i].id)
		in.sharers.set(from)
		if from == self {
			continue
		}
		m, err := s.decodeDealing(r.devices[i].shares, from)
		r.must(err)
		slot := s.graph.slot(from, self)
		path := r.devices[i].shared.session.leaves(from, m).path(slot)
		in.entries[s.graph.slot(self, from)] = &inboxEntry{dealing: *m, parcel: m.parcels[slot], path: path}
	}
	return in
}

// TestGroundCohort shows a device of a round of three cohorts a cohort that was not
// drawn, or not drawn with its nonce.
func TestGroundCohort(t *testing.T) {
	const n = 20
	r := newRigWith(t, 114, n, func(p *Params) { p.Cohort = 7 })
	for i, d := range r.devices {
		r.must(r.advertiseOne(i))
		r.must(r.adverts.Add(d.id, d.advert))
	}
	adverts := slices.Clone(r.adverts.got)
	cohorts, err := r.adverts.Close()
	r.must(err)
	honest := cohorts[0]
	victim, _ := r.adverts.place(honest.Members()[1])
	strange, _ := r.adverts.place(cohorts[1].Members()[3])

	// show builds the roster of the victim's cohort with other members and another draw.
	show := func(places []int, open func(leaves []digest)) []byte {
		leaves := make([]digest, n)
		for i, ad := range adverts {
			leaves[i] = openedLeaf(ad.id, &ad.nonce)
		}
		open(leaves)
		a := &Adverts{params: r.params, ctx0: r.adverts.ctx0, root: r.adverts.root, tree: r.adverts.tree, ids: r.adverts.ids, got: adverts}
		d := &drawing{adverts: a, cohorts: 3, opened: newTree(leaves), present: []bitmap{setOf(n, places...)}}
		b, err := d.shares(0).Roster(r.devices[victim].id)
		r.must(err)
		return b
	}
	same := func([]digest) {}
	own := honest.places
	good, err := honest.Roster(r.devices[victim].id)
	r.must(err)
	if !bytes.Equal(show(own, same), good) {
		t.Fatal("a roster that nothing was changed in is not the server's")
	}
	for _, test := range []struct {
		name   string
		blamed int
		msg    []byte
	}{
		{"a cohort drawn without the device's nonce", -1, show(own, func(leaves []digest) { leaves[victim] = digest{} })},
		{"a cohort drawn with another nonce for the device", -1, show(own, func(leaves []digest) {
			leaves[victim] = openedLeaf(r.devices[victim].id, &digest{1})
		})},
		{"a member of another cohort slipped in", strange, show(append(slices.Clone(own[:len(own)-1]), strange), same)},
		{"a cohort of the server's choice", cohorts[1].places[0], show([]int{victim, strange, cohorts[1].places[0]}, same)},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, _, err := r.devices[victim].advertised.again().Share(test.msg, stream(1, "unused", 0))
			wantRefusal(t, err, ErrForged, r.id(test.blamed))
		})
	}
	// The cohort that was drawn goes on.
	r.shares = honest
	who := own
	for _, i := range who {
		r.devices[i].roster, err = honest.Roster(r.devices[i].id)
		r.must(err)
	}
	r.must(r.share(who))
	r.endWith(who)
}

// TestHalfCohort has a server call so many vanished that half of those who checked in for a
// cohort are left in its roster, and one fewer.
func TestHalfCohort(t *testing.T) {
	const n = 8
	r := newRigWith(t, 119, n, classical)
	r.must(r.advertise(r.all()))
	for gone := n - MinCohort; gone >= 0; gone-- {
		d := r.devices[1]
		_, _, err := d.advertised.again().Share(r.forgeRoster(1, func(f *forgery) { f.leaveOut(r.all()[n-gone:]...) }), stream(1, "unused", 0))
		if n-gone > n/2 {
			r.must(err)
		} else {
			wantRefusal(t, err, ErrTooFew, nil)
		}
	}
	for _, round := range []struct{ devices, cohort int }{{7, 7}, {7, 4}, {9, 4}, {20, 7}, {100, 3}, {101, 100}, {1999, 250}} {
		cohorts := Cohorts(round.devices, round.cohort)
		lot, counts := drawLot(&digest{1}, &digest{2}, &digest{3}, round.devices, cohorts), make([]int, cohorts)
		for place := range round.devices {
			counts[lot.cohort(place)]++
		}
		for cohort, drew := range counts {
			if least := (&drawn{cohort: cohort, cohorts: cohorts}).least(round.devices); least != drew/2+1 {
				t.Errorf("%d of %d devices are drawn into cohort %d of %d, and %d are the least, want %d", drew, round.devices, cohort, cohorts, least, drew/2+1)
			}
		}
	}
}

// TestForkedLot shows one member of a cohort another lot than the others. Both have all of
// them in the cohort, so that each finds its roster good; what they deal is signed for
// two cohorts.
func TestForkedLot(t *testing.T) {
	const n, victim = 7, 1
	r := newRigWith(t, 118, n, func(p *Params) { p.Cohort = 4 })
	for i, d := range r.devices {
		r.must(r.advertiseOne(i))
		r.must(r.adverts.Add(d.id, d.advert))
	}
	cohorts, err := r.adverts.Close()
	r.must(err)
	r.shares = cohorts[0]
	who, leaves := r.shares.places, make([]digest, n)
	for _, i := range who {
		leaves[i] = openedLeaf(r.devices[i].id, &r.devices[i].advertised.own.nonce)
	}
	stranger, _ := r.adverts.place(cohorts[1].Members()[0])
	fork := *r.shares
	for again := true; again; {
		leaves[stranger] = hash("another draw", leaves[stranger][:])
		fork.opened = newTree(leaves)
		root := fork.opened.root()
		lot := drawLot(&r.adverts.ctx0, &r.adverts.root, &root, n, 2)
		again = slices.ContainsFunc(who, func(place int) bool { return lot.cohort(place) != 0 })
	}
	for at, i := range who {
		d, shown := r.devices[i], r.shares
		if at == victim {
			shown = &fork
		}
		d.roster, err = shown.Roster(d.id)
		r.must(err)
		r.shareOne(i)
	}
	// An honest server does not take what the one sends; a hostile one hands it on.
	misled := r.devices[who[victim]]
	wantRefusal(t, r.shares.Add(misled.id, misled.shares), ErrForged, &misled.id)
	for at, i := range who {
		_, _, err := r.devices[i].shared.again().Open(r.inboxFrom(i, who).encode(r.devices[i].shared.session, at))
		if at == victim {
			wantRefusal(t, err, ErrForged, r.id(who[0]))
		} else {
			wantRefusal(t, err, ErrForged, &misled.id)
		}
	}
}

// TestGroundGraph sends a member of a sparse cohort the keys of others than the
// neighbours that were drawn for it.
func TestGroundGraph(t *testing.T) {
	const n, victim = 101, 7
	r := newRigWith(t, 115, n, sparse)
	r.must(r.advertise(r.all()))
	s, d := r.shares.session, r.devices[victim]
	if s.graph.complete {
		t.Fatal("the graph is complete, want a sparse one")
	}
	neighbours, stranger := s.graph.neighbours(victim), -1
	for j := range n {
		if j != victim && s.graph.slot(victim, j) < 0 {
			stranger = j
		}
	}
	size := s.params.Keys.keysSize()
	keys := len(d.roster) - len(neighbours)*size
	for name, test := range map[string]struct {
		kind   error
		blamed int
		msg    []byte
	}{
		"a neighbour that was not drawn": {ErrForged, neighbours[2], with(d.roster, keys+2*size, s.adverts[stranger].appendKeys(nil))},
		"neighbours in another order": {ErrForged, neighbours[0],
			with(d.roster, keys, slices.Concat(s.adverts[neighbours[1]].appendKeys(nil), s.adverts[neighbours[0]].appendKeys(nil)))},
		"a neighbour fewer":   {ErrMalformed, -1, d.roster[:len(d.roster)-size]},
		"a neighbour more":    {ErrMalformed, -1, s.adverts[stranger].appendKeys(bytes.Clone(d.roster))},
		"no neighbours":       {ErrMalformed, -1, d.roster[:keys]},
		"another's neighbour": {ErrForged, -2, with(d.roster, keys, r.devices[stranger].roster[keys:])},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := d.advertised.again().Share(test.msg, stream(1, "unused", 0))
			blamed := r.id(max(test.blamed, -1))
			if test.blamed == -2 { // the first place at which the two lists differ
				for slot, j := range s.graph.neighbours(stranger) {
					if neighbours[slot] != j {
						blamed = r.id(neighbours[slot])
						break
					}
				}
			}
			wantRefusal(t, err, test.kind, blamed)
		})
	}
	if _, _, err := d.advertised.Share(d.roster, d.rand); err != nil {
		t.Errorf("the roster as it was drawn: %v", err)
	}
}

// TestRevoked keeps a member out that the authority has revoked, on both sides.
func TestRevoked(t *testing.T) {
	const out = 3
	r := newRig(t, 116, 6)
	revoked := func(id ID) bool { return id == r.devices[out].id }
	for i := range r.devices {
		r.must(r.advertiseOne(i))
	}
	r.adverts.params.Revoked = revoked
	wantRefusal(t, r.adverts.Add(r.devices[out].id, r.devices[out].advert), ErrRevoked, r.id(out))
	r.adverts.params.Revoked = nil // as a server that has not heard of it, or does not care
	r.must(r.advertiseAgain())
	for _, i := range without(r.all(), out) {
		a := r.devices[i].advertised.again()
		a.params.Revoked = revoked
		_, _, err := a.Share(r.devices[i].roster, stream(1, "unused", 0))
		wantRefusal(t, err, ErrRevoked, r.id(out))
	}
}

// TestOwnMinimum has a device ask for more members and survivors than its server does.
// The others finish without it.
func TestOwnMinimum(t *testing.T) {
	const n, picky = 7, 4
	r := newRig(t, 117, n)
	for i := range n {
		r.must(r.advertiseOne(i))
	}
	all := without(r.all(), 3)
	r.must(r.advertiseAgain(all...))
	a := r.devices[picky].advertised
	a.params.MinSurvivors = 7
	_, _, err := a.again().Share(r.devices[picky].roster, stream(1, "unused", 0))
	wantRefusal(t, err, ErrTooFew, nil)
	a.params.MinSurvivors = 6
	r.must(r.share(all))
	survivors := without(all, 0)
	r.must(r.submit(survivors))
	_, _, err = r.devices[picky].done.Confirm(r.devices[picky].survivors)
	wantRefusal(t, err, ErrTooFew, nil)
	r.must(r.confirm(without(survivors, picky)))
	r.must(r.finish(without(survivors, picky)))
	r.checkSum(survivors)
}
