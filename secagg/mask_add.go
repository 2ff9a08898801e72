//go:build !amd64 || purego

package secagg

import "encoding/binary"

// addGroups adds the first count chunks to v, which has a chunk's elements or fewer, in
// whole groups.
func addGroups(v []uint32, s *scratch, count int, l *layout) {
	groups := min(len(v)/l.elements, chunkWords/l.words())
	for lane := count; lane < lanes; lane++ {
		clear(s.lane[lane][:4*groups*l.words()])
	}
	for at := 0; groups > 0; groups-- {
		extra, shift := (*[rowWords]uint32)(v[l.elements-rowWords:]), uint(0)
		for row := range l.rows {
			addRow((*[rowWords]uint32)(v[row*rowWords:]), extra, s, at, uint(l.bits), shift)
			shift += uint(32 - l.bits)
			at += 4 * rowWords
		}
		v = v[l.elements:]
	}
}

// addRow adds a row of all eight chunks, from their byte at on, to a row of elements, and
// what is above the low bits, shifted, to the extra ones. It takes two words at once as the
// halves of 64 bits. The sum of the whole 64 bits carries from the low word into the high
// one; the low halves are summed a second time with room above, which gives the carries to
// take off again. Of what is above the low bits no more is summed than the ring has, so
// that there is room for eight of it.
func addRow(row, extra *[rowWords]uint32, s *scratch, at int, bits, shift uint) {
	bits, shift = bits&63, shift&31
	above := (1<<32 | 1) * (1<<min(32-bits, bits) - uint64(1))
	b0, b1 := (*[4 * rowWords]byte)(s.lane[0][at:]), (*[4 * rowWords]byte)(s.lane[1][at:])
	b2, b3 := (*[4 * rowWords]byte)(s.lane[2][at:]), (*[4 * rowWords]byte)(s.lane[3][at:])
	b4, b5 := (*[4 * rowWords]byte)(s.lane[4][at:]), (*[4 * rowWords]byte)(s.lane[5][at:])
	b6, b7 := (*[4 * rowWords]byte)(s.lane[6][at:]), (*[4 * rowWords]byte)(s.lane[7][at:])
	for i := 0; i < rowWords; i += 2 {
		sum := uint64(row[i]) | uint64(row[i+1])<<32
		w := binary.LittleEndian.Uint64(b0[4*i:])
		low, over := uint64(uint32(sum))+uint64(uint32(w)), w>>bits&above
		sum += w
		w = binary.LittleEndian.Uint64(b1[4*i:])
		sum, low, over = sum+w, low+uint64(uint32(w)), over+w>>bits&above
		w = binary.LittleEndian.Uint64(b2[4*i:])
		sum, low, over = sum+w, low+uint64(uint32(w)), over+w>>bits&above
		w = binary.LittleEndian.Uint64(b3[4*i:])
		sum, low, over = sum+w, low+uint64(uint32(w)), over+w>>bits&above
		w = binary.LittleEndian.Uint64(b4[4*i:])
		sum, low, over = sum+w, low+uint64(uint32(w)), over+w>>bits&above
		w = binary.LittleEndian.Uint64(b5[4*i:])
		sum, low, over = sum+w, low+uint64(uint32(w)), over+w>>bits&above
		w = binary.LittleEndian.Uint64(b6[4*i:])
		sum, low, over = sum+w, low+uint64(uint32(w)), over+w>>bits&above
		w = binary.LittleEndian.Uint64(b7[4*i:])
		sum, low, over = sum+w, low+uint64(uint32(w)), over+w>>bits&above
		sum -= low >> 32 << 32
		row[i], row[i+1] = uint32(sum), uint32(sum>>32)
		extra[i] += uint32(over) << shift
		extra[i+1] += uint32(over>>32) << shift
	}
}
