package secagg

import (
	"slices"
	"testing"

	"github.com/cloudflare/circl/group"
)

// TestWhatConfirmIsFor shows what docs/threat-model.md says of a coordinator that
// tells every device another story: of six members, with one of them on its side, it
// unmasks one device's vector, though no device has answered two sets of survivors and
// nobody's two secrets are known. It prunes the victim's inbox to t members, and has
// the others think that the victim's remaining neighbours vanished, each of them in
// the eyes of t others. Every single answer is one that an honest server could ask for.
func TestWhatConfirmIsFor(t *testing.T) {
	const n, victim, corrupt = 6, 0, 5
	r := newRig(t, 1, n)
	r.must(r.advertise(r.all()))
	r.must(r.share(r.all()))
	secret := r.devices[corrupt].shared.mask.secret
	in, err := decodeInbox(r.devices[victim].inbox, n, victim)
	r.must(err)
	for _, pruned := range []int{3, 4} {
		in.entries[pruned] = nil
		in.shared[0] &^= 1 << pruned
	}
	r.devices[victim].inbox = encodeInbox(in)
	for i := range n {
		r.maskOne(i)
	}
	s := r.devices[corrupt].done.keeping.session
	stories := [][]int{victim: {0, 1, 2, 5}, 1: {0, 1, 3, 4, 5}, 2: {0, 2, 3, 4, 5}, 3: {0, 3, 4, 5}, 4: {0, 3, 4, 5}}
	b, sigma := r.hear(stories, corrupt)
	masks := &maskSet{}
	seed := selfSeed(&s.ctx1, r.rebuild(victim, b, s.threshold))
	masks.add(&seed, true)
	for _, j := range []int{1, 2, corrupt} {
		key := keyPair{secret: secret}
		if j != corrupt {
			key = maskKey(&s.ctx0, r.rebuild(j, sigma, s.threshold))
		}
		seed, err := pairSeed(s, victim, j, &key.secret, &s.roster[victim].mask)
		r.must(err)
		masks.add(&seed, true)
	}
	got := slices.Clone(r.devices[victim].masked)
	masks.apply(got, 0)
	if !slices.Equal(got, r.devices[victim].input) {
		t.Error("the victim's vector stays hidden: if Confirm is there now, docs/threat-model.md promises too little")
	}
}

// hear has each device reveal for the survivors of its own story, the corrupt one all
// that it holds. It returns shares of b and of σ by revealer, then by dealer.
func (r *rig) hear(stories [][]int, corrupt int) (b, sigma [][]group.Scalar) {
	r.t.Helper()
	n := len(r.devices)
	b, sigma = make([][]group.Scalar, n), make([][]group.Scalar, n)
	for i, d := range r.devices {
		k := d.done.keeping
		if i == corrupt {
			b[i], sigma[i] = k.b, k.sigma
			continue
		}
		b[i], sigma[i] = make([]group.Scalar, n), make([]group.Scalar, n)
		alive := newBitmap(n)
		for _, j := range stories[i] {
			alive.set(j)
		}
		sharers, h := k.shared.places(), k.session.survivorsHash(alive)
		reveal, err := d.done.Reveal(encodeSurvivors(alive))
		r.must(err)
		shares, err := decodeReveal(reveal, &h, len(sharers))
		r.must(err)
		for place, j := range sharers {
			if alive.has(j) {
				b[i][j] = shares[place]
			} else {
				sigma[i][j] = shares[place]
			}
		}
	}
	return b, sigma
}

// rebuild interpolates one dealer's secret from the shares that there are.
func (r *rig) rebuild(dealer int, kind [][]group.Scalar, threshold int) group.Scalar {
	r.t.Helper()
	var places []int
	var shares []group.Scalar
	for i := range kind {
		if x := kind[i][dealer]; x != nil && len(places) < threshold {
			places, shares = append(places, i), append(shares, x)
		}
	}
	if len(places) < threshold {
		r.t.Fatalf("%d shares of member %d, want %d", len(places), dealer, threshold)
	}
	l, err := newLagrange(places)
	r.must(err)
	return l.secret(shares)
}
