package simulate

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/discreet-fl/discreet/dataset"
	"github.com/discreet-fl/discreet/model"
)

// TestEvaluationIsOfTheCheckpointThatTheRoundBeganWith has every device of a round hold
// chats back, and holds what their sum says, under masks and in clear, to the same count
// over the half of their chats for which its coin falls so: of the checkpoint before the
// round, and of no chat that was trained on.
func TestEvaluationIsOfTheCheckpointThatTheRoundBeganWith(t *testing.T) {
	const share = 0.3
	digests := make(map[bool]string)
	for _, secure := range []bool{true, false} {
		c := shop(t, 8, 8, 1, 0, secure)
		c.HeldBack = share
		before, err := newRun(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		defer before.trainers.close()
		labels := make(map[string]int)
		for i, intent := range c.Intents {
			labels[intent] = i
		}
		var held []model.Example
		for device, phrases := range c.Train {
			coins := rand.NewChaCha8(derive(c.Seed, "evaluation", 1, uint64(device)))
			for _, p := range phrases {
				e := model.Example{Features: model.LatestTokeniser.Featurise(p.Text), Label: labels[p.Intent]}
				if model.HeldBack(e.Features, share*model.HeldBackOf) && coins.Uint64()>>63 == 0 {
					held = append(held, e)
				}
			}
		}
		want := Evaluate(before.checkpoint, held)
		digest, rounds := digestOf(t, c, nil)
		e := rounds[0].Evaluation
		if e == nil || e.Chats != uint64(len(held)) || math.Abs(e.Accuracy-want.Accuracy) > 1e-12 || math.Abs(e.MacroF1-want.MacroF1) > 1e-12 {
			t.Errorf("seed %d, secure %v: %+v, want %d chats and %+v", seed, secure, e, len(held), want)
		}
		digests[secure] = digest
	}
	if digests[true] != digests[false] {
		t.Errorf("seed %d: digest %s under masks, %s in clear", seed, digests[true], digests[false])
	}
	none := shop(t, 8, 8, 1, 0, false)
	if digest, _ := digestOf(t, none, nil); digest == digests[false] {
		t.Errorf("seed %d: holding chats back changed nothing that was learned", seed)
	}
}

// TestThresholdTurnsAwayAsManyAsItMay lets devices calibrate their checkpoint, and holds
// what it does to texts of no intent, and of some, to a count over them.
func TestThresholdTurnsAwayAsManyAsItMay(t *testing.T) {
	if slow {
		t.Skip("left out with the race detector: much arithmetic, on one round after another")
	}
	c := shop(t, 12, 12, 8, 0, false)
	c.HeldBack, c.Unknown, c.NoBaselines = 0.5, 0.1, true
	c.Outside = []string{"who won the match last night", "sing me a lullaby", "is the moon made of cheese", "translate tree into french", "my cat is hungry"}
	result, err := Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	last, err := model.DecodeCheckpoint(result.Checkpoint)
	if err != nil {
		t.Fatal(err)
	}
	calibration, o := last.Manifest.Calibration, result.OutOfScope
	if calibration == nil || calibration.Threshold == nil {
		t.Fatalf("seed %d: the last checkpoint has the calibration %+v", seed, calibration)
	}
	classifier := model.NewClassifier(last)
	unknown := 0
	for _, text := range c.Outside {
		if !classifier.Knows(classifier.Top(model.LatestTokeniser.Featurise(text), 1)[0].Score) {
			unknown++
		}
	}
	if o == nil || o.Texts != 5 || o.Recall != float64(unknown)/5 || unknown < 2 || o.AUROC < 0.8 {
		t.Errorf("seed %d: %+v, want %d of 5 unknown", seed, o, unknown)
	}
	if o.RecallAtTwentieth > o.Recall+1e-9 && o.TurnedAway > 0.05 || o.RecallAtTwentieth < o.Recall-1e-9 && o.TurnedAway < 0.05 {
		t.Errorf("seed %d: %+v", seed, o)
	}
	if o.TurnedAway < 0.02 || o.TurnedAway > 0.25 || o.Accuracy > result.Accuracy || o.Accuracy < result.Accuracy-o.TurnedAway {
		t.Errorf("seed %d: accuracy %v, but %+v; want about a tenth turned away", seed, result.Accuracy, o)
	}
	plain := *last
	plain.Manifest.Calibration = nil
	if before := calibrationError(&plain, c.Test, c.Intents); result.CalibrationError >= before {
		t.Errorf("seed %d: a calibration error of %v, and %v before calibrating", seed, result.CalibrationError, before)
	}
}

// calibrationError is the error in ten bins of confidence.
func calibrationError(c *model.Checkpoint, test []dataset.Phrase, intents []string) (sum float64) {
	var off [bins]float64
	classifier := model.NewClassifier(c)
	for _, p := range test {
		top := classifier.Top(model.LatestTokeniser.Featurise(p.Text), 1)[0]
		at := min(int(top.Confidence*bins), bins-1)
		off[at] += float64(top.Confidence)
		if intents[top.Index] == p.Intent {
			off[at]--
		}
	}
	for _, x := range off {
		sum += math.Abs(x) / float64(len(test))
	}
	return sum
}

func TestAUROCByHand(t *testing.T) {
	if got, want := auroc([]float64{3, 1, 2}, []float64{0, 2, 4}), (3+1.5+0)/9; got != want {
		t.Errorf("got %v, want %v", got, want)
	}
}
