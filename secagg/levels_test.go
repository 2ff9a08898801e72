package secagg

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
)

// withLevels gives an attempt levels. In a rig each device adds what its seeds give to its
// input.
func withLevels(levels ...int) func(*Params) {
	return func(p *Params) { p.Keys, p.Levels = Classical, levels }
}

// addBy adds to a vector what a seed gives in these tests.
func addBy(seed [32]byte, vector []uint32, sign uint32) {
	for w := range vector {
		vector[w] += sign * binary.LittleEndian.Uint32(seed[w%8*4:]) * uint32(w+1)
	}
}

// TestLevels sums vectors with what seeds gave, and takes off what the number of survivors
// gives back: just that of the levels it reaches, whoever vanished before, and after the
// vectors.
func TestLevels(t *testing.T) {
	for _, test := range []struct {
		name     string
		n        int
		change   func(*Params)
		lost     []int // before Submit
		late     []int // before Reveal
		reached  int
		complete bool
	}{
		{"nobody lost", 7, withLevels(5, 6, 7), nil, nil, 3, true},
		{"one lost before Reveal", 7, withLevels(5, 6, 7), nil, []int{2}, 3, true},
		{"one lost before Submit", 7, withLevels(5, 6, 7), []int{0}, []int{6}, 2, true},
		{"at the lowest level", 7, withLevels(5, 6, 7), []int{0, 6}, nil, 1, true},
		{"below all levels", 7, withLevels(6, 7), []int{0, 6}, nil, 0, true},
		{"hybrid keys", 5, func(p *Params) { p.Levels = []int{5} }, nil, []int{4}, 1, true},
		{"a sparse graph", 101, func(p *Params) { sparse(p); p.Levels = []int{60, 98, 101} }, []int{7, 70}, []int{50}, 2, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := toShares(t, 500, test.n, test.change)
			if r.shares.session.graph.complete != test.complete {
				t.Fatal("the graph is of the other kind")
			}
			survivors := without(r.all(), test.lost...)
			r.must(r.submit(survivors))
			exact, want := r.plain(survivors), make([][][32]byte, test.reached)
			for _, i := range survivors {
				for g, seed := range r.devices[i].seeds[:test.reached] {
					want[g] = append(want[g], seed)
					addBy(seed, exact, ^uint32(0)) // those of higher levels stay in
				}
			}
			r.must(r.confirm(survivors))
			r.must(r.finish(without(survivors, test.late...)))
			got := r.unmasking.Seeds()
			if !slices.EqualFunc(got, want, func(a, b [][32]byte) bool { return slices.Equal(a, b) }) {
				t.Fatalf("seeds of %d levels, want those of %d, of each survivor", len(got), len(want))
			}
			for _, seeds := range got {
				for _, seed := range seeds {
					addBy(seed, r.sum, ^uint32(0))
				}
			}
			for w := range r.sum {
				if (r.sum[w]-exact[w])<<8 != 0 {
					t.Fatalf("word %d is %06x, want %06x", w, r.sum[w]&0xffffff, exact[w]&0xffffff)
				}
			}
		})
	}
}

// TestLevelSeeds: seeds differ by device, level and attempt, and no seed or secret is that
// of another level.
func TestLevelSeeds(t *testing.T) {
	seen := map[[32]byte]string{}
	for attempt := range uint32(2) {
		r := toShares(t, 501+uint64(attempt), 4, func(p *Params) { p.Keys, p.Levels, p.Attempt = Classical, []int{4}, attempt+1 })
		for i, d := range r.devices {
			r.maskOne(i)
			for g, seed := range d.seeds {
				name := fmt.Sprintf("attempt %d, device %d, level %d", attempt+1, i, g+1)
				if other, ok := seen[seed]; ok {
					t.Errorf("%s and %s have one seed", name, other)
				}
				seen[seed] = name
			}
		}
	}
	s := toShares(t, 503, 3, func(p *Params) { p.Cohort, p.Levels = 9, []int{4, 5, 6, 7, 8, 9} }).shares.session
	secrets, err := s.newLevels(stream(503, "levels", 0))
	if err != nil {
		t.Fatal(err)
	}
	again := levelsFrom(secrets[2].Copy(), 3)
	for g := range again {
		if !again[g].IsEqual(secrets[g]) || seedsOf(again)[g] != seedsOf(secrets)[g] {
			t.Errorf("the secret of level 3 gives another for level %d", g+1)
		}
	}
	for g, x := range secrets {
		if b := encodeScalar(x); seedsOf(secrets)[g] == b || s.commitLevel(g+1, x) == seedsOf(secrets)[g] {
			t.Errorf("level %d: its seed is its secret or its commitment", g+1)
		}
	}
	s.params.LevelSecret = func() ([32]byte, error) { return [32]byte{7, 31: 0xff}, nil }
	given, err := s.newLevels(nil)
	if err != nil || !slices.Equal(seedsOf(given), LevelSeeds([32]byte{7, 31: 0x0f}, 6)) {
		t.Errorf("a secret that was given, %v: other seeds than LevelSeeds has", err)
	}
}

// TestLevelsParams: what levels may be, and that a device told of others signs for another
// attempt.
func TestLevelsParams(t *testing.T) {
	ca := newKey(503, "authority", 0)
	for _, levels := range [][]int{{3}, {11}, {5, 5}, {6, 5}, {4, 5, 6, 7, 8, 9, 10, 10}, {0}, {-1}, make([]int, 9)} {
		p := testParams(10, ca)
		p.Levels = levels
		wantRefusal(t, p.check(), ErrParams, nil)
	}
	p := testParams(12, ca)
	none := p.context()
	seen := map[digest][]int{none: nil}
	for _, levels := range [][]int{{4}, {12}, {4, 12}, {4, 5, 6, 7, 8, 9, 10, 11}, {5}} {
		p.Levels = levels
		if err := p.check(); err != nil {
			t.Error(err)
		}
		if other, ok := seen[p.context()]; ok {
			t.Errorf("levels %v have the context of %v", levels, other)
		}
		seen[p.context()] = levels
	}
	r := newRigWith(t, 504, 5, withLevels(5))
	r.params.Levels = []int{4}
	r.must(r.advertiseOne(0))
	wantRefusal(t, r.adverts.Add(r.devices[0].id, r.devices[0].advert), ErrForged, r.id(0))
}

// TestReached counts levels.
func TestReached(t *testing.T) {
	p := Params{Levels: []int{5, 7, 8}}
	for n, want := range map[int]int{3: 0, 4: 0, 5: 1, 6: 1, 7: 2, 8: 3, 100: 3} {
		if got := p.reached(n); got != want {
			t.Errorf("%d survivors reach level %d, want %d", n, got, want)
		}
	}
}

// TestLevelsWiped: seeds and shares of levels go like everything else.
func TestLevelsWiped(t *testing.T) {
	r := toShares(t, 505, 5, withLevels(4, 5))
	m, _, err := r.devices[0].shared.again().Open(r.devices[0].inbox)
	r.must(err)
	m.Wipe()
	if !zero(m.seeds) || !zero(m.keeping.levels) || !zero(m.keeping.ownLevels) {
		t.Error("Masking keeps levels after Wipe")
	}
	r.must(r.submit(r.all()))
	d := r.devices[1]
	if !zero(d.shared.levels) || !zero(d.shared.ownLevels) || !zero(d.masking.seeds) {
		t.Error("a device keeps seeds of levels after Done")
	}
	r.must(r.confirm(r.all()))
	if k := d.confirmed.keeping; zero(k.levels) || zero(k.ownLevels) {
		t.Fatal("there are no shares of levels")
	}
	r.must(r.finish(r.all()))
	if k := d.confirmed.keeping; !zero(k.levels) || !zero(k.ownLevels) || !empty(d.reveal) {
		t.Error("shares of levels outlive the reveal")
	}
	seeds := r.unmasking.Seeds()
	r.unmasking.Wipe()
	for _, list := range seeds {
		if !zero(list) || len(list) != 5 || r.unmasking.Seeds() != nil {
			t.Error("Unmasking keeps seeds after Wipe")
		}
	}
}
