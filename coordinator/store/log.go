package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/discreet-fl/discreet/checkpointlog"
)

// appendLog adds an entry to its task's log, with the hashes that the tree gains. It
// is called in the transaction that makes the entry's checkpoint the task's current
// one, so that log and checkpoint never disagree.
func appendLog(ctx context.Context, tx *sql.Tx, e checkpointlog.Entry) error {
	size, last, err := newestEntry(ctx, tx, e.Task)
	if err != nil {
		return err
	}
	if e.Previous != last.Checkpoint || size > 0 && e.Round <= last.Round {
		return fmt.Errorf("the log of task %s ends with round %d and checkpoint %x, the new entry is of round %d after checkpoint %x; the database is damaged: restore a back-up",
			e.Task, last.Round, last.Checkpoint[:6], e.Round, e.Previous[:6])
	}
	raw := e.Encode()
	hashes, err := checkpointlog.Append(raw, size, hashReader(ctx, tx, e.Task))
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `INSERT INTO log_entries (task, idx, checkpoint, entry) VALUES ($1, $2, $3, $4)`,
		e.Task, int64(size), e.Checkpoint[:], raw); err != nil {
		return err
	}
	for i, h := range hashes {
		if _, err := tx.ExecContext(ctx, `INSERT INTO log_hashes (task, idx, hash) VALUES ($1, $2, $3)`,
			e.Task, tlog.StoredHashCount(int64(size))+int64(i), h[:]); err != nil {
			return err
		}
	}
	return nil
}

// newestEntry returns how many entries a task's log has, and the last; the zero Entry
// where it has none.
func newestEntry(ctx context.Context, tx *sql.Tx, task string) (size uint64, last checkpointlog.Entry, err error) {
	var index int64
	var raw []byte
	err = tx.QueryRowContext(ctx, `SELECT idx, entry FROM log_entries WHERE task = $1 ORDER BY idx DESC LIMIT 1`, task).Scan(&index, &raw)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, last, nil
	}
	if err != nil {
		return 0, last, err
	}
	last, err = checkpointlog.DecodeEntry(raw)
	return uint64(index) + 1, last, err
}

// startLogs begins the log of every task that was created before logs were kept, with
// its current checkpoint.
func startLogs(tx *sql.Tx) error {
	ctx := context.Background()
	entries, err := collect(ctx, tx, "listing tasks", func(rows *sql.Rows, e *checkpointlog.Entry) error {
		var sum []byte
		if err := rows.Scan(&e.Task, &sum, &e.Round, &e.Bytes, &e.Committed, &e.Survivors); err != nil {
			return err
		}
		copy(e.Checkpoint[:], sum)
		return nil
	}, `SELECT t.name, c.sha256, c.round, c.bytes, c.committed_ms,
		COALESCE((SELECT MAX(r.survivors) FROM rounds r WHERE r.task = t.name AND r.checkpoint = c.sha256), 0)
		FROM tasks t JOIN checkpoints c ON c.sha256 = t.checkpoint ORDER BY t.name`)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := appendLog(ctx, tx, e); err != nil {
			return err
		}
	}
	return nil
}

// hashReader reads the hashes of a task's tree.
func hashReader(ctx context.Context, db querier, task string) tlog.HashReader {
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		if len(indexes) == 0 {
			return nil, nil
		}
		places, args := make([]string, len(indexes)), []any{task}
		for i, index := range indexes {
			places[i], args = fmt.Sprintf("$%d", i+2), append(args, index)
		}
		type row struct {
			index int64
			hash  []byte
		}
		rows, err := collect(ctx, db, "reading the log's hashes", func(rows *sql.Rows, r *row) error { return rows.Scan(&r.index, &r.hash) },
			`SELECT idx, hash FROM log_hashes WHERE task = $1 AND idx IN (`+strings.Join(places, ", ")+`)`, args...)
		if err != nil {
			return nil, err
		}
		found := make(map[int64]tlog.Hash, len(rows))
		for _, r := range rows {
			if len(r.hash) == tlog.HashSize {
				found[r.index] = tlog.Hash(r.hash)
			}
		}
		hashes := make([]tlog.Hash, len(indexes))
		for i, index := range indexes {
			h, ok := found[index]
			if !ok {
				return nil, fmt.Errorf("store: the log of task %s lacks hash %d; the database is damaged: restore a back-up", task, index)
			}
			hashes[i] = h
		}
		return hashes, nil
	})
}

// LogHashes reads the hashes of the tree over a task's log, for package checkpointlog
// to compute heads and proofs of any size up to LogSize.
func (s *Store) LogHashes(ctx context.Context, task string) tlog.HashReader {
	return hashReader(ctx, s.reader, task)
}

// LogSize returns how many entries a task's log has, or ErrNotFound where there is no
// such task: every task's log has its first checkpoint.
func (s *Store) LogSize(ctx context.Context, task string) (uint64, error) {
	var newest sql.NullInt64
	err := s.reader.QueryRowContext(ctx, `SELECT MAX(idx) FROM log_entries WHERE task = $1`, task).Scan(&newest)
	if err == nil && !newest.Valid {
		err = sql.ErrNoRows
	}
	if err != nil {
		return 0, found("reading the size of a log", err)
	}
	return uint64(newest.Int64) + 1, nil
}

// LogEntries returns a page of a task's log: the entries from the index start on, in
// order, as package checkpointlog encodes them.
func (s *Store) LogEntries(ctx context.Context, task string, start uint64, limit int) ([][]byte, error) {
	return collect(ctx, s.reader, "listing a log", func(rows *sql.Rows, entry *[]byte) error { return rows.Scan(entry) },
		`SELECT entry FROM log_entries WHERE task = $1 AND idx >= $2 ORDER BY idx LIMIT $3`, task, int64(min(start, math.MaxInt64)), limit)
}

// LogEntry returns the entry of a checkpoint in a task's log and its index, or
// ErrNotFound. It finds checkpoints whose files are no longer kept, too.
func (s *Store) LogEntry(ctx context.Context, task string, checkpoint [32]byte) (index uint64, entry []byte, err error) {
	var at int64
	err = s.reader.QueryRowContext(ctx, `SELECT idx, entry FROM log_entries WHERE task = $1 AND checkpoint = $2`, task, checkpoint[:]).Scan(&at, &entry)
	return uint64(at), entry, found(fmt.Sprintf("finding checkpoint %x in a log", checkpoint[:6]), err)
}
