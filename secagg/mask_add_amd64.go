//go:build !purego

package secagg

// addGroups adds the first count chunks to v, which has a chunk's elements or fewer, in
// whole groups.
func addGroups(v []uint32, s *scratch, count int, l *layout) {
	groups := min(len(v)/l.elements, chunkWords/l.words())
	if groups == 0 || count < 1 || count > lanes {
		return
	}
	extra := l.words()
	if l.elements == extra {
		extra = 0 // no bits are left over, so that zeros are added
	}
	addRows(&v[0], s, groups, l.rows, count, l.bits, extra)
}

// addRows adds so many groups of the first count chunks to v, four words at once. A group
// has so many rows, and its row of elements of what is above the low bits begins at word
// extra. There is at least one of each. It needs no more than SSE2, which every amd64 has,
// and takes as long whatever the words are.
//
//go:noescape
func addRows(v *uint32, s *scratch, groups, rows, count, bits, extra int)
