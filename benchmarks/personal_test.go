package main

import "testing"

// TestMeasurePersonal runs every way on a few devices of the embedded shop.
func TestMeasurePersonal(t *testing.T) {
	s := personalSettings{size: "small", split: "iid", devices: 6, perRound: 3, rounds: 1, swaps: 2, heldBack: 2000, seed: 1}
	owners, config, err := s.deal()
	if err != nil {
		t.Fatal(err)
	}
	for i, o := range owners {
		if len(o.own) == 0 || len(o.held) == 0 || len(o.aside) == 0 || len(o.own)+len(o.held) != len(config.Train[i]) {
			t.Errorf("device %d trains on %d, judges by %d and has %d set aside; the simulation gives it %d", i, len(o.own), len(o.held), len(o.aside), len(config.Train[i]))
		}
	}
	if err := s.run(); err != nil {
		t.Error(err)
	}
}
