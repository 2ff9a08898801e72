package dataset

import (
	"fmt"
	"math/rand/v2"
)

// Take takes n training phrases of each intent out of a set, drawn by seed, and returns
// them and the set without them: what an operator has of his own, and what is left for
// devices. Of an intent with fewer it leaves one. Both parts keep the order of the file.
func (s *Set) Take(n int, seed uint64) (taken []Phrase, rest *Set, err error) {
	if n < 1 {
		return nil, nil, fmt.Errorf("got %d phrases of each intent to take, want at least 1", n)
	}
	left := make(map[string]int, len(s.Intents))
	for _, p := range s.Train {
		left[p.Intent]++
	}
	owed := make(map[string]int, len(s.Intents))
	for intent, count := range left {
		owed[intent] = min(n, count-1)
	}
	chosen := make([]bool, len(s.Train))
	for _, i := range rand.New(rand.NewPCG(seed, streamTake)).Perm(len(s.Train)) {
		if intent := s.Train[i].Intent; owed[intent] > 0 {
			owed[intent]--
			chosen[i] = true
		}
	}
	rest = &Set{Intents: s.Intents, Test: s.Test, Outside: s.Outside, outside: s.outside}
	for i, p := range s.Train {
		if chosen[i] {
			taken = append(taken, p)
		} else {
			rest.Train = append(rest.Train, p)
		}
	}
	return taken, rest, nil
}
