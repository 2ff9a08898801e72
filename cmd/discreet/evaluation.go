package main

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	pb "github.com/discreet-fl/discreet/proto"
)

// evaluationOf is how a task is evaluated, nil for not at all.
func evaluationOf(heldBack, unknown float64, earlyStop uint64) (*pb.TaskEvaluation, error) {
	switch {
	case !(unknown >= 0 && unknown <= 0.5):
		return nil, usagef("--unknown %v, want 0 to 0.5", unknown)
	case heldBack == 0 && earlyStop == 0:
		return nil, nil
	case heldBack == 0:
		return nil, usagef("--early-stop %d needs chats that are held back: raise --held-back", earlyStop)
	case !(heldBack >= 0.0001 && heldBack <= 0.5):
		return nil, usagef("--held-back %v, want 0, or 0.0001 to 0.5", heldBack)
	}
	return &pb.TaskEvaluation{HeldBack: uint32(math.Round(heldBack * 10_000)), EarlyStop: earlyStop, Unknown: uint32(math.Round(unknown * 10_000))}, nil
}

// errUnknown is said where no chats tell when to answer so.
func errUnknown(share float64) error {
	return usagef("--unknown %v and no chats held back, from which devices learn when to answer so: leave it out, or raise --held-back, which does not go with --epsilon", share)
}

// evaluationText is how a task is evaluated.
func evaluationText(e *pb.TaskEvaluation) string {
	if e == nil {
		return "none: no chats are held back"
	}
	text := fmt.Sprintf("on %.4g%% of each device's chats", float64(e.HeldBack)/100)
	if e.Unknown > 0 {
		text += fmt.Sprintf("; %.4g%% of them may be unknown", float64(e.Unknown)/100)
	}
	if e.EarlyStop > 0 {
		text += fmt.Sprintf("; stops after %d to %d rounds without a better accuracy", e.EarlyStop, 3*e.EarlyStop)
	}
	return text
}

// personalText is whether devices have models of their own.
func personalText(spec *pb.TaskSpec) string {
	if !spec.Personal {
		return "none"
	}
	return "each device's own output layer, where it is better on the chats held back"
}

// bestText is a task's best checkpoint so far.
func bestText(b *pb.BestCheckpoint) string {
	if b == nil {
		return "none before 200 held-back chats were counted within 40 rounds, over three at least"
	}
	return fmt.Sprintf("%x, accuracy %s over the rounds up to it; %d evaluated since", b.Sha256, percent(b.Accuracy), b.Since)
}

// printEvaluation shows the newest evaluation, and the intents that it found worst.
func printEvaluation(w io.Writer, t *pb.Task, rounds []*pb.RoundRecord) {
	for _, r := range rounds {
		e := r.Evaluation
		if e == nil || e.Chats == 0 {
			continue
		}
		fmt.Fprintf(w, "\nheld-back chats, counted in round %d of the checkpoint it began with (%.12x):\n", r.Round, e.CheckpointSha256)
		table(w, [][2]string{
			{"chats", fmt.Sprintf("%d of %d devices", e.Chats, e.Devices)},
			{"accuracy", fmt.Sprintf("%s (95%%: %s to %s)", percent(e.Accuracy), percent(e.AccuracyLow), percent(e.AccuracyHigh))},
			{"macro F1", percent(e.MacroF1)},
			{"calibration error", percent(e.CalibrationError)},
			{"lowest recall", lowestRecall(t.Spec.Intents, e)},
		})
		return
	}
}

// lowestRecall names the intents of which the fewest chats were named rightly. Without
// as many names as counts, since the intents have changed, it names none.
func lowestRecall(intents []string, e *pb.RoundEvaluation) string {
	type recall struct {
		intent string
		share  float64
		chats  uint64
	}
	var all []recall
	for i, n := range e.IntentChats {
		if n > 0 && len(intents) == len(e.IntentChats) && i < len(e.IntentCorrect) {
			all = append(all, recall{intents[i], float64(e.IntentCorrect[i]) / float64(n), n})
		}
	}
	slices.SortStableFunc(all, func(a, b recall) int { return cmp.Compare(a.share, b.share) })
	var parts []string
	for _, r := range all[:min(len(all), 3)] {
		parts = append(parts, fmt.Sprintf("%s %s of %d", r.intent, percent(r.share), r.chats))
	}
	return strings.Join(parts, ", ")
}

// accuracyOf is a round's accuracy on held-back chats.
func accuracyOf(e *pb.RoundEvaluation) string {
	if e.GetChats() == 0 {
		return "-"
	}
	return percent(e.Accuracy)
}
