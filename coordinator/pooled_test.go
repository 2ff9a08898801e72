package coordinator

import (
	"bytes"
	"math"
	"testing"

	"github.com/discreet-fl/discreet/model"
	pb "github.com/discreet-fl/discreet/proto"
)

// countedOf is an evaluation of two intents by two bins: so many chats of each, of which so many
// were given the right one, all in the bin of the margins from 0 up, and what it held back.
func countedOf(i byte, chats, right uint64, heldBack uint32) *pb.RoundEvaluation {
	return &pb.RoundEvaluation{
		CheckpointSha256: bytes.Repeat([]byte{i}, 32), Devices: 2, Chats: 2 * chats,
		IntentChats: []uint64{chats, chats}, IntentCorrect: []uint64{right, right}, IntentPredicted: []uint64{chats, chats},
		InScope: []uint64{0, 2 * chats}, StandIns: []uint64{chats, 0}, Margins: []uint64{0, 2 * chats}, Right: []uint64{0, 2 * right},
		Bins: &pb.Evaluation{HeldBack: heldBack, Bins: 2, ScoreHigh: 12, MarginLow: -4, MarginHigh: 4},
	}
}

// TestPoolSumsUpTheLatest: evaluations are one in the figures of Pool, until there are enough
// chats, whatever share of chats each plan held back.
func TestPoolSumsUpTheLatest(t *testing.T) {
	otherBins, otherIntents := countedOf(9, 10, 9, 1000), countedOf(9, 10, 9, 1000)
	otherBins.Bins.MarginHigh = 5
	otherIntents.IntentChats = append(otherIntents.IntentChats, 0)
	nothing := &pb.RoundEvaluation{CheckpointSha256: make([]byte, 32)}
	many := func(n int, e *pb.RoundEvaluation) (all []*pb.RoundEvaluation) {
		for range n {
			all = append(all, e)
		}
		return all
	}
	for _, c := range []struct {
		name          string
		latest        []*pb.RoundEvaluation
		rounds        int
		chats, right  uint64
		devices, from uint64
	}{
		{"none", nil, 0, 0, 0, 0, 0},
		{"none that counted", []*pb.RoundEvaluation{nil, nothing}, 0, 0, 0, 0, 0},
		{"one", []*pb.RoundEvaluation{countedOf(1, 10, 9, 1000)}, 1, 20, 18, 2, 1},
		{"the newest is what it is called by", []*pb.RoundEvaluation{countedOf(3, 10, 9, 100), nothing, countedOf(2, 20, 10, 550), countedOf(1, 5, 1, 1000)}, 3, 70, 40, 6, 3},
		{"three at the least", append(many(3, countedOf(2, 200, 100, 1000)), countedOf(1, 10, 0, 1000)), 3, 1200, 600, 6, 2},
		{"until there are enough", many(30, countedOf(2, 10, 5, 1000)), 10, 200, 100, 20, 2},
		{"no more than forty", many(50, countedOf(2, 1, 1, 1000)), 40, 80, 80, 80, 2},
		{"other bins end it", []*pb.RoundEvaluation{countedOf(2, 10, 5, 1000), otherBins, countedOf(1, 10, 5, 1000)}, 1, 20, 10, 2, 2},
		{"other intents end it", []*pb.RoundEvaluation{countedOf(2, 10, 5, 1000), otherIntents, countedOf(1, 10, 5, 1000)}, 1, 20, 10, 2, 2},
	} {
		e, n := Pool(c.latest, &model.Calibration{Slope: 0, Offset: 0})
		if n != c.rounds || (e == nil) != (c.rounds == 0) {
			t.Errorf("%s: %v of %d rounds, want %d", c.name, e, n, c.rounds)
			continue
		}
		if e == nil {
			continue
		}
		accuracy := float64(c.right) / float64(c.chats)
		if e.Chats != c.chats || e.Devices != c.devices || uint64(e.CheckpointSha256[0]) != c.from || e.Accuracy != accuracy ||
			e.AccuracyLow >= accuracy || e.AccuracyHigh < accuracy-1e-9 || e.StandInAuroc != 1 {
			t.Errorf("%s: %v, want %d of %d chats, counted by %d devices, from checkpoint %d", c.name, e, c.right, c.chats, c.devices, c.from)
		}
		// Whatever the margin, that calibration is confident by a half.
		if math.Abs(e.CalibrationError-math.Abs(accuracy-0.5)) > 1e-6 {
			t.Errorf("%s: a calibration error of %v at an accuracy of %v", c.name, e.CalibrationError, accuracy)
		}
	}
	first := countedOf(1, 10, 9, 1000)
	Pool([]*pb.RoundEvaluation{first, first, first}, nil)
	if first.Chats != 20 || first.IntentChats[0] != 10 || first.Margins[1] != 20 {
		t.Errorf("pooling changed what it pooled: %v", first)
	}
}

// TestCalibrationPoolsSharesThatFall: evaluations of plans that hold back less and less
// calibrate a checkpoint together.
func TestCalibrationPoolsSharesThatFall(t *testing.T) {
	s := spec(3, 3)
	s.Rounds, s.Evaluation = 100, &pb.TaskEvaluation{HeldBack: 1000, Unknown: 500}
	var standing Standing
	for i := range byte(20) {
		e := countedOf(i, 15, 12, heldBack(s, 70+uint64(i)))
		e.Margins, e.Right = []uint64{10, 20}, []uint64{6, 18}
		standing = standing.After(e)
	}
	c := &model.Checkpoint{}
	standing.Calibrate(c, s)
	if c.Manifest.Calibration == nil || c.Manifest.Calibration.Threshold == nil {
		t.Errorf("600 chats over 20 rounds of other shares calibrated nothing: %+v", c.Manifest.Calibration)
	}
}
