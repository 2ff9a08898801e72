package aggregation

import (
	"encoding/binary"
	"fmt"
)

// Eight words fill whole bytes at any width, so that where a word of a group of
// eight lies is the same in every group. Words of up to pairBits bits are taken two
// at a time: a pair begins at an even bit, so that 6 bits before it and the pair fit
// 64 bits. A group is read and written through a window of windowBytes, which a group
// and the bytes that the last pair touches behind it never leave; what is left at
// the end goes word by word.
const (
	pairBits    = 29
	windowBytes = 40
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
	done := 0
	if bits <= pairBits {
		done = packEights(dst, words, bits)
	}
	packWords(dst[PackedSize(done, bits):], words[done:], bits)
	return nil
}

// AddPacked adds the words of a packed vector to sum. Only the low bits of each word
// of sum are the sum's, modulo 2^bits: what stands above them is left over from the
// next words. It refuses a vector of the wrong size or with a set bit behind the last
// word, and then leaves sum as it was.
func AddPacked(sum []uint32, packed []byte, bits int) error {
	if err := checkPacked(len(packed), len(sum), bits); err != nil {
		return err
	}
	if spare := int64(len(packed))*8 - int64(len(sum))*int64(bits); spare > 0 && packed[len(packed)-1]>>(8-spare) != 0 {
		return fmt.Errorf("aggregation: a packed vector of %d words has a bit set behind its last word, want zeros", len(sum))
	}
	done := 0
	if bits <= pairBits {
		done = addWide(sum, packed, bits)
		done += addEights(sum[done:], packed[PackedSize(done, bits):], bits)
	}
	addWords(sum[done:], packed[PackedSize(done, bits):], bits)
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

// pairs is where the second, third and fourth pair of a group of eight words begin:
// the byte, and the bit in it. They are masked by no more than their bounds before a
// loop, and a loop ends before it would leave nothing behind: the compiler then needs no
// checks of its own, and has registers enough.
func pairs(bits int) (at [3]int, shift [3]uint) {
	for i := range at {
		bit := 2 * (i + 1) * bits
		at[i], shift[i] = bit>>3, uint(bit&7)
	}
	return at, shift
}

// addEights adds groups of eight words of at most pairBits bits, as long as a window
// fits what is left, and returns how many words that were.
func addEights(sum []uint32, packed []byte, bits int) (done int) {
	at, shift := pairs(bits)
	at1, at2, at3 := at[0]&31, at[1]&31, at[2]&31
	shift1, shift2, shift3 := shift[0]&7, shift[1]&7, shift[2]&7
	step := bits & 31
	second := uint(step)
	all := len(sum)
	for len(sum) > 8 && len(packed) > windowBytes {
		window, s := (*[windowBytes]byte)(packed), (*[8]uint32)(sum)
		w := binary.LittleEndian.Uint64(window[:])
		s[0] += uint32(w)
		s[1] += uint32(w >> second)
		w = binary.LittleEndian.Uint64(window[at1:]) >> shift1
		s[2] += uint32(w)
		s[3] += uint32(w >> second)
		w = binary.LittleEndian.Uint64(window[at2:]) >> shift2
		s[4] += uint32(w)
		s[5] += uint32(w >> second)
		w = binary.LittleEndian.Uint64(window[at3:]) >> shift3
		s[6] += uint32(w)
		s[7] += uint32(w >> second)
		sum, packed = sum[8:], packed[step:]
	}
	return all - len(sum)
}

// addWords adds words of any width, one at a time.
func addWords(sum []uint32, packed []byte, bits int) {
	// A word starts within a byte and is at most 32 bits long, so that eight bytes
	// from there hold all of it. The last words are read from a padded copy.
	whole, step := 0, uint64(bits)
	if len(packed) >= 8 {
		whole = min(len(sum), int(uint64(len(packed)-8)*8/step+1))
	}
	bit := uint64(0)
	for i := range sum[:whole] {
		sum[i] += uint32(binary.LittleEndian.Uint64(packed[bit>>3:]) >> (bit & 7))
		bit += step
	}
	var tail [32]byte
	start := bit >> 3
	copy(tail[:], packed[min(start, uint64(len(packed))):])
	for i := whole; i < len(sum); i++ {
		sum[i] += uint32(binary.LittleEndian.Uint64(tail[bit>>3-start:]) >> (bit & 7))
		bit += step
	}
}

// packEights packs groups of eight words of at most pairBits bits, as long as a
// window fits what is left of dst, and returns how many words that were. Every pair
// is written with the bits of the pair before it that share its first byte.
func packEights(dst []byte, words []uint32, bits int) (done int) {
	at, shift := pairs(bits)
	at1, at2, at3 := at[0]&31, at[1]&31, at[2]&31
	shift1, shift2, shift3 := shift[0]&7, shift[1]&7, shift[2]&7
	written1, written2, written3 := uint(8*at1)&63, uint(8*(at2-at1))&63, uint(8*(at3-at2))&63
	step := bits & 31
	second, mask := uint(step), uint64(1)<<step-1
	all := len(words)
	for len(words) > 8 && len(dst) > windowBytes {
		window, s := (*[windowBytes]byte)(dst), (*[8]uint32)(words)
		w := uint64(s[0])&mask | uint64(s[1])&mask<<second
		binary.LittleEndian.PutUint64(window[:], w)
		w = (uint64(s[2])&mask|uint64(s[3])&mask<<second)<<shift1 | w>>written1
		binary.LittleEndian.PutUint64(window[at1:], w)
		w = (uint64(s[4])&mask|uint64(s[5])&mask<<second)<<shift2 | w>>written2
		binary.LittleEndian.PutUint64(window[at2:], w)
		w = (uint64(s[6])&mask|uint64(s[7])&mask<<second)<<shift3 | w>>written3
		binary.LittleEndian.PutUint64(window[at3:], w)
		words, dst = words[8:], dst[step:]
	}
	return all - len(words)
}

// packWords packs words of any width, one at a time.
func packWords(dst []byte, words []uint32, bits int) {
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
}
