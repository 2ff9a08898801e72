package client

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/discreet-fl/discreet/aggregation"
	"github.com/discreet-fl/discreet/model"
	pb "github.com/discreet-fl/discreet/proto"
)

// mostHeldBack is the largest share of a device's chats, in 10,000, that a plan may
// keep from training.
const mostHeldBack = 5000

// layout is where each block of a plan's vectors lies, for its model.
func layout(plan *pb.Plan, m model.Layout) aggregation.Layout {
	l := aggregation.Layout{
		Codec: codec(plan), Noise: mechanism(plan.GetNoise()), Parameters: reduction(plan, m).Length(m.Parameters()), Scalar: scalar(plan),
	}
	if e := plan.GetEvaluation(); e != nil {
		const largest = 1 << 16 // above every bound, and an int everywhere
		l.Evaluation = aggregation.Evaluation{Intents: max(m.Labels, 1), Bins: int(min(e.Bins, largest)), Chats: int(min(e.Chats, largest))}
	}
	return l
}

// checkEvaluation holds what a plan asks to count against the device's bounds; what
// depends on the ring is held by checkCodec.
func checkEvaluation(plan *pb.Plan) error {
	e := plan.GetEvaluation()
	if e == nil {
		return nil
	}
	if e.HeldBack < 1 || e.HeldBack > mostHeldBack {
		return fmt.Errorf("%d chats in 10,000 held back, want 1 to %d", e.HeldBack, mostHeldBack)
	}
	if e.Chats < 1 || e.Bins < 2 {
		return fmt.Errorf("an evaluation of %d chats at most with histograms of %d bins, want at least 1 and 2", e.Chats, e.Bins)
	}
	for _, x := range []float32{e.ScoreLow, e.ScoreHigh, e.MarginLow, e.MarginHigh} {
		if x-x != 0 || math.Abs(float64(x)) > 1e6 {
			return fmt.Errorf("a histogram that begins or ends at %v, want numbers up to a million", x)
		}
	}
	if e.ScoreLow >= e.ScoreHigh || e.MarginLow >= e.MarginHigh {
		return errors.New("a histogram whose range is empty")
	}
	return nil
}

// HoldBack parts a device's examples into those to train on and those to evaluate with,
// a share in 10,000, by each one's own hash; see [model.HeldBack]. Of those that are held
// back, none whose label is in doubt is evaluated with.
func HoldBack(examples []model.Example, share uint32) (own, held []model.Example) {
	if share == 0 {
		return examples, nil
	}
	for _, e := range examples {
		switch {
		case !model.HeldBack(e.Features, int(share)):
			own = append(own, e)
		case !e.Not && (e.Weight == 0 || e.Weight == 1):
			held = append(held, e)
		}
	}
	return own, held
}

// half is about half of the examples, each by a coin that the seed decides. A device counts
// other chats in each round: the counts of two rounds whose devices differ by one then differ
// by everybody's coins, and not by that one's chats alone.
func half(examples []model.Example, seed [32]byte) (some []model.Example) {
	coins := rand.NewChaCha8(seed)
	for _, e := range examples {
		if coins.Uint64()>>63 == 0 {
			some = append(some, e)
		}
	}
	return some
}

// evaluate counts into a vector how a checkpoint does on half of the held-back examples.
// Where there are more than the plan lets a device count, the newest are, so that no count
// is above that number.
func (p *Participant) evaluate(words []uint32, l aggregation.Layout, plan *pb.Plan, c *model.Checkpoint, held []model.Example) error {
	if len(held) == 0 {
		return nil
	}
	coins, err := p.seed(plan, "evaluation")
	if err != nil {
		return err
	}
	if held = half(held, coins); len(held) == 0 {
		return nil
	}
	e := plan.GetEvaluation()
	held = held[max(len(held)-l.Evaluation.Chats, 0):]
	counts, classifier := aggregation.Counts(l, words), model.NewClassifier(c)
	counts.Devices[0] = 1
	for i, x := range held {
		a := classifier.Answer(x.Features)
		counts.Chats[x.Label]++
		counts.Predicted[a.Index]++
		counts.InScope[bin(a.Score, e.ScoreLow, e.ScoreHigh, l.Evaluation.Bins)]++
		at := bin(a.Margin, e.MarginLow, e.MarginHigh, l.Evaluation.Bins)
		counts.Margins[at]++
		if a.Index == x.Label {
			counts.Correct[x.Label]++
			counts.Right[at]++
		}
		if other, ok := another(held, i); ok {
			s := classifier.Answer(model.StandIn(x.Features, other))
			counts.StandIns[bin(s.Score, e.ScoreLow, e.ScoreHigh, l.Evaluation.Bins)]++
		}
	}
	return nil
}

// another is the features of the next example, from the first after the last, that has
// another intent; false where none has.
func another(held []model.Example, i int) (model.Features, bool) {
	for d := 1; d < len(held); d++ {
		if x := held[(i+d)%len(held)]; x.Label != held[i].Label {
			return x.Features, true
		}
	}
	return nil, false
}

// bin is the place of x among n equal parts of a range; what lies outside is in the
// first or the last.
func bin(x, low, high float32, n int) int {
	switch {
	case !(x > low):
		return 0
	case x >= high:
		return n - 1
	}
	return min(int(float32(float32(x-low)/float32(high-low))*float32(n)), n-1)
}
