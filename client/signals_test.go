package client

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/discreet-fl/discreet/model"
)

func TestSignalsBecomeExamples(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDaemon(t, 3)
		c := d.device(t, Options{})
		learn(t, c, []Chat{
			{Text: "one", Intent: "hello"},
			{Text: "two", Intent: "hello", Signal: Confirmed},
			{Text: "three", Intent: "hello", Signal: Corrected},
			{Text: "four", Intent: "hello", Signal: Rejected},
			{Text: "five", Intent: "hello", Signal: Rephrased},
			{Text: "six", Intent: "hello", Signal: HandedOver},
			{Text: "seven", Signal: HandedOver},
		})
		examples, err := c.examples(&d.rig.model.Manifest)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, e := range examples {
			got += fmt.Sprintf("%t %v, ", e.Not, e.Weight)
		}
		if want := "false 1, false 1, false 1, true 0.5, false 0.25, false 1, "; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if s, err := c.Status(); err != nil || s.Chats != 7 {
			t.Errorf("%+v, %v: want 7 chats", s, err)
		}
		if err := c.Learn(Chat{Text: "x", Intent: "hello", Signal: "guessed"}); !errors.Is(err, ErrSignal) {
			t.Errorf("an unknown signal: %v", err)
		}
		if err := c.Learn(Chat{Text: "x", Signal: Corrected}); !errors.Is(err, ErrUnknownIntent) {
			t.Errorf("a corrected chat without an intent: %v", err)
		}
	})
}

// A device that only knows what its chats are not has weight zero, and sends zeros.
func TestRejectedChatsGiveNoWeight(t *testing.T) {
	r := newRig(t, 3, nil)
	plan, c := r.plan, r.model
	p := r.participant(0, 0)
	update := func(signals ...Signal) []uint32 {
		p.Examples = func(*model.Manifest) (ex []model.Example, err error) {
			for _, s := range signals {
				ex = append(ex, s.Example(model.LatestTokeniser.Featurise("hello there"), 0))
			}
			return ex, nil
		}
		words, err := p.Update(plan, c)
		if err != nil {
			t.Fatal(err)
		}
		return words
	}
	for i, w := range update(Rejected, Rejected) {
		if w != 0 {
			t.Fatalf("word %d is %d, want 0", i, w)
		}
	}
	if words := update(Rejected, Confirmed, Rephrased); words[len(words)-1] != 2 {
		t.Errorf("the weight is %d, want 2", words[len(words)-1])
	}
}
