//go:build !race

package round

// manySchedules is how many schedules the search plays unless it is told otherwise.
const manySchedules = 2000
