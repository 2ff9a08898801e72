package secagg

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
)

// seedOf decodes the seed of a test vector.
func seedOf(t *testing.T, s string) *digest {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(digest{}) {
		t.Fatalf("seed %q: %v", s, err)
	}
	return (*digest)(b)
}

// numberedSeed is a seed for every number.
func numberedSeed(i int) *digest { return &digest{byte(i), byte(i >> 8), byte(i >> 16), 1} }

func TestPermutationVectors(t *testing.T) {
	rejected := 0
	for _, v := range readGraphVectors(t).Permutations {
		if got := permutation(v.N, seedOf(t, v.Seed)); !slices.Equal(got, v.Order) {
			t.Errorf("permutation of %d by %s:\n got %v\nwant %v", v.N, v.Seed, got, v.Order)
		}
		rejected += v.Rejected
	}
	if rejected == 0 {
		t.Error("no vector passes over a word of its stream")
	}
}

func TestGraphVectors(t *testing.T) {
	for _, v := range readGraphVectors(t).Graphs {
		g := newGraph(v.N, v.K, 1, v.Complete, seedOf(t, v.Seed))
		for place, want := range v.Members {
			if got := g.neighbours(place); !slices.Equal(got, want.Neighbours) {
				t.Errorf("%d of %d (k %d): neighbours %v, want %v", place, v.N, v.K, got, want.Neighbours)
			}
			var ahead []int
			for to := range v.N {
				if g.encapsulates(place, to) {
					ahead = append(ahead, to)
				}
			}
			if !slices.Equal(ahead, want.Encapsulates) {
				t.Errorf("%d of %d (k %d): encapsulates to %v, want %v", place, v.N, v.K, ahead, want.Encapsulates)
			}
		}
	}
}

// testGraphs is complete and sparse graphs of even and odd sizes.
func testGraphs() []*graph {
	var all []*graph
	for i, n := range []int{1, 2, 3, 4, 5, 6, 7, 12, 99, 100} {
		all = append(all, newGraph(n, 0, Threshold(n), true, numberedSeed(i)))
	}
	for i, c := range []struct{ n, k int }{
		{4, 2}, {5, 2}, {6, 4}, {7, 4}, {8, 6}, {101, 22}, {101, 98}, {128, 2}, {150, 54}, {333, 80}, {1000, 72},
	} {
		all = append(all, newGraph(c.n, c.k, c.k/2, false, numberedSeed(100+i)))
	}
	return all
}

func (g *graph) String() string {
	return fmt.Sprintf("graph of %d with %d neighbours (complete %v)", g.n, g.k, g.complete)
}

// TestGraph looks at every pair of places.
func TestGraph(t *testing.T) {
	for _, g := range testGraphs() {
		if g.complete && g.k != g.n-1 {
			t.Errorf("%v", g)
		}
		for place := range g.n {
			if g.order[g.position[place]] != place {
				t.Fatalf("%v: place %d is at position %d, where %d is", g, place, g.position[place], g.order[g.position[place]])
			}
			list := g.neighbours(place)
			if len(list) != g.k || !slices.IsSorted(list) || slices.Contains(list, place) {
				t.Fatalf("%v: neighbours of %d are %v", g, place, list)
			}
			heads := 0 // edges where place encapsulates
			for other := range g.n {
				slot := slices.Index(list, other)
				if got := g.slot(place, other); got != slot {
					t.Fatalf("%v: slot of %d at %d is %d, want %d", g, other, place, got, slot)
				}
				if (slot >= 0) != slices.Contains(g.neighbours(other), place) {
					t.Fatalf("%v: %d and %d are neighbours on one side only", g, place, other)
				}
				if (g.encapsulates(place, other) != g.encapsulates(other, place)) != (slot >= 0) {
					t.Fatalf("%v: %d encapsulates to %d: %v; the other way: %v; neighbours: %v", g, place, other,
						g.encapsulates(place, other), g.encapsulates(other, place), slot >= 0)
				}
				if g.encapsulates(place, other) {
					heads++
				}
			}
			if heads < g.k/2 || heads > (g.k+1)/2 {
				t.Fatalf("%v: %d encapsulates on %d edges", g, place, heads)
			}
		}
	}
}

// TestGraphIsCirculant holds the sparse graph against its definition: the members
// within k/2 steps on the circle, either way.
func TestGraphIsCirculant(t *testing.T) {
	for _, g := range testGraphs() {
		if g.complete {
			continue
		}
		for i, place := range g.order {
			for j, other := range g.order {
				steps := max(i, j) - min(i, j)
				steps = min(steps, g.n-steps)
				want := 1 <= steps && steps <= g.k/2
				if got := g.slot(place, other) >= 0; got != want {
					t.Fatalf("%v: positions %d and %d are neighbours: %v, want %v", g, i, j, got, want)
				}
			}
		}
	}
}

// TestGraphsDiffer: seeds of one bit's difference, and the places themselves,
// predict nothing about who neighbours whom.
func TestGraphsDiffer(t *testing.T) {
	const n, k, graphs = 200, 38, 30
	pairs := make(map[[2]int]int)
	for i := range graphs {
		g := newGraph(n, k, 21, false, numberedSeed(i))
		for place := range n {
			for _, j := range g.neighbours(place) {
				pairs[[2]int{place, j}]++
			}
		}
	}
	for pair, times := range pairs {
		// Of 30 graphs 5.7 are expected to join a pair; 22 has a probability below 1e-9.
		if times >= 22 {
			t.Errorf("%v are neighbours in %d of %d graphs", pair, times, graphs)
		}
	}
	a, b := newGraph(n, k, 21, false, numberedSeed(0)), newGraph(n, k, 21, false, numberedSeed(0))
	if !slices.Equal(a.order, b.order) {
		t.Error("one seed made two graphs")
	}
}

// TestPermutationIsUniform draws each of the 24 orders of four places about as
// often as the others.
func TestPermutationIsUniform(t *testing.T) {
	const draws = 24_000
	count := make(map[string]int)
	for i := range draws {
		count[fmt.Sprint(permutation(4, numberedSeed(i)))]++
	}
	chi := 0.
	for _, c := range count {
		d := float64(c) - draws/24
		chi += d * d / (draws / 24)
	}
	// 23 degrees of freedom: above 58 with a probability of 1e-4.
	if len(count) != 24 || chi > 58 {
		t.Errorf("%d orders of 24, chi square %.1f; want at most 58: %v", len(count), chi, count)
	}
}

// TestDrawsHaveNoBias draws below three quarters of 2^32, where a remainder alone
// would make the first third twice as likely as the others.
func TestDrawsHaveNoBias(t *testing.T) {
	const m, times = 3 << 30, 30_000
	d := newDraws(numberedSeed(5))
	var thirds [3]int
	for range times {
		w := d.below(m)
		if w >= m {
			t.Fatalf("drew %d, want it below %d", w, uint32(m))
		}
		thirds[w>>30]++
	}
	for i, c := range thirds {
		// Four standard deviations are 327.
		if c < times/3-327 || c > times/3+327 {
			t.Errorf("third %d was drawn %d times of %d", i, c, times)
		}
	}
}

// TestDrawsAreTheStream takes the words of the key stream in their order, and
// passes over those past the last whole multiple.
func TestDrawsAreTheStream(t *testing.T) {
	seed := numberedSeed(6)
	words := naiveStream(*seed, 2000)
	rng := rand.New(rand.NewPCG(6, 0))
	d := newDraws(seed)
	for at, passed := 0, 0; at < 1900; {
		m := []uint32{1, 2, 1 << 31, 1<<31 + 1, 1<<32 - 1, 1 + uint32(rng.IntN(2000))}[rng.IntN(6)]
		last := uint64(1<<32) - uint64(1<<32)%uint64(m)
		for uint64(words[at]) >= last {
			at++
			passed++
		}
		if got, want := d.below(m), uint32(uint64(words[at])%uint64(m)); got != want {
			t.Fatalf("word %d below %d: got %d, want %d (%d passed over)", at, m, got, want, passed)
		}
		at++
	}
}

// TestDrawsAtTheEdge: the last word of the last whole multiple counts, the next
// does not.
func TestDrawsAtTheEdge(t *testing.T) {
	for _, test := range []struct{ m, word, want uint32 }{
		{3, 1<<32 - 2, 2}, {3, 1<<32 - 1, 7 % 3}, {1 << 31, 1<<32 - 1, 1<<31 - 1}, {1<<31 + 1, 1 << 31, 1 << 31}, {1<<31 + 1, 1<<31 + 1, 7}, {1, 1<<32 - 1, 0},
	} {
		next := []byte{7, 0, 0, 0}
		d := &draws{rest: append(binary.LittleEndian.AppendUint32(nil, test.word), next...)}
		if got := d.below(test.m); got != test.want {
			t.Errorf("words %d, 7 below %d give %d, want %d", test.word, test.m, got, test.want)
		}
	}
}

// TestGraphConcurrently asks the same from many sides, for the race detector.
func TestGraphConcurrently(t *testing.T) {
	g := newGraph(300, 52, 31, false, numberedSeed(8))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for place := range g.n {
				for slot, j := range g.neighbours(place) {
					if g.slot(place, j) != slot {
						t.Errorf("slot of %d at %d is not %d", j, place, slot)
					}
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkGraph(b *testing.B) {
	b.Run("new/n=1000", func(b *testing.B) {
		for b.Loop() {
			newGraph(1000, 72, 43, false, numberedSeed(9))
		}
	})
	b.Run("slot/n=1000", func(b *testing.B) {
		g := newGraph(1000, 72, 43, false, numberedSeed(9))
		for b.Loop() {
			for _, j := range g.neighbours(7) {
				if g.slot(7, j) < 0 {
					b.Fatal("no neighbour")
				}
			}
		}
	})
}
