// Package aggregation turns a client update into bounded integers that can be
// summed in a ring, packs them for the wire, and turns a sum of them into the
// server's next step.
//
// Begin with [Codec]: Encode runs on a device, Decode at the coordinator, and
// Fits proves that nothing overflows in between. [DiscreteGaussian] is its counterpart
// for sums with noise in them. [Reduction] shortens an update before it is encoded.
// [Layout] places the encoded update and what is counted beside it in one vector. [Pack]
// and [AddPacked] are the
// wire form of a vector. [Lift] takes a cohort's sum out of its ring and adds it to
// those of the other cohorts. [Strategy] is what is done with the mean update, and
// [ParseChoice] how an operator chooses it.
//
// The package does not know who sent what, how vectors are masked, or how they
// travel.
package aggregation

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
)

// ErrNotFinite is returned for an update, or a sum, that holds NaN or infinity.
var ErrNotFinite = errors.New("not a finite number")

// Codec maps a client update, a vector of float32, to words of an integer ring.
//
// A coordinate u with weight w becomes stochasticRound(s·(w/MaxWeight)·clamp(u, ±Clip))
// with s = (2^(Bits−1)−1)/Clip, so that the rounding's expectation is exact
// (McMahan et al. 2017, "Communication-efficient learning", and Bonawitz et al. 2019,
// "Federated learning with autotuned communication-efficient secure aggregation").
// The weight itself is one more word behind the coordinates: only its sum is seen.
type Codec struct {
	Clip      float32 // bound on the magnitude of a coordinate of the update
	Bits      int     // bits of one device's coordinate with its sign, 2 to 24
	MaxWeight int     // weight at which a device is capped, 1 to 65535
}

// The reference of CoordinateBits: so many bits a coordinate in a sum of so many devices.
const (
	referenceBits    = 16
	referenceDevices = 20
)

// CoordinateBits returns [Codec.Bits] for sums of so many devices: the fewest with which
// the mean is as exact as that of 20 devices at 16 bits. Stochastic rounding errs in each
// device's integer by itself, without bias and with a variance of at most v = ¼, whatever
// the bits. Decode multiplies the sum of n devices by MaxWeight/(s·n·w̄), where w̄ is the mean
// of their weights and s = (2^(Bits−1)−1)/Clip, so that a coordinate of the mean has a
// standard error of at most
//
//	√(n·v)·MaxWeight/(s·n·w̄) = √v·Clip·MaxWeight/w̄ / ((2^(Bits−1)−1)·√n),
//
// which n·(2^(Bits−1)−1)² ≥ 20·(2^15−1)² keeps at the reference's: a bit fewer for each
// factor of four, 15 from 81 devices on, 14 from 321 and 13 from 1,281. Up to 80 have 16.
// Where some vanish it grows with the root of what is left, alike in small sums and large.
func CoordinateBits(devices int) int {
	largest := func(bits int) int64 { return Codec{Bits: bits}.largest() }
	b := referenceBits
	for b > 2 && int64(devices)*largest(b-1)*largest(b-1) >= referenceDevices*largest(referenceBits)*largest(referenceBits) {
		b--
	}
	return b
}

// check returns an error unless every field lies in its documented range.
func (c Codec) check() error {
	switch {
	case !(c.Clip > 0) || math.IsInf(float64(c.Clip), 0):
		return fmt.Errorf("aggregation: clip is %v, want a positive number", c.Clip)
	case c.Bits < 2 || c.Bits > 24:
		return fmt.Errorf("aggregation: %d bits a coordinate, want 2 to 24", c.Bits)
	case c.MaxWeight < 1 || c.MaxWeight > 65535:
		return fmt.Errorf("aggregation: the largest weight is %d, want 1 to 65535", c.MaxWeight)
	}
	return nil
}

// Length returns the number of ring words for an update of so many parameters:
// one each, and the weight.
func (c Codec) Length(parameters int) int { return parameters + 1 }

// largest is the largest magnitude of an encoded coordinate.
func (c Codec) largest() int64 { return 1<<(c.Bits-1) - 1 }

// scale is s in the type's doc, in integers a unit of update.
func (c Codec) scale() float64 { return float64(c.largest()) / float64(c.Clip) }

// RingBits returns the width of the smallest ring in which the encodings of so
// many devices can be summed: Bits plus the carry, or what the weights need.
func (c Codec) RingBits(devices int) int {
	carry := bits.Len(uint(max(devices, 1) - 1))
	weights := bits.Len64(uint64(max(devices, 1)) * uint64(c.MaxWeight))
	return max(c.Bits+carry, weights)
}

// Fits proves that the sum of the encodings of so many devices keeps its value in
// a ring of ringBits bits: n·(2^(Bits−1)−1) < 2^(ringBits−1) for a coordinate,
// which is signed, and n·MaxWeight < 2^ringBits for the weight, which is not.
func (c Codec) Fits(devices, ringBits int) error {
	if err := c.check(); err != nil {
		return err
	}
	if devices < 1 || devices > 1<<20 {
		return fmt.Errorf("aggregation: %d devices in a sum, want 1 to %d", devices, 1<<20)
	}
	if err := checkRing(ringBits); err != nil {
		return err
	}
	if int64(devices)*c.largest() >= 1<<(ringBits-1) || int64(devices)*int64(c.MaxWeight) >= 1<<ringBits {
		return fmt.Errorf("aggregation: %d devices at %d bits and weight %d overflow a ring of %d bits, want at least %d bits",
			devices, c.Bits, c.MaxWeight, ringBits, c.RingBits(devices))
	}
	return nil
}

// Encode writes the encoding of update with the given weight to dst, which has
// Length(len(update)) words. A weight over MaxWeight is capped; weight 0 encodes
// to zeros. The stochastic rounding draws from ChaCha8(seed) and is the same on
// every platform. It refuses NaN and infinity and then leaves dst unspecified.
func (c Codec) Encode(dst []uint32, update []float32, weight int, seed [32]byte) error {
	if err := c.check(); err != nil {
		return err
	}
	if len(dst) != c.Length(len(update)) {
		return fmt.Errorf("aggregation: encoding %d coordinates into %d words, want %d", len(update), len(dst), c.Length(len(update)))
	}
	if weight < 0 {
		return fmt.Errorf("aggregation: weight %d, want 0 or more", weight)
	}
	weight = min(weight, c.MaxWeight)
	factor := c.scale() * float64(weight) / float64(c.MaxWeight)
	clip, largest, source := float64(c.Clip), c.largest(), rand.NewChaCha8(seed)
	var drawn uint64
	for i, u := range update {
		if i&1 == 0 {
			drawn = source.Uint64()
		} else {
			drawn >>= 32
		}
		x := float64(u)
		if x-x != 0 { // NaN and ±Inf
			return fmt.Errorf("aggregation: coordinate %d of the update is %v: %w; train again at a lower rate", i, u, ErrNotFinite)
		}
		if x > clip {
			x = clip
		} else if x < -clip {
			x = -clip
		}
		z := stochasticRound(float64(factor*x), uint32(drawn))
		dst[i] = uint32(min(max(z, -largest), largest)) // the product may exceed it by a last bit
	}
	dst[len(update)] = uint32(weight)
	return nil
}

// stochasticRound rounds v, below 2^23 in magnitude, up with probability equal to its
// distance from its floor, to 32 bits, by adding as many uniform bits behind the
// point and taking the floor. There is no branch to mispredict.
func stochasticRound(v float64, uniform uint32) int64 {
	return (int64(v*(1<<32)) + int64(uniform)) >> 32
}

// Decode turns a total of encodings, as Lift makes it, into the weighted mean update,
// written to mean, which has one coordinate fewer than total has words. It returns the
// sum of the weights; where that is 0 (nobody had data) the mean is zero. A weight
// below 0 is refused: no devices' encodings sum to it.
func (c Codec) Decode(mean []float32, total []int64) (weight int, err error) {
	if err := c.check(); err != nil {
		return 0, err
	}
	if len(total) != c.Length(len(mean)) {
		return 0, fmt.Errorf("aggregation: decoding %d words into %d coordinates, want %d words", len(total), len(mean), c.Length(len(mean)))
	}
	weight = int(total[len(mean)])
	if weight < 0 || int64(weight) != total[len(mean)] {
		return 0, fmt.Errorf("aggregation: the sum of the weights is %d, want 0 to %d; the total is not one of encodings", total[len(mean)], math.MaxInt)
	}
	if weight == 0 {
		clear(mean)
		return 0, nil
	}
	factor := float64(c.MaxWeight) / float64(c.scale()*float64(weight))
	spread(len(mean), func(lo, hi int) {
		words, into := total[lo:hi], mean[lo:hi]
		for i, w := range words {
			into[i] = float32(float64(w) * factor)
		}
	})
	return weight, nil
}
