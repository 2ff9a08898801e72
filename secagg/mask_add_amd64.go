//go:build !purego

package secagg

// rowWords is what one step of addRows takes of every chunk.
const rowWords = 16

// addWide adds the first count chunks to v, in whole rows, and returns how many
// words that were.
func addWide(v []uint32, s *scratch, count int) (done int) {
	rows := min(len(v), chunkWords) / rowWords
	if rows == 0 || count < 1 || count > lanes {
		return 0
	}
	addRows(&v[0], s, rows, count)
	return rows * rowWords
}

// addRows adds the first rows of the first count chunks to v, four words at once. There
// is at least one of each. It needs no more than SSE2, which every amd64 has, and takes
// as long whatever the words are.
//
//go:noescape
func addRows(v *uint32, s *scratch, rows, count int)
