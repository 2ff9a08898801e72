package main

import (
	"math"
	"strings"
	"testing"

	"github.com/discreet-fl/discreet/client"
)

func TestPrintExplanation(t *testing.T) {
	e := client.Explanation{
		Answer: client.Guess{Intent: "parcel", Confidence: 0.8}, Next: client.Guess{Intent: "refund", Confidence: 0.1},
		LogOdds: math.Log(8), Bias: -0.5,
		Words: []client.WordShare{{Text: "my", Share: math.Log(8) - 1.5}, {Text: "parcel", Share: 2}},
		Parts: []client.PartShare{
			{Kind: "word", Text: "parcel", Times: 1, Share: 1.2}, {Kind: "letters", Text: "<pa", Times: 2, Share: -0.8},
			{Kind: "pair", Text: "my parcel", Times: 1, Share: 0.3}, {Kind: "first", Text: "my", Times: 1, Share: 0.1},
			{Kind: "stems", Text: "my parc", Times: 1, Share: 0.05}, {Kind: "first stem", Text: "my", Times: 1, Share: 0.04},
		},
	}
	var b strings.Builder
	printExplanation(&b, e)
	want := `parcel 80.0%, rather than refund 10.0%

my          +0.58 █████
parcel      +2.00 ████████████████████
(any text)  -0.50 █████
sum         +2.08  8 to 1 for parcel, by the model's own odds

what counted most:
  +1.20  the word "parcel"
  -0.80  the letters "<pa", 2 times
  +0.30  the words "my parcel" together
  +0.10  beginning with "my"
  +0.05  the stems "my parc" together
  +0.04  beginning with the stem "my"
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
	b.Reset()
	e.Unknown, e.Words, e.Parts = true, nil, nil
	printExplanation(&b, e)
	want = `unknown; the nearest is parcel 80.0%, rather than refund 10.0%

There are no words in the text: so the model answers whatever has none.
`
	if b.String() != want {
		t.Errorf("of no words, got\n%s\nwant\n%s", b.String(), want)
	}
	for odds, want := range map[float64]string{1.5: "1.5", 1248: "1248", 2e6: "over a million"} {
		if got := times(math.Log(odds)); got != want {
			t.Errorf("%v are %s to 1, want %s", odds, got, want)
		}
	}
}
