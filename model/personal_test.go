package model

import (
	"fmt"
	"math"
	"testing"
)

func TestPersonalIsBetter(t *testing.T) {
	output := []float32{1}
	for name, c := range map[string]struct {
		p    Personal
		want bool
	}{
		"more right":               {Personal{output, 5, 3, 4, 1, 2}, true},
		"fewer right":              {Personal{output, 5, 4, 3, 2, 1}, false},
		"as many, smaller loss":    {Personal{output, 5, 3, 3, 2, 1}, true},
		"as many, larger loss":     {Personal{output, 5, 3, 3, 1, 2}, false},
		"no difference":            {Personal{output, 5, 3, 3, 1, 1}, false},
		"too few to judge":         {Personal{output, MinJudges - 1, 0, 4, 2, 1}, false},
		"nothing trained":          {Personal{nil, 5, 0, 0, 0, 0}, false},
		"a loss that is no number": {Personal{output, 5, 3, 3, 1, math.NaN()}, false},
	} {
		if got := c.p.Better(); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// TestPersonalClassifier holds that a personal output layer takes the place of the checkpoint's, in answers and in
// their explanations, and of nothing else.
func TestPersonalClassifier(t *testing.T) {
	l, err := NewLayout("small", 3)
	if err != nil {
		t.Fatal(err)
	}
	params := l.Init(1)
	c, err := NewCheckpoint("t", "small", 1, []string{"a", "b", "c"}, params)
	if err != nil {
		t.Fatal(err)
	}
	own := append([]float32(nil), l.Output(params)...)
	for i := range own {
		own[i] += float32(i%7) / 10
	}
	whole := append([]float32(nil), params...)
	copy(l.Output(whole), own)
	d, err := NewCheckpoint("t", "small", 1, []string{"a", "b", "c"}, whole)
	if err != nil {
		t.Fatal(err)
	}
	p := Personal{Output: own}
	personal, err := p.Classifier(c)
	if err != nil {
		t.Fatal(err)
	}
	const text = "where is my parcel"
	first := *c
	first.Manifest.TokeniserVersion = Tokeniser1
	earlier, err := p.Classifier(&first)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(earlier.Featurise(text)), fmt.Sprint(Tokeniser1.Featurise(text)); got != want {
		t.Errorf("a personal part over an earlier tokeniser's checkpoint reads %s, want %s", got, want)
	}
	got, want := personal.Top(personal.Featurise(text), 3), NewClassifier(d).Top(LatestTokeniser.Featurise(text), 3)
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("guess %d is %+v, want %+v", i, got[i], want[i])
		}
	}
	e := personal.Explain(text)
	sum := e.Bias
	for _, w := range e.Words {
		sum += w.Share
	}
	if exact := math.Log(float64(got[0].Confidence) / float64(got[1].Confidence)); math.Abs(sum-exact) > 1e-5 || e.Intent != got[0] {
		t.Errorf("explained %v of %v for %+v, want %+v", sum, exact, e.Intent, got[0])
	}
	for name, output := range map[string][]float32{"short": own[1:], "none": nil, "not finite": append(append([]float32(nil), own[1:]...), float32(math.Inf(1)))} {
		if _, err := (&Personal{Output: output}).Classifier(c); err == nil {
			t.Errorf("%s: an output layer that does not fit", name)
		}
	}
}
