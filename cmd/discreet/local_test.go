package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/discreet-fl/discreet/client"
)

// TestUnknownIsSaidFirst: a person reads that the text is likely to have no intent before
// the guesses.
func TestUnknownIsSaidFirst(t *testing.T) {
	a := client.Answer{Intents: []client.Guess{{Intent: "refund", Confidence: 0.41}, {Intent: "order_status", Confidence: 0.2}}}
	for _, c := range []struct {
		unknown bool
		want    string
	}{
		{false, "refund        41.0%\norder_status  20.0%\n"},
		{true, "unknown; the nearest are\nrefund        41.0%\norder_status  20.0%\n"},
	} {
		a.Unknown = c.unknown
		var out strings.Builder
		printAnswer(&out, a)
		if out.String() != c.want {
			t.Errorf("got\n%swant\n%s", out.String(), c.want)
		}
	}
}

// TestParticipationSaysWhatItMeans: a person who says no learns what leaves the device from
// then on, what stays, what is past, and how to say yes again; and the device knows of it.
func TestParticipationSaysWhatItMeans(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		word string
		want []string
	}{
		{"off", []string{"participation is off", "nothing leaves this device", `"discreet agent forget --all" removes them`, "still answers", "sent before cannot be called back", `"discreet agent participation on"`}},
		{"on", []string{"participation is on", `while "discreet agent" runs`, "trains on its chats", "chats stay on it", "only the sum", `"discreet agent participation off"`}},
		{"on", []string{"participation is on"}}, // again
	} {
		said, err := printedBy(t, "agent", "participation", c.word, "--dir", dir)
		if err != nil {
			t.Fatalf("%s: %v", c.word, err)
		}
		for _, want := range c.want {
			if !strings.Contains(strings.ReplaceAll(said, "\n", " "), want) {
				t.Errorf("%s: it says\n%swant %q in it", c.word, said, want)
			}
		}
		if status, err := printedBy(t, "agent", "status", "--dir", dir); err != nil || !strings.Contains(status, fmt.Sprintf(`"participation": %t`, c.word == "on")) {
			t.Errorf("%s: the device's status is\n%s, %v", c.word, status, err)
		}
	}
	if said, err := printedBy(t, "agent", "participation", "of", "--dir", dir); said != "" || err == nil || err.Error() != `"of", want on or off` {
		t.Errorf("another word: it says %q, %v", said, err)
	}
}

// forgetful is a device that refuses an intent.
type forgetful struct{ device }

func (forgetful) Learn(_ context.Context, chat client.Chat) error {
	if chat.Intent == "x" {
		return client.ErrUnknownIntent
	}
	return nil
}

func TestRefusedChatIsNamedOnce(t *testing.T) {
	good, bad := client.Chat{Text: "hi", Intent: "greet"}, client.Chat{Text: "hi", Intent: "x"}
	for _, tc := range []struct {
		chats []client.Chat
		want  string
	}{
		{[]client.Chat{bad}, "unknown intent"},
		{[]client.Chat{good, bad}, "chat 2 of 2 (those before it are kept): unknown intent"},
	} {
		if err := learn(t.Context(), io.Discard, forgetful{}, tc.chats); err == nil || err.Error() != tc.want {
			t.Errorf("of %d chats: %v, want %q", len(tc.chats), err, tc.want)
		}
	}
}
