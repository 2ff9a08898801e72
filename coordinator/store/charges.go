package store

import (
	"context"
	"database/sql"
	"fmt"

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

// setNoise replaces what is kept of a coordinator's own noise, unless there is none.
func setNoise(ctx context.Context, tx *sql.Tx, task string, state []byte) error {
	if len(state) == 0 {
		return nil
	}
	if _, err := tx.ExecContext(ctx, `DELETE FROM noise_chunks WHERE task = $1`, task); err != nil {
		return err
	}
	return eachChunk(state, func(seq int, data []byte) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO noise_chunks (task, seq, data) VALUES ($1, $2, $3)`, task, seq, data)
		return err
	})
}

// Noise returns what is kept of a coordinator's own noise with a task's current
// checkpoint; it is empty before the first round.
func (s *Store) Noise(ctx context.Context, task string) ([]byte, error) {
	raw, err := s.join(ctx, `SELECT data FROM noise_chunks WHERE task = $1 ORDER BY seq`, task)
	if err != nil {
		return nil, fmt.Errorf("store: reading the noise of task %s: %w", task, err)
	}
	return raw, nil
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
