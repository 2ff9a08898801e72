package privacy

import "math"

// ParticipationSensitivity is the L2 sensitivity of the factorisation whose matrix has
// the coefficients c on and below its diagonal, c[0] first, over as many rounds as there
// are coefficients, for devices that take part at most participations times and in
// rounds whose numbers differ by at least separation:
//
//	√Σ_t (Σ_{j<k} c_{t−jb})²
//
// (Dvijotham et al. 2024, "Efficient and near-optimal noise generation for streaming
// differential privacy"; Kalinin, Lampert 2024, "Banded square root matrix factorization
// for differentially private model training", Theorem 2). It is right where the
// coefficients do not increase and are not negative, and +Inf elsewhere. The same update
// of norm 1 in the first round that it can be, and again as soon as may be, is the worst.
func ParticipationSensitivity(c []float64, separation, participations int) float64 {
	if separation < 1 || participations < 0 {
		return math.Inf(1)
	}
	for t, x := range c {
		if !sensible(x) || t > 0 && x > c[t-1] {
			return math.Inf(1)
		}
	}
	// A sum of participations coefficients goes on from the one a separation before.
	squared, sums := 0.0, make([]float64, len(c))
	for t := range c {
		if participations > 0 {
			sums[t] = c[t]
		}
		if before := t - separation; before >= 0 {
			sums[t] += sums[before]
			if gone := (t - before) * participations; participations > 0 && gone <= t {
				sums[t] -= c[t-gone]
			}
		}
		squared += sums[t] * sums[t]
	}
	return math.Sqrt(squared)
}

// TreeSensitivity is the squared L2 sensitivity of binary-tree aggregation over so many
// rounds, for devices that take part at most participations times and in rounds whose
// numbers differ by at least separation: the most, over all such choices of rounds, of
// the sum over the tree's complete nodes of the square of how often the device is below
// it (Kairouz et al. 2021, "Practical and private (deep) learning without sampling or
// shuffling", Appendix D). It is for comparing with others' figures.
func TreeSensitivity(rounds, separation, participations int) float64 {
	if rounds < 0 || separation < 1 || participations < 0 {
		return math.Inf(1)
	}
	tree := treeSearch{separation: separation, known: map[treePart]float64{}}
	best := 0.0
	for count := 0; count <= min(participations, rounds); count++ {
		best = max(best, tree.most(treePart{rounds: rounds, count: count}))
	}
	return best
}

// treePart is a row of rounds in which a device takes part so often, not in the first
// rounds up to before nor in the last ones from after on.
type treePart struct{ rounds, count, before, after int }

type treeSearch struct {
	separation int
	known      map[treePart]float64
}

// most is the largest sum of squares of a part, −Inf where the device cannot take part so
// often in it. A whole power of two is a node by itself, with two halves; anything else
// falls into the largest whole power and the rest.
func (s treeSearch) most(p treePart) float64 {
	room := p.rounds - p.before - p.after
	switch {
	case p.count == 0:
		return 0
	case room < 1 || (p.count-1)*s.separation >= room:
		return math.Inf(-1)
	case p.rounds == 1:
		return 1
	}
	if value, ok := s.known[p]; ok {
		return value
	}
	left, own := 1, 0.0
	for 2*left < p.rounds {
		left *= 2
	}
	if 2*left == p.rounds {
		own = float64(p.count * p.count)
	}
	best := math.Inf(-1)
	for count := 0; count <= p.count; count++ { // in the left part
		// Where the device is in both parts, the gap between is split in every way.
		gap := s.separation - 1
		if count == 0 || count == p.count {
			gap = 0
		}
		for after := 0; after <= gap; after++ {
			l, r := treePart{left, count, p.before, after}, treePart{p.rounds - left, p.count - count, gap - after, p.after}
			if count == p.count { // all on the left, where the last rounds of all may lie
				l.after = max(0, p.after-(p.rounds-left))
			}
			if count == 0 {
				r.before = max(0, p.before-left)
			}
			best = max(best, s.most(l)+s.most(r))
		}
	}
	s.known[p] = own + best
	return own + best
}
