package dataset

import (
	"crypto/sha256"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"sort"
	"strings"
	"testing"
)

func TestParseSplit(t *testing.T) {
	for text, want := range map[string]Split{
		"iid": {}, "user": {ByUser: true}, "dirichlet:0.5": {Alpha: 0.5}, "dirichlet:100": {Alpha: 100}, "dirichlet:0.001": {Alpha: 0.001},
	} {
		got, err := ParseSplit(text)
		if err != nil || got != want || got.String() != text {
			t.Errorf("got %v, %v for %q", got, err, text)
		}
	}
	for _, text := range []string{"", "IID", "iid:1", "users", "dirichlet", "dirichlet:", "dirichlet:x", "dirichlet:0", "dirichlet:-1", "dirichlet:NaN", "dirichlet:inf", "dirichlet:1e-4", "dirichlet:1e7"} {
		if got, err := ParseSplit(text); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("got the split %q, want", text)) {
			t.Errorf("got %v, %v for %q", got, err, text)
		}
	}
}

// hash gives the first bytes of a split's SHA-256, devices and phrases in order.
func hash(split [][]Phrase) string {
	h := sha256.New()
	for _, phrases := range split {
		fmt.Fprintf(h, "%d\n", len(phrases))
		for _, p := range phrases {
			fmt.Fprintf(h, "%q %q %q\n", p.User, p.Intent, p.Text)
		}
	}
	return fmt.Sprintf("%x", h.Sum(nil)[:12])
}

// same holds that a split deals out exactly the training phrases.
func same(t *testing.T, s *Set, split [][]Phrase) {
	t.Helper()
	count := make(map[Phrase]int)
	for _, p := range s.Train {
		count[p]++
	}
	for _, phrases := range split {
		for _, p := range phrases {
			count[p]--
		}
	}
	for p, n := range count {
		if n != 0 {
			t.Errorf("%q is dealt %d times too seldom", p, n)
		}
	}
}

// The golden splits of the embedded set: they change with shop.csv, and with
// nothing else, on any platform.
func TestSplitGolden(t *testing.T) {
	for _, c := range []struct {
		how     string
		devices int
		seed    uint64
		want    string
	}{
		{"iid", 60, 1, "0bf9b8c2b3f228e9fe7d2e60"},
		{"iid", 7, 2, "99a9fe7ac2f930d2eac0dfff"},
		{"dirichlet:0.5", 60, 1, "0ba8188ed81f59f8b36d4aae"},
		{"dirichlet:0.001", 60, 1, "25801a4f4f715770cb9972c2"},
		{"dirichlet:10", 60, 2, "7ed3a5f7b5dae78282178e51"},
		{"user", 60, 1, "58d53ec7454cfa118c172a7a"},
		{"user", 25, 1, "cdc1f313b73c3139092019ab"},
	} {
		t.Run(fmt.Sprintf("%s over %d, seed %d", c.how, c.devices, c.seed), func(t *testing.T) {
			how, err := ParseSplit(c.how)
			if err != nil {
				t.Fatal(err)
			}
			s := Shop()
			split, err := s.Split(how, c.devices, c.seed)
			if err != nil {
				t.Fatal(err)
			}
			if len(split) != c.devices {
				t.Fatalf("got %d devices, want %d", len(split), c.devices)
			}
			same(t, s, split)
			if !reflect.DeepEqual(s, Shop()) {
				t.Error("the split changed the set")
			}
			if got := hash(split); got != c.want {
				t.Errorf("got the split %s, want %s", got, c.want)
			}
			other, err := s.Split(how, c.devices, c.seed+1)
			if err != nil {
				t.Fatal(err)
			}
			if !how.ByUser && hash(other) == c.want {
				t.Error("another seed gives the same split")
			}
		})
	}
}

func TestSplitEvenlyIsEven(t *testing.T) {
	s := Shop()
	split, err := s.Split(Split{}, 100, 3)
	if err != nil {
		t.Fatal(err)
	}
	for d, phrases := range split {
		if n := len(phrases); n < len(s.Train)/100 || n > len(s.Train)/100+1 {
			t.Errorf("device %d has %d of %d phrases", d, n, len(s.Train))
		}
	}
	if split, err = s.Split(Split{}, len(s.Train)+5, 3); err != nil || len(split[len(s.Train)]) != 0 {
		t.Errorf("more devices than phrases: %v", err)
	}
}

func TestSplitByUserKeepsUsersWhole(t *testing.T) {
	split, err := Shop().Split(Split{ByUser: true}, 25, 0)
	if err != nil {
		t.Fatal(err)
	}
	device := make(map[string]int)
	for d, phrases := range split {
		users := make(map[string]bool)
		for _, p := range phrases {
			users[p.User] = true
			if first, ok := device[p.User]; ok && first != d {
				t.Fatalf("%s is on devices %d and %d", p.User, first, d)
			}
			device[p.User] = d
		}
		if len(users) < 2 || len(users) > 3 {
			t.Errorf("device %d has %d of 60 users, want 2 or 3", d, len(users))
		}
	}
}

func TestSplitRefuses(t *testing.T) {
	s := Shop()
	nameless := &Set{Intents: s.Intents, Train: append([]Phrase{{"hi", s.Intents[0], ""}}, s.Train...)}
	for _, c := range []struct {
		set     *Set
		how     Split
		devices int
		want    string
	}{
		{s, Split{}, 0, "got 0 devices"},
		{s, Split{}, MaxDevices + 1, "got 1000001 devices"},
		{s, Split{ByUser: true}, 61, "got 60 users for 61 devices"},
		{nameless, Split{ByUser: true}, 10, `got the training phrase "hi" without a user`},
		{s, Split{Alpha: -1}, 10, "got α = -1"},
		{s, Split{Alpha: math.NaN()}, 10, "got α = NaN"},
	} {
		if _, err := c.set.Split(c.how, c.devices, 1); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want it to say %s", err, c.want)
		}
	}
}

// The shares of an intent have mean 1/n and variance (1/n)(1−1/n)/(nα+1).
func TestDirichletMoments(t *testing.T) {
	const n, draws, seed = 10, 20000, 5
	for _, alpha := range []float64{0.01, 0.5, 1, 7} {
		rng := rand.New(rand.NewPCG(seed, 0))
		p := make([]float64, n)
		var sum, squares float64
		for range draws {
			dirichlet(rng, alpha, p)
			total := 0.0
			for _, x := range p {
				total += x
			}
			if !(math.Abs(total-1) < 1e-12) {
				t.Fatalf("seed %d, α %v: shares sum to %v", seed, alpha, total)
			}
			sum += p[3]
			squares += p[3] * p[3]
		}
		mean := sum / draws
		variance := squares/draws - mean*mean
		want := 0.1 * 0.9 / (n*alpha + 1)
		if math.Abs(mean-0.1) > 5*math.Sqrt(want/draws) || math.Abs(variance/want-1) > 0.08 {
			t.Errorf("seed %d, α %v: got mean %.4f and variance %.5f, want 0.1 and %.5f", seed, alpha, mean, variance, want)
		}
	}
}

// Without rebalancing a small α leaves devices empty and a large one does not.
func TestDirichletSkew(t *testing.T) {
	s := Shop()
	most := func(alpha float64) (empty int, share float64) {
		split, err := s.Split(Split{Alpha: alpha}, 60, 1)
		if err != nil {
			t.Fatal(err)
		}
		for _, phrases := range split {
			if len(phrases) == 0 {
				empty++
			}
		}
		sort.Slice(split, func(i, j int) bool { return len(split[i]) > len(split[j]) })
		return empty, float64(len(split[0])) / float64(len(s.Train))
	}
	if empty, share := most(0.001); empty < 30 || share < 0.05 {
		t.Errorf("α 0.001: %d devices empty, the largest has %.2f", empty, share)
	}
	if empty, share := most(1000); empty != 0 || share > 0.03 {
		t.Errorf("α 1000: %d devices empty, the largest has %.2f", empty, share)
	}
}

// The series agree with package math to a few bits.
func TestLogExp(t *testing.T) {
	for x := 1e-300; x < 1e300; x *= 1.37 {
		if got, want := log(x), math.Log(x); math.Abs(got-want) > 4e-16*max(1, math.Abs(want)) {
			t.Fatalf("log %v: got %v, want %v", x, got, want)
		}
	}
	for x := -700.0; x <= 0; x += 0.0317 {
		if got, want := exp(x), math.Exp(x); math.Abs(got/want-1) > 2e-13 {
			t.Fatalf("exp %v: got %v, want %v", x, got, want)
		}
	}
	if got := exp(math.Inf(-1)); got != 0 {
		t.Errorf("exp of minus infinity: got %v", got)
	}
}
