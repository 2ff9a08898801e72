//go:build !amd64 || purego

package secagg

import "unsafe"

// addWide adds eight chunks to v, two words at once as the halves of 64 bits, and
// returns how many words that were. The sum of the whole 64 bits carries from the
// low word into the high one; the low halves are summed a second time with room
// above, which gives the carries to take off again. It needs a little-endian machine
// and v aligned to 8 bytes, and does nothing without.
func addWide(v []uint32, s *scratch, count int) (done int) {
	n := len(v) / 2
	if n == 0 || count != lanes || !littleEndian || uintptr(unsafe.Pointer(&v[0]))%8 != 0 {
		return 0
	}
	d := unsafe.Slice((*uint64)(unsafe.Pointer(&v[0])), n)
	for i, a := range d[:min(n, chunkWords/2)] {
		sum, low := a, uint64(uint32(a))
		w := s[0][i]
		sum, low = sum+w, low+uint64(uint32(w))
		w = s[1][i]
		sum, low = sum+w, low+uint64(uint32(w))
		w = s[2][i]
		sum, low = sum+w, low+uint64(uint32(w))
		w = s[3][i]
		sum, low = sum+w, low+uint64(uint32(w))
		w = s[4][i]
		sum, low = sum+w, low+uint64(uint32(w))
		w = s[5][i]
		sum, low = sum+w, low+uint64(uint32(w))
		w = s[6][i]
		sum, low = sum+w, low+uint64(uint32(w))
		w = s[7][i]
		sum, low = sum+w, low+uint64(uint32(w))
		d[i] = sum - low>>32<<32
	}
	return 2 * n
}

// littleEndian tells whether words lie in memory as they do in a key stream.
var littleEndian = func() bool {
	w := uint32(1)
	return *(*byte)(unsafe.Pointer(&w)) == 1
}()
