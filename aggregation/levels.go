package aggregation

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/discreet-fl/discreet/aggregation/noise"
)

// Level is a part of every device's noise that comes off a sum again where so many devices
// are in it: the others' is enough without. The device draws it from a seed of its own,
// which the sum gives back then and only then.
type Level struct {
	Survivors int     // from which on it comes off
	Sigma     float64 // standard deviation in whole numbers, noise.MinSigma to noise.MaxSigma
}

const (
	// MostLevels bounds the levels: each is one more draw a coordinate on every device.
	MostLevels = 8
	// overshoot is how much larger than what was asked for the variance of a sum's noise may
	// be, over all its devices: 1.1² for 10% in standard deviation.
	overshoot = 1.21
)

// Survivors returns the numbers of survivors, of least to most in a cohort, at which a part
// of the noise comes off: as few as keep the standard deviation of what is left, the noise of
// all survivors together, within 10% of what was asked for, which those have to come up
// to that are not corrupt. Where the corrupt ones' share alone is more than that, or MostLevels
// are not enough, it is as near as they come. Where the cohort is hardly larger than the
// least, there are none.
func Survivors(least, most, corrupt int) []int {
	if corrupt < 0 || least <= corrupt || most <= least {
		return nil
	}
	// Noise for least−corrupt devices that least devices add is more by this much anyway.
	ratio := max(overshoot, float64(least)/float64(least-corrupt))
	for {
		list, from := []int(nil), least
		for len(list) <= MostLevels {
			next := max(from, int(ratio*float64(from-corrupt))) + 1 // the first beyond
			if next > most {
				return list
			}
			list, from = append(list, next), next
		}
		ratio *= 1.01
	}
}

// Levelled is the mechanism with noise that comes off, at [Survivors], of sums over least to
// most devices of which so many may be corrupt. What is left of the others' noise is then no
// less than multiplier times the norm at any number of survivors. Every part has a sigma of
// at least noise.MinSigma, for which the scale is raised where need be, and votes with it.
func (g DiscreteGaussian) Levelled(multiplier float64, least, most, corrupt, parameters int) (DiscreteGaussian, error) {
	at := Survivors(least, most, corrupt)
	if len(at) == 0 {
		return g, g.check()
	}
	// A sum over h devices needs V = (multiplier·norm)², V/h of each: what comes off from h
	// to the next level's is V(1/h − 1/next), what stays V over the last. shares are the roots
	// of that without V.
	shares := make([]float64, 0, len(at)+1)
	h := float64(least - corrupt)
	for _, n := range at {
		next := float64(n - corrupt)
		shares, h = append(shares, math.Sqrt(1/h-1/next)), next
	}
	shares = append(shares, math.Sqrt(1/h))
	if raised := noise.MinSigma / float64(multiplier*slices.Min(shares)*float64(g.Scale*float64(g.Clip))); raised > 1 {
		g.Scale *= raised
		g.Below, g.Above = g.Below*int(raised), g.Above*int(raised)
	}
	total := multiplier * g.Norm(parameters)
	g.Levels = nil
	for i, n := range at {
		g.Levels = append(g.Levels, Level{n, max(noise.MinSigma, float64(total*shares[i]))})
	}
	g.Sigma = max(noise.MinSigma, float64(total*shares[len(at)]))
	return g, g.check()
}

// Sigmas are the standard deviations of a device's noise: of each level, and at the end of
// what stays.
func (g DiscreteGaussian) Sigmas() []float64 {
	list := make([]float64, 0, len(g.Levels)+1)
	for _, l := range g.Levels {
		list = append(list, l.Sigma)
	}
	return append(list, g.Sigma)
}

// Whole is the standard deviation of all noise that a device adds: what stays and what may
// come off.
func (g DiscreteGaussian) Whole() float64 { return g.sigmaOf(0) }

// sigmaOf is the standard deviation of a device's noise that is left when so many levels
// are off.
func (g DiscreteGaussian) sigmaOf(off int) float64 {
	square := 0.0
	for _, s := range g.Sigmas()[off:] {
		square += float64(s * s)
	}
	return math.Sqrt(square)
}

// Reached is how many levels come off a sum of so many devices.
func (g DiscreteGaussian) Reached(survivors int) int {
	n := 0
	for _, l := range g.Levels {
		if survivors >= l.Survivors {
			n++
		}
	}
	return n
}

// Left is the standard deviation, in whole numbers, of the noise in a coordinate of a sum of
// so many devices that have all added theirs, once what comes off it is off.
func (g DiscreteGaussian) Left(survivors int) float64 {
	return math.Sqrt(float64(survivors)) * g.sigmaOf(g.Reached(survivors))
}

// Overshoot is the most that noise of all devices in a sum over least to most of them, of
// which honest are relied on at the least, is larger than what was asked for: 1 is no larger.
func (g DiscreteGaussian) Overshoot(honest, least, most int) float64 {
	worst := 0.0
	for n := least; n <= most; n++ {
		worst = max(worst, g.Left(n))
	}
	return worst / (math.Sqrt(float64(honest)) * g.Whole())
}

func (g DiscreteGaussian) checkLevels() error {
	if len(g.Levels) > MostLevels {
		return fmt.Errorf("aggregation: %d levels of noise, want at most %d", len(g.Levels), MostLevels)
	}
	before := 0
	for _, l := range g.Levels {
		if l.Survivors <= before {
			return fmt.Errorf("aggregation: a level of noise at %d survivors after one at %d, want numbers that ascend", l.Survivors, before)
		}
		if !(l.Sigma >= noise.MinSigma && l.Sigma <= noise.MaxSigma) {
			return fmt.Errorf("aggregation: noise of σ %v that comes off at %d survivors, want %d to %d; let cohorts have more survivors, or fewer", l.Sigma, l.Survivors, noise.MinSigma, noise.MaxSigma)
		}
		before = l.Survivors
	}
	return nil
}

// AddLevels adds the noise of levels, from a number of them on, to a device's vector: that of
// each by its seed. The vector's other words stay as they are.
func (l Layout) AddLevels(vector []uint32, seeds [][32]byte, from int) error {
	levels := l.Noise.Levels
	if len(seeds) != len(levels) || from < 0 || from > len(levels) || len(vector) != l.Length() {
		return fmt.Errorf("aggregation: seeds of %d levels, from %d on, for %d and a vector of %d words, want %d", len(seeds), from, len(levels), len(vector), l.Length())
	}
	for i := from; i < len(levels); i++ {
		sampler, err := noise.New(levels[i].Sigma)
		if err != nil {
			return err
		}
		sampler.Add(vector[:l.Noise.Noised(l.Parameters)], seeds[i])
	}
	return nil
}

// RemoveLevels takes the noise of the levels that it is given the seeds of, by level and then
// by device, off a sum of vectors, on all cores.
func (l Layout) RemoveLevels(sum []uint32, seeds [][][32]byte) error {
	if len(seeds) > len(l.Noise.Levels) || len(sum) != l.Length() {
		return fmt.Errorf("aggregation: seeds of %d levels for %d, and a sum of %d words, want %d", len(seeds), len(l.Noise.Levels), len(sum), l.Length())
	}
	var parts []levelPart
	for i, list := range seeds {
		sampler, err := noise.New(l.Noise.Levels[i].Sigma)
		if err != nil {
			return err
		}
		for at := range list {
			parts = append(parts, levelPart{sampler, &list[at]})
		}
	}
	removeParts(sum[:l.Noise.Noised(l.Parameters)], parts)
	return nil
}

// levelPart is one device's noise of one level.
type levelPart struct {
	sampler *noise.Sampler
	seed    *[32]byte
}

// removeParts has every core but one gather parts in words of its own: streams cannot be
// begun in their middle.
func removeParts(words []uint32, parts []levelPart) {
	const mostCores = 16 // each has words of its own
	var next atomic.Int64
	gather := func(into []uint32) {
		for {
			i := int(next.Add(1)) - 1
			if i >= len(parts) {
				return
			}
			parts[i].sampler.Subtract(into, *parts[i].seed)
		}
	}
	gathered := make([][]uint32, min(runtime.GOMAXPROCS(0), mostCores, max(1, len(parts)))-1)
	var group sync.WaitGroup
	for i := range gathered {
		gathered[i] = make([]uint32, len(words))
		group.Go(func() { gather(gathered[i]) })
	}
	gather(words)
	group.Wait()
	for _, own := range gathered {
		for i, w := range own {
			words[i] += w
		}
	}
}
