package secagg

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// naiveStream is the first words of a key stream as docs/protocol.md words it.
func naiveStream(key digest, words int) []uint32 {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err)
	}
	b := make([]byte, 4*words)
	cipher.NewCTR(block, make([]byte, aes.BlockSize)).XORKeyStream(b, b)
	out := make([]uint32, words)
	for i := range out {
		out[i] = binary.LittleEndian.Uint32(b[4*i:])
	}
	return out
}

// naiveMask is the mask as docs/protocol.md words it, from its first element on.
func naiveMask(key digest, bits, elements int) []uint32 {
	rows := 0
	if bits < 32 {
		for rows = 1; rows*(32-bits) < bits; rows++ {
		}
	}
	ring, group := uint32(1<<bits-1), 16*(rows+1)
	if rows == 0 {
		rows = 1 // each word is an element, and a group has no other
	}
	stream := naiveStream(key, (elements/group+1)*16*rows)
	out := make([]uint32, elements)
	for i := range out {
		g, row, column := i/group, i%group/16, i%16
		if row < rows {
			out[i] = stream[(g*rows+row)*16+column] & ring
			continue
		}
		for r := range rows {
			out[i] |= stream[(g*rows+r)*16+column] >> bits << (r * (32 - bits)) & ring
		}
	}
	return out
}

// testMasks is count masks, every third subtracted, and their sum.
func testMasks(count, bits, elements int) (*maskSet, []uint32) {
	m, sum := &maskSet{bits: bits}, make([]uint32, elements)
	for i := range count {
		key := hash("test mask", []byte{byte(i)})
		m.add(&key, i%3 == 1)
		if mask := naiveMask(key, bits, elements); i%3 == 1 {
			sub(sum, mask)
		} else {
			add(sum, mask)
		}
	}
	return m, inRing(sum, bits)
}

// inRing clears what stands above the ring's bits.
func inRing(words []uint32, bits int) []uint32 {
	for i := range words {
		words[i] &= 1<<bits - 1
	}
	return words
}

func TestMasksInRanges(t *testing.T) {
	for _, tc := range []struct{ bits, elements int }{
		{26, tileElements + 6*chunkWords + 77}, {23, tileElements + 77}, {32, tileElements + 3*chunkWords + 77},
		{1, 3000}, {10, 3000}, {16, 3000}, {17, 3000}, {24, 3000}, {29, 3000}, {30, 3000}, {31, 3000},
	} {
		rng := rand.New(rand.NewPCG(3, uint64(tc.bits)))
		for _, count := range []int{1, 3, 7, 8, 9, 16, 21} {
			m, want := testMasks(count, tc.bits, tc.elements)
			whole := make([]uint32, tc.elements)
			m.apply(whole, 0)
			if !slices.Equal(whole, want) {
				t.Fatalf("%d masks of %d bits at once differ from the streams", count, tc.bits)
			}
			pieces := make([]uint32, tc.elements+1)[1:] // not aligned to 8 bytes
			for lo := 0; lo < tc.elements; {
				hi := min(tc.elements, lo+1+rng.IntN(1+tc.elements/9))
				m.apply(pieces[lo:hi], lo)
				lo = hi
			}
			if !slices.Equal(pieces, want) {
				t.Fatalf("%d masks of %d bits in ranges differ from the streams", count, tc.bits)
			}
		}
	}
}

// TestMasksOfAllLengths takes every width and every way that a range may begin and end in
// a group.
func TestMasksOfAllLengths(t *testing.T) {
	for bits := 1; bits <= 32; bits++ {
		l := layoutOf(bits)
		n := 2*l.elements + 3
		m, want := testMasks(3, bits, n)
		for lo := 0; lo < n; lo += 1 + lo%29 {
			for hi := lo; hi <= n; hi += 1 + hi%31 {
				v := make([]uint32, n)
				for i := range v {
					v[i] = math.MaxUint32 << bits // above the ring, where nothing counts
				}
				m.apply(v[lo:hi], lo)
				if !slices.Equal(v[lo:hi], want[lo:hi]) {
					t.Fatalf("%d bits: elements %d to %d differ from the streams", bits, lo, hi)
				}
			}
		}
	}
}

// TestMaskExample is the example of docs/protocol.md.
func TestMaskExample(t *testing.T) {
	m, v, key := &maskSet{bits: 26}, make([]uint32, 100), digest{}
	for i := range key {
		key[i] = byte(i)
	}
	m.add(&key, false)
	m.apply(v, 0)
	for at, want := range map[int]uint32{3: 0x0772edd, 19: 0x269cec1, 35: 0x1ba2483, 51: 0x2ea0a3c, 67: 0x1d07b68, 83: 0x3d574e0} {
		if v[at] != want {
			t.Errorf("element %d is %07x, want %07x", at, v[at], want)
		}
	}
	if word := naiveStream(key, 84)[83]; v[99] != word&(1<<26-1) {
		t.Errorf("element 99 is %07x, want the low bits of %08x", v[99], word)
	}
}

// TestAddGroups holds the pass over all chunks, at either alignment and with words at
// both ends of their range so that every carry happens, to one addition after another.
func TestAddGroups(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 0))
	extreme := func() uint32 { return []uint32{0, 1, math.MaxUint32, 1 << 31, rng.Uint32()}[rng.IntN(5)] }
	for range 2000 {
		bits, count, from := 1+rng.IntN(32), 1+rng.IntN(lanes), rng.IntN(4)
		l := layoutOf(bits)
		groups := 1 + rng.IntN(chunkWords/l.words())
		n := groups * l.elements
		s, v := new(scratch), make([]uint32, n+8)
		for i := range v {
			v[i] = extreme()
		}
		want := slices.Clone(v)
		for lane := range lanes {
			for i := range groups * l.words() {
				w := extreme()
				binary.LittleEndian.PutUint32(s.lane[lane][4*i:], w)
				if lane >= count {
					continue
				}
				row, column := i/rowWords%l.rows, i%rowWords
				group := want[from+i/l.words()*l.elements:]
				group[row*rowWords+column] += w
				if bits < 32 {
					group[l.words()+column] += w >> bits << (row * (32 - bits))
				}
			}
		}
		addGroups(v[from:from+n], s, count, &l)
		if inRing(v, bits); !slices.Equal(v, inRing(want, bits)) {
			t.Fatalf("%d groups of %d bits from %d on, %d chunks: %x, want %x", groups, bits, from, count, v, want)
		}
	}
}

// TestMaskSetWipe: no key stays behind, neither where the set grew nor where it was.
func TestMaskSetWipe(t *testing.T) {
	m, old := &maskSet{bits: 32}, [][]digest{}
	for i := range 5 * lanes {
		key := hash("test mask", []byte{byte(i)})
		m.add(&key, false)
		old = append(old, m.keys[:1:1])
	}
	last := m.keys
	m.wipe()
	if m.count() != 0 || m.keys != nil {
		t.Errorf("%d masks after wipe", m.count())
	}
	for _, keys := range append(old, last) {
		for _, key := range keys {
			if key != (digest{}) {
				t.Fatalf("a key is still in memory after wipe")
			}
		}
	}
}

// TestMaskedLooksUniform holds masked vectors of nothing and of all that a word can be
// to one and the same test: one alone tells nothing of its input.
func TestMaskedLooksUniform(t *testing.T) {
	for _, keys := range []KeyExchange{Hybrid, Classical} {
		for name, value := range map[string]uint32{"zeros": 0, "largest": math.MaxUint32} {
			r := toShares(t, 300, 3, func(p *Params) { p.Length, p.Keys = 1<<16, keys })
			v := slices.Repeat([]uint32{value}, r.params.Length)
			if worst, _ := chiSquare(v, r.params.RingBits/8); worst < 1e6 {
				t.Errorf("%s: the test takes a vector without masks for uniform (%.0f)", name, worst)
			}
			m, _, err := r.devices[0].shared.Open(r.devices[0].inbox)
			r.must(err)
			m.Mask(v, 0, len(v))
			// 255 degrees of freedom: mean 255, deviation 22.6; 400 is over six
			// deviations away. The seed is fixed, so this does not flicker.
			if most, least := chiSquare(v, r.params.RingBits/8); most > 400 || least < 130 {
				t.Errorf("%v, %s: chi-square %.0f to %.0f, want about 255", keys, name, least, most)
			}
		}
	}
}

// chiSquare is the largest and the smallest chi-square against uniform bytes, over the
// low bytes of the words and of the differences between one word and the next.
func chiSquare(v []uint32, bytes int) (most, least float64) {
	least = math.Inf(1)
	for b := range bytes {
		var count [2][256]int
		for i, w := range v {
			count[0][byte(w>>(8*b))]++
			count[1][byte((v[(i+1)%len(v)]-w)>>(8*b))]++
		}
		for _, list := range count {
			chi, expected := 0.0, float64(len(v))/256
			for _, c := range list {
				chi += (float64(c) - expected) * (float64(c) - expected) / expected
			}
			most, least = max(most, chi), min(least, chi)
		}
	}
	return most, least
}

// TestMaskRefuses: masks hide one vector once.
func TestMaskRefuses(t *testing.T) {
	fresh := func() *Masking {
		r := newRig(t, 301, 3)
		r.must(r.advertise(r.all()))
		r.must(r.share(r.all()))
		m, _, err := r.devices[0].shared.Open(r.devices[0].inbox)
		r.must(err)
		return m
	}
	v := make([]uint32, testLength)
	for name, misuse := range map[string]func(m *Masking){
		"a word twice":        func(m *Masking) { m.Mask(v, 0, 40); m.Mask(v, 39, 41) },
		"inside":              func(m *Masking) { m.Mask(v, 0, 40); m.Mask(v, 10, 11) },
		"short vector":        func(m *Masking) { m.Mask(v[:66], 0, 66) },
		"past the end":        func(m *Masking) { m.Mask(v, 60, 68) },
		"backwards":           func(m *Masking) { m.Mask(v, 5, 4) },
		"Done half-way":       func(m *Masking) { m.Mask(v, 0, 66); m.Done() },
		"after Done":          func(m *Masking) { m.Mask(v, 0, 67); m.Done(); m.Mask(v, 0, 0) },
		"Done twice":          func(m *Masking) { m.Mask(v, 0, 67); m.Done(); m.Done() },
		"after Wipe":          func(m *Masking) { m.Wipe(); m.Mask(v, 0, 67) },
		"Done without a mask": func(m *Masking) { m.Done() },
	} {
		t.Run(name, func(t *testing.T) {
			m := fresh()
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			misuse(m)
		})
	}
}

func TestSpans(t *testing.T) {
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 0))
		var s spans
		var taken [40]bool
		total := 0
		for range 60 {
			lo := rng.IntN(40)
			hi := lo + rng.IntN(min(8, 41-lo))
			free := !slices.Contains(taken[lo:hi], true)
			if got := s.add(lo, hi); got != free {
				t.Fatalf("seed %d: [%d,%d) into %v: %v, want %v", seed, lo, hi, s, got, free)
			}
			if free {
				total += hi - lo
				for i := lo; i < hi; i++ {
					taken[i] = true
				}
			}
			if s.words() != total {
				t.Fatalf("seed %d: %v has %d words, want %d", seed, s, s.words(), total)
			}
		}
	}
}

// TestMaskAllocations: a tile's chunks after the first allocate nothing.
func TestMaskAllocations(t *testing.T) {
	m, _ := testMasks(8, 26, 1)
	count := func(words int) float64 {
		v := make([]uint32, words)
		return testing.AllocsPerRun(5, func() { m.apply(v, 0) })
	}
	if one, many := count(chunkWords), count(20*chunkWords); one != many {
		t.Errorf("%v allocations for one chunk and %v for twenty, want the same", one, many)
	}
}

// BenchmarkMaskRange is beside BenchmarkKeyStream, which is what it cannot go below.
func BenchmarkMaskRange(b *testing.B) {
	const elements = 1_000_000
	for _, bits := range []int{22, 24, 32} { // of 100 devices, of 1,000, and all
		for _, count := range []int{1, 10, 100, 1000} {
			b.Run(fmt.Sprintf("bits=%d/masks=%d", bits, count), func(b *testing.B) {
				m, _ := testMasks(count, bits, 1)
				v := make([]uint32, elements)
				b.SetBytes(4 * elements * int64(count))
				b.ReportAllocs()
				for b.Loop() {
					m.apply(v, 0)
				}
				b.ReportMetric(b.Elapsed().Seconds()*1e3/float64(b.N)/float64(count), "ms/mask")
			})
		}
	}
}

func BenchmarkKeyStream(b *testing.B) {
	const words = 1_000_000
	block, err := aes.NewCipher(make([]byte, 32))
	if err != nil {
		b.Fatal(err)
	}
	stream, out := cipher.NewCTR(block, make([]byte, aes.BlockSize)), make([]byte, len(zeros))
	b.SetBytes(4 * words)
	for b.Loop() {
		for lo := 0; lo < 4*words; lo += len(out) {
			stream.XORKeyStream(out, zeros[:])
		}
	}
	b.ReportMetric(b.Elapsed().Seconds()*1e3/float64(b.N), "ms/mask")
}
