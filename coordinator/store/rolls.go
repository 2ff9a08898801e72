package store

import (
	"context"
	"crypto/ed25519"
	"database/sql"
	"fmt"
	"slices"

	"github.com/discreet-fl/discreet/secagg"
)

// AddRoll keeps a roll of a CA that is kept elsewhere, and tells whether it is new. Whether
// the CA did sign it is for the caller to check.
func (s *Store) AddRoll(ctx context.Context, r *secagg.Roll) (added bool, err error) {
	keys := make([]byte, 0, len(r.Keys)*ed25519.PublicKeySize)
	for _, key := range r.Keys {
		keys = append(keys, key...)
	}
	err = s.write(ctx, "keeping a roll", func(tx *sql.Tx) error {
		made, err := tx.ExecContext(ctx, `INSERT INTO rolls (signature, public_keys) VALUES ($1, $2) ON CONFLICT (signature) DO NOTHING`, r.Signature, keys)
		if err != nil {
			return err
		}
		n, err := made.RowsAffected()
		added = n > 0
		return err
	})
	return added && err == nil, err
}

// Rolls returns the rolls that were kept.
func (s *Store) Rolls(ctx context.Context) ([]*secagg.Roll, error) {
	type row struct{ signature, keys []byte }
	rows, err := collect(ctx, s.reader, "reading rolls",
		func(rows *sql.Rows, r *row) error { return rows.Scan(&r.signature, &r.keys) },
		`SELECT signature, public_keys FROM rolls ORDER BY signature`)
	if err != nil {
		return nil, err
	}
	rolls := make([]*secagg.Roll, len(rows))
	for i, r := range rows {
		if len(r.keys)%ed25519.PublicKeySize != 0 {
			return nil, fmt.Errorf("store: a roll has %d bytes of keys, want %d for each: the database is damaged; restore a back-up", len(r.keys), ed25519.PublicKeySize)
		}
		rolls[i] = &secagg.Roll{Signature: r.signature}
		for key := range slices.Chunk(r.keys, ed25519.PublicKeySize) {
			rolls[i].Keys = append(rolls[i].Keys, key)
		}
	}
	return rolls, nil
}
