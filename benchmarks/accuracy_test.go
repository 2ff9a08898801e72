package main

import "testing"

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
