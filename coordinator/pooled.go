package coordinator

import (
	"slices"

	"github.com/discreet-fl/discreet/aggregation"
	"github.com/discreet-fl/discreet/model"
	pb "github.com/discreet-fl/discreet/proto"
)

// Pooled is [Pool] of the evaluations at hand.
func (s Standing) Pooled(c *model.Calibration) (*pb.RoundEvaluation, int) {
	latest := slices.Clone(s.recent)
	slices.Reverse(latest)
	return Pool(latest, c)
}

// Pool sums up the latest of evaluations, which come newest first, as if they were one, and
// returns how many they are: as many as have leastPooled chats together, smoothed at the
// least, or all of the newest 40 that have counted any with the same intents and bins. It is
// nil where none has. The calibration error is of the confidence that c gives, and the
// checkpoint that of the newest.
func Pool(latest []*pb.RoundEvaluation, c *model.Calibration) (*pb.RoundEvaluation, int) {
	var sum *pb.RoundEvaluation
	n := 0
	for _, e := range latest {
		if n == remembered || n >= smoothed && sum.GetChats() >= leastPooled {
			break
		}
		switch {
		case e.GetChats() == 0:
			continue
		case sum == nil:
			sum = &pb.RoundEvaluation{CheckpointSha256: e.GetCheckpointSha256(), Bins: e.GetBins()}
		case !sameBins(sum.GetBins(), e.GetBins()) || len(e.GetIntentChats()) != len(sum.GetIntentChats()):
			return figuresOf(sum, c), n
		}
		sum.Devices, sum.Chats = sum.Devices+e.GetDevices(), sum.Chats+e.GetChats()
		sum.IntentChats, sum.IntentCorrect, sum.IntentPredicted = plus(sum.IntentChats, e.GetIntentChats()), plus(sum.IntentCorrect, e.GetIntentCorrect()), plus(sum.IntentPredicted, e.GetIntentPredicted())
		sum.InScope, sum.StandIns = plus(sum.InScope, e.GetInScope()), plus(sum.StandIns, e.GetStandIns())
		sum.Margins, sum.Right = plus(sum.Margins, e.GetMargins()), plus(sum.Right, e.GetRight())
		n++
	}
	return figuresOf(sum, c), n
}

// plus is a sum of counts, of which the first may be none yet.
func plus(sum, counts []uint64) []uint64 {
	if sum == nil {
		sum = make([]uint64, len(counts))
	}
	for i := range min(len(sum), len(counts)) {
		sum[i] += counts[i]
	}
	return sum
}

// figuresOf fills in the figures of a sum of evaluations, each of which had figures; nil
// stays nil.
func figuresOf(e *pb.RoundEvaluation, c *model.Calibration) *pb.RoundEvaluation {
	if e == nil {
		return nil
	}
	t := aggregation.Tally[int64]{
		Devices: []int64{int64(e.Devices)}, Chats: signed(e.IntentChats), Correct: signed(e.IntentCorrect), Predicted: signed(e.IntentPredicted),
		InScope: signed(e.InScope), StandIns: signed(e.StandIns), Margins: signed(e.Margins), Right: signed(e.Right),
	}
	f, err := aggregation.FiguresOf(t, aggregation.Histogram{Low: float64(e.Bins.GetMarginLow()), High: float64(e.Bins.GetMarginHigh())}, confidenceOf(c))
	if err != nil {
		return nil // of a store that was written into
	}
	e.Accuracy, e.AccuracyLow, e.AccuracyHigh, e.MacroF1 = f.Accuracy, f.Low, f.High, f.MacroF1
	e.CalibrationError, e.StandInAuroc = f.Calibration, f.StandInAUROC
	return e
}

// sameBins tells whether two plans' counts can be added: what they hold back may differ.
func sameBins(a, b *pb.Evaluation) bool {
	return a.GetBins() == b.GetBins() && a.GetScoreLow() == b.GetScoreLow() && a.GetScoreHigh() == b.GetScoreHigh() &&
		a.GetMarginLow() == b.GetMarginLow() && a.GetMarginHigh() == b.GetMarginHigh()
}

// signed copies counts, which are far below 2^63.
func signed(counts []uint64) []int64 {
	out := make([]int64, len(counts))
	for i, n := range counts {
		out[i] = int64(n)
	}
	return out
}
