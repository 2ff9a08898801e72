package main

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestProgressTellsTheTimeLeft watches a run without a terminal: a line for each tenth,
// with the time left as the steps so far tell it.
func TestProgressTellsTheTimeLeft(t *testing.T) {
	for _, tc := range []struct {
		step  time.Duration
		total int
		lines int
		first string
	}{
		{time.Second, 40, 11, "step 1, about 39s left"},
		{10 * time.Millisecond, 20, 11, "step 1, less than 1s left"},
		{50 * time.Second, 40, 21, "step 1, about 33min left"},
		{time.Hour, 5, 5, "step 1, about 4h left"},
		{time.Second, 1, 1, "step 1"},
	} {
		synctest.Test(t, func(t *testing.T) {
			var out strings.Builder
			p := newProgress(&out, tc.total)
			for n := 1; n <= tc.total; n++ {
				<-time.After(tc.step)
				p.line(n, fmt.Sprintf("step %d", n))
			}
			p.end()
			lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
			if len(lines) != tc.lines || lines[0] != tc.first || lines[len(lines)-1] != fmt.Sprintf("step %d", tc.total) {
				t.Errorf("%d steps of %v: got %d lines, want %d, the first %q:\n%s", tc.total, tc.step, len(lines), tc.lines, tc.first, out.String())
			}
		})
	}
}
