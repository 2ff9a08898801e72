// Package secagg sums vectors of uint32 from many devices so that the server
// learns the sum and nothing else.
package secagg
