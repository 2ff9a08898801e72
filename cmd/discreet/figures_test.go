package main

import (
	"cmp"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestDemoShowsWhatItPromises reads the demo's table: kiosks that learn together are
// far better than one alone and about as good as all chats in one place, and rounds
// survive kiosks that vanish.
func TestDemoShowsWhatItPromises(t *testing.T) {
	if testing.Short() {
		t.Skip("left out: the demo's forty rounds take half a minute")
	}
	b := newBench(t)
	temporary := t.TempDir()
	b.env = append(b.env, "TMPDIR="+temporary, "TMP="+temporary)
	out := b.must("demo")
	figure := func(row string) float64 {
		found := regexp.MustCompile(`(?m)^` + row + ` +([0-9.]+)`).FindStringSubmatch(out)
		if found == nil {
			t.Fatalf("no row %q in\n%s", row, out)
		}
		x, err := strconv.ParseFloat(found[1], 64)
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	together, alone, central := figure("accuracy after, together"), figure("accuracy of the mean kiosk alone"), figure("accuracy trained centrally")
	if together < alone+10 || together < central-5 {
		t.Errorf("together %v%%, alone %v%%, centrally %v%%: want ten points above alone and within five of central", together, alone, central)
	}
	if figure("kiosks lost in the middle of a round") == 0 || !regexp.MustCompile(`(?m)^rounds +40 committed .* [1-9][0-9]* survived a loss`).MatchString(out) {
		t.Errorf("want forty rounds committed, some of which survived a loss:\n%s", out)
	}
	if given := figure("given away by a kiosk, at most +ε"); given <= 0 || given > 8 || figure("noise in a round's mean") < 10 {
		t.Errorf("want noise in the second rounds, and no more given away than an ε of 8:\n%s", out)
	}
	if exact, noised := figure("accuracy after 8 rounds, exact sums"), figure("under a promise of ε 8 at δ 1e-06"); exact < noised+20 {
		t.Errorf("after 8 rounds %v%% without noise and %v%% with: want what noise of so few kiosks costs", exact, noised)
	}
	if left, err := os.ReadDir(temporary); err != nil || len(left) > 0 {
		t.Errorf("the demo left %v behind, %v", left, err)
	}
}

// TestAccuracyOnCLINC150 holds the accuracy that README's readers may expect.
func TestAccuracyOnCLINC150(t *testing.T) {
	if testing.Short() {
		t.Skip("left out: fifty rounds of a hundred devices take a minute")
	}
	data, err := filepath.Abs(filepath.Join(cmp.Or(os.Getenv("DISCREET_DATA"), "../../../shared/data"), "clinc150", "data_full.json"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(data); err != nil {
		t.Skipf("left out: no CLINC150 (%v); DISCREET_DATA names the folder that holds it", err)
	}
	b := newBench(t)
	args := "--devices 100 --per-round 20 --rounds 50 --split dirichlet:0.5 --model small --drop 0.1 --seed 1 --json -"
	out := b.must(append([]string{"simulate", "--data", data}, strings.Fields(args)...)...)
	var result struct{ Accuracy float64 }
	if err := json.Unmarshal([]byte(out), &result); err != nil {
		t.Fatal(err)
	}
	if result.Accuracy < 0.90 {
		t.Errorf("seed 1: accuracy %v after fifty rounds, want at least 0.90", result.Accuracy)
	}
}
