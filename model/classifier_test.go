package model

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// random returns a checkpoint with random parameters.
func random(t testing.TB, size string, labels int) *Checkpoint {
	c := checkpoint(t, size, labels)
	r := rand.New(rand.NewPCG(1, 1))
	for i := range c.Params {
		c.Params[i] = float32(r.NormFloat64())
	}
	return c
}

func TestScoresAreTheModel(t *testing.T) {
	c := random(t, "small", 30)
	l := c.Manifest.Layout
	embedding, weights, bias := l.Split(c.Params)
	classifier := NewClassifier(c)
	for _, text := range []string{"", "where is my parcel?", "parcel parcel parcel"} {
		features := LatestTokeniser.Featurise(text)
		got := classifier.Scores(features)
		for j := range l.Labels {
			want := float64(bias[j])
			for d := range l.Dim {
				var h float64
				for _, f := range features {
					h += float64(embedding[int(f%uint32(l.Rows))*l.Dim+d]) / math.Sqrt(float64(len(features)))
				}
				want += h * float64(weights[d*l.Labels+j])
			}
			if math.Abs(float64(got[j])-want) > 1e-4 {
				t.Fatalf("%q: score %d is %v, want %v", text, j, got[j], want)
			}
		}
	}
}

func TestTop(t *testing.T) {
	c := random(t, "small", 30)
	classifier := NewClassifier(c)
	features := LatestTokeniser.Featurise("where is my parcel?")
	probabilities := append([]float32(nil), classifier.Probabilities(features)...)
	all := classifier.Top(features, 100)
	if len(all) != 30 {
		t.Fatalf("%d intents, want 30", len(all))
	}
	var sum float64
	for i, intent := range all {
		sum += float64(intent.Confidence)
		if intent.Label != c.Manifest.Labels[intent.Index] || intent.Confidence != probabilities[intent.Index] {
			t.Errorf("intent %d is %+v, want label %q of probability %v", i, intent, c.Manifest.Labels[intent.Index], probabilities[intent.Index])
		}
		if i > 0 && intent.Confidence > all[i-1].Confidence {
			t.Errorf("intent %d is more probable than the one before", i)
		}
	}
	if math.Abs(sum-1) > 1e-5 {
		t.Errorf("confidences sum to %v", sum)
	}
	if got, want := fmt.Sprint(classifier.Top(features, 3)), fmt.Sprint(all[:3]); got != want {
		t.Errorf("top three are %s, want %s", got, want)
	}
	if got := classifier.Top(features, 0); len(got) != 0 {
		t.Errorf("top none are %v", got)
	}
	clear(c.Params)
	for i, intent := range classifier.Top(features, 5) {
		if intent.Index != i {
			t.Errorf("of equal intents, %d comes at place %d", intent.Index, i)
		}
	}
}

func BenchmarkScores(b *testing.B) {
	for _, size := range []string{"small", "base"} {
		b.Run(size, func(b *testing.B) {
			classifier := NewClassifier(random(b, size, 150))
			r := rand.New(rand.NewPCG(2, 2))
			messages := make([]Features, 256)
			for i := range messages {
				for range 60 {
					messages[i] = append(messages[i], r.Uint32())
				}
			}
			b.ResetTimer()
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				classifier.Scores(messages[i%len(messages)])
			}
		})
	}
}
