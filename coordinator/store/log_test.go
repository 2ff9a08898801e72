package store

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/discreet-fl/discreet/checkpointlog"
	"github.com/discreet-fl/discreet/secagg"
)

// logKey signs and certifies itself: whose key it is does not matter here.
var logKey = ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))

// logged holds that a task's log has so many entries, is whole, and ends with the
// task's current checkpoint, and returns the entries.
func logged(t *testing.T, s *Store, task string, size uint64) []checkpointlog.Entry {
	t.Helper()
	got, err := s.LogSize(t.Context(), task)
	if err != nil || got != size {
		t.Fatalf("the log has %d entries, %v; want %d", got, err, size)
	}
	raw, err := s.LogEntries(t.Context(), task, 0, int(size)+1)
	if err != nil {
		t.Fatal(err)
	}
	head, err := checkpointlog.HeadOf(size, s.LogHashes(t.Context(), task))
	if err != nil {
		t.Fatal(err)
	}
	public := logKey.Public().(ed25519.PublicKey)
	note := checkpointlog.SignHead(logKey, checkpointlog.Origin(public, task), head)
	if _, err := checkpointlog.VerifyAll(public, public, checkpointlog.CertifyKey(logKey, public), task, note, raw); err != nil {
		t.Error(err)
	}
	var entries []checkpointlog.Entry
	for _, r := range raw {
		e, err := checkpointlog.DecodeEntry(r)
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, e)
	}
	row, err := s.Task(t.Context(), task)
	if last := entries[len(entries)-1]; err != nil || last.Checkpoint != row.Checkpoint || last.Bytes != row.CheckpointBytes {
		t.Errorf("the log ends with %x, the task's checkpoint is %x, %v", last.Checkpoint[:6], row.Checkpoint[:6], err)
	}
	return entries
}

// held is a commit in the place of a lost round.
func held(round uint64, attempt uint32, previous, next []byte) Commit {
	c := commitOf(round, attempt, previous, next)
	c.Held, c.Survivors = true, nil
	return c
}

func TestLogGrowsWithCommits(t *testing.T) {
	dir := t.TempDir()
	s := withTask(t, dir)
	first := logged(t, s, "desk", 1)[0]
	want := checkpointlog.Entry{Task: "desk", Checkpoint: sha256.Sum256(checkpoint(0)), Bytes: uint64(len(checkpoint(0))), Committed: start.UnixMilli()}
	if first != want {
		t.Errorf("the first entry is %+v, want %+v", first, want)
	}
	previous := checkpoint(0)
	const rounds = 2*KeptCheckpoints + 3 // most of their files go
	for r := uint64(1); r <= rounds; r++ {
		if r > 1 {
			if err := s.Begin(t.Context(), "desk", r, 2); err != nil {
				t.Fatal(err)
			}
		}
		attempt := uint32(min(r, 2))
		reveals(t, s, r, attempt)
		next := fmt.Appendf(nil, "checkpoint %d", r)
		if _, err := s.Commit(t.Context(), commitOf(r, attempt, previous, next)); err != nil {
			t.Fatal(err)
		}
		previous = next
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	entries := logged(t, s, "desk", rounds+1)
	for i, e := range entries[1:] {
		c := commitOf(uint64(i+1), 1, nil, nil)
		if e.Round != uint64(i+1) || e.Survivors != 2 || e.Committed != c.Attempt.Ended.UnixMilli() {
			t.Errorf("entry %d is %+v", i+1, e)
		}
	}
	index, raw, err := s.LogEntry(t.Context(), "desk", sha256.Sum256([]byte("checkpoint 1")))
	if err != nil || index != 1 || !bytes.Equal(raw, entries[1].Encode()) {
		t.Errorf("a checkpoint that is no longer kept: entry %d, %v", index, err)
	}
	page, err := s.LogEntries(t.Context(), "desk", rounds-1, 1)
	if err != nil || len(page) != 1 || !bytes.Equal(page[0], entries[rounds-1].Encode()) {
		t.Errorf("a page of one: %q, %v", page, err)
	}
	for _, start := range []uint64{rounds + 1, math.MaxUint64} {
		if page, err := s.LogEntries(t.Context(), "desk", start, 10); err != nil || len(page) != 0 {
			t.Errorf("behind the end: %q, %v", page, err)
		}
	}
}

func TestLogKnowsItsTaskAlone(t *testing.T) {
	s := withTask(t, t.TempDir())
	if err := s.CreateTask(t.Context(), "shop", []byte("spec"), checkpoint(7), start); err != nil {
		t.Fatal(err)
	}
	logged(t, s, "desk", 1)
	logged(t, s, "shop", 1)
	if _, _, err := s.LogEntry(t.Context(), "desk", sha256.Sum256(checkpoint(7))); !errors.Is(err, ErrNotFound) {
		t.Errorf("the other task's checkpoint: %v", err)
	}
	if _, err := s.LogSize(t.Context(), "nobody"); !errors.Is(err, ErrNotFound) {
		t.Errorf("the log of no task: %v", err)
	}
	if err := s.CreateTask(t.Context(), "Not a name", []byte("spec"), checkpoint(8), start); !errors.Is(err, checkpointlog.ErrMalformed) {
		t.Errorf("a task whose name no entry can hold: %v", err)
	}
	if _, err := s.Task(t.Context(), "Not a name"); !errors.Is(err, ErrNotFound) {
		t.Errorf("it is there nevertheless: %v", err)
	}
}

// TestCommitFailsAsAWhole makes each statement of a commit fail in turn: checkpoint,
// log and mark stay as they were, and the same commit succeeds afterwards.
func TestCommitFailsAsAWhole(t *testing.T) {
	s := withTask(t, t.TempDir())
	reveals(t, s, 1, 1)
	if err := s.CreateToken(t.Context(), []byte("t"), 1, start.Add(time.Hour), start); err != nil {
		t.Fatal(err)
	}
	if err := s.Enrol(t.Context(), []byte("t"), secagg.ID{1}, []byte("key"), start); err != nil {
		t.Fatal(err)
	}
	for _, on := range []string{"INSERT ON checkpoints", "INSERT ON checkpoint_chunks", "UPDATE ON tasks", "INSERT ON log_entries",
		"INSERT ON log_hashes", "INSERT ON strategy_chunks", "INSERT ON rounds", "UPDATE ON devices"} {
		if _, err := s.writer.Exec(`CREATE TRIGGER fault BEFORE ` + on + ` BEGIN SELECT RAISE(ABORT, 'fault'); END`); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Commit(t.Context(), commitOf(1, 1, checkpoint(0), checkpoint(1))); err == nil || !strings.Contains(err.Error(), "fault") {
			t.Errorf("%s: %v, want the fault", on, err)
		}
		if _, err := s.writer.Exec(`DROP TRIGGER fault`); err != nil {
			t.Fatal(err)
		}
		logged(t, s, "desk", 1)
		task, err := s.Task(t.Context(), "desk")
		if err != nil || !task.Revealing || task.RoundsDone != 0 {
			t.Errorf("%s: %+v, %v", on, task, err)
		}
	}
	if _, err := s.Commit(t.Context(), commitOf(1, 1, checkpoint(0), checkpoint(1))); err != nil {
		t.Fatal(err)
	}
	logged(t, s, "desk", 2)
}

func TestDamagedLogIsSeen(t *testing.T) {
	for _, tc := range []struct{ damage, want string }{
		{`DELETE FROM log_hashes`, "lacks hash 0"},
		{`UPDATE log_hashes SET hash = zeroblob(3)`, "lacks hash 0"},
		{`DELETE FROM log_entries`, "the log of task desk ends with round 0 and checkpoint 000000000000"},
		{`UPDATE log_entries SET entry = zeroblob(3)`, "malformed"},
	} {
		s := withTask(t, t.TempDir())
		reveals(t, s, 1, 1)
		if _, err := s.writer.Exec(tc.damage); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Commit(t.Context(), commitOf(1, 1, checkpoint(0), checkpoint(1))); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want an error with %q", tc.damage, err, tc.want)
		}
	}
}

// TestRevealedCheckpointIsNotUsedAgain walks through a round that is lost in Reveal:
// also after a restart no attempt begins before a held checkpoint is committed.
func TestRevealedCheckpointIsNotUsedAgain(t *testing.T) {
	dir := t.TempDir()
	s := withTask(t, dir)
	revealing := func(want bool) {
		t.Helper()
		task, err := s.Task(t.Context(), "desk")
		if err != nil || task.Revealing != want {
			t.Fatalf("revealing: %v, %v; want %v", task.Revealing, err, want)
		}
	}
	for _, at := range []struct {
		task    string
		round   uint64
		attempt uint32
	}{{"desk", 1, 2}, {"desk", 2, 1}, {"nobody", 1, 1}} {
		if err := s.Revealing(t.Context(), at.task, at.round, at.attempt, sha256.Sum256(checkpoint(0))); !errors.Is(err, ErrStale) {
			t.Errorf("%+v: %v, want ErrStale", at, err)
		}
	}
	revealing(false)
	if _, err := s.Commit(t.Context(), held(1, 2, checkpoint(0), checkpoint(1))); !errors.Is(err, ErrStale) {
		t.Errorf("a held checkpoint where nothing is lost: %v", err)
	}
	reveals(t, s, 1, 1)
	reveals(t, s, 1, 1)
	for range 2 { // the attempt ends, then the coordinator
		if err := s.Begin(t.Context(), "desk", 2, 1); !errors.Is(err, ErrRevealed) {
			t.Errorf("the next attempt began: %v", err)
		}
		if err := s.Abort(t.Context(), "desk", Attempt{Round: 1, Attempt: 1, Aborted: "lost"}); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, dir)
		revealing(true)
	}
	c := held(2, 1, checkpoint(0), checkpoint(1))
	c.Survivors = []secagg.ID{{1}}
	if _, err := s.Commit(t.Context(), c); err == nil {
		t.Error("a held checkpoint with survivors")
	}
	c = commitOf(1, 1, checkpoint(0), checkpoint(1))
	c.Survivors = nil
	if _, err := s.Commit(t.Context(), c); err == nil {
		t.Error("a sum over nobody")
	}
	sum, err := s.Commit(t.Context(), held(2, 1, checkpoint(0), checkpoint(1)))
	if err != nil {
		t.Fatal(err)
	}
	revealing(false)
	if entries := logged(t, s, "desk", 2); entries[1].Survivors != 0 || entries[1].Round != 2 {
		t.Errorf("the held checkpoint's entry is %+v", entries[1])
	}
	if _, _, err := s.Committed(t.Context(), "desk", 1, 1); !errors.Is(err, ErrNotFound) {
		t.Errorf("the lost attempt has a receipt: %v", err)
	}
	if got, _, err := s.Committed(t.Context(), "desk", 2, 1); err != nil || got != sum {
		t.Errorf("the held one is %x, %v", got, err)
	}
	if err := s.Begin(t.Context(), "desk", 2, 1); !errors.Is(err, ErrStale) {
		t.Errorf("the held one's attempt began: %v", err)
	}
	if err := s.Begin(t.Context(), "desk", 3, 1); err != nil {
		t.Error(err)
	}
	if err := s.Begin(t.Context(), "nobody", 3, 1); !errors.Is(err, ErrNotFound) {
		t.Errorf("an attempt of no task: %v", err)
	}
}

// TestEarlierFolderIsUpgraded opens a folder of the schema before logs were kept.
func TestEarlierFolderIsUpgraded(t *testing.T) {
	dir := t.TempDir()
	db, err := sql.Open("sqlite", source(filepath.Join(dir, databaseFile), "_txlock=immediate", "foreign_keys(1)"))
	if err != nil {
		t.Fatal(err)
	}
	all := migrations
	migrations = all[:1]
	err = migrate(db, start)
	migrations = all
	if err != nil {
		t.Fatal(err)
	}
	// "desk" committed round 4, "shop" was in round 2 when it stopped, "bar" is new.
	for i, row := range []struct {
		name       string
		round      int
		checkpoint int // the round that made it
	}{{"desk", 4, 4}, {"shop", 2, 0}, {"bar", 0, 0}} {
		file := fmt.Appendf(nil, "checkpoint of %s", row.name)
		sum := sha256.Sum256(file)
		for _, step := range []struct {
			sql  string
			args []any
		}{
			{`INSERT INTO tasks (name, spec, created_ms, rounds_done, round, attempt, checkpoint) VALUES ($1, $2, 0, 2, $3, 1, $4)`,
				[]any{row.name, []byte("spec"), row.round, sum[:]}},
			{`INSERT INTO checkpoints (sha256, task, round, bytes, committed_ms) VALUES ($1, $2, $3, $4, $5)`,
				[]any{sum[:], row.name, row.checkpoint, len(file), 1000 + i}},
			{`INSERT INTO checkpoint_chunks (sha256, seq, data) VALUES ($1, 0, $2)`, []any{sum[:], file}},
			{`INSERT INTO rounds (task, seq, round, attempt, cohort, roster, survivors, started_ms, ended_ms, aborted, checkpoint)
				SELECT $1, 1, $2, 1, 5, 5, 4, 0, 0, '', $3 WHERE $2 > 0`, []any{row.name, row.checkpoint, sum[:]}},
		} {
			if _, err := db.Exec(step.sql, step.args...); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir)
	if e := logged(t, s, "desk", 1)[0]; e.Round != 4 || e.Survivors != 4 || e.Committed != 1000 || e.Previous != [32]byte{} {
		t.Errorf("the log begins with %+v", e)
	}
	for name, revealing := range map[string]bool{"desk": false, "shop": true, "bar": false} {
		logged(t, s, name, 1)
		if task, err := s.Task(t.Context(), name); err != nil || task.Revealing != revealing {
			t.Errorf("%s: revealing %v, %v", name, task.Revealing, err)
		}
	}
	if a, err := s.Attempts(t.Context(), "desk", 1); err != nil || a[0].Cohorts != 1 || a[0].CohortsLost != 0 {
		t.Errorf("an attempt of then: %+v, %v", a, err)
	}
	if err := s.Begin(t.Context(), "desk", 5, 1); err != nil {
		t.Fatal(err)
	}
	reveals(t, s, 5, 1)
	if _, err := s.Commit(t.Context(), commitOf(5, 1, []byte("checkpoint of desk"), checkpoint(1))); err != nil {
		t.Fatal(err)
	}
	logged(t, s, "desk", 2)
}
