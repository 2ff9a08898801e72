// Package noise draws whole numbers from the discrete Gaussian distribution
//
//	P(X = k) ∝ exp(−k²/2σ²) for every integer k
//
// (Canonne, Kamath, Steinke 2020, "The discrete Gaussian for differential privacy",
// definition 1), for noise that is added to integers. Begin with [New].
//
// There is no floating-point noise here, whose last bits tell what it was added to
// (Mironov 2012, "On significance of the least significant bits for differential
// privacy"): a draw compares 128 random bits with a table of whole numbers.
package noise

import (
	"fmt"
	"math/big"
	"math/bits"
	"math/rand/v2"
	"slices"
	"sync"
)

// The least and the largest σ of a Sampler. From 4 on a sum of draws is all but a discrete
// Gaussian (Kairouz, Liu, Steinke 2021, "The distributed discrete Gaussian mechanism",
// where what is missing is below 10^−67) and can be accounted for as one; the largest
// makes a table of 3.5 MB.
const (
	MinSigma = 4
	MaxSigma = 1 << 14
)

// precision is the bits in which the table is computed, as whole-number arithmetic on
// every platform. Errors grow with the square of an entry's place, to 2^−154 at most.
const precision = 192

// Sampler draws from the discrete Gaussian distribution of one σ. It holds no secret and
// is safe for concurrent use.
//
// The table has, for each k ≥ 0, the probability of |X| ≤ k in units of 2^−127, rounded
// down. A draw reads 127 bits as a place in it and one as the sign. What is rounded, and
// cut off beyond 13.4σ, changes the distribution by less than 2^−110 in total variation;
// for a vector of 2^20 draws that adds less than 2^−89 to a guarantee's δ.
type Sampler struct {
	of    float64 // σ
	table []threshold
	guide []uint32 // by the first bits of a draw: how many entries begin lower; one more at the end
}

// guideBits is how many bits of a draw Subtract looks up at once.
const guideBits = 12

// recent are the samplers that were made last, the latest at the end: many devices of one
// round in a process, as in a simulation, share them.
var recent struct {
	sync.Mutex
	samplers []*Sampler
}

// mostRecent is how many are kept: as many as a round has, and one more.
const mostRecent = 10

// made is the sampler of σ if it was made before, else nil.
func made(sigma float64) *Sampler {
	recent.Lock()
	defer recent.Unlock()
	for _, s := range recent.samplers {
		if s.of == sigma {
			return s
		}
	}
	return nil
}

// keep keeps a sampler, in the place of the one that was made longest ago.
func keep(s *Sampler) {
	recent.Lock()
	defer recent.Unlock()
	if len(recent.samplers) == mostRecent {
		recent.samplers = slices.Delete(recent.samplers, 0, 1)
	}
	recent.samplers = append(recent.samplers, s)
}

// threshold is twice an entry of the table, so that the sign's bit does not count.
type threshold struct{ hi, lo uint64 }

// New makes the sampler of σ, MinSigma to MaxSigma, which is also the distribution's
// standard deviation, to 10^−100. It takes about a microsecond for each of some 13σ
// entries.
func New(sigma float64) (*Sampler, error) {
	if !(sigma >= MinSigma && sigma <= MaxSigma) {
		return nil, fmt.Errorf("noise: a discrete Gaussian with σ %v, want %d to %d", sigma, MinSigma, MaxSigma)
	}
	if s := made(sigma); s != nil {
		return s, nil
	}
	mass := masses(sigma)
	whole := number(0)
	for _, m := range mass {
		whole.Add(whole, m)
	}
	unit := number(0).Quo(number(1).SetMantExp(number(1), 127), whole)
	s := &Sampler{of: sigma, table: make([]threshold, 0, len(mass))}
	upTo, scaled, most := number(0), number(0), new(big.Int)
	low := new(big.Int).SetUint64(1<<64 - 1)
	for _, m := range mass[:len(mass)-1] { // what is left falls to the last
		upTo.Add(upTo, m)
		scaled.Mul(upTo, unit).Int(most)
		most.Lsh(most, 1)
		s.table = append(s.table, threshold{
			hi: new(big.Int).Rsh(most, 64).Uint64(), lo: new(big.Int).And(most, low).Uint64(),
		})
	}
	s.guide = guideOf(s.table)
	keep(s)
	return s, nil
}

func guideOf(table []threshold) []uint32 {
	guide, at := make([]uint32, 1<<guideBits+1), 0
	for first := range guide {
		for at < len(table) && table[at].hi>>(64-guideBits) < uint64(first) {
			at++
		}
		guide[first] = uint32(at)
	}
	return guide
}

// number is a number in the table's precision.
func number(x float64) *big.Float { return new(big.Float).SetPrec(precision).SetFloat64(x) }

// masses are exp(−k²/2σ²), twice for all k but 0, as long as they are above 2^−130.
func masses(sigma float64) []*big.Float {
	square := number(sigma)
	square.Mul(square, square)
	q := expNegative(number(0).Quo(number(0.5), square)) // exp(−1/2σ²); the masses are q^(k²)
	step, twice := number(0).Set(q), number(0).Mul(q, q) // q^(2k+1) and q²
	least := number(1).SetMantExp(number(1), -130)
	list, mass := []*big.Float{number(1)}, number(0).Set(q)
	for mass.Cmp(least) > 0 {
		list = append(list, number(0).Add(mass, mass))
		step.Mul(step, twice)
		mass.Mul(mass, step)
	}
	return list
}

// expNegative is exp(−x) for x of 0 to 1/2, by its series.
func expNegative(x *big.Float) *big.Float {
	sum, term := number(1), number(1)
	least := number(1).SetMantExp(number(1), -precision-8)
	for n := 1; term.Sign() != 0; n++ {
		term.Mul(term, x).Quo(term, number(float64(-n)))
		sum.Add(sum, term)
		if number(0).Abs(term).Cmp(least) < 0 {
			break
		}
	}
	return sum
}

// Add adds a draw to each word, modulo 2^32. The draws come from ChaCha8(seed), sixteen
// bytes each, and are the same on every platform; a seed serves one vector. The state of
// the generator is wiped, the seed is the caller's to wipe.
func (s *Sampler) Add(words []uint32, seed [32]byte) {
	source := rand.NewChaCha8(seed)
	defer source.Seed([32]byte{})
	for i := range words {
		words[i] += uint32(s.draw(source.Uint64(), source.Uint64()))
	}
}

// Subtract takes off again what Add with the same seed added. It is faster, and how long it
// takes depends on the draws: it is for seeds that are secret no more.
func (s *Sampler) Subtract(words []uint32, seed [32]byte) {
	source := rand.NewChaCha8(seed)
	for i := range words {
		hi, lo := source.Uint64(), source.Uint64()
		words[i] -= uint32(signed(s.guided(hi, lo), lo))
	}
}

// guided is place in the whole table, sought in one of the guide's parts, of which most have
// an entry or two.
func (s *Sampler) guided(hi, lo uint64) int32 {
	first := hi >> (64 - guideBits)
	from := s.guide[first]
	return int32(from) + place(s.table[from:s.guide[first+1]], hi, lo)
}

// draw turns 128 random bits into a draw. It takes the same steps whatever the bits are:
// a search by halves without a branch. Which entries of the table it reads does depend
// on them.
func (s *Sampler) draw(hi, lo uint64) int32 { return signed(place(s.table, hi, lo), lo) }

// place is how many entries of a table do not lie above a draw.
func place(table []threshold, hi, lo uint64) int32 {
	at := 0
	for n := len(table); n > 0; {
		half := (n + 1) / 2
		t := table[at+half-1]
		_, below := bits.Sub64(lo, t.lo, 0)
		_, below = bits.Sub64(hi, t.hi, below)
		at += half & (int(below) - 1) // not below: the place lies behind
		n -= half
	}
	return int32(at)
}

func signed(at int32, lo uint64) int32 {
	sign := -int32(lo & 1)
	return at ^ sign - sign
}
