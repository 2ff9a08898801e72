package privacy

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// mostBuffers bounds the buffers of an optimised BLT: each is a vector of the model's
// size, and beyond a handful they gain nothing.
const mostBuffers = 8

// OptimiseBLT returns a BLT of so many buffers with little [BLT.Noise] for a schedule. It
// searches by simplex (Nelder, Mead 1965) over the logarithms of scales and of 1 less
// decays, which takes about a second for a thousand rounds. What it finds need not
// be the best to be right: any BLT has its own Sensitivity.
func OptimiseBLT(buffers, rounds, separation, participations int) (BLT, error) {
	switch {
	case buffers < 1 || buffers > mostBuffers:
		return BLT{}, fmt.Errorf("privacy: %d buffers, want 1 to %d", buffers, mostBuffers)
	case rounds < 1 || rounds > 100_000 || separation < 1 || participations < 1:
		return BLT{}, fmt.Errorf("privacy: %d rounds, %d apart, %d participations; want 1 to 100,000 rounds and positive numbers", rounds, separation, participations)
	}
	point := make([]float64, 2*buffers)
	for i := range buffers {
		// Decays reach over 1 round to all of them, each so many times as far as the one before.
		reach := math.Pow(float64(rounds)+1, (float64(i)+0.5)/float64(buffers))
		point[i], point[buffers+i] = -math.Log(2*float64(buffers))-math.Log(reach)/4, -math.Log(reach+1)
	}
	cost := func(point []float64) float64 {
		m := bltAt(point)
		if m.Check() != nil {
			return math.Inf(1)
		}
		return m.Noise(rounds, separation, participations)
	}
	for range 3 { // a fresh simplex gets on where an old one has collapsed
		point = simplex(cost, point, 400*buffers)
	}
	return bltAt(point), nil
}

// bltAt is the mechanism of a point of the search.
func bltAt(point []float64) BLT {
	n := len(point) / 2
	m := BLT{make([]float64, n), make([]float64, n)}
	for i := range n {
		m.Scale[i], m.Decay[i] = math.Exp(point[i]), 0-math.Expm1(min(point[n+i], 0))
	}
	return m
}

// vertex is a corner of a simplex with its cost.
type vertex struct {
	at   []float64
	cost float64
}

// simplex walks downhill from a point at which the cost is finite, for so many steps, and
// returns the lowest point that it saw.
func simplex(cost func([]float64) float64, start []float64, steps int) []float64 {
	n := len(start)
	corners := []vertex{{start, cost(start)}}
	for i := range n {
		at := slices.Clone(start)
		at[i] += 0.3
		corners = append(corners, vertex{at, cost(at)})
	}
	order := func() {
		slices.SortStableFunc(corners, func(a, b vertex) int { return cmp.Compare(a.cost, b.cost) })
	}
	order()
	for range steps {
		if flat := corners[n].cost - corners[0].cost; flat <= 1e-9*corners[0].cost {
			break
		}
		worst := &corners[n]
		centre := make([]float64, n)
		for _, v := range corners[:n] {
			for i, x := range v.at {
				centre[i] += x / float64(n)
			}
		}
		// along is the point so many times as far from the centre as the worst one.
		along := func(far float64) vertex {
			at := make([]float64, n)
			for i, c := range centre {
				at[i] = c + far*(worst.at[i]-c)
			}
			return vertex{at, cost(at)}
		}
		next := along(-1)
		switch {
		case next.cost < corners[0].cost:
			if further := along(-2); further.cost < next.cost {
				next = further
			}
		case next.cost >= corners[n-1].cost:
			if next = along(0.5); next.cost >= worst.cost { // all corners move half way to the best
				for k := 1; k <= n; k++ {
					for i, x := range corners[0].at {
						corners[k].at[i] = (corners[k].at[i] + x) / 2
					}
					corners[k].cost = cost(corners[k].at)
				}
				order()
				continue
			}
		}
		*worst = next
		order()
	}
	return corners[0].at
}
