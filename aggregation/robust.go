package aggregation

import (
	"fmt"
	"math"
	"slices"
)

// The fewest and the most cohorts whose means are combined one by one. Below five, two
// that lie decide; a coordinator holds a total of 8 bytes a word for each.
const (
	MinApart = 5
	MaxApart = 100
)

// Sums takes the sums of a round's cohorts as they come: it adds them up, or keeps each
// by itself for a strategy that combines their means.
type Sums struct {
	// Totals is one total, or that of each cohort, as Layout places its words.
	Totals [][]int64
	length int
	apart  bool
}

// Sums returns a place for a round's sums of so many words. The choice has passed Check.
func (c Choice) Sums(length int) *Sums { return &Sums{length: length, apart: c.Apart()} }

// Add takes a cohort's sum, from a ring of ringBits bits, as Lift does.
func (s *Sums) Add(sum []uint32, signed, ringBits int) {
	if s.apart || len(s.Totals) == 0 {
		s.Totals = append(s.Totals, make([]int64, s.length))
	}
	Lift(s.Totals[len(s.Totals)-1], sum, signed, ringBits)
}

// Whole is the total of all cohorts. It may be a view on Totals.
func (s *Sums) Whole() []int64 {
	if len(s.Totals) == 1 {
		return s.Totals[0]
	}
	whole := make([]int64, s.length)
	for _, total := range s.Totals {
		for i, w := range total {
			whole[i] += w
		}
	}
	return whole
}

// Apart tells whether the strategy combines the means of cohorts one by one, so that
// rounds need MinApart to MaxApart of them. The choice has passed Check.
func (c Choice) Apart() bool {
	k, err := c.kind()
	if err != nil {
		panic(err.Error())
	}
	return k.trim != nil
}

// Mean turns a round's sums into the mean update, written to mean. Where the layout has a
// scalar the mean is multiplied by its Factor. A strategy that combines cohorts takes in
// every coordinate the middle of their means, each of one weight, and leaves out cohorts in which nobody had data; with fewer than MinApart left it is an
// error. The choice has passed Check.
func (c Choice) Mean(mean []float32, l Layout, s *Sums) error {
	for _, total := range s.Totals {
		if len(total) != l.Length() {
			return fmt.Errorf("aggregation: a total of %d words, want %d", len(total), l.Length())
		}
	}
	if !c.Apart() {
		if len(s.Totals) != 1 {
			return fmt.Errorf("aggregation: %d totals, want 1", len(s.Totals))
		}
		weights, err := l.decode(mean, s.Totals[0])
		if err == nil && l.Scalar != nil {
			scale(mean, l.Scalar.Factor(weights, s.Totals[0][l.Length()-1]))
		}
		return err
	}
	var cohorts [][]float32
	for _, total := range s.Totals {
		own := make([]float32, len(mean))
		weight, err := l.decode(own, total)
		if err != nil {
			return err
		}
		if weight > 0 {
			cohorts = append(cohorts, own)
		}
	}
	if len(cohorts) < MinApart {
		return fmt.Errorf("aggregation: strategy %s over the sums of %d cohorts, want at least %d: let rounds have more devices, or smaller cohorts", c.Name, len(cohorts), MinApart)
	}
	k, err := c.kind()
	if err != nil {
		return err
	}
	TrimmedMean(mean, cohorts, k.trim(c.values(), len(cohorts)))
	return nil
}

// TrimmedMean writes to mean, coordinate by coordinate, the mean of what is left of the
// vectors' values without the trim smallest and the trim largest. As many as can be, so
// that one or two are left, give the median (Yin et al. 2018, "Byzantine-robust
// distributed learning: towards optimal statistical rates", definitions 1 and 2). What up
// to trim vectors say then moves a coordinate no further than the others' range. The order
// of the vectors does not matter. It panics where nothing would be left.
func TrimmedMean(mean []float32, vectors [][]float32, trim int) {
	if trim < 0 || 2*trim >= len(vectors) {
		panic(fmt.Sprintf("aggregation: trimming %d of %d vectors on either side, want fewer than half of them", trim, len(vectors)))
	}
	spread(len(mean), func(lo, hi int) {
		values := make([]float32, len(vectors))
		for i := lo; i < hi; i++ {
			for j, v := range vectors {
				values[j] = v[i]
			}
			slices.Sort(values)
			var sum float64
			for _, x := range values[trim : len(values)-trim] {
				sum += float64(x)
			}
			mean[i] = float32(sum / float64(len(values)-2*trim))
		}
	})
}

// medianTrim leaves the one or two values in the middle of n.
func medianTrim(_ map[string]float64, n int) int { return (n - 1) / 2 }

// shareTrim leaves out a share of n on either side, rounded down.
func shareTrim(numbers map[string]float64, n int) int {
	return min(int(math.Floor(numbers["share"]*float64(n)+1e-9)), (n-1)/2)
}
