package main

import (
	"context"
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
