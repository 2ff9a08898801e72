package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/discreet-fl/discreet/simulate"
)

// TestUnfinishedSimulationLeavesNoFile holds that a simulation which is stopped takes the
// files away that it made, and no others.
func TestUnfinishedSimulationLeavesNoFile(t *testing.T) {
	s := simulation{config: simulate.Config{MinSurvivors: minSurvivors}}
	flags := pflag.NewFlagSet("simulate", pflag.ContinueOnError)
	s.flags(flags)
	if err := s.fill(flags); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	fresh, old := filepath.Join(dir, "fresh.json"), filepath.Join(dir, "old.html")
	if err := os.WriteFile(old, []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := runSimulation(ctx, s.config, time.Now(), outputs{json: fresh, page: old}, io.Discard, io.Discard)
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("a simulation whose context has ended: %v, want %v", err, context.Canceled)
	}
	if _, err := os.Stat(fresh); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s after it: %v, want none", fresh, err)
	}
	if text, err := os.ReadFile(old); string(text) != "kept" {
		t.Errorf("%s, which was there before, holds %q, %v", old, text, err)
	}
}

// TestUncommittedRoundsAreToldAsSuch holds what is printed of a simulation in which every
// attempt failed, and of one in which devices were lost.
func TestUncommittedRoundsAreToldAsSuch(t *testing.T) {
	failed := simulate.Round{Round: 1, Participants: 20, Attempts: 3, Cohorts: 1, CohortsLost: 1, Drops: simulate.Drops{AfterShare: 20}}
	committed := simulate.Round{Round: 2, Participants: 20, Survivors: 19, Attempts: 1, Cohorts: 1, Drops: simulate.Drops{AfterShare: 1}}
	for _, tc := range []struct {
		name   string
		rounds []simulate.Round
		want   []string
	}{
		{"none committed", []simulate.Round{failed}, []string{"0 of 1 in 3 attempts", "0 of 1\n", "not known: no round was committed", "20, in the last attempt of each"}},
		{"one of two", []simulate.Round{failed, committed}, []string{"1 of 2 in 4 attempts", "1 of 2\n", "none were held back", "21, in the last attempt of each"}},
		{"no attempt failed", []simulate.Round{committed}, []string{"1 of 1 in 1 attempts", "1 of 1\n", "none were held back", " 1\n"}},
	} {
		var out bytes.Buffer
		printSimulation(&out, &simulate.Result{Rounds: tc.rounds, Parameters: 1})
		for _, want := range tc.want {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%s: it prints\n%s, want %q in it", tc.name, out.String(), want)
			}
		}
	}
}
