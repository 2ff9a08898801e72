package aggregation

import (
	"slices"
	"strings"
	"testing"
)

func TestTrimmedMeanByHand(t *testing.T) {
	vectors := [][]float32{{1, 5}, {2, -7}, {1000, 5}, {3, 5}, {-9, 6}}
	for trim, want := range [][]float32{{997.0 / 5, 14.0 / 5}, {2, 5}, {2, 5}} {
		mean := make([]float32, 2)
		TrimmedMean(mean, vectors, trim)
		if !slices.Equal(mean, want) {
			t.Errorf("trimmed by %d: %v, want %v", trim, mean, want)
		}
	}
	// Of six the median is the mean of the two in the middle.
	mean := make([]float32, 2)
	TrimmedMean(mean, append(vectors, []float32{2.5, 8}), medianTrim(nil, 6))
	if want := []float32{2.25, 5}; !slices.Equal(mean, want) {
		t.Errorf("median of six: %v, want %v", mean, want)
	}
}

// Cohorts that lie move the mean of all and not the middle of them.
func TestRobustStrategiesOverCohorts(t *testing.T) {
	codec := Codec{Clip: 4, Bits: 16, MaxWeight: 1}
	values := []float32{1, 1, 4, 1, 1, 1, 4, 0} // the last one has no data
	for name, want := range map[string]float32{"fedavg": 13.0 / 7, "median": 1, "trimmed:share=0.3": 1} {
		c, err := ParseChoice(name)
		if err != nil {
			t.Fatal(err)
		}
		sums := c.Sums(2)
		for i, v := range values {
			words := make([]uint32, 2)
			weight := 1
			if i == len(values)-1 {
				weight = 0
			}
			if err := codec.Encode(words, []float32{v}, weight, [32]byte{}); err != nil {
				t.Fatal(err)
			}
			sums.Add(words, len(words)-1, 20)
		}
		mean := make([]float32, 1)
		if err := c.Mean(mean, Layout{Codec: codec, Parameters: 1}, sums); err != nil || mean[0] < want-1e-3 || mean[0] > want+1e-3 {
			t.Errorf("%s: %v, %v; want %v", name, mean, err, want)
		}
		if !c.Apart() {
			continue
		}
		sums.Totals = sums.Totals[3:] // four with data
		if err := c.Mean(mean, Layout{Codec: codec, Parameters: 1}, sums); err == nil || !strings.Contains(err.Error(), "4 cohorts, want at least 5") {
			t.Errorf("%s over four cohorts: %v", name, err)
		}
	}
}
