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
// Masks are added in chunks that stay in the first-level cache: four streams at a
// time write a chunk each, and one pass adds the four to the vector. A mask that
// is to be subtracted is written complemented, −k = ¬k + 1, so that the pass only
// ever adds; the ones are added together at the end.

const (
	chunkWords = 1024
	lanes      = 4
	blockWords = aes.BlockSize / 4
)

// maskSet is masks to be added to a vector.
type maskSet struct {
	blocks   []cipher.Block
	subtract []bool
	negative uint32 // how many are subtracted
}

func (m *maskSet) add(key *digest, subtract bool) {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // the key has 32 bytes
	}
	m.blocks = append(m.blocks, block)
	m.subtract = append(m.subtract, subtract)
	if subtract {
		m.negative++
	}
}

// wipe lets go of the expanded keys, which the standard library offers no way to
// overwrite.
func (m *maskSet) wipe() {
	clear(m.blocks)
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

// scratch holds four chunks of key stream, and is aligned for both views of it.
type scratch [lanes][chunkWords / 2]uint64

func (s *scratch) bytes(lane, words int) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(&s[lane][0])), 4*words)
}

func (s *scratch) words(lane, words int) []uint32 {
	return unsafe.Slice((*uint32)(unsafe.Pointer(&s[lane][0])), words)
}

// apply adds words lo, lo+1, … of every mask to v.
func (m *maskSet) apply(v []uint32, lo int) {
	if len(v) == 0 || len(m.blocks) == 0 {
		return
	}
	s := new(scratch)
	streams := make([]cipher.Stream, len(m.blocks))
	for i, b := range m.blocks {
		streams[i] = streamAt(b, lo, s)
	}
	add := addLanesPortable
	if littleEndian && uintptr(unsafe.Pointer(&v[0]))%8 == 0 {
		add = addLanes
	}
	for len(v) > 0 {
		n := min(len(v), chunkWords)
		m.applyChunk(v[:n], streams, s, add)
		v = v[n:]
	}
	*s = scratch{}
}

// streamAt is the block's key stream from word w on.
func streamAt(b cipher.Block, w int, s *scratch) cipher.Stream {
	var counter [aes.BlockSize]byte
	binary.BigEndian.PutUint64(counter[8:], uint64(w/blockWords))
	stream := cipher.NewCTR(b, counter[:])
	if skip := w % blockWords; skip != 0 {
		stream.XORKeyStream(s.bytes(0, skip), zeros[:4*skip])
	}
	return stream
}

func (m *maskSet) applyChunk(v []uint32, streams []cipher.Stream, s *scratch, add func(v []uint32, s *scratch)) {
	n := len(v)
	for i := 0; i < len(streams); i += lanes {
		for lane := range lanes {
			k := i + lane
			switch {
			case k >= len(streams):
				clear(s.words(lane, n))
			case m.subtract[k]:
				streams[k].XORKeyStream(s.bytes(lane, n), ones[:4*n])
			default:
				streams[k].XORKeyStream(s.bytes(lane, n), zeros[:4*n])
			}
		}
		add(v, s)
	}
	if m.negative != 0 {
		for i := range v {
			v[i] += m.negative
		}
	}
}

// addLanes adds the four chunks to v, two words at once as the halves of 64 bits.
// The sum of the whole 64 bits carries from the low word into the high one; the
// low halves are summed a second time with room above, which gives the carries to
// take off again. It needs a little-endian machine and v aligned to 8 bytes.
func addLanes(v []uint32, s *scratch) {
	n := len(v) / 2
	if n > 0 {
		d := unsafe.Slice((*uint64)(unsafe.Pointer(&v[0])), n)
		s0, s1, s2, s3 := s[0][:n], s[1][:n], s[2][:n], s[3][:n]
		for i, a := range d {
			w0, w1, w2, w3 := s0[i], s1[i], s2[i], s3[i]
			sum := a + w0 + w1 + w2 + w3
			low := uint64(uint32(a)) + uint64(uint32(w0)) + uint64(uint32(w1)) + uint64(uint32(w2)) + uint64(uint32(w3))
			d[i] = sum - low>>32<<32
		}
	}
	for i := 2 * n; i < len(v); i++ {
		v[i] += s.words(0, len(v))[i] + s.words(1, len(v))[i] + s.words(2, len(v))[i] + s.words(3, len(v))[i]
	}
}

// addLanesPortable does the same on any machine and at any alignment.
func addLanesPortable(v []uint32, s *scratch) {
	for lane := range lanes {
		b := s.bytes(lane, len(v))
		for i := range v {
			v[i] += binary.LittleEndian.Uint32(b[4*i:])
		}
	}
}

// littleEndian tells whether words lie in memory as they do in a key stream.
var littleEndian = func() bool {
	w := uint32(1)
	return *(*byte)(unsafe.Pointer(&w)) == 1
}()
