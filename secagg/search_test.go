package secagg

import (
	"encoding/json"
	"fmt"
	"math/big"
	"math/rand/v2"
	"os"
	"testing"
)

// graphVectors is testdata/graph.json, which another implementation of the
// protocol has to agree with, too: what Search finds (k and t are 0 where there is
// no sparse graph; in the last few a condition holds with equality), shuffles, of
// which the last passes over a word of its stream, and the neighbours of every
// place in a few graphs.
type graphVectors struct {
	Version int
	Search  []struct {
		N, Corrupt, Dropout, Sigma, Eta int
		K, T                            int
	}
	Permutations []struct {
		N, Rejected int
		Seed        string
		Order       []int
	}
	Graphs []struct {
		N, K     int
		Complete bool
		Seed     string
		Members  []struct{ Neighbours, Encapsulates []int }
	}
}

func readGraphVectors(t *testing.T) *graphVectors {
	t.Helper()
	b, err := os.ReadFile("testdata/graph.json")
	if err != nil {
		t.Fatal(err)
	}
	v := new(graphVectors)
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatal(err)
	}
	if v.Version != 1 || len(v.Search) == 0 || len(v.Permutations) == 0 || len(v.Graphs) == 0 {
		t.Fatalf("testdata/graph.json is version %d with %d searches, %d permutations, %d graphs; want version 1 and some of each",
			v.Version, len(v.Search), len(v.Permutations), len(v.Graphs))
	}
	return v
}

func TestSearchVectors(t *testing.T) {
	for _, v := range readGraphVectors(t).Search {
		k, threshold, ok := Search(v.N, v.Corrupt, v.Dropout, v.Sigma, v.Eta)
		if k != v.K || threshold != v.T || ok != (v.K > 0) {
			t.Errorf("Search(%d, %d, %d, %d, %d) = %d, %d, %v; want %d, %d", v.N, v.Corrupt, v.Dropout, v.Sigma, v.Eta, k, threshold, ok, v.K, v.T)
		}
	}
}

// TestSearchTable is the published table: ⅓ is 3,333 of 10,000, which comes to the
// same whole members.
func TestSearchTable(t *testing.T) {
	sizes := []int{100, 200, 500, 1000}
	for _, row := range []struct {
		corrupt, dropout int
		want             [4][2]int
	}{
		{500, 500, [4][2]int{{12, 6}, {22, 11}, {30, 16}, {34, 18}}},
		{1000, 1000, [4][2]int{{22, 11}, {36, 19}, {46, 25}, {52, 28}}},
		{1000, 3333, [4][2]int{{40, 11}, {64, 21}, {96, 34}, {114, 41}}},
		{3333, 3333, [4][2]int{{68, 34}, {128, 66}, {232, 119}, {318, 163}}},
	} {
		for i, n := range sizes {
			k, threshold, ok := Search(n, row.corrupt, row.dropout, 40, 30)
			if !ok || [2]int{k, threshold} != row.want[i] {
				t.Errorf("Search(%d, %d, %d, 40, 30) = %d, %d, %v; want %v", n, row.corrupt, row.dropout, k, threshold, ok, row.want[i])
			}
		}
	}
	for sigma, want := range map[int][2]int{80: {72, 43}, 100: {80, 50}} {
		if k, threshold, ok := Search(1000, 1000, 1000, sigma, 30); !ok || [2]int{k, threshold} != want {
			t.Errorf("Search(1000, 1000, 1000, %d, 30) = %d, %d, %v; want %v", sigma, k, threshold, ok, want)
		}
	}
}

func TestSearchRefuses(t *testing.T) {
	for _, a := range [][5]int{
		{-1, 1000, 1000, 80, 30}, {1000, -1, 1000, 80, 30}, {1000, 1000, -1, 80, 30}, {1000, 1000, 1000, -1, 30}, {1000, 1000, 1000, 80, -1},
		{1000, 5000, 5000, 80, 30}, {1000, 10_001, 0, 80, 30}, {1000, 0, 10_000, 80, 30},
		{0, 0, 0, 80, 30}, {3, 0, 0, 80, 30}, {20, 4500, 4500, 400, 30},
	} {
		if k, threshold, ok := Search(a[0], a[1], a[2], a[3], a[4]); ok || k != 0 || threshold != 0 {
			t.Errorf("Search%v = %d, %d, %v; want nothing", a, k, threshold, ok)
		}
	}
}

// analysis is the conditions as the paper's formulas have them, in fractions.
type analysis struct {
	n, colluding, vanishing int
	sigma, eta              int
}

func choose(n, k int) *big.Int {
	if k < 0 || k > n {
		return new(big.Int)
	}
	return new(big.Int).Binomial(int64(n), int64(k))
}

// powerOfHalf is 2^−bits.
func powerOfHalf(bits int) *big.Rat {
	return new(big.Rat).SetFrac(big.NewInt(1), new(big.Int).Lsh(big.NewInt(1), uint(bits)))
}

// hypergeometric is Pr[lo ≤ X ≤ hi] where X of k members drawn from n are among m.
func hypergeometric(n, m, k, lo, hi int) *big.Rat {
	sum := new(big.Int)
	for i := max(lo, 0); i <= min(hi, k); i++ {
		sum.Add(sum, new(big.Int).Mul(choose(m, i), choose(n-m, k-i)))
	}
	return new(big.Rat).SetFrac(sum, choose(n, k))
}

// each is 2^−bits/n.
func (a *analysis) each(bits int) *big.Rat {
	return new(big.Rat).Quo(powerOfHalf(bits), big.NewRat(int64(a.n), 1))
}

func (a *analysis) connected(k int) bool {
	b := a.colluding + a.vanishing
	if b < k {
		return true
	}
	p := new(big.Rat).SetFrac(choose(a.n-k, b-k), choose(a.n, b))
	p.Mul(p, big.NewRat(int64(a.n)*int64(a.n-k-1), 2))
	return p.Cmp(powerOfHalf(a.sigma+1)) < 0
}

func (a *analysis) private(k, t int) bool {
	return hypergeometric(a.n, a.colluding, k, t, k).Cmp(a.each(a.sigma+1)) <= 0
}

func (a *analysis) correct(k, t int) bool {
	return hypergeometric(a.n, a.n-a.vanishing, k, 0, t-1).Cmp(a.each(a.eta)) <= 0
}

// threshold is the smallest t at k that is private.
func (a *analysis) threshold(k int) int {
	t := 1
	for !a.private(k, t) {
		t++
	}
	return t
}

// TestSearchExhaustive compares with a search through every k and t.
func TestSearchExhaustive(t *testing.T) {
	const seed = 11
	rng := rand.New(rand.NewPCG(seed, 0))
	found := 0
	for range 400 {
		n, corrupt, dropout := 1+rng.IntN(48), rng.IntN(5000), rng.IntN(5000)
		sigma, eta := rng.IntN(13), rng.IntN(13)
		a := analysis{n: n, colluding: n * corrupt / 10_000, vanishing: n * dropout / 10_000, sigma: sigma, eta: eta}
		wantK, wantT := 0, 0
		for k := 2; k < n-1 && wantK == 0; k += 2 {
			if threshold := a.threshold(k); a.connected(k) && a.correct(k, threshold) {
				wantK, wantT = k, threshold
			}
		}
		k, threshold, ok := Search(n, corrupt, dropout, sigma, eta)
		if k != wantK || threshold != wantT || ok != (wantK > 0) {
			t.Fatalf("seed %d: Search(%d, %d, %d, %d, %d) = %d, %d, %v; want %d, %d", seed, n, corrupt, dropout, sigma, eta, k, threshold, ok, wantK, wantT)
		}
		if ok {
			found++
		}
	}
	if found < 20 || found > 380 {
		t.Errorf("seed %d: %d of 400 searches found a graph: too one-sided to show anything", seed, found)
	}
}

// TestSearchConditions holds what is found in large rosters against the conditions,
// and the next smaller graph against them.
func TestSearchConditions(t *testing.T) {
	const seed = 12
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 20 {
		n, corrupt, dropout := 101+rng.IntN(1900), rng.IntN(3334), rng.IntN(3334)
		sigma, eta := []int{40, 60, 80, 100}[rng.IntN(4)], 10+rng.IntN(31)
		a := analysis{n: n, colluding: n * corrupt / 10_000, vanishing: n * dropout / 10_000, sigma: sigma, eta: eta}
		k, threshold, ok := Search(n, corrupt, dropout, sigma, eta)
		at := fmt.Sprintf("seed %d: Search(%d, %d, %d, %d, %d) = %d, %d, %v", seed, n, corrupt, dropout, sigma, eta, k, threshold, ok)
		switch {
		case !ok:
			t.Fatalf("%s; want a graph at such sizes", at)
		case k%2 != 0 || k < 2 || k >= n-1 || threshold < 1 || threshold > k:
			t.Fatalf("%s: out of bounds", at)
		case !a.connected(k):
			t.Fatalf("%s: not connected", at)
		case !a.private(k, threshold):
			t.Fatalf("%s: not private", at)
		case !a.correct(k, threshold):
			t.Fatalf("%s: not correct", at)
		case threshold > 1 && a.private(k, threshold-1):
			t.Fatalf("%s: private with a threshold less by one", at)
		}
		if k > 2 && a.connected(k-2) {
			less := threshold // the smaller graph's threshold is this or a little less
			for less > 1 && a.private(k-2, less-1) {
				less--
			}
			if a.correct(k-2, less) {
				t.Fatalf("%s: %d neighbours with a threshold of %d do", at, k-2, less)
			}
		}
	}
}

// roundFate is what became of one random round on a graph.
type roundFate struct{ parted, exposed, failed bool }

// playRound draws a graph, who colludes and who vanishes. The honest who stay are
// to be joined to one another, nobody to have a threshold of colluding neighbours,
// and everybody, also who vanished, a threshold of neighbours who stay.
func playRound(rng *rand.Rand, n, k, threshold, colluding, vanishing int) roundFate {
	var seed digest
	for i := range seed {
		seed[i] = byte(rng.Uint32())
	}
	g := newGraph(n, k, threshold, false, &seed)
	order := rng.Perm(n)
	colludes, vanishes := make([]bool, n), make([]bool, n)
	for _, place := range order[:colluding] {
		colludes[place] = true
	}
	for _, place := range order[colluding : colluding+vanishing] {
		vanishes[place] = true
	}
	var fate roundFate
	for place := range n {
		against, with := 0, 0
		for _, j := range g.neighbours(place) {
			if colludes[j] {
				against++
			}
			if !vanishes[j] {
				with++
			}
		}
		fate.exposed = fate.exposed || against >= threshold
		fate.failed = fate.failed || with < threshold
	}
	seen := make([]bool, n)
	reached, queue := 0, order[n-1:]
	seen[order[n-1]] = true
	for ; len(queue) > 0; reached++ {
		place := queue[0]
		queue = queue[1:]
		for _, j := range g.neighbours(place) {
			if !seen[j] && !colludes[j] && !vanishes[j] {
				seen[j] = true
				queue = append(queue, j)
			}
		}
	}
	fate.parted = reached < n-colluding-vanishing
	return fate
}

// TestSearchedRounds plays rounds with as many colluding and vanishing members as
// were planned for: all go well.
func TestSearchedRounds(t *testing.T) {
	const seed = 13
	rng := rand.New(rand.NewPCG(seed, 0))
	for _, p := range []struct{ n, corrupt, dropout, rounds int }{
		{101, 500, 500, 150}, {150, 1000, 3333, 100}, {200, 1000, 1000, 150}, {300, 3333, 3333, 40}, {1000, 1000, 1000, 40},
	} {
		k, threshold, ok := Search(p.n, p.corrupt, p.dropout, 80, 30)
		if !ok {
			t.Fatalf("no graph for %+v", p)
		}
		for i := range p.rounds {
			if fate := playRound(rng, p.n, k, threshold, p.n*p.corrupt/10_000, p.n*p.dropout/10_000); fate != (roundFate{}) {
				t.Fatalf("seed %d: round %d of %+v with %d neighbours, threshold %d: %+v", seed, i, p, k, threshold, fate)
			}
		}
	}
}

// TestSearchedOdds asks for so little certainty that things go wrong now and then,
// and no more often than was asked for.
func TestSearchedOdds(t *testing.T) {
	const (
		seed   = 14
		rounds = 1000
		n      = 120
	)
	rng := rand.New(rand.NewPCG(seed, 0))
	var ever roundFate
	for _, p := range []struct {
		corrupt, dropout, sigma, eta int
	}{{1000, 1000, 2, 3}, {1000, 3000, 3, 2}, {2500, 2500, 2, 2}, {0, 3500, 2, 0}} {
		k, threshold, ok := Search(n, p.corrupt, p.dropout, p.sigma, p.eta)
		if !ok {
			t.Fatalf("no graph for %+v", p)
		}
		var parted, exposed, failed float64
		for range rounds {
			fate := playRound(rng, n, k, threshold, n*p.corrupt/10_000, n*p.dropout/10_000)
			for count, is := range map[*float64]bool{&parted: fate.parted, &exposed: fate.exposed, &failed: fate.failed} {
				if is {
					*count += 1. / rounds
				}
			}
		}
		security, success := 1/float64(int(2)<<p.sigma), 1/float64(int(1)<<p.eta)
		t.Logf("%+v: k %d, t %d: parted %.3f, exposed %.3f of at most %.3f, failed %.3f of at most %.3f", p, k, threshold, parted, exposed, security, failed, success)
		// Three standard deviations of a thousand rounds are less than 0.04.
		if parted > security+0.04 || exposed > security+0.04 || failed > success+0.04 {
			t.Errorf("seed %d: worse than was asked for: %+v", seed, p)
		}
		ever = roundFate{ever.parted || parted > 0, ever.exposed || exposed > 0, ever.failed || failed > 0}
	}
	if !ever.parted || !ever.exposed || !ever.failed {
		t.Errorf("seed %d: something never went wrong, which shows nothing: %+v", seed, ever)
	}
}

func BenchmarkSearch(b *testing.B) {
	for _, c := range []struct{ n, parts int }{{1000, 1000}, {2000, 3333}} {
		b.Run(fmt.Sprintf("n=%d/of10000=%d", c.n, c.parts), func(b *testing.B) {
			for b.Loop() {
				if _, _, ok := Search(c.n, c.parts, c.parts, 80, 30); !ok {
					b.Fatal("no graph")
				}
			}
		})
	}
}
