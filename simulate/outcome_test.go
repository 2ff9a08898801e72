package simulate

import (
	"slices"
	"testing"

	"github.com/discreet-fl/discreet/coordinator"
	"github.com/discreet-fl/discreet/dataset"
	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/secagg"
)

// TestOutcomeIsTheProtocols draws schedules and holds that the rules name, for each of
// them, just the survivors that the protocol ends with, device for device: over one
// cohort, over several of which some are lost, and over a sparse graph from which more
// vanish than it tolerates.
func TestOutcomeIsTheProtocols(t *testing.T) {
	for _, tc := range []struct {
		name             string
		perRound, cohort int
		drop             float64
		seeds            uint64
	}{
		{"one cohort", 9, 9, 0.4, 8},
		{"several cohorts", 20, 5, 0.45, 8},
		{"sparse", 104, 104, 0.36, 3},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if slow && tc.perRound > 100 {
				t.Skip("left out with the race detector: minutes of masks")
			}
			ended, aborted, lost := 0, 0, 0
			for s := range tc.seeds {
				r := idle(t, tc.perRound, tc.cohort, tc.drop, s)
				plan, raw, err := coordinator.NewPlan(r.spec, 1, 1, r.basis())
				if err != nil {
					t.Fatal(err)
				}
				members := r.schedule.members(1, 1)
				want, err := r.outcome(plan, raw, members)
				if err != nil {
					t.Fatal(err)
				}
				got, err := r.secure(t.Context(), plan, raw, members)
				if err != nil {
					t.Fatalf("seed %d: %v", s, err)
				}
				if got == nil {
					aborted++
					if want != nil {
						t.Errorf("seed %d: the round was aborted, the rules have %d sums", s, len(want))
					}
					continue
				}
				ended++
				lost += secagg.Cohorts(tc.perRound, tc.cohort) - got.cohorts
				var ids []secagg.ID
				for _, in := range want {
					for _, m := range in {
						ids = append(ids, r.id(r.device(m.device)))
					}
				}
				if slices.SortFunc(ids, compare); len(want) != got.cohorts || !slices.Equal(ids, got.ids) {
					t.Errorf("seed %d: %d devices in %d sums, by the rules %d in %d", s, len(got.ids), got.cohorts, len(ids), len(want))
				}
			}
			// The comparison says little unless both ends were reached.
			if ended == 0 || aborted == 0 || tc.cohort < tc.perRound && lost == 0 {
				t.Errorf("of %d seeds %d ended with a sum, %d were aborted, %d cohorts were left out; choose another drop", tc.seeds, ended, aborted, lost)
			}
		})
	}
}

// TestOutcomeOnARing takes a graph on which each rule decides alone: six members, each
// masking with the one before and the one after it, whose shares one other can give back.
func TestOutcomeOnARing(t *testing.T) {
	const a, s, m, c = AfterAdvertise, AfterShare, AfterSubmit, AfterConfirm
	for _, tc := range []struct {
		name   string
		fates  [6]Vanish
		quorum int
		want   int // survivors, 0 where the cohort is lost
	}{
		{"all stay", [6]Vanish{}, 6, 6},
		{"just enough submit", [6]Vanish{s, s}, 4, 4},
		{"too few submit", [6]Vanish{s, s, a}, 1, 0},
		{"they do not hang together", [6]Vanish{s, 0, 0, s}, 4, 0},
		{"nor across the seam", [6]Vanish{0, s, 0, 0, 0, s}, 4, 0},
		{"just enough confirm", [6]Vanish{m, m}, 4, 6},
		{"too few confirm", [6]Vanish{m, m}, 5, 0},
		{"a survivor's shares are kept back", [6]Vanish{0, c, 0, c}, 4, 0},
		{"a vanished one's neighbours keep all back", [6]Vanish{s, c, 0, 0, 0, c}, 4, 0},
		{"one of them reveals the seed, the other needs the key", [6]Vanish{s, c}, 4, 5},
		{"one never shared, so that there is no mask with it", [6]Vanish{a, c, 0, 0, 0, c}, 4, 5},
	} {
		ring := &cohort{degree: 2, threshold: 1, quorum: tc.quorum, needed: 4}
		for i, fate := range tc.fates {
			ring.members = append(ring.members, member{i, fate})
		}
		if got := len(ring.survivors()); got != tc.want {
			t.Errorf("%s: %d survivors, want %d", tc.name, got, tc.want)
		}
	}
}

// idle is a run whose devices have nothing to train on.
func idle(t *testing.T, perRound, cohort int, drop float64, seed uint64) *run {
	t.Helper()
	set := dataset.Shop()
	r, err := newRun(t.Context(), Config{
		Train: make([][]dataset.Phrase, perRound), Test: set.Test, Intents: set.Intents, PerRound: perRound, Cohort: cohort, MinSurvivors: 3,
		Keys: pb.KeyExchange_KEY_EXCHANGE_CLASSICAL, Rounds: 1, Model: "small", Drop: drop, Seed: seed,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.trainers.close() })
	return r
}

// TestCohortsSumLikeOne holds that a round that is split into cohorts, none of which is
// lost, makes the checkpoint of a round that is not, under masks and in clear.
func TestCohortsSumLikeOne(t *testing.T) {
	if slow {
		t.Skip("left out with the race detector: most of a minute of training and masks")
	}
	digests := make(map[string]string)
	for name, change := range map[string]func(*Config){
		"one":              func(*Config) {},
		"four":             func(c *Config) { c.Cohort = 6 },
		"four in clear":    func(c *Config) { c.Cohort, c.Secure = 6, false },
		"four, classical":  func(c *Config) { c.Cohort, c.Keys = 6, pb.KeyExchange_KEY_EXCHANGE_CLASSICAL },
		"seven, of unlike": func(c *Config) { c.Cohort = 4 },
	} {
		c := shop(t, 24, 24, 2, 0, true)
		change(&c)
		digest, rounds := digestOf(t, c, nil)
		digests[name] = digest
		if rounds[1].Survivors != 24 || rounds[1].CohortsLost != 0 || rounds[1].Cohorts != secagg.Cohorts(24, c.Cohort) {
			t.Errorf("seed %d, %s: %+v, want 24 survivors and no cohort lost", seed, name, rounds[1])
		}
	}
	for name, digest := range digests {
		if digest != digests["one"] {
			t.Errorf("seed %d: %s cohorts give the digest %s, one gives %s", seed, name, digest, digests["one"])
		}
	}
}
