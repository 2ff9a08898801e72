package round

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"github.com/discreet-fl/discreet/secagg"
)

// TestFaultMatrix lets one device do one thing wrong in one step, for every step and
// every fault, and in the cohort of thirty several devices at once one thing each. What
// comes of it stands in testdata/faults; that it is right is held by the stage: each case
// ends in exactly the survivors' sum or in an abort with a reason, and nobody is
// blamed but who it was.
func TestFaultMatrix(t *testing.T) {
	for _, c := range []struct {
		name  string
		cast  cast
		flips int // bits turned in each message
	}{
		{"three", cast{devices: 3, cohort: 3, keys: secagg.Hybrid}, 64},
		{"five", cast{devices: 5, cohort: 5, keys: secagg.Classical}, 24},
		{"two-cohorts", cast{devices: 8, cohort: 4, keys: secagg.Classical, corrupt: 600}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var out strings.Builder
			for _, step := range matrixSteps {
				for _, f := range faultsIn(step, c.cast) {
					outcomes := []string{}
					for i := range matrixRuns(f, c.flips) {
						g := f
						if f.name == "flips a bit" && step != checkingIn {
							g = flipping(i, c.flips)
						}
						if o := playOne(t, c.cast, step, g); !slices.Contains(outcomes, o) {
							outcomes = append(outcomes, o)
						}
					}
					fmt.Fprintf(&out, "%-9s %-50s %s\n", stepName(step), f.name, strings.Join(outcomes, "\n"+strings.Repeat(" ", 58)+"or "))
				}
			}
			golden(t, c.name, out.String())
		})
	}
	t.Run("thirty", func(t *testing.T) {
		t.Parallel()
		c := cast{devices: 30, cohort: 30, keys: secagg.Classical}
		var out strings.Builder
		for _, step := range matrixSteps {
			list := faultsIn(step, c)
			spoiling := slices.DeleteFunc(slices.Clone(list), func(f *fault) bool { return !f.spoils })
			list = slices.DeleteFunc(list, func(f *fault) bool { return f.spoils })
			for batch := range slices.Chunk(list, 10) {
				playBatch(t, &out, c, step, batch)
			}
			for _, f := range spoiling {
				playBatch(t, &out, c, step, []*fault{f})
			}
		}
		golden(t, "thirty", out.String())
	})
}

var matrixSteps = slices.Concat([]Step{checkingIn}, everyStep)

// faultsIn lists the faults of a step.
func faultsIn(step Step, c cast) (list []*fault) {
	for _, f := range slices.Concat(faults, lies) {
		if f.in(step) && (f.fits == nil || f.fits(c)) {
			list = append(list, f)
		}
	}
	return list
}

func matrixRuns(f *fault, flips int) int {
	if f.name == "flips a bit" {
		return flips
	}
	return 1
}

// playOne plays a round in which the last device but one has that fault.
func playOne(t *testing.T, c cast, step Step, f *fault) string {
	return playStage(t, fmt.Sprintf("%d devices, %s: %s", c.devices, stepName(step), f.name), func() *stage {
		s := newStage(t, c)
		a := s.agents[c.devices-2]
		if a.give(step, f); step == complaining && f.ready == nil {
			s.agents[c.devices-3].give(Share, misdealing) // so that there is something to complain of
		}
		return s
	})
}

// playBatch plays a round in which several devices have one fault each. They are not
// the last ones to send.
func playBatch(t *testing.T, out *strings.Builder, c cast, step Step, batch []*fault) {
	var names []string
	for i, f := range batch {
		names = append(names, fmt.Sprintf("%d %s", 3*i+1, f.name))
	}
	outcome := playStage(t, strings.Join(names, ", "), func() *stage {
		s := newStage(t, c)
		for i, f := range batch {
			if s.agents[3*i+1].give(step, f); step == complaining && f.ready == nil {
				s.agents[3*i].give(Share, misdealing)
			}
		}
		return s
	})
	fmt.Fprintf(out, "%s: %s\n\t%s\n", stepName(step), strings.Join(names, "; "), strings.ReplaceAll(outcome, "; ", "\n\t"))
}

// playStage plays a round and tells what came of it.
func playStage(t testing.TB, name string, set func() *stage) string {
	outcome, err := safely(set)
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return "failed"
	}
	return outcome
}

// safely turns what a stage found wrong, and every panic, into an error.
func safely(set func() *stage) (outcome string, err error) {
	var s *stage
	defer func() {
		switch p := recover().(type) {
		case nil:
		case failure:
			err = fmt.Errorf("%s", p.text)
		default:
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
			if s != nil {
				err = fmt.Errorf("%w, after\n%s", err, strings.Join(s.trace, "\n"))
			}
		}
	}()
	s = set()
	s.play()
	return strings.Join(s.notes, "; "), nil
}

// golden holds what came of a matrix against what stands in testdata/faults.
func golden(t *testing.T, name, got string) {
	path := filepath.Join("testdata", "faults", name+".txt")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	gotLines, wantLines := strings.Split(got, "\n"), strings.Split(string(want), "\n")
	for i := range min(len(gotLines), len(wantLines)) {
		if gotLines[i] != wantLines[i] {
			t.Errorf("line %d of %s:\n%s\nwant\n%s", i+1, path, gotLines[i], wantLines[i])
			return
		}
	}
	if len(gotLines) != len(wantLines) {
		t.Errorf("%d lines, %s has %d; rewrite it with -update", len(gotLines), path, len(wantLines))
	}
}
