package secagg

import (
	"errors"
	"testing"

	"github.com/cloudflare/circl/dh/x25519"
)

// crook deals a share of one of the two secrets that matches its commitment, but lies on
// no polynomial with the others.
func crook(sigma bool) misdeal {
	return misdeal{change: func(r *rig, m *dealing, dealer, to int) {
		s, plain, other := r.shares.session, r.devices[dealer].plain(r, dealer, to), [scalarSize]byte{9}
		if q := slotOf(r, m, dealer, to); sigma {
			copy(plain, other[:])
			q.sigma = s.commitShare(dealer, to, shareOfSigma, &other)
		} else {
			copy(plain[scalarSize:], other[:])
			q.b = s.commitShare(dealer, to, shareOfB, &other)
		}
		r.reseal(m, dealer, to, plain)
	}}
}

// TestCrookedDealer has a member deal shares that each match their commitment, but give
// another secret than it uses. Nobody can tell before the secret is rebuilt; then it is
// named.
func TestCrookedDealer(t *testing.T) {
	const n, dealer, to = 6, 2, 0 // threshold 4
	all, others := []int{0, 1, 2, 3, 4, 5}, []int{0, 1, 3, 4, 5}
	for _, test := range []struct {
		name              string
		sigma             bool
		survivors, reveal []int
		found             bool
	}{
		{"of b", false, all, all, true},
		{"of b, by one who is not in the sum", false, others, others, false},
		// σ is needed where one who masked with the dealer does not reveal the seed.
		{"of σ", true, others, []int{0, 1, 3, 4}, true},
		{"of σ, where all reveal their seeds", true, others, others, false},
		{"of σ, by one who survives", true, all, []int{0, 1, 3, 4}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRigWith(t, 206, n, classical)
			r.must(r.advertise(r.all()))
			r.misdeal(crook(test.sigma), dealer, to)
			r.must(r.submit(test.survivors))
			r.must(r.confirm(test.survivors))
			err := r.finish(test.reveal)
			if !test.found {
				r.must(err)
				r.checkSum(test.survivors)
				return
			}
			wantRefusal(t, err, ErrMismatch, r.id(dealer))
			if _, err := r.reveals.Close(); !errors.Is(err, ErrSpent) {
				t.Errorf("after the mismatch: %v, want ErrSpent", err)
			}
		})
	}
}

// otherCoins makes a ciphertext that does not follow from the dealer's σ, and commits to
// the seed that it gives.
var otherCoins = misdeal{change: func(r *rig, m *dealing, dealer, to int) {
	s, q := r.shares.session, slotOf(r, m, dealer, to)
	plain := r.devices[dealer].plain(r, dealer, to)
	secret, ciphertext, err := newMaskKey(Hybrid, &s.ctx0, scalars.NewScalar().SetUint64(5)).encapsulate(s.members[to].id, s.adverts[to].mask)
	r.must(err)
	h := ciphertextHash(ciphertext)
	seed := s.pairSeed(dealer, to, &h, &secret)
	q.ciphertext, q.pair = ciphertext, s.commitPair(dealer, to, &seed)
	r.reseal(m, dealer, to, plain)
}}

// TestCrookedSeed has a member give a neighbour a mask that does not follow from its σ,
// or whose commitment is of another. It is named where the mask has to be had from σ.
func TestCrookedSeed(t *testing.T) {
	const n = 6 // threshold 4
	for _, test := range []struct {
		name         string
		keys         KeyExchange
		bad          misdeal
		dealerGone   bool // or else the neighbour, which then never complains
		silent       bool // the one of the two that is left does not reveal
		refused, end bool // its reveal is refused; the attempt ends
	}{
		{"a ciphertext of other coins", Hybrid, otherCoins, true, true, false, true},
		{"a ciphertext of other coins, where the seed is revealed", Hybrid, otherCoins, true, false, false, false},
		{"another commitment", Classical, misdeals[6], false, true, false, true},
		{"another commitment, where the seed is revealed", Classical, misdeals[6], false, false, true, true},
		{"another ciphertext", Hybrid, substituted, false, true, false, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRigWith(t, 240, n, func(p *Params) { p.Keys = test.keys })
			r.must(r.advertise(r.all()))
			dealer, to := r.edge(true)
			r.misdeal(test.bad, dealer, to)
			gone, left := to, dealer
			if test.dealerGone {
				gone, left = dealer, to
			}
			survivors := without(r.all(), gone)
			r.must(r.submit(survivors))
			r.must(r.confirm(survivors))
			d := r.devices[left]
			var err error
			d.reveal, err = d.confirmed.Reveal(r.reveals.Quorum())
			r.must(err)
			if !test.silent {
				if err := r.reveals.Add(d.id, d.reveal); test.refused {
					wantRefusal(t, err, ErrMismatch, &d.id)
				} else {
					r.must(err)
				}
			}
			err = r.finish(without(survivors, left))
			if test.end {
				wantRefusal(t, err, ErrMismatch, r.id(dealer))
				return
			}
			r.must(err)
			r.checkSum(survivors)
		})
	}
}

// TestLowOrderUnderSignature has a member sign points of low order, and a server hand
// them on that should have refused them: the recipient complains.
func TestLowOrderUnderSignature(t *testing.T) {
	for _, test := range []struct {
		name   string
		keys   KeyExchange
		reason reason
		change func(q *parcel)
	}{
		{"in a hybrid seal", Hybrid, unopened, func(q *parcel) {
			q.sealed = with(q.sealed, len(q.sealed)-sharePair-sealTag-x25519.Size, lowOrderPoints[3])
		}},
		{"in a classical seal", Classical, unopened, func(q *parcel) { q.sealed = with(q.sealed, 0, lowOrderPoints[3]) }},
		{"not canonical", Classical, unopened, func(q *parcel) { q.sealed = with(q.sealed, 0, fieldPrimeBytes) }},
		{"in a ciphertext", Hybrid, badPair, func(q *parcel) { q.ciphertext = with(q.ciphertext, -x25519.Size, lowOrderPoints[1]) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRigWith(t, 241, 5, func(p *Params) { p.Keys = test.keys })
			r.must(r.advertise(r.all()))
			dealer, to := r.edge(true)
			s := r.shares.session
			for i, d := range r.devices {
				kept := d.advertised.again()
				r.shareOne(i)
				d.advertised = kept
			}
			msg := r.redeal(dealer, func(m *dealing) {
				plain := r.devices[dealer].plain(r, dealer, to)
				q := slotOf(r, m, dealer, to)
				test.change(q)
				if test.reason == badPair {
					r.reseal(m, dealer, to, plain)
				}
			})
			for i, d := range r.devices {
				if i != dealer {
					r.must(r.shares.Add(d.id, d.shares))
					continue
				}
				wantRefusal(t, r.shares.Add(d.id, msg), ErrBadKey, &d.id)
				m, err := s.decodeDealing(msg, dealer)
				r.must(err)
				r.shares.got[i] = s.newReceived(dealer, msg, m, s.leaves(dealer, m))
			}
			r.must(r.closeShares(r.all()))
			for i := range r.devices {
				r.maskOne(i)
			}
			said := r.devices[to].masking.Accused()
			if len(said) != 1 {
				t.Fatalf("%v accused, want one", said)
			}
			wantRefusal(t, said[0], ErrBadKey, r.id(dealer))
			c, err := s.decodeComplaint(r.devices[to].complaint)
			r.must(err)
			if c.accusations[0].reason != test.reason {
				t.Errorf("the reason is %q, want %q", c.accusations[0].reason, test.reason)
			}
		})
	}
}
