package coordinator

import (
	"crypto/ed25519"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/discreet-fl/discreet/coordinator/ca"
	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/proto/rpc"
	"github.com/discreet-fl/discreet/secagg"
)

// issueRoll certifies keys on the CA's machine, for the roll that comes of it.
func issueRoll(t testing.TB, machine *ca.Machine, keys ...ed25519.PublicKey) *pb.Roll {
	t.Helper()
	_, roll := certified(t, machine, keys)
	message := &pb.Roll{Signature: roll.Signature}
	for _, key := range roll.Keys {
		message.PublicKeys = append(message.PublicKeys, key)
	}
	return message
}

// showsBy plays a round of three devices and tells whether their rosters have a roll or
// credentials, by their length.
func showsBy(t *testing.T, devices []*device) string {
	t.Helper()
	walks := gather(t, devices...)
	each(t, len(walks), func(i int) error { return walks[i].steps(t.Context(), all) })
	const bare = 2 + 2 + 1 + 3*96 + 2*(32+32+64) // header, n, bitmap, members and neighbours; all are there, so without hashes
	switch n := len(walks[0].roster) - bare; n {
	case 1 + 3*64:
		return "credentials"
	case 1 + 4 + 1 + 1 + 64:
		return "a roll"
	default:
		t.Fatalf("%d bytes of a roster show that three members were admitted", n)
		return ""
	}
}

// TestRosterHasARoll: a coordinator with the CA's key signs one for each cohort. Without
// the key it has credentials, until the CA's machine has made a roll, and then after a
// restart, too.
func TestRosterHasARoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, devices := fleet(t, 3, spec(3, 3), Options{})
		if got := showsBy(t, devices); got != "a roll" {
			t.Errorf("with the CA's key: %s", got)
		}
		var keys []ed25519.PublicKey
		for _, d := range devices {
			keys = append(keys, d.signer.Key.Public().(ed25519.PublicKey))
		}
		elsewhere := t.TempDir()
		for _, name := range []string{"ca-key.pem", "ca.pem"} {
			raw, err := os.ReadFile(filepath.Join(w.dir, name))
			if err == nil {
				err = os.WriteFile(filepath.Join(elsewhere, name), raw, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Remove(filepath.Join(w.dir, "ca-key.pem")); err != nil {
			t.Fatal(err)
		}
		restart := func() {
			w.shut()
			w = newWorld(t, w.dir, Options{})
			for _, d := range devices {
				d.leave()
				d.connect(w)
			}
		}
		restart()
		if got := showsBy(t, devices); got != "credentials" {
			t.Errorf("with the key elsewhere: %s", got)
		}
		machine, err := ca.OpenMachine(elsewhere, w.Coordinator.log, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		roll := issueRoll(t, machine, keys...)
		for range 2 { // it may be repeated
			if reply, err := rpc.NewOperatorServiceClient(w.operator(t)).Admit(t.Context(), &pb.AdmitRequest{Roll: roll}); err != nil || reply.GetAdmitted() != 0 {
				t.Fatalf("%v, %v", reply, err)
			}
		}
		if got := showsBy(t, devices); got != "a roll" {
			t.Errorf("with a roll of the CA's machine: %s", got)
		}
		restart()
		if n := len(w.rolls.list); n != 1 {
			t.Errorf("%d rolls after a restart, want 1", n)
		}
		if got := showsBy(t, devices); got != "a roll" {
			t.Errorf("after a restart: %s", got)
		}
	})
}

// TestRollRefused: what the CA did not sign as a roll is not kept, and nobody is admitted
// beside it; one that stands in the folder all the same is left out.
func TestRollRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		machine, _, dir := apart(t)
		stranger, _, _ := apart(t)
		w := newWorld(t, dir, Options{})
		op := rpc.NewOperatorServiceClient(w.operator(t))
		line, err := w.CreateToken(t.Context(), 1, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		waits := newKey(t)
		if _, err := rpc.NewEnrolmentServiceClient(w.dial(t, w.trust())).Enrol(t.Context(), enrolment(t, line, waits)); err != nil {
			t.Fatal(err)
		}
		keys := []ed25519.PublicKey{waits.Public().(ed25519.PublicKey), newKey(t).Public().(ed25519.PublicKey), newKey(t).Public().(ed25519.PublicKey)}
		issued := issue(t, machine, keys[0])
		good, foreign := issueRoll(t, machine, keys...), issueRoll(t, stranger, keys...)
		for name, roll := range map[string]*pb.Roll{
			"another CA's":         foreign,
			"a device less":        {PublicKeys: good.PublicKeys[:2], Signature: good.Signature},
			"in another order":     {PublicKeys: [][]byte{good.PublicKeys[1], good.PublicKeys[0], good.PublicKeys[2]}, Signature: good.Signature},
			"a credential for one": {PublicKeys: [][]byte{keys[0]}, Signature: issued[0].Credential},
			"nothing":              {},
		} {
			_, err := op.Admit(t.Context(), &pb.AdmitRequest{Issued: issued, Roll: roll})
			wants(t, name, err, codes.InvalidArgument, "the roll of", "whole file")
		}
		if n, err := w.store.CountDevices(t.Context()); err != nil || n != 0 || len(w.rolls.list) != 0 {
			t.Errorf("%d devices and %d rolls were taken, %v", n, len(w.rolls.list), err)
		}
		damaged := &secagg.Roll{Keys: keys, Signature: foreign.Signature}
		if err := w.store.PutRoll(t.Context(), damaged); err != nil {
			t.Fatal(err)
		}
		w.shut()
		w = newWorld(t, dir, Options{})
		if n := len(w.rolls.list); n != 0 || !strings.Contains(w.log.String(), "a stored roll is left out") {
			t.Errorf("%d rolls of another CA are used", n)
		}
	})
}

// TestDamagedRollIsPutRight: a stored roll that is damaged is left out, and the file that it
// came with puts it right, for the time after the next start, too.
func TestDamagedRollIsPutRight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		machine, _, dir := apart(t)
		w := newWorld(t, dir, Options{})
		keys := []ed25519.PublicKey{newKey(t).Public().(ed25519.PublicKey), newKey(t).Public().(ed25519.PublicKey)}
		good := issueRoll(t, machine, keys...)
		restart := func() {
			w.shut()
			w = newWorld(t, dir, Options{})
		}
		admit := func() {
			t.Helper()
			if _, err := rpc.NewOperatorServiceClient(w.operator(t)).Admit(t.Context(), &pb.AdmitRequest{Roll: good}); err != nil {
				t.Fatal(err)
			}
		}
		rolls := func(what string, want int) {
			t.Helper()
			if n := len(w.rollsOf(keys)); n != want {
				t.Errorf("%s: %d rolls, want %d", what, n, want)
			}
		}
		admit()
		admit()
		rolls("admitted twice", 1)
		if err := w.store.PutRoll(t.Context(), &secagg.Roll{Keys: keys[:1], Signature: good.Signature}); err != nil {
			t.Fatal(err)
		}
		restart()
		rolls("with a damaged one", 0)
		admit()
		rolls("admitted again", 1)
		restart()
		rolls("after a start", 1)
	})
}

// TestRollOfOneIsNotKept: it would take more bytes than a credential in every roster.
func TestRollOfOneIsNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		machine, _, dir := apart(t)
		w := newWorld(t, dir, Options{})
		roll := issueRoll(t, machine, newKey(t).Public().(ed25519.PublicKey))
		if _, err := rpc.NewOperatorServiceClient(w.operator(t)).Admit(t.Context(), &pb.AdmitRequest{Roll: roll}); err != nil {
			t.Fatal(err)
		}
		if stored, err := w.store.Rolls(t.Context()); err != nil || len(stored)+len(w.rolls.list) != 0 {
			t.Errorf("%d rolls are stored and %d used, %v", len(stored), len(w.rolls.list), err)
		}
	})
}

// TestNobodyRevokedIsPutIntoARoll: with the CA's key, a device that was revoked after it
// advertised is shown by its credential.
func TestNobodyRevokedIsPutIntoARoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, t.TempDir(), Options{})
		machine, err := ca.OpenMachine(w.dir, w.Coordinator.log, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		var keys []ed25519.PublicKey
		for range 3 {
			keys = append(keys, newKey(t).Public().(ed25519.PublicKey))
		}
		revoke(t, machine, w.dir, w.dir, secagg.DeviceID(keys[0]))
		rolls := w.rollsOf(keys)
		if len(rolls) != 1 || len(rolls[0].Keys) != 2 || slices.ContainsFunc(rolls[0].Keys, func(k ed25519.PublicKey) bool { return k.Equal(keys[0]) }) {
			t.Fatalf("%v, want a roll of the two that were not revoked", rolls)
		}
		if err := rolls[0].Verify(w.authority.PublicKey()); err != nil {
			t.Error(err)
		}
		revoke(t, machine, w.dir, w.dir, secagg.DeviceID(keys[1]))
		if rolls := w.rollsOf(keys); len(rolls) != 0 {
			t.Errorf("%d rolls for one device that was not revoked", len(rolls))
		}
	})
}
