package aggregation

import (
	"errors"
	"fmt"
	"math"
)

// ErrCounts is returned for counts that no devices can have summed to.
var ErrCounts = errors.New("counts that contradict each other")

// Figures are what a sum of devices' counts says of the checkpoint that they counted on.
type Figures struct {
	Chats        int64
	Correct      int64   // of them, named rightly
	Accuracy     float64 // share of the chats that were named rightly
	Low, High    float64 // its 95% interval
	MacroF1      float64 // mean F1 of the intents that were counted or predicted
	Calibration  float64 // expected calibration error
	StandInAUROC float64 // of the largest score, stand-ins against chats; 0 where one of them is missing
}

// Histogram is the range that the bins of a histogram divide equally. What lies outside
// it is in the outermost bins.
type Histogram struct{ Low, High float64 }

// Centre is the middle of one of n bins.
func (h Histogram) Centre(i, n int) float64 {
	return h.Low + (float64(i)+0.5)*(h.High-h.Low)/float64(n)
}

// FiguresOf sums up a total's counts. margin is the range of the margins' bins and
// confidence what the checkpoint's confidence in an answer is at a margin. A device that
// counts wrongly can bend the figures, as it can bend the model, but what contradicts
// itself gives [ErrCounts]. Where no chat was counted all figures are 0.
//
// The interval is Wilson's (1927), at 1.96 standard errors. The calibration error is the
// mean, over the chats, of the distance of a bin's share of right answers from the
// confidence in its middle (Naeini, Cooper and Hauskrecht 2015, with bins of the margin).
func FiguresOf(t Tally[int64], margin Histogram, confidence func(margin float64) float64) (Figures, error) {
	f := Figures{Chats: total(t.Chats), Correct: total(t.Correct)}
	for i, n := range t.Chats {
		if t.Correct[i] > n || t.Correct[i] > t.Predicted[i] {
			return Figures{}, fmt.Errorf("aggregation: %w: intent %d has %d right answers of %d chats and %d answers", ErrCounts, i, t.Correct[i], n, t.Predicted[i])
		}
	}
	if total(t.Predicted) != f.Chats || total(t.InScope) != f.Chats || total(t.Margins) != f.Chats || total(t.Right) != f.Correct || total(t.StandIns) > f.Chats {
		return Figures{}, fmt.Errorf("aggregation: %w: %d chats, %d predictions, %d scores, %d margins", ErrCounts, f.Chats, total(t.Predicted), total(t.InScope), total(t.Margins))
	}
	if f.Chats == 0 {
		return f, nil
	}
	n := float64(f.Chats)
	f.Accuracy = float64(f.Correct) / n
	f.Low, f.High = wilson(f.Correct, f.Chats)
	f.MacroF1 = macroF1(t)
	for i, m := range t.Margins {
		if t.Right[i] > m {
			return Figures{}, fmt.Errorf("aggregation: %w: bin %d has %d right answers of %d", ErrCounts, i, t.Right[i], m)
		}
		if m > 0 {
			f.Calibration += math.Abs(float64(t.Right[i])-float64(m)*confidence(margin.Centre(i, len(t.Margins)))) / n
		}
	}
	f.StandInAUROC = auroc(t.InScope, t.StandIns)
	return f, nil
}

// wilson is the 95% interval of a share.
func wilson(hits, of int64) (low, high float64) {
	const z = 1.959964
	n := float64(of)
	p := float64(hits) / n
	middle := p + z*z/(2*n)
	spread := z * math.Sqrt(p*(1-p)/n+z*z/(4*n*n))
	return max((middle-spread)/(1+z*z/n), 0), min((middle+spread)/(1+z*z/n), 1)
}

func macroF1(t Tally[int64]) (mean float64) {
	present := 0
	for i := range t.Chats {
		if n := t.Chats[i] + t.Predicted[i]; n > 0 {
			present++
			mean += 2 * float64(t.Correct[i]) / float64(n)
		}
	}
	return mean / float64(max(present, 1))
}

// auroc is the probability that one of high has a larger score than one of low, where
// those of one bin count half.
func auroc(high, low []int64) float64 {
	pairs := float64(total(high)) * float64(total(low))
	if pairs == 0 {
		return 0
	}
	var below, won float64
	for i, n := range high {
		won += float64(n) * (below + float64(low[i])/2)
		below += float64(low[i])
	}
	return won / pairs
}

// total is the sum of counts.
func total(counts []int64) (sum int64) {
	for _, n := range counts {
		sum += n
	}
	return sum
}
