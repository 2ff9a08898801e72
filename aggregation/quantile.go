package aggregation

import (
	"fmt"
	"math"
)

// A clip that moves from round to round towards a quantile of the norms of the devices'
// updates (Andrew, Thakkar, McMahan, Ramaswamy 2021, "Differentially private learning with
// adaptive clipping", algorithm 1): nobody has to guess how long updates are, and where they
// get shorter there is less noise, which is in proportion to the clip.
//
// Each device votes, in one more word of its vector, whether its update keeps to the clip;
// the word gets noise as all others do. With q the quantile and P the share of updates
// that keep to the clip C,
//
//	C ← C·exp(−0.2·(P − q))
//
// A vote is +Below or −Above, and P − q is the sum of the votes over (Below + Above) times
// the devices. A device whose update is zeros votes 0: what it sends says as little of it as
// before, and C comes to the quantile of the others.

const (
	// clipRate is η_C, how far a round moves the logarithm of a clip at most.
	clipRate = 0.2
	// ClipRange is how many times larger or smaller than at first a clip becomes at most.
	ClipRange = 1 << 10
	// quantiles is the number of parts that a quantile is counted in: a vote of as many, or
	// of a multiple, has it exactly.
	quantiles = 20
	// noiseOfVotes is the standard deviation of the noise in a sum of votes in parts of the
	// cohort, and leastOfVotes the least that it is in noise multipliers, so that a vote takes
	// no more than a sixteenth of what a vector may cost where the quantile is ½.
	noiseOfVotes = 1. / 20
	leastOfVotes = 2
)

// NewAdaptiveGaussian is [NewDiscreteGaussian] with votes on the clip, for cohorts of so many
// devices and a quantile of parts twentieths, 1 to 19. Honest devices' noise of multiplier
// times the norm covers update and vote together. Its standard deviation, in terms of how far
// the two votes lie apart, is max(devices/20, 2·multiplier), the first as in the paper; votes
// lie a multiple of 20 apart, so that it is somewhat more, and less where that is 20 alone.
func NewAdaptiveGaussian(clip float32, multiplier float64, honest, devices, parameters, parts int) (DiscreteGaussian, error) {
	if devices < 1 || parts < 1 || parts >= quantiles {
		return DiscreteGaussian{}, fmt.Errorf("aggregation: a quantile of %d parts of %d over %d devices, want 1 to %d of at least 1", parts, quantiles, devices, quantiles-1)
	}
	g, err := NewDiscreteGaussian(clip, multiplier, honest, parameters)
	if err != nil {
		return g, err
	}
	worth := max(float64(float64(devices)*noiseOfVotes), leastOfVotes*multiplier)
	each := max(1, int(multiplier*g.Norm(parameters)/worth)/quantiles)
	g.Below, g.Above = each*(quantiles-parts), each*parts
	g.Sigma = sigmaFor(multiplier, g.Norm(parameters), honest)
	return g, g.check()
}

// Votes tells whether devices vote on the clip.
func (g DiscreteGaussian) Votes() bool { return g.Below != 0 }

// vote is what a device says whose update has that norm.
func (g DiscreteGaussian) vote(norm float64) uint32 {
	switch {
	case norm == 0:
		return 0
	case norm <= float64(g.Clip):
		return uint32(g.Below)
	}
	return -uint32(g.Above)
}

// loudest is the largest vote.
func (g DiscreteGaussian) loudest() float64 { return float64(max(g.Below, g.Above)) }

func (g DiscreteGaussian) checkVotes() error {
	if g.Below == 0 && g.Above == 0 || min(g.Below, g.Above) >= 1 && max(g.Below, g.Above) <= mostScaled {
		return nil
	}
	return fmt.Errorf("aggregation: votes of %d and −%d on the clip, want 1 to %d of both, or of neither", g.Below, g.Above, mostScaled)
}

// NextClip is the clip after a round whose votes, of so many devices, add up to that much
// with their noise. A sum beyond what all of them can say counts as that, so that noise, or
// a device that does not keep to the protocol, moves it no further than a round can; and it
// stays within ClipRange of what it was in the first round.
func (g DiscreteGaussian) NextClip(first float32, votes int64, devices int) float32 {
	all := float64(g.Below + g.Above)
	share := float64(votes) / float64(all*float64(max(devices, 1))) // P − q
	share = min(max(share, -float64(g.Above)/all), float64(g.Below)/all)
	next := float64(g.Clip) * math.Exp(-float64(clipRate*share))
	return float32(min(max(next, float64(first)/ClipRange), float64(first)*ClipRange))
}
