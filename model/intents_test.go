package model

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
)

// threeIntents is a checkpoint of the intents a, b and c, whose columns are 1, 2 and 6 everywhere.
func threeIntents(t *testing.T) *Checkpoint {
	t.Helper()
	l, err := NewLayout("small", 3)
	if err != nil {
		t.Fatal(err)
	}
	params := l.Init(1)
	_, weights, bias := l.Split(params)
	for i := range weights {
		weights[i] = []float32{1, 2, 6}[i%3]
	}
	copy(bias, []float32{10, 20, -60})
	c, err := NewCheckpoint("task", "small", 4, []string{"a", "b", "c"}, params)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestChangesOfIntents(t *testing.T) {
	type former = []Former
	add, rename, merge, retire := AddIntent, RenameIntent, MergeIntent, RetireIntent
	for _, test := range []struct {
		name    string
		steps   [][]IntentChange
		version uint64
		labels  string
		former  former
		weights []float32 // of one dimension
		bias    []float32
	}{
		{"add", [][]IntentChange{{{add, "d", ""}}}, 1, "a b c d", nil, []float32{1, 2, 6, 3}, []float32{10, 20, -60, -60}},
		{"add twice", [][]IntentChange{{{add, "d", ""}}, {{add, "d", ""}}, {{add, "a", ""}}}, 1, "a b c d", nil, []float32{1, 2, 6, 3}, []float32{10, 20, -60, -60}},
		{"rename", [][]IntentChange{{{rename, "b", "x"}}, {{rename, "b", "x"}}}, 1, "a x c", former{{"b", 1}}, []float32{1, 2, 6}, []float32{10, 20, -60}},
		{"and back", [][]IntentChange{{{rename, "b", "x"}}, {{rename, "x", "b"}}}, 2, "a b c", former{{"x", 1}}, []float32{1, 2, 6}, []float32{10, 20, -60}},
		{"merge", [][]IntentChange{{{merge, "a", "c"}}, {{merge, "a", "c"}}}, 1, "b c", former{{"a", 1}}, []float32{2, 3.5}, []float32{20, -25}},
		{"merge what was renamed", [][]IntentChange{{{rename, "b", "x"}}, {{merge, "x", "a"}}}, 2, "a c", former{{"b", 0}, {"x", 0}}, []float32{1.5, 6}, []float32{15, -60}},
		{"retire", [][]IntentChange{{{retire, "a", ""}}, {{retire, "a", ""}}}, 1, "b c", former{{"a", Retired}}, []float32{2, 6}, []float32{20, -60}},
		{"retire what was renamed", [][]IntentChange{{{rename, "a", "x"}, {add, "d", ""}}, {{retire, "x", ""}}}, 2, "b c d", former{{"a", Retired}, {"x", Retired}}, []float32{2, 6, 3}, []float32{20, -60, -60}},
		{"add what was retired", [][]IntentChange{{{retire, "a", ""}}, {{add, "a", ""}}}, 2, "b c a", nil, []float32{2, 6, 3}, []float32{20, -60, -60}},
		{"swap with a third", [][]IntentChange{{{add, "d", ""}, {retire, "a", ""}, {retire, "b", ""}}}, 1, "c d", former{{"a", Retired}, {"b", Retired}}, []float32{6, 3}, []float32{-60, -60}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := threeIntents(t)
			r := c.Manifest.Intents()
			for _, step := range test.steps {
				var err error
				if r, err = r.Change(step...); err != nil {
					t.Fatal(err)
				}
			}
			next, err := c.WithIntents(r)
			if err != nil {
				t.Fatal(err)
			}
			m := next.Manifest
			if got := strings.Join(m.Labels, " "); got != test.labels || m.IntentsVersion != test.version || m.Round != 5 {
				t.Errorf("intents %s at version %d, round %d, want %s at %d, round 5", got, m.IntentsVersion, m.Round, test.labels, test.version)
			}
			if len(m.FormerIntents)+len(test.former) > 0 && !reflect.DeepEqual(m.FormerIntents, test.former) {
				t.Errorf("old names %v, want %v", m.FormerIntents, test.former)
			}
			embedding, weights, bias := m.Layout.Split(next.Params)
			old, _, _ := c.Manifest.Layout.Split(c.Params)
			if !reflect.DeepEqual(embedding, old) {
				t.Error("the embedding changed")
			}
			if got := weights[len(weights)-len(test.weights):]; !reflect.DeepEqual(got, test.weights) || !reflect.DeepEqual(bias, test.bias) {
				t.Errorf("weights %v and bias %v, want %v and %v", got, bias, test.weights, test.bias)
			}
			again, err := DecodeCheckpoint(next.Encode())
			if err != nil || !reflect.DeepEqual(again.Manifest, func() Manifest { m := m; m.ParametersSHA256 = again.Manifest.ParametersSHA256; return m }()) {
				t.Errorf("read back differs: %v", err)
			}
		})
	}
}

func TestChangesOfIntentsThatAreRefused(t *testing.T) {
	c := threeIntents(t)
	r, err := c.Manifest.Intents().Change(IntentChange{RenameIntent, "b", "x"}, IntentChange{AddIntent, "d", ""}, IntentChange{RetireIntent, "c", ""})
	if err != nil {
		t.Fatal(err)
	}
	for want, changes := range map[string][]IntentChange{
		"not among the 3":       {{RetireIntent, "nothing", ""}},
		"the nearest is \"x\"":  {{RetireIntent, "X2", ""}},
		"want another one":      {{RenameIntent, "a", "a"}},
		"old name of":           {{AddIntent, "b", ""}},
		"change that one":       {{RetireIntent, "b", ""}},
		"merge \"a\" into it":   {{RenameIntent, "a", "d"}},
		"choose another":        {{RenameIntent, "a", "b"}},
		"was retired":           {{MergeIntent, "c", "a"}},
		"merging \"a\"":         {{MergeIntent, "a", "nothing"}},
		"into itself":           {{MergeIntent, "a", "a"}},
		"changed twice":         {{AddIntent, "e", ""}, {AddIntent, "e", ""}},
		"1 intents would":       {{RetireIntent, "a", ""}, {RetireIntent, "d", ""}},
		"second name":           {{AddIntent, "e", "f"}},
		"kind 9":                {{9, "a", ""}},
		"control characters":    {{AddIntent, "a\nb", ""}},
		"spaces around it":      {{RenameIntent, "a", " e"}},
		"intent of 200 bytes":   {{AddIntent, strings.Repeat("a", 200), ""}},
		"want a second name fo": {{RenameIntent, "a", ""}},
	} {
		if got, err := r.Change(changes...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, %v; want an error with %q", changes, got, err, want)
		}
	}
	if strings.Join(r.Labels, " ") != "a x d" || r.Version != 1 {
		t.Errorf("refused changes left %v at version %d", r.Labels, r.Version)
	}
}

// TestIntentsLeaveOldCheckpointsAsTheyAre holds the bytes of a checkpoint whose intents never changed.
func TestIntentsLeaveOldCheckpointsAsTheyAre(t *testing.T) {
	c := threeIntents(t)
	if b := c.Encode(); bytes.Contains(b, []byte("intents_version")) || bytes.Contains(b, []byte("former")) {
		t.Error("a manifest without changes says something of them")
	}
	same, err := c.Next(c.Params)
	if err != nil || same.Manifest.IntentsVersion != 0 || same.Manifest.Round != 5 {
		t.Errorf("the next checkpoint: %+v, %v", same.Manifest, err)
	}
}

func TestManifestRefusesOldNames(t *testing.T) {
	for name, m := range map[string]func(*Manifest){
		"version 0":        func(m *Manifest) { m.IntentsVersion = 0 },
		"a label":          func(m *Manifest) { m.FormerIntents[0].Name = "a" },
		"no label":         func(m *Manifest) { m.FormerIntents[0].Now = 3 },
		"below retired":    func(m *Manifest) { m.FormerIntents[0].Now = -2 },
		"twice":            func(m *Manifest) { m.FormerIntents = append(m.FormerIntents, m.FormerIntents[0]) },
		"empty":            func(m *Manifest) { m.FormerIntents[0].Name = "" },
		"more than enough": func(m *Manifest) { m.FormerIntents = make([]Former, MaxFormer+1) },
	} {
		c := threeIntents(t)
		c.Manifest.IntentsVersion, c.Manifest.FormerIntents = 1, []Former{{"x", 1}}
		if _, err := DecodeCheckpoint(c.Encode()); err != nil {
			t.Fatal(err)
		}
		m(&c.Manifest)
		if _, err := DecodeCheckpoint(c.Encode()); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

func TestTheOldestRetiredNamesAreForgotten(t *testing.T) {
	r := &Intents{Labels: []string{"a", "b", "c"}, sources: [][]int{{0}, {1}, {2}}}
	for range MaxFormer {
		r.Former = append(r.Former, Former{strings.Repeat("x", 1+len(r.Former)%100) + string(rune('一'+len(r.Former))), 0})
	}
	if _, err := r.Change(IntentChange{RetireIntent, "c", ""}); err != nil {
		t.Errorf("the name that is retired is the one to forget: %v", err)
	}
	if _, err := r.Change(IntentChange{RenameIntent, "b", "y"}); err == nil {
		t.Error("more old names than fit were accepted")
	}
	r.Former[7].Now = Retired
	next, err := r.Change(IntentChange{RenameIntent, "b", "y"})
	if err != nil || len(next.Former) != MaxFormer || next.former(r.Former[7].Name) >= 0 {
		t.Errorf("%d old names, %v", len(next.Former), err)
	}
}

func TestBeginGoesOnByNames(t *testing.T) {
	c := threeIntents(t)
	r, err := c.Manifest.Intents().Change(IntentChange{RenameIntent, "b", "x"}, IntentChange{RetireIntent, "a", ""})
	if err != nil {
		t.Fatal(err)
	}
	from, err := c.WithIntents(r)
	if err != nil {
		t.Fatal(err)
	}
	next, err := from.Begin("other", []string{"new", "x", "c"})
	if err != nil {
		t.Fatal(err)
	}
	_, _, bias := next.Manifest.Layout.Split(next.Params)
	if m := next.Manifest; m.Task != "other" || m.Round != 0 || m.Index()["b"] != 1 || len(m.FormerIntents) != 1 || !reflect.DeepEqual(bias, []float32{-60, 20, -60}) {
		t.Errorf("%+v with bias %v", m, bias)
	}
	if next, err = from.Begin("other", []string{"b", "q"}); err != nil { // by its old name
		t.Fatal(err)
	}
	_, _, bias = next.Manifest.Layout.Split(next.Params)
	if m := next.Manifest; m.IntentsVersion != 0 || len(m.FormerIntents) != 0 || !reflect.DeepEqual(bias, []float32{20, -60}) {
		t.Errorf("%+v with bias %v", m, bias)
	}
	if _, err := from.Begin("other", []string{"b"}); err == nil {
		t.Error("one intent is enough")
	}
}

func TestCarryStateBeginsWithNothing(t *testing.T) {
	c := threeIntents(t)
	r, err := c.Manifest.Intents().Change(IntentChange{AddIntent, "d", ""}, IntentChange{MergeIntent, "b", "a"})
	if err != nil {
		t.Fatal(err)
	}
	state, err := r.CarryState(c.Manifest.Layout, c.Params)
	if err != nil {
		t.Fatal(err)
	}
	l, _ := NewLayout("small", 3)
	_, weights, bias := l.Split(state)
	if !reflect.DeepEqual(weights[:3], []float32{1.5, 6, 0}) || !reflect.DeepEqual(bias, []float32{15, -60, 0}) {
		t.Errorf("weights %v, bias %v", weights[:3], bias)
	}
	if _, err := r.CarryState(c.Manifest.Layout, state[1:]); err == nil {
		t.Error("a vector of another length was carried")
	}
}
