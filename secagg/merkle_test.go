package secagg

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
)

// numberedLeaves is n leaves, each unlike the others and the padding.
func numberedLeaves(n int) []digest {
	leaves := make([]digest, n)
	for i := range leaves {
		binary.BigEndian.PutUint32(leaves[i][:], uint32(i+1))
	}
	return leaves
}

// drawChosen chooses about share of n leaves, and gives their places and
// themselves.
func drawChosen(rng *rand.Rand, leaves []digest, share float64) (bitmap, []digest) {
	chosen := newBitmap(len(leaves))
	var list []digest
	for i, leaf := range leaves {
		if rng.Float64() < share {
			chosen.set(i)
			list = append(list, leaf)
		}
	}
	return chosen, list
}

// definedProof is the proof by its definition, level by level: roots of subtrees
// with a leaf that is no padding and none that is chosen, below a subtree that has
// a chosen one or below nothing; sorted by where they begin.
func definedProof(leaves []digest, chosen bitmap) []digest {
	t, n := newTree(leaves), len(leaves)
	has := func(level, i int) bool {
		for place := i << level; place < min(n, (i+1)<<level); place++ {
			if chosen.has(place) {
				return true
			}
		}
		return false
	}
	type found struct {
		from int
		root digest
	}
	var all []found
	for level := range t {
		for i := range t[level] {
			top := level == len(t)-1
			if i<<level < n && !has(level, i) && (top || has(level+1, i/2)) {
				all = append(all, found{i << level, t[level][i]})
			}
		}
	}
	slices.SortFunc(all, func(a, b found) int { return a.from - b.from })
	var proof []digest
	for _, f := range all {
		proof = append(proof, f.root)
	}
	return proof
}

func TestProofs(t *testing.T) {
	const seed = 21
	rng := rand.New(rand.NewPCG(seed, 0))
	for n := 1; n <= 130; n++ {
		leaves := numberedLeaves(n)
		tree := newTree(leaves)
		for _, share := range []float64{0, 0.02, 0.1, 0.5, 0.9, 1, rng.Float64()} {
			chosen, list := drawChosen(rng, leaves, share)
			proof := tree.proof(n, chosen)
			if want := definedProof(leaves, chosen); !slices.Equal(proof, want) {
				t.Fatalf("seed %d: proof of %v of %d:\n got %x\nwant %x", seed, chosen.places(), n, proof, want)
			}
			if size := proofSize(n, chosen); size != len(proof) {
				t.Fatalf("seed %d: proof of %v of %d has %d hashes, proofSize says %d", seed, chosen.places(), n, len(proof), size)
			}
			root, err := rootFrom(n, chosen, list, proof)
			if err != nil || root != tree.root() {
				t.Fatalf("seed %d: %v of %d give root %x, %v; want %x", seed, chosen.places(), n, root, err, tree.root())
			}
		}
	}
}

// TestProofOfARound is at the sizes of a large round: a device checks its
// neighbours' messages against the roots of everybody.
func TestProofOfARound(t *testing.T) {
	const seed = 22
	rng := rand.New(rand.NewPCG(seed, 0))
	for _, n := range []int{1000, 2000, 16_384, 20_000} {
		leaves := numberedLeaves(n)
		tree := newTree(leaves)
		chosen, list := drawChosen(rng, leaves, 72/float64(n))
		proof := tree.proof(n, chosen)
		root, err := rootFrom(n, chosen, list, proof)
		if err != nil || root != tree.root() {
			t.Fatalf("seed %d: %d of %d give root %x, %v; want %x", seed, len(list), n, root, err, tree.root())
		}
		if paths := len(list) * depth(n); len(proof) >= paths {
			t.Errorf("seed %d: proof of %d of %d has %d hashes, as many paths %d", seed, len(list), n, len(proof), paths)
		}
	}
}

// TestProofOfOne has the hashes of the leaf's path: those to its left from the
// root down, then those to its right upwards.
func TestProofOfOne(t *testing.T) {
	for _, n := range []int{1, 2, 8, 64} {
		leaves := numberedLeaves(n)
		tree := newTree(leaves)
		for i := range n {
			chosen := newBitmap(n)
			chosen.set(i)
			path := tree.path(i)
			var left, right []digest
			for level := 0; len(path) > 0; level++ {
				if i>>level&1 == 1 {
					left = append([]digest{digest(path[:32])}, left...)
				} else {
					right = append(right, digest(path[:32]))
				}
				path = path[32:]
			}
			if got, want := tree.proof(n, chosen), append(left, right...); !slices.Equal(got, want) {
				t.Fatalf("proof of %d of %d:\n got %x\nwant %x", i, n, got, want)
			}
			if got := rootOf(leaves[i], i, tree.path(i)); got != tree.root() {
				t.Fatalf("path of %d of %d gives %x, want %x", i, n, got, tree.root())
			}
		}
	}
}

func TestProofRefused(t *testing.T) {
	const n = 13
	leaves := numberedLeaves(n)
	chosen := newBitmap(n)
	for _, place := range []int{0, 3, 4, 12} {
		chosen.set(place)
	}
	list := []digest{leaves[0], leaves[3], leaves[4], leaves[12]}
	proof := newTree(leaves).proof(n, chosen)
	past := slices.Clone(chosen)
	past.set(n) // a place of the padding
	longer := append(slices.Clone(chosen), 1)
	for _, test := range []struct {
		name          string
		n             int
		chosen        bitmap
		leaves, proof []digest
	}{
		{"a hash missing", n, chosen, list, proof[1:]},
		{"no proof", n, chosen, list, nil},
		{"a hash too many", n, chosen, list, append(slices.Clone(proof), digest{})},
		{"a leaf missing", n, chosen, list[1:], proof},
		{"no leaves", n, chosen, nil, proof},
		{"a leaf too many", n, chosen, append(slices.Clone(list), leaves[5]), proof},
		{"a leaf for a hash", n, chosen, append(slices.Clone(list), proof[0]), proof[1:]},
		{"a place past the leaves", n, past, append(slices.Clone(list), digest{}), proof},
		{"a place past the tree", n, longer, append(slices.Clone(list), digest{}), proof},
		{"fewer leaves in the tree", 9, chosen, list, proof},
		{"an empty tree", 0, newBitmap(0), nil, nil},
		{"a tree of less than nothing", -1, newBitmap(0), nil, nil},
	} {
		if root, err := rootFrom(test.n, test.chosen, test.leaves, test.proof); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: got root %x, %v; want ErrMalformed", test.name, root, err)
		}
	}
}

// TestProofTampered: another leaf, another hash, two of them swapped, or other
// places give another root.
func TestProofTampered(t *testing.T) {
	const seed = 23
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 60 {
		n := 2 + rng.IntN(60)
		leaves := numberedLeaves(n)
		tree := newTree(leaves)
		chosen, list := drawChosen(rng, leaves, rng.Float64())
		proof := tree.proof(n, chosen)
		wrong := func(what string, chosen bitmap) {
			t.Helper()
			if root, err := rootFrom(n, chosen, list, proof); err == nil && root == tree.root() {
				t.Fatalf("seed %d: %v of %d: %s gives the same root", seed, chosen.places(), n, what)
			}
		}
		for _, part := range [][]digest{list, proof} {
			for i := range part {
				bit := byte(1) << rng.IntN(8)
				at := rng.IntN(32)
				part[i][at] ^= bit
				wrong("a changed bit", chosen)
				part[i][at] ^= bit
				if i > 0 {
					part[i], part[i-1] = part[i-1], part[i]
					wrong("a swap", chosen)
					part[i], part[i-1] = part[i-1], part[i]
				}
			}
		}
		for place := range n {
			other := slices.Clone(chosen)
			other[place/8] ^= 1 << (place % 8)
			wrong("another choice", other)
			if len(list) > 0 && !chosen.has(place) {
				moved := slices.Clone(other)
				from := chosen.places()[0]
				moved[from/8] ^= 1 << (from % 8)
				wrong("a moved place", moved)
			}
		}
	}
}

// FuzzRootFrom takes a choice, leaves and a proof from the fuzzer. Whatever leads
// to the root of the real tree has that tree's leaves in it.
func FuzzRootFrom(f *testing.F) {
	flat := func(list []digest) []byte {
		var b []byte
		for _, d := range list {
			b = append(b, d[:]...)
		}
		return b
	}
	rng := rand.New(rand.NewPCG(24, 0))
	for _, n := range []int{1, 2, 3, 8, 9, 31, 100} {
		leaves := numberedLeaves(n)
		for _, share := range []float64{0, 0.3, 1} {
			chosen, list := drawChosen(rng, leaves, share)
			proof := newTree(leaves).proof(n, chosen)
			f.Add(uint8(n), []byte(chosen), flat(list), flat(proof))
			f.Add(uint8(n+1), []byte(chosen), flat(list), flat(proof))
			f.Add(uint8(n), append([]byte(chosen), 0x80), flat(list), flat(proof))
		}
	}
	cut := func(b []byte) []digest {
		var list []digest
		for ; len(b) >= len(digest{}); b = b[len(digest{}):] {
			list = append(list, digest(b[:len(digest{})]))
		}
		return list
	}
	f.Fuzz(func(t *testing.T, size uint8, choice, leafBytes, proofBytes []byte) {
		n, chosen := int(size), bitmap(choice)
		list, proof := cut(leafBytes), cut(proofBytes)
		root, err := rootFrom(n, chosen, list, proof)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatalf("%v, want ErrMalformed", err)
			}
			return
		}
		leaves := numberedLeaves(n)
		if root != newTree(leaves).root() {
			return
		}
		for i, place := range chosen.places() {
			if list[i] != leaves[place] {
				t.Errorf("leaf %d of %d is %x, and yet the root is right", place, n, list[i])
			}
		}
	})
}

func BenchmarkRootFrom(b *testing.B) {
	const n = 2000
	leaves := numberedLeaves(n)
	chosen, list := drawChosen(rand.New(rand.NewPCG(25, 0)), leaves, 76./n)
	proof := newTree(leaves).proof(n, chosen)
	for b.Loop() {
		if _, err := rootFrom(n, chosen, list, proof); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(proof)), "hashes")
}
