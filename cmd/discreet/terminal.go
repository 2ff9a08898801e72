package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/term"
)

// toldEvery is how long a run that is not watched on a terminal goes on without a word,
// unless its steps take longer.
const toldEvery = time.Minute

// progress shows how far a run has come and how long it will take: one line that is
// rewritten on a terminal, a plain line for each tenth of the run, or for a minute,
// elsewhere.
type progress struct {
	w           io.Writer
	live        bool
	drawn       bool // the live line is on the terminal
	total       int
	nextTold    int
	start, told time.Time
}

func newProgress(w io.Writer, total int) *progress {
	file, ok := w.(*os.File)
	now := time.Now()
	return &progress{w: w, live: ok && term.IsTerminal(int(file.Fd())), total: total, nextTold: 1, start: now, told: now}
}

// line shows the state after done steps, and the time left as far as the steps so far
// tell it.
func (p *progress) line(done int, text string) {
	if done > 0 && done < p.total {
		text += ", " + about(time.Since(p.start)/time.Duration(done)*time.Duration(p.total-done)) + " left"
	}
	if p.live {
		p.drawn = true
		fmt.Fprintf(p.w, "\r\x1b[K%s %s", bar(done, p.total), text)
		return
	}
	if done >= p.nextTold || done == p.total || time.Since(p.told) >= toldEvery {
		fmt.Fprintln(p.w, text)
		p.nextTold, p.told = done+max(p.total/10, 1), time.Now()
	}
}

// about prints a time as coarsely as an estimate deserves.
func about(d time.Duration) string {
	switch {
	case d < time.Second:
		return "less than 1s"
	case d < 2*time.Minute:
		return fmt.Sprintf("about %ds", int(d.Round(time.Second).Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("about %dmin", int(d.Round(time.Minute).Minutes()))
	}
	return fmt.Sprintf("about %dh", int(d.Round(time.Hour).Hours()))
}

// end leaves the live line.
func (p *progress) end() {
	if p.live && p.drawn {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.drawn = false
	}
}

// bar draws done of total over twenty cells.
func bar(done, total int) string {
	full := 20 * done / max(total, 1)
	return strings.Repeat("█", full) + strings.Repeat("░", 20-full)
}

// table prints rows in two columns.
func table(w io.Writer, rows [][2]string) {
	width := 0
	for _, row := range rows {
		width = max(width, utf8.RuneCountInString(row[0]))
	}
	for _, row := range rows {
		fmt.Fprintf(w, "%s%s  %s\n", row[0], strings.Repeat(" ", width-utf8.RuneCountInString(row[0])), row[1])
	}
}

// count prints a number of things.
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// percent prints a share of one.
func percent(x float64) string { return fmt.Sprintf("%.1f%%", 100*x) }
