package main

import (
	"strings"
	"testing"
)

func TestMeasureAccuracy(t *testing.T) {
	s := accuracySettings{Validate: true, Model: "small", Devices: 12, PerRound: 4, MinSurvivors: 3, Split: "iid", Rounds: 2, Compression: "none"}
	s.Training.Epochs, s.Training.Batch, s.Training.LearningRate = 1, 8, 0.3
	one, err := s.measure(1, true)
	if err != nil {
		t.Fatal(err)
	}
	if after, ok := one.After["2"]; !ok || len(one.After) != 1 || one.Centralised <= after {
		t.Errorf("figures are %+v, want some after two rounds and more centrally", one)
	}
	s.Split = "odd"
	if _, err := s.measure(1, false); err == nil {
		t.Error("an unknown split is measured")
	}
}

// TestMeasureInOnePlace holds that each setting of training in one place, and the cut, makes a
// difference, and that none is made to the devices.
func TestMeasureInOnePlace(t *testing.T) {
	s := accuracySettings{Validate: true, Model: "small", Devices: 12, PerRound: 4, MinSurvivors: 3, Split: "iid", Rounds: 1, Compression: "none", Passes: 2}
	s.Training.Epochs, s.Training.Batch, s.Training.LearningRate, s.Training.FeatureDropout = 1, 8, 0.3, 0.3
	measure := func(s accuracySettings) *seedAccuracy {
		one, err := s.measure(1, true)
		if err != nil {
			t.Fatal(err)
		}
		return one
	}
	first := measure(s)
	none, tenth, two := float32(0), float32(0.1), 2
	for name, change := range map[string]func(*accuracySettings){
		"passes":      func(s *accuracySettings) { s.Passes = 3 },
		"consistency": func(s *accuracySettings) { s.Consistency = &none },
		"hidden":      func(s *accuracySettings) { s.HiddenDropout = &tenth },
		"averaged":    func(s *accuracySettings) { s.Averaged = &two },
		"unlike":      func(s *accuracySettings) { s.Unlike = true },
	} {
		other := s
		change(&other)
		got := measure(other)
		if got.Centralised == first.Centralised || !other.Unlike && got.After["1"] != first.After["1"] {
			t.Errorf("with another %s: %+v, before %+v", name, got, first)
		}
	}
	s.Passes = -1
	if _, err := s.measure(1, true); err == nil {
		t.Error("-1 passes are measured")
	}
}

func TestAccuracyRefusesWhatDoesNothing(t *testing.T) {
	for args, want := range map[string]string{
		"--unlike":                           "--unlike without --validate",
		"--consistency 2 --central=false":    "without training in one place",
		"--hidden-dropout 0 --central=false": "without training in one place",
		"--averaged 0 --central=false":       "without training in one place",
		"--passes 3 --central=false":         "without training in one place",
		"--validate --unlike --seeds ,1":     `seed ""`,
	} {
		args += " --devices 12 --per-round 4 --rounds 1"
		if err := runAccuracy(strings.Fields(args)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want it to say %s", args, err, want)
		}
	}
}
