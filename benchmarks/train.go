package main

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/discreet-fl/discreet/model"
	"github.com/discreet-fl/discreet/model/kernel"
	"github.com/discreet-fl/discreet/model/train"
)

// trainFigures is what one run of the train benchmark measured. A speed is in examples
// per second of one core's time, the best of the repetitions; a ratio is against the limit.
type trainFigures struct {
	Model    string `json:"model"`
	Batch    int    `json:"batch"`
	Features int    `json:"features"`
	Labels   int    `json:"labels"`
	// Training through the graph on the tape machine; the limit calls the same kernels
	// one after the other.
	Training      float64 `json:"training_examples_per_cpu_second"`
	TrainingLimit float64 `json:"training_limit_examples_per_cpu_second"`
	TrainingRatio float64 `json:"training_ratio"`
	// Scores through a Classifier; the limit is the two kernels in a loop.
	Inference      float64 `json:"inference_examples_per_cpu_second"`
	InferenceLimit float64 `json:"inference_limit_examples_per_cpu_second"`
	InferenceRatio float64 `json:"inference_ratio"`
	Repetitions    int     `json:"repetitions"`
	Seed           uint64  `json:"seed"`
	Machine        string  `json:"machine"`
}

// runTrain measures training and inference on one core with the base model, 60 features
// an example, spread evenly over the embedding, and 150 intents.
func runTrain(args []string) error {
	set := flag.NewFlagSet("train", flag.ContinueOnError)
	batch := set.Int("batch", 32, "examples of one training step")
	repetitions := set.Int("repetitions", 9, "how often each speed is measured; the best counts")
	out := set.String("json", "-", "file for the figures; - is standard output")
	if err := set.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}
	if *repetitions < 1 {
		return fmt.Errorf("train: %d repetitions, want at least one", *repetitions)
	}
	figures, err := measureTrain(*batch, *repetitions, 4096)
	if err != nil {
		return fmt.Errorf("train: %w", err)
	}
	return writeJSON(*out, figures)
}

// measureTrain measures speeds over n examples a repetition. What is compared runs in
// turns, so that a change of the machine's pace meets all alike.
func measureTrain(batch, repetitions, n int) (*trainFigures, error) {
	f := &trainFigures{Model: "base", Batch: batch, Features: 60, Labels: 150, Repetitions: repetitions, Seed: 1, Machine: machine()}
	l, err := model.NewLayout(f.Model, f.Labels)
	if err != nil {
		return nil, err
	}
	ex := randomExamples(n, f.Features, f.Labels, f.Seed)
	params := l.Init(f.Seed)
	graph, err := newTraining(train.New, l, params, ex, batch)
	if err != nil {
		return nil, err
	}
	plain, err := newTraining(train.NewPlain, l, params, ex, batch)
	if err != nil {
		return nil, err
	}
	labels := make([]string, f.Labels)
	for i := range labels {
		labels[i] = fmt.Sprint("intent ", i)
	}
	checkpoint, err := model.NewCheckpoint("benchmark", f.Model, 0, labels, params)
	if err != nil {
		return nil, err
	}
	speeds := []struct {
		speed *float64
		run   func() error
	}{
		{&f.Training, graph.run},
		{&f.TrainingLimit, plain.run},
		{&f.Inference, scoring(checkpoint, ex)},
		{&f.InferenceLimit, bareScoring(l, params, ex)},
	}
	for range repetitions {
		for _, s := range speeds {
			// Once unmeasured, to bring its parameters into the caches that the one before had filled with its own.
			if err := s.run(); err != nil {
				return nil, err
			}
			cost, err := cpuOf(s.run)
			if err != nil {
				return nil, err
			}
			*s.speed = max(*s.speed, float64(n)/cost.Seconds())
		}
	}
	if !slices.Equal(graph.params, plain.params) {
		return nil, errors.New("the graph and plain code trained different parameters")
	}
	f.TrainingRatio, f.InferenceRatio = f.Training/f.TrainingLimit, f.Inference/f.InferenceLimit
	return f, errors.Join(graph.trainer.Close(), plain.trainer.Close())
}

// training is a trainer with parameters of its own.
type training struct {
	trainer  *train.Trainer
	params   []float32
	examples []model.Example
	settings model.Training
}

func newTraining(make func(model.Layout, int) (*train.Trainer, error), l model.Layout, params []float32, ex []model.Example, batch int) (*training, error) {
	trainer, err := make(l, batch)
	if err != nil {
		return nil, err
	}
	settings := model.Training{Epochs: 1, Batch: batch, LearningRate: 0.01, LabelSmoothing: 0.1}
	return &training{trainer, slices.Clone(params), ex, settings}, nil
}

func (t *training) run() error {
	_, err := t.trainer.Train(t.params, t.examples, t.settings, 1)
	return err
}

// scoring returns what scores all examples as a device does.
func scoring(c *model.Checkpoint, ex []model.Example) func() error {
	classifier := model.NewClassifier(c)
	return func() error {
		for _, e := range ex {
			classifier.Scores(e.Features)
		}
		return nil
	}
}

// bareScoring returns what scores all examples with nothing around the kernels.
func bareScoring(l model.Layout, params []float32, ex []model.Example) func() error {
	embedding, weights, bias := l.Split(params)
	hidden, scores := make([]float32, l.Dim), make([]float32, l.Labels)
	mask, scale := l.Mask(), model.FeatureScale(len(ex[0].Features))
	return func() error {
		for _, e := range ex {
			kernel.Bag(hidden, embedding, mask, e.Features, scale)
			kernel.Affine(scores, hidden, weights, bias, l.Dim)
		}
		return nil
	}
}

// randomExamples returns examples whose features are drawn evenly: the hardest case for
// the caches, since a language has frequent words.
func randomExamples(n, features, labels int, seed uint64) []model.Example {
	random := rand.New(rand.NewPCG(seed, 0))
	ex := make([]model.Example, n)
	for i := range ex {
		f := make(model.Features, features)
		for j := range f {
			f[j] = random.Uint32()
		}
		ex[i] = model.Example{Features: f, Label: random.IntN(labels)}
	}
	return ex
}
