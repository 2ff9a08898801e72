package dataset

import (
	"math"
	"reflect"
	"strings"
	"testing"
)

// uses counts how often each training phrase is dealt, and how often twice to one device.
func uses(s *Set, split [][]Phrase) (most, twice int) {
	count := make(map[Phrase]int)
	copies := make(map[Phrase]int) // a set may have a phrase more than once
	for _, p := range s.Train {
		copies[p]++
	}
	for _, phrases := range split {
		own := make(map[Phrase]int)
		for _, p := range phrases {
			count[p]++
			if own[p]++; own[p] > copies[p] {
				twice++
			}
		}
	}
	for p, n := range count {
		most = max(most, (n+copies[p]-1)/copies[p])
	}
	return most, twice
}

func TestDealRepeatsNoMoreThanItMust(t *testing.T) {
	s := Shop()
	for _, c := range []struct {
		how            Split
		devices, chats int
		want           string
	}{
		{Split{}, 1000, 15, "42013a17c60480c8a7612947"},
		{Split{}, 20, 7, ""},
		{Split{}, 5, len(s.Train), ""},
		{Split{Alpha: 0.5}, 1000, 15, ""},
		{Split{Alpha: 0.001}, 300, 40, ""},
		{Split{Alpha: 1000}, 300, 40, ""},
		{Split{Alpha: 0.5}, 3, len(s.Train), ""},
	} {
		const seed = 4
		split, err := s.Deal(c.how, c.devices, c.chats, seed)
		if err != nil {
			t.Fatal(err)
		}
		if len(split) != c.devices {
			t.Fatalf("%v: got %d devices, want %d", c.how, len(split), c.devices)
		}
		for d, phrases := range split {
			if len(phrases) != c.chats {
				t.Fatalf("%v: device %d has %d chats, want %d", c.how, d, len(phrases), c.chats)
			}
		}
		most, twice := uses(s, split)
		if want := (c.devices*c.chats + len(s.Train) - 1) / len(s.Train); most > want {
			t.Errorf("%v, %d devices of %d, seed %d: a phrase is dealt %d times, want at most %d", c.how, c.devices, c.chats, seed, most, want)
		}
		if twice > 0 && c.how.Alpha == 0 {
			t.Errorf("%v, %d devices of %d, seed %d: %d phrases twice on a device", c.how, c.devices, c.chats, seed, twice)
		} else if float64(twice) > 0.01*float64(c.devices*c.chats) {
			t.Errorf("%v, %d devices of %d, seed %d: %d of %d chats are on their device twice", c.how, c.devices, c.chats, seed, twice, c.devices*c.chats)
		}
		again, _ := s.Deal(c.how, c.devices, c.chats, seed)
		other, _ := s.Deal(c.how, c.devices, c.chats, seed+1)
		if !reflect.DeepEqual(split, again) || reflect.DeepEqual(split, other) {
			t.Errorf("%v: the seed does not fix the deal", c.how)
		}
		if got := hash(split); c.want != "" && got != c.want {
			t.Errorf("%v: got the deal %s, want %s", c.how, got, c.want)
		}
	}
	if !reflect.DeepEqual(s, Shop()) {
		t.Error("a deal changed the set")
	}
}

// The intents of a device follow its draw: at a small α a device has few of them.
func TestDealSkew(t *testing.T) {
	s := Shop()
	mean := func(alpha float64) float64 {
		split, err := s.Deal(Split{Alpha: alpha}, 400, 15, 1)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, phrases := range split {
			n += len(intentsOf(phrases))
		}
		return float64(n) / 400
	}
	skewed, even := mean(0.05), mean(1000)
	iid, err := s.Deal(Split{}, 400, 15, 1)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, phrases := range iid {
		n += len(intentsOf(phrases))
	}
	if skewed > even/2 || math.Abs(even-float64(n)/400) > 0.5 {
		t.Errorf("a device has %.1f intents at α 0.05, %.1f at 1000, %.1f iid", skewed, even, float64(n)/400)
	}
}

func TestDealRefuses(t *testing.T) {
	s := Shop()
	for _, c := range []struct {
		how            Split
		devices, chats int
		want           string
	}{
		{Split{}, 0, 5, "got 0 devices"},
		{Split{}, 5, 0, "got 0 chats"},
		{Split{}, 5, len(s.Train) + 1, "chats for each device, want 1 to"},
		{Split{}, MaxDevices, 15, "chats together"},
		{Split{ByUser: true}, 5, 5, "split iid or by dirichlet"},
		{Split{Alpha: math.NaN()}, 5, 5, "got α = NaN"},
	} {
		if _, err := s.Deal(c.how, c.devices, c.chats, 1); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want it to say %s", err, c.want)
		}
	}
}
