package aggregation

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math"
	"testing"
)

// reductions are a part and a sketch of a matrix of 10×3 to 4 rows, so that places of a
// sketch hold two or three rows.
func reductions(seed byte) map[string]Reduction {
	part, sketch := NewReduction(10, 3, 3, false), NewReduction(10, 3, 3, true)
	part.Seed, sketch.Seed = [32]byte{seed}, [32]byte{seed}
	return map[string]Reduction{"part": part, "sketch": sketch}
}

func TestReducedSumIsTheSumOfReduced(t *testing.T) {
	for name, r := range reductions(1) {
		t.Run(name, func(t *testing.T) {
			// Whole numbers, so that float32 sums are exact in any order.
			a, b, sum := make([]float32, 35), make([]float32, 35), make([]float32, 35)
			for i := range sum {
				a[i], b[i] = float32(i*i%17), float32(5-i%11)
				sum[i] = a[i] + b[i]
			}
			ra, rb, rsum := r.Reduce(a), r.Reduce(b), r.Reduce(sum)
			if len(rsum) != 4*3+5 || r.Length(35) != len(rsum) {
				t.Fatalf("%d coordinates are left, Length says %d, want 17", len(rsum), r.Length(35))
			}
			for i := range rsum {
				if ra[i]+rb[i] != rsum[i] {
					t.Errorf("coordinate %d: %v and %v add up to %v, reduced together they are %v", i, ra[i], rb[i], ra[i]+rb[i], rsum[i])
				}
			}
		})
	}
}

// TestExpandIsUnbiased draws many seeds: the mean estimate of a row is the row times
// the chance of being sent, or the share of its place, and the output layer is exact.
func TestExpandIsUnbiased(t *testing.T) {
	const draws = 20_000
	update := make([]float32, 35)
	for i := range update {
		update[i] = float32(i%7) - 2.5
	}
	for name, r := range reductions(0) {
		t.Run(name, func(t *testing.T) {
			sum, estimate := make([]float64, 35), make([]float32, 35)
			for n := range draws {
				binary.LittleEndian.PutUint64(r.Seed[:], uint64(n))
				r.Expand(estimate, r.Reduce(append([]float32(nil), update...)))
				for i, x := range estimate {
					sum[i] += float64(x)
				}
			}
			for i, u := range update {
				// Places of a sketch hold 3, 3, 2 and 2 rows: a row's mean share is
				// (3+3)/10·1/3 + (2+2)/10·1/2 = 4/10, as is the chance to be among 4 of 10.
				want, margin := 0.4*float64(u), 0.05
				if i >= 30 {
					want, margin = float64(u), 1e-9
				}
				if got := sum[i] / draws; math.Abs(got-want) > margin {
					t.Errorf("coordinate %d is %.3f in the mean, want %.3f", i, got, want)
				}
			}
		})
	}
}

// TestReduceUndoesExpand holds that no estimate is further from the update than it must
// be: reduced again it is what was received.
func TestReduceUndoesExpand(t *testing.T) {
	for name, r := range reductions(7) {
		t.Run(name, func(t *testing.T) {
			short := make([]float32, 17)
			for i := range short {
				short[i] = float32(6*i - 40)
			}
			whole := make([]float32, 35)
			r.Expand(whole, short)
			for i, x := range r.Reduce(whole) {
				if math.Abs(float64(x-short[i])) > 1e-4 {
					t.Errorf("coordinate %d is %v after Expand and Reduce, want %v", i, x, short[i])
				}
			}
		})
	}
}

func TestSentRowsAreThoseOfAPart(t *testing.T) {
	part := reductions(3)["part"]
	update := make([]float32, 35)
	for i := range update {
		update[i] = 1
	}
	whole := make([]float32, 35)
	part.Expand(whole, part.Reduce(update))
	rows := 0
	for row, sent := range part.Sent() {
		if sent {
			rows++
		}
		if got := whole[3*row] == 1; got != sent {
			t.Errorf("row %d: sent is %v, but it comes out as %v", row, sent, whole[3*row])
		}
	}
	if rows != 4 {
		t.Errorf("%d rows are sent, want 4", rows)
	}
	if reductions(3)["sketch"].Sent() != nil || (Reduction{}).Sent() != nil {
		t.Error("a sketch, or nothing shortened, leaves rows out")
	}
}

func TestReductionIsTheSameEverywhere(t *testing.T) {
	for _, tc := range []struct{ name, want string }{
		{"part", "b0d4973a4dab67f9c4685a152972c8a3"},
		{"sketch", "855fd982f8d9855852ffe90f2bf1eeba"},
	} {
		r := NewReduction(1000, 70, 6, tc.name == "sketch").Seeded(12, []byte{1, 2, 3})
		hash := sha256.New()
		for _, x := range r.Reduce(update(1000*70+5, 4)) {
			binary.Write(hash, binary.LittleEndian, math.Float32bits(x))
		}
		if got := hex.EncodeToString(hash.Sum(nil)[:16]); got != tc.want {
			t.Errorf("%s: the short update hashes to %s, want %s", tc.name, got, tc.want)
		}
	}
}

func TestSeedsDifferByRoundAndCheckpoint(t *testing.T) {
	r := NewReduction(16, 4, 4, true)
	seeds := map[[32]byte]bool{}
	for round := range uint64(3) {
		for ck := range byte(3) {
			seeds[r.Seeded(round, []byte{ck}).Seed] = true
		}
	}
	if len(seeds) != 9 {
		t.Errorf("3 rounds on 3 checkpoints have %d seeds, want 9", len(seeds))
	}
}

func TestNothingReducedStaysAsItIs(t *testing.T) {
	r := NewReduction(10, 3, 1, false).Seeded(1, nil)
	if r != (Reduction{}) || r.Length(35) != 35 {
		t.Errorf("a ratio of 1 gives %+v, want the zero value", r)
	}
	in := update(35, 1)
	out := make([]float32, 35)
	r.Expand(out, r.Reduce(in))
	for i := range in {
		if in[i] != out[i] {
			t.Fatalf("coordinate %d went from %v to %v", i, in[i], out[i])
		}
	}
}

func TestExpandRefusesAnotherLength(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("Expand took a short update of the wrong length")
		}
	}()
	reductions(1)["part"].Expand(make([]float32, 35), make([]float32, 16))
}
