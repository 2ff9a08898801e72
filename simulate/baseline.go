package simulate

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/discreet-fl/discreet/model"
)

// A baseline trains for at least so many passes and so many steps, whichever is more,
// with a rate that falls to zero: beyond them CLINC150's accuracy, in one place or on a
// device of 150 chats, gains less than two points.
const (
	convergedEpochs = 30
	convergedSteps  = 2000
)

// centralTraining is how one place trains on so many examples, per size: the devices' settings, until it converges, and
// what the few passes of a device are too few for. docs/decisions.md has the figures.
func centralTraining(size string, s model.Training, examples int) model.Training {
	s.Epochs = epochsFor(examples, s.Batch)
	alpha := float32(2)
	if size == "base" {
		alpha, s.HiddenDropout, s.Averaged = 1, 0.1, s.Epochs/2
	}
	if s.Batch > 1 { // else no example is in a step twice
		s.Consistency = alpha
	}
	return s
}

// epochsFor is how many passes over so many examples that is.
func epochsFor(examples, batch int) int {
	steps := max((examples+batch-1)/batch, 1)
	return min(max((convergedSteps+steps-1)/steps, convergedEpochs), model.MaxEpochs)
}

// The alone baseline trains devices in the order of a lot, leastAlone at first and then fewAlone
// at a time, until the standard error of their mean accuracy is at most aloneError, or
// mostAlone are trained. Where no two drawn differ, that error is not known, and not zero.
const (
	leastAlone = 10
	fewAlone   = 5
	mostAlone  = 50
	aloneError = 0.005
)

// Score is how well a checkpoint names the intents of test phrases.
type Score struct {
	Accuracy float64 // share named rightly
	MacroF1  float64 // mean F1 over the intents that occur
}

// Evaluate scores a checkpoint on examples, on all cores.
func Evaluate(c *model.Checkpoint, test []model.Example) Score {
	workers := runtime.GOMAXPROCS(0)
	guesses := make([]int, len(test))
	var wait sync.WaitGroup
	for w := range workers {
		wait.Go(func() {
			classifier := model.NewClassifier(c)
			for i := w; i < len(test); i += workers {
				scores := classifier.Scores(test[i].Features)
				best := 0
				for j, s := range scores {
					if s > scores[best] {
						best = j
					}
				}
				guesses[i] = best
			}
		})
	}
	wait.Wait()
	return score(guesses, test, len(c.Manifest.Labels))
}

// score counts right guesses, and the F1 of each intent that occurs or is guessed.
func score(guesses []int, test []model.Example, labels int) Score {
	hits, guessed, real := make([]int, labels), make([]int, labels), make([]int, labels)
	right := 0
	for i, e := range test {
		guessed[guesses[i]]++
		real[e.Label]++
		if guesses[i] == e.Label {
			hits[e.Label]++
			right++
		}
	}
	var f1 float64
	present := 0
	for l := range labels {
		if real[l]+guessed[l] > 0 {
			present++
			f1 += 2 * float64(hits[l]) / float64(real[l]+guessed[l])
		}
	}
	return Score{Accuracy: float64(right) / float64(len(test)), MacroF1: f1 / float64(present)}
}

// Baselines trains one model on all of a configuration's chats and warm start, and one on
// each of some devices' alone, with the devices' own optimiser to convergence, the first
// with what one place alone has the passes for, too. It returns their accuracy: that of the
// first, and the mean of the others, with a standard error of at most half a point or over
// fifty.
func Baselines(ctx context.Context, c Config) (central, alone float64, err error) {
	r, err := newRun(ctx, c)
	if err != nil {
		return 0, 0, err
	}
	central, alone, err = r.baselines(ctx)
	return central, alone, errors.Join(err, r.trainers.close())
}

// Central trains one model on all of a configuration's chats, as Baselines does, and
// scores it.
func Central(ctx context.Context, c Config) (Score, error) {
	r, err := newRun(ctx, c)
	if err != nil {
		return Score{}, err
	}
	settings, err := c.settings()
	if err != nil {
		return Score{}, errors.Join(err, r.trainers.close())
	}
	score, err := r.central(ctx, r.trainers, settings)
	return score, errors.Join(err, r.trainers.close())
}

// all is every device's examples, or those of the pool that was dealt out more than once, and what the operator begins
// with.
func (r *run) all() []model.Example {
	all := r.pool.examples(r.WarmStart)
	if r.Pool != nil {
		return append(all, r.pool.examples(r.Pool)...)
	}
	for _, phrases := range r.Train {
		all = append(all, r.pool.examples(phrases)...)
	}
	return all
}

// baselines is Baselines of a run. It trains on trainers of its own, so that rounds
// need not wait for one and baselines fill the cores while rounds do not.
func (r *run) baselines(ctx context.Context) (central, alone float64, err error) {
	settings, err := r.settings()
	if err != nil {
		return 0, 0, err
	}
	trainers, err := newTrainers(r.layout, settings.Batch, runtime.GOMAXPROCS(0))
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, trainers.close()) }()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		score, err := r.central(ctx, trainers, settings)
		central = score.Accuracy
		return err
	})
	group.Go(func() error {
		return r.trainAlone(ctx, trainers, settings)
	})
	if err := group.Wait(); err != nil {
		return 0, 0, fmt.Errorf("training a baseline: %w", err)
	}
	alone, _ = aloneMean(r.alone, len(r.Train))
	return central, alone, nil
}

// trainAlone trains as many devices alone as their mean needs.
func (r *run) trainAlone(ctx context.Context, t *trainers, s model.Training) error {
	drawn := stream(r.Seed, "alone").Perm(len(r.Train))
	drawn = drawn[:min(len(drawn), mostAlone)]
	for n := leastAlone; len(drawn) > 0; n = fewAlone {
		now := drawn[:min(len(drawn), n)]
		drawn = drawn[len(now):]
		scores := make([]aloneScore, len(now))
		group, ctx := errgroup.WithContext(ctx)
		group.SetLimit(runtime.GOMAXPROCS(0))
		for i, n := range now {
			group.Go(func() error {
				own, s := r.pool.examples(r.Train[n]), s
				s.Epochs = epochsFor(len(own), s.Batch)
				score, err := r.baseline(ctx, t, own, s, derive(r.Seed, "alone", uint64(n)))
				scores[i] = aloneScore{n, score.Accuracy}
				return err
			})
		}
		if err := group.Wait(); err != nil {
			return err
		}
		r.alone = append(r.alone, scores...)
		if _, off := aloneMean(r.alone, len(r.Train)); off > 0 && off <= aloneError {
			break
		}
	}
	return nil
}

// aloneMean is the mean accuracy of devices drawn from so many, and its standard error, that of
// a draw without replacement (Cochran 1977, "Sampling techniques", section 2.6): it is zero where
// all were drawn.
func aloneMean(drawn []aloneScore, of int) (mean, off float64) {
	n := float64(len(drawn))
	if n == 0 {
		return 0, 0
	}
	for _, s := range drawn {
		mean += s.accuracy / n
	}
	var squares float64
	for _, s := range drawn {
		d := s.accuracy - mean
		squares += float64(d * d)
	}
	if len(drawn) == of {
		return mean, 0
	}
	return mean, math.Sqrt(squares / max(n-1, 1) / n * (1 - n/float64(of)))
}

// central trains a fresh model on all devices' examples and scores it.
func (r *run) central(ctx context.Context, t *trainers, s model.Training) (Score, error) {
	all := r.all()
	s = centralTraining(r.Model, s, len(all))
	if r.Central != nil {
		r.Central(&s)
	}
	return r.baseline(ctx, t, all, s, derive(r.Seed, "central"))
}

// baseline trains a fresh model on examples and scores it.
func (r *run) baseline(ctx context.Context, t *trainers, own []model.Example, s model.Training, seed [32]byte) (Score, error) {
	params := r.layout.Init(r.Seed)
	if err := t.run(ctx, params, own, s, seed64(seed)); err != nil {
		return Score{}, err
	}
	return r.score(params)
}

// score is that of a model with these parameters.
func (r *run) score(params []float32) (Score, error) {
	c, err := model.NewCheckpoint(r.spec.Name, r.Model, 0, r.Intents, params)
	if err != nil {
		return Score{}, err
	}
	return Evaluate(c, r.test), nil
}
