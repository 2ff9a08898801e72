package main

import (
	"cmp"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

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
