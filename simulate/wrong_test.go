package simulate

import (
	"math"
	"testing"

	"github.com/discreet-fl/discreet/client"
	"github.com/discreet-fl/discreet/model"
)

func TestSpoil(t *testing.T) {
	for _, w := range []Wrong{{}, {0.2, client.Confirmed}, {0.2, client.Rephrased}, {0.2, client.Rejected}} {
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
	for _, bad := range []Wrong{{-0.1, ""}, {1.1, ""}, {math.NaN(), ""}, {0.6, client.Rephrased}, {0.1, client.Corrected}} {
		if bad.check() == nil {
			t.Errorf("%+v is allowed", bad)
		}
	}
}
