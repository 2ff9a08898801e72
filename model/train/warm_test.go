package train

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/discreet-fl/discreet/dataset"
	"github.com/discreet-fl/discreet/model"
)

// shopExamples are n phrases of each intent of the embedded shop, and the others.
func shopExamples(t *testing.T, n int) (own, others []model.Example, l model.Layout) {
	t.Helper()
	set := dataset.Shop()
	l, err := model.NewLayout("small", len(set.Intents))
	if err != nil {
		t.Fatal(err)
	}
	count := make(map[int]int)
	for _, p := range set.Train {
		label, _ := set.Index(p.Intent)
		e := model.Example{Features: model.LatestTokeniser.Featurise(p.Text), Label: label}
		if count[label]++; count[label] <= n {
			own = append(own, e)
		} else {
			others = append(others, e)
		}
	}
	return own, others, l
}

func TestWarm(t *testing.T) {
	settings, err := model.DefaultTraining("small")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{1, 5} {
		own, others, l := shopExamples(t, n)
		params := l.Init(1)
		w, err := Warm(params, l, own, settings, 7, nil)
		if err != nil {
			t.Fatal(err)
		}
		accuracy := func(params []float32) float64 {
			_, right := crossEntropy(classifierOf(params, l), others)
			return float64(right) / float64(len(others))
		}
		cold, warm := accuracy(l.Init(1)), accuracy(params)
		t.Logf("%d of each intent: %+v; accuracy on the others %.3f, before %.3f", n, w, warm, cold)
		if n == 1 && (w.Held != 0 || w.Epochs != untriedEpochs) || n > 1 && w.Held == 0 || warm < cold+0.08 {
			t.Errorf("%d of each intent: %+v, accuracy %.3f from %.3f", n, w, warm, cold)
		}
		again := l.Init(1)
		if _, err := Warm(again, l, own, settings, 7, nil); err != nil || !reflect.DeepEqual(again, params) {
			t.Errorf("a second time it differs: %v", err)
		}
	}
}

func TestWarmIsToldToEnd(t *testing.T) {
	own, _, l := shopExamples(t, 2)
	settings, err := model.DefaultTraining("small")
	if err != nil {
		t.Fatal(err)
	}
	over := errors.New("over")
	for _, passes := range []int{0, 3, warmEpochs[0] + 1} { // the last of them in the second trial
		asked := 0
		_, err := Warm(l.Init(1), l, own, settings, 7, func() error {
			if asked++; asked > passes {
				return over
			}
			return nil
		})
		if !errors.Is(err, over) || asked != passes+1 {
			t.Errorf("told to end after %d passes: %v, asked %d times", passes, err, asked)
		}
	}
}

func TestWarmRefuses(t *testing.T) {
	own, _, l := shopExamples(t, 2)
	settings, err := model.DefaultTraining("small")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Warm(l.Init(1)[1:], l, own, settings, 1, nil); err == nil {
		t.Error("parameters of another length")
	}
	own[0].Label = l.Labels
	if _, err := Warm(l.Init(1), l, own, settings, 1, nil); err == nil {
		t.Error("a label outside the layout")
	}
	settings.LearningRate = -1
	if _, err := Warm(l.Init(1), l, own[1:], settings, 1, nil); err == nil {
		t.Error("a negative rate")
	}
}

// lottery is n examples of so many words each, whose labels are drawn by lot.
func lottery(t *testing.T, n, words, labels int) ([]model.Example, model.Layout) {
	t.Helper()
	l, err := model.NewLayout("small", labels)
	if err != nil {
		t.Fatal(err)
	}
	const seed = 7
	t.Logf("%d examples, seed %d", n, seed)
	random := rand.New(rand.NewPCG(seed, 1))
	ex := make([]model.Example, n)
	for i := range ex {
		var text strings.Builder
		for range words {
			fmt.Fprintf(&text, "w%dx ", random.IntN(2000))
		}
		ex[i] = model.Example{Features: model.LatestTokeniser.Featurise(text.String()), Label: random.IntN(labels)}
	}
	return ex, l
}

// TestWarmOnNoise trains on texts of which nothing can be learned, until the parameters are not
// finite: it says what is wrong with the texts, and nothing of a rate that nobody gave. Where
// fewer passes do, it makes those.
func TestWarmOnNoise(t *testing.T) {
	settings, err := model.DefaultTraining("small")
	if err != nil {
		t.Fatal(err)
	}
	ex, l := lottery(t, 1000, 40, 2)
	if _, err := Warm(l.Init(1), l, ex, settings, 3, nil); err == nil || strings.Contains(err.Error(), "rate") || !strings.Contains(err.Error(), "see that the labels are right, or give fewer texts, or shorter ones") {
		t.Errorf("many long texts: %v, want what to do about them", err)
	}
	for _, less := range [][2]int{{30, 40}, {1000, 8}} {
		ex, l := lottery(t, less[0], less[1], 2)
		if _, err := Warm(l.Init(1), l, ex, settings, 3, nil); err != nil {
			t.Errorf("%d texts of %d words: %v", less[0], less[1], err)
		}
	}
	ex, l = lottery(t, 150, 30, 2)
	if w, err := Warm(l.Init(1), l, ex, settings, 3, nil); err != nil || w.Epochs != warmEpochs[0] {
		t.Errorf("where ten passes do: %+v, %v", w, err)
	}
}
