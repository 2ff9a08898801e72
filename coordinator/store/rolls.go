package store

import (
	"context"
	"crypto/ed25519"
	"database/sql"
	"slices"

	"github.com/discreet-fl/discreet/secagg"
)

// PutRoll keeps a roll of a CA that is kept elsewhere, in the place of what is kept with the
// same signature. Whether the CA did sign it is for the caller to check.
func (s *Store) PutRoll(ctx context.Context, r *secagg.Roll) error {
	keys := make([]byte, 0, len(r.Keys)*ed25519.PublicKeySize)
	for _, key := range r.Keys {
		keys = append(keys, key...)
	}
	return s.write(ctx, "keeping a roll", func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO rolls (signature, public_keys) VALUES ($1, $2)
			ON CONFLICT (signature) DO UPDATE SET public_keys = $2`, r.Signature, keys)
		return err
	})
}

// Rolls returns the rolls that were kept, for the caller to verify: one that was damaged may
// have any keys, and a last one that is too short.
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
		rolls[i] = &secagg.Roll{Signature: r.signature}
		for key := range slices.Chunk(r.keys, ed25519.PublicKeySize) {
			rolls[i].Keys = append(rolls[i].Keys, key)
		}
	}
	return rolls, nil
}
