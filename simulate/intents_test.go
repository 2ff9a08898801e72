package simulate

import (
	"cmp"
	"os"
	"path/filepath"
	"testing"

	"github.com/discreet-fl/discreet/dataset"
	"github.com/discreet-fl/discreet/model"
	pb "github.com/discreet-fl/discreet/proto"
)

// TestNewIntentsCostTheOldOnesNothing adds ten of CLINC150's intents to a task that has
// run 20 rounds without them, on a part of the training phrases held back.
func TestNewIntentsCostTheOldOnesNothing(t *testing.T) {
	if slow || testing.Short() {
		t.Skip("left out with -short and with the race detector: twice twenty rounds of a hundred devices take half a minute")
	}
	data := filepath.Join(cmp.Or(os.Getenv("DISCREET_DATA"), "../../shared/data"), "clinc150", "data_full.json")
	if _, err := os.Stat(data); err != nil {
		t.Skipf("left out: no CLINC150 (%v); DISCREET_DATA names the folder that holds it", err)
	}
	full, err := dataset.Open(data, "", seed)
	if err != nil {
		t.Fatal(err)
	}
	set, err := full.Validation(seed)
	if err != nil {
		t.Fatal(err)
	}
	const fresh, rounds = 10, 20
	old := len(set.Intents) - fresh
	dealt, err := set.Split(dataset.Split{Alpha: 0.5}, 100, seed)
	if err != nil {
		t.Fatal(err)
	}
	known := func(phrases []dataset.Phrase) (kept []dataset.Phrase) {
		for _, p := range phrases {
			if label, _ := set.Index(p.Intent); label < old {
				kept = append(kept, p)
			}
		}
		return kept
	}
	c := Config{
		Test: known(set.Test), Intents: set.Intents[:old], PerRound: 20, Cohort: 20, MinSurvivors: 3,
		Keys: pb.KeyExchange_KEY_EXCHANGE_HYBRID, Rounds: rounds, Model: "small", Seed: seed,
	}
	for _, phrases := range dealt {
		c.Train = append(c.Train, known(phrases))
	}
	before, err := newRun(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer before.trainers.close()
	if err := before.rounds(t.Context(), new(Result)); err != nil {
		t.Fatal(err)
	}
	was := Evaluate(before.checkpoint, before.test).Accuracy

	var changes []model.IntentChange
	for _, intent := range set.Intents[old:] {
		changes = append(changes, model.IntentChange{Kind: model.AddIntent, Name: intent})
	}
	list, err := before.checkpoint.Manifest.Intents().Change(changes...)
	if err != nil {
		t.Fatal(err)
	}
	c.Train, c.Test, c.Intents = dealt, set.Test, set.Intents
	after, err := newRun(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer after.trainers.close()
	if after.checkpoint, err = before.checkpoint.WithIntents(list); err != nil {
		t.Fatal(err)
	}
	after.encoded, after.state = after.checkpoint.Encode(), nil
	for rest := before.state; len(rest) > 0; rest = rest[before.layout.Parameters():] {
		part, err := list.CarryState(before.layout, rest[:before.layout.Parameters()])
		if err != nil {
			t.Fatal(err)
		}
		after.state = append(after.state, part...)
	}
	measure := func() (olds, news float64) {
		var a, b []model.Example
		for _, e := range after.test {
			if e.Label < old {
				a = append(a, e)
			} else {
				b = append(b, e)
			}
		}
		return Evaluate(after.checkpoint, a).Accuracy, Evaluate(after.checkpoint, b).Accuracy
	}
	olds, news := measure()
	t.Logf("140 intents after %d rounds %.4f; with 10 more: %.4f, the new ones %.4f", rounds, was, olds, news)
	if olds < was-0.01 {
		t.Errorf("the change itself costs the old intents %.4f", was-olds)
	}
	after.Progress = func(r Round) {
		if r.Round%5 == 0 {
			olds, news = measure()
			t.Logf("%d rounds on: %.4f, the new ones %.4f", r.Round, olds, news)
		}
	}
	if err := after.rounds(t.Context(), new(Result)); err != nil {
		t.Fatal(err)
	}
	if olds < was-0.01 || news < 0.8 {
		t.Errorf("the old intents went from %.4f to %.4f, the new ones to %.4f", was, olds, news)
	}
}
