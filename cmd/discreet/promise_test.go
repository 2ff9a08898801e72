package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/discreet-fl/discreet/client"
	"github.com/discreet-fl/discreet/coordinator"
	"github.com/discreet-fl/discreet/model"
	pb "github.com/discreet-fl/discreet/proto"
)

// promised is the task that flags ask for.
func promisedTask(t *testing.T, flags ...string) *pb.Task {
	t.Helper()
	b := newBench(t)
	b.write("intents.txt", "greet\nleave\n")
	var s taskSettings
	f := pflag.NewFlagSet("task", pflag.ContinueOnError)
	s.flags(f)
	if err := f.Parse(append(flags, "--intents", filepath.Join(b.dir, "intents.txt"))); err != nil {
		t.Fatal(err)
	}
	if err := s.fill("desk", f); err != nil {
		t.Fatal(err)
	}
	return &pb.Task{Spec: &s.spec, Intents: 2}
}

// TestTasksSayWhatTheyPromise holds what an operator reads of a task with noise, and how
// loudly one without says that it has none.
func TestTasksSayWhatTheyPromise(t *testing.T) {
	var exact, noised strings.Builder
	plain := promisedTask(t)
	printTask(&exact, plain)
	warnOfExactSums(&exact, plain.Spec)
	for _, want := range []string{"NONE: sums are exact", "WARNING: desk has no privacy budget"} {
		if !strings.Contains(exact.String(), want) {
			t.Errorf("a task without noise says %s, want %q", exact.String(), want)
		}
	}
	task := promisedTask(t, "--epsilon", "8", "--per-round", "100", "--separation", "10", "--compression", "sketch:6")
	if task.Spec.MinSurvivors != 80 || task.Spec.Evaluation != nil {
		t.Errorf("%d must survive, evaluation %v; want four fifths, and none", task.Spec.MinSurvivors, task.Spec.Evaluation)
	}
	l, err := model.NewLayout("small", 2)
	if err != nil {
		t.Fatal(err)
	}
	noise, err := coordinator.NoiseOf(task.Spec, l)
	if err != nil {
		t.Fatal(err)
	}
	task.Privacy = &pb.TaskPrivacy{Noise: noise, Devices: 100, Participations: 2, Charged: 2 * noise.Charge}
	printTask(&noised, task)
	warnOfExactSums(&noised, task.Spec)
	for _, want := range []string{"ε at most 8 at δ 1e-06 for each device", "5 times at most, 10 rounds apart", "at least 70 honest devices", "up to 10.0% more than was asked for", "parts come off at 85, 91, 99 survivors of a cohort", "in 2 vectors; 100 devices have sent some"} {
		if !strings.Contains(noised.String(), want) {
			t.Errorf("a task with noise says %s, want %q", noised.String(), want)
		}
	}
	if strings.Contains(noised.String(), "WARNING") {
		t.Errorf("a task with noise warns: %s", noised.String())
	}
}

// TestTasksSayWhereTheirClipIs holds what an operator reads of a clip that moves.
func TestTasksSayWhereTheirClipIs(t *testing.T) {
	task := promisedTask(t, "--epsilon", "8", "--per-round", "100", "--compression", "sketch:6", "--clip", "2", "--clip-quantile", "0.55")
	if task.Spec.Privacy.ClipQuantile != 5500 {
		t.Errorf("a quantile of %d in 10,000, want 5500", task.Spec.Privacy.ClipQuantile)
	}
	l, err := model.NewLayout("small", 2)
	if err != nil {
		t.Fatal(err)
	}
	noise, err := coordinator.NoiseOf(task.Spec, l)
	if err != nil {
		t.Fatal(err)
	}
	noise.Clip = 0.71239
	task.Privacy = &pb.TaskPrivacy{Noise: noise}
	var out strings.Builder
	printTask(&out, task)
	rounds := []*pb.RoundRecord{{Round: 3, Attempt: 1, Survivors: 90, Privacy: &pb.RoundPrivacy{Clip: 0.81239}}}
	if err := printRounds(&out, rounds); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"0.7124, the most that an update's norm is let be; it began at 2 and moves until 55% of updates keep to it", "committed; its clip was 0.8124"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the task says %s, want %q", out.String(), want)
		}
	}
}

// TestTasksWithCentralNoiseSaySo holds that an operator reads who adds the noise.
func TestTasksWithCentralNoiseSaySo(t *testing.T) {
	task := promisedTask(t, "--epsilon", "8", "--per-round", "100", "--rounds", "50", "--separation", "10", "--central-noise")
	if c := task.Spec.Privacy.GetCentral(); c.GetRounds() != 50 || len(c.GetScale()) != 2 || task.Spec.MinSurvivors != minSurvivors {
		t.Errorf("noise %v with %d survivors, want 50 rounds, two buffers and %d", c, task.Spec.MinSurvivors, minSurvivors)
	}
	l, err := model.NewLayout("small", 2)
	if err != nil {
		t.Fatal(err)
	}
	noise, err := coordinator.NoiseOf(task.Spec, l)
	if err != nil {
		t.Fatal(err)
	}
	task.Privacy = &pb.TaskPrivacy{Noise: noise}
	var out strings.Builder
	printTask(&out, task)
	if want := "by the coordinator, which sees sums without"; !strings.Contains(out.String(), want) || !strings.Contains(out.String(), "correlated over 50 rounds") {
		t.Errorf("the task says %s, want %q and over how many rounds", out.String(), want)
	}
}

func TestLedgerInWords(t *testing.T) {
	var out strings.Builder
	printGiven(&out, []client.Given{{Task: "old", Exact: 3}, {Task: "desk", Epsilon: 8, Delta: 1e-6, Participations: 5, Separation: 2, GivenRho: 0.21, BudgetRho: 1.05, GivenEpsilon: 3.2, Vectors: make([]client.Vector, 1)}})
	for _, want := range []string{"3, to exact sums: nothing is promised of them", "ε at most 8 at δ 1e-06", "1 of 5 at most, 2 rounds apart", "ε 3.2 (ρ 0.21 of 1.05)"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the ledger reads %s, want %q", out.String(), want)
		}
	}
}
