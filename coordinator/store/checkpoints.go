package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"fmt"
	"time"
)

const (
	// ChunkSize is the length of a stored piece of a checkpoint, but for the last: as much as
	// a device is sent at once, so that no more is read.
	ChunkSize = 256 << 10
	// KeptCheckpoints is how many of a task's checkpoints the store keeps; older ones
	// go with the commit that makes a new one.
	KeptCheckpoints = 50
)

// CheckpointRecord is a kept checkpoint of a task.
type CheckpointRecord struct {
	SHA256    [32]byte
	Round     uint64 // that made it; 0 for the first
	Bytes     uint64
	Committed time.Time
}

// eachChunk hands raw to f in pieces of ChunkSize.
func eachChunk(raw []byte, f func(seq int, data []byte) error) error {
	for seq := 0; len(raw) > 0; seq++ {
		n := min(len(raw), ChunkSize)
		if err := f(seq, raw[:n]); err != nil {
			return err
		}
		raw = raw[n:]
	}
	return nil
}

func addCheckpoint(ctx context.Context, tx *sql.Tx, task string, round uint64, raw []byte, now time.Time) error {
	sum := sha256.Sum256(raw)
	if _, err := tx.ExecContext(ctx, `INSERT INTO checkpoints (sha256, task, round, bytes, committed_ms, piece) VALUES ($1, $2, $3, $4, $5, $6)`,
		sum[:], task, round, len(raw), now.UnixMilli(), ChunkSize); err != nil {
		return err
	}
	return eachChunk(raw, func(seq int, data []byte) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO checkpoint_chunks (sha256, seq, data) VALUES ($1, $2, $3)`, sum[:], seq, data)
		return err
	})
}

// pruneCheckpoints drops a task's checkpoints but the newest and the best.
func pruneCheckpoints(ctx context.Context, tx *sql.Tx, task string) error {
	_, err := tx.ExecContext(ctx, `DELETE FROM checkpoints WHERE task = $1 AND round <
		(SELECT MIN(round) FROM (SELECT round FROM checkpoints WHERE task = $1 ORDER BY round DESC LIMIT $2) AS newest)
		AND sha256 NOT IN (SELECT best FROM tasks WHERE name = $1 AND best IS NOT NULL)`, task, KeptCheckpoints)
	return err
}

// Checkpoints returns the kept checkpoints of a task, newest first.
func (s *Store) Checkpoints(ctx context.Context, task string) ([]CheckpointRecord, error) {
	return collect(ctx, s.reader, "listing checkpoints", func(rows *sql.Rows, c *CheckpointRecord) error {
		var sum []byte
		var committed int64
		if err := rows.Scan(&sum, &c.Round, &c.Bytes, &committed); err != nil {
			return err
		}
		copy(c.SHA256[:], sum)
		c.Committed = time.UnixMilli(committed)
		return nil
	}, `SELECT sha256, round, bytes, committed_ms FROM checkpoints WHERE task = $1 ORDER BY round DESC`, task)
}

// Checkpoint returns the bytes of a checkpoint, whose hash it has checked.
func (s *Store) Checkpoint(ctx context.Context, sum [32]byte) ([]byte, error) {
	raw, err := s.join(ctx, `SELECT data FROM checkpoint_chunks WHERE sha256 = $1 ORDER BY seq`, sum[:])
	if err != nil {
		return nil, fmt.Errorf("store: reading checkpoint %x: %w", sum, err)
	}
	if len(raw) == 0 {
		return nil, fmt.Errorf("store: checkpoint %x: %w", sum, ErrNotFound)
	}
	if got := sha256.Sum256(raw); got != sum {
		return nil, fmt.Errorf("store: checkpoint %x has the hash %x; the database is damaged: restore a back-up", sum, got)
	}
	return raw, nil
}

// Chunk returns the bytes of a checkpoint from offset to the end of the stored piece
// that holds it, at most ChunkSize, and the size of the whole. Pieces from before 0.3.0 are
// larger. It returns ErrNotFound for a checkpoint that is not kept, and no bytes at or
// behind its end.
func (s *Store) Chunk(ctx context.Context, sum []byte, offset uint64) (data []byte, total uint64, err error) {
	var piece uint64
	if err := s.reader.QueryRowContext(ctx, `SELECT bytes, piece FROM checkpoints WHERE sha256 = $1`, sum).Scan(&total, &piece); err != nil {
		return nil, 0, found(fmt.Sprintf("reading checkpoint %x", sum), err)
	}
	if offset >= total {
		return nil, total, nil
	}
	err = s.reader.QueryRowContext(ctx, `SELECT data FROM checkpoint_chunks WHERE sha256 = $1 AND seq = $2`, sum, int64(offset/piece)).Scan(&data)
	if err != nil {
		return nil, 0, found(fmt.Sprintf("reading checkpoint %x", sum), err)
	}
	if skip := offset % piece; skip < uint64(len(data)) {
		data = data[skip:]
		return data[:min(len(data), ChunkSize)], total, nil
	}
	return nil, 0, fmt.Errorf("store: a piece of checkpoint %x has %d bytes, too few for offset %d; the database is damaged: restore a back-up", sum, len(data), offset)
}

// join reads the pieces that a query returns, in order, as one.
func (s *Store) join(ctx context.Context, query string, arg any) ([]byte, error) {
	pieces, err := collect(ctx, s.reader, "reading", func(rows *sql.Rows, piece *[]byte) error { return rows.Scan(piece) }, query, arg)
	if err != nil {
		return nil, err
	}
	var raw []byte
	for _, p := range pieces {
		raw = append(raw, p...)
	}
	return raw, nil
}

// CheckpointTask returns the task that a kept checkpoint belongs to, or ErrNotFound.
func (s *Store) CheckpointTask(ctx context.Context, sum []byte) (task string, err error) {
	err = s.reader.QueryRowContext(ctx, `SELECT task FROM checkpoints WHERE sha256 = $1`, sum).Scan(&task)
	return task, found(fmt.Sprintf("finding the task of checkpoint %x", sum), err)
}
