package secagg

import "slices"

// spans are disjoint half-open ranges, ascending, none empty.
type spans [][2]int

// add takes in [lo, hi) and tells whether it was free.
func (s *spans) add(lo, hi int) bool {
	if lo == hi {
		return true
	}
	i := 0
	for i < len(*s) && (*s)[i][1] <= lo {
		i++
	}
	if i < len(*s) && (*s)[i][0] < hi {
		return false
	}
	switch {
	case i > 0 && (*s)[i-1][1] == lo && i < len(*s) && (*s)[i][0] == hi:
		(*s)[i-1][1] = (*s)[i][1]
		*s = slices.Delete(*s, i, i+1)
	case i > 0 && (*s)[i-1][1] == lo:
		(*s)[i-1][1] = hi
	case i < len(*s) && (*s)[i][0] == hi:
		(*s)[i][0] = lo
	default:
		*s = slices.Insert(*s, i, [2]int{lo, hi})
	}
	return true
}

// words is the total length.
func (s spans) words() int {
	n := 0
	for _, r := range s {
		n += r[1] - r[0]
	}
	return n
}
