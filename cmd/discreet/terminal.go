package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"
)

// progress shows how far a run has come: one line that is rewritten on a terminal,
// a plain line for each tenth of the run elsewhere.
type progress struct {
	w        io.Writer
	live     bool
	drawn    bool // the live line is on the terminal
	total    int
	nextTold int
}

func newProgress(w io.Writer, total int) *progress {
	file, ok := w.(*os.File)
	return &progress{w: w, live: ok && term.IsTerminal(int(file.Fd())), total: total, nextTold: 1}
}

// line shows the state after done steps.
func (p *progress) line(done int, text string) {
	if p.live {
		p.drawn = true
		fmt.Fprintf(p.w, "\r\x1b[K%s %s", bar(done, p.total), text)
		return
	}
	if done >= p.nextTold || done == p.total {
		fmt.Fprintln(p.w, text)
		p.nextTold = done + max(p.total/10, 1)
	}
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
