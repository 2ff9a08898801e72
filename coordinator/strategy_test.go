package coordinator

import (
	"testing"
	"testing/synctest"

	"github.com/discreet-fl/discreet/aggregation"
	"github.com/discreet-fl/discreet/secagg"
)

// Whatever number of devices a round begins with, it has the cohorts that a median needs.
func TestMedianRoundsHaveEnoughCohorts(t *testing.T) {
	for _, tc := range []struct{ perRound, cohort, least uint32 }{{15, 3, 3}, {40, 8, 3}, {41, 8, 8}, {60, 10, 4}} {
		s := spec(tc.perRound, tc.least)
		s.Cohort, s.Strategy = tc.cohort, strategy("median")
		if err := CheckSpec(s); err != nil {
			t.Fatal(err)
		}
		g := newGathering(s)
		for n := g.need; n <= int(tc.perRound)+5; n++ {
			for i := len(g.waiting); i < n; i++ {
				g.waiting[secagg.ID{byte(i)}] = &checkIn{}
			}
			if size := g.size(); secagg.Cohorts(size, g.cohort) < aggregation.MinApart {
				t.Errorf("%+v: %d devices make a round of %d in %d cohorts", tc, n, size, secagg.Cohorts(size, g.cohort))
			}
		}
	}
}

// A cohort of liars moves the mean of all, and not the median of the cohorts.
func TestMedianOverCohorts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := spec(15, 3)
		s.Cohort, s.Strategy = 3, strategy("median")
		w, devices := fleet(t, 15, s, Options{})
		for _, d := range devices {
			d.value, d.weight = 0.25, 32
		}
		before := devices[0].checkpointOf(w.task("desk").view.Load().sum[:])
		devices[4].value = -3
		walks := gather(t, devices...)
		each(t, 15, func(i int) error { return walks[i].steps(t.Context(), all) })
		after := devices[0].checkpointOf(walks[0].receipt.GetCheckpointSha256())
		for i, p := range after.Params {
			if moved := p - before.Params[i]; moved < 0.249 || moved > 0.251 {
				t.Fatalf("parameter %d has moved by %v, want 0.25", i, moved)
			}
		}
	})
}
