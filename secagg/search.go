package secagg

import "math/big"

// parts is what Search's fractions are counted in.
const parts = 10_000

// Search is the smallest sparse graph that n members are safe on: the smallest
// even number k of neighbours below n−1 that meets the three conditions with the
// smallest threshold t, of a member's k shares, that meets the second. Of n
// members ⌊n·corrupt/10,000⌋ collude with the server and ⌊n·dropout/10,000⌋
// vanish; sigma is the bits of statistical security, eta the bits of confidence
// that a round succeeds. The conditions are those of Bell et al. 2020 (eprint
// 2020/704) for the graphs newGraph makes:
//
//   - connectivity: with probability above 1 − 2^−(σ+1) the members who neither
//     collude nor vanish are joined to one another;
//   - privacy: with probability of at least 1 − 2^−(σ+1) nobody has t colluding
//     neighbours;
//   - correctness: with probability of at least 1 − 2^−η everybody has t
//     neighbours who stay.
//
// ok is false where no graph does, as for small n: the complete graph is for
// those. It is false, too, where an argument is negative or the two fractions leave
// nobody. Search computes in whole numbers, so that all who call it find the same.
func Search(n, corrupt, dropout, sigma, eta int) (k, t int, ok bool) {
	if n < 0 || corrupt < 0 || dropout < 0 || sigma < 0 || eta < 0 || corrupt+dropout >= parts {
		return 0, 0, false
	}
	colluding, vanishing := n*corrupt/parts, n*dropout/parts
	split := newSplit(n, colluding+vanishing, sigma)
	collude, stay := newTail(n, colluding), newTail(n, n-vanishing)
	private, correct := bound{n: n, bits: sigma + 1}, bound{n: n, bits: eta}
	total := big.NewInt(1) // C(n, k)
	for k := 0; k < n-1; k++ {
		// A larger k needs no smaller t, so t only ever rises.
		for !private.holds(collude.count, total) {
			collude.raise()
			stay.raise()
		}
		if k > 0 && k%2 == 0 && split.unlikely() && correct.holds(stay.below(total), total) {
			return k, stay.t, true
		}
		scale(total, n-k, k+1)
		split.grow()
		collude.grow()
		stay.grow()
	}
	return 0, 0, false
}

// scale multiplies x by a and divides it by b, of which it is a multiple by then.
func scale(x *big.Int, a, b int) {
	x.Mul(x, big.NewInt(int64(a)))
	x.Quo(x, big.NewInt(int64(b)))
}

// bound is a probability of 2^−bits shared by n members.
type bound struct {
	n, bits int
	scaled  big.Int
}

// holds tells whether count cases of total are within it: count/total ≤ 2^−bits/n.
func (b *bound) holds(count, total *big.Int) bool {
	b.scaled.Mul(count, big.NewInt(int64(b.n)))
	b.scaled.Lsh(&b.scaled, uint(b.bits))
	return b.scaled.Cmp(total) <= 0
}

// split bounds the probability that those who neither collude nor vanish fall into
// parts: then the b who do hold two runs of k/2 members with somebody between them
// on either side, and there are ½·n·(n−k−1) pairs of such runs on the circle.
type split struct {
	n, k, b int
	holding *big.Int // C(n−k, b−k), the choices of b members that hold a given pair
	all     *big.Int // C(n, b), the choices of b members
	limit   big.Int
	sigma   int
}

// newSplit is the bound at k = 0.
func newSplit(n, b, sigma int) *split {
	all := new(big.Int).Binomial(int64(n), int64(b))
	return &split{n: n, b: b, sigma: sigma, all: all, holding: new(big.Int).Set(all)}
}

// grow goes from k to k+1. From k = b+1 on no choice holds a pair.
func (s *split) grow() {
	scale(s.holding, s.b-s.k, s.n-s.k)
	s.k++
}

// unlikely tells whether ½·n·(n−k−1)·C(n−k, b−k)/C(n, b) < 2^−(σ+1).
func (s *split) unlikely() bool {
	s.limit.Mul(s.holding, big.NewInt(int64(s.n)*int64(s.n-s.k-1)))
	s.limit.Lsh(&s.limit, uint(s.sigma))
	return s.limit.Cmp(s.all) < 0
}

// tail counts the choices of k out of n members that take at least t of m marked
// ones: the upper tail of the hypergeometric distribution, times C(n, k). To go to
// the next k or t it needs the choices of exactly t−1 marked ones only, so that a
// search through all k costs a few products each.
type tail struct {
	n, m, k, t int
	count      *big.Int // choices of at least t marked
	edge       *big.Int // choices of exactly t−1 marked: C(m, t−1)·C(n−m, k−t+1)
	rest       big.Int
}

// newTail is the tail at k = 0 and t = 1.
func newTail(n, m int) *tail {
	return &tail{n: n, m: m, t: 1, count: new(big.Int), edge: big.NewInt(1)}
}

// grow goes from k to k+1. Every choice is made k+1 times by adding a last one: any
// of the other members to a choice that has t marked, a marked one to a choice that
// has t−1.
func (a *tail) grow() {
	last := a.t - 1
	a.rest.Mul(a.edge, big.NewInt(int64(a.m-last)))
	a.count.Mul(a.count, big.NewInt(int64(a.n-a.k)))
	a.count.Add(a.count, &a.rest)
	a.count.Quo(a.count, big.NewInt(int64(a.k+1)))
	scale(a.edge, a.n-a.m-(a.k-last), a.k+1-last)
	a.k++
}

// raise goes from t ≤ k to t+1.
func (a *tail) raise() {
	// The edge moves to exactly t marked and k−t unmarked.
	switch unmarked := a.n - a.m; {
	case a.k-a.t < unmarked:
		scale(a.edge, (a.m-a.t+1)*(a.k-a.t+1), a.t*(unmarked-a.k+a.t))
	case a.k-a.t == unmarked: // it was empty, as it asked for more unmarked than there are
		a.edge.Binomial(int64(a.m), int64(a.t))
	}
	a.count.Sub(a.count, a.edge)
	a.t++
}

// below counts, of all choices, those of fewer than t marked.
func (a *tail) below(all *big.Int) *big.Int { return a.rest.Sub(all, a.count) }
