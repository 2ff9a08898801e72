package simulate

import (
	"math"
	"testing"
)

func TestAloneMean(t *testing.T) {
	three := []aloneScore{{0, 0.2}, {3, 0.4}, {1, 0.3}}
	for _, c := range []struct {
		drawn     []aloneScore
		of        int
		mean, off float64
	}{
		{nil, 4, 0, 0},
		{three[:1], 1, 0.2, 0},
		{three, 3, 0.3, 0},
		{three, 4, 0.3, math.Sqrt(0.01 / 3 / 4)}, // variance 0.01, and a quarter not drawn
	} {
		mean, off := aloneMean(c.drawn, c.of)
		if math.Abs(mean-c.mean) > 1e-12 || math.Abs(off-c.off) > 1e-12 {
			t.Errorf("%v of %d: mean %v with error %v, want %v with %v", c.drawn, c.of, mean, off, c.mean, c.off)
		}
	}
}
