package simulate

import (
	"context"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/discreet-fl/discreet/aggregation"
	"github.com/discreet-fl/discreet/coordinator"
	"github.com/discreet-fl/discreet/coordinator/round"
	"github.com/discreet-fl/discreet/dataset"
	"github.com/discreet-fl/discreet/model"
	pb "github.com/discreet-fl/discreet/proto"
)

// seed is of every run here; failures print it.
const seed = 3

// shop is a small federation over the embedded set.
func shop(t testing.TB, devices, perRound, rounds int, drop float64, secure bool) Config {
	t.Helper()
	set := dataset.Shop()
	train, err := set.Split(dataset.Split{ByUser: true}, devices, seed)
	if err != nil {
		t.Fatal(err)
	}
	return Config{
		Train: train, Test: set.Test, Intents: set.Intents, PerRound: perRound, Cohort: perRound, MinSurvivors: 3,
		Keys: pb.KeyExchange_KEY_EXCHANGE_HYBRID, Rounds: rounds, Model: "small", Drop: drop, Secure: secure, Seed: seed,
	}
}

// digestOf runs the rounds alone, without baselines, watched by observe.
func digestOf(t *testing.T, c Config, observe func(int, round.Step, []byte) []byte) (string, []Round) {
	t.Helper()
	r, err := newRun(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer r.trainers.close()
	r.observe = observe
	var result Result
	if err := r.rounds(t.Context(), &result); err != nil {
		t.Fatal(err)
	}
	return r.digest(), result.Rounds
}

func TestCompressedSumsAreTheSameUnderMasks(t *testing.T) {
	if slow {
		t.Skip("left out with the race detector: much training and many masks")
	}
	digests := make(map[string]bool)
	for _, text := range []string{"none", "8x", "sketch:4,bits:10"} {
		compression, err := coordinator.ParseCompression(text)
		if err != nil {
			t.Fatal(err)
		}
		masked, clear := shop(t, 30, 9, 2, 0.2, true), shop(t, 30, 9, 2, 0.2, false)
		masked.Compression, clear.Compression = compression, compression
		want, _ := digestOf(t, masked, nil)
		if got, _ := digestOf(t, clear, nil); got != want {
			t.Errorf("%s, seed %d: digest %s under masks, %s in clear", text, seed, want, got)
		}
		digests[want] = true
	}
	if len(digests) != 3 {
		t.Errorf("three compressions give %d checkpoints", len(digests))
	}
}

func TestSecureAndPlainGiveTheSameCheckpoint(t *testing.T) {
	masked, secure := digestOf(t, shop(t, 30, 9, 4, 0.4, true), nil)
	again, _ := digestOf(t, shop(t, 30, 9, 4, 0.4, true), nil)
	clear, plain := digestOf(t, shop(t, 30, 9, 4, 0.4, false), nil)
	if masked != clear || masked != again {
		t.Errorf("seed %d: digest %s under masks, %s a second time, %s in clear", seed, masked, again, clear)
	}
	var drops Drops
	attempts := 0
	for i, s := range secure {
		p := plain[i]
		if s.Survivors != p.Survivors || s.Drops != p.Drops || s.Attempts != p.Attempts || s.Accuracy != p.Accuracy {
			t.Errorf("seed %d, round %d: %+v under masks, %+v in clear", seed, s.Round, s, p)
		}
		if s.MasksExpanded < s.Survivors {
			t.Errorf("seed %d, round %d: %d masks removed for %d survivors", seed, s.Round, s.MasksExpanded, s.Survivors)
		}
		drops.BeforeAdvertise += s.Drops.BeforeAdvertise
		drops.AfterAdvertise += s.Drops.AfterAdvertise
		drops.AfterShare += s.Drops.AfterShare
		drops.AfterSubmit += s.Drops.AfterSubmit
		drops.AfterConfirm += s.Drops.AfterConfirm
		attempts += s.Attempts
	}
	// The comparison says little unless the schedule reached every step and a retry.
	if drops.BeforeAdvertise == 0 || drops.AfterAdvertise == 0 || drops.AfterShare == 0 || drops.AfterSubmit == 0 || drops.AfterConfirm == 0 || attempts == len(secure) {
		t.Errorf("seed %d: the schedule has drops %+v and %d attempts at %d rounds; choose another seed", seed, drops, attempts, len(secure))
	}
}

// Every strategy moves the model, in its own way, alike under masks and in clear.
func TestEveryStrategyGivesTheSameCheckpoint(t *testing.T) {
	if slow {
		t.Skip("left out with the race detector: a minute of training and masks")
	}
	seen := map[string]string{}
	for _, name := range aggregation.StrategyNames() {
		run := func(secure bool) string {
			c := shop(t, 6, 4, 2, 0, secure)
			c.Strategy = aggregation.Choice{Name: name}
			if c.Strategy.Apart() { // five cohorts, over which the two differ
				c = shop(t, 20, 15, 2, 0, secure)
				c.Strategy, c.Cohort = aggregation.Choice{Name: name}, 3
			}
			digest, _ := digestOf(t, c, nil)
			return digest
		}
		masked, clear := run(true), run(false)
		if masked != clear || seen[clear] != "" {
			t.Errorf("%s: digest %s under masks, %s in clear, which is also %q's", name, masked, clear, seen[clear])
		}
		seen[clear] = name
	}
}

func TestOneFlippedMaskedWordChangesTheDigest(t *testing.T) {
	c := shop(t, 4, 4, 1, 0, true)
	whole, _ := digestOf(t, c, nil)
	flipped, _ := digestOf(t, c, func(device int, step round.Step, payload []byte) []byte {
		if device != 2 || step != round.Submit {
			return payload
		}
		payload = slices.Clone(payload)
		payload[1000] ^= 0x10
		return payload
	})
	if flipped == whole {
		t.Errorf("seed %d: a flipped bit of a masked vector left the digest %s as it was", seed, whole)
	}
}

func TestWithheldReveals(t *testing.T) {
	c := shop(t, 4, 4, 1, 0, true) // the threshold of four is three
	whole, _ := digestOf(t, c, nil)
	withhold := func(below int) func(int, round.Step, []byte) []byte {
		return func(device int, step round.Step, payload []byte) []byte {
			if step == round.Reveal && device < below {
				return nil
			}
			return payload
		}
	}
	if one, rounds := digestOf(t, c, withhold(1)); one != whole || rounds[0].Survivors != 4 {
		t.Errorf("seed %d: one reveal above the threshold withheld: digest %s, %d survivors, want %s and 4", seed, one, rounds[0].Survivors, whole)
	}
	if two, rounds := digestOf(t, c, withhold(2)); two == whole || rounds[0].Survivors != 0 || rounds[0].Attempts != coordinator.MaxAttempts {
		t.Errorf("seed %d: a reveal below the threshold withheld: %+v, want every attempt to fail", seed, rounds[0])
	}
}

func TestCoordinatorIsNeverHandedAnUnmaskedVector(t *testing.T) {
	c := shop(t, 5, 5, 1, 0, true)
	var mu sync.Mutex
	submitted := map[int][]byte{}
	r, err := newRun(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer r.trainers.close()
	first := r.checkpoint
	plan, _, err := coordinator.NewPlan(r.spec, 1, 1, r.basis())
	if err != nil {
		t.Fatal(err)
	}
	r.observe = func(device int, step round.Step, payload []byte) []byte {
		mu.Lock()
		defer mu.Unlock()
		if step == round.Submit {
			submitted[device] = payload
		}
		return payload
	}
	if err := r.rounds(t.Context(), &Result{}); err != nil {
		t.Fatal(err)
	}
	if len(submitted) != 5 {
		t.Fatalf("%d vectors submitted, want 5", len(submitted))
	}
	for device, packed := range submitted {
		// What is looked for would be found: the vector itself, packed as it is sent.
		own, err := r.participant(t.Context(), r.device(device)).Update(plan, first)
		if err != nil {
			t.Fatal(err)
		}
		unmasked := make([]byte, len(packed))
		if err := aggregation.Pack(unmasked, own, int(plan.Codec.RingBits)); err != nil {
			t.Fatal(err)
		}
		if same := equalWords(t, r, plan, first, device, unmasked); same != 1 {
			t.Errorf("seed %d: %.1f%% of device %d's unmasked words are found to be its own, want all", seed, 100*same, device)
		}
		if same := equalWords(t, r, plan, first, device, packed); same > 0.001 {
			t.Errorf("seed %d: %.1f%% of the words that device %d submitted are its unmasked ones", seed, 100*same, device)
		}
	}
}

// equalWords is the share of a packed vector's words that equal the device's own
// encoded update, which is what an unmasked vector would be.
func equalWords(t *testing.T, r *run, plan *pb.Plan, c *model.Checkpoint, device int, packed []byte) float64 {
	t.Helper()
	bits := int(plan.Codec.RingBits)
	own, err := r.participant(t.Context(), r.device(device)).Update(plan, c)
	if err != nil {
		t.Fatal(err)
	}
	words := make([]uint32, len(own))
	if err := aggregation.AddPacked(words, packed, bits); err != nil {
		t.Fatal(err)
	}
	same := 0
	for i, w := range words {
		if (w^own[i])<<(32-bits) == 0 { // what stands above the bits of the ring says nothing
			same++
		}
	}
	return float64(same) / float64(len(words))
}

func TestOutcomeFollowsTheThresholds(t *testing.T) {
	for _, tc := range []struct {
		name  string
		fates []Vanish
		min   int
		want  bool
	}{
		{"all stay", []Vanish{Stays, Stays, Stays}, 3, true},
		{"roster below the minimum", []Vanish{Stays, Stays, BeforeAdvertise}, 3, false},
		{"one of four lost after Share", []Vanish{Stays, Stays, Stays, AfterShare}, 3, true},
		{"two of four lost", []Vanish{Stays, Stays, AfterShare, AfterAdvertise}, 3, false},
		{"lost after Submit is in the sum", []Vanish{Stays, Stays, Stays, AfterSubmit}, 3, true},
		{"too few confirm", []Vanish{Stays, Stays, AfterSubmit, AfterSubmit}, 3, false},
		{"too few reveal", []Vanish{Stays, Stays, AfterConfirm, AfterConfirm}, 3, false},
		{"one lost after Confirm", []Vanish{Stays, Stays, Stays, AfterConfirm}, 3, true},
		{"a third of six", []Vanish{Stays, Stays, Stays, Stays, AfterShare, AfterSubmit}, 3, true},
		{"a third of six, higher minimum", []Vanish{Stays, Stays, Stays, Stays, AfterShare, AfterSubmit}, 6, false},
	} {
		var roster []member
		for i, v := range tc.fates {
			if v != BeforeAdvertise {
				roster = append(roster, member{i, v})
			}
		}
		if got := newCohort(roster, tc.min, 1000).survivors() != nil; got != tc.want {
			t.Errorf("%s: got %v, want %v", tc.name, got, tc.want)
		}
	}
}

func TestScheduleIsFixedByTheSeed(t *testing.T) {
	s := schedule{seed: seed, devices: 100, perRound: 20, drop: 0.1}
	lost, steps := 0, map[Vanish]int{}
	for n := range uint64(200) {
		members := s.members(n, 1)
		if !slices.Equal(members, s.members(n, 1)) {
			t.Fatalf("seed %d: round %d is scheduled differently a second time", seed, n)
		}
		seen := map[int]bool{}
		for _, m := range members {
			if seen[m.device] {
				t.Fatalf("seed %d: device %d is twice in round %d", seed, m.device, n)
			}
			seen[m.device] = true
			if steps[m.vanish]++; m.vanish != Stays {
				lost++
			}
		}
	}
	// 4,000 draws at 10%: five standard deviations are 95.
	if math.Abs(float64(lost-400)) > 95 {
		t.Errorf("seed %d: %d of 4,000 vanish, want about 400", seed, lost)
	}
	for v := BeforeAdvertise; v <= AfterConfirm; v++ {
		if steps[v] < 50 {
			t.Errorf("seed %d: %d of %d vanish at step %d, want about a fifth", seed, steps[v], lost, v)
		}
	}
}

func TestScore(t *testing.T) {
	test := []model.Example{{Label: 0}, {Label: 0}, {Label: 1}, {Label: 2}}
	got := score([]int{0, 1, 1, 1}, test, 4)
	// F1: 2/3 for intent 0, 1/2 for 1, 0 for 2; intent 3 does not occur.
	if got.Accuracy != 0.5 || math.Abs(got.MacroF1-(2.0/3+0.5)/3) > 1e-12 {
		t.Errorf("%+v, want accuracy 0.5 and macro F1 %v", got, (2.0/3+0.5)/3)
	}
}

func TestBadConfigurationsAreRefused(t *testing.T) {
	for _, tc := range []struct {
		name, want string
		change     func(*Config)
	}{
		{"more a round than devices", "lower --per-round", func(c *Config) { c.PerRound = 31 }},
		{"fewer a round than must survive", "must survive", func(c *Config) { c.PerRound = 2 }},
		{"no rounds", "0 rounds", func(c *Config) { c.Rounds = 0 }},
		{"drop above one", "drop is 1.5", func(c *Config) { c.Drop = 1.5 }},
		{"drop is NaN", "drop is NaN", func(c *Config) { c.Drop = math.NaN() }},
		{"no test phrases", "--test", func(c *Config) { c.Test = nil }},
		{"too few must survive", "a minimum of 2 survivors", func(c *Config) { c.MinSurvivors = 2 }},
		{"fewer held back than one in 10,000", "1e-05 held back, want 0, or 0.0001 to 0.5", func(c *Config) { c.HeldBack = 0.00001 }},
		{"what no task may be", "leave the bits out", func(c *Config) {
			c.Strategy = aggregation.Choice{Name: "qfedavg"}
			c.Compression = &pb.Compression{Bits: 8}
		}},
		{"unknown model", "huge", func(c *Config) { c.Model = "huge" }},
		{"one intent", "1 intents, want 2 to 4096: give --data", func(c *Config) { c.Intents = c.Intents[:1] }},
		{"unknown label", "not among the model", func(c *Config) { c.Intents = c.Intents[1:] }},
	} {
		c := shop(t, 30, 9, 1, 0, true)
		tc.change(&c)
		if _, err := Run(context.Background(), c); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v, want one with %q", tc.name, err, tc.want)
		}
	}
}
