package secagg

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"
)

// Flaws that were reproduced in systems of today, each played here.

// TestAliveAndDropped reproduces the flaw of a server that lists one device as alive and
// as dropped and so gets both kinds of share for it. Here a set of survivors is a bit a
// member; a server that tells two halves of the cohort different things gets shares from
// one half at most, and they are too few for the other kind.
func TestAliveAndDropped(t *testing.T) {
	t.Parallel()
	const n, victim = 6, 2 // threshold 4, quorum 4
	for split := range 1 << (n - 1) {
		r := toShares(t, 135, n, classical)
		s := r.shares.session
		r.must(r.submit(r.all()))
		others := without(r.all(), victim)
		var told [2][]int // that the victim is alive, and that it dropped
		for at, i := range others {
			told[split>>at&1] = append(told[split>>at&1], i)
		}
		var got [2]int
		for kind, who := range told {
			alive := setOf(n, r.all()...)
			if kind == 1 {
				alive = setOf(n, others...)
			}
			signatures := map[int][]byte{}
			for _, i := range who {
				d := r.devices[i]
				var err error
				d.confirmed, d.confirm, err = d.done.Confirm((&shown{alive: alive}).encode())
				r.must(err)
				signatures[i] = d.confirm[headerSize:]
			}
			quorum := encodeQuorum(setOf(n, who...), signatures)
			for _, i := range who {
				if _, err := r.devices[i].confirmed.Reveal(quorum); err == nil {
					got[kind]++
				} else if !errors.Is(err, ErrTooFew) {
					t.Fatalf("split %b: device %d: %v, want ErrTooFew", split, i, err)
				}
			}
		}
		if got[0] > 0 && got[1] > 0 {
			t.Fatalf("split %b: %d devices gave a share of the victim's b and %d one of its σ", split, got[0], got[1])
		}
		if want := [2]int{wantQuorum(len(told[0]), s.quorum), wantQuorum(len(told[1]), s.quorum)}; got != want {
			t.Fatalf("split %b: %v devices revealed, want %v", split, got, want)
		}
	}
}

// wantQuorum is how many of the signers reveal.
func wantQuorum(signers, quorum int) int {
	if signers < quorum {
		return 0
	}
	return signers
}

// TestDropoutWhileSharing loses members while keys are exchanged, before and between the
// others' messages. It costs the round nothing.
func TestDropoutWhileSharing(t *testing.T) {
	const n = 9 // threshold 6
	for name, gone := range map[string]struct{ advertise, share []int }{
		"while adverts come":         {advertise: []int{0, 4, 8}},
		"while shares come":          {share: []int{0, 4, 8}},
		"in both steps":              {advertise: []int{1}, share: []int{2, 3}},
		"the first and the last":     {share: []int{0, 8}},
		"with the roster in hand":    {share: []int{5}},
		"after all had checked in":   {advertise: []int{0, 1, 2, 3}},
		"as many as may in the step": {advertise: []int{0, 1, 2}, share: []int{3, 4}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRigWith(t, 220, n, classical)
			advertised := without(r.all(), gone.advertise...)
			r.must(r.advertise(advertised))
			for _, i := range gone.share {
				r.shareOne(i) // what it would have sent is lost
			}
			left := without(advertised, gone.share...)
			r.must(r.share(left))
			r.endWith(left)
		})
	}
}

// TestEveryBitOfASeed: a mask depends on all 256 bits of its seed.
func TestEveryBitOfASeed(t *testing.T) {
	key := digest(bytes.Repeat([]byte{0x5a}, 32))
	seen := map[[4]uint32]int{}
	for bit := -1; bit < 256; bit++ {
		k := key
		if bit >= 0 {
			k[bit/8] ^= 1 << (bit % 8)
		}
		m := &maskSet{bits: 32}
		m.add(&k, false)
		v := make([]uint32, 4)
		m.apply(v, 0)
		if !slices.Equal(v, naiveStream(k, 4)) {
			t.Fatalf("the mask is not the key stream of AES-256 under the %d-bit seed", 8*len(k))
		}
		if other, ok := seen[[4]uint32(v)]; ok {
			t.Errorf("bits %d and %d of a seed make no difference", bit, other)
		}
		seen[[4]uint32(v)] = bit
	}
}

// TestSeedsDiffer collects every seed of masks in two attempts of the same devices: each
// has 256 bits, both ends of an edge have the same, and no two edges, directions,
// members, attempts or rounds share one.
func TestSeedsDiffer(t *testing.T) {
	for _, keys := range []KeyExchange{Hybrid, Classical} {
		seen := map[digest]string{}
		for attempt, change := range []func(*Params){func(*Params) {}, func(p *Params) { p.Attempt++ }, func(p *Params) { p.Round++ }} {
			// The same randomness each time: only what the attempt is about differs.
			r := newRigWith(t, 420, 5, func(p *Params) { p.Keys = keys; change(p) })
			r.must(r.advertise(r.all()))
			r.must(r.share(r.all()))
			r.must(r.submit(r.all()))
			note := func(seed digest, what string) {
				if other, ok := seen[seed]; ok {
					t.Errorf("%v: %s and %s have one seed", keys, what, other)
				}
				seen[seed] = what
			}
			for i, d := range r.devices {
				k := d.done.keeping
				for slot, j := range k.session.graph.neighbours(i) {
					theirs := r.devices[j].done.keeping.pairs[k.session.graph.slot(j, i)]
					if theirs != k.pairs[slot] {
						t.Errorf("%v: members %d and %d have two seeds", keys, i, j)
					}
					if i < j {
						note(k.pairs[slot], fmt.Sprintf("attempt %d: %d and %d", attempt, i, j))
					}
				}
			}
			s := r.shares.session
			for i := range r.devices {
				note(selfSeed(&s.ctx1, r.rebuilt(i, shareOfB)), fmt.Sprintf("attempt %d: %d", attempt, i))
			}
			// A seed says who added the mask and who subtracted it.
			h, secret := digest{1}, digest{2}
			note(s.pairSeed(0, 1, &h, &secret), fmt.Sprintf("attempt %d: forwards", attempt))
			note(s.pairSeed(1, 0, &h, &secret), fmt.Sprintf("attempt %d: backwards", attempt))
		}
		if len(seen) != 3*(10+5+2) {
			t.Errorf("%v: %d seeds, want %d", keys, len(seen), 3*(10+5+2))
		}
	}
}

// TestOnlyMaskedWordsTellOfTheInput runs an attempt twice with the same randomness and
// other vectors: no message of any step differs, and of the masked vectors every word
// that was changed. Whatever else a task counts has to travel as a masked word.
func TestOnlyMaskedWordsTellOfTheInput(t *testing.T) {
	const n, dropped = 5, 1
	var runs [2]*rig
	for at := range runs {
		r := newRigWith(t, 221, n, classical)
		if at == 1 {
			for _, d := range r.devices {
				for w := range d.input {
					d.input[w] = ^d.input[w]
				}
			}
		}
		r.must(r.advertise(r.all()))
		r.must(r.share(r.all()))
		r.maskOne(dropped)
		left := without(r.all(), dropped)
		r.must(r.submit(left))
		r.must(r.confirm(left))
		for _, i := range left {
			msg, err := r.devices[i].confirmed.Reveal(r.reveals.Quorum())
			r.must(err)
			r.devices[i].reveal = bytes.Clone(msg)
			r.must(r.reveals.Add(r.devices[i].id, msg))
		}
		runs[at] = r
	}
	for i := range n {
		a, b := runs[0].devices[i], runs[1].devices[i]
		for name, pair := range map[string][2][]byte{
			"advert": {a.advert, b.advert}, "shares": {a.shares, b.shares}, "complaint": {a.complaint, b.complaint},
			"confirm": {a.confirm, b.confirm}, "reveal": {a.reveal, b.reveal},
		} {
			if !bytes.Equal(pair[0], pair[1]) {
				t.Errorf("the %s of device %d depends on its vector", name, i)
			}
		}
		for w := range a.masked {
			if a.masked[w] == b.masked[w] {
				t.Errorf("masked word %d of device %d is the same for two inputs", w, i)
			}
		}
	}
}
