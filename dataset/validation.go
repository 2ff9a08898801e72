package dataset

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sort"
	"strings"
	"unicode"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// near is the share of the words of two phrases, each word counted once, above which
// they are near each other where both have it.
const near = 0.6

// Validation is the training part alone, a seeded fifth of which is held back as its
// test part by the rules of Open: what settings are chosen on, so that none is fitted to
// the test part. The texts of no intent are those that come with the training part. A set
// too small to hold anything back is an error.
func (s *Set) Validation(seed uint64) (*Set, error) { return s.validation(seed, sameText) }

// ValidationUnlike is as Validation, and phrases of one intent that have more than 0.6 of
// their words in common stay on the same side, with those that they are joined to by
// others: what is measured on is less like what is trained on, as other people's phrases
// are.
func (s *Set) ValidationUnlike(seed uint64) (*Set, error) { return s.validation(seed, nearText) }

func (s *Set) validation(seed uint64, group func([]Phrase) [][]int) (*Set, error) {
	v := &Set{Intents: s.Intents, Outside: s.outside}
	v.Train, v.Test = holdBack(s.Train, seed, group)
	if len(v.Test) == 0 {
		return nil, fmt.Errorf("got %d training phrases of %d intents, too few to hold a fifth back for validation; want a few phrases of each intent", len(s.Train), len(s.Intents))
	}
	return v, nil
}

// holdBack takes a fifth of the phrases out as test. What group puts together, the
// indices of phrases of one intent in the order of their first, stays on the same side.
// Both parts keep the order of the file.
func holdBack(phrases []Phrase, seed uint64, group func([]Phrase) [][]int) (train, test []Phrase) {
	groups := group(phrases)
	intent := func(i int) string { return phrases[groups[i][0]].Intent }
	rng := rand.New(rand.NewPCG(seed, streamHoldBack))
	rng.Shuffle(len(groups), func(i, j int) { groups[i], groups[j] = groups[j], groups[i] })
	sort.SliceStable(groups, func(i, j int) bool { return intent(i) < intent(j) })

	held := make([]bool, len(phrases))
	owed := 0 // fifths, carried on so that small intents give their share too
	for from, i := 0, 0; i < len(groups); from = i {
		for i < len(groups) && intent(i) == intent(from) {
			i++
		}
		owed += i - from
		for n := min(owed/5, i-from-1); n > 0; n-- {
			for _, j := range groups[from+n-1] {
				held[j] = true
			}
			owed -= 5
		}
	}
	for i, p := range phrases {
		if held[i] {
			test = append(test, p)
		} else {
			train = append(train, p)
		}
	}
	return train, test
}

// sameText groups phrases of an intent that read the same.
func sameText(phrases []Phrase) [][]int {
	var groups [][]int
	at := make(map[Phrase]int)
	for i, p := range phrases {
		key := Phrase{Text: normalise(p.Text), Intent: p.Intent}
		g, ok := at[key]
		if !ok {
			g = len(groups)
			at[key], groups = g, append(groups, nil)
		}
		groups[g] = append(groups[g], i)
	}
	return groups
}

// nearText groups phrases of an intent that are near each other or joined by others that
// are.
func nearText(phrases []Phrase) [][]int {
	groups := sameText(phrases)
	words := make([]map[string]bool, len(groups))
	into := make([]int, len(groups)) // the group that one has come into, itself at first
	find := func(g int) int {
		for into[g] != g {
			g = into[g]
		}
		return g
	}
	byIntent := make(map[string][]int)
	for g, group := range groups {
		first := phrases[group[0]]
		into[g], words[g] = g, make(map[string]bool)
		for _, word := range strings.Fields(normalise(first.Text)) {
			words[g][word] = true
		}
		for _, other := range byIntent[first.Intent] {
			if areNear(words[g], words[other]) {
				a, b := find(g), find(other)
				into[max(a, b)] = min(a, b)
			}
		}
		byIntent[first.Intent] = append(byIntent[first.Intent], g)
	}
	for g := range groups {
		if to := find(g); to != g {
			groups[to], groups[g] = append(groups[to], groups[g]...), nil
		}
	}
	return slices.DeleteFunc(groups, func(group []int) bool { return group == nil })
}

// areNear compares two sets of words.
func areNear(a, b map[string]bool) bool {
	both := 0
	for word := range a {
		if b[word] {
			both++
		}
	}
	return float64(both) > near*float64(len(a)+len(b)-both)
}

// normalise reduces a text to what is left of it without case, punctuation and
// spacing, to tell whether two people typed the same.
func normalise(text string) string {
	text = cases.Fold().String(norm.NFKC.String(text))
	return strings.Join(strings.FieldsFunc(text, notWord), " ")
}

func notWord(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsNumber(r) && !unicode.IsMark(r) }
