package secagg

import "math/bits"

// A sender signs all its sealed shares at once, as the root of a tree with a leaf
// for every roster place, and each recipient gets its leaf's path. The server then
// checks one signature for a sender and not one for every pair.

// depth is the length of a path in a tree of n leaves.
func depth(n int) int { return bits.Len(uint(n - 1)) }

// tree holds the levels from the leaves (padded with zeros to a power of two) to
// the root.
type tree [][]digest

func newTree(leaves []digest) tree {
	level := make([]digest, 1<<depth(len(leaves)))
	copy(level, leaves)
	t := tree{level}
	for len(level) > 1 {
		next := make([]digest, len(level)/2)
		for i := range next {
			next[i] = node(&level[2*i], &level[2*i+1])
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
	p := make([]byte, 0, (len(t)-1)*len(digest{}))
	for _, level := range t[:len(t)-1] {
		p = append(p, level[i^1][:]...)
		i >>= 1
	}
	return p
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
