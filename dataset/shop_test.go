package dataset

import (
	"fmt"
	"sort"
	"strings"
	"testing"
)

func ExampleShop() {
	s := Shop()
	kiosks, err := s.Split(Split{ByUser: true}, 60, 0)
	if err != nil {
		panic(err)
	}
	fmt.Println(len(s.Train), "phrases to train on,", len(s.Test), "to test,", len(s.Intents), "intents,", len(kiosks), "kiosks")
	// Output: 1530 phrases to train on, 510 to test, 30 intents, 60 kiosks
}

func TestShop(t *testing.T) {
	s := Shop()
	if n := len(s.Train) + len(s.Test); n < 1900 || len(s.Intents) < 24 {
		t.Errorf("got %d phrases of %d intents, want 1900 of 24", n, len(s.Intents))
	}
	texts := make(map[string]string)
	users := make(map[string]int)
	train, test := make(map[string]int), make(map[string]int)
	for i, p := range append(append([]Phrase(nil), s.Train...), s.Test...) {
		if _, ok := s.Index(p.Intent); !ok || p.User == "" || p.Text == "" || p.Text != strings.TrimSpace(p.Text) {
			t.Errorf("got the phrase %+q", p)
		}
		key := normalise(p.Text)
		if other, ok := texts[key]; ok || key == "" {
			t.Errorf("%q reads as %q does", p.Text, other)
		}
		texts[key] = p.Text
		users[p.User]++
		if i < len(s.Train) {
			train[p.Intent]++
		} else {
			test[p.Intent]++
		}
	}
	for _, intent := range s.Intents {
		if share := float64(test[intent]) / float64(train[intent]+test[intent]); share < 0.2 || share > 0.3 {
			t.Errorf("%s: %d of %d held back, want about a quarter", intent, test[intent], train[intent]+test[intent])
		}
	}
	var sizes []int
	for _, n := range users {
		sizes = append(sizes, n)
	}
	sort.Ints(sizes)
	if len(sizes) != 60 || sizes[0] < 8 || sizes[0] > 15 || sizes[59] < 60 || sizes[59] > 70 {
		t.Errorf("got %d customers with %v phrases, want 60 with about 8 to 70", len(sizes), sizes)
	}
}

// Customers have favourites: what a person asks about most is far above the
// even share of a thirtieth.
func TestShopHabits(t *testing.T) {
	split, err := Shop().Split(Split{ByUser: true}, 60, 0)
	if err != nil {
		t.Fatal(err)
	}
	total := 0.0
	for _, phrases := range split {
		count := make(map[string]int)
		most := 0
		for _, p := range phrases {
			count[p.Intent]++
			most = max(most, count[p.Intent])
		}
		if len(phrases) < 5 || len(count) < 3 || len(count) > 25 {
			t.Errorf("%s has %d training phrases of %d intents", phrases[0].User, len(phrases), len(count))
		}
		total += float64(most) / float64(len(phrases))
	}
	if mean := total / 60; mean < 0.15 {
		t.Errorf("the favourite takes %.2f of a customer's phrases on average, want habits", mean)
	}
}
