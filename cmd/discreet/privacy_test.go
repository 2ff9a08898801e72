package main

import (
	"bytes"
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/discreet-fl/discreet/privacy"
)

// printed runs a command of the privacy group in this process.
func printed(t *testing.T, args string) (string, error) {
	t.Helper()
	return printedBy(t, append([]string{"privacy"}, strings.Fields(args)...)...)
}

// printedBy is what a command prints.
func printedBy(t *testing.T, args ...string) (string, error) {
	t.Helper()
	root, out := newRoot(), new(bytes.Buffer)
	root.SetArgs(args)
	root.SetOut(out)
	err := root.ExecuteContext(t.Context())
	return out.String(), err
}

// TestPrivacyPlanCanBeRecomputed takes the numbers of a plan and comes to its ε with
// the formulas alone, as docs/privacy.md has them.
func TestPrivacyPlanCanBeRecomputed(t *testing.T) {
	out, err := printed(t, "plan --epsilon 8 --devices 10000 --per-round 2500 --rounds 48 --participations 12 --separation 4 --compression sketch:6 --dropout 0.1 --clip 0.5 --json")
	if err != nil {
		t.Fatal(err)
	}
	var p privacyPlan
	if err := json.Unmarshal([]byte(out), &p); err != nil {
		t.Fatal(err)
	}
	if p.Cohorts != 3 || p.Cohort != 833 || p.MinSurvivors != 750 || p.Honest != 667 || p.Participations != 12 {
		t.Errorf("%+v: want 3 cohorts of 833, 750 survivors, 667 honest, 12 participations", p)
	}
	// 8,192 rows of 32 are folded to one in 6; the output layer is 33 × 20.
	d := float64(1366*32 + 33*20)
	if p.Parameters != int(d) {
		t.Errorf("%d parameters, want %v", p.Parameters, d)
	}
	scaled := p.Scale * p.Clip
	norm := math.Sqrt(scaled*scaled + d/4 + scaled + math.Sqrt(d)/2)
	if math.Abs(p.Norm/norm-1) > 1e-6 {
		t.Errorf("norm %v, want %v", p.Norm, norm)
	}
	rho := norm * norm / (2 * float64(p.Honest) * p.Sigma * p.Sigma)
	if math.Abs(p.RhoRound/rho-1) > 1e-6 || math.Abs(p.Rho/rho/12-1) > 1e-6 || p.Rho > p.RhoBudget {
		t.Errorf("ρ %v a round and %v in all, want %v and 12 times that, within %v", p.RhoRound, p.Rho, rho, p.RhoBudget)
	}
	if e := privacy.Epsilon(12*rho, 1e-6); math.Abs(p.EpsilonAtEnd-e) > 1e-6 || p.EpsilonAtEnd > 8 || e < 7.99 {
		t.Errorf("ε %v at the end, want %v, just below 8", p.EpsilonAtEnd, e)
	}
	// From 808 survivors on, 725 of them honest, each is left with the noise that those need.
	if !slices.Equal(p.Levels, []int{808}) || math.Abs(p.Overshoot-math.Sqrt(807./667)) > 1e-9 {
		t.Errorf("noise comes off at %v survivors and is %v times what was asked for at most, want 808 and the root of 807/667", p.Levels, p.Overshoot)
	}
	// It is in the mean over all three cohorts.
	if noise := p.Multiplier * norm * math.Sqrt(833./725) / 833 / p.Scale / math.Sqrt(3); math.Abs(p.NoiseSigma/noise-1) > 1e-6 {
		t.Errorf("noise in the mean %v, want %v", p.NoiseSigma, noise)
	}
	if want := (int(d+1)*p.RingBits + 7) / 8; p.Bytes != want {
		t.Errorf("%d bytes at %d bits, want %d", p.Bytes, p.RingBits, want)
	}
}

// TestPrivacyPlanOfAClipThatMoves adds the costs of update and vote up.
func TestPrivacyPlanOfAClipThatMoves(t *testing.T) {
	const flags = "plan --epsilon 8 --devices 10000 --per-round 1000 --rounds 50 --separation 10 --compression sketch:16 --clip-quantile 0.5"
	out, err := printed(t, flags+" --json")
	if err != nil {
		t.Fatal(err)
	}
	var p privacyPlan
	if err := json.Unmarshal([]byte(out), &p); err != nil {
		t.Fatal(err)
	}
	d, x := float64(p.Parameters), p.Scale*p.Clip
	update := x*x + d/4 + x + math.Sqrt(d)/2
	if norm := math.Sqrt(update + float64(p.Below*p.Below)); p.Below != p.Above || p.Below < 10 || math.Abs(p.Norm/norm-1) > 1e-9 {
		t.Errorf("norm %v with votes of %d and −%d, want %v", p.Norm, p.Below, p.Above, norm)
	}
	rho := update/(2*float64(p.Honest)*p.Sigma*p.Sigma) + privacy.GaussianRho(0.5, p.VoteNoise)
	if math.Abs(p.RhoRound/rho-1) > 1e-6 || p.EpsilonAtEnd > 8 || p.EpsilonAtEnd < 7.99 || p.VoteNoise < 30 || p.VoteNoise > 50 {
		t.Errorf("ρ %v, want %v of update and vote together, whose noise is %v", p.RhoRound, rho, p.VoteNoise)
	}
	if want := ((p.Parameters+2)*p.RingBits + 7) / 8; p.Bytes != want {
		t.Errorf("%d bytes, want %d", p.Bytes, want)
	}
	out, err = printed(t, flags)
	if err != nil || !strings.Contains(out, "moves until 50% of updates keep to it") || !strings.Contains(out, "--compression sketch:16 --model small --clip-quantile 0.5") {
		t.Errorf("%v:\n%s", err, out)
	}
}

func TestPrivacyPlanInWords(t *testing.T) {
	out, err := printed(t, "plan --epsilon 4 --delta 1e-6 --devices 1000 --rounds 50")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"50 times at most in 50 rounds", "1000 devices; 800 must survive, and 700 of them be honest",
		"up to 10.0% more than was asked for", "parts come off at 848, 906, 976 survivors",
		"ρ 0.0062213", "ε 4.0000 at δ 1e-06, at worst", "σ 620.441 in whole numbers", "22 bits for each of 262805 numbers, 723 kB",
		"54.6 to 1 at most", "54.6 to 1000 at most", "69.7% of the time at most",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the plan lacks %q:\n%s", want, out)
		}
	}
	if strings.Contains(out, "amplif") || strings.Contains(out, "NaN") || strings.Contains(out, "Inf") {
		t.Errorf("the plan says what it must not:\n%s", out)
	}
	for epsilon, want := range map[float64]string{0.1: "1.11 to 1 at most", 8: "2981 to 1 at most", 30: "anything"} {
		if got := odds(1, epsilon); got != want {
			t.Errorf("even odds at ε=%v: got %q, want %q", epsilon, got, want)
		}
	}
}

// TestPrivacyPlanOfCentralNoise recomputes the ε of noise that the coordinator adds.
func TestPrivacyPlanOfCentralNoise(t *testing.T) {
	out, err := printed(t, "plan --epsilon 8 --devices 10000 --rounds 100 --separation 20 --participations 5 --per-round 400 --central-noise --json")
	if err != nil {
		t.Fatal(err)
	}
	var p privacyPlan
	if err := json.Unmarshal([]byte(out), &p); err != nil {
		t.Fatal(err)
	}
	m, err := privacy.OptimiseBLT(2, 100, 20, 5)
	if err != nil {
		t.Fatal(err)
	}
	rho := privacy.CorrelatedRho(256*p.Norm, m.Sensitivity(100, 20, 5), p.Sigma, 100, p.Parameters)
	if e := privacy.Epsilon(rho, 1e-6); e > 8 || e < 7.9 || p.EpsilonAtEnd < e || p.EpsilonAtEnd > 8 {
		t.Errorf("ε %v, charged as %v; want little below 8, and no more than charged", e, p.EpsilonAtEnd)
	}
	// 7.3 in place of 22.4, at the norm of one device and ρ of ½.
	want := m.Noise(100, 20, 5) / math.Sqrt(2*p.Rho) * math.Sqrt(float64(p.Parameters)) / 400 / 100
	if math.Abs(p.NoiseRounds/want-1) > 0.02 {
		t.Errorf("noise over all rounds %v, want %v", p.NoiseRounds, want)
	}
	out, err = printed(t, "plan --epsilon 8 --devices 10000 --rounds 100 --separation 20 --per-round 400 --central-noise")
	if err != nil || !strings.Contains(out, "but not against the coordinator") || !strings.Contains(out, "--compression none --model small --central-noise") {
		t.Errorf("%v:\n%s", err, out)
	}
}

func TestPrivacyPlanRefuses(t *testing.T) {
	for args, want := range map[string]string{
		"--devices 10 --rounds 5":                                                     "--epsilon is missing",
		"--epsilon 4 --rounds 5":                                                      "--devices is missing",
		"--epsilon 4 --devices 10":                                                    "--rounds is missing",
		"--epsilon -1 --devices 10 --rounds 5":                                        "ε -1",
		"--epsilon NaN --devices 10 --rounds 5":                                       "ε NaN",
		"--epsilon 4 --devices -3 --rounds 5":                                         "--per-round -3",
		"--epsilon 4 --devices 10 --rounds 5 --delta 0.1":                             "below 1/10",
		"--epsilon 4 --devices 10 --rounds 5 --delta 0":                               "--delta 0",
		"--epsilon 4 --devices 10 --rounds 5 --per-round 2":                           "--per-round 2, want 3",
		"--epsilon 4 --devices 10 --rounds 5 --per-round 11":                          "no more than there are",
		"--epsilon 4 --devices 10 --rounds 5 --cohort 1":                              "--cohort 1, want 3",
		"--epsilon 4 --devices 10 --rounds 5 --dropout 0.5":                           "--dropout 0.5",
		"--epsilon 4 --devices 10 --rounds 5 --corrupt -0.1":                          "--corrupt -0.1",
		"--epsilon 4 --devices 3 --rounds 5 --corrupt 0.3333 --cohort 3":              "",
		"--epsilon 4 --devices 10 --rounds 5 --participations 2":                      "allow 5 participations",
		"--epsilon 4 --devices 10 --rounds 5 --participations -2":                     "-2 participations",
		"--epsilon 4 --devices 10 --rounds 5 --separation 2":                          "need 20 devices",
		"--epsilon 4 --devices 10 --rounds 5 --model huge":                            `model size "huge"`,
		"--epsilon 4 --devices 10 --rounds 5 --intents 1":                             "1 intents",
		"--epsilon 4 --devices 10 --rounds 5 --compression much":                      `compression "much"`,
		"--epsilon 4 --devices 10 --rounds 5 --chats 0":                               "--chats 0, want 1",
		"--epsilon 4 --devices 10 --rounds 5 --clip 0":                                "clip of 0",
		"--epsilon 0.001 --devices 10 --rounds 5000":                                  "survivors",
		"--epsilon 2000 --devices 10 --rounds 5":                                      "at most 1000",
		"--epsilon 4 --devices 4 --rounds 5 --corrupt 0.3333 --dropout 0.3333":        "",
		"--epsilon 4 --devices 6 --per-round 6 --cohort 3 --rounds 5 --dropout 0.333": "",
	} {
		_, err := printed(t, "plan "+args) // the coordinator says most of it, as of a task
		if want == "" && err != nil {
			t.Errorf("%s: %v", args, err)
		}
		if want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: error %v, want one with %q", args, err, want)
		}
	}
}

func TestPrivacyConvert(t *testing.T) {
	out, err := printed(t, "convert --epsilon 4 --delta 1e-6")
	if err != nil || !strings.Contains(out, "0.3110649549") || !strings.Contains(out, "3.737") {
		t.Errorf("%v:\n%s\nwant ρ 0.3110649549 and an exact ε of 3.737", err, out)
	}
	for args, want := range map[string]string{
		"--rho 1 --epsilon 2":   "one of them",
		"--rho 1 --delta 0":     "--delta 0",
		"--rho -1":              "--rho -1",
		"--epsilon 1e300":       "--epsilon 1e+300",
		"--rho NaN":             "--rho NaN",
		"--epsilon 1 --delta 1": "--delta 1",
	} {
		if _, err := printed(t, "convert "+args); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one with %q", args, err, want)
		}
	}
}

func TestPrivacyVectors(t *testing.T) {
	out, err := printed(t, "vectors")
	if err != nil || strings.Count(out, "  ok  ") != 34 {
		t.Errorf("%v:\n%s\nwant 34 values that are met", err, out)
	}
	if err := printVectors(new(bytes.Buffer), []privacy.Vector{{Name: "x", Got: 1, Want: 2, Tolerance: 0.5}}); err == nil || !strings.Contains(err.Error(), "1 value of 1 missed") {
		t.Errorf("a missed value: error %v", err)
	}
}
