package store

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/discreet-fl/discreet/secagg"
)

// Issued is what a CA issued for a device.
type Issued struct {
	PublicKey   ed25519.PublicKey // the device's
	Certificate []byte            // X.509, DER
	Credential  []byte            // for rosters
}

// Await takes a device's request for a CA that is kept elsewhere, by a token's secret.
// It returns what that CA has issued; until then nil, and the device stands among
// those that wait. The same device with the same token uses up one place however often
// it asks. It returns ErrToken.
func (s *Store) Await(ctx context.Context, secret []byte, publicKey ed25519.PublicKey, now time.Time) (issued *Issued, err error) {
	hash, id := sha256.Sum256(secret), secagg.DeviceID(publicKey)
	if err := s.knownToken(ctx, hash); err != nil {
		return nil, err
	}
	err = s.write(ctx, "taking a device's request", func(tx *sql.Tx) error {
		if err := takePlace(ctx, tx, hash, id, now); err != nil {
			return err
		}
		found := &Issued{PublicKey: publicKey}
		err := tx.QueryRowContext(ctx, `SELECT certificate, credential FROM issued WHERE device = $1`, id[:]).Scan(&found.Certificate, &found.Credential)
		if errors.Is(err, sql.ErrNoRows) {
			_, err := tx.ExecContext(ctx, `INSERT INTO waiting (token, device, public_key, asked_ms) VALUES ($1, $2, $3, $4)
				ON CONFLICT (token, device) DO NOTHING`, hash[:], id[:], []byte(publicKey), now.UnixMilli())
			return err
		}
		if err != nil {
			return err
		}
		issued = found
		return useToken(ctx, tx, hash, id)
	})
	if err != nil {
		return nil, err
	}
	return issued, nil
}

// knownToken returns ErrToken for a token that there never was, without waiting for
// the one writer: who has no token, and anybody may ask, holds up no round.
func (s *Store) knownToken(ctx context.Context, token [32]byte) error {
	var one int
	err := s.reader.QueryRowContext(ctx, `SELECT 1 FROM tokens WHERE hash = $1`, token[:]).Scan(&one)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrToken
	}
	if err != nil {
		return fmt.Errorf("store: looking up a token: %w", err)
	}
	return nil
}

// takePlace takes one of a token's places for a device, unless it has one.
func takePlace(ctx context.Context, tx *sql.Tx, token [32]byte, id secagg.ID, now time.Time) error {
	var one int
	err := tx.QueryRowContext(ctx, `SELECT 1 FROM token_uses WHERE token = $1 AND device = $2
		UNION SELECT 1 FROM waiting WHERE token = $1 AND device = $2`, token[:], id[:]).Scan(&one)
	if err == nil || !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	taken, err := tx.ExecContext(ctx, `UPDATE tokens SET uses_left = uses_left - 1 WHERE hash = $1 AND uses_left > 0 AND expires_ms > $2`,
		token[:], now.UnixMilli())
	if err != nil {
		return err
	}
	if n, err := taken.RowsAffected(); err != nil || n == 0 {
		return errors.Join(err, ErrToken)
	}
	return nil
}

// useToken notes that an enrolled device has a place of a token.
func useToken(ctx context.Context, tx *sql.Tx, token [32]byte, id secagg.ID) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO token_uses (token, device) VALUES ($1, $2) ON CONFLICT (token, device) DO NOTHING`, token[:], id[:])
	return err
}

// addDevice makes a device one of those that are enrolled, bound to a task unless that is
// empty, and no longer one that waits. One that is enrolled keeps what it is bound to.
func addDevice(ctx context.Context, tx *sql.Tx, id secagg.ID, publicKey []byte, task string, now time.Time) error {
	for _, step := range []struct {
		sql  string
		args []any
	}{
		{`INSERT INTO devices (id, public_key, enrolled_ms, seen_ms, rounds, task) VALUES ($1, $2, $3, 0, 0, $4) ON CONFLICT (id) DO NOTHING`,
			[]any{id[:], publicKey, now.UnixMilli(), task}},
		{`INSERT INTO token_uses (token, device) SELECT token, device FROM waiting WHERE device = $1 ON CONFLICT (token, device) DO NOTHING`, []any{id[:]}},
		{`DELETE FROM waiting WHERE device = $1`, []any{id[:]}},
	} {
		if _, err := tx.ExecContext(ctx, step.sql, step.args...); err != nil {
			return err
		}
	}
	return nil
}

// Waiting returns the keys of devices that wait for a CA that is kept elsewhere, those
// that have waited longest first.
func (s *Store) Waiting(ctx context.Context, limit int) ([]ed25519.PublicKey, error) {
	return collect(ctx, s.reader, "listing devices that wait",
		func(rows *sql.Rows, key *ed25519.PublicKey) error { return rows.Scan((*[]byte)(key)) },
		`SELECT public_key FROM waiting GROUP BY device, public_key ORDER BY MIN(asked_ms), device LIMIT $1`, limit)
}

// Admit enrols devices that wait, with what a CA issued for them, all or none. It
// returns how many were waiting; others are passed over. Whether the CA did issue it
// is for the caller to check.
func (s *Store) Admit(ctx context.Context, list []Issued, now time.Time) (admitted int, err error) {
	err = s.write(ctx, "admitting devices", func(tx *sql.Tx) error {
		admitted = 0
		for _, c := range list {
			id := secagg.DeviceID(c.PublicKey)
			var waits int
			if err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM waiting WHERE device = $1`, id[:]).Scan(&waits); err != nil {
				return err
			}
			if waits == 0 {
				continue
			}
			var task string // of the token that it asked with first
			if err := tx.QueryRowContext(ctx, `SELECT t.task FROM waiting w JOIN tokens t ON t.hash = w.token
				WHERE w.device = $1 ORDER BY w.asked_ms, w.token LIMIT 1`, id[:]).Scan(&task); err != nil {
				return err
			}
			if err := addDevice(ctx, tx, id, c.PublicKey, task, now); err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, `INSERT INTO issued (device, certificate, credential) VALUES ($1, $2, $3)
				ON CONFLICT (device) DO UPDATE SET certificate = $2, credential = $3`, id[:], c.Certificate, c.Credential); err != nil {
				return fmt.Errorf("device %s: %w", id, err)
			}
			admitted++
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	return admitted, nil
}
