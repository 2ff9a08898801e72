package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"time"

	"github.com/discreet-fl/discreet/checkpointlog"
)

// QueueIntents keeps changes of a task's intents, as their caller serialised them,
// until CommitIntents. They are on the disk when it returns nil.
func (s *Store) QueueIntents(ctx context.Context, task string, changes []byte) error {
	return s.write(ctx, "queueing changes of intents", func(tx *sql.Tx) error {
		var seq int64
		if err := tx.QueryRowContext(ctx, `SELECT COALESCE(MAX(seq), 0) + 1 FROM intent_changes WHERE task = $1`, task).Scan(&seq); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO intent_changes (task, seq, changes) VALUES ($1, $2, $3)`, task, seq, changes)
		return err
	})
}

// QueuedIntents returns what is queued for a task, the oldest first.
func (s *Store) QueuedIntents(ctx context.Context, task string) ([][]byte, error) {
	return collect(ctx, s.reader, "listing changes of intents", func(rows *sql.Rows, b *[]byte) error { return rows.Scan(b) },
		`SELECT changes FROM intent_changes WHERE task = $1 ORDER BY seq`, task)
}

// IntentsCommit is a checkpoint with other intents, in the place of a round.
type IntentsCommit struct {
	Task       string
	Round      uint64 // of an attempt that was not begun
	Attempt    uint32
	Previous   [32]byte
	Checkpoint []byte    // the new checkpoint's bytes
	State      []float32 // the strategy's, that goes with it
	Version    uint64    // of the list of intents
	Now        time.Time
}

// CommitIntents makes a checkpoint with other intents the task's current one, in one
// transaction that also empties the queue. It counts as no round that is done. It
// returns the checkpoint's SHA-256, or ErrStale where the attempt or the checkpoint
// before it is not the task's current one, or where devices may have revealed for that.
func (s *Store) CommitIntents(ctx context.Context, c IntentsCommit) (sum [32]byte, err error) {
	sum = sha256.Sum256(c.Checkpoint)
	return sum, s.write(ctx, "changing intents", func(tx *sql.Tx) error {
		if err := addCheckpoint(ctx, tx, c.Task, c.Round, c.Checkpoint, c.Now); err != nil {
			return err
		}
		done, err := tx.ExecContext(ctx, `UPDATE tasks SET checkpoint = $1, round = $4, attempt = $5,
			best = NULL, best_accuracy = 0, best_since = 0 WHERE name = $2 AND checkpoint = $3
			AND revealing = 0 AND (round < $4 OR (round = $4 AND attempt < $5))`, sum[:], c.Task, c.Previous[:], c.Round, c.Attempt)
		if err := fence(done, err, c.Task, c.Round, c.Attempt); err != nil {
			return err
		}
		if err := appendLog(ctx, tx, checkpointlog.Entry{
			Task: c.Task, Round: c.Round, Checkpoint: sum, Bytes: uint64(len(c.Checkpoint)), Previous: c.Previous, Committed: c.Now.UnixMilli(),
		}); err != nil {
			return err
		}
		if err := setState(ctx, tx, c.Task, c.State); err != nil {
			return err
		}
		if err := addAttempt(ctx, tx, c.Task, Attempt{
			Round: c.Round, Attempt: c.Attempt, Started: c.Now, Ended: c.Now, Checkpoint: sum, IntentsVersion: c.Version,
		}, sum[:]); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM intent_changes WHERE task = $1`, c.Task); err != nil {
			return err
		}
		return pruneCheckpoints(ctx, tx, c.Task)
	})
}
