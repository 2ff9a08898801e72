package model

import (
	"cmp"
	"math"
	"slices"
)

// Explanation is why a text was given one intent rather than another. The model adds up the rows of a text's features,
// so that each has an exact share in the answer:
//
//	score(a) − score(b) = bias(a) − bias(b) + Σ over the features f of row(f)·(weights(a) − weights(b))/√n
//
// The difference of two scores is what is explained, and not one score alone, because a score means nothing by itself:
// a word that raised every intent's by the same would change no probability. The difference does: it is the logarithm
// of how many times as probable the one intent is as the other.
type Explanation struct {
	// Intent is the answer, Other what it is held against.
	Intent, Other Intent
	// LogOdds is the difference of their scores, ln(p/p'): Bias and all Words, or Bias and all Parts, sum to it.
	LogOdds float64
	// Bias is the part that the text has nothing to do with.
	Bias float64
	// Words are the text's, in order.
	Words []WordShare
	// Parts are the words, pairs, stems and letter sequences, each once, the largest share of either sign first.
	Parts []PartShare
}

// WordShare is one word's share in the answer.
type WordShare struct {
	Text string
	// Share is that of the word, of its letters, and half of that of each pair that it or its stem is in.
	Share float64
}

// PartShare is the share of what gave one feature.
type PartShare struct {
	Kind  Kind
	Text  string
	Times int // how often the text has it
	Share float64
}

// Explain returns why the most probable intent came before the next. A model has two labels at least.
func (c *Classifier) Explain(text string) Explanation {
	s := c.tokeniser.Spans(text)
	top := c.Top(s.Features, 2)
	return c.explain(s, top[0], top[1])
}

func (c *Classifier) explain(s Spans, answer, other Intent) Explanation {
	e := Explanation{
		Intent: answer, Other: other,
		Bias:  float64(c.bias[answer.Index]) - float64(c.bias[other.Index]),
		Words: make([]WordShare, len(s.Words)),
	}
	for i, w := range s.Words {
		e.Words[i].Text = w
	}
	type part struct {
		kind Kind
		text string
	}
	places := make(map[part]int)
	scale := float64(FeatureScale(len(s.Features)))
	e.LogOdds = e.Bias
	for i, f := range s.Features {
		from, share := s.From[i], scale*c.pull(f, answer.Index, other.Index)
		e.LogOdds += share
		if from.Kind == KindPair || from.Kind == KindStems {
			e.Words[from.Word-1].Share += share / 2
			e.Words[from.Word].Share += share / 2
		} else {
			e.Words[from.Word].Share += share
		}
		at, known := places[part{from.Kind, from.Text}]
		if !known {
			at = len(e.Parts)
			places[part{from.Kind, from.Text}] = at
			e.Parts = append(e.Parts, PartShare{Kind: from.Kind, Text: from.Text})
		}
		e.Parts[at].Times++
		e.Parts[at].Share += share
	}
	slices.SortStableFunc(e.Parts, func(a, b PartShare) int { return cmp.Compare(math.Abs(b.Share), math.Abs(a.Share)) })
	return e
}

// pull returns how much further a feature's row lies towards one label than towards another.
func (c *Classifier) pull(f uint32, towards, from int) float64 {
	dim, labels := len(c.hidden), len(c.labels)
	row := c.embedding[int(f&c.mask)*dim:][:dim]
	var sum float64
	for d, x := range row {
		w := c.weights[d*labels:][:labels]
		sum += float64(x) * (float64(w[towards]) - float64(w[from]))
	}
	return sum
}
