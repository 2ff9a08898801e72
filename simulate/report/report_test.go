package report

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/discreet-fl/discreet/coordinator/round"
	"github.com/discreet-fl/discreet/simulate"
)

const hostile = `"><script>alert(1)</script>`

func result() *simulate.Result {
	return &simulate.Result{
		Accuracy: 0.811, MacroF1: 0.782, CentralisedAccuracy: 0.933, LocalOnlyAccuracy: 0.144, Parameters: 12345, BytesUpPerDevice: 67890,
		Seconds: 12.5, Digest: "0123abcd", Secure: true, Seed: 77, Devices: 61, Chats: 915, UsesPerPhrase: 1.5, Model: "small",
		Rounds: []simulate.Round{
			{Round: 1, Accuracy: 0.4019, Participants: 21, Survivors: 19, Drops: simulate.Drops{AfterShare: 2}, Attempts: 1, Cohorts: 1, MasksExpanded: 59, BytesUp: 1000001},
			{Round: 2, Evaluation: &simulate.Evaluation{Devices: 18, Chats: 243, Accuracy: 0.8272, MacroF1: 0.7653, CalibrationError: 0.0469}, Accuracy: 0.811, Participants: 21, Survivors: 20, Drops: simulate.Drops{AfterConfirm: 1}, Attempts: 3, Cohorts: 1, MasksExpanded: 43, BytesUp: 1000002},
		},
		OutOfScope:  &simulate.OutOfScope{Texts: 999, AUROC: 0.9674, Recall: 0.833, TurnedAway: 0.061, Accuracy: 0.774, RecallAtTwentieth: 0.7891},
		Personal:    &simulate.PersonalScore{Devices: 58, Answering: 33, Shared: 0.7642, Better: 0.7753},
		BytesByStep: map[round.Step]int64{round.Advertise: 2111, round.Share: 2222, round.Submit: 2333, round.Confirm: 2444, round.Reveal: 2555},
		Detail: &simulate.Detail{
			Intents:          []simulate.IntentScore{{Intent: hostile, Phrases: 31, Recall: 0.613, F1: 0.627, Confused: "pay & go", Times: 7, HeldBack: 0.583, HeldBackChats: 24}},
			Bins:             []simulate.Bin{{}, {Guesses: 41, Confidence: 0.151, Accuracy: 0.237}, {Guesses: 47, Confidence: 0.956, Accuracy: 0.911}},
			CalibrationError: 0.0357,
			Sizes:            []simulate.SizeScore{{From: 8, To: 15, Devices: 61, Together: 0.799, Alone: 0.139, Drawn: 50}},
		},
	}
}

// TestPage holds that the page is well-formed, complete and by itself, and that a label
// stays text.
func TestPage(t *testing.T) {
	var out strings.Builder
	if err := Write(&out, result(), `discreet simulate --data "a<b>.csv"`); err != nil {
		t.Fatal(err)
	}
	page := out.String()
	decoder := xml.NewDecoder(strings.NewReader(page))
	var text strings.Builder
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("the page is not well-formed: %v", err)
		}
		switch token := token.(type) {
		case xml.CharData:
			text.Write(token)
		case xml.StartElement:
			if name := token.Name.Local; name == "script" || name == "link" || name == "img" || name == "iframe" {
				t.Errorf("the page has an element %s", name)
			}
		}
	}
	for _, never := range []string{"http:", "https:", "url(", "@import", "src=", "href="} {
		if strings.Contains(page, never) {
			t.Errorf("the page has %q and would need a network", never)
		}
	}
	for _, want := range []string{
		hostile, "pay & go (7×)", `--data "a<b>.csv"`, "81.1%", "78.2%", "93.3%", "14.4%", "12345", "67890", "12.5", "0123abcd", "77", "61", "915", "1.5", "small",
		"40.2%", "19", "20", "59", "43", "1000001", "1000002", "2111", "2222", "2333", "2444", "2555", "31", "61.3%", "62.7%", "15.1%", "23.7%", "95.6%", "91.1%", "41", "47", "3.6%", "8–15", "79.9%", "13.9%", "50",
		"243", "82.7%", "76.5%", "4.7%", "58.3% of 24", "999", "0.967", "83.3%", "6.1%", "77.4%", "76.4%", "77.5%", "78.9%",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the page does not show %q", want)
		}
	}
}

// TestPageWithoutBaselines shows nothing that was not computed.
func TestPageWithoutBaselines(t *testing.T) {
	r := result()
	r.CentralisedAccuracy, r.LocalOnlyAccuracy, r.BytesByStep = 0, 0, nil
	r.Rounds[1].Evaluation, r.OutOfScope = nil, nil
	var out strings.Builder
	if err := Write(&out, r, "x"); err != nil {
		t.Fatal(err)
	}
	for _, never := range []string{"centrally", "alone", "By message", "NaN", "held", "unknown"} {
		if strings.Contains(out.String(), never) {
			t.Errorf("the page has %q", never)
		}
	}
}
