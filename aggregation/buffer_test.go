package aggregation

import (
	"math"
	"testing"
)

// TestBufferByHand holds the mean of three cohorts, of which two are late, to sums done
// by hand: s(0) = 1, s(3) = 1/2, s(8) = 1/3.
func TestBufferByHand(t *testing.T) {
	b := NewBuffer(2)
	mean := []float32{5, 5}
	if b.Mean(mean); mean[0] != 0 || mean[1] != 0 {
		t.Errorf("an empty buffer has the mean %v", mean)
	}
	b.Add([]float32{1, -2}, 10, 0)
	b.Add([]float32{4, 0.5}, 20, 3)
	b.Add([]float32{-3, 6}, 30, 8)
	b.Add([]float32{7, 7}, 0, 0) // nobody had data
	b.Mean(mean)
	// (10·1 + 20·4/2 − 30·3/3) / 60 and (−10·2 + 20·0.5/2 + 30·6/3) / 60.
	if math.Abs(float64(mean[0])-20./60) > 1e-7 || math.Abs(float64(mean[1])-45./60) > 1e-7 {
		t.Errorf("the mean is %v, want 1/3 and 3/4", mean)
	}
	// Fresh sums of one weight give the mean that FedAvg steps by (K = 2).
	b = NewBuffer(1)
	b.Add([]float32{1}, 5, 0)
	b.Add([]float32{2}, 5, 0)
	if b.Mean(mean[:1]); mean[0] != 1.5 {
		t.Errorf("the mean of 1 and 2 is %v", mean[0])
	}
	if Staleness(0) != 1 || Staleness(3) != 0.5 || Staleness(15) != 0.25 {
		t.Error("the weights are not 1/√(1+τ)")
	}
}
