package train

import (
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/discreet-fl/discreet/model"
)

// taughtCheckpoint is trained on examples of a dozen intents, which it returns with others of them.
func taughtCheckpoint(t *testing.T) (*model.Checkpoint, []model.Example, []model.Example) {
	t.Helper()
	const labels = 12
	l, err := model.NewLayout("small", labels)
	if err != nil {
		t.Fatal(err)
	}
	ex := synthetic(300, 12, labels, 1)
	params := l.Init(1)
	trainer, err := New(l, usual.Batch)
	if err != nil {
		t.Fatal(err)
	}
	defer trainer.Close()
	if _, err := trainer.Train(params, ex, usual, 7); err != nil {
		t.Fatal(err)
	}
	names := make([]string, labels)
	for i := range names {
		names[i] = string(rune('a' + i))
	}
	c, err := model.NewCheckpoint("task", "small", 3, names, params)
	if err != nil {
		t.Fatal(err)
	}
	return c, ex[:150], ex[150:]
}

// TestPersonaliseLearnsItsPeople gives a device people who mean one intent by what others say for another: its own
// part learns that, and is better on what was held back, while the checkpoint stays as it was.
func TestPersonaliseLearnsItsPeople(t *testing.T) {
	c, own, held := taughtCheckpoint(t)
	for _, ex := range [][]model.Example{own, held} {
		for i := range ex {
			if ex[i].Label == 0 {
				ex[i].Label = 1
			}
		}
	}
	before := slices.Clone(c.Params)
	p, err := Personalise(c, own, held, 7)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("of %d the checkpoint names %d rightly, the personal part %d", p.Held, p.SharedRight, p.OwnRight)
	if !p.Better() || p.OwnRight <= p.SharedRight || p.Held != len(held) {
		t.Errorf("it did not learn: %d right of %d, the checkpoint %d", p.OwnRight, p.Held, p.SharedRight)
	}
	if !slices.Equal(c.Params, before) {
		t.Error("the checkpoint was changed")
	}
	classifier, err := p.Classifier(c)
	if err != nil {
		t.Fatal(err)
	}
	if loss, right := crossEntropy(classifier, held); right != p.OwnRight || loss != p.OwnLoss {
		t.Errorf("the classifier names %d rightly at loss %v, want %d at %v", right, loss, p.OwnRight, p.OwnLoss)
	}
	if again, err := Personalise(c, own, held, 7); err != nil || !reflect.DeepEqual(again, p) {
		t.Errorf("a second time it differs: %v", err)
	}
}

func TestPersonaliseNeedsExamples(t *testing.T) {
	c, own, others := taughtCheckpoint(t)
	rejected := slices.Clone(own)
	for i := range rejected {
		rejected[i].Not = true
	}
	for name, ex := range map[string]struct{ own, held []model.Example }{
		"none":              {nil, others},
		"only rejected":     {rejected, others},
		"too few to judge":  {own, others[:model.MinJudges-1]},
		"nothing held back": {own, nil},
	} {
		p, err := Personalise(c, ex.own, ex.held, 7)
		if err != nil || len(p.Output) != 0 || p.Better() || p.Held != len(ex.held) {
			t.Errorf("%s: %d parameters of %d judges, %v", name, len(p.Output), p.Held, err)
		}
	}
	if p, err := Personalise(c, own, others[:model.MinJudges], 7); err != nil || len(p.Output) == 0 {
		t.Errorf("just enough to judge: %v", err)
	}
}

// TestPersonaliseForgetsTheOldest holds that examples beyond the bound change nothing, whatever intent they have.
func TestPersonaliseForgetsTheOldest(t *testing.T) {
	c, _, held := taughtCheckpoint(t)
	own := synthetic(MaxPersonal, 12, c.Manifest.Layout.Labels, 5)
	old := slices.Clone(own[:300])
	for i := range old {
		old[i].Label = 3
	}
	want, err := Personalise(c, own, held, 7)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Personalise(c, append(old, own...), held, 7); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("with older examples it differs: %d right, without them %d, %v", got.OwnRight, want.OwnRight, err)
	}
}

func BenchmarkPersonalise(b *testing.B) {
	for _, size := range []string{"small", "base"} {
		l, err := model.NewLayout(size, 150)
		if err != nil {
			b.Fatal(err)
		}
		labels := make([]string, l.Labels)
		for i := range labels {
			labels[i] = fmt.Sprint(i)
		}
		c, err := model.NewCheckpoint("t", size, 1, labels, l.Init(1))
		if err != nil {
			b.Fatal(err)
		}
		own := synthetic(MaxPersonal, 60, l.Labels, 1)
		b.Run(size, func(b *testing.B) {
			for b.Loop() {
				if _, err := Personalise(c, own, own[:100], 1); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
