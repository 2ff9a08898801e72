package privacy

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// patterns calls f with every choice of at most k of n rounds, any two at least b apart.
func patterns(n, b, k int, f func([]int)) {
	var extend func(chosen []int, from int)
	extend = func(chosen []int, from int) {
		f(chosen)
		if len(chosen) == k {
			return
		}
		for t := from; t < n; t++ {
			extend(append(slices.Clip(chosen), t), t+b)
		}
	}
	extend(nil, 0)
}

func TestParticipationSensitivity(t *testing.T) {
	draws(t, 60, func(r *rand.Rand) {
		c := make([]float64, 1+r.IntN(12))
		for i := range c {
			c[i] = r.Float64()
		}
		slices.SortFunc(c, func(a, b float64) int { return int(math.Copysign(1, b-a)) })
		b, k := 1+r.IntN(4), r.IntN(5)
		worst := 0.0
		patterns(len(c), b, k, func(rounds []int) {
			squared := 0.0
			for t := range c {
				row := 0.0
				for _, at := range rounds {
					if at <= t {
						row += c[t-at]
					}
				}
				squared += row * row
			}
			worst = max(worst, math.Sqrt(squared))
		})
		if got := ParticipationSensitivity(c, b, k); math.Abs(got-worst) > 1e-12*(1+worst) {
			t.Errorf("coefficients %v, separation %d, %d participations: got %v, the worst pattern has %v", c, b, k, got, worst)
		}
	})
	// Independent noise: one coefficient, one count for each participation.
	if got := ParticipationSensitivity(append([]float64{1}, make([]float64, 99)...), 20, 5); got != math.Sqrt(5) {
		t.Errorf("independent noise in 5 rounds: got %v, want √5", got)
	}
}

func TestTreeSensitivity(t *testing.T) {
	for rounds := range 13 {
		for separation := 1; separation < 5; separation++ {
			for participations := range 5 {
				worst := 0.0
				patterns(rounds, separation, participations, func(chosen []int) {
					sum := 0.0
					for size := 1; size <= rounds; size *= 2 {
						for start := 0; start+size <= rounds; start += size {
							below := 0.0
							for _, at := range chosen {
								if at >= start && at < start+size {
									below++
								}
							}
							sum += below * below
						}
					}
					worst = max(worst, sum)
				})
				if got := TreeSensitivity(rounds, separation, participations); got != worst {
					t.Errorf("TreeSensitivity(%d, %d, %d) = %v, the worst pattern has %v", rounds, separation, participations, got, worst)
				}
			}
		}
	}
}
