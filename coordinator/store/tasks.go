package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/discreet-fl/discreet/checkpointlog"
	"github.com/discreet-fl/discreet/secagg"
)

// keptAttempts is how many ended attempts of a task the store remembers.
const keptAttempts = 10_000

// Task is a task as it stands.
type Task struct {
	Name            string
	Spec            []byte // as its creator serialised it
	Created         time.Time
	RoundsDone      uint64 // rounds committed, held checkpoints included
	Round           uint64 // the latest attempt that was begun; 0 before the first
	Attempt         uint32
	Checkpoint      [32]byte // SHA-256 of the current one
	CheckpointBytes uint64
	CheckpointRound uint64 // in whose place it stands; Round, unless an attempt was begun since
	// Revealing tells that the latest attempt's devices were asked to reveal and that
	// it was not committed. Once it has ended, the round is lost and the checkpoint
	// must not be used again: the sums of two rounds on it would differ by somebody's
	// update.
	Revealing bool
	// Best is the checkpoint that is kept as the best one, nil before there is one.
	Best *Best
	// Clip is that of the next round, where the task's moves; 0 is that of the first.
	Clip float32
}

// Best is the checkpoint that did best in the devices' evaluations.
type Best struct {
	SHA256   [32]byte
	Accuracy float64 // smoothed
	Since    uint64  // evaluations since then
}

// Attempt is the record of an attempt at a round that has ended.
type Attempt struct {
	Round                     uint64
	Attempt                   uint32
	Cohort, Roster, Survivors int // devices
	Cohorts, CohortsLost      int // that the devices were split into, and those left out of the sum
	Started, Ended            time.Time
	Aborted                   string   // why; empty when the round was committed
	Checkpoint                [32]byte // that it made; zero when aborted
	Staleness                 int      // checkpoints that came after the one it trained and before it was counted
	IntentsVersion            uint64   // not 0 where no devices took part, and the list of intents became this one
	Evaluation                []byte   // of the checkpoint it began with, as its coordinator serialised it; nil for none
	// ChargedDevices may have sent a vector, for Charge trillionths of ρ each; 0 where
	// sums are exact.
	ChargedDevices int
	Charge         uint64
	Clip           float32 // that its devices were told, where the task's moves
}

// CreateTask adds a task with its first checkpoint, which begins its log, or returns
// ErrExists.
func (s *Store) CreateTask(ctx context.Context, name string, spec, checkpoint []byte, now time.Time) error {
	return s.write(ctx, "creating task "+name, func(tx *sql.Tx) error {
		sum := sha256.Sum256(checkpoint)
		made, err := tx.ExecContext(ctx, `INSERT INTO tasks (name, spec, created_ms, rounds_done, round, attempt, checkpoint)
			VALUES ($1, $2, $3, 0, 0, 0, $4) ON CONFLICT (name) DO NOTHING`, name, spec, now.UnixMilli(), sum[:])
		if err != nil {
			return err
		}
		if n, err := made.RowsAffected(); err != nil || n == 0 {
			return errors.Join(err, ErrExists)
		}
		if err := addCheckpoint(ctx, tx, name, 0, checkpoint, now); err != nil {
			return err
		}
		return appendLog(ctx, tx, checkpointlog.Entry{
			Task: name, Checkpoint: sum, Bytes: uint64(len(checkpoint)), Committed: now.UnixMilli(),
		})
	})
}

const taskQuery = `SELECT t.name, t.spec, t.created_ms, t.rounds_done, t.round, t.attempt, t.checkpoint, c.bytes, c.round, t.revealing,
	t.best, t.best_accuracy, t.best_since, t.clip FROM tasks t JOIN checkpoints c ON c.sha256 = t.checkpoint`

func scanTask(scan func(...any) error, t *Task) error {
	var created int64
	var sum, best []byte
	var b Best
	if err := scan(&t.Name, &t.Spec, &created, &t.RoundsDone, &t.Round, &t.Attempt, &sum, &t.CheckpointBytes, &t.CheckpointRound, &t.Revealing,
		&best, &b.Accuracy, &b.Since, &t.Clip); err != nil {
		return err
	}
	if best != nil {
		copy(b.SHA256[:], best)
		t.Best = &b
	}
	t.Created = time.UnixMilli(created)
	copy(t.Checkpoint[:], sum)
	return nil
}

// Task returns the task of that name, or ErrNotFound.
func (s *Store) Task(ctx context.Context, name string) (Task, error) {
	var t Task
	err := scanTask(s.reader.QueryRowContext(ctx, taskQuery+` WHERE t.name = $1`, name).Scan, &t)
	return t, found("reading a task", err)
}

// Tasks returns all tasks by name.
func (s *Store) Tasks(ctx context.Context) ([]Task, error) {
	return collect(ctx, s.reader, "listing tasks",
		func(rows *sql.Rows, t *Task) error { return scanTask(rows.Scan, t) }, taskQuery+` ORDER BY t.name`)
}

// Begin records that an attempt starts, so that no later one, not even after a
// crash, has its number. It returns ErrStale for an attempt that is not a later one,
// and ErrRevealed where the latest one revealed and was not committed.
func (s *Store) Begin(ctx context.Context, task string, round uint64, attempt uint32) error {
	return s.begin(ctx, task, round, attempt, false)
}

// BeginBeside is Begin for an attempt of a task whose attempts run side by side: that
// devices of another reveal does not keep it from beginning.
func (s *Store) BeginBeside(ctx context.Context, task string, round uint64, attempt uint32) error {
	return s.begin(ctx, task, round, attempt, true)
}

func (s *Store) begin(ctx context.Context, task string, round uint64, attempt uint32, beside bool) error {
	return s.write(ctx, "beginning an attempt", func(tx *sql.Tx) error {
		var revealing bool
		if err := tx.QueryRowContext(ctx, `SELECT revealing FROM tasks WHERE name = $1`, task).Scan(&revealing); errors.Is(err, sql.ErrNoRows) {
			return ErrNotFound
		} else if err != nil {
			return err
		}
		if revealing && !beside {
			return fmt.Errorf("round %d attempt %d of task %s: %w", round, attempt, task, ErrRevealed)
		}
		done, err := tx.ExecContext(ctx, `UPDATE tasks SET round = $1, attempt = $2
			WHERE name = $3 AND (round < $1 OR (round = $1 AND attempt < $2))`, round, attempt, task)
		return fence(done, err, task, round, attempt)
	})
}

// Revealing records that the devices of the current attempt, or of one that runs beside
// it, are about to be asked to reveal for a checkpoint. It is on the disk when Revealing
// returns nil; from then on the checkpoint is used up, whatever becomes of the attempt. Of
// one that another has taken the place of meanwhile, which is used up already, nothing is
// noted. It returns ErrStale for a later attempt or another round's, and may be repeated.
func (s *Store) Revealing(ctx context.Context, task string, round uint64, attempt uint32, checkpoint [32]byte) error {
	return s.write(ctx, "noting that an attempt reveals", func(tx *sql.Tx) error {
		done, err := tx.ExecContext(ctx, `UPDATE tasks SET revealing = CASE WHEN checkpoint = $4 THEN 1 ELSE revealing END
			WHERE name = $1 AND round = $2 AND attempt >= $3`, task, round, attempt, checkpoint[:])
		return fence(done, err, task, round, attempt)
	})
}

// fence turns an update that found no row into ErrStale.
func fence(done sql.Result, err error, task string, round uint64, attempt uint32) error {
	if err != nil {
		return err
	}
	if n, err := done.RowsAffected(); err != nil || n == 0 {
		return errors.Join(err, fmt.Errorf("round %d attempt %d of task %s: %w", round, attempt, task, ErrStale))
	}
	return nil
}

// Abort records an attempt that ended without a checkpoint. It takes nothing back of
// what Revealing has noted.
func (s *Store) Abort(ctx context.Context, task string, a Attempt) error {
	return s.write(ctx, "recording an aborted attempt", func(tx *sql.Tx) error { return addAttempt(ctx, tx, task, a, nil) })
}

// Commit is everything that one successful round changes.
type Commit struct {
	Task       string
	Attempt    Attempt // Checkpoint is filled in
	Previous   [32]byte
	Checkpoint []byte      // the new checkpoint's bytes
	State      []float32   // the strategy's state that goes with it
	Clip       float32     // of the next round; 0 leaves it
	Survivors  []secagg.ID // the devices in the sum; none where it is held
	// Best, where set, is the best checkpoint from now on, which pruning spares.
	Best *Best
	// Held marks a checkpoint with the previous one's parameters, in the place of a
	// round that was lost after its devices were asked to reveal. Its attempt is a
	// later one than theirs, of a round or a number that was not begun.
	Held bool
	// Buffered are the records of the attempts whose sums are in the checkpoint, where a
	// task's attempts run side by side. Attempt then is of no record, and a later one than
	// all that were begun.
	Buffered []Attempt
}

// Commit ends a round in one transaction, which has reached the disk when Commit
// returns: the new checkpoint becomes the task's current one, with its entry in the
// log, its record and the survivors' participation. It returns the checkpoint's
// SHA-256, or ErrStale where the attempt or the checkpoint it trained on is not the
// task's current one, or where it was not noted that the attempt reveals.
func (s *Store) Commit(ctx context.Context, c Commit) (sum [32]byte, err error) {
	if c.Held != (len(c.Survivors) == 0) {
		return sum, fmt.Errorf("store: committing a round: %d survivors, want none for a held checkpoint and some for every other", len(c.Survivors))
	}
	sum = sha256.Sum256(c.Checkpoint)
	a := c.Attempt
	a.Checkpoint = sum
	return sum, s.write(ctx, "committing a round", func(tx *sql.Tx) error {
		if err := addCheckpoint(ctx, tx, c.Task, a.Round, c.Checkpoint, a.Ended); err != nil {
			return err
		}
		if err := moveTask(ctx, tx, c, sum); err != nil {
			return err
		}
		if err := appendLog(ctx, tx, checkpointlog.Entry{
			Task: c.Task, Round: a.Round, Checkpoint: sum, Bytes: uint64(len(c.Checkpoint)), Previous: c.Previous,
			Survivors: uint32(len(c.Survivors)), Committed: a.Ended.UnixMilli(),
		}); err != nil {
			return err
		}
		if err := setState(ctx, tx, c.Task, c.State); err != nil {
			return err
		}
		if c.Clip > 0 {
			if _, err := tx.ExecContext(ctx, `UPDATE tasks SET clip = $1 WHERE name = $2`, c.Clip, c.Task); err != nil {
				return err
			}
		}
		records := c.Buffered
		if len(records) == 0 {
			records = []Attempt{a}
		}
		for _, record := range records {
			if err := addAttempt(ctx, tx, c.Task, record, sum[:]); err != nil {
				return err
			}
		}
		for _, id := range c.Survivors {
			if _, err := tx.ExecContext(ctx, `UPDATE devices SET rounds = rounds + 1, seen_ms = $1 WHERE id = $2`, a.Ended.UnixMilli(), id[:]); err != nil {
				return err
			}
		}
		if b := c.Best; b != nil {
			if _, err := tx.ExecContext(ctx, `UPDATE tasks SET best = $1, best_accuracy = $2, best_since = $3 WHERE name = $4`, b.SHA256[:], b.Accuracy, b.Since, c.Task); err != nil {
				return err
			}
		}
		return pruneCheckpoints(ctx, tx, c.Task)
	})
}

// moveTask gives a task its new checkpoint.
func moveTask(ctx context.Context, tx *sql.Tx, c Commit, sum [32]byte) error {
	const later = `(round < $4 OR (round = $4 AND attempt < $5))`
	of := `revealing = 1 AND round = $4 AND attempt = $5`
	switch {
	case c.Held:
		of = `revealing = 1 AND ` + later
	case len(c.Buffered) > 0: // all that are in it may have trained earlier checkpoints
		of = later
	}
	a := c.Attempt
	done, err := tx.ExecContext(ctx, `UPDATE tasks SET checkpoint = $1, rounds_done = rounds_done + 1, revealing = 0, round = $4, attempt = $5
		WHERE name = $2 AND checkpoint = $3 AND `+of, sum[:], c.Task, c.Previous[:], a.Round, a.Attempt)
	return fence(done, err, c.Task, a.Round, a.Attempt)
}

// addAttempt appends a record and drops the one that falls out at the other end.
func addAttempt(ctx context.Context, tx *sql.Tx, task string, a Attempt, sum []byte) error {
	var seq int64
	if err := tx.QueryRowContext(ctx, `SELECT COALESCE(MAX(seq), 0) + 1 FROM rounds WHERE task = $1`, task).Scan(&seq); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `INSERT INTO rounds
		(task, seq, round, attempt, cohort, roster, survivors, cohorts, cohorts_lost, started_ms, ended_ms, aborted, checkpoint, intents_version, evaluation,
		staleness, charged_devices, charge, clip)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)`, task, seq, a.Round, a.Attempt, a.Cohort, a.Roster, a.Survivors,
		a.Cohorts, a.CohortsLost, a.Started.UnixMilli(), a.Ended.UnixMilli(), a.Aborted, sum, int64(a.IntentsVersion), a.Evaluation,
		a.Staleness, a.ChargedDevices, int64(a.Charge), a.Clip); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, `DELETE FROM rounds WHERE task = $1 AND seq <= $2`, task, seq-keptAttempts)
	return err
}

// Attempts returns a task's latest ended attempts, newest first.
func (s *Store) Attempts(ctx context.Context, task string, limit int) ([]Attempt, error) {
	return collect(ctx, s.reader, "listing rounds", func(rows *sql.Rows, a *Attempt) error {
		var started, ended int64
		var sum []byte
		if err := rows.Scan(&a.Round, &a.Attempt, &a.Cohort, &a.Roster, &a.Survivors, &a.Cohorts, &a.CohortsLost, &started, &ended, &a.Aborted, &sum, &a.IntentsVersion, &a.Evaluation, &a.Staleness, &a.ChargedDevices, &a.Charge, &a.Clip); err != nil {
			return err
		}
		a.Started, a.Ended = time.UnixMilli(started), time.UnixMilli(ended)
		copy(a.Checkpoint[:], sum)
		return nil
	}, `SELECT round, attempt, cohort, roster, survivors, cohorts, cohorts_lost, started_ms, ended_ms, aborted, checkpoint, intents_version, evaluation, staleness, charged_devices, charge, clip
		FROM rounds WHERE task = $1 ORDER BY seq DESC LIMIT $2`, task, limit)
}

// Evaluations returns what is recorded of a task's latest evaluations, newest first, as its
// coordinator serialised them: none from before its intents changed last.
func (s *Store) Evaluations(ctx context.Context, task string, limit int) ([][]byte, error) {
	return collect(ctx, s.reader, "listing evaluations", func(rows *sql.Rows, e *[]byte) error { return rows.Scan(e) },
		`SELECT evaluation FROM rounds WHERE task = $1 AND length(evaluation) > 0
		AND seq > (SELECT COALESCE(MAX(seq), 0) FROM rounds WHERE task = $1 AND intents_version <> 0) ORDER BY seq DESC LIMIT $2`, task, limit)
}

// Committed returns the checkpoint that an attempt made and its size in bytes, or
// ErrNotFound where no such attempt was committed.
func (s *Store) Committed(ctx context.Context, task string, round uint64, attempt uint32) (sum [32]byte, size uint64, err error) {
	var hash []byte
	var bytes sql.NullInt64
	err = s.reader.QueryRowContext(ctx, `SELECT r.checkpoint, c.bytes FROM rounds r LEFT JOIN checkpoints c ON c.sha256 = r.checkpoint
		WHERE r.task = $1 AND r.round = $2 AND r.attempt = $3 AND r.checkpoint IS NOT NULL`, task, int64(min(round, math.MaxInt64)), attempt).Scan(&hash, &bytes)
	copy(sum[:], hash)
	return sum, uint64(bytes.Int64), found("reading a round", err)
}

// setState replaces a task's strategy state.
func setState(ctx context.Context, tx *sql.Tx, task string, state []float32) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM strategy_chunks WHERE task = $1`, task); err != nil {
		return err
	}
	raw := make([]byte, 0, 4*len(state))
	for _, v := range state {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(v))
	}
	return eachChunk(raw, func(seq int, data []byte) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO strategy_chunks (task, seq, data) VALUES ($1, $2, $3)`, task, seq, data)
		return err
	})
}

// StrategyState returns the strategy's state that belongs to a task's current
// checkpoint, n numbers; it is zero before the first round.
func (s *Store) StrategyState(ctx context.Context, task string, n int) ([]float32, error) {
	raw, err := s.join(ctx, `SELECT data FROM strategy_chunks WHERE task = $1 ORDER BY seq`, task)
	if err != nil {
		return nil, fmt.Errorf("store: reading the strategy state of task %s: %w", task, err)
	}
	state := make([]float32, n)
	if len(raw) == 0 {
		return state, nil
	}
	if len(raw) != 4*n {
		return nil, fmt.Errorf("store: the strategy state of task %s has %d bytes, want %d for the strategy that it was created with; the database is damaged: restore a back-up", task, len(raw), 4*n)
	}
	for i := range state {
		state[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
	}
	return state, nil
}
