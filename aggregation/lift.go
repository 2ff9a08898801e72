package aggregation

import (
	"fmt"
	"runtime"
	"sync"
)

// Lift adds a cohort's sum, taken in a ring of ringBits bits, to a total of whole
// numbers, so that the sums of several cohorts meet outside any ring. Only the low
// ringBits bits of each word of sum count. The first words, signed of them
// ([Layout.Signed]), become the numbers of least magnitude that are congruent to them
// modulo 2^ringBits; the others, the weight and counts, are never negative and lie in
// [0, 2^ringBits). Where Fits holds for the cohort's size, what is added is the exact
// sum of its devices' vectors; total has room for 2^31 cohorts. It panics when the
// lengths differ, signed is not one of them or the ring is not of 2 to 32 bits.
func Lift(total []int64, sum []uint32, signed, ringBits int) {
	if len(total) != len(sum) {
		panic(fmt.Sprintf("aggregation: adding a sum of %d words to a total of %d, want one length", len(sum), len(total)))
	}
	if signed < 0 || signed > len(sum) {
		panic(fmt.Sprintf("aggregation: %d signed words in a sum of %d", signed, len(sum)))
	}
	if err := checkRing(ringBits); err != nil {
		panic(err.Error())
	}
	shift := 32 - ringBits
	spread(signed, func(lo, hi int) {
		words, into := sum[lo:hi], total[lo:hi]
		for i, w := range words {
			into[i] += int64(int32(w<<shift) >> shift)
		}
	})
	for i, w := range sum[signed:] {
		total[signed+i] += int64(w << shift >> shift)
	}
}

// checkRing returns an error unless there is a ring of so many bits.
func checkRing(bits int) error {
	if bits < 2 || bits > 32 {
		return fmt.Errorf("aggregation: a ring of %d bits, want 2 to 32", bits)
	}
	return nil
}

// spread calls f for ranges that make up [0, n), on all cores where n is large, and
// returns when every call has.
func spread(n int, f func(lo, hi int)) {
	const least = 1 << 17 // coordinates a core, below which waking it costs more than it saves
	cores := min(runtime.GOMAXPROCS(0), n/least)
	if cores < 2 {
		f(0, n)
		return
	}
	var group sync.WaitGroup
	for i := range cores {
		group.Go(func() { f(int(int64(n)*int64(i)/int64(cores)), int(int64(n)*int64(i+1)/int64(cores))) })
	}
	group.Wait()
}
