package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"time"
)

// tableRuns are the sizes of the table. Where a third vanishes the graph is made to
// bear it.
func tableRuns(of sumSettings) (runs []sumSettings) {
	for _, of.Devices = range []int{10, 100, 1_000, 10_000} {
		for _, of.Dim = range []int{10_000, 100_000, 1_000_000, 10_000_000} {
			for _, of.Drop = range []float64{0, 0.1, 0.33} {
				run := of
				if run.Drop > run.Dropout {
					run.Dropout = 0.3333
				}
				runs = append(runs, run)
			}
		}
	}
	return runs
}

// writeTable runs the sizes of the table and writes a row of Markdown for each. Those
// that would take longer than the limit are left out, with how long that is.
func writeTable(w io.Writer, of sumSettings, limit time.Duration) error {
	fmt.Fprintf(w, "%s, %s keys\n\n", machine(), of.Keys)
	fmt.Fprintln(w, "| devices | dim | dropped | server, CPU s | limit | device, CPU s | limit | bytes up | bytes down | of plain float32 | masks | server's peak heap |")
	fmt.Fprintln(w, "|---|---|---|---|---|---|---|---|---|---|---|---|")
	for _, run := range tableRuns(of) {
		head := fmt.Sprintf("| %d | %.0e | %.0f%% |", run.Devices, float64(run.Dim), 100*run.Drop)
		if took := run.estimate(); took > limit {
			fmt.Fprintln(w, head, "left out: about", took.Round(time.Minute), "| | | | | | | | |")
			continue
		}
		f, err := runAlone(run)
		if err != nil {
			return fmt.Errorf("%s %w", head, err)
		}
		fmt.Fprintf(w, "%s %.2f | %.2f | %.3f | %.3f | %.0f | %.0f | %.3f | %d | %.0f MB |\n", head, f.ServerSeconds, f.ServerLimit,
			f.DeviceSeconds, f.DeviceLimit, f.BytesUp, f.BytesDown, f.Expansion, f.Expansions, float64(f.ServerPeakHeap)/1e6)
	}
	return nil
}

// estimate is about how long a run takes: every device checks its roster and deals
// its shares, makes an update, masks it with every neighbour and shows the sum.
func (s *sumSettings) estimate() time.Duration {
	const device, coordinate, mask = 130e-3, 40e-9, 0.8e-9 // seconds; the last two a coordinate
	neighbours := float64(min(s.members(), 100))
	each := device*neighbours/100 + float64(s.Dim)*(coordinate+mask*neighbours*(1+s.Drop))
	return time.Duration(float64(s.Devices) * each * float64(time.Second))
}

// runAlone measures one size in a process of its own, so that its memory is its own.
func runAlone(s sumSettings) (*secaggFigures, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	decimal := func(x float64) string { return strconv.FormatFloat(x, 'g', -1, 64) }
	run := exec.Command(self, "secagg", "--devices", strconv.Itoa(s.Devices), "--dim", strconv.Itoa(s.Dim), "--drop", decimal(s.Drop),
		"--cohort", strconv.Itoa(s.Cohort), "--corrupt", decimal(s.Corrupt), "--dropout", decimal(s.Dropout),
		"--keys", s.Keys, "--seed", strconv.FormatUint(s.Seed, 10))
	run.Stderr = os.Stderr
	text, err := run.Output()
	if err != nil {
		return nil, err
	}
	f := &secaggFigures{}
	return f, json.Unmarshal(text, f)
}
