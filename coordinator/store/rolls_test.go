package store

import (
	"bytes"
	"crypto/ed25519"
	"database/sql"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/discreet-fl/discreet/secagg"
)

func TestRollsAreKept(t *testing.T) {
	dir, authority := t.TempDir(), ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	s := open(t, dir)
	if rolls, err := s.Rolls(t.Context()); err != nil || len(rolls) != 0 {
		t.Errorf("%d rolls in a new folder, %v", len(rolls), err)
	}
	var made []*secagg.Roll
	for _, devices := range [][]byte{{1, 2, 3}, {4}} {
		var keys []ed25519.PublicKey
		for _, i := range devices {
			keys = append(keys, waitingKey(i))
		}
		roll, err := secagg.SignRoll(authority, keys)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := s.PutRoll(t.Context(), roll); err != nil {
				t.Error(err)
			}
		}
		made = append(made, roll)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	rolls, err := open(t, dir).Rolls(t.Context())
	if err != nil || len(rolls) != len(made) {
		t.Fatalf("%d rolls, %v; want %d", len(rolls), err, len(made))
	}
	for _, want := range made {
		i := slices.IndexFunc(rolls, func(r *secagg.Roll) bool { return bytes.Equal(r.Signature, want.Signature) })
		if i < 0 || rolls[i].Verify(authority.Public().(ed25519.PublicKey)) != nil {
			t.Errorf("the roll of %d devices is not what it was", len(want.Keys))
		}
	}
}

// TestDamagedRollIsPutRight damages the keys of a roll that is kept, which keeps nobody from
// reading the others, and keeps it anew.
func TestDamagedRollIsPutRight(t *testing.T) {
	authority := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	public := authority.Public().(ed25519.PublicKey)
	for name, damage := range map[string]string{
		"other keys": `UPDATE rolls SET public_keys = zeroblob(64)`,
		"a part":     `UPDATE rolls SET public_keys = zeroblob(33)`,
		"nothing":    `UPDATE rolls SET public_keys = zeroblob(0)`,
	} {
		s := open(t, t.TempDir())
		roll, err := secagg.SignRoll(authority, []ed25519.PublicKey{waitingKey(1), waitingKey(2)})
		if err == nil {
			err = s.PutRoll(t.Context(), roll)
		}
		if err == nil {
			err = s.write(t.Context(), "damaging a roll", func(tx *sql.Tx) error {
				_, err := tx.Exec(damage)
				return err
			})
		}
		if err != nil {
			t.Fatal(err)
		}
		if rolls, err := s.Rolls(t.Context()); err != nil || len(rolls) != 1 || rolls[0].Verify(public) == nil {
			t.Errorf("%s: %d rolls, %v; want one that does not hold", name, len(rolls), err)
		}
		if err := s.PutRoll(t.Context(), roll); err != nil {
			t.Fatal(err)
		}
		if rolls, err := s.Rolls(t.Context()); err != nil || len(rolls) != 1 || rolls[0].Verify(public) != nil {
			t.Errorf("%s: %d rolls, %v; want the one that was kept anew", name, len(rolls), err)
		}
	}
}

// TestFolderWithoutRollsIsUpgraded opens a folder of the schema before, in which a CA
// elsewhere has certified a device.
func TestFolderWithoutRollsIsUpgraded(t *testing.T) {
	const before = 12 // steps
	dir := t.TempDir()
	db, err := sql.Open("sqlite", source(filepath.Join(dir, databaseFile), "_txlock=immediate", "foreign_keys(1)"))
	if err != nil {
		t.Fatal(err)
	}
	all := migrations
	migrations = all[:before]
	err = migrate(db, start)
	migrations = all
	id := secagg.DeviceID(waitingKey(1))
	for _, step := range []string{
		`INSERT INTO devices (id, public_key, enrolled_ms, seen_ms, rounds) VALUES ($1, $2, 0, 0, 0)`,
		`INSERT INTO issued (device, certificate, credential) VALUES ($1, $2, $2)`,
	} {
		if err == nil {
			_, err = db.Exec(step, id[:], []byte(waitingKey(1)))
		}
	}
	if err == nil {
		err = db.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, dir)
	if rolls, err := s.Rolls(t.Context()); err != nil || len(rolls) != 0 {
		t.Errorf("%d rolls, %v", len(rolls), err)
	}
	if d, err := s.Device(t.Context(), id); err != nil || !bytes.Equal(d.PublicKey, waitingKey(1)) {
		t.Errorf("the device is %+v, %v", d, err)
	}
	if err := s.CreateToken(t.Context(), []byte("one"), 1, start.Add(time.Hour), start); err != nil {
		t.Fatal(err)
	}
	if issued, err := s.Await(t.Context(), []byte("one"), waitingKey(1), start); err != nil || issued == nil || !bytes.Equal(issued.Credential, waitingKey(1)) {
		t.Errorf("what was issued is %+v, %v", issued, err)
	}
}
