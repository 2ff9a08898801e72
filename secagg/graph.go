package secagg

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"slices"
	"sync/atomic"
)

// graph is who masks with whom: the members of a roster on a circle whose order is
// drawn from a seed, each a neighbour of the k/2 before it and the k/2 after it.
// That is the graph of Bell et al. 2020 (eprint 2020/704), a Harary
// graph under a random permutation; what Search counts holds for it. On a complete
// graph everybody neighbours everybody, and the circle only says which end of an
// edge encapsulates. A graph is safe for concurrent use.
type graph struct {
	n, k      int   // members, neighbours of each
	threshold int   // shares of a member's secret that give it back
	complete  bool  // k is n−1
	position  []int // of each roster place on the circle
	order     []int // roster place at each position
	cache     []atomic.Pointer[[]int]
}

// newGraph is the graph of n members with k neighbours each, k even and below n−1;
// a complete graph is told apart by complete, and its k is n−1 whatever is given.
func newGraph(n, k, t int, complete bool, seed *digest) *graph {
	if complete {
		k = n - 1
	}
	g := &graph{
		n: n, k: k, threshold: t, complete: complete,
		order: permutation(n, seed), position: make([]int, n),
		cache: make([]atomic.Pointer[[]int], n),
	}
	for at, place := range g.order {
		g.position[place] = at
	}
	return g
}

// neighbours lists the places that mask with place, in ascending order and without
// itself. The list is shared: it is not to be changed.
func (g *graph) neighbours(place int) []int {
	if known := g.cache[place].Load(); known != nil {
		return *known
	}
	list := make([]int, 0, g.k)
	if g.complete {
		for other := range g.n {
			if other != place {
				list = append(list, other)
			}
		}
	} else {
		for d := 1; d <= g.k/2; d++ {
			list = append(list, g.order[(g.position[place]+d)%g.n], g.order[(g.position[place]+g.n-d)%g.n])
		}
		slices.Sort(list)
	}
	g.cache[place].Store(&list)
	return list
}

// slot is the index of neighbour in neighbours(of), −1 where it is none.
func (g *graph) slot(of, neighbour int) int {
	if !g.complete {
		// Most pairs of a sparse graph are none, which the circle tells at once.
		if ahead := g.ahead(of, neighbour); ahead > g.k/2 && g.n-ahead > g.k/2 {
			return -1
		}
		if i, found := slices.BinarySearch(g.neighbours(of), neighbour); found {
			return i
		}
		return -1
	}
	switch {
	case neighbour < of:
		return neighbour
	case neighbour > of:
		return neighbour - 1
	}
	return -1
}

// encapsulates tells whether, of two neighbours, from is the end that encapsulates
// to the other's key: the one from which the other lies at most half the circle
// ahead. Of the pairs that lie exactly opposite, which a complete graph of even n
// has, it is the end at the lower position. It is false where the two are no
// neighbours.
func (g *graph) encapsulates(from, to int) bool {
	ahead := g.ahead(from, to)
	switch {
	case ahead == 0:
		return false
	case g.complete && 2*ahead == g.n:
		return g.position[from] < g.position[to]
	}
	return ahead <= g.k/2
}

// leastApart is the fewest of the chosen members that two runs of k/2 places on the
// circle have together, with at least one place between them on either side. Without
// them the circle would fall into two parts with no edge between. It is for sparse
// graphs.
func (g *graph) leastApart(chosen bitmap) int {
	h := g.k / 2
	runs := make([]int, g.n) // chosen at positions p to p+h−1, for each p
	for d := range h {
		if chosen.has(g.order[d]) {
			runs[0]++
		}
	}
	for p := 1; p < g.n; p++ {
		runs[p] = runs[p-1]
		if chosen.has(g.order[p-1]) {
			runs[p]--
		}
		if chosen.has(g.order[(p+h-1)%g.n]) {
			runs[p]++
		}
	}
	least := g.k
	for p := range g.n {
		for q := p + h + 1; q < min(g.n, p+g.n-h); q++ {
			least = min(least, runs[p]+runs[q])
		}
	}
	return least
}

// ahead is how many steps to lies ahead of from on the circle, 0 to n−1.
func (g *graph) ahead(from, to int) int {
	return (g.position[to] - g.position[from] + g.n) % g.n
}

// permutation shuffles the places 0 to n−1 by the seed (Fisher and Yates, Durstenfeld's
// form): from the last position down, each is swapped with one drawn from
// those up to and including itself.
func permutation(n int, seed *digest) []int {
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	d := newDraws(seed)
	for i := n - 1; i > 0; i-- {
		j := d.below(uint32(i + 1))
		order[i], order[j] = order[j], order[i]
	}
	return order
}

// draws is a stream of random words from a public seed: the key stream of AES-256
// in counter mode from block 0, laid out as a mask's is.
type draws struct {
	stream cipher.Stream
	buffer [1024]byte
	rest   []byte // of buffer
}

func newDraws(seed *digest) *draws {
	block, err := aes.NewCipher(seed[:])
	if err != nil {
		panic(err) // the key has 32 bytes
	}
	return &draws{stream: cipher.NewCTR(block, make([]byte, aes.BlockSize))}
}

func (d *draws) word() uint32 {
	if len(d.rest) == 0 {
		clear(d.buffer[:])
		d.stream.XORKeyStream(d.buffer[:], d.buffer[:])
		d.rest = d.buffer[:]
	}
	w := binary.LittleEndian.Uint32(d.rest)
	d.rest = d.rest[4:]
	return w
}

// below draws a number below m, each as likely as any other: words past the last
// whole multiple of m are passed over.
func (d *draws) below(m uint32) uint32 {
	whole := 1 << 32 / uint64(m) * uint64(m)
	for {
		if w := d.word(); uint64(w) < whole {
			return w % m
		}
	}
}
