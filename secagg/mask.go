package secagg

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"unsafe"
)

// A mask is the key stream of AES-256 in counter mode under a key of its own: the
// counter block is the block's number as 128 bits, big-endian, from 0, and word w
// of the mask is bytes 4w to 4w+3, little-endian.
//
// Masks are added in chunks that stay in the first-level cache: eight streams at a
// time write a chunk each, and one pass (see addWide) adds them to the vector. The vector
// goes by in tiles that stay in the second-level cache while all masks are added, and
// a key is expanded anew for each tile: that takes a hundredth of the time that its
// stream takes, and only the keys of eight masks are ever expanded. A mask that is to
// be subtracted is written complemented, −k = ¬k + 1, so that the pass only ever
// adds; the ones are added together at the end.

const (
	tileWords  = 1 << 16
	chunkWords = 512
	lanes      = 8
	blockWords = aes.BlockSize / 4
)

// maskSet is masks to be added to a vector.
type maskSet struct {
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

// scratch holds eight chunks of key stream, and is aligned for both views of it. Lanes
// lie a little more than a chunk apart: at a power of two the same word of every
// lane would fall to the same few places of the cache.
type scratch [lanes][laneBytes / 8]uint64

const laneBytes = 4*chunkWords + 80

func (s *scratch) bytes(lane, words int) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(&s[lane][0])), 4*words)
}

// apply adds words lo, lo+1, … of every mask to v.
func (m *maskSet) apply(v []uint32, lo int) {
	s := new(scratch)
	for len(v) > 0 {
		n := min(len(v), tileWords)
		for i := 0; i < len(m.keys); i += lanes {
			m.applyLanes(v[:n], lo, i, min(lanes, len(m.keys)-i), s)
		}
		if m.negative != 0 {
			for i := range v[:n] {
				v[i] += m.negative
			}
		}
		v, lo = v[n:], lo+n
	}
	*s = scratch{}
}

// applyLanes adds to v the words from lo on of count masks, the first of which is
// number first. What is subtracted lacks its 1.
func (m *maskSet) applyLanes(v []uint32, lo, first, count int, s *scratch) {
	var streams [lanes]cipher.Stream
	for lane := range count {
		streams[lane] = streamAt(&m.keys[first+lane], lo, s)
	}
	for len(v) > 0 {
		n := min(len(v), chunkWords)
		for lane := range count {
			from := &zeros
			if m.subtract[first+lane] {
				from = &ones
			}
			streams[lane].XORKeyStream(s.bytes(lane, n), from[:4*n])
		}
		addLanes(v[:n], s, count)
		v = v[n:]
	}
}

// streamAt is the key's stream from word w on.
func streamAt(key *digest, w int, s *scratch) cipher.Stream {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // the key has 32 bytes
	}
	var counter [aes.BlockSize]byte
	binary.BigEndian.PutUint64(counter[8:], uint64(w/blockWords))
	stream := cipher.NewCTR(block, counter[:])
	if skip := w % blockWords; skip != 0 {
		stream.XORKeyStream(s.bytes(0, skip), zeros[:4*skip])
	}
	return stream
}

// addLanes adds the first count chunks to v: most of it in one pass, and what that
// leaves at the end one chunk after another.
func addLanes(v []uint32, s *scratch, count int) {
	done := addWide(v, s, count)
	if v = v[done:]; len(v) == 0 {
		return
	}
	for lane := range count {
		b, into := s.bytes(lane, done+len(v))[4*done:], v
		for ; len(into) >= 4 && len(b) >= 16; b, into = b[16:], into[4:] {
			into[0] += binary.LittleEndian.Uint32(b)
			into[1] += binary.LittleEndian.Uint32(b[4:])
			into[2] += binary.LittleEndian.Uint32(b[8:])
			into[3] += binary.LittleEndian.Uint32(b[12:])
		}
		for i := range into {
			into[i] += binary.LittleEndian.Uint32(b[4*i:])
		}
	}
}
