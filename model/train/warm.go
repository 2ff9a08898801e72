package train

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/discreet-fl/discreet/model"
)

// warmEpochs are the passes that Warm chooses among, in the order in which it tries them, and untriedEpochs those that
// it makes where it cannot try: what it mostly chooses for a handful of examples of each intent.
var warmEpochs = []int{10, 20, 40, 80}

const untriedEpochs = 40

// Warmth says what Warm did.
type Warmth struct {
	Epochs   int     // passes over the examples
	Held     int     // examples that were held back to choose them
	Accuracy float64 // on those, of the model that was trained on the others; 0 without any
}

// Warm changes params, of the layout, by training on examples that one has in one place: the phrases an operator
// begins a task with. It chooses the passes itself: a fifth of each intent's examples is held back, and the passes
// are doubled while the cross-entropy on them falls. Then it trains on all. Where nothing can be held back, as with
// one example of each intent, it makes 40 passes. The epochs of the settings are not used. Where the result is not
// finite, as with many long texts whose labels contradict each other, it returns an error that says so. ended is the
// trainer's [Trainer.Ended], or nil: where it says to end, params may be half trained. The same call gives the same
// bits.
func Warm(params []float32, l model.Layout, ex []model.Example, s model.Training, seed uint64, ended func() error) (w Warmth, err error) {
	s.Epochs = warmEpochs[0]
	if err := s.Validate(); err != nil {
		return w, err
	}
	t, err := New(l, s.Batch)
	if err != nil {
		return w, err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	t.Ended = ended
	if err := t.check(params, ex, s); err != nil {
		return w, err
	}
	rest, held := holdBack(ex, seed)
	w.Held = len(held)
	best := math.Inf(1)
	for _, epochs := range warmEpochs {
		if len(held) == 0 {
			break
		}
		trial := append([]float32(nil), params...)
		s.Epochs = epochs
		if _, err := t.Train(trial, rest, s, seed); errors.Is(err, errDiverged) && w.Epochs > 0 {
			break // fewer passes did better
		} else if err != nil {
			return w, fmt.Errorf("trying %d passes: %w", epochs, warmError(err, len(rest)))
		}
		loss, right := crossEntropy(classifierOf(trial, l), held)
		if loss >= best {
			break
		}
		best, w.Epochs, w.Accuracy = loss, epochs, float64(right)/float64(len(held))
	}
	if w.Epochs == 0 {
		w.Epochs = untriedEpochs
	}
	s.Epochs = w.Epochs
	_, err = t.Train(params, ex, s, seed)
	return w, warmError(err, len(ex))
}

// warmError is an error of training in the words of who gave the examples and no settings.
func warmError(err error, examples int) error {
	if !errors.Is(err, errDiverged) {
		return err
	}
	return fmt.Errorf("%w on %d examples, to parameters that are not finite: many long texts end so whose labels contradict each other; see that the labels are right, or give fewer texts, or shorter ones", errDiverged, examples)
}

// holdBack draws a fifth of each label's examples, never all of one.
func holdBack(ex []model.Example, seed uint64) (rest, held []model.Example) {
	random := rand.New(rand.NewPCG(seed, 0x7761726d)) // "warm"
	left := make(map[int]int)
	for _, e := range ex {
		left[e.Label]++
	}
	owed := make(map[int]int) // fifths, of labels seen so far
	for _, i := range random.Perm(len(ex)) {
		e := ex[i]
		owed[e.Label]++
		if owed[e.Label] >= 5 || owed[e.Label] == 1 && left[e.Label] > 1 && left[e.Label] < 5 {
			held = append(held, e)
			owed[e.Label] -= 5
			continue
		}
		rest = append(rest, e)
	}
	return rest, held
}

// classifierOf is a classifier over parameters whose labels have no names.
func classifierOf(params []float32, l model.Layout) *model.Classifier {
	return model.NewClassifier(&model.Checkpoint{Manifest: model.Manifest{Layout: l, Labels: make([]string, l.Labels)}, Params: params})
}

// crossEntropy is the mean cross-entropy in nats of a model's answers, and how many of them are right.
func crossEntropy(c *model.Classifier, ex []model.Example) (loss float64, right int) {
	for _, e := range ex {
		scores := c.Scores(e.Features)
		best := 0
		for i, s := range scores {
			if s > scores[best] {
				best = i
			}
		}
		var sum float64
		for _, s := range scores {
			sum += math.Exp(float64(s - scores[best]))
		}
		loss += math.Log(sum) - float64(scores[e.Label]-scores[best])
		if best == e.Label {
			right++
		}
	}
	return loss / float64(max(len(ex), 1)), right
}
