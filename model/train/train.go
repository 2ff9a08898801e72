// Package train trains the intent model on a device's own examples: plain stochastic gradient descent on
// mini-batches, with feature dropout, label smoothing and a rate that falls linearly to zero.
//
// Begin with New and Trainer.Train. A Trainer holds a gorgonia graph of one step: the embedding bag, the affine
// layer, softmax and cross-entropy as operations over the kernels of model/kernel, differentiated by gorgonia and
// run once per mini-batch by its tape machine. Under js/wasm, where gorgonia would weigh more than everything else
// together, the same kernels are called by hand in the same order; NewPlain gives that engine everywhere. Both
// give the same parameters to the last bit, on every platform.
package train

import (
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/discreet-fl/discreet/model"
)

// Trainer trains models of one layout in batches of one size. It is not for concurrent use: keep one per worker,
// and reuse it, since building it costs more than a step.
type Trainer struct {
	// Ended, where it is set, is asked before each pass over the examples whether to go on: an error of it, such as that
	// of a context that has ended, is what Train returns.
	Ended func() error

	layout   model.Layout
	batch    *batch
	engine   engine
	order    []int
	proximal proximal
	average  average
}

// Report says what a call of Train did.
type Report struct {
	Steps int // mini-batches
	// Loss is the mean cross-entropy of the last epoch's examples, each times its weight, in nats, as seen under dropout
	// and smoothing.
	Loss float32
}

// engine computes one step. It has two implementations: the gorgonia graph and plain code.
type engine interface {
	// bind makes the following steps read and change these parameters.
	bind(params []float32) error
	// step takes one step of descent on the batch that the engine was made with, and returns the batch's summed loss.
	step(rate float32) (loss float32, err error)
	close() error
}

// New returns a trainer for a layout and a batch size. It uses gorgonia, except under js/wasm.
func New(l model.Layout, batch int) (*Trainer, error) { return newTrainer(l, batch, newEngine) }

// NewPlain returns a trainer that calls the kernels directly. It exists for js/wasm and as the measure of what the
// graph costs.
func NewPlain(l model.Layout, batch int) (*Trainer, error) { return newTrainer(l, batch, newPlain) }

func newTrainer(l model.Layout, size int, makeEngine func(model.Layout, *batch) (engine, error)) (*Trainer, error) {
	if err := l.Validate(); err != nil {
		return nil, err
	}
	if size < 1 || size > model.MaxBatch {
		return nil, fmt.Errorf("got batches of %d, want 1 to %d", size, model.MaxBatch)
	}
	b := newBatch(size, l.Dim)
	e, err := makeEngine(l, b)
	if err != nil {
		return nil, fmt.Errorf("build the training engine: %w", err)
	}
	return &Trainer{layout: l, batch: b, engine: e}, nil
}

// Close frees what the trainer holds. The trainer must not be used after it.
func (t *Trainer) Close() error { return t.engine.close() }

// errDiverged is why training fails whose result is not finite.
var errDiverged = errors.New("training diverged")

// Train changes params, of the trainer's layout, by training on the examples. The seed fixes the order of the
// examples and the features dropped: the same call gives the same bits. No examples change nothing.
//
// Settings out of bounds, a batch size other than the trainer's, parameters of another length and labels outside
// the layout are refused before anything changes. Where the result is not finite, because the parameters were not
// or the rate is too high, or where it is told to end, Train returns an error and params must be thrown away.
func (t *Trainer) Train(params []float32, ex []model.Example, s model.Training, seed uint64) (Report, error) {
	if err := t.check(params, ex, s); err != nil {
		return Report{}, err
	}
	if len(ex) == 0 {
		return Report{}, nil
	}
	if err := t.engine.bind(params); err != nil {
		return Report{}, err
	}
	random := rand.NewPCG(seed, 0x747261696e) // "train"
	t.order = t.order[:0]
	for i := range ex {
		t.order = append(t.order, i)
	}
	if s.Proximal > 0 {
		t.proximal.begin(t.layout, params)
	}
	perStep := s.Batch / copies(s)
	perEpoch := (len(ex) + perStep - 1) / perStep
	var r Report
	steps := s.Epochs * perEpoch
	t.average.begin(len(params), s)
	for pass := range s.Epochs {
		shuffle(t.order, random)
		if t.Ended != nil {
			if err := t.Ended(); err != nil {
				return r, fmt.Errorf("training, before pass %d of %d: %w", pass+1, s.Epochs, err)
			}
		}
		r.Loss = 0
		for rest := t.order; len(rest) > 0; rest = rest[min(perStep, len(rest)):] {
			t.batch.fill(ex, rest[:min(perStep, len(rest))], s, random)
			rate := float32(s.LearningRate*float32(steps-r.Steps)) / float32(steps)
			loss, err := t.step(params, rate, s.Proximal)
			if err != nil {
				return r, fmt.Errorf("training step %d of %d: %w", r.Steps+1, steps, err)
			}
			r.Loss += loss
			r.Steps++
		}
		t.average.after(pass, params)
	}
	t.average.end(params)
	if s.Proximal > 0 {
		t.proximal.end(params)
	}
	r.Loss /= float32(len(ex))
	for i, x := range params {
		if x-x != 0 {
			return r, fmt.Errorf("%w: parameter %d is %v after %d training steps: lower the learning rate, now %v, "+
				"or start from finite parameters", errDiverged, i, x, r.Steps, s.LearningRate)
		}
	}
	return r, nil
}

// step takes one step on the batch, held back by the proximal term of mu, and returns the
// batch's loss without the term.
func (t *Trainer) step(params []float32, rate, mu float32) (float32, error) {
	if mu > 0 {
		t.proximal.before(params, t.batch)
	}
	loss, err := t.engine.step(rate)
	if mu > 0 && err == nil {
		t.proximal.after(params, rate, mu)
	}
	return loss, err
}

func (t *Trainer) check(params []float32, ex []model.Example, s model.Training) error {
	if err := s.Validate(); err != nil {
		return err
	}
	if s.Batch != t.batch.size() {
		return fmt.Errorf("got batches of %d, this trainer was made for %d", s.Batch, t.batch.size())
	}
	if want := t.layout.Parameters(); len(params) != want {
		return fmt.Errorf("got %d parameters, this trainer's layout has %d", len(params), want)
	}
	if s.Rows != nil && len(s.Rows) != t.layout.Rows {
		return fmt.Errorf("got settings for %d rows of the embedding, this trainer's layout has %d", len(s.Rows), t.layout.Rows)
	}
	for i, e := range ex {
		if e.Label < 0 || e.Label >= t.layout.Labels {
			return fmt.Errorf("example %d has label %d, want 0 to %d", i, e.Label, t.layout.Labels-1)
		}
		if !(e.Weight >= 0 && e.Weight <= 1) {
			return fmt.Errorf("example %d has weight %v, want above 0 and up to 1, or 0 for 1", i, e.Weight)
		}
	}
	return nil
}
