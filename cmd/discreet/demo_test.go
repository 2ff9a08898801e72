package main

import (
	"testing"

	pb "github.com/discreet-fl/discreet/proto"
)

// TestDemoTellsWhatBecameOfRounds holds the row of the demo's table that tells rounds that were
// committed, those that were only after an attempt that was aborted, and those that were lost in
// Reveal, which are recorded beside their attempt.
func TestDemoTellsWhatBecameOfRounds(t *testing.T) {
	whole := &pb.RoundRecord{Attempt: 1, Cohort: 20, Survivors: 20}
	survived := &pb.RoundRecord{Attempt: 2, Cohort: 20, Survivors: 16}
	aborted := &pb.RoundRecord{Attempt: 1, Cohort: 20, Aborted: "3 of 20 devices are left"}
	held := &pb.RoundRecord{Attempt: 1}
	for _, c := range []struct {
		name string
		of   []*pb.RoundRecord
		want string
	}{
		{"none", nil, "0 committed in 0 attempts; 0 survived a loss"},
		{"nobody vanished", []*pb.RoundRecord{whole, whole}, "2 committed in 2 attempts; 0 survived a loss"},
		{"some vanished", []*pb.RoundRecord{whole, survived}, "2 committed in 2 attempts; 1 survived a loss"},
		{"an attempt was aborted", []*pb.RoundRecord{aborted, survived, whole}, "2 committed in 3 attempts; 1 survived a loss"},
		{"a round was lost in Reveal", []*pb.RoundRecord{whole, aborted, held, survived}, "2 committed in 3 attempts; 1 survived a loss; 1 lost when too few revealed"},
	} {
		if got := roundsText(c.of); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
