package secagg

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"
)

// accuse is a complaint about members, true or not, that its sender signs.
func (r *rig) accuse(accuser int, why reason, accused ...int) []byte {
	s, c := r.shares.session, &complaint{}
	for _, j := range accused {
		a := accusation{place: j, reason: why}
		copy(a.signature[:], r.devices[accuser].signer.sign(s.complaintSigned(accuser, j, why)))
		c.accusations = append(c.accusations, a)
	}
	if s.sparse() {
		c.pledge = r.devices[accuser].signer.sign(s.pledgeSigned(accuser, r.submissions.shared))
	}
	return c.encode()
}

// lie makes a device that has masked complain of members who dealt well to it: it takes
// the masks in common with them off again and forgets their shares, as if it could not
// have used them.
func (r *rig) lie(accuser int, why reason, accused ...int) {
	r.t.Helper()
	s, d := r.shares.session, r.devices[accuser]
	masks := &maskSet{bits: s.params.RingBits}
	for _, j := range accused {
		slot := s.graph.slot(accuser, j)
		masks.add(&d.done.keeping.pairs[slot], s.graph.encapsulates(accuser, j))
		d.done.keeping.opened[slot/8] &^= 1 << (slot % 8)
	}
	masks.apply(d.masked, 0)
	_, err := r.submissions.Complain(d.id, r.accuse(accuser, why, accused...))
	r.must(err)
	d.complaint = nil
}

// TestFalseComplaint has a member complain of neighbours that dealt well to it, up to as
// many as the threshold bears. Each costs that pair's mask and nobody anything else,
// though any of the accused vanishes once it has confirmed.
func TestFalseComplaint(t *testing.T) {
	const n, liar = 7, 2
	for _, accused := range [][]int{{0}, {6}, {0, 6}} {
		for _, why := range []reason{unopened, badPair} {
			for _, gone := range [][]int{nil, {accused[0]}, {liar}} {
				t.Run(fmt.Sprintf("of %v, %v, %v gone before Reveal", accused, why, gone), func(t *testing.T) {
					r := toShares(t, 160, n, classical)
					for _, i := range r.all() {
						r.maskOne(i)
					}
					r.lie(liar, why, accused...)
					for _, i := range r.all() {
						r.must(r.submissions.Add(r.devices[i].id))
						add(r.sum, r.devices[i].masked)
					}
					r.must(r.closeSubmissions(r.all()))
					r.must(r.confirm(r.all()))
					r.must(r.finish(without(r.all(), gone...)))
					r.checkSum(r.all())
				})
			}
		}
	}
}

// wantDispute holds that a cohort is lost by these words, each of an accuser about an
// accused, and that nobody is named for it.
func (r *rig) wantDispute(err error, pairs ...[2]int) {
	r.t.Helper()
	wantRefusal(r.t, err, ErrTooFew, nil)
	var want []Dispute
	for _, p := range pairs {
		want = append(want, Dispute{Accuser: r.devices[p[0]].id, Accused: r.devices[p[1]].id})
	}
	if open := (*DisputeError)(nil); !errors.As(err, &open) || !slices.Equal(open.Disputes, want) {
		r.t.Fatalf("got error %v with disputes %v, want %v", err, open, want)
	}
}

// TestLiarAccusesAll has a member accuse all its neighbours, and as many as leave it one
// share fewer than it could go on with. It loses its place by that, and the others bear
// as many losses as ever: had it been taken, each of the accused would have to confirm.
func TestLiarAccusesAll(t *testing.T) {
	const liar = 2
	for _, test := range []struct {
		n     int
		graph func(*Params)
	}{{7, classical}, {101, sparse}} {
		t.Run(fmt.Sprintf("of %d", test.n), func(t *testing.T) {
			r := toShares(t, 170, test.n, test.graph)
			s := r.shares.session
			near, gone := s.graph.neighbours(liar), s.graph.neighbours(liar)[0]
			for _, i := range r.all() {
				r.maskOne(i)
				if d := r.devices[i]; d.complaint != nil && i != liar { // its pledge
					_, err := r.submissions.Complain(d.id, d.complaint)
					r.must(err)
				}
			}
			most := len(near) + s.own() - s.graph.threshold // t − 1 neighbours and itself, or t, are left
			for _, accused := range []int{len(near), most + 1} {
				list, err := r.submissions.Complain(r.devices[liar].id, r.accuse(liar, unopened, near[:accused]...))
				wantRefusal(t, err, ErrTooFew, r.id(liar))
				if list != nil || len(r.submissions.complain.against) > 0 {
					t.Fatalf("of %d neighbours some stand accused by one that accuses %d", len(near), accused)
				}
			}
			survivors := without(r.all(), liar)
			for _, i := range survivors {
				r.must(r.submissions.Add(r.devices[i].id))
				add(r.sum, r.devices[i].masked)
			}
			r.must(r.closeSubmissions(survivors))
			r.must(r.confirm(without(survivors, gone)))
			r.must(r.finish(without(survivors, gone)))
			r.checkSum(survivors)
		})
	}
}

// TestMostAccusations has a member accuse as many as it can go on without.
func TestMostAccusations(t *testing.T) {
	const liar = 2
	for n, graph := range map[int]func(*Params){7: classical, 101: sparse} {
		r := toShares(t, 171, n, graph)
		s := r.shares.session
		for _, i := range r.all() {
			r.maskOne(i)
		}
		near := s.graph.neighbours(liar)
		list, err := r.submissions.Complain(r.devices[liar].id, r.accuse(liar, unopened, near[:len(near)+s.own()-s.graph.threshold]...))
		r.must(err)
		if want := len(near) + s.own() - s.graph.threshold; len(list) != want {
			t.Errorf("%d of %d stand accused, want %d", len(list), n, want)
		}
	}
}

// TestSilentAccused has an accused member vanish before it confirms. The attempt cannot
// end without the seed that it alone used, and tells of the dispute; but nothing has
// been revealed.
func TestSilentAccused(t *testing.T) {
	const n, liar, accused = 7, 2, 0
	r := toShares(t, 161, n, classical)
	for _, i := range r.all() {
		r.maskOne(i)
	}
	r.lie(liar, unopened, accused)
	for _, i := range r.all() {
		r.must(r.submissions.Add(r.devices[i].id))
		add(r.sum, r.devices[i].masked)
	}
	r.must(r.closeSubmissions(r.all()))
	err := r.confirm(without(r.all(), accused))
	r.wantDispute(err, [2]int{liar, accused})
	if r.confirms.Ready() {
		t.Error("ready without the seed")
	}
	// It comes back with a wrong seed, and then with the right one.
	d := r.devices[accused]
	d.confirmed, d.confirm, err = d.done.Confirm(d.survivors)
	r.must(err)
	wantRefusal(t, r.confirms.Add(d.id, flipped(d.confirm, -1)), ErrMismatch, &d.id)
	wantRefusal(t, r.confirms.Add(d.id, d.confirm[:headerSize+signatureSize]), ErrMalformed, &d.id)
	r.must(r.confirms.Add(d.id, d.confirm))
	r.reveals, err = r.confirms.Close()
	r.must(err)
	r.must(r.finish(r.all()))
	r.checkSum(r.all())
}

// TestForgedAccusation shows a device accusations that its neighbours did not make: it
// gives no seed away for them.
func TestForgedAccusation(t *testing.T) {
	const n, accused = 6, 1
	r := toShares(t, 162, n, classical)
	r.must(r.submit(r.all()))
	s := r.shares.session
	signed := func(signer, accuser, about int, why reason) accusation {
		a := accusation{place: accuser, reason: why}
		copy(a.signature[:], r.devices[signer].signer.sign(s.complaintSigned(accuser, about, why)))
		return a
	}
	elsewhere := *s
	elsewhere.ctx1[0] ^= 1
	old := signed(4, 4, accused, unopened)
	copy(old.signature[:], r.devices[4].signer.sign(elsewhere.complaintSigned(4, accused, unopened)))
	other := signed(4, 4, accused, badPair)
	other.reason = unopened
	for name, test := range map[string]struct {
		kind   error
		blamed int
		forged accusation
	}{
		"nobody's":           {ErrForged, 4, accusation{place: 4, reason: unopened}},
		"another member's":   {ErrForged, 4, signed(3, 4, accused, unopened)},
		"about another":      {ErrForged, 4, signed(4, 4, 2, unopened)},
		"of another attempt": {ErrForged, 4, old},
		"another reason":     {ErrForged, 4, other},
		"the device's own":   {ErrForged, accused, signed(accused, accused, accused, unopened)},
		"no reason":          {ErrMalformed, -1, signed(4, 4, accused, 0)},
		"an unknown reason":  {ErrMalformed, -1, signed(4, 4, accused, reasonsAbove)},
		"outside the roster": {ErrMalformed, -1, accusation{place: n, reason: unopened}},
	} {
		v := &shown{alive: setOf(n, r.all()...), accusations: []accusation{test.forged}}
		c, msg, err := r.devices[accused].done.again().Confirm(v.encode())
		t.Run(name, func(t *testing.T) {
			wantRefusal(t, err, test.kind, r.id(test.blamed))
			if c != nil || msg != nil {
				t.Error("a value or a seed came with the error")
			}
		})
	}
	twice := []accusation{signed(4, 4, accused, unopened), signed(4, 4, accused, unopened)}
	_, _, err := r.devices[accused].done.again().Confirm((&shown{alive: setOf(n, r.all()...), accusations: twice}).encode())
	wantRefusal(t, err, ErrMalformed, nil)
	r.end(r.all())
}

// TestManyComplaints deals badly to more members than the dealer's secrets can do
// without. Its vector is not taken, and the others finish without it.
func TestManyComplaints(t *testing.T) {
	const n, dealer = 7, 3 // threshold 5: three complaints leave four shares
	r := newRigWith(t, 163, n, classical)
	r.must(r.advertise(r.all()))
	r.misdeal(misdeals[0], dealer, 0, 1, 5)
	id := r.devices[dealer].id
	for at, i := range []int{0, 1, 5, 2, 3, 4, 6} {
		r.maskOne(i)
		if d := r.devices[i]; d.complaint != nil {
			_, err := r.submissions.Complain(d.id, d.complaint)
			r.must(err)
			if err := r.submissions.Viable(id); (err != nil) != (at == 2) {
				t.Errorf("after %d complaints: %v", at+1, err)
			}
		}
	}
	wantRefusal(t, r.submissions.Viable(id), ErrRefused, &id)
	wantRefusal(t, r.submissions.Admit(id), ErrRefused, &id)
	wantRefusal(t, r.submissions.Add(id), ErrRefused, &id)
	survivors := without(r.all(), dealer)
	for _, i := range survivors {
		r.must(r.submissions.Add(r.devices[i].id))
		add(r.sum, r.devices[i].masked)
	}
	r.must(r.closeSubmissions(survivors))
	r.must(r.confirm(survivors))
	// Its σ cannot be had from four shares: all who masked with it have to reveal.
	wantRefusal(t, r.finish(without(survivors, 2)), ErrTooFew, nil)
	r.must(r.finish([]int{2}))
	r.checkSum(survivors)
}

// TestManyBadDealers deals badly to one member from many sides. With too few shares that
// open it masks nothing; with just enough it does not agree to survivors of whom it
// could use too few, and the others finish without it.
func TestManyBadDealers(t *testing.T) {
	const n, victim = 7, 6 // threshold 5
	for bad := 2; bad <= 3; bad++ {
		r := newRigWith(t, 167, n, classical)
		r.must(r.advertise(r.all()))
		for i := range r.devices {
			r.shareOne(i)
		}
		for i, d := range r.devices {
			if i < bad {
				d.shares = r.redeal(i, func(m *dealing) { misdeals[0].change(r, m, i, victim) })
			}
			r.must(r.shares.Add(d.id, d.shares))
		}
		r.must(r.closeShares(r.all()))
		if bad == 3 {
			_, _, err := r.devices[victim].shared.Open(r.devices[victim].inbox)
			wantRefusal(t, err, ErrTooFew, nil)
			r.endWith(without(r.all(), victim))
			continue
		}
		survivors := without(r.all(), 3)
		r.must(r.submit(survivors))
		// Of fewer neighbours than any cohort may have, no accusation of its own is the reason.
		_, _, err := r.devices[victim].done.again().Confirm((&shown{alive: setOf(n, 0, 2, 4, victim)}).encode())
		if open := (*DisputeError)(nil); errors.As(err, &open) {
			t.Errorf("of four survivors: %v, want the server to blame", err)
		}
		wantRefusal(t, err, ErrTooFew, nil)
		_, _, err = r.devices[victim].done.Confirm(r.devices[victim].survivors)
		r.wantDispute(err, [2]int{victim, 0}, [2]int{victim, 1})
		r.must(r.confirm(without(survivors, victim)))
		r.must(r.finish(without(survivors, victim)))
		r.checkSum(survivors)
	}
}

// TestLateComplaints has the complaints come when the dealer's vector is in the sum
// already: the attempt ends there, before anything is revealed, and tells of the dispute.
func TestLateComplaints(t *testing.T) {
	const n, dealer = 7, 3
	r := newRigWith(t, 164, n, classical)
	r.must(r.advertise(r.all()))
	r.misdeal(misdeals[0], dealer, 0, 1, 5)
	for _, i := range []int{3, 2, 4, 6, 0, 1, 5} {
		r.maskOne(i)
		if d := r.devices[i]; d.complaint != nil {
			_, err := r.submissions.Complain(d.id, d.complaint)
			r.must(err)
		}
		r.must(r.submissions.Add(r.devices[i].id))
	}
	_, err := r.submissions.Close()
	r.wantDispute(err, [2]int{0, dealer}, [2]int{1, dealer}, [2]int{5, dealer})
	if _, err := r.submissions.Close(); !errors.Is(err, ErrSpent) {
		t.Errorf("a second Close: %v, want ErrSpent", err)
	}
}

// TestHostileComplaint sends the server complaints that are none; each is refused, names
// its sender and accuses nobody.
func TestHostileComplaint(t *testing.T) {
	const n = 6
	r := newRigWith(t, 165, n, classical)
	r.must(r.advertise(r.all()))
	r.must(r.share(without(r.all(), 5)))
	all := without(r.all(), 5)
	for _, i := range all {
		r.maskOne(i)
	}
	good := r.accuse(0, unopened, 2)
	for name, test := range map[string]struct {
		kind error
		from int
		msg  []byte
	}{
		"not a member":         {ErrMember, 5, good},
		"another member's":     {ErrForged, 1, good},
		"forged":               {ErrForged, 0, flipped(good, -1)},
		"another reason":       {ErrForged, 0, with(good, headerSize+4, []byte{byte(badPair)})},
		"no reason":            {ErrMalformed, 0, r.accuse(0, 0, 2)},
		"an unknown reason":    {ErrMalformed, 0, r.accuse(0, reasonsAbove, 2)},
		"about itself":         {ErrMalformed, 0, r.accuse(0, unopened, 0)},
		"about a non-sharer":   {ErrMalformed, 0, r.accuse(0, unopened, 5)},
		"outside the roster":   {ErrMalformed, 0, with(good, headerSize+2, []byte{0, n})},
		"about one twice":      {ErrMalformed, 0, r.accuse(0, unopened, 2, 2)},
		"out of order":         {ErrMalformed, 0, r.accuse(0, unopened, 3, 2)},
		"one of two is forged": {ErrForged, 0, flipped(r.accuse(0, unopened, 2, 3), -1)},
		"short":                {ErrMalformed, 0, good[:len(good)-1]},
		"long":                 {ErrMalformed, 0, append(bytes.Clone(good), 0)},
		"empty":                {ErrMalformed, 0, nil},
		"of another kind":      {ErrMalformed, 0, with(good, 0, []byte{byte(kindReveal)})},
		"of too many":          {ErrTooFew, 0, r.accuse(0, unopened, 2, 3)}, // of 5 shares 4 have to open
		"more than it holds":   {ErrMalformed, 0, with(good, headerSize, []byte{0xff, 0xff})},
	} {
		list, err := r.submissions.Complain(r.devices[test.from].id, test.msg)
		t.Run(name, func(t *testing.T) { wantRefusal(t, err, test.kind, r.id(test.from)) })
		if list != nil || len(r.submissions.complain.against) > 0 {
			t.Fatalf("%s: somebody stands accused", name)
		}
	}
	// A complaint may be sent again; another one, or one behind the vector, may not.
	r.lie(0, unopened, 2)
	list, err := r.submissions.Complain(r.devices[0].id, good)
	if err != nil || list != nil {
		t.Errorf("the same again: %v, %v", list, err)
	}
	_, err = r.submissions.Complain(r.devices[0].id, r.accuse(0, unopened, 2, 3))
	wantRefusal(t, err, ErrDiffers, r.id(0))
	r.must(r.submissions.Add(r.devices[4].id))
	_, err = r.submissions.Complain(r.devices[4].id, r.accuse(4, unopened, 2))
	wantRefusal(t, err, ErrDiffers, r.id(4))
	for _, i := range all {
		r.must(r.submissions.Add(r.devices[i].id))
		add(r.sum, r.devices[i].masked)
	}
	r.must(r.closeSubmissions(all))
	r.end(all)
}

// TestComplaintsOnASparseGraph has many members of a sparse cohort deal badly at once, to
// neighbours on either side of them, and the ends vanish in different steps.
func TestComplaintsOnASparseGraph(t *testing.T) {
	t.Parallel()
	const n = 101
	r := newRigWith(t, 166, n, sparse)
	r.must(r.advertise(r.all()))
	for i, d := range r.devices {
		kept := d.advertised.again()
		r.shareOne(i)
		d.advertised = kept
	}
	g := r.shares.session.graph
	at := func(position int) int { return g.order[(position+n)%n] }
	victims, accusers := map[int]int{}, map[int]int{} // by dealer: whom it deals badly to; and the reverse
	for x, bad := range misdeals {
		for y, ahead := range []int{1, g.k / 2, -1, -g.k / 2} {
			if bad.forward && ahead < 0 {
				continue
			}
			dealer := at(13*x + 3*y)
			to := at(13*x + 3*y + ahead)
			if g.encapsulates(dealer, to) != (ahead > 0) {
				t.Fatal("the circle runs the other way")
			}
			victims[dealer], accusers[to] = to, dealer
			r.devices[dealer].shares = r.redeal(dealer, func(m *dealing) { bad.change(r, m, dealer, to) })
		}
	}
	for _, d := range r.devices {
		r.must(r.shares.Add(d.id, d.shares))
	}
	r.must(r.closeShares(r.all()))
	var dealers []int
	for dealer := range victims {
		dealers = append(dealers, dealer)
	}
	slices.Sort(dealers)
	goneBeforeSubmit := []int{dealers[0], victims[dealers[4]]}
	goneBeforeConfirm := []int{victims[dealers[8]]}
	goneBeforeReveal := []int{dealers[12], victims[dealers[16]]}
	for _, i := range r.all() {
		r.maskOne(i)
		d := r.devices[i]
		said := d.masking.Accused()
		dealer, complains := accusers[i]
		if complains != (len(said) == 1) || complains && said[0].Peer != r.devices[dealer].id {
			t.Errorf("device %d accuses %v, want %v: %d", i, said, complains, dealer)
		}
		_, err := r.submissions.Complain(d.id, d.complaint)
		r.must(err)
	}
	survivors := without(r.all(), goneBeforeSubmit...)
	for _, i := range survivors {
		r.must(r.submissions.Add(r.devices[i].id))
		add(r.sum, r.devices[i].masked)
	}
	r.must(r.closeSubmissions(survivors))
	confirmed := without(survivors, goneBeforeConfirm...)
	for _, i := range goneBeforeConfirm {
		if _, dealsBadly := victims[i]; dealsBadly {
			t.Fatalf("device %d is accused, too", i)
		}
	}
	r.must(r.confirm(confirmed))
	r.must(r.finish(without(confirmed, goneBeforeReveal...)))
	r.checkSum(survivors)
}
