package aggregation

import (
	"encoding/binary"
	"fmt"
)

// PackedSize returns the bytes that so many words take at so many bits each.
func PackedSize(words, bits int) int { return int((int64(words)*int64(bits) + 7) / 8) }

// Pack writes the low bits of every word to dst, one after another from the least
// significant bit of the first byte on; the last byte is filled up with zeros.
// dst has PackedSize(len(words), bits) bytes.
func Pack(dst []byte, words []uint32, bits int) error {
	if err := checkPacked(len(dst), len(words), bits); err != nil {
		return err
	}
	var (
		mask    = uint64(1)<<bits - 1
		pending uint64 // bits not yet written, from the least significant on
		held    int    // how many
		at      int
	)
	for _, w := range words {
		pending |= (uint64(w) & mask) << held
		if held += bits; held >= 32 {
			binary.LittleEndian.PutUint32(dst[at:], uint32(pending))
			pending >>= 32
			held -= 32
			at += 4
		}
	}
	for ; held > 0; held -= 8 {
		dst[at] = byte(pending)
		pending >>= 8
		at++
	}
	return nil
}

// AddPacked adds the words of a packed vector to sum, modulo 2^32, of which the
// caller uses only the low bits. It refuses a vector of the wrong size or with a
// set bit behind the last word, and then leaves sum as it was.
func AddPacked(sum []uint32, packed []byte, bits int) error {
	if err := checkPacked(len(packed), len(sum), bits); err != nil {
		return err
	}
	if spare := len(packed)*8 - len(sum)*bits; spare > 0 && packed[len(packed)-1]>>(8-spare) != 0 {
		return fmt.Errorf("aggregation: a packed vector of %d words has a bit set behind its last word, want zeros", len(sum))
	}
	mask := uint32(uint64(1)<<bits - 1)
	// A word starts within a byte and is at most 32 bits long, so that eight bytes
	// from there hold all of it. The last words are read from a padded copy.
	whole := 0
	if len(packed) >= 8 {
		whole = min(len(sum), (len(packed)-8)*8/bits+1)
	}
	bit := 0
	for i := range sum[:whole] {
		word := binary.LittleEndian.Uint64(packed[bit>>3:]) >> (bit & 7)
		sum[i] += uint32(word) & mask
		bit += bits
	}
	var tail [32]byte
	start := bit >> 3
	copy(tail[:], packed[min(start, len(packed)):])
	for i := whole; i < len(sum); i++ {
		word := binary.LittleEndian.Uint64(tail[bit>>3-start:]) >> (bit & 7)
		sum[i] += uint32(word) & mask
		bit += bits
	}
	return nil
}

// checkPacked returns an error unless size bytes are a vector of so many words.
func checkPacked(size, words, bits int) error {
	if bits < 1 || bits > 32 {
		return fmt.Errorf("aggregation: words of %d bits, want 1 to 32", bits)
	}
	if size != PackedSize(words, bits) {
		return fmt.Errorf("aggregation: a packed vector of %d bytes, want %d (%d words of %d bits)", size, PackedSize(words, bits), words, bits)
	}
	return nil
}
