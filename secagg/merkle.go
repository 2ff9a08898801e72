package secagg

import (
	"fmt"
	"math/bits"
)

// A sender signs all its sealed shares at once, as the root of a tree with a leaf
// for every roster place, and each recipient gets its leaf's path, or for many
// leaves one proof of them all. The server then checks one signature for a sender
// and not one for every pair.

// depth is the length of a path in a tree of n leaves.
func depth(n int) int { return bits.Len(uint(n - 1)) }

// tree holds the levels from the leaves (padded with zeros to a power of two) to
// the root.
type tree [][]digest

// nodes is how a tree's nodes are made of the two below them.
type nodes func(left, right *digest) digest

func newTree(leaves []digest) tree { return nodes(node).tree(leaves) }

func (join nodes) tree(leaves []digest) tree {
	level := make([]digest, 1<<depth(len(leaves)))
	copy(level, leaves)
	t := tree{level}
	for len(level) > 1 {
		next := make([]digest, len(level)/2)
		for i := range next {
			next[i] = join(&level[2*i], &level[2*i+1])
		}
		t = append(t, next)
		level = next
	}
	return t
}

func node(left, right *digest) digest { return hash(labelNode, left[:], right[:]) }

func (t tree) root() digest { return t[len(t)-1][0] }

// path is the siblings from the leaf at place i upwards.
func (t tree) path(i int) []byte {
	return t.appendPath(make([]byte, 0, (len(t)-1)*len(digest{})), i)
}

func (t tree) appendPath(b []byte, i int) []byte {
	for _, level := range t[:len(t)-1] {
		b = append(b, level[i^1][:]...)
		i >>= 1
	}
	return b
}

// rootOf is the root to which a leaf at place i with this path belongs.
func rootOf(leaf digest, i int, path []byte) digest {
	for ; len(path) > 0; path = path[len(digest{}):] {
		sibling := digest(path[:len(digest{})])
		if i&1 == 0 {
			leaf = node(&leaf, &sibling)
		} else {
			leaf = node(&sibling, &leaf)
		}
		i >>= 1
	}
	return leaf
}

// proof is the hashes that, with the chosen of the tree's n leaves, give its root:
// the root of every largest subtree that holds none of them, from left to right.
// Subtrees of nothing but padding are left out, as their roots are no secret.
func (t tree) proof(n int, chosen bitmap) []digest {
	p := make([]digest, 0, proofSize(n, chosen))
	w := unchosen{n: n, places: chosen.places(), visit: func(level, i int) {
		p = append(p, t[level][i])
	}}
	w.walk(depth(n), 0)
	return p
}

// proofSize is the number of hashes in the proof of the chosen of n leaves.
func proofSize(n int, chosen bitmap) int {
	size := 0
	w := unchosen{n: n, places: chosen.places(), visit: func(int, int) { size++ }}
	w.walk(depth(n), 0)
	return size
}

// unchosen visits the roots of a proof.
type unchosen struct {
	n      int
	places []int // chosen ones from where the walk stands
	visit  func(level, i int)
}

// walk goes through the subtree whose root is number i of its level.
func (u *unchosen) walk(level, i int) {
	switch {
	case i<<level >= u.n:
	case len(u.places) == 0 || u.places[0] >= (i+1)<<level:
		u.visit(level, i)
	case level == 0:
		u.places = u.places[1:]
	default:
		u.walk(level-1, 2*i)
		u.walk(level-1, 2*i+1)
	}
}

// rootFrom is the root of the tree of n leaves to which the chosen leaves, in order
// of place, and their proof belong; ErrMalformed where either is not as long as
// it has to be or a place past the n is chosen. With nothing chosen the proof is
// the root.
func rootFrom(n int, chosen bitmap, leaves, proof []digest) (digest, error) {
	return nodes(node).rootFrom(n, chosen, leaves, proof)
}

func (join nodes) rootFrom(n int, chosen bitmap, leaves, proof []digest) (digest, error) {
	places := chosen.places()
	if n < 1 || len(places) > 0 && places[len(places)-1] >= n {
		return digest{}, fmt.Errorf("%w: proof of leaves past the %d there are", ErrMalformed, n)
	}
	if len(leaves) != len(places) {
		return digest{}, fmt.Errorf("%w: %d leaves, want %d", ErrMalformed, len(leaves), len(places))
	}
	if want := proofSize(n, chosen); len(proof) != want {
		return digest{}, fmt.Errorf("%w: proof of %d hashes for %d of %d leaves, want %d", ErrMalformed, len(proof), len(places), n, want)
	}
	p := prover{join: join, n: n, places: places, leaves: leaves, proof: proof, padding: make([]digest, depth(n))}
	for level := 1; level < depth(n); level++ {
		p.padding[level] = join(&p.padding[level-1], &p.padding[level-1])
	}
	return p.root(depth(n), 0), nil
}

// prover consumes leaves and a proof of the sizes that fit the places.
type prover struct {
	join          nodes
	n             int
	places        []int
	leaves, proof []digest
	padding       []digest // root of a subtree of padding, at every level below the tree's own root
}

// root is the root of the subtree that unchosen.walk goes through.
func (p *prover) root(level, i int) digest {
	take := func(list *[]digest) digest {
		first := (*list)[0]
		*list = (*list)[1:]
		return first
	}
	switch {
	case i<<level >= p.n:
		return p.padding[level]
	case len(p.places) == 0 || p.places[0] >= (i+1)<<level:
		return take(&p.proof)
	case level == 0:
		p.places = p.places[1:]
		return take(&p.leaves)
	}
	left := p.root(level-1, 2*i)
	right := p.root(level-1, 2*i+1)
	return p.join(&left, &right)
}
