package client

import (
	"errors"
	"fmt"

	"github.com/discreet-fl/discreet/model"
)

// ErrSignal is returned by Learn for a signal that does not exist.
var ErrSignal = errors.New("unknown signal")

// Signal says how a chat's intent is known.
type Signal string

// The signals. The zero value is read as Confirmed.
const (
	// Confirmed: the person said that the bot's answer was right.
	Confirmed Signal = "confirmed"
	// Corrected: the person, or somebody for them, chose the intent.
	Corrected Signal = "corrected"
	// Rejected: the person said that the bot's answer was wrong, and no more. Intent is the one the text does not have.
	Rejected Signal = "rejected"
	// Rephrased: the bot did not understand, the person said it in other words, and Intent was confirmed for those.
	// The text is the earlier one: that both meant the same is likely, not certain.
	Rephrased Signal = "rephrased"
	// HandedOver: the chat went to a person. Intent is what they chose or, where they said that it is none of the
	// task's, empty: such a chat is kept to know what the bot does not know, and never trained on.
	HandedOver Signal = "handed_over"
)

// signalWeights are what a chat counts in training, by signal. docs/decisions.md has the figures.
var signalWeights = map[Signal]float32{
	Confirmed: 1, Corrected: 1, HandedOver: 1, Rephrased: 0.25, Rejected: 0.5,
}

// Example is a chat as training sees it, for a signal that is known; label is the place of its intent.
func (s Signal) Example(features model.Features, label int) model.Example {
	return model.Example{Features: features, Label: label, Not: s == Rejected, Weight: signalWeights[s.filled()]}
}

// filled is the signal with its default.
func (s Signal) filled() Signal {
	if s == "" {
		return Confirmed
	}
	return s
}

func (s Signal) check() error {
	if _, known := signalWeights[s.filled()]; known {
		return nil
	}
	return fmt.Errorf("%w %.40q, want confirmed, corrected, rejected, rephrased or handed_over", ErrSignal, string(s))
}
