package simulate

import (
	"context"
	"fmt"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/discreet-fl/discreet/client"
	"github.com/discreet-fl/discreet/dataset"
	"github.com/discreet-fl/discreet/model"
	"github.com/discreet-fl/discreet/model/train"
)

// PersonalScore is how the last checkpoint and the devices' personal parts do on chats that
// were set aside: means over the devices that have such chats.
type PersonalScore struct {
	Devices   int `json:"devices"`
	Answering int `json:"answering"` // whose personal part answers
	// Shared is the checkpoint's accuracy on a device's own chats, and Better that of
	// whichever of the two answers on it.
	Shared float64 `json:"shared"`
	Better float64 `json:"better"`
}

// personalDevices bounds the devices whose personal parts are made.
const personalDevices = 1000

// SetAside tells whether a chat is of the fifth that no device trains on or judges by, where
// personal parts are measured. It depends on the chat alone, and no share that is held back
// reaches so far.
func SetAside(f model.Features) bool { return !model.HeldBack(f, model.HeldBackOf*4/5) }

// setAside takes those chats from the devices.
func (r *run) setAside() {
	all := r.Train
	r.Train, r.aside = make([][]dataset.Phrase, len(all)), make([][]dataset.Phrase, len(all))
	for i, phrases := range all {
		for _, p := range phrases {
			if SetAside(r.pool[said{p.Text, p.Intent}].Features) {
				r.aside[i] = append(r.aside[i], p)
			} else {
				r.Train[i] = append(r.Train[i], p)
			}
		}
	}
}

// personal makes the personal part of each device, or of a drawn thousand, as the device
// would of the last checkpoint, and measures who answers.
func (r *run) personal(ctx context.Context) (*PersonalScore, error) {
	var drawn []int
	for _, n := range stream(r.Seed, "personal").Perm(len(r.Train)) {
		if len(r.aside[n]) > 0 && len(drawn) < personalDevices {
			drawn = append(drawn, n)
		}
	}
	slices.Sort(drawn) // so that the means are summed in one order
	type outcome struct {
		answers        bool
		shared, better float64
	}
	outcomes := make([]outcome, len(drawn))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, n := range drawn {
		group.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			d := &device{number: n, examples: r.pool.examples(r.Train[n])}
			r.spoil(d)
			own, held := client.HoldBack(d.examples, r.spec.GetEvaluation().GetHeldBack())
			p, err := train.Personalise(r.checkpoint, own, held, seed64(derive(r.Seed, "personal", uint64(n))))
			if err != nil {
				return fmt.Errorf("device %d: %w", n, err)
			}
			shared := model.NewClassifier(r.checkpoint)
			o := outcome{answers: p.Better(), shared: accuracyOn(shared, r.pool.examples(r.aside[n]))}
			if o.better = o.shared; o.answers {
				classifier, err := p.Classifier(r.checkpoint)
				if err != nil {
					return fmt.Errorf("device %d: %w", n, err)
				}
				o.better = accuracyOn(classifier, r.pool.examples(r.aside[n]))
			}
			outcomes[i] = o
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, fmt.Errorf("making personal parts: %w", err)
	}
	s := &PersonalScore{Devices: len(drawn)}
	for _, o := range outcomes {
		if o.answers {
			s.Answering++
		}
		s.Shared += o.shared / float64(len(drawn))
		s.Better += o.better / float64(len(drawn))
	}
	return s, nil
}

// accuracyOn is the share of some examples that a classifier names rightly.
func accuracyOn(c *model.Classifier, ex []model.Example) float64 {
	right := 0
	for _, e := range ex {
		if c.Answer(e.Features).Index == e.Label {
			right++
		}
	}
	return float64(right) / float64(len(ex))
}
