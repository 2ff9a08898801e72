package model

import (
	"bytes"
	"math"
	"strings"
	"testing"
)

// calibrated returns a checkpoint of three labels with this calibration.
func calibrated(t *testing.T, c *Calibration) *Checkpoint {
	t.Helper()
	layout, err := NewLayout("small", 3)
	if err != nil {
		t.Fatal(err)
	}
	params := layout.Init(4)
	_, _, bias := layout.Split(params)
	copy(bias, []float32{1, 3, 2})
	checkpoint, err := NewCheckpoint("desk", "small", 2, []string{"a", "b", "c"}, params)
	if err != nil {
		t.Fatal(err)
	}
	checkpoint.Manifest.Calibration = c
	return checkpoint
}

func number(x float32) *float32 { return &x }

// TestCalibrationIsApplied holds confidences to Platt's formula and to what they leave.
func TestCalibrationIsApplied(t *testing.T) {
	plain := NewClassifier(calibrated(t, nil))
	before := append([]Intent(nil), plain.Top(nil, 3)...) // a text without features is scored by the bias
	if before[0].Score != 3 || !plain.Knows(-1e9) {
		t.Fatalf("without calibration: %+v", before)
	}
	margin := math.Log(math.Exp(3) / (math.Exp(1) + math.Exp(2)))
	for _, c := range []Calibration{{Slope: 1}, {Slope: 2, Offset: 1}, {Slope: 0.5, Offset: -3}, {Slope: maxCalibration, Offset: maxCalibration}} {
		top := NewClassifier(calibrated(t, &c)).Top(nil, 3)
		want := 1 / (1 + math.Exp(-float64(c.Slope)*margin-float64(c.Offset)))
		if math.Abs(float64(top[0].Confidence)-want) > 1e-6 {
			t.Errorf("%+v: confidence %v, want %v", c, top[0].Confidence, want)
		}
		rest := 1 - float64(before[0].Confidence)
		for i := range top[1:] {
			next := min(want, (1-want)*float64(before[1+i].Confidence)/rest)
			if got := float64(top[1+i].Confidence); top[1+i].Label != before[1+i].Label || math.Abs(got-next) > 1e-6 {
				t.Errorf("%+v: next-best %+v, want %s with %v", c, top[1+i], before[1+i].Label, next)
			}
		}
	}
	c := NewClassifier(calibrated(t, &Calibration{Slope: 1, Threshold: number(3)}))
	if score := c.Top(nil, 1)[0].Score; !c.Knows(score) || c.Knows(2.999) {
		t.Error("the threshold is not where it was set")
	}
}

// TestCalibrationTravels holds that the manifest carries it, that the next checkpoint
// keeps it while one of other intents does not, and that a bad one is refused.
func TestCalibrationTravels(t *testing.T) {
	want := Calibration{Slope: 1.154, Offset: -0.25, Threshold: number(6.1)}
	c := calibrated(t, &want)
	again, err := DecodeCheckpoint(c.Encode())
	if err != nil {
		t.Fatal(err)
	}
	next, err := again.Next(again.Params)
	if err != nil {
		t.Fatal(err)
	}
	for _, got := range []*Calibration{again.Manifest.Calibration, next.Manifest.Calibration} {
		if got == nil || got.Slope != want.Slope || got.Offset != want.Offset || *got.Threshold != *want.Threshold {
			t.Errorf("read as %+v, want %+v", got, want)
		}
	}
	list, err := again.Manifest.Intents().Change(IntentChange{Kind: AddIntent, Name: "d"})
	if err != nil {
		t.Fatal(err)
	}
	if other, err := again.WithIntents(list); err != nil || other.Manifest.Calibration != nil {
		t.Errorf("with another intent: %v, %v", other, err)
	}
	if b := calibrated(t, nil).Encode(); bytes.Contains(b[:1000], []byte("calibration")) {
		t.Error("a checkpoint without calibration names one")
	}
	for _, bad := range []Calibration{{}, {Slope: -1}, {Slope: 2e6}, {Slope: 1, Offset: -2e6}, {Slope: 1, Threshold: number(2e6)}} {
		if _, err := DecodeCheckpoint(calibrated(t, &bad).Encode()); err == nil || !strings.Contains(err.Error(), "calibration") {
			t.Errorf("%+v is read: %v", bad, err)
		}
	}
	if nan := float32(math.NaN()); (&Calibration{Slope: nan}).Validate() == nil || (&Calibration{Slope: 1, Offset: nan}).Validate() == nil || (&Calibration{Slope: 1, Threshold: &nan}).Validate() == nil {
		t.Error("what is not a number is let through")
	}
}
