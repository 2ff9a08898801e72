package client

import (
	"fmt"
	"strings"

	"github.com/discreet-fl/discreet/model"
)

// Explanation is why a text's answer came before the next-best one. The shares are exact: Bias and those of all Words,
// or Bias and those of all Parts, sum to LogOdds, the logarithm of how many times as probable the model itself has the
// answer, before its confidence is calibrated; a negative share speaks for the next-best. See [model.Explanation].
type Explanation struct {
	Model   string      `json:"model"`   // which answered: Shared or Personal
	Unknown bool        `json:"unknown"` // as Classify has it: Answer is only the nearest
	Answer  Guess       `json:"answer"`
	Next    Guess       `json:"next"`
	LogOdds float64     `json:"log_odds"`
	Bias    float64     `json:"bias"`  // what the text has nothing to do with
	Words   []WordShare `json:"words"` // in the text's order, case-folded
	Parts   []PartShare `json:"parts"` // the largest share of either sign first
}

// WordShare is one word's share, with its letters' and half of that of each pair that it or its stem is in.
type WordShare struct {
	Text  string  `json:"text"`
	Share float64 `json:"share"`
}

// PartShare is the share of a word, a word pair, a pair of stems or a sequence of letters.
type PartShare struct {
	// Kind is "word", "pair", "first" (the text begins with this word), "stems" (of two words in a row), "first stem" or
	// "letters". A word's stem is its first 4 letters, or all of a shorter word.
	Kind string `json:"kind"`
	// Text is the part; < and > in letters are where the word begins and ends.
	Text  string  `json:"text"`
	Times int     `json:"times"` // how often the text has it
	Share float64 `json:"share"`
}

// Explain says what in a text drove the answer that Classify gives. Like the text it explains, the explanation
// is not kept and never leaves the device.
func (c *Client) Explain(text string) (Explanation, error) {
	if strings.TrimSpace(text) == "" {
		return Explanation{}, fmt.Errorf("client: %w: it is empty", ErrText)
	}
	m := c.model.Load()
	if m == nil {
		return Explanation{}, fmt.Errorf("client: %w", ErrNoModel)
	}
	classifier, which, done := m.answering()
	defer done()
	e := ExplainWith(classifier, text)
	if e.Model = which; which == Personal {
		e.Unknown = m.unknown(text)
	}
	return e, nil
}

// ExplainWith is [Client.Explain] with the classifier of a checkpoint, which needs no device.
func ExplainWith(classifier *model.Classifier, text string) Explanation {
	from := classifier.Explain(text)
	e := Explanation{
		Model: Shared, Unknown: !classifier.Knows(from.Intent.Score),
		Answer:  Guess{Intent: from.Intent.Label, Confidence: from.Intent.Confidence},
		Next:    Guess{Intent: from.Other.Label, Confidence: from.Other.Confidence},
		LogOdds: from.LogOdds, Bias: from.Bias,
		Words: make([]WordShare, len(from.Words)),
		Parts: make([]PartShare, len(from.Parts)),
	}
	for i, w := range from.Words {
		e.Words[i] = WordShare(w)
	}
	for i, p := range from.Parts {
		e.Parts[i] = PartShare{Kind: string(p.Kind), Text: p.Text, Times: p.Times, Share: p.Share}
	}
	return e
}
