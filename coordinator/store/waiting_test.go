package store

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/discreet-fl/discreet/secagg"
)

// waitingKey is the public key of the i-th device of a test.
func waitingKey(i byte) ed25519.PublicKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{i}, ed25519.SeedSize)).Public().(ed25519.PublicKey)
}

// issuedFor is what a CA elsewhere gives a device.
func issuedFor(i byte) Issued {
	return Issued{PublicKey: waitingKey(i), Certificate: []byte{i, 1}, Credential: []byte{i, 2}}
}

func TestDevicesWaitForACAElsewhere(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	if err := s.CreateToken(t.Context(), []byte("three"), 3, start.Add(time.Hour), start); err != nil {
		t.Fatal(err)
	}
	ask := func(i byte, after time.Duration, want error, issued bool) {
		t.Helper()
		got, err := s.Await(t.Context(), []byte("three"), waitingKey(i), start.Add(after))
		if !errors.Is(err, want) || (err == nil) != (want == nil) || (got != nil) != issued {
			t.Fatalf("device %d: %+v, %v; want %v", i, got, err, want)
		}
		if issued && (!bytes.Equal(got.Certificate, []byte{i, 1}) || !bytes.Equal(got.Credential, []byte{i, 2})) {
			t.Errorf("device %d got %+v", i, got)
		}
	}
	waiting := func(want ...byte) {
		t.Helper()
		keys, err := s.Waiting(t.Context(), 10)
		if err != nil || !slices.EqualFunc(keys, want, func(k ed25519.PublicKey, i byte) bool { return k.Equal(waitingKey(i)) }) {
			t.Errorf("%d devices wait, %v; want %v", len(keys), err, want)
		}
	}
	ask(2, 0, nil, false)
	ask(1, time.Second, nil, false)
	ask(2, 2*time.Second, nil, false) // again: the same place
	ask(3, 3*time.Second, nil, false)
	ask(4, 4*time.Second, ErrToken, false) // used up
	ask(2, 2*time.Hour, nil, false)        // ended, but it has its place
	waiting(2, 1, 3)
	if keys, err := s.Waiting(t.Context(), 1); err != nil || len(keys) != 1 || !keys[0].Equal(waitingKey(2)) {
		t.Errorf("a list of one: %x, %v", keys, err)
	}
	if n, err := s.CountDevices(t.Context()); err != nil || n != 0 {
		t.Errorf("%d devices are enrolled, %v", n, err)
	}
	if n, err := s.Admit(t.Context(), []Issued{issuedFor(1), issuedFor(9), issuedFor(2)}, start.Add(time.Minute)); err != nil || n != 2 {
		t.Errorf("%d were admitted, %v; want 2", n, err)
	}
	if n, err := s.Admit(t.Context(), []Issued{issuedFor(1)}, start); err != nil || n != 0 {
		t.Errorf("admitted again: %d, %v", n, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	waiting(3)
	ask(1, 0, nil, true)
	ask(2, 2*time.Hour, nil, true)
	ask(3, 0, nil, false)
	ask(4, 0, ErrToken, false)
	d, err := s.Device(t.Context(), secagg.DeviceID(waitingKey(1)))
	if err != nil || !bytes.Equal(d.PublicKey, waitingKey(1)) || !d.Enrolled.Equal(start.Add(time.Minute)) {
		t.Errorf("an admitted device is %+v, %v", d, err)
	}
	if _, err := s.Device(t.Context(), secagg.DeviceID(waitingKey(9))); !errors.Is(err, ErrNotFound) {
		t.Errorf("a device that never asked is enrolled: %v", err)
	}
}

// TestWaitingAndEnrolledDevices holds what happens where a CA's key comes or goes
// between a device's two requests.
func TestWaitingAndEnrolledDevices(t *testing.T) {
	s := open(t, t.TempDir())
	for _, secret := range []string{"a", "b"} {
		if err := s.CreateToken(t.Context(), []byte(secret), 1, start.Add(time.Hour), start); err != nil {
			t.Fatal(err)
		}
	}
	key := waitingKey(1)
	id := secagg.DeviceID(key)
	for _, secret := range []string{"a", "b"} { // one device waits by two tokens
		if _, err := s.Await(t.Context(), []byte(secret), key, start); err != nil {
			t.Fatal(err)
		}
	}
	if keys, err := s.Waiting(t.Context(), 10); err != nil || len(keys) != 1 {
		t.Errorf("%d devices wait, %v; want 1", len(keys), err)
	}
	for range 2 { // the CA's key is here now: the place that the device had serves it
		if err := s.Enrol(t.Context(), []byte("a"), id, key, start); err != nil {
			t.Fatal(err)
		}
	}
	if keys, err := s.Waiting(t.Context(), 10); err != nil || len(keys) != 0 {
		t.Errorf("%d devices wait, %v; want none", len(keys), err)
	}
	for _, secret := range []string{"a", "b"} { // and gone again: nothing is issued yet
		if got, err := s.Await(t.Context(), []byte(secret), key, start); err != nil || got != nil {
			t.Errorf("token %s: %+v, %v", secret, got, err)
		}
	}
	if n, err := s.Admit(t.Context(), []Issued{issuedFor(1)}, start.Add(time.Second)); err != nil || n != 1 {
		t.Errorf("%d were admitted, %v", n, err)
	}
	d, err := s.Device(t.Context(), id)
	if err != nil || !d.Enrolled.Equal(start) {
		t.Errorf("the device is %+v, %v", d, err)
	}
	// A third token's place gets what is there at once.
	if err := s.CreateToken(t.Context(), []byte("c"), 1, start.Add(time.Hour), start); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got, err := s.Await(t.Context(), []byte("c"), key, start); err != nil || got == nil {
			t.Errorf("%+v, %v", got, err)
		}
	}
}

func TestWaitingEndsWithItsToken(t *testing.T) {
	s := open(t, t.TempDir())
	if err := s.CreateToken(t.Context(), []byte("old"), 1, start.Add(time.Hour), start); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Await(t.Context(), []byte("old"), waitingKey(1), start); err != nil {
		t.Fatal(err)
	}
	if err := s.CreateToken(t.Context(), []byte("new"), 1, start.Add(1000*time.Hour), start.Add(40*24*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if keys, err := s.Waiting(t.Context(), 10); err != nil || len(keys) != 0 {
		t.Errorf("%d devices wait by a token that is forgotten, %v", len(keys), err)
	}
}

func TestAdmitIsAllOrNothing(t *testing.T) {
	s := open(t, t.TempDir())
	if err := s.CreateToken(t.Context(), []byte("t"), 2, start.Add(time.Hour), start); err != nil {
		t.Fatal(err)
	}
	for i := byte(1); i <= 2; i++ {
		if _, err := s.Await(t.Context(), []byte("t"), waitingKey(i), start); err != nil {
			t.Fatal(err)
		}
	}
	second := secagg.DeviceID(waitingKey(2))
	if _, err := s.writer.Exec(fmt.Sprintf(`CREATE TRIGGER fault BEFORE INSERT ON issued WHEN new.device = x'%x' BEGIN SELECT RAISE(ABORT, 'fault'); END`, second[:])); err != nil {
		t.Fatal(err)
	}
	if n, err := s.Admit(t.Context(), []Issued{issuedFor(1), issuedFor(2)}, start); err == nil || n != 0 {
		t.Errorf("%d were admitted, %v; want the fault", n, err)
	}
	if keys, err := s.Waiting(t.Context(), 10); err != nil || len(keys) != 2 {
		t.Errorf("%d devices wait, %v; want both", len(keys), err)
	}
}

// TestStrangersHoldUpNoRound: a secret of no token is refused while somebody writes.
func TestStrangersHoldUpNoRound(t *testing.T) {
	s := open(t, t.TempDir())
	tx, err := s.writer.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	key := waitingKey(1)
	if _, err := s.Await(ctx, []byte("none"), key, start); !errors.Is(err, ErrToken) {
		t.Errorf("waiting: %v", err)
	}
	if err := s.Enrol(ctx, []byte("none"), secagg.DeviceID(key), key, start); !errors.Is(err, ErrToken) {
		t.Errorf("enrolling: %v", err)
	}
}
