package secagg

import (
	"bytes"
	"errors"
	"slices"
	"testing"
)

// levelled is an attempt of seven, threshold 5 and quorum 4, with levels at 5, 6 and 7, of
// whom the last have vanished before Submit, up to the survivors.
func levelled(t testing.TB, seed uint64, lost ...int) *rig {
	t.Helper()
	r := toShares(t, seed, 7, withLevels(5, 6, 7))
	r.must(r.submit(without(r.all(), lost...)))
	return r
}

// sharesIn tells which shares that a device keeps, of its own secrets and of others', stand
// in a message.
func sharesIn(k *keeping, msg []byte) (levels map[int][]int, others int) {
	levels = make(map[int][]int)
	n := k.session.levels()
	note := func(place, g int, share [scalarSize]byte) {
		if bytes.Contains(msg, share[:]) {
			levels[place] = append(levels[place], g)
		}
	}
	for slot, j := range k.session.graph.neighbours(k.self) {
		for g := range n {
			note(j, g+1, k.levels[slot*n+g])
		}
		if bytes.Contains(msg, k.b[slot][:]) || bytes.Contains(msg, k.sigma[slot][:]) {
			others++
		}
	}
	for g, share := range k.ownLevels {
		note(k.self, g+1, share)
	}
	return levels, others
}

// TestHostileLevels looks into what devices reveal: of each survivor one share of the level
// that the signed number of survivors reaches, of nobody else any, and never one of a
// higher or a lower level.
func TestHostileLevels(t *testing.T) {
	for level, lost := range map[int][]int{3: nil, 2: {6}, 1: {0, 6}} {
		r := levelled(t, 510, lost...)
		survivors := without(r.all(), lost...)
		r.must(r.confirm(survivors))
		for _, i := range survivors {
			kept := r.devices[i].confirmed.keeping.again()
			msg, err := r.devices[i].confirmed.Reveal(r.reveals.Quorum())
			r.must(err)
			levels, others := sharesIn(kept, msg)
			if others != 6 {
				t.Errorf("%d reveals shares of b or σ of %d others, want 6", i, others)
			}
			for j := range r.devices {
				if got := levels[j]; slices.Contains(survivors, j) != slices.Equal(got, []int{level}) || len(got) > 1 {
					t.Errorf("with %d survivors %d reveals of %d shares of levels %v", len(survivors), i, j, got)
				}
			}
			if msg, err := r.devices[i].confirmed.Reveal(r.reveals.Quorum()); !errors.Is(err, ErrSpent) || msg != nil {
				t.Errorf("a second reveal: %v, want ErrSpent and nothing", err)
			}
		}
	}
}

// TestHostileLevelsQuorum asks devices that have signed six survivors for what seven would
// reveal, and for anything without a quorum.
func TestHostileLevelsQuorum(t *testing.T) {
	const n = 7
	r := levelled(t, 511, 6)
	survivors, more := without(r.all(), 6), setOf(n, r.all()...)
	s := r.shares.session
	for _, i := range survivors {
		d := r.devices[i]
		var err error
		d.confirmed, d.confirm, err = d.done.Confirm(d.survivors)
		r.must(err)
	}
	own := func(i int) []byte { return r.devices[i].confirm[headerSize:] }
	forMore := func(i int) []byte { return r.devices[i].signer.sign(s.confirmSigned(more, more)) }
	for _, test := range []struct {
		name   string
		kind   error
		blamed int
		msg    []byte
	}{
		{"nobody's signature", ErrTooFew, -1, quorumOf(n, nil, own)},
		{"a signature too few", ErrTooFew, -1, quorumOf(n, []int{0, 1, 2}, own)},
		{"signatures under one survivor more", ErrForged, 1, quorumOf(n, []int{1, 2, 3, 4, 5}, forMore)},
		{"one signature under one survivor more", ErrForged, 4, quorumOf(n, []int{0, 1, 2, 4}, func(i int) []byte {
			if i == 4 {
				return forMore(i)
			}
			return own(i)
		})},
		{"the vanished one's signature", ErrForged, 6, quorumOf(n, []int{0, 1, 2, 6}, func(i int) []byte {
			if i == 6 {
				return forMore(i)
			}
			return own(i)
		})},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := r.devices[0].confirmed.again()
			msg, err := c.Reveal(test.msg)
			wantRefusal(t, err, test.kind, r.id(test.blamed))
			if msg != nil || !zero(c.keeping.levels) || !zero(c.keeping.ownLevels) {
				t.Error("the device reveals, or keeps shares of levels after it refused")
			}
		})
	}
}

// TestHostileLevelsClaimed has a server claim that one more survived than did, to have the
// seeds of a higher level. It gets them, and no sum to use them on: the masks between those
// who survived and the one that did not stay on, as nobody reveals those of a survivor.
func TestHostileLevelsClaimed(t *testing.T) {
	r := toShares(t, 512, 7, withLevels(6, 7))
	for _, i := range r.all() {
		r.maskOne(i)
	}
	came := without(r.all(), 3)
	for _, i := range r.all() {
		r.must(r.submissions.Add(r.devices[i].id)) // 3 among them, whose vector never came
	}
	for _, i := range came {
		add(r.sum, r.devices[i].masked)
	}
	r.must(r.closeSubmissions(came))
	r.must(r.confirm(came))
	r.must(r.finish(came))
	if n := len(r.unmasking.Seeds()); n != 2 {
		t.Fatalf("seeds of %d levels, want 2", n)
	}
	plain, right := r.plain(came), 0
	for w := range plain {
		if (plain[w]-r.sum[w])<<8 == 0 {
			right++
		}
	}
	if right > 1 {
		t.Errorf("%d of %d words of the sum are right", right, testLength)
	}
	// Without 3 in the sum there is no second set, and no second reveal.
	for _, i := range came {
		d := r.devices[i]
		if _, _, err := d.done.Confirm(survivorsOf(7, came...)); !errors.Is(err, ErrSpent) {
			t.Errorf("a second set: %v, want ErrSpent", err)
		}
		if _, err := d.confirmed.Reveal(r.reveals.Quorum()); !errors.Is(err, ErrSpent) {
			t.Errorf("a second reveal: %v, want ErrSpent", err)
		}
	}
}

// TestHostileLevelsReveal gives a server reveals with other shares of levels than are called
// for. Each is refused, costs its sender alone, and the sum comes out.
func TestHostileLevelsReveal(t *testing.T) {
	r := levelled(t, 513, 6) // level 2
	survivors := without(r.all(), 6)
	r.must(r.confirm(survivors))
	d := r.devices[0]
	k := d.confirmed.keeping.again()
	good, err := d.confirmed.again().Reveal(r.reveals.Quorum())
	r.must(err)
	// A reveal holds, for the six, b and the level's share each, and for 6 σ and a seed.
	const first = headerSize + 32
	swap := func(at int, share []byte) []byte { return with(good, at, share) }
	for _, test := range []struct {
		name string
		kind error
		msg  []byte
	}{
		{"of a lower level, of its own secret", ErrMismatch, swap(first+32, k.ownLevels[0][:])},
		{"of a higher level, of its own secret", ErrMismatch, swap(first+32, k.ownLevels[2][:])},
		{"of a lower level", ErrMismatch, swap(first+96, k.levels[0][:])},
		{"of a higher level", ErrMismatch, swap(first+96, k.levels[2][:])},
		{"of another member", ErrMismatch, swap(first+96, k.levels[4][:])},
		{"a bit of it flipped", ErrMismatch, flipped(good, first+96)},
		{"none", ErrMalformed, slices.Concat(good[:first+32], good[first+64:])},
		{"none of anybody", ErrMalformed, good[:len(good)-6*32]},
		{"one of a vanished member too", ErrMalformed, slices.Concat(good, k.levels[3*5+1][:])},
		{"two levels of a member", ErrMalformed, slices.Concat(good[:first+64], k.ownLevels[0][:], good[first+64:])},
	} {
		t.Run(test.name, func(t *testing.T) {
			wantRefusal(t, r.reveals.Add(d.id, test.msg), test.kind, &d.id)
		})
	}
	r.must(r.finish(survivors))
	if got := len(r.unmasking.Seeds()); got != 2 {
		t.Errorf("seeds of %d levels, want 2", got)
	}
}

// level is a misdeal with the share of a level: plain and its commitment are changed.
func level(g int, change func(share, commitment []byte)) misdeal {
	return misdeal{change: func(r *rig, m *dealing, dealer, to int) {
		plain, q := r.devices[dealer].plain(r, dealer, to), slotOf(r, m, dealer, to)
		change(plain[(1+g)*scalarSize:][:scalarSize], q.levels[g-1][:])
		r.reseal(m, dealer, to, plain)
	}}
}

// TestCrookedLevels has a member deal shares of a level badly: what a recipient can see it
// complains of, and the rest names the dealer when the secret is rebuilt, as long as the
// level is reached.
func TestCrookedLevels(t *testing.T) {
	const n, dealer, to = 7, 2, 0
	crooked := func(g int) misdeal {
		return misdeal{change: func(r *rig, m *dealing, dealer, to int) {
			plain, other := r.devices[dealer].plain(r, dealer, to), [scalarSize]byte{9}
			copy(plain[(1+g)*scalarSize:], other[:])
			slotOf(r, m, dealer, to).levels[g-1] = r.shares.session.commitShare(dealer, to, byte(g), &other)
			r.reseal(m, dealer, to, plain)
		}}
	}
	swapped := misdeal{change: func(_ *rig, m *dealing, _, _ int) { m.levels[1][0] ^= 1 }}
	for _, test := range []struct {
		name     string
		bad      misdeal
		lost     []int
		complain reason
		found    bool
	}{
		{"a share that is no scalar", level(2, func(share, _ []byte) { copy(share, bytes.Repeat([]byte{0xff}, scalarSize)) }), nil, notScalars, false},
		{"another share than committed to", level(1, func(share, _ []byte) { clear(share) }), nil, uncommitted, false},
		{"another commitment", level(3, func(_, commitment []byte) { commitment[0] ^= 1 }), nil, uncommitted, false},
		{"shares of another secret", crooked(2), []int{6}, 0, true},
		{"shares of another secret, of a higher level", crooked(3), []int{6}, 0, false},
		{"shares of another secret, of a lower level", crooked(1), []int{6}, 0, false},
		{"another commitment to the secret", swapped, []int{6}, 0, true},
		{"shares of another secret, by one who vanishes", crooked(1), []int{2, 6}, 0, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRigWith(t, 514, n, withLevels(5, 6, 7))
			r.must(r.advertise(r.all()))
			r.misdeal(test.bad, dealer, to)
			survivors := without(r.all(), test.lost...)
			r.must(r.submit(survivors))
			if test.complain != 0 {
				c, err := r.shares.session.decodeComplaint(r.devices[to].complaint)
				r.must(err)
				if a := c.accusations; len(a) != 1 || a[0].place != dealer || a[0].reason != test.complain {
					t.Fatalf("the complaint is %+v, want one of %d for reason %d", a, dealer, test.complain)
				}
			} else if r.devices[to].complaint != nil {
				t.Fatal("there is a complaint")
			}
			r.must(r.confirm(survivors))
			err := r.finish(survivors)
			if test.found {
				wantRefusal(t, err, ErrMismatch, r.id(dealer))
				return
			}
			r.must(err)
			r.checkSum(survivors)
			for _, seeds := range r.unmasking.Seeds() {
				if len(seeds) != len(survivors) {
					t.Errorf("seeds of %d members, want %d", len(seeds), len(survivors))
				}
			}
		})
	}
}

// TestForkedLevels shows half of the devices seven survivors and half six. Those who signed
// the smaller set reveal nothing for the larger, nor the other way round, so that at most one
// level of anybody is ever rebuilt.
func TestForkedLevels(t *testing.T) {
	const n = 7
	r := levelled(t, 515)
	signatures, six := make([][]byte, n), []int{0, 1, 2}
	for i, d := range r.devices {
		msg := d.survivors
		if slices.Contains(six, i) {
			msg = survivorsOf(n, 0, 1, 2, 3, 4, 5)
		}
		var err error
		d.confirmed, d.confirm, err = d.done.Confirm(msg)
		r.must(err)
		signatures[i] = d.confirm[headerSize:]
	}
	sign := func(i int) []byte { return signatures[i] }
	quorum := quorumOf(n, without(r.all(), six...), sign)
	for i, d := range r.devices {
		kept := d.confirmed.keeping.again()
		msg, err := d.confirmed.again().Reveal(quorum)
		if slices.Contains(six, i) {
			wantRefusal(t, err, ErrForged, r.id(3))
			continue
		}
		r.must(err)
		for j, levels := range first(sharesIn(kept, msg)) {
			if !slices.Equal(levels, []int{3}) {
				t.Errorf("%d reveals of %d shares of levels %v, want 3 alone", i, j, levels)
			}
		}
		if _, err := d.confirmed.again().Reveal(quorumOf(n, []int{0, 1, 2, i}, sign)); err == nil {
			t.Errorf("%d reveals for the six", i)
		}
	}
}

func first[A, B any](a A, _ B) A { return a }
