package secagg

import (
	"fmt"
	"io"
	"math"

	"github.com/cloudflare/circl/group"
)

// Shamir's scheme over the scalars of Ristretto255, the integers modulo
// ℓ = 2^252 + 27742317777372353535851937790883648493. The member at roster place i
// holds the share at x = i+1.

const scalarSize = 32

var scalars = group.Ristretto255

// randomScalar draws a uniform scalar by rejection: 253 random bits are taken
// until they are below ℓ, which half of them are. (circl's RandomScalar ignores
// its reader.)
func randomScalar(rand io.Reader) (group.Scalar, error) {
	var b [scalarSize]byte
	defer clear(b[:])
	x := scalars.NewScalar()
	for range 128 {
		if _, err := io.ReadFull(rand, b[:]); err != nil {
			return nil, fmt.Errorf("secagg: reading randomness for a scalar: %w", err)
		}
		b[scalarSize-1] &= 0x1f
		if x.UnmarshalBinary(b[:]) == nil {
			return x, nil
		}
	}
	return nil, fmt.Errorf("secagg: 128 draws in a row were above the group's order; the source of randomness is broken")
}

// encodeScalar is 32 bytes, little-endian.
func encodeScalar(x group.Scalar) (b [scalarSize]byte) {
	enc, err := x.MarshalBinary()
	if err != nil || len(enc) != scalarSize {
		panic("secagg: the group's scalars do not encode to 32 bytes")
	}
	copy(b[:], enc)
	clear(enc)
	return b
}

// decodeScalar takes 32 bytes, little-endian, below ℓ.
func decodeScalar(b []byte) (group.Scalar, error) {
	x := scalars.NewScalar()
	if len(b) != scalarSize || x.UnmarshalBinary(b) != nil {
		return nil, fmt.Errorf("%w: scalar is not 32 bytes below the group's order", ErrMalformed)
	}
	return x, nil
}

func wipeScalars(xs ...group.Scalar) {
	for _, x := range xs {
		if x != nil {
			x.SetUint64(0)
		}
	}
}

// deal gives n shares of the secret, any t of which give it back.
func deal(secret group.Scalar, t, n int, rand io.Reader) ([]group.Scalar, error) {
	poly := make([]group.Scalar, t)
	poly[0] = secret
	defer func() { wipeScalars(poly[1:]...) }()
	for i := 1; i < t; i++ {
		c, err := randomScalar(rand)
		if err != nil {
			return nil, err
		}
		poly[i] = c
	}
	shares := make([]group.Scalar, n)
	x := scalars.NewScalar()
	for i := range shares {
		x.SetUint64(uint64(i + 1))
		y := poly[t-1].Copy()
		for k := t - 2; k >= 0; k-- {
			y.Mul(y, x)
			y.Add(y, poly[k])
		}
		shares[i] = y
	}
	return shares, nil
}

// lagrange holds the coefficients that give a polynomial's value at 0 from its
// values at fixed places. They serve every secret shared over those places.
type lagrange []group.Scalar

// newLagrange computes λ_i = Π_{j≠i} x_j / (x_j − x_i), x being place+1, with one
// inversion for all of them (Montgomery's trick).
func newLagrange(places []int) (lagrange, error) {
	seen := make(map[int]bool, len(places))
	for _, p := range places {
		if p < 0 || p >= MaxCohort || seen[p] {
			return nil, fmt.Errorf("%w: share place %d is out of range or there twice", ErrMalformed, p)
		}
		seen[p] = true
	}
	if len(places) == 0 {
		return nil, fmt.Errorf("%w: no shares", ErrTooFew)
	}
	// λ_i = P / d_i with P = Π x_j and d_i = x_i · Π_{j≠i} (x_j − x_i).
	product := scalars.NewScalar().SetUint64(1)
	factor := scalars.NewScalar()
	d := make([]group.Scalar, len(places))
	before := make([]group.Scalar, len(places)) // before[i] = d_0 ⋯ d_{i−1}
	running := scalars.NewScalar().SetUint64(1)
	for i := range places {
		product.Mul(product, factor.SetUint64(uint64(places[i]+1)))
		d[i] = denominator(places, i)
		before[i] = running.Copy()
		running.Mul(running, d[i])
	}
	running.Inv(running)
	out := make(lagrange, len(places))
	for i := len(places) - 1; i >= 0; i-- {
		inverse := before[i]
		inverse.Mul(inverse, running) // 1 / d_i
		running.Mul(running, d[i])
		out[i] = inverse.Mul(inverse, product)
	}
	return out, nil
}

// denominator is x_i · Π_{j≠i} (x_j − x_i). The factors are small, so as many as
// fit into 64 bits are multiplied before they become a scalar.
func denominator(places []int, i int) group.Scalar {
	d := scalars.NewScalar().SetUint64(1)
	factor := scalars.NewScalar()
	small, negative := uint64(places[i]+1), false
	for j := range places {
		if j == i {
			continue
		}
		diff := places[j] - places[i]
		if diff < 0 {
			diff, negative = -diff, !negative
		}
		if small > math.MaxUint64/uint64(diff) {
			d.Mul(d, factor.SetUint64(small))
			small = 1
		}
		small *= uint64(diff)
	}
	d.Mul(d, factor.SetUint64(small))
	if negative {
		d.Neg(d)
	}
	return d
}

// secret is the value at 0. shares are at the places of newLagrange, in order.
func (l lagrange) secret(shares []group.Scalar) group.Scalar {
	sum, term := scalars.NewScalar(), scalars.NewScalar()
	for i, c := range l {
		sum.Add(sum, term.Mul(c, shares[i]))
	}
	wipeScalars(term)
	return sum
}
