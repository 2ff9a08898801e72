package dataset

import (
	"reflect"
	"testing"
)

func TestTake(t *testing.T) {
	set := Shop()
	taken, rest, err := set.Take(3, 5)
	if err != nil {
		t.Fatal(err)
	}
	count := make(map[string]int)
	for _, p := range taken {
		count[p.Intent]++
	}
	for _, intent := range set.Intents {
		if count[intent] != 3 {
			t.Errorf("%d phrases of %s, want 3", count[intent], intent)
		}
	}
	if len(taken)+len(rest.Train) != len(set.Train) || !reflect.DeepEqual(rest.Test, set.Test) {
		t.Errorf("%d taken and %d left of %d", len(taken), len(rest.Train), len(set.Train))
	}
	if again, _, _ := set.Take(3, 5); !reflect.DeepEqual(again, taken) {
		t.Error("the same seed draws others")
	}
	if _, rest, _ = set.Take(1_000_000, 5); len(rest.Train) != len(set.Intents) {
		t.Errorf("%d phrases left, want one of each of %d intents", len(rest.Train), len(set.Intents))
	}
	if _, _, err := set.Take(0, 5); err == nil {
		t.Error("none were taken")
	}
}
