package store

import (
	"crypto/sha256"
	"errors"
	"testing"

	"github.com/discreet-fl/discreet/secagg"
)

// TestBufferedCommitRecordsEachAttempt commits the sums of attempts that ran side by side:
// one checkpoint under a number of its own, a record and a receipt for each attempt.
func TestBufferedCommitRecordsEachAttempt(t *testing.T) {
	s := withTask(t, t.TempDir())
	reveals(t, s, 1, 1)
	if err := s.Begin(t.Context(), "desk", 1, 2); !errors.Is(err, ErrRevealed) {
		t.Errorf("an attempt on a spent checkpoint: %v", err)
	}
	for attempt := uint32(2); attempt <= 3; attempt++ {
		if err := s.BeginBeside(t.Context(), "desk", 1, attempt); err != nil {
			t.Fatal(err)
		}
	}
	reveals(t, s, 1, 2) // not the latest
	buffered := func(round uint64, attempt uint32, previous, next []byte, of ...Attempt) Commit {
		c := commitOf(round, attempt, previous, next)
		c.Buffered, c.Survivors = of, []secagg.ID{{1}, {2}}
		return c
	}
	one, two, three := Attempt{Round: 1, Attempt: 1, Survivors: 3}, Attempt{Round: 1, Attempt: 2, Survivors: 4}, Attempt{Round: 1, Attempt: 3, Survivors: 5, Staleness: 1}
	if _, err := s.Commit(t.Context(), buffered(1, 3, checkpoint(0), checkpoint(1), one, two)); !errors.Is(err, ErrStale) {
		t.Errorf("a number that was begun: %v", err)
	}
	sum, err := s.Commit(t.Context(), buffered(1, 4, checkpoint(0), checkpoint(1), one, two))
	if err != nil {
		t.Fatal(err)
	}
	// The third trained the checkpoint before, and needs no further note to be counted.
	late, err := s.Commit(t.Context(), buffered(2, 1, checkpoint(1), checkpoint(2), three))
	if err != nil {
		t.Fatal(err)
	}
	for attempt, want := range map[uint32][32]byte{1: sum, 2: sum, 3: late} {
		if got, _, err := s.Committed(t.Context(), "desk", 1, attempt); err != nil || got != want {
			t.Errorf("attempt %d is in %x, %v; want %x", attempt, got, err, want)
		}
	}
	if _, _, err := s.Committed(t.Context(), "desk", 1, 4); !errors.Is(err, ErrNotFound) {
		t.Errorf("the checkpoint's own number has a receipt: %v", err)
	}
	task, err := s.Task(t.Context(), "desk")
	if err != nil || task.RoundsDone != 2 || task.Revealing || task.Checkpoint != late {
		t.Errorf("task %+v, %v", task, err)
	}
	attempts, err := s.Attempts(t.Context(), "desk", 10)
	if err != nil || len(attempts) != 3 || attempts[0].Staleness != 1 || attempts[2].Staleness != 0 {
		t.Errorf("records %+v, %v", attempts, err)
	}
	entries, err := s.LogEntries(t.Context(), "desk", 0, 10)
	if err != nil || len(entries) != 3 {
		t.Errorf("%d entries in the log, %v", len(entries), err)
	}
}

// TestRevealForACheckpointThatIsNoLongerCurrent notes that an attempt reveals when sums that
// came late have just made another checkpoint: nobody has revealed for that one.
func TestRevealForACheckpointThatIsNoLongerCurrent(t *testing.T) {
	s := withTask(t, t.TempDir())
	late := commitOf(1, 2, checkpoint(0), checkpoint(1))
	late.Buffered = []Attempt{{Round: 1, Attempt: 1, Survivors: 3}}
	if _, err := s.Commit(t.Context(), late); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		of   byte
		want bool
	}{{0, false}, {1, true}, {0, true}} {
		if err := s.Revealing(t.Context(), "desk", 1, 1, sha256.Sum256(checkpoint(tc.of))); err != nil {
			t.Fatal(err)
		}
		if task, err := s.Task(t.Context(), "desk"); err != nil || task.Revealing != tc.want {
			t.Errorf("checkpoint %d: revealing %v, %v; want %v", tc.of, task.Revealing, err, tc.want)
		}
	}
}
