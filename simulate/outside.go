package simulate

import (
	"sort"

	"github.com/discreet-fl/discreet/model"
)

// OutOfScope is how well the last checkpoint tells texts that have none of the intents
// from the test phrases.
type OutOfScope struct {
	Texts int `json:"texts"`
	// AUROC is the probability that a test phrase has a larger score than such a text.
	AUROC float64 `json:"auroc"`
	// Recall is the share of the texts, and TurnedAway that of the test phrases, that are
	// answered with unknown.
	Recall     float64 `json:"recall"`
	TurnedAway float64 `json:"turned_away"`
	// Accuracy is the share of the test phrases that are answered, and rightly.
	Accuracy float64 `json:"accuracy"`
	// RecallAtTwentieth is what Recall would be with a threshold that turned away a
	// twentieth of just these test phrases: to compare with what others publish.
	RecallAtTwentieth float64 `json:"recall_at_twentieth"`
}

// outOfScope holds the current checkpoint against the texts outside, nil where there are
// none.
func (r *run) outOfScope() *OutOfScope {
	if len(r.Outside) == 0 {
		return nil
	}
	classifier := model.NewClassifier(r.checkpoint)
	unknown, away, right := 0, 0, 0
	inside, outside := make([]float64, len(r.test)), make([]float64, len(r.Outside))
	for i, e := range r.test {
		a := classifier.Answer(e.Features)
		inside[i] = float64(a.Score)
		switch {
		case !classifier.Knows(a.Score):
			away++
		case a.Index == e.Label:
			right++
		}
	}
	for i, text := range r.Outside {
		a := classifier.Answer(classifier.Featurise(text))
		outside[i] = float64(a.Score)
		if !classifier.Knows(a.Score) {
			unknown++
		}
	}
	phrases, texts := float64(len(r.test)), float64(len(r.Outside))
	o := &OutOfScope{
		Texts: len(r.Outside), AUROC: auroc(inside, outside), Recall: float64(unknown) / texts,
		TurnedAway: float64(away) / phrases, Accuracy: float64(right) / phrases,
	}
	threshold := inside[len(inside)/20] // sorted by auroc
	for _, score := range outside {
		if score < threshold {
			o.RecallAtTwentieth += 1 / texts
		}
	}
	return o
}

// auroc is the probability that one of high is above one of low, where equal ones count
// half. It sorts high.
func auroc(high, low []float64) float64 {
	sort.Float64s(high)
	var won float64
	for _, x := range low {
		from := sort.SearchFloat64s(high, x)
		equal := sort.Search(len(high)-from, func(i int) bool { return high[from+i] > x })
		won += float64(len(high)-from-equal) + float64(equal)/2
	}
	return won / float64(len(high)) / float64(len(low))
}
