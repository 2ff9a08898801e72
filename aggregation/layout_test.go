package aggregation

import (
	"errors"
	"math"
	"slices"
	"testing"
)

// TestCountsNeverOverflow sums the vectors of as many devices as Fits lets into a ring,
// each with the largest count in every word, and holds that one more device does not fit
// where the counts need the ring.
func TestCountsNeverOverflow(t *testing.T) {
	l := Layout{Codec: Codec{Clip: 1, Bits: 2, MaxWeight: 1}, Parameters: 2, Evaluation: Evaluation{Intents: 3, Bins: 4, Chats: 100}}
	const devices = 1000
	ring := l.RingBits(devices)
	if err := l.Fits(devices, ring); err != nil {
		t.Fatal(err)
	}
	if l.Fits(devices, ring-1) == nil || l.Fits(1<<ring/100+1, ring) == nil {
		t.Error("a ring too narrow for the counts was accepted")
	}
	words := make([]uint32, l.Length())
	for i := l.Signed() + 1; i < len(words); i++ {
		words[i] = devices * 100
	}
	words[0] = ^uint32(devices) + 1 // every device at −1
	total := make([]int64, len(words))
	Lift(total, words, l.Signed(), ring)
	counts := Counts(l, total)
	for name, part := range map[string][]int64{
		"devices": counts.Devices, "chats": counts.Chats, "correct": counts.Correct, "predicted": counts.Predicted,
		"in scope": counts.InScope, "stand-ins": counts.StandIns, "margins": counts.Margins, "right": counts.Right,
	} {
		if slices.Min(part) != devices*100 || slices.Max(part) != devices*100 {
			t.Errorf("%s are %d, want %d in each", name, part, devices*100)
		}
	}
	if total[0] != -devices || l.Evaluation.Words() != 1+3*3+4*4 || l.Length() != 3+l.Evaluation.Words() {
		t.Errorf("the update's first word is %d, the length %d", total[0], l.Length())
	}
	for _, e := range []Evaluation{{Bins: 4, Chats: 1}, {3, 1, 1}, {3, MaxBins + 1, 1}, {3, 4, 0}, {3, 4, MaxChats + 1}} {
		l.Evaluation = e
		if l.Fits(3, 30) == nil {
			t.Errorf("%+v was accepted", e)
		}
	}
}

// TestFiguresByHand holds the figures to sums done by hand.
func TestFiguresByHand(t *testing.T) {
	counts := Tally[int64]{
		Devices: []int64{2}, Chats: []int64{6, 4, 0}, Correct: []int64{5, 3, 0}, Predicted: []int64{6, 3, 1},
		InScope: []int64{2, 8}, StandIns: []int64{3, 1}, Margins: []int64{4, 6}, Right: []int64{2, 6},
	}
	half := func(float64) float64 { return 0.5 }
	f, err := FiguresOf(counts, Histogram{-2, 2}, half)
	if err != nil {
		t.Fatal(err)
	}
	// F1: 10/12, 6/7 and 0/1. Pairs of a chat and a stand-in: 8·3 won, 2·3 and 8·1 even.
	for _, c := range []struct {
		what      string
		got, want float64
	}{
		{"accuracy", f.Accuracy, 0.8},
		{"macro F1", f.MacroF1, (10./12 + 6./7) / 3},
		{"calibration error", f.Calibration, 0.3},
		{"AUROC", f.StandInAUROC, (24 + 7) / 40.},
		{"low", f.Low, 0.4902}, {"high", f.High, 0.9433},
	} {
		if math.Abs(c.got-c.want) > 1e-4 {
			t.Errorf("%s is %v, want %v", c.what, c.got, c.want)
		}
	}
	counts.Right[1] = 7
	if _, err := FiguresOf(counts, Histogram{-2, 2}, half); !errors.Is(err, ErrCounts) {
		t.Errorf("more right than there are: %v", err)
	}
}
