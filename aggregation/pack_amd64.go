//go:build !purego

package aggregation

// rowWords is what one step of addRows takes, and mostRows how many it is given at a time:
// a goroutine stops for others, and for a collection of garbage, between calls only.
const (
	rowWords = 16
	mostRows = 1 << 12
)

// addWide adds rows of sixteen words of at most pairBits bits, as long as what is read for
// a row is within what is left, and returns how many words that were.
func addWide(sum []uint32, packed []byte, bits int) (done int) {
	at, shift := pairs(bits)
	last := len(packed) - (bits + at[2] + 8) // where the last row may begin
	if last < 0 || len(sum) < rowWords {
		return 0
	}
	rows := min(len(sum)/rowWords, last/(2*bits)+1)
	for row := 0; row < rows; row += mostRows {
		addRows(&sum[row*rowWords], &packed[row*2*bits], min(rows-row, mostRows), bits, &at, &shift)
	}
	return rows * rowWords
}

// addRows adds rows of sixteen words, two groups of eight, at least one of them. Pairs of a
// group begin at byte at and bit shift of it, the first at its beginning. It needs no more
// than SSE2, which every amd64 has.
//
//go:noescape
func addRows(sum *uint32, packed *byte, rows, bits int, at *[3]int, shift *[3]uint)
