package model

import (
	"fmt"
	"math"
	"strings"
	"testing"
)

func TestSpansAreOfTheSameFeatures(t *testing.T) {
	for v := Tokeniser1; v <= LatestTokeniser; v++ {
		for _, text := range append([]string{"", "a", "ab cd", "naïve café ☕ 東京 x", "Straße! straße"}, probes...) {
			s := v.Spans(text)
			if got, want := fmt.Sprint(s.Features), fmt.Sprint(v.Featurise(text)); got != want {
				t.Errorf("version %d: features of %.40q are %.200s, want %.200s", v, text, got, want)
			}
			if len(s.From) != len(s.Features) {
				t.Errorf("version %d: %.40q has %d spans for %d features", v, text, len(s.From), len(s.Features))
			}
		}
	}
	for v, want := range map[Tokeniser]string{
		Tokeniser1: "[{word 0 hi} {first 0 hi} {letters 0 <h} {letters 0 <hi} {letters 0 <hi>} {letters 0 hi} {letters 0 hi>} {letters 0 i>} " +
			"{word 1 little} {pair 1 hi little} {letters 1 <l} {letters 1 <li} {letters 1 <lit} {letters 1 <litt} {letters 1 li} ",
		Tokeniser2: "[{word 0 hi} {first 0 hi} {first stem 0 hi} {letters 0 <h} {letters 0 <hi} {letters 0 <hi>} {letters 0 hi} {letters 0 hi>} {letters 0 i>} " +
			"{word 1 little} {pair 1 hi little} {stems 1 hi litt} {letters 1 <l} {letters 1 <li} {letters 1 <lit} {letters 1 li} ",
	} {
		if got := fmt.Sprint(v.Spans("Hi, little").From); !strings.HasPrefix(got, want) {
			t.Errorf("version %d: spans are %s, want %s…", v, got, want)
		}
	}
}

func FuzzSpans(f *testing.F) {
	for _, text := range probes {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for v := Tokeniser1; v <= LatestTokeniser; v++ {
			if got, want := fmt.Sprint(v.Spans(text).Features), fmt.Sprint(v.Featurise(text)); got != want {
				t.Errorf("version %d: features are %.200s, want %.200s", v, got, want)
			}
		}
	})
}

// Bias and shares, by word and by part, are the difference of the two scores.
func TestExplanationSumsToTheScore(t *testing.T) {
	for _, size := range []string{"small", "base"} {
		classifier := NewClassifier(random(t, size, 30))
		for _, text := range append([]string{"", "where is my parcel?", "parcel parcel parcel"}, probes...) {
			e := classifier.Explain(text)
			scores := classifier.Scores(LatestTokeniser.Featurise(text))
			want := float64(scores[e.Intent.Index]) - float64(scores[e.Other.Index])
			words, parts := e.Bias, e.Bias
			for _, w := range e.Words {
				words += w.Share
			}
			times := 0
			for i, p := range e.Parts {
				parts += p.Share
				times += p.Times
				if i > 0 && math.Abs(p.Share) > math.Abs(e.Parts[i-1].Share) {
					t.Errorf("%.40q: part %d has a larger share than the one before", text, i)
				}
			}
			for name, got := range map[string]float64{"log odds": e.LogOdds, "words": words, "parts": parts} {
				if math.Abs(got-want) > 2e-4*(1+want) {
					t.Errorf("%s, %.40q: the %s give %v, the scores %v", size, text, name, got, want)
				}
			}
			if odds := math.Log(float64(e.Intent.Confidence) / float64(e.Other.Confidence)); e.Other.Confidence > 1e-30 && math.Abs(odds-want) > 2e-3 {
				t.Errorf("%s, %.40q: the probabilities' odds are %v, the scores' %v", size, text, odds, want)
			}
			if times != len(LatestTokeniser.Featurise(text)) {
				t.Errorf("%.40q: the parts are of %d features, want %d", text, times, len(LatestTokeniser.Featurise(text)))
			}
		}
	}
}

// A word that alone speaks for an intent has the whole share.
func TestExplanationFindsTheWord(t *testing.T) {
	c := checkpoint(t, "small", 3)
	clear(c.Params)
	l := c.Manifest.Layout
	embedding, weights, _ := l.Split(c.Params)
	weights[1] = 2 // dimension 0 speaks for label 1
	parcel := LatestTokeniser.Spans("parcel").Features[0]
	embedding[int(parcel&l.Mask())*l.Dim] = 3
	e := NewClassifier(c).Explain("my parcel")
	want := 6 / math.Sqrt(float64(len(LatestTokeniser.Featurise("my parcel"))))
	if e.Intent.Index != 1 || e.Parts[0].Text != "parcel" || e.Parts[0].Kind != KindWord ||
		math.Abs(e.Words[1].Share-want) > 1e-5 || e.Words[0].Share != 0 {
		t.Errorf("got %+v, want the word parcel with a share of %v", e, want)
	}
}

// A pair's share is halved between its words, a pair of stems' too; what is of one word is all that word's.
func TestSharesAreOfTheWords(t *testing.T) {
	const text = "my parcels"
	s := Tokeniser2.Spans(text)
	for i, f := range s.Features {
		c := checkpoint(t, "small", 3)
		clear(c.Params)
		l := c.Manifest.Layout
		embedding, weights, _ := l.Split(c.Params)
		weights[1] = 2 // dimension 0 speaks for label 1
		embedding[int(f&l.Mask())*l.Dim] = 3
		e := NewClassifier(c).Explain(text)
		all := 6 / math.Sqrt(float64(len(s.Features)))
		want := [2]float64{}
		switch from := s.From[i]; from.Kind {
		case KindPair, KindStems:
			want = [2]float64{all / 2, all / 2}
		default:
			want[from.Word] = all
		}
		if math.Abs(e.Words[0].Share-want[0]) > 1e-5 || math.Abs(e.Words[1].Share-want[1]) > 1e-5 {
			t.Errorf("%v: shares of %v, want %v", s.From[i], e.Words, want)
		}
	}
}

func BenchmarkExplain(b *testing.B) {
	classifier := NewClassifier(random(b, "base", 150))
	b.ReportAllocs()
	for b.Loop() {
		classifier.Explain("where is the parcel that i ordered on monday")
	}
}
