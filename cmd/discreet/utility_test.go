package main

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
)

// TestLossIsAsMeasured holds the curve to the simulations that it was drawn through, those
// of benchmarks/README.md: each plan's accuracy without noise and with it.
func TestLossIsAsMeasured(t *testing.T) {
	const many, few = "--devices 10000 --per-round 1000 --separation 10 ", "--devices 1000 --per-round 100 --separation 10 "
	for _, tc := range []struct {
		flags         string
		without, with float64
	}{
		{many + "--rounds 50 --compression sketch:16 --epsilon 8", 89.3, 84.8},
		{many + "--rounds 50 --compression sketch:16 --epsilon 4", 89.3, 77.2},
		{many + "--rounds 50 --compression sketch:16 --epsilon 2", 89.3, 61.8},
		{few + "--rounds 50 --compression sketch:16 --epsilon 30", 89.3, 63.7},
		{few + "--rounds 50 --compression sketch:16 --epsilon 8", 89.3, 22.5},
		{few + "--rounds 50 --compression sketch:4 --epsilon 30", 89.3, 66.4},
		{few + "--rounds 20 --compression sketch:16 --epsilon 20", 79.5, 42.9},
		{few + "--rounds 20 --compression none --epsilon 20", 87.5, 45.3},
		{few + "--rounds 100 --compression sketch:16 --epsilon 45", 92.8, 76.3},
		{"--devices 1000 --rounds 50 --compression sketch:16 --epsilon 8", 89.3, 65.0},
		{"--devices 100 --rounds 50 --compression sketch:16 --epsilon 8 --chats 150", 89.3, 22.8},
		{"--devices 100 --rounds 50 --compression sketch:16 --epsilon 32 --chats 150", 89.3, 71.1},
	} {
		out, err := printed(t, "plan --intents 150 --dropout 0.0001 --json "+tc.flags)
		if err != nil {
			t.Fatal(err)
		}
		var p privacyPlan
		if err := json.Unmarshal([]byte(out), &p); err != nil {
			t.Fatal(err)
		}
		if p.Loss == nil {
			t.Errorf("%s: not known for %s", tc.flags, p.LossUnknown)
			continue
		}
		lost := 1 - tc.with/tc.without
		t.Logf("noise %.6f: %.3f lost, %.3f expected: %s", p.LossNoise, lost, *p.Loss, tc.flags)
		if math.Abs(lost-*p.Loss) > p.LossOff {
			t.Errorf("%s: %.3f of what is right without noise is lost, expected are %.3f, give or take %v", tc.flags, lost, *p.Loss, p.LossOff)
		}
	}
	// By hand: at halfLost half is lost, at a hundredth of it 1/(1 + 100^1.9) = 1/6310.57.
	if half, little := lossAt(halfLost), lossAt(halfLost/100); half != 0.5 || math.Abs(little*6310.57-1) > 1e-5 {
		t.Errorf("%v and %v are lost, want 0.5 and 1/6310.57", half, little)
	}
}

// TestLossOfOthersIsNotKnown holds that a plan like none that was measured gets no number.
func TestLossOfOthersIsNotKnown(t *testing.T) {
	const like = "plan --devices 10000 --per-round 1000 --rounds 50 --separation 10 --compression sketch:16 --epsilon 8 "
	if out, err := printed(t, like); err != nil || !strings.Contains(out, "of 100 answers that would be right without noise,") || strings.Contains(out, "not known") {
		t.Errorf("%v:\n%s", err, out)
	}
	for flags, want := range map[string]string{
		"--central-noise --compression none": "noise by the coordinator",
		"--model base":                       "model base; small was measured",
		"--clip 0.5":                         "a clip of 0.5; 1 was measured",
		"--clip-quantile 0.5":                "a clip that moves",
		"--rounds 5":                         "5 rounds; 20 to 100",
		"--chats 3":                          "3 chats a device; 15 to 150",
		"--compression sketch:30":            "9428 numbers a device",
		"--epsilon 0.1":                      "and this is more",
		"--epsilon 100":                      "and this is less",
		"--devices 4 --per-round 4 --separation 1": "and this is more",
	} {
		out, err := printed(t, like+flags)
		if err != nil || !strings.Contains(out, "Expected loss of accuracy: not known for") || !strings.Contains(out, want) {
			t.Errorf("%s: %v, want %q in:\n%s", flags, err, want, out)
		}
	}
}
