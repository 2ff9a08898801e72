package model

import (
	"math"
	"testing"
)

// TestLossByHand sets the scores by the bias alone, of texts without features.
func TestLossByHand(t *testing.T) {
	l, err := NewLayout("small", 2)
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewCheckpoint("shop", "small", 0, []string{"a", "b"}, make([]float32, l.Parameters()))
	if err != nil {
		t.Fatal(err)
	}
	_, _, bias := l.Split(c.Params)
	bias[0] = float32(math.Log(3)) // probabilities of 3/4 and 1/4
	got := NewClassifier(c).Loss([]Example{{Label: 0}, {Label: 1}, {Label: 1, Not: true}})
	if want := -(math.Log(0.75) + math.Log(0.25)) / 2; math.Abs(float64(got)-want) > 1e-6 {
		t.Errorf("a loss of %v, want %v", got, want)
	}
	if got := NewClassifier(c).Loss(nil); got != 0 {
		t.Errorf("without examples %v", got)
	}
}
