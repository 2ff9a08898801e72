// Package report writes a simulation's result as one page of HTML that needs nothing
// else: its pictures are SVG in it, and it runs no script.
//
// Begin with Write.
package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"strings"

	"github.com/discreet-fl/discreet/coordinator/round"
	"github.com/discreet-fl/discreet/simulate"
)

//go:embed page.html
var source string

var page = template.Must(template.New("page").Funcs(template.FuncMap{"pct": pct}).Parse(source))

// pct prints a share of one.
func pct(x float64) string { return fmt.Sprintf("%.1f%%", 100*x) }

// The plot's edges in its own units.
const left, right, top, bottom = 44.0, 630.0, 10.0, 220.0

// height is where a share of one stands in a plot.
func height(share float64) float64 { return bottom - share*(bottom-top) }

// row is a name and its value as text.
type row struct{ Name, Value string }

// tick is a line across a plot.
type tick struct {
	At    float64
	Label string
}

// point is a place in a plot.
type point struct{ X, Y float64 }

// bar is a bar of a plot.
type bar struct{ X, Y, W, H float64 }

// step is what one message of the protocol cost.
type step struct {
	Name  string
	Bytes int64
	Share float64
}

// content is what the page shows.
type content struct {
	R                       *simulate.Result
	Command                 string
	Baselines               bool
	Summary, Lost, Settings []row
	Ticks                   []tick
	Central, Alone          float64
	Curve, Reliability      string
	HeldBack                string // curve of the accuracy on chats held back
	Dots, Points            []point
	Bars                    []bar
	MostBytes               int64
	Steps                   []step
}

// Write writes the page of a result of simulate.Run. command is what made it.
func Write(w io.Writer, r *simulate.Result, command string) error {
	c := &content{R: r, Command: command, Baselines: r.CentralisedAccuracy > 0}
	for share := 0; share <= 100; share += 25 {
		c.Ticks = append(c.Ticks, tick{height(float64(share) / 100), fmt.Sprintf("%d%%", share)})
	}
	c.Central, c.Alone = height(r.CentralisedAccuracy), height(r.LocalOnlyAccuracy)
	c.rounds()
	for _, b := range r.Detail.Bins {
		if b.Guesses > 0 {
			c.Points = append(c.Points, point{left + b.Confidence*(right-left), height(b.Accuracy)})
		}
	}
	c.Reliability = polyline(c.Points)
	c.rows()
	return page.Execute(w, c)
}

// rounds draws what is by round.
func (c *content) rounds() {
	n := len(c.R.Rounds)
	for _, r := range c.R.Rounds {
		c.MostBytes = max(c.MostBytes, r.BytesUp)
	}
	width := (right - left) / float64(n)
	across := func(i int) float64 { return left + (right-left)*float64(i)/float64(max(n-1, 1)) }
	var held []point
	for i, r := range c.R.Rounds {
		x := across(i)
		if e := r.Evaluation; i > 0 && e != nil && e.Chats > 0 {
			held = append(held, point{across(i - 1), height(e.Accuracy)}) // it is of the round before
		}
		c.Dots = append(c.Dots, point{x, height(r.Accuracy)})
		h := 100 * float64(r.BytesUp) / float64(max(c.MostBytes, 1))
		c.Bars = append(c.Bars, bar{left + width*float64(i), 120 - h, 0.8 * width, h})
	}
	c.Curve, c.HeldBack = polyline(c.Dots), polyline(held)
	if n > 100 {
		c.Dots = nil // they would hide the line
	}
}

// rows fills the lists.
func (c *content) rows() {
	r := c.R
	c.Summary = []row{{"accuracy, together", pct(r.Accuracy)}, {"macro F1, together", pct(r.MacroF1)}}
	if c.Baselines {
		c.Summary = append(c.Summary, row{"accuracy, centrally", pct(r.CentralisedAccuracy)}, row{"accuracy, alone", pct(r.LocalOnlyAccuracy)})
	}
	if p := r.Personal; p != nil {
		c.Summary = append(c.Summary, row{"accuracy, on a device's own chats", pct(p.Shared)}, row{"with personal models", pct(p.Better)})
	}
	c.Summary = append(c.Summary, row{"bytes up, a device and round", fmt.Sprint(r.BytesUpPerDevice)}, row{"calibration error", pct(r.Detail.CalibrationError)})
	var d simulate.Drops
	for _, round := range r.Rounds {
		d.BeforeAdvertise += round.Drops.BeforeAdvertise
		d.AfterAdvertise += round.Drops.AfterAdvertise
		d.AfterShare += round.Drops.AfterShare
		d.AfterSubmit += round.Drops.AfterSubmit
		d.AfterConfirm += round.Drops.AfterConfirm
	}
	c.Lost = []row{
		{"before Advertise", fmt.Sprint(d.BeforeAdvertise)}, {"after Advertise", fmt.Sprint(d.AfterAdvertise)}, {"after Share", fmt.Sprint(d.AfterShare)},
		{"after Submit", fmt.Sprint(d.AfterSubmit)}, {"after Confirm", fmt.Sprint(d.AfterConfirm)},
	}
	var total int64
	for _, n := range r.BytesByStep {
		total += n
	}
	for _, s := range []struct {
		step round.Step
		name string
	}{{round.Advertise, "Advertise"}, {round.Share, "Share"}, {round.Submit, "Submit"}, {round.Confirm, "Confirm"}, {round.Reveal, "Reveal"}} {
		if total > 0 {
			n := r.BytesByStep[s.step]
			c.Steps = append(c.Steps, step{s.name, n, float64(n) / float64(total)})
		}
	}
	c.Settings = []row{
		{"devices", fmt.Sprint(r.Devices)}, {"chats", fmt.Sprint(r.Chats)}, {"devices a phrase is on", fmt.Sprintf("%.3g", r.UsesPerPhrase)},
		{"model", r.Model}, {"parameters", fmt.Sprint(r.Parameters)}, {"under masks", fmt.Sprint(r.Secure)}, {"seed", fmt.Sprint(r.Seed)},
		{"seconds", fmt.Sprintf("%.1f", r.Seconds)}, {"digest of the last checkpoint", r.Digest},
	}
}

// polyline is points as SVG takes them.
func polyline(points []point) string {
	var b strings.Builder
	for _, p := range points {
		fmt.Fprintf(&b, "%.1f,%.1f ", p.X, p.Y)
	}
	return strings.TrimSuffix(b.String(), " ")
}
