package client

import (
	"fmt"
	"slices"
	"testing"

	"github.com/discreet-fl/discreet/model"
)

// TestChatsWithOldNamesStillTrain: a device that has learned under an old name of an
// intent, and was away when it changed.
func TestChatsWithOldNamesStillTrain(t *testing.T) {
	c, err := Open(t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Learn(Chat{Text: "where is my parcel", Intent: "track"}, Chat{Text: "send me a parcel", Intent: "order"},
		Chat{Text: "play a song", Intent: "music"}, Chat{Text: "hello", Intent: "greet"}); err != nil {
		t.Fatal(err)
	}
	l, err := model.NewLayout("small", 4)
	if err != nil {
		t.Fatal(err)
	}
	first, err := model.NewCheckpoint("task", "small", 0, []string{"greet", "track", "order", "music"}, l.Init(1))
	if err != nil {
		t.Fatal(err)
	}
	changed, err := first.Manifest.Intents().Change(model.IntentChange{Kind: model.RenameIntent, Name: "track", Into: "status"},
		model.IntentChange{Kind: model.MergeIntent, Name: "greet", Into: "order"}, model.IntentChange{Kind: model.RetireIntent, Name: "music"})
	if err != nil {
		t.Fatal(err)
	}
	next, err := first.WithIntents(changed)
	if err != nil {
		t.Fatal(err)
	}
	examples, err := c.examples(&next.Manifest)
	if err != nil {
		t.Fatal(err)
	}
	count := make(map[string]int)
	for _, e := range examples {
		count[next.Manifest.Labels[e.Label]]++
	}
	if len(examples) != 3 || count["status"] != 1 || count["order"] != 2 {
		t.Errorf("examples by intent %v, want one of status, two of order and none of music", count)
	}
	m, err := newModel([32]byte{1}, next.Encode())
	if err != nil {
		t.Fatal(err)
	}
	c.model.Store(m)
	if err := c.Learn(Chat{Text: "where is it", Intent: "track"}); err != nil {
		t.Errorf("an old name: %v", err)
	}
	if err := c.Learn(Chat{Text: "a song", Intent: "music"}); err == nil {
		t.Error("a retired intent was learned")
	}
}

// TestChatsAreReadByTheCheckpointsTokeniser: a task that began with an earlier version of
// the features goes on with it.
func TestChatsAreReadByTheCheckpointsTokeniser(t *testing.T) {
	c, err := Open(t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const text = "transferring moneys"
	if err := c.Learn(Chat{Text: text, Intent: rigLabels[0]}); err != nil {
		t.Fatal(err)
	}
	seen := make(map[float32]bool)
	for version := model.Tokeniser1; version <= model.LatestTokeniser; version++ {
		checkpoint := *apart()
		checkpoint.Params = slices.Clone(checkpoint.Params)
		output := checkpoint.Manifest.Layout.Output(checkpoint.Params)
		for i := range output {
			output[i] = float32(i%7) / 10 // so that features make a difference to answers
		}
		checkpoint.Manifest.TokeniserVersion, checkpoint.Manifest.TokeniserDigest = version, version.Digest()
		use(t, c, &checkpoint)
		want := version.Featurise(text)
		examples, err := c.examples(&c.model.Load().checkpoint.Manifest)
		if err != nil || len(examples) != 1 || fmt.Sprint(examples[0].Features) != fmt.Sprint(want) {
			t.Errorf("version %d: %v, %v; want the features %v", version, examples, err, want)
		}
		answer, err := c.Classify(text, 1)
		if err != nil {
			t.Fatal(err)
		}
		if top := model.NewClassifier(&checkpoint).Top(want, 1)[0]; answer.Intents[0].Confidence != top.Confidence {
			t.Errorf("version %d: classified with a confidence of %v, want %v", version, answer.Intents[0].Confidence, top.Confidence)
		}
		explained, err := c.Explain(text)
		if err != nil {
			t.Fatal(err)
		}
		features, stems := 0, 0
		for _, p := range explained.Parts {
			features += p.Times
			if p.Kind == string(model.KindStems) {
				stems++
			}
		}
		if features != len(want) || (stems > 0) != (version > model.Tokeniser1) {
			t.Errorf("version %d: explained by %d features, %d of them stems; want %d", version, features, stems, len(want))
		}
		seen[answer.Intents[0].Confidence] = true
	}
	if len(seen) != int(model.LatestTokeniser) {
		t.Errorf("%d versions give %d answers, so that one by another's features is not seen", model.LatestTokeniser, len(seen))
	}
}
