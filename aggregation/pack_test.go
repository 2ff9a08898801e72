package aggregation

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func TestPackedWordsComeBack(t *testing.T) {
	const seed = 5
	source := rand.New(rand.NewPCG(seed, 2))
	for bits := 1; bits <= 32; bits++ {
		for _, n := range []int{0, 1, 2, 3, 7, 8, 9, 31, 64, 101, 1000, 1003, 1<<16 + 1003} {
			words, sum, want := make([]uint32, n), make([]uint32, n), make([]uint32, n)
			for i := range words {
				words[i], sum[i] = source.Uint32(), source.Uint32()
				want[i] = (sum[i] + words[i]) << (32 - bits)
			}
			packed := bytes.Repeat([]byte{0xff}, PackedSize(n, bits))
			if err := Pack(packed, words, bits); err != nil {
				t.Fatal(err)
			}
			if err := AddPacked(sum, packed, bits); err != nil {
				t.Fatal(err)
			}
			for i := range sum {
				sum[i] <<= 32 - bits
			}
			if !slices.Equal(sum, want) {
				t.Fatalf("seed %d: %d words of %d bits do not come back", seed, n, bits)
			}
		}
	}
}

func TestPackedLayout(t *testing.T) {
	packed := make([]byte, 4)
	if err := Pack(packed, []uint32{0x5, 0xfff3ff, 0x1}, 10); err != nil {
		t.Fatal(err)
	}
	// 30 bits: 5 in the first ten, all ones in the next, 1 in the last.
	if want := []byte{0x05, 0xfc, 0x1f, 0x00}; !bytes.Equal(packed, want) {
		t.Errorf("packed % x, want % x", packed, want)
	}
}

// TestPackingIsBitByBit holds every width and length around the groups of eight to
// the layout as Pack words it, a bit at a time.
func TestPackingIsBitByBit(t *testing.T) {
	const seed = 6
	source := rand.New(rand.NewPCG(seed, 2))
	for bits := 1; bits <= 32; bits++ {
		for n := range 64 {
			words, want := make([]uint32, n), make([]byte, PackedSize(n, bits))
			for i := range words {
				words[i] = source.Uint32()
				for b := range bits {
					bit := i*bits + b
					want[bit/8] |= byte(words[i]>>b&1) << (bit % 8)
				}
			}
			packed := make([]byte, len(want))
			if err := Pack(packed, words, bits); err != nil || !bytes.Equal(packed, want) {
				t.Fatalf("seed %d: %d words of %d bits pack to % x, %v; want % x", seed, n, bits, packed, err, want)
			}
		}
	}
}

func TestPackRefusesBadInput(t *testing.T) {
	for _, tc := range []struct {
		name string
		err  error
		want string
	}{
		{"short vector", AddPacked(make([]uint32, 10), make([]byte, 12), 10), "12 bytes, want 13 (10 words of 10 bits)"},
		{"long vector", AddPacked(make([]uint32, 10), make([]byte, 14), 10), "14 bytes, want 13"},
		{"no bits", AddPacked(nil, nil, 0), "0 bits"},
		{"wide words", Pack(make([]byte, 5), make([]uint32, 1), 33), "33 bits"},
		{"bit behind the end", AddPacked(make([]uint32, 1), []byte{0, 0x04}, 10), "behind its last word"},
	} {
		if tc.err == nil || !strings.Contains(tc.err.Error(), tc.want) {
			t.Errorf("%s: error %v, want one with %q", tc.name, tc.err, tc.want)
		}
	}
}

func FuzzAddPacked(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, uint8(8), uint8(10))
	f.Add([]byte{0, 4}, uint8(1), uint8(10))
	f.Add([]byte{}, uint8(0), uint8(1))
	f.Add(bytes.Repeat([]byte{0xa5, 0xff, 0x00}, 39), uint8(36), uint8(26))
	f.Add(bytes.Repeat([]byte{0xff}, 128), uint8(32), uint8(32))
	f.Fuzz(func(t *testing.T, packed []byte, words, bits uint8) {
		sum := make([]uint32, words)
		if AddPacked(sum, packed, int(bits)) != nil {
			if slices.Max(append(sum, 0)) != 0 {
				t.Fatal("a refused vector changed the sum")
			}
			return
		}
		again := make([]byte, len(packed))
		if err := Pack(again, sum, int(bits)); err != nil || !bytes.Equal(again, packed) {
			t.Fatalf("% x unpacks and packs to % x, %v", packed, again, err)
		}
	})
}

func BenchmarkPack(b *testing.B)      { benchmarkWire(b, true) }
func BenchmarkAddPacked(b *testing.B) { benchmarkWire(b, false) }

func benchmarkWire(b *testing.B, pack bool) {
	for _, bits := range []int{22, 24} { // of 100 devices, of 1,000
		for _, n := range []int{10_000, 1_000_000} {
			b.Run(fmt.Sprintf("%d/bits=%d", n, bits), func(b *testing.B) {
				words, packed := make([]uint32, n), make([]byte, PackedSize(n, bits))
				b.SetBytes(int64(4 * n))
				for b.Loop() {
					var err error
					if pack {
						err = Pack(packed, words, bits)
					} else {
						err = AddPacked(words, packed, bits)
					}
					if err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/word")
			})
		}
	}
}
