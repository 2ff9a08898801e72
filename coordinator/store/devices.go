package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"time"

	"github.com/discreet-fl/discreet/secagg"
)

// forgetTokens is how long after its end a token is still known, so that a device
// which lost the reply to its enrolment can ask again.
const forgetTokens = 30 * 24 * time.Hour

// Device is an enrolled device.
type Device struct {
	ID        secagg.ID
	PublicKey []byte // Ed25519, 32 bytes
	Enrolled  time.Time
	Seen      time.Time // when a round last counted it; zero before the first
	Rounds    uint64    // in whose sum it was counted
	Task      string    // the one that it is bound to, or empty
}

// CreateToken keeps the hash of a new token's secret and forgets tokens that ended
// long ago.
func (s *Store) CreateToken(ctx context.Context, secret []byte, uses uint32, expires, now time.Time) error {
	return s.CreateTaskToken(ctx, "", secret, uses, expires, now)
}

// CreateTaskToken is CreateToken for devices that are bound to a task. The first token
// that a device enrols with binds it, for good.
func (s *Store) CreateTaskToken(ctx context.Context, task string, secret []byte, uses uint32, expires, now time.Time) error {
	hash := sha256.Sum256(secret)
	return s.write(ctx, "creating a token", func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `DELETE FROM tokens WHERE expires_ms < $1`, now.Add(-forgetTokens).UnixMilli()); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO tokens (hash, uses_left, expires_ms, task) VALUES ($1, $2, $3, $4)`,
			hash[:], uses, expires.UnixMilli(), task)
		return err
	})
}

// Enrol admits a device by a token's secret. The same device with the same token
// is answered alike however often it asks and uses up one place.
func (s *Store) Enrol(ctx context.Context, secret []byte, id secagg.ID, publicKey []byte, now time.Time) error {
	hash := sha256.Sum256(secret)
	if err := s.knownToken(ctx, hash); err != nil {
		return err
	}
	return s.write(ctx, "enrolling a device", func(tx *sql.Tx) error {
		if err := takePlace(ctx, tx, hash, id, now); err != nil {
			return err
		}
		var task string
		if err := tx.QueryRowContext(ctx, `SELECT task FROM tokens WHERE hash = $1`, hash[:]).Scan(&task); err != nil {
			return err
		}
		if err := addDevice(ctx, tx, id, publicKey, task, now); err != nil {
			return err
		}
		return useToken(ctx, tx, hash, id)
	})
}

const deviceColumns = `id, public_key, enrolled_ms, seen_ms, rounds, task`

func scanDevice(scan func(...any) error, d *Device) error {
	var id []byte
	var enrolled, seen int64
	if err := scan(&id, &d.PublicKey, &enrolled, &seen, &d.Rounds, &d.Task); err != nil {
		return err
	}
	copy(d.ID[:], id)
	d.Enrolled = time.UnixMilli(enrolled)
	if seen != 0 {
		d.Seen = time.UnixMilli(seen)
	}
	return nil
}

// Device returns an enrolled device, or ErrNotFound.
func (s *Store) Device(ctx context.Context, id secagg.ID) (Device, error) {
	var d Device
	err := scanDevice(s.reader.QueryRowContext(ctx, `SELECT `+deviceColumns+` FROM devices WHERE id = $1`, id[:]).Scan, &d)
	return d, found("reading a device", err)
}

// Devices returns a page of the devices by id, those after the given id, which may
// be empty to begin.
func (s *Store) Devices(ctx context.Context, after []byte, limit int) ([]Device, error) {
	if after == nil {
		after = []byte{}
	}
	return collect(ctx, s.reader, "listing devices",
		func(rows *sql.Rows, d *Device) error { return scanDevice(rows.Scan, d) },
		`SELECT `+deviceColumns+` FROM devices WHERE id > $1 ORDER BY id LIMIT $2`, after, limit)
}

// CountDevices returns how many devices are enrolled.
func (s *Store) CountDevices(ctx context.Context) (n int64, err error) {
	err = s.reader.QueryRowContext(ctx, `SELECT COUNT(*) FROM devices`).Scan(&n)
	return n, found("counting devices", err)
}
