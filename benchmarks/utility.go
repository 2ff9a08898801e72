package main

import (
	_ "embed"
	"encoding/csv"
	"errors"
	"flag"
	"fmt"
	"html"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
)

// recordedUtility is accuracy under differential privacy as it was measured: a line for
// each run of discreet simulate, with the flags that set it apart.
//
//go:embed utility.csv
var recordedUtility string

// utilityPoint is one run.
type utilityPoint struct {
	fleet, flags string
	epsilon      float64 // 0 where sums were exact
	accuracy     float64 // a share of one
	bytes        string  // up, a device and round, keys not counted
	seconds      string  // of the run, where it was timed
}

// runUtility prints the table of what was recorded, and writes its figure.
func runUtility(args []string) error {
	set := flag.NewFlagSet("utility", flag.ContinueOnError)
	figure := set.String("svg", "", "file for the figure")
	if err := set.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}
	points, err := readUtility(recordedUtility)
	if err != nil {
		return err
	}
	writeUtilityTable(os.Stdout, points)
	if *figure == "" {
		return nil
	}
	return os.WriteFile(*figure, []byte(utilityFigure(points)), 0o644)
}

// readUtility reads the lines of runs; those of a fleet stand together, ε ascending.
func readUtility(text string) (points []utilityPoint, err error) {
	lines, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("utility.csv: %w", err)
	}
	for i, l := range lines[1:] {
		p := utilityPoint{fleet: l[0], flags: l[1], bytes: l[4], seconds: l[5]}
		if l[2] != "none" {
			if p.epsilon, err = strconv.ParseFloat(l[2], 64); err != nil || !(p.epsilon >= 1 && p.epsilon <= 64) {
				return nil, fmt.Errorf("utility.csv, line %d: ε %q, want 1 to 64 or none", i+2, l[2])
			}
		}
		if p.accuracy, err = strconv.ParseFloat(l[3], 64); err != nil || !(p.accuracy >= 0 && p.accuracy <= 1) {
			return nil, fmt.Errorf("utility.csv, line %d: accuracy %q, want a share of one", i+2, l[3])
		}
		points = append(points, p)
	}
	return points, nil
}

// label is the run's ε as text.
func (p *utilityPoint) label() string {
	if p.epsilon == 0 {
		return "none"
	}
	return strconv.FormatFloat(p.epsilon, 'g', -1, 64)
}

// writeUtilityTable writes the runs as rows of Markdown.
func writeUtilityTable(w io.Writer, points []utilityPoint) {
	fmt.Fprint(w, "| fleet | flags | ε | accuracy | bytes up | seconds |\n|---|---|---|---|---|---|\n")
	for i, p := range points {
		fleet, flags := p.fleet, "`"+p.flags+"`"
		if i > 0 && points[i-1].fleet == p.fleet {
			fleet = ""
		}
		if i > 0 && points[i-1].flags == p.flags {
			flags = "the same"
		}
		fmt.Fprintf(w, "| %s | %s | %s | %.1f%% | %s | %s |\n", fleet, flags, p.label(), 100*p.accuracy, p.bytes, p.seconds)
	}
}

// The plot's edges in its own units.
const utilityLeft, utilityRight, utilityTop, utilityBottom = 48.0, 450.0, 20.0, 280.0

// place is where a run stands in the plot: ε on a logarithmic axis, sums without noise at
// its end.
func (p *utilityPoint) place() (x, y float64) {
	const octaves = 6.5 // 1 to 64, and room for none
	at := octaves
	if p.epsilon > 0 {
		at = math.Log2(p.epsilon)
	}
	return utilityLeft + (utilityRight-utilityLeft)*at/octaves, utilityBottom - (utilityBottom-utilityTop)*p.accuracy
}

// utilityFigure is the plot of the runs as SVG: a line for each fleet.
func utilityFigure(points []utilityPoint) string {
	colours := []string{"#0b6e4f", "#1f5fa8", "#6a9fd8", "#a8321f", "#d88a6a"}
	var b strings.Builder
	b.WriteString(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 620 330" font-family="system-ui, sans-serif" font-size="12" role="img">
<title>Accuracy on CLINC150 after 50 rounds, by ε and fleet</title>
<rect width="620" height="330" fill="#fff"/>
`)
	for share := 0; share <= 100; share += 20 {
		_, y := (&utilityPoint{accuracy: float64(share) / 100}).place()
		fmt.Fprintf(&b, "<path d=\"M%g %gH%g\" stroke=\"#ddd\"/><text x=\"%g\" y=\"%g\" text-anchor=\"end\" fill=\"#555\">%d%%</text>\n",
			utilityLeft, y, utilityRight+10, utilityLeft-6, y+4, share)
	}
	for _, epsilon := range []float64{1, 2, 4, 8, 16, 32, 64, 0} {
		tick := utilityPoint{epsilon: epsilon}
		x, y := tick.place()
		fmt.Fprintf(&b, "<text x=\"%.1f\" y=\"%g\" text-anchor=\"middle\" fill=\"#555\">%s</text>\n", x, y+16, tick.label())
	}
	fmt.Fprintf(&b, "<text x=\"%g\" y=\"318\" text-anchor=\"middle\" fill=\"#333\">ε at δ 10⁻⁶, for each device over all rounds</text>\n", (utilityLeft+utilityRight)/2)
	fleets := 0
	for i := 0; i < len(points); {
		colour := colours[fleets%len(colours)]
		fleets++
		var line []string
		var x, y float64
		from := i
		for ; i < len(points) && points[i].fleet == points[from].fleet; i++ {
			x, y = points[i].place()
			line = append(line, fmt.Sprintf("%.1f,%.1f", x, y))
			fmt.Fprintf(&b, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4\" fill=\"%s\"/>\n", x, y, colour)
		}
		fmt.Fprintf(&b, "<polyline points=\"%s\" fill=\"none\" stroke=\"%s\" stroke-width=\"2\"/><text x=\"%.1f\" y=\"%.1f\" fill=\"%s\" stroke=\"#fff\" stroke-width=\"4\" paint-order=\"stroke\">%s</text>\n",
			strings.Join(line, " "), colour, x+10, y+4, colour, html.EscapeString(points[from].fleet))
	}
	b.WriteString("</svg>\n")
	return b.String()
}
