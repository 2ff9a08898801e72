package secagg

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"crypto/ed25519"
)

// settledRig is an attempt of seven, threshold 5 and quorum 4, of whom 6 has not shared
// and 5 has not submitted, up to the survivors.
func settledRig(t testing.TB, seed uint64) *rig {
	t.Helper()
	r := newRigWith(t, seed, 7, classical)
	r.must(r.advertise(r.all()))
	r.must(r.share(without(r.all(), 6)))
	r.must(r.submit([]int{0, 1, 2, 3, 4}))
	return r
}

// TestHostileSurvivors shows a device sets of survivors that it must not agree to.
func TestHostileSurvivors(t *testing.T) {
	const n = 7
	r := settledRig(t, 130)
	d := r.devices[0]
	good := d.survivors
	for _, test := range []struct {
		name   string
		kind   error
		blamed int
		msg    []byte
	}{
		{"without the device itself", ErrRefused, -1, survivorsOf(n, 1, 2, 3, 4, 5)},
		{"small cohort: below the threshold", ErrTooFew, -1, survivorsOf(n, 0, 1, 2, 3)},
		{"small cohort: two", ErrTooFew, -1, survivorsOf(n, 0, 1)},
		{"small cohort: alone", ErrTooFew, -1, survivorsOf(n, 0)},
		{"with one that never shared", ErrRefused, 6, survivorsOf(n, 0, 1, 2, 3, 6)},
		{"with one outside the roster", ErrMalformed, -1, with(good, headerSize, []byte{0x9f})},
		{"short", ErrMalformed, -1, good[:len(good)-1]},
		{"long", ErrMalformed, -1, append(bytes.Clone(good), 0)},
		{"empty", ErrMalformed, -1, nil},
		{"header alone", ErrMalformed, -1, good[:headerSize]},
		{"of another kind", ErrMalformed, -1, with(good, 0, []byte{byte(kindReveal)})},
		{"more accusations than there are", ErrMalformed, -1, with(good, headerSize+1, []byte{0, 1})},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := d.done.again()
			c, msg, err := m.Confirm(test.msg)
			wantRefusal(t, err, test.kind, r.id(test.blamed))
			if c != nil || msg != nil {
				t.Error("a value or a signature came with the error")
			}
			if _, _, err := m.Confirm(good); !errors.Is(err, ErrSpent) {
				t.Errorf("the right set after the refusal: %v, want ErrSpent", err)
			}
		})
	}
	r.end([]int{0, 1, 2, 3, 4})
}

// TestSecondSet asks a device that has agreed to one set of survivors to agree to
// another, and one that has revealed to reveal again.
func TestSecondSet(t *testing.T) {
	r := settledRig(t, 131)
	survivors := []int{0, 1, 2, 3, 4}
	d := r.devices[0]
	c, first, err := d.done.Confirm(d.survivors)
	r.must(err)
	d.confirmed, d.confirm = c, first
	for name, set := range map[string][]byte{
		"a second set":      survivorsOf(7, 0, 1, 2, 3, 5),
		"one more survivor": survivorsOf(7, 0, 1, 2, 3, 4, 5),
		"the same set":      d.survivors,
	} {
		if c, msg, err := d.done.Confirm(set); !errors.Is(err, ErrSpent) || c != nil || msg != nil {
			t.Errorf("%s: %v, want ErrSpent and nothing", name, err)
		}
	}
	r.must(r.confirms.Add(d.id, d.confirm))
	r.must(r.confirm(without(survivors, 0)))
	d.reveal, err = d.confirmed.Reveal(r.reveals.Quorum())
	r.must(err)
	r.must(r.reveals.Add(d.id, d.reveal))
	if msg, err := d.confirmed.Reveal(r.reveals.Quorum()); !errors.Is(err, ErrSpent) || msg != nil {
		t.Errorf("a second reveal: %v, want ErrSpent and nothing", err)
	}
	r.must(r.finish(without(survivors, 0)))
	r.checkSum(survivors)
}

// quorumOf is a quorum message by these signers, each with the signature that sign gives.
func quorumOf(n int, signers []int, sign func(i int) []byte) []byte {
	signatures := make(map[int][]byte)
	for _, i := range signers {
		signatures[i] = sign(i)
	}
	return encodeQuorum(setOf(n, signers...), signatures)
}

// TestHostileQuorum shows a device quorums that are none.
func TestHostileQuorum(t *testing.T) {
	const n = 7
	r := settledRig(t, 132)
	survivors := []int{0, 1, 2, 3, 4}
	r.must(r.confirm(survivors))
	s, d := r.shares.session, r.devices[0]
	own := func(i int) []byte { return r.devices[i].confirm[headerSize:] }
	signedBy := func(key int, set bitmap, sharers bitmap) []byte {
		return r.devices[key].signer.sign(s.confirmSigned(sharers, set))
	}
	alive, sharers := setOf(n, survivors...), setOf(n, 0, 1, 2, 3, 4, 5)
	earlier := settledRig(t, 132)
	earlier.shares.session.ctx1[0] ^= 1 // another attempt
	for _, test := range []struct {
		name   string
		kind   error
		blamed int
		msg    []byte
	}{
		{"too few signatures", ErrTooFew, -1, quorumOf(n, []int{0, 1, 2}, own)},
		{"nobody's", ErrTooFew, -1, quorumOf(n, nil, own)},
		{"over another set", ErrForged, 1, quorumOf(n, survivors, func(i int) []byte {
			if i == 0 {
				return own(0)
			}
			return signedBy(i, setOf(n, 0, 1, 2, 3, 5), sharers)
		})},
		{"over other sharers", ErrForged, 3, quorumOf(n, survivors, func(i int) []byte {
			if i != 3 {
				return own(i)
			}
			return signedBy(3, alive, setOf(n, 0, 1, 2, 3, 4))
		})},
		{"of another attempt", ErrForged, 2, quorumOf(n, survivors, func(i int) []byte {
			if i != 2 {
				return own(i)
			}
			return r.devices[2].signer.sign(earlier.shares.session.confirmSigned(sharers, alive))
		})},
		{"a signature counted twice", ErrForged, 3, quorumOf(n, []int{0, 1, 2, 3}, func(i int) []byte {
			return own(min(i, 2))
		})},
		{"a signature of a non-member", ErrForged, 4, quorumOf(n, []int{0, 1, 2, 4}, func(i int) []byte {
			if i != 4 {
				return own(i)
			}
			return ed25519.Sign(newKey(9, "stranger", 0), s.confirmSigned(sharers, alive))
		})},
		{"a place outside the roster", ErrMalformed, -1, with(quorumOf(n, survivors, own), headerSize, []byte{0x9f})},
		{"forged signature", ErrForged, 4, flipped(quorumOf(n, survivors, own), -1)},
		{"short", ErrMalformed, -1, r.reveals.Quorum()[:len(r.reveals.Quorum())-1]},
		{"long", ErrMalformed, -1, append(bytes.Clone(r.reveals.Quorum()), 0)},
		{"empty", ErrMalformed, -1, nil},
		{"header alone", ErrMalformed, -1, r.reveals.Quorum()[:headerSize]},
		{"of another kind", ErrMalformed, -1, with(r.reveals.Quorum(), 0, []byte{byte(kindConfirm)})},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := d.confirmed.again()
			msg, err := c.Reveal(test.msg)
			wantRefusal(t, err, test.kind, r.id(test.blamed))
			if msg != nil {
				t.Error("a reveal came with the error")
			}
			if _, err := c.Reveal(r.reveals.Quorum()); !errors.Is(err, ErrSpent) {
				t.Errorf("the right quorum after the refusal: %v, want ErrSpent", err)
			}
		})
	}
	r.must(r.finish(survivors))
	r.checkSum(survivors)
}

// TestForkedSurvivors counts: whatever two sets of members signed two sets of survivors,
// no more than the corrupt ones in both, one of the two is no quorum.
func TestForkedSurvivors(t *testing.T) {
	for n := MinCohort; n <= 9; n++ {
		for _, corrupt := range []int{0, 1000, 2000, 3333} {
			c, q := n*corrupt/10000, Quorum(n, corrupt)
			for one := range 1 << n {
				for other := range 1 << n {
					a, b := bitmap{byte(one), byte(one >> 8)}, bitmap{byte(other), byte(other >> 8)}
					both := bitmap{a[0] & b[0], a[1] & b[1]}
					if both.count() <= c && a.count() >= q && b.count() >= q {
						t.Fatalf("of %d members with %d corrupt, %v and %v are both quorums", n, c, a.places(), b.places())
					}
				}
			}
			if n-c < q && c > 0 && 3*c < n {
				t.Errorf("%d members with %d corrupt have no quorum without those", n, c)
			}
		}
	}
}

// TestForkedSurvivorsPlayed shows half of the devices one set of survivors and half
// another. Whatever the server makes of the signatures, no device reveals for the second
// set, and for the first only those do who agreed to it.
func TestForkedSurvivorsPlayed(t *testing.T) {
	const n = 6
	all := []int{0, 1, 2, 3, 4, 5}
	for name, fork := range map[string][]int{"half and half": {0, 1, 2}, "four and two": {0, 1}} {
		t.Run(name, func(t *testing.T) {
			r := toShares(t, 133, n, classical)
			r.must(r.submit(all))
			s := r.shares.session
			second := without(all, 5)
			signed := map[bool][]int{}
			signatures := map[int][]byte{}
			for _, i := range without(all, 5) {
				d := r.devices[i]
				forked := slices.Contains(fork, i)
				msg := d.survivors
				if forked {
					msg = survivorsOf(n, second...)
				}
				var err error
				d.confirmed, d.confirm, err = d.done.Confirm(msg)
				r.must(err)
				signed[forked] = append(signed[forked], i)
				signatures[i] = d.confirm[headerSize:]
			}
			// 5, whom the second set leaves out, agrees to the first.
			d := r.devices[5]
			var err error
			d.confirmed, d.confirm, err = d.done.Confirm(d.survivors)
			r.must(err)
			signed[false], signatures[5] = append(signed[false], 5), d.confirm[headerSize:]

			revealed := map[bool]int{}
			for _, forked := range []bool{false, true} {
				for _, signers := range [][]int{signed[forked], all} {
					quorum := quorumOf(n, signers, func(i int) []byte { return signatures[i] })
					for _, i := range signed[forked] {
						_, err := r.devices[i].confirmed.again().Reveal(quorum)
						switch {
						case err == nil:
							revealed[forked]++
						case len(signers) < s.quorum:
							wantRefusal(t, err, ErrTooFew, nil)
						default:
							wantRefusal(t, err, ErrForged, r.id(slices.Min(signed[!forked])))
						}
					}
				}
			}
			want := map[bool]int{false: 0, true: 0}
			if len(signed[false]) >= s.quorum {
				want[false] = len(signed[false])
			}
			if revealed[false] != want[false] || revealed[true] != 0 {
				t.Errorf("%d reveal for the first set and %d for the second, want %d and none", revealed[false], revealed[true], want[false])
			}
		})
	}
}

// TestBothShareKinds looks into what a device reveals: for each member exactly one
// share, of b for survivors and of σ for others, and none for who never shared; and
// nothing of what it kept outlives that.
func TestBothShareKinds(t *testing.T) {
	const n, dropped = 7, 5
	r := settledRig(t, 134)
	r.must(r.confirm([]int{0, 1, 2, 3, 4}))
	for _, i := range []int{0, 2, 4} {
		k := r.devices[i].confirmed.keeping
		kept := k.again()
		msg, err := r.devices[i].confirmed.Reveal(r.reveals.Quorum())
		r.must(err)
		h := k.session.survivorsHash(setOf(n, 0, 1, 2, 3, 4, 5), setOf(n, 0, 1, 2, 3, 4))
		want := append(message(kindReveal, 0), h[:]...)
		for j := range 6 {
			switch slot := k.session.graph.slot(i, j); {
			case j == i:
				want = append(want, kept.ownShare[:]...)
			case j == dropped:
				want = append(append(want, kept.sigma[slot][:]...), kept.pairs[slot][:]...)
			default:
				want = append(want, kept.b[slot][:]...)
			}
		}
		if !bytes.Equal(msg, want) {
			t.Errorf("the reveal of %d is not one share for each sharer, b for survivors and σ with the pair's seed for %d", i, dropped)
		}
		never := k.session.graph.slot(i, 6)
		if kept.b[never] != ([scalarSize]byte{}) || kept.sigma[never] != ([scalarSize]byte{}) || kept.pairs[never] == kept.pairs[0] {
			t.Error("shares were kept for a device that never shared")
		}
		for slot := range k.b {
			if k.b[slot] != ([scalarSize]byte{}) || k.sigma[slot] != ([scalarSize]byte{}) || k.pairs[slot] != (digest{}) {
				t.Fatal("shares outlive the reveal")
			}
		}
	}
}
