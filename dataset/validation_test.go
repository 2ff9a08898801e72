package dataset

import (
	"slices"
	"testing"
)

// cuts are the ways to cut a part for validation.
var cuts = map[string]func(*Set, uint64) (*Set, error){"drawn": (*Set).Validation, "unlike": (*Set).ValidationUnlike}

func TestValidationIsCutFromTraining(t *testing.T) {
	s := Shop()
	train := make(map[Phrase]bool)
	for _, p := range s.Train {
		train[p] = true
	}
	for name, cut := range cuts {
		v, err := cut(s, 1)
		if err != nil {
			t.Fatal(err)
		}
		if got := len(v.Train) + len(v.Test); got != len(s.Train) || len(v.Test) < len(s.Train)/6 || len(v.Test) > len(s.Train)/4 {
			t.Errorf("%s: %d phrases to train on and %d to validate, cut from %d", name, len(v.Train), len(v.Test), len(s.Train))
		}
		for _, p := range v.Test {
			if !train[p] {
				t.Errorf("%s: %q does not come from the training part", name, p.Text)
			}
		}
		other, err := cut(s, 2)
		if err != nil || slices.Equal(v.Test, other.Test) {
			t.Errorf("%s: another seed cuts the same, %v", name, err)
		}
		if _, err := cut(&Set{Intents: []string{"a"}, Train: []Phrase{{Text: "one", Intent: "a"}}}, 1); err == nil {
			t.Errorf("%s: one phrase is cut in two", name)
		}
	}
}

// TestUnlikePhrasesAreNotNearTrainedOnes compares every phrase of one part with every one of
// its intent in the other.
func TestUnlikePhrasesAreNotNearTrainedOnes(t *testing.T) {
	across := func(v *Set) (pairs int) {
		for _, held := range v.Test {
			for _, p := range v.Train {
				if p.Intent == held.Intent && len(nearText([]Phrase{held, p})) == 1 {
					pairs++
				}
			}
		}
		return pairs
	}
	for seed := range uint64(3) {
		drawn, err := Shop().Validation(seed)
		if err != nil {
			t.Fatal(err)
		}
		unlike, err := Shop().ValidationUnlike(seed)
		if err != nil {
			t.Fatal(err)
		}
		if got, before := across(unlike), across(drawn); got != 0 || before == 0 {
			t.Errorf("seed %d: %d pairs near each other on two sides, %d where phrases are drawn", seed, got, before)
		}
	}
}

func TestNearText(t *testing.T) {
	phrases := []Phrase{
		{"where is my parcel", "where", ""},                // 0
		{"Cancel it.", "cancel", ""},                       // 1
		{"so where is my parcel now", "where", ""},         // 2: 4 of 6 words with 0
		{"is it there", "where", ""},                       // 3
		{"cancel it", "cancel", ""},                        // 4: reads as 1
		{"so where is the parcel now", "where", ""},        // 5: 5 of 7 words with 2, 3 of 7 with 0
		{"where is my parcel", "lost", ""},                 // 6: near, but of another intent
		{"my parcel is", "where", ""},                      // 7: 3 of 4 words with 0
		{"", "where", ""},                                  // 8: without a word, near nothing
		{"a b c d", "where", ""}, {"a b c e", "where", ""}, // 3 of 5 words, which is not above 0.6
	}
	if got, want := nearText(phrases), [][]int{{0, 2, 5, 7}, {1, 4}, {3}, {6}, {8}, {9}, {10}}; !slices.EqualFunc(got, want, slices.Equal) {
		t.Errorf("got the groups %v, want %v", got, want)
	}
}
