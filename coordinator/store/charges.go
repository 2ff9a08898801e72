package store

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/discreet-fl/discreet/secagg"
)

// Account is what a device may have given away in a task.
type Account struct {
	Device  secagg.ID
	Vectors uint32 // that it may have sent
	Charged uint64 // in trillionths of ρ
	Round   uint64 // the last that it may have sent one in
}

// Charge adds a vector in a round, at a charge in trillionths of ρ, to the accounts of
// these devices. It is on the disk when Charge returns nil.
func (s *Store) Charge(ctx context.Context, task string, round, charge uint64, devices []secagg.ID) error {
	return s.write(ctx, "charging devices", func(tx *sql.Tx) error {
		for _, id := range devices {
			if _, err := tx.ExecContext(ctx, `INSERT INTO charges (task, device, vectors, charged, round) VALUES ($1, $2, 1, $3, $4)
				ON CONFLICT (task, device) DO UPDATE SET vectors = charges.vectors + 1, charged = charges.charged + excluded.charged, round = excluded.round`,
				task, id[:], int64(charge), int64(round)); err != nil {
				return err
			}
		}
		return nil
	})
}

// noiseLasts is how long noise that was kept at a stop may be gone on with.
const noiseLasts = 15 * time.Minute

// KeepNoise keeps a coordinator's own noise of a task, as its last commit left it, over a
// stop. What is no longer the task's current checkpoint leaves nothing.
func (s *Store) KeepNoise(ctx context.Context, task string, checkpoint [32]byte, state []byte, now time.Time) error {
	return s.write(ctx, "keeping noise", func(tx *sql.Tx) error {
		if err := dropNoise(ctx, tx, task); err != nil {
			return err
		}
		done, err := tx.ExecContext(ctx, `UPDATE tasks SET noise_kept_ms = $1 WHERE name = $2 AND checkpoint = $3`, now.UnixMilli(), task, checkpoint[:])
		if err != nil {
			return err
		}
		if n, err := done.RowsAffected(); err != nil || n == 0 {
			return err
		}
		return eachChunk(state, func(seq int, data []byte) error {
			_, err := tx.ExecContext(ctx, `INSERT INTO noise_chunks (task, seq, data) VALUES ($1, $2, $3)`, task, seq, data)
			return err
		})
	})
}

// TakeNoise returns what KeepNoise kept, which is gone once it returns, whatever becomes of
// the caller; nothing where it was kept longer ago than noiseLasts. A copy of the database
// that is restored later, or was made of one in use, therefore has none: noise that two
// futures of a task go on from would hide less in each.
func (s *Store) TakeNoise(ctx context.Context, task string, now time.Time) (state []byte, err error) {
	err = s.write(ctx, "taking noise", func(tx *sql.Tx) error {
		var kept int64
		if err := tx.QueryRowContext(ctx, `SELECT noise_kept_ms FROM tasks WHERE name = $1`, task).Scan(&kept); err != nil {
			return err
		}
		if kept == 0 {
			return nil
		}
		pieces, err := collect(ctx, tx, "reading", func(rows *sql.Rows, piece *[]byte) error { return rows.Scan(piece) },
			`SELECT data FROM noise_chunks WHERE task = $1 ORDER BY seq`, task)
		if age := now.Sub(time.UnixMilli(kept)); err == nil && age >= 0 && age <= noiseLasts {
			state = bytes.Join(pieces, nil)
		}
		return errors.Join(err, dropNoise(ctx, tx, task))
	})
	return state, err
}

func dropNoise(ctx context.Context, tx *sql.Tx, task string) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM noise_chunks WHERE task = $1`, task); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, `UPDATE tasks SET noise_kept_ms = 0 WHERE name = $1`, task)
	return err
}

// Accounts returns the accounts of a task's devices.
func (s *Store) Accounts(ctx context.Context, task string) ([]Account, error) {
	return collect(ctx, s.reader, "reading what devices were charged", func(rows *sql.Rows, a *Account) error {
		var id []byte
		if err := rows.Scan(&id, &a.Vectors, &a.Charged, &a.Round); err != nil {
			return err
		}
		copy(a.Device[:], id)
		return nil
	}, `SELECT device, vectors, charged, round FROM charges WHERE task = $1`, task)
}
