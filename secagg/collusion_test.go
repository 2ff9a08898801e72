package secagg

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/cloudflare/circl/group"
)

// A coordinator that works together with members of the cohort, one fewer than the
// threshold. It has everything that was ever sent, what those members hold, and tries
// whatever it can make of it.

// finished is an attempt that went its way, with all that the coordinator has in the end
// and what each member held before it revealed.
type finished struct {
	*rig
	session   *session
	dealt     []*dealt
	survivors []int
	held      []*keeping // by member
	reveals   []*revealed
	vectors   [][]uint32 // as they were sent; those of the vanished came too late
}

// finishedRig is an attempt in which some members vanish before Submit is over.
func finishedRig(t *testing.T, seed uint64, n int, gone []int, change func(*Params)) *finished {
	t.Helper()
	r := toShares(t, seed, n, change)
	survivors := without(r.all(), gone...)
	for _, i := range gone {
		r.maskOne(i)
	}
	r.must(r.submit(survivors))
	f := &finished{rig: r, session: r.shares.session, survivors: survivors}
	for _, d := range r.devices {
		f.held, f.vectors = append(f.held, d.done.keeping.again()), append(f.vectors, slices.Clone(d.masked))
	}
	r.must(r.confirm(survivors))
	f.dealt = r.reveals.cohort.dealt
	f.reveals = make([]*revealed, n)
	for _, i := range survivors {
		msg, err := r.devices[i].confirmed.Reveal(r.reveals.Quorum())
		r.must(err)
		if f.reveals[i], err = r.reveals.decode(i, bytes.Clone(msg)); err != nil {
			t.Fatal(err)
		}
		r.must(r.reveals.Add(r.devices[i].id, msg))
	}
	r.must(r.finish(nil))
	r.checkSum(survivors)
	return f
}

// share is the share of a member's secret that another holds, nil where it holds none.
func (f *finished) share(dealer, holder int, secret byte) []byte {
	k := f.held[holder]
	slot := f.session.graph.slot(holder, dealer)
	switch {
	case holder == dealer && secret == shareOfB && f.session.own() == 1:
		return k.ownShare[:]
	case slot < 0:
		return nil
	case secret == shareOfB:
		return k.b[slot][:]
	}
	return k.sigma[slot][:]
}

// knows tells whether the coordinator has a share: its holder works for it or has
// revealed it.
func (f *finished) knows(corrupt []int, dealer, holder int, secret byte) bool {
	if f.share(dealer, holder, secret) == nil {
		return false
	}
	revealed := f.reveals[holder] != nil && (secret == shareOfB) == slices.Contains(f.survivors, dealer)
	return revealed || slices.Contains(corrupt, holder)
}

// trial is shares from as many holders as the threshold, of either secret, taken for
// those of one, and what the value at 0 of the polynomial through them turned out to be.
type trial struct {
	holders []int
	secrets []byte // of the share taken from each
	b       bool   // it matches the commitment to b
	sigma   bool   // it gives the mask key that was advertised
	pairs   []int  // neighbours with whom it gives the seed that was committed to
}

// within tells whether all shares of a trial are known.
func (f *finished) within(corrupt []int, dealer int, x *trial) bool {
	for at, holder := range x.holders {
		if !f.knows(corrupt, dealer, holder, x.secrets[at]) {
			return false
		}
	}
	return true
}

// tryAll interpolates every combination of threshold shares of a dealer out of those
// that allowed lets through.
func (f *finished) tryAll(dealer int, allowed func(holder int, secret byte) bool) (trials []*trial) {
	var holders []int
	for holder := range f.devices {
		if allowed(holder, shareOfB) || allowed(holder, shareOfSigma) {
			holders = append(holders, holder)
		}
	}
	var take func(from int, taken []int)
	take = func(from int, taken []int) {
		if len(taken) == f.session.graph.threshold {
			trials = append(trials, f.tryHolders(dealer, taken, allowed)...)
			return
		}
		for at := from; at < len(holders); at++ {
			take(at+1, append(slices.Clone(taken), holders[at]))
		}
	}
	take(0, nil)
	return trials
}

// tryHolders interpolates every choice of secrets from fixed holders.
func (f *finished) tryHolders(dealer int, holders []int, allowed func(holder int, secret byte) bool) (trials []*trial) {
	places := make([]int, len(holders))
	for at, holder := range holders {
		places[at] = f.session.shareIndex(dealer, holder)
	}
	l, err := newLagrange(places)
	f.must(err)
	var choose func(secrets []byte, shares []group.Scalar)
	choose = func(secrets []byte, shares []group.Scalar) {
		at := len(secrets)
		if at == len(holders) {
			x := &trial{holders: holders, secrets: slices.Clone(secrets)}
			f.check(dealer, x, l.secret(shares))
			trials = append(trials, x)
			return
		}
		for _, secret := range []byte{shareOfB, shareOfSigma} {
			if allowed(holders[at], secret) {
				x, err := decodeScalar(f.share(dealer, holders[at], secret))
				f.must(err)
				choose(append(secrets, secret), append(shares, x))
			}
		}
	}
	choose(nil, nil)
	return trials
}

// check holds what came out against everything that the dealer has committed to.
func (f *finished) check(dealer int, x *trial, secret group.Scalar) {
	s := f.session
	x.b = commitB(&s.ctx1, secret) == f.dealt[dealer].b
	key := newMaskKey(s.params.Keys, &s.ctx0, secret)
	x.sigma = bytes.Equal(key.public, s.adverts[dealer].mask)
	if s.sparse() {
		return // the trials are many, and no key but the advertised one can give a seed
	}
	for _, j := range s.graph.neighbours(dealer) {
		from, to := dealer, j
		if s.graph.encapsulates(j, dealer) {
			from, to = j, dealer
		}
		q := f.dealt[from].parcels[s.graph.slot(from, to)]
		shared, ciphertext, err := key.encapsulate(s.members[j].id, s.adverts[j].mask)
		if from == j {
			m, decodeErr := s.decodeDealing(f.devices[j].shares, j)
			f.must(decodeErr)
			ciphertext = m.parcels[s.graph.slot(j, dealer)].ciphertext
			shared, err = key.decapsulate(s.adverts[j].mask, ciphertext)
		}
		f.must(err)
		h := ciphertextHash(ciphertext)
		if seed := s.pairSeed(from, to, &h, &shared); s.commitPair(from, to, &seed) == q.pair {
			x.pairs = append(x.pairs, j)
		}
	}
}

// TestCoordinatorWithColluders tries, for every set of fewer corrupt members than the
// threshold, every combination of the shares that they and the coordinator have. It
// gives what an honest attempt reveals and nothing else: the b of the survivors, the σ
// of the vanished, and never both of one honest member; no seed between two honest
// survivors; no honest member's vector.
func TestCoordinatorWithColluders(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		keys KeyExchange
		n    int
		gone []int
	}{
		{Hybrid, 5, []int{1}}, {Classical, 5, nil}, {Classical, 6, []int{1, 4}},
	} {
		t.Run(fmt.Sprintf("%v, n=%d, %v vanished", test.keys, test.n, test.gone), func(t *testing.T) {
			f := finishedRig(t, 230, test.n, test.gone, func(p *Params) { p.Keys = test.keys })
			trials := make([][]*trial, test.n)
			for dealer := range trials {
				trials[dealer] = f.tryAll(dealer, func(holder int, secret byte) bool { return f.share(dealer, holder, secret) != nil })
			}
			threshold, broken := f.session.graph.threshold, 0
			for set := range 1 << test.n {
				corrupt := bitmap{byte(set)}
				if corrupt.count() >= threshold {
					if corrupt.count() == threshold && f.breaks(t, trials, corrupt.places(), false) {
						broken++
					}
					continue
				}
				f.breaks(t, trials, corrupt.places(), true)
				f.checkVectors(t, corrupt.places())
			}
			if broken == 0 {
				t.Error("as many corrupt members as the threshold learn no more than fewer: the trials are not what they claim to be")
			}
		})
	}
}

// breaks tells whether a trial that the coordinator can make gives a secret or a seed of
// an honest member that the attempt does not reveal. Where it must not, that is an error.
func (f *finished) breaks(t *testing.T, trials [][]*trial, corrupt []int, mustNot bool) (broken bool) {
	t.Helper()
	for dealer, list := range trials {
		if slices.Contains(corrupt, dealer) {
			continue
		}
		survived := slices.Contains(f.survivors, dealer)
		got := trial{}
		for _, x := range list {
			if f.within(corrupt, dealer, x) {
				got.b, got.sigma = got.b || x.b, got.sigma || x.sigma
				got.pairs = append(got.pairs, x.pairs...)
			}
		}
		// The revealed secret is always there: the trials do find what there is to find.
		if survived && !got.b || !survived && !got.sigma {
			t.Errorf("%v corrupt: what member %d's neighbours reveal does not give its secret", corrupt, dealer)
		}
		if survived && (got.sigma || len(got.pairs) > 0) || !survived && got.b {
			broken = true
			if mustNot {
				t.Errorf("%v corrupt: of member %d, which survived %v, b %v, σ %v and seeds with %v are known",
					corrupt, dealer, survived, got.b, got.sigma, got.pairs)
			}
		}
	}
	return broken
}

// masksOf are a member's masks that the coordinator can take off its vector.
func (f *finished) masksOf(member int, corrupt []int) *maskSet {
	s, masks := f.session, &maskSet{bits: f.session.params.RingBits}
	if slices.Contains(f.survivors, member) {
		b := f.trueB(member)
		seed := selfSeed(&s.ctx1, b)
		masks.add(&seed, true)
	}
	for slot, j := range s.graph.neighbours(member) {
		// A seed is known to both of its ends, revealed where one end vanished, and with
		// the σ of that end known between two that vanished.
		if slices.Contains(corrupt, j) || !slices.Contains(f.survivors, j) || !slices.Contains(f.survivors, member) {
			masks.add(&f.held[member].pairs[slot], s.graph.encapsulates(member, j))
		}
	}
	return masks
}

// trueB is a member's b.
func (f *finished) trueB(member int) group.Scalar {
	var places []int
	var shares []group.Scalar
	for _, j := range f.session.graph.neighbours(member)[:f.session.graph.threshold] {
		x, err := decodeScalar(f.share(member, j, shareOfB))
		f.must(err)
		places, shares = append(places, f.session.shareIndex(member, j)), append(shares, x)
	}
	l, err := newLagrange(places)
	f.must(err)
	return l.secret(shares)
}

// checkVectors takes every mask that is known off the honest members' vectors. What is
// left tells no sum of fewer than all honest survivors, and nothing of a vector that came
// when its sender had been declared vanished.
func (f *finished) checkVectors(t *testing.T, corrupt []int) {
	t.Helper()
	honest := without(f.survivors, corrupt...)
	left := make(map[int][]uint32)
	for member := range f.devices {
		v := slices.Clone(f.vectors[member])
		f.masksOf(member, corrupt).apply(v, 0)
		left[member] = v
	}
	for set := range 1 << len(honest) {
		sum, plain, size := make([]uint32, testLength), make([]uint32, testLength), 0
		for at, member := range honest {
			if set>>at&1 == 1 {
				add(sum, left[member])
				add(plain, f.devices[member].input)
				size++
			}
		}
		bits := f.session.params.RingBits
		if known := slices.Equal(inRing(sum, bits), inRing(plain, bits)); known != (size == 0 || size == len(honest)) {
			t.Errorf("%v corrupt: the sum of %d of %d honest survivors is known: %v", corrupt, size, len(honest), known)
		}
	}
	for member := range f.devices {
		if slices.Contains(f.survivors, member) || slices.Contains(corrupt, member) {
			continue
		}
		if slices.Equal(left[member], f.devices[member].input) {
			t.Errorf("%v corrupt: the vector of member %d, which came late, is known", corrupt, member)
		}
		seed, masks := selfSeed(&f.session.ctx1, f.trueB(member)), &maskSet{bits: f.session.params.RingBits}
		masks.add(&seed, true)
		masks.apply(left[member], 0)
		if !slices.Equal(left[member], f.devices[member].input) {
			t.Fatalf("%v corrupt: it is more than b that hides a late vector: the masks are not taken off as they should be", corrupt)
		}
	}
}

// TestColludersOnASparseGraph puts corrupt members exactly where they see most of one
// member, one fewer than the threshold of its neighbours.
func TestColludersOnASparseGraph(t *testing.T) {
	t.Parallel()
	const n = 101
	gone := []int{20, 70}
	f := finishedRig(t, 231, n, gone, sparse)
	g := f.session.graph
	for _, victim := range []int{3, 70} {
		survived := victim == 3
		corrupt := g.neighbours(victim)[:g.threshold-1]
		known := func(holder int, secret byte) bool { return f.knows(corrupt, victim, holder, secret) }
		found := 0
		for _, x := range f.tryAll(victim, known) {
			switch {
			case survived && x.b || !survived && x.sigma:
				found++
			case survived && x.sigma || !survived && x.b:
				t.Errorf("%v corrupt: shares of %v by %q give b %v, σ %v of member %d", corrupt, x.holders, x.secrets, x.b, x.sigma, victim)
			}
		}
		if found == 0 {
			t.Errorf("%v corrupt: the shares that were revealed do not give member %d's secret", corrupt, victim)
		}
	}
}
