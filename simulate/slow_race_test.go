//go:build race

package simulate

// slow is set where the race detector makes arithmetic a dozen times slower. The tests
// that are much arithmetic and little concurrency then do less; .ci/run runs them
// without it as well.
const slow = true
