package train

import (
	"errors"
	"reflect"
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
		e := model.Example{Features: model.Featurise(p.Text), Label: label}
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
