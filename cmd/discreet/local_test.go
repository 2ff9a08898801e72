package main

import (
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
