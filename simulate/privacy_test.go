package simulate

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/discreet-fl/discreet/coordinator"
	"github.com/discreet-fl/discreet/privacy"
	pb "github.com/discreet-fl/discreet/proto"
)

// private is a simulation of short vectors whose devices are promised privacy.
func private(t *testing.T, drop float64, secure bool) Config {
	c := shop(t, 24, 6, 2, drop, secure)
	c.MinSurvivors = 4
	c.Compression = &pb.Compression{Method: pb.Compression_METHOD_SKETCH, Ratio: 64}
	c.Privacy = &pb.Privacy{Epsilon: 6, Delta: 1e-5, Participations: 2, Separation: 2, Clip: 1}
	return c
}

// TestNoiseIsTheSameUnderMasks holds the sums of noised vectors under masks to those in
// clear, with devices that vanish, in two cohorts of which each reaches a level by itself, and
// the devices to their promise.
func TestNoiseIsTheSameUnderMasks(t *testing.T) {
	digests := make(map[bool]string)
	for _, secure := range []bool{true, false} {
		c := private(t, 0.1, secure)
		c.NoBaselines, c.PerRound, c.Privacy.ClipQuantile = true, 12, 5000
		if slow {
			c.Rounds = 1
		}
		result, err := Run(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		digests[secure] = result.Digest
		p := result.Privacy
		if p == nil || p.MostVectors < 1 || p.MostVectors > 2 || p.GivenEpsilon > 6 || p.MostVectors == 2 && p.GivenEpsilon < 5.99 {
			t.Fatalf("seed %d: %+v, want 1 or 2 vectors of a device within ε 6", c.Seed, p)
		}
		if !slices.Equal(p.Levels, []int{5}) || p.Overshoot < 1 || p.Overshoot > 1.1 {
			t.Errorf("seed %d: noise comes off at %v survivors and is up to %v times what was asked for, want 5 and 1.1", c.Seed, p.Levels, p.Overshoot)
		}
		for _, round := range result.Rounds { // every update is shorter than the clip, and votes are noised
			if last := p.LastClip; round.Clip != 1 && round.Round == 1 || last == 1 || math.Abs(math.Log(float64(last))) > 0.1001*float64(c.Rounds) {
				t.Errorf("seed %d: round %d had a clip of %v, the last of all is %v", c.Seed, round.Round, round.Clip, last)
			}
		}
		rho := 1 / (2 * p.Multiplier * p.Multiplier)
		if math.Abs(rho/p.RhoRound-1) > 1e-6 || privacy.Epsilon(2*rho, 1e-5) > 6 {
			t.Errorf("seed %d: a noise multiplier of %v costs ρ %v, told is %v", c.Seed, p.Multiplier, rho, p.RhoRound)
		}
	}
	if digests[true] != digests[false] {
		t.Errorf("digest %s under masks, %s in clear", digests[true], digests[false])
	}
}

// TestCentralNoiseInASimulation runs rounds to whose sums the coordinator adds noise.
func TestCentralNoiseInASimulation(t *testing.T) {
	digests := make(map[bool]string)
	for _, noised := range []bool{true, false} {
		c := private(t, 0, false)
		c.Compression, c.NoBaselines = nil, true
		if noised {
			var err error
			if c.Privacy.Central, err = coordinator.CentralNoise(uint64(c.Rounds), c.Privacy); err != nil {
				t.Fatal(err)
			}
		} else {
			c.Privacy = nil
		}
		result, err := Run(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		digests[noised] = result.Digest
		if p := result.Privacy; noised && (p.CentralRounds != uint32(c.Rounds) || p.Honest != 0 || p.GivenEpsilon > 6 || p.Multiplier < 0.1 || p.Multiplier > 10) {
			t.Errorf("seed %d: %+v, want noise by the coordinator over %d rounds within ε 6", c.Seed, p, c.Rounds)
		}
	}
	if digests[true] == digests[false] {
		t.Errorf("digest %s with noise and without", digests[true])
	}
}

// TestNobodyTakesPartTooOften draws the rounds of a schedule that every device is needed
// for, as often and as soon as it may.
func TestNobodyTakesPartTooOften(t *testing.T) {
	const devices, perRound, rounds = 40, 10, 8
	r := &run{Config: Config{Privacy: &pb.Privacy{Participations: 2, Separation: 4}}, accounts: make([]account, devices)}
	r.schedule = schedule{seed: 5, devices: devices, perRound: perRound, may: r.mayTakePart}
	last := make(map[int]uint64)
	for n := uint64(1); n <= rounds; n++ {
		members := r.schedule.members(n, 1)
		if len(members) != perRound {
			t.Fatalf("seed 5: round %d has %d devices, want %d", n, len(members), perRound)
		}
		for _, m := range members {
			if at := last[m.device]; at != 0 && n-at < 4 {
				t.Errorf("seed 5: device %d takes part in rounds %d and %d", m.device, at, n)
			}
			last[m.device] = n
		}
		r.charge(n, members)
	}
	if left := r.schedule.members(rounds+4, 1); len(left) != 0 {
		t.Errorf("seed 5: %d devices take part a third time", len(left))
	}
}

func TestPromisesThatASimulationCannotKeep(t *testing.T) {
	for _, tc := range []struct {
		want string
		edit func(*Config)
	}{
		{"rest until 5 rounds later need 30 devices", func(c *Config) { c.Privacy.Separation = 5; c.Rounds = 5 }},
		{"allow 3 participations", func(c *Config) { c.Rounds = 9 }},
		{"without noise", func(c *Config) { c.HeldBack = 0.1 }},
		{"δ 0.5", func(c *Config) { c.Privacy.Delta = 0.5 }},
	} {
		c := private(t, 0, false)
		tc.edit(&c)
		if err := c.Check(); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%v, want an error with %q", err, tc.want)
		}
	}
}
