package secagg

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
)

// A mask is taken from the key stream of AES-256 in counter mode under a key of its own:
// the counter block is the block's number as 128 bits, big-endian, from 0, and word w
// of the stream is bytes 4w to 4w+3, little-endian. Of each word the low bits, as many
// as the ring has, are an element of the mask. The bits above them are put together to
// more elements, so that no bit of the stream serves twice and few serve not at all; see
// layout.
//
// Masks are added in chunks that stay in the first-level cache: eight streams at a
// time write a chunk each, and one pass (see addGroups) adds them to the vector. The vector
// goes by in tiles that stay in the second-level cache while all masks are added, and
// a key is expanded anew for each tile: that takes a hundredth of the time that its
// stream takes, and only the keys of eight masks are ever expanded. A mask that is to
// be subtracted is taken from the stream's complement, −k = ¬k + 1, so that the pass only
// ever adds; the ones are added together at the end.

const (
	tileElements = 1 << 16
	chunkWords   = 512
	lanes        = 8
	rowWords     = 16
	blockWords   = aes.BlockSize / 4
)

// layout is how a stream's words make elements. A group is so many rows of rowWords words,
// and as many rows of elements, the words' low bits; one row more is made of the bits
// above: its element c has those of word c of the first row lowest, then those of word c
// of the second, and so on. A ring of 32 bits leaves no such bits.
type layout struct {
	bits     int // of an element
	rows     int // of words, in a group: the fewest whose bits left over make an element
	elements int // of a group
}

func layoutOf(bits int) layout {
	if bits == 32 {
		return layout{bits, 1, rowWords}
	}
	over := 32 - bits
	rows := (bits + over - 1) / over
	return layout{bits, rows, (rows + 1) * rowWords}
}

// words is how many a group has.
func (l *layout) words() int { return l.rows * rowWords }

// MaskBytes is the key stream that one mask takes, in whole groups.
func (p *Params) MaskBytes() int {
	l := layoutOf(p.RingBits)
	return (p.Length + l.elements - 1) / l.elements * 4 * l.words()
}

// maskSet is masks to be added to a vector of a ring of so many bits.
type maskSet struct {
	bits     int
	keys     []digest
	subtract []bool
	negative uint32 // how many are subtracted
}

func (m *maskSet) add(key *digest, subtract bool) {
	if len(m.keys) == cap(m.keys) { // append would leave the keys behind in the old place
		larger := make([]digest, len(m.keys), 2*len(m.keys)+lanes)
		copy(larger, m.keys)
		clear(m.keys)
		m.keys = larger
	}
	m.keys = append(m.keys, *key)
	m.subtract = append(m.subtract, subtract)
	if subtract {
		m.negative++
	}
}

// count is how many masks there are.
func (m *maskSet) count() int { return len(m.keys) }

// wipe forgets the keys. Expanded ones, which the standard library offers no way to
// overwrite, do not outlive apply.
func (m *maskSet) wipe() {
	clear(m.keys)
	*m = maskSet{}
}

// zeros and ones are what a stream is XORed onto to be written plain or
// complemented.
var zeros, ones = [4 * chunkWords]byte{}, func() (b [4 * chunkWords]byte) {
	for i := range b {
		b[i] = 0xff
	}
	return b
}()

// scratch holds eight chunks of key stream. They lie a little more than a chunk apart: at
// a power of two the same word of every lane would fall to the same few places of the
// cache.
type scratch struct {
	lane [lanes][laneBytes]byte
	edge [2 * chunkWords]uint32 // the elements of a chunk that are only in part in the vector
}

const laneBytes = 4*chunkWords + 80

// apply adds elements lo, lo+1, … of every mask to v, modulo 2^bits. Nothing is left above
// those bits, where the pass has put bits that other elements are made of.
func (m *maskSet) apply(v []uint32, lo int) {
	l, s, ring := layoutOf(m.bits), new(scratch), uint32(1<<m.bits-1)
	group := lo / l.elements
	at := group*l.elements - lo // where the group begins in v, or before it
	for at < len(v) {
		groups := min(tileElements, len(v)-at+l.elements-1) / l.elements
		for i := 0; i < len(m.keys); i += lanes {
			m.applyLanes(v, at, group, groups, i, min(lanes, len(m.keys)-i), &l, s)
		}
		end := at + groups*l.elements
		tile := v[max(at, 0):min(end, len(v))]
		for i, w := range tile {
			tile[i] = (w + m.negative) & ring
		}
		at, group = end, group+groups
	}
	*s = scratch{}
}

// applyLanes adds to v, from its word at on, so many groups from one on, of count masks, the
// first of which is number first. What is subtracted lacks its 1.
func (m *maskSet) applyLanes(v []uint32, at, group, groups, first, count int, l *layout, s *scratch) {
	var streams [lanes]cipher.Stream
	for lane := range count {
		streams[lane] = streamAt(&m.keys[first+lane], group*l.words())
	}
	for groups > 0 {
		n := min(groups, chunkWords/l.words())
		size := 4 * n * l.words()
		for lane := range count {
			from := &zeros
			if m.subtract[first+lane] {
				from = &ones
			}
			streams[lane].XORKeyStream(s.lane[lane][:size], from[:size])
		}
		end := at + n*l.elements
		if lo, hi := max(at, 0), min(end, len(v)); hi-lo == end-at {
			addGroups(v[lo:hi], s, count, l)
		} else {
			edge := s.edge[:end-at]
			copy(edge[lo-at:], v[lo:hi])
			addGroups(edge, s, count, l)
			copy(v[lo:hi], edge[lo-at:])
		}
		at, groups = end, groups-n
	}
}

// streamAt is the key's stream from word w on, which begins a block.
func streamAt(key *digest, w int) cipher.Stream {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // the key has 32 bytes
	}
	var counter [aes.BlockSize]byte
	binary.BigEndian.PutUint64(counter[8:], uint64(w/blockWords))
	return cipher.NewCTR(block, counter[:])
}
