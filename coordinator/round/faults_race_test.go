//go:build race

package round

// manySchedules are fewer with the race detector, which makes them slow and, as a round
// is not used by two goroutines at a time, finds little in them.
const manySchedules = 200
