package simulate

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/discreet-fl/discreet/dataset"
	"github.com/discreet-fl/discreet/model"
)

// TestOnePlaceHasAll holds that the model in one place is trained on what devices have, each phrase of a pool once, and
// on what the operator begins with.
func TestOnePlaceHasAll(t *testing.T) {
	c := shop(t, 4, 3, 1, 0, false)
	chats := 0
	for _, phrases := range c.Train {
		chats += len(phrases)
	}
	for _, test := range []struct {
		name       string
		warm, pool []dataset.Phrase
		want       int
	}{
		{"chats", nil, nil, chats},
		{"chats and a warm start", c.Test[:7], nil, chats + 7},
		{"a pool and a warm start", c.Test[:7], c.Train[0], len(c.Train[0]) + 7},
	} {
		c := c
		c.WarmStart, c.Pool = test.warm, test.pool
		r, err := newRun(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		defer r.trainers.close()
		if got := len(r.all()); got != test.want {
			t.Errorf("%s: %d examples, want %d", test.name, got, test.want)
		}
	}
}

// TestOnePlaceTrainsAsDecided holds the settings of docs/decisions.md, and that devices' own stay.
func TestOnePlaceTrainsAsDecided(t *testing.T) {
	for _, c := range []struct {
		size     string
		batch    int
		examples int
		change   func(*model.Training)
	}{
		{"small", 8, 15000, func(s *model.Training) { s.Epochs, s.Consistency = 30, 2 }},
		{"base", 8, 15000, func(s *model.Training) { s.Epochs, s.Consistency, s.HiddenDropout, s.Averaged = 30, 1, 0.1, 15 }},
		{"base", 8, 150, func(s *model.Training) { s.Epochs, s.Consistency, s.HiddenDropout, s.Averaged = 106, 1, 0.1, 53 }},
		{"small", 1, 15000, func(s *model.Training) { s.Epochs = 30 }}, // consistency needs an example twice
		{"base", 1, 15000, func(s *model.Training) { s.Epochs, s.HiddenDropout, s.Averaged = 30, 0.1, 15 }},
	} {
		devices, err := model.DefaultTraining(c.size)
		if err != nil {
			t.Fatal(err)
		}
		devices.Batch, devices.LearningRate = c.batch, 0.1
		want := devices
		c.change(&want)
		if got := centralTraining(c.size, devices, c.examples); got.Validate() != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s, batches of %d: %+v, want %+v", c.size, c.batch, got, want)
		}
	}
}

func TestNothingIsTrainedOnceTheContextEnded(t *testing.T) {
	c := shop(t, 4, 3, 1, 0, false)
	r, err := newRun(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer r.trainers.close()
	settings, err := r.settings()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	params := r.layout.Init(1)
	before := slices.Clone(params)
	for range 20 {
		if err := r.trainers.run(ctx, params, r.all()[:8], settings, 1); !errors.Is(err, context.Canceled) || !slices.Equal(params, before) {
			t.Fatalf("%v, want that the context was cancelled, and nothing trained", err)
		}
	}
	c.WarmStart = c.Test[:7]
	if _, err := newRun(ctx, c); !errors.Is(err, context.Canceled) {
		t.Errorf("a warm start: %v, want that the context was cancelled", err)
	}
}

func TestAloneMean(t *testing.T) {
	three := []aloneScore{{0, 0.2}, {3, 0.4}, {1, 0.3}}
	for _, c := range []struct {
		drawn     []aloneScore
		of        int
		mean, off float64
	}{
		{nil, 4, 0, 0},
		{three[:1], 1, 0.2, 0},
		{three, 3, 0.3, 0},
		{three, 4, 0.3, math.Sqrt(0.01 / 3 / 4)}, // variance 0.01, and a quarter not drawn
	} {
		mean, off := aloneMean(c.drawn, c.of)
		if math.Abs(mean-c.mean) > 1e-12 || math.Abs(off-c.off) > 1e-12 {
			t.Errorf("%v of %d: mean %v with error %v, want %v with %v", c.drawn, c.of, mean, off, c.mean, c.off)
		}
	}
}

// TestDevicesThatAreAllAlikeAreDrawnToTheEnd: accuracies without a difference tell nothing of
// their error, so that no fewer devices than there may be are trained.
func TestDevicesThatAreAllAlikeAreDrawnToTheEnd(t *testing.T) {
	c := shop(t, 14, 3, 1, 0, false)
	for i := range c.Train {
		c.Train[i] = nil // a model that has learned nothing, on each
	}
	result, err := Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if result.LocalOnlyDevices != 14 {
		t.Errorf("%d of 14 devices were trained alone, with an error of %v, want all", result.LocalOnlyDevices, result.LocalOnlyError)
	}
}

// TestSimulationStopsEarly lets a simulation run on until its accuracy on chats held back
// rises no more.
func TestSimulationStopsEarly(t *testing.T) {
	c := shop(t, 30, 30, 40, 0, false)
	c.HeldBack, c.EarlyStop, c.NoBaselines = 0.5, 1, true
	result, err := Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(result.Rounds); !result.StoppedEarly || n < 4 || n >= 40 {
		t.Errorf("seed %d: %d rounds of 40, stopped early: %v", seed, n, result.StoppedEarly)
	}
	c.EarlyStop, c.HeldBack = 1, 0
	if err := c.Check(); err == nil || !strings.Contains(err.Error(), "raise --held-back") {
		t.Errorf("an early stop without chats held back: %v", err)
	}
}
