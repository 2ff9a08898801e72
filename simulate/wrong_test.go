package simulate

import (
	"math"
	"testing"

	"github.com/discreet-fl/discreet/client"
	"github.com/discreet-fl/discreet/model"
)

func TestSpoil(t *testing.T) {
	for _, w := range []Wrong{{}, {Share: 0.2, Signal: client.Confirmed}, {Share: 0.2, Signal: client.Rephrased}, {Share: 0.2, Signal: client.Rejected}} {
		r := &run{Config: Config{Wrong: w, Seed: 1}, layout: model.Layout{Labels: 5}}
		d := &device{examples: make([]model.Example, 10_000)}
		for i := range d.examples {
			d.examples[i].Label = i % 5
		}
		r.spoil(d)
		wrong, doubted, rejected, doubtedAndRight := 0, 0, 0, 0
		for i, e := range d.examples {
			other := e.Label != i%5
			if other {
				wrong++
			}
			if e.Not {
				rejected++
			}
			if e.Weight > 0 && e.Weight < 1 {
				doubted++
				if !other {
					doubtedAndRight++
				}
			} else if other && w.Signal != client.Confirmed {
				t.Fatalf("%+v: example %d is wrong, and counts in full", w, i)
			}
			if e.Not && !other {
				t.Fatalf("%+v: example %d is rejected, and has its intent", w, i)
			}
		}
		near := func(what string, got int, want float64) {
			if math.Abs(float64(got)/float64(len(d.examples))-want) > 0.015 {
				t.Errorf("%+v: %d of %d are %s, want a share of %v", w, got, len(d.examples), what, want)
			}
		}
		near("wrong", wrong, w.Share)
		switch w.Signal {
		case client.Rephrased:
			near("doubted", doubted, 0.5)
			near("doubted and right", doubtedAndRight, 0.3)
		case client.Rejected:
			near("rejected", rejected, w.Share)
		}
	}
	for _, bad := range []Wrong{{Share: -0.1}, {Share: 1.1}, {Share: math.NaN()}, {Share: 0.6, Signal: client.Rephrased}, {Share: 0.1, Signal: client.Corrected}, {Weight: weight(1.5)}} {
		if bad.check() == nil {
			t.Errorf("%+v is allowed", bad)
		}
	}
}

func weight(w float32) *float32 { return &w }

// TestWeightOfDoubt gives chats in doubt another weight, or leaves them out.
func TestWeightOfDoubt(t *testing.T) {
	for _, signal := range []client.Signal{client.Rephrased, client.Rejected} {
		for _, w := range []float32{0, 0.25, 1} {
			r := &run{Config: Config{Wrong: Wrong{Share: 0.2, Signal: signal, Weight: weight(w)}, Seed: 1}, layout: model.Layout{Labels: 5}}
			d := &device{examples: make([]model.Example, 1000)}
			r.spoil(d)
			doubted := 0
			for _, e := range d.examples {
				if e.Not != (signal == client.Rejected && e.Label != 0) || e.Weight != w && e.Weight != 1 {
					t.Fatalf("%s at %v: %+v", signal, w, e)
				}
				if w != 1 && e.Weight == w {
					doubted++
				}
			}
			most := 300 // of rejected ones
			if signal == client.Rephrased {
				most = 600
			}
			if gone := 1000 - len(d.examples); w == 0 && (gone < most/2 || gone > most) || w == 0.25 && (doubted < most/2 || doubted > most) || w != 0 && gone != 0 {
				t.Errorf("%s at %v: %d are left, %d of them in doubt", signal, w, len(d.examples), doubted)
			}
		}
	}
}
