package simulate

import (
	"math"
	"testing"

	"github.com/discreet-fl/discreet/model"
)

// TestEvaluationIsOfTheCheckpointThatTheRoundBeganWith has every device of a round hold
// chats back, and holds what their sum says, under masks and in clear, to the same count
// over all their chats: of the checkpoint before the round, and of no chat that was
// trained on.
func TestEvaluationIsOfTheCheckpointThatTheRoundBeganWith(t *testing.T) {
	const share = 0.3
	digests := make(map[bool]string)
	for _, secure := range []bool{true, false} {
		c := shop(t, 8, 8, 1, 0, secure)
		c.HeldBack = share
		before, err := newRun(c)
		if err != nil {
			t.Fatal(err)
		}
		defer before.trainers.close()
		labels := make(map[string]int)
		for i, intent := range c.Intents {
			labels[intent] = i
		}
		var held []model.Example
		for _, phrases := range c.Train {
			for _, p := range phrases {
				e := model.Example{Features: model.Featurise(p.Text), Label: labels[p.Intent]}
				if model.HeldBack(e.Features, share*model.HeldBackOf) {
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
