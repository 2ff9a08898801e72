package client

import (
	"errors"
	"strings"
	"testing"

	"github.com/discreet-fl/discreet/aggregation"
	"github.com/discreet-fl/discreet/model"
	"github.com/discreet-fl/discreet/privacy"
	pb "github.com/discreet-fl/discreet/proto"
)

// levelledPlan is noisedPlan with noise that comes off at 16, 17 and 19 survivors of 20.
func levelledPlan(t testing.TB, c *model.Checkpoint) *pb.Plan {
	t.Helper()
	plan, d := noisedPlan(t, c), c.Manifest.Layout.Parameters()
	g, err := mechanism(plan.Noise).Levelled(privacy.Charge(plan.Noise.Charge).Multiplier(), 15, 20, 2, d)
	if err != nil {
		t.Fatal(err)
	}
	plan.Noise.Scale, plan.Noise.Sigma = g.Scale, g.Sigma
	for _, l := range g.Levels {
		plan.Noise.Levels = append(plan.Noise.Levels, &pb.NoiseLevel{Survivors: uint32(l.Survivors), Sigma: l.Sigma})
	}
	plan.Codec = &pb.Codec{RingBits: uint32(g.RingBits(20, d))}
	return plan
}

// TestPlansWithTooLittleNoiseAtALevelAreRefused changes one number of a plan that keeps its
// promise however many survive.
func TestPlansWithTooLittleNoiseAtALevelAreRefused(t *testing.T) {
	c := rigModel(t)
	bounds, err := Bounds{MaxEpsilon: 8}.filled()
	if err != nil {
		t.Fatal(err)
	}
	if n := len(levelledPlan(t, c).Noise.Levels); n != 3 {
		t.Fatalf("%d levels, want 3", n)
	}
	if _, err := readPlan(encoded(t, levelledPlan(t, c)), bounds); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, want string
		edit       func(*pb.Noise)
	}{
		{"less that stays", "too little noise", func(n *pb.Noise) { n.Sigma *= 0.9999 }},
		{"less that comes off first", "too little noise", func(n *pb.Noise) { n.Levels[0].Sigma *= 0.999 }},
		{"less that comes off last", "too little noise", func(n *pb.Noise) { n.Levels[2].Sigma *= 0.999 }},
		{"a level earlier", "too little noise", func(n *pb.Noise) { n.Levels[2].Survivors = 18 }},
		{"all at the first", "too little noise", func(n *pb.Noise) { n.Levels[1].Sigma, n.Levels[0].Sigma = 4, 3*n.Levels[0].Sigma }},
		{"a level too many", "too little noise", func(n *pb.Noise) {
			n.Levels = append(n.Levels, &pb.NoiseLevel{Survivors: 20, Sigma: n.Sigma / 3})
			n.Sigma *= 0.9428
		}},
		{"a level that is always reached", "more than the minimum of 15", func(n *pb.Noise) { n.Levels[0].Survivors = 15 }},
		{"a level that is never reached", "at most the cohort of 20", func(n *pb.Noise) { n.Levels[2].Survivors = 21 }},
		{"a level of no survivors", "want numbers that ascend", func(n *pb.Noise) { n.Levels[0].Survivors = 0 }},
		{"a level beyond all numbers", "at most the cohort of 20", func(n *pb.Noise) { n.Levels[2].Survivors = 1<<32 - 1 }},
		{"levels out of order", "want numbers that ascend", func(n *pb.Noise) { n.Levels[0].Survivors, n.Levels[1].Survivors = 17, 16 }},
		{"small noise", "want 4 to", func(n *pb.Noise) { n.Levels[0].Sigma = 3.9 }},
		{"more levels than there may be", "want at most 8", func(n *pb.Noise) {
			for range 6 {
				n.Levels = append(n.Levels, &pb.NoiseLevel{Survivors: 20, Sigma: 4})
			}
		}},
	} {
		plan := levelledPlan(t, c)
		tc.edit(plan.Noise)
		if _, err := readPlan(encoded(t, plan), bounds); !errors.Is(err, ErrPlanRefused) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want ErrPlanRefused with %q", tc.name, err, tc.want)
		}
	}
	central := centralPlan(t, c)
	central.Noise.Levels = levelledPlan(t, c).Noise.Levels
	if _, err := readPlan(encoded(t, central), Bounds{}); !errors.Is(err, ErrPlanRefused) || !strings.Contains(err.Error(), "beside noise by the coordinator") {
		t.Errorf("levels beside noise by the coordinator: %v", err)
	}
}

// TestLevelsOfAPlanAreThoseOfTheAttempt: what the protocol gives back seeds at is what the
// plan says, and what is added is on the noised words alone.
func TestLevelsOfAPlanAreThoseOfTheAttempt(t *testing.T) {
	c := rigModel(t)
	plan := levelledPlan(t, c)
	a := newAttempt(&Participant{Seed: func(_ *pb.Plan, purpose string) [32]byte { return [32]byte{byte(len(purpose))} }}, nil, plan, Bounds{})
	p := a.params(nil)
	if secret, err := p.LevelSecret(); err != nil || secret != ([32]byte{6}) {
		t.Errorf("the secret of the levels is %v, %v, want that of their purpose", secret, err)
	}
	if len(p.Levels) != 3 || p.Levels[0] != 16 || p.Levels[1] != 17 || p.Levels[2] != 19 {
		t.Errorf("levels at %v, want 16, 17 and 19", p.Levels)
	}
	if got := newAttempt(&Participant{}, nil, noisedPlan(t, c), Bounds{}).params(nil).Levels; got != nil {
		t.Errorf("levels at %v in a plan without", got)
	}
	l := layout(plan, c.Manifest.Layout)
	words := make([]uint32, l.Length())
	if err := l.AddLevels(words, make([][32]byte, 3), 0); err != nil || words[len(words)-1] != 0 {
		t.Errorf("noise on the weight: %v, %v", words[len(words)-1], err)
	}
	if g := (aggregation.Layout{Noise: mechanism(noisedPlan(t, c).Noise), Parameters: 3}); g.AddLevels(make([]uint32, 4), nil, 0) != nil {
		t.Error("no levels are an error")
	}
}
