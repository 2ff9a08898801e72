package aggregation

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// lifted is the total of cohorts' sums in rings of one width.
func lifted(ringBits int, sums ...[]uint32) []int64 {
	total := make([]int64, len(sums[0]))
	for _, sum := range sums {
		Lift(total, sum, len(sum)-1, ringBits)
	}
	return total
}

// TestLiftedCohortsAreTheExactSum encodes the largest, the least and random updates
// for several cohorts, each as large as its ring bears, and adds them once in the
// ring with noise above its bits and once in whole numbers.
func TestLiftedCohortsAreTheExactSum(t *testing.T) {
	const seed, cohorts = 9, 5
	random := rand.New(rand.NewPCG(seed, 3))
	for _, c := range []Codec{{1, 16, 1}, {0.5, 8, 255}, {4, 2, 65535}, {2, 16, 64}, {1, 24, 1}} {
		for _, ring := range []int{18, 20, 23, 26, 31, 32} {
			n := largestCohort(c, ring)
			if n == 0 {
				continue
			}
			extremes := []float32{c.Clip, -c.Clip, 0, c.Clip / 3}
			sums, exact := make([][]uint32, cohorts), make([]int64, len(extremes)+1)
			for k := range sums {
				words := make([]uint32, len(exact))
				if err := c.Encode(words, extremes, c.MaxWeight, [32]byte{byte(k)}); err != nil {
					t.Fatal(err)
				}
				sums[k] = make([]uint32, len(exact))
				for i, w := range words {
					exact[i] += int64(n) * int64(int32(w)) // a weight is below 2^31 as well
					above := uint32(random.Uint64() << ring)
					sums[k][i] = uint32(n)*w&uint32(uint64(1)<<ring-1) | above
				}
			}
			if got := lifted(ring, sums...); !slices.Equal(got, exact) {
				t.Errorf("seed %d: %+v: %d cohorts of %d in %d bits lift to %d, want %d", seed, c, cohorts, n, ring, got, exact)
			}
		}
	}
}

// largestCohort is the most devices that Fits lets into the ring.
func largestCohort(c Codec, ring int) int {
	low, high := 0, 1<<20 // low fits, high+1 does not
	for low < high {
		if middle := (low + high + 1) / 2; c.Fits(middle, ring) == nil {
			low = middle
		} else {
			high = middle - 1
		}
	}
	return low
}

// TestLiftAndDecodeOfALongVector holds the ranges of several cores to one pass.
func TestLiftAndDecodeOfALongVector(t *testing.T) {
	const seed, n, ring = 10, 5<<17 + 3, 20
	random := rand.New(rand.NewPCG(seed, 4))
	sum, total, want := make([]uint32, n), make([]int64, n), make([]int64, n)
	for i := range sum {
		sum[i], total[i] = random.Uint32(), int64(i)
		want[i] = total[i] + int64(int32(sum[i]<<12)>>12)
	}
	want[n-1] = total[n-1] + int64(sum[n-1]<<12>>12)
	Lift(total, sum, n-1, ring)
	if !slices.Equal(total, want) {
		t.Fatalf("seed %d: the lifted total differs from one pass", seed)
	}
	mean := make([]float32, n-1)
	weight, err := standard.Decode(mean, total)
	if err != nil || int64(weight) != want[n-1] {
		t.Fatalf("seed %d: weight %d, %v; want %d", seed, weight, err, want[n-1])
	}
	factor := float64(standard.MaxWeight) / float64(standard.scale()*float64(weight))
	for i, m := range mean {
		if m != float32(float64(want[i])*factor) {
			t.Fatalf("seed %d: coordinate %d decodes to %v", seed, i, m)
		}
	}
}

func TestLiftRefusesBadInput(t *testing.T) {
	for _, tc := range []struct {
		total, sum, ring int
		want             string
	}{
		{3, 2, 20, "a sum of 2 words to a total of 3"},
		{2, 2, 1, "1 bits"},
		{2, 2, 33, "33 bits"},
	} {
		func() {
			defer func() {
				if p := fmt.Sprint(recover()); !strings.Contains(p, tc.want) {
					t.Errorf("panic %q, want one with %q", p, tc.want)
				}
			}()
			Lift(make([]int64, tc.total), make([]uint32, tc.sum), tc.sum-1, tc.ring)
		}()
	}
	Lift(nil, nil, 0, 20) // the sum of nothing
}

func BenchmarkLift(b *testing.B) {
	const n = 1_000_000
	total, sum := make([]int64, n), make([]uint32, n)
	b.SetBytes(4 * n)
	for b.Loop() {
		Lift(total, sum, n-1, 26)
	}
}

func BenchmarkDecode(b *testing.B) {
	const n = 1_000_000
	total, mean := make([]int64, n+1), make([]float32, n)
	total[n] = 1000
	b.SetBytes(4 * n)
	for b.Loop() {
		if _, err := standard.Decode(mean, total); err != nil {
			b.Fatal(err)
		}
	}
}
