package aggregation

import (
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"

	"github.com/discreet-fl/discreet/aggregation/noise"
)

// DiscreteGaussian maps a client update to words of an integer ring with noise in them,
// so that the sum over a cohort is differentially private before anybody sees it: the
// distributed discrete Gaussian mechanism (Kairouz, Liu, Steinke 2021, "The distributed
// discrete Gaussian mechanism for federated learning with secure aggregation", algorithms
// 1 and 2), without the rotation, which only serves to save bits of the ring.
//
//  1. The update is clipped to an L2 norm of Clip, and multiplied by Scale.
//  2. Its coordinates are rounded stochastically, again and again until the L2 norm of
//     the whole numbers is at most Norm; after 64 tries zeros take their place.
//  3. Noise is added to each, from the discrete Gaussian distribution N_Z(0, Sigma²).
//
// All devices weigh the same, which is what the last word says: 1. A device without data
// adds its noise to zeros. Where the clip moves there is a word between the two, of a vote
// on it, with noise as in the update's ([NewAdaptiveGaussian]).
//
// What a sum then gives away depends on the number of devices that added their noise and
// keep it to themselves: package privacy has the formula, SummedRho.
type DiscreteGaussian struct {
	Clip  float32 // bound on the L2 norm of an update
	Scale float64 // whole numbers a unit of update
	Sigma float64 // standard deviation of the noise of a device that stays in sums, in whole numbers, noise.MinSigma to noise.MaxSigma; 0 where the coordinator adds Correlated noise
	// Levels are what a device adds beside it and comes off again where enough survive, by
	// survivors, ascending; see Levelled.
	Levels []Level
	// Below is the vote of a device whose update keeps to Clip and −Above that of another;
	// 0 where there are no votes.
	Below, Above int
}

const (
	// mostScaled bounds Clip·Scale: rounding works on numbers below 2^23.
	mostScaled = 1 << 22
	// roundingTries is how often an update is rounded. One try fails with a probability of
	// at most e^−½, all of them with less than 2^−46.
	roundingTries = 64
	// overflowSigmas is how many standard deviations of its noise a sum has room for. A
	// coordinate goes beyond them with a probability below 2.3·10^−19, one of four million
	// with less than 10^−12.
	overflowSigmas = 9
	// roundingShare is what rounding may add to the squared norm of a clipped update, which
	// then costs 1% in noise.
	roundingShare = 0.02
)

// NewDiscreteGaussian returns the mechanism for updates of so many parameters whose sum,
// where honest devices keep their noise to themselves, has noise of multiplier times the
// norm that one device can change it by. It takes the smallest scale at which rounding adds
// about 1% to that norm, and Sigma is no less than noise.MinSigma.
func NewDiscreteGaussian(clip float32, multiplier float64, honest, parameters int) (DiscreteGaussian, error) {
	if !(clip > 0) || math.IsInf(float64(clip), 0) || !(multiplier > 0) || math.IsInf(multiplier, 0) || honest < 1 || parameters < 1 {
		return DiscreteGaussian{}, fmt.Errorf("aggregation: clip %v, a noise multiplier of %v, %d honest devices and %d parameters, want positive numbers", clip, multiplier, honest, parameters)
	}
	scaled := max(math.Sqrt(float64(parameters)/(4*roundingShare)), noise.MinSigma*math.Sqrt(float64(honest))/multiplier)
	g := DiscreteGaussian{Clip: clip, Scale: scaled / float64(clip)}
	g.Sigma = sigmaFor(multiplier, g.Norm(parameters), honest)
	return g, g.check()
}

// sigmaFor is the σ of a device of which so many together have multiplier times the norm.
func sigmaFor(multiplier, norm float64, honest int) float64 {
	return max(noise.MinSigma, multiplier*norm/math.Sqrt(float64(honest)))
}

// NewCentral returns the mechanism for updates of so many parameters to whose sum the
// coordinator adds [Correlated] noise: devices bound the norm and add none.
func NewCentral(clip float32, parameters int) (DiscreteGaussian, error) {
	if !(clip > 0) || math.IsInf(float64(clip), 0) || parameters < 1 {
		return DiscreteGaussian{}, fmt.Errorf("aggregation: clip %v and %d parameters, want positive numbers", clip, parameters)
	}
	g := DiscreteGaussian{Clip: clip, Scale: math.Sqrt(float64(parameters)/(4*roundingShare)) / float64(clip)}
	return g, g.check()
}

// Finer decodes totals that are in units of noise, as [Correlated] leaves them. Its Norm is
// of no use: updates are rounded to whole numbers, which have 2^NoiseBits units each.
func (g DiscreteGaussian) Finer() DiscreteGaussian {
	g.Scale *= 1 << NoiseBits
	return g
}

// check returns an error unless every field lies in its documented range.
func (g DiscreteGaussian) check() error {
	scaled := g.Scale * float64(g.Clip)
	switch {
	case !(g.Clip > 0) || math.IsInf(float64(g.Clip), 0):
		return fmt.Errorf("aggregation: clip is %v, want a positive number", g.Clip)
	case !(g.Scale > 0) || !(scaled >= 1 && scaled <= mostScaled):
		return fmt.Errorf("aggregation: scale %v and clip %v make a norm of %v, want 1 to %d; change the clip or the noise", g.Scale, g.Clip, scaled, mostScaled)
	case g.Sigma != 0 && !(g.Sigma >= noise.MinSigma && g.Sigma <= noise.MaxSigma):
		return fmt.Errorf("aggregation: noise of σ %v, want %d to %d; let cohorts have more survivors, or fewer", g.Sigma, noise.MinSigma, noise.MaxSigma)
	}
	if err := g.checkLevels(); err != nil {
		return err
	}
	return g.checkVotes()
}

// Length returns the number of ring words for an update of so many parameters: one each,
// the vote where there is one, and the weight.
func (g DiscreteGaussian) Length(parameters int) int { return g.Noised(parameters) + 1 }

// Noised is how many of them have noise: all but the last.
func (g DiscreteGaussian) Noised(parameters int) int {
	if g.Votes() {
		return parameters + 1
	}
	return parameters
}

// Norm is Δ̃₂, the largest L2 norm of what a device adds its noise to, and so what one
// device can change a sum by. With x = Scale·Clip and d parameters it is the root of
//
//	min{(x + √d)², x² + d/4 + x + √d/2} + max{Below, Above}²
//
// (proposition 22 of the paper, with β = e^−½; a vote is one more coordinate).
func (g DiscreteGaussian) Norm(parameters int) float64 {
	return math.Sqrt(g.square(parameters) + float64(g.loudest()*g.loudest()))
}

// square is what Norm² is without the vote.
func (g DiscreteGaussian) square(parameters int) float64 {
	x, d := float64(g.Scale*float64(g.Clip)), float64(parameters)
	root := math.Sqrt(d)
	return min(float64((x+root)*(x+root)), float64(x*x)+d/4+x+root/2)
}

// RingBits returns the width of the smallest ring in which the encodings of so many
// devices can be summed. It may be more than the 32 bits that there are.
func (g DiscreteGaussian) RingBits(devices, parameters int) int {
	return 1 + bits.Len64(uint64(g.most(devices, parameters)))
}

// most is the largest magnitude that a coordinate of a sum is given room for, and no less
// than the sum of the weights.
func (g DiscreteGaussian) most(devices, parameters int) int64 {
	n := float64(max(devices, 1))
	return int64(min(float64(n*g.Norm(parameters))+float64(float64(overflowSigmas*g.Whole())*math.Sqrt(n))+n, 1<<40))
}

// Fits proves that the sum of the encodings of so many devices keeps its value in a ring of
// ringBits bits: n·Norm + 9·√n·σ < 2^(ringBits−1), σ being of all noise of a device. The
// first term is certain, of a vote as of every other coordinate; the second holds in each
// but for a probability of 2.3·10^−19.
func (g DiscreteGaussian) Fits(devices, parameters, ringBits int) error {
	if err := g.check(); err != nil {
		return err
	}
	if devices < 1 || devices > 1<<20 || parameters < 1 {
		return fmt.Errorf("aggregation: %d devices in a sum of %d parameters, want 1 to %d and at least 1", devices, parameters, 1<<20)
	}
	if err := checkRing(ringBits); err != nil {
		return err
	}
	if g.most(devices, parameters) >= 1<<(ringBits-1) {
		return fmt.Errorf("aggregation: %d devices at scale %v with noise of σ %v overflow a ring of %d bits, want at least %d bits",
			devices, g.Scale, g.Sigma, ringBits, g.RingBits(devices, parameters))
	}
	return nil
}

// Encode writes the noised encoding of update to dst, which has Length(len(update)) words.
// Rounding draws from ChaCha8 with one seed and noise with another; who knows the second
// can take the noise off again. That of levels is not in it: [Layout.AddLevels] adds it. The result is the same on every platform. It refuses
// NaN and infinity and then leaves dst unspecified.
func (g DiscreteGaussian) Encode(dst []uint32, update []float32, rounding, noising [32]byte) error {
	if err := g.check(); err != nil {
		return err
	}
	if len(dst) != g.Length(len(update)) {
		return fmt.Errorf("aggregation: encoding %d coordinates into %d words, want %d", len(update), len(dst), g.Length(len(update)))
	}
	norm, err := norm2(update)
	if err != nil {
		return err
	}
	factor := g.Scale
	if norm > float64(g.Clip) {
		factor = float64(g.Scale * float64(float64(g.Clip)/norm))
	}
	words := dst[:len(update)]
	g.round(words, update, factor, rounding)
	if g.Votes() {
		dst[len(update)] = g.vote(norm)
	}
	noised := dst[:g.Noised(len(update))]
	dst[len(noised)] = 1
	if g.Sigma == 0 {
		return nil
	}
	sampler, err := noise.New(g.Sigma)
	if err != nil {
		return err
	}
	sampler.Add(noised, noising)
	return nil
}

// norm2 is the L2 norm of an update.
func norm2(update []float32) (float64, error) {
	var sum float64
	for i, u := range update {
		x := float64(u)
		if x-x != 0 { // NaN and ±Inf
			return 0, fmt.Errorf("aggregation: coordinate %d of the update is %v: %w; train again at a lower rate", i, u, ErrNotFinite)
		}
		sum += float64(x * x)
	}
	return math.Sqrt(sum), nil
}

// round writes factor times the update to words, in whole numbers whose L2 norm is at most
// Norm.
func (g DiscreteGaussian) round(words []uint32, update []float32, factor float64, seed [32]byte) {
	source := rand.NewChaCha8(seed)
	most := uint64(g.square(len(update)))
	for range roundingTries {
		var square, drawn uint64
		for i, u := range update {
			if i&1 == 0 {
				drawn = source.Uint64()
			} else {
				drawn >>= 32
			}
			z := stochasticRound(float64(factor*float64(u)), uint32(drawn))
			square += uint64(z * z)
			words[i] = uint32(z)
		}
		if square <= most {
			return
		}
	}
	clear(words)
}

// Decode turns a total of encodings, as Lift makes it, into the mean update, written to
// mean, of which total has the Length. It returns the number of devices; a total of none
// is refused.
func (g DiscreteGaussian) Decode(mean []float32, total []int64) (devices int, err error) {
	if err := g.check(); err != nil {
		return 0, err
	}
	if len(total) != g.Length(len(mean)) {
		return 0, fmt.Errorf("aggregation: decoding %d words into %d coordinates, want %d words", len(total), len(mean), g.Length(len(mean)))
	}
	n := total[len(total)-1]
	if n < 1 || int64(int(n)) != n {
		return 0, fmt.Errorf("aggregation: a sum over %d devices, want 1 to %d; the total is not one of encodings", n, math.MaxInt)
	}
	factor := 1 / float64(g.Scale*float64(n))
	spread(len(mean), func(lo, hi int) {
		words, into := total[lo:hi], mean[lo:hi]
		for i, w := range words {
			into[i] = float32(float64(w) * factor)
		}
	})
	return int(n), nil
}
