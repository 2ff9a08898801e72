//go:build !unix

package coordinator

import "math"

// openFiles is how many files the process may open: here there is no such bound.
func openFiles() uint64 { return math.MaxUint64 }
