package ca

import (
	"bytes"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/discreet-fl/discreet/secagg"
)

// revoke puts devices with made-up ids out, in the folder of a CA's key.
func revoke(t *testing.T, dir string, heads ...byte) *secagg.RevocationList {
	t.Helper()
	ids := make([]secagg.ID, len(heads))
	for i, head := range heads {
		ids[i] = secagg.ID{head}
	}
	list, err := machine(t, dir).Revoke(ids, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestRevocationsAreTakenUp(t *testing.T) {
	_, caDir, dir := apart(t)
	a, log, err := logged(t, dir, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	in := func(what string, version uint64, ids ...byte) {
		t.Helper()
		for range 2 { // a warning comes once
			raw, list := a.Revocations()
			if version == 0 {
				if raw != nil || list != nil {
					t.Errorf("%s: %v", what, list)
				}
				continue
			}
			if list == nil || list.Version != version || len(list.Revoked) != len(ids) {
				t.Fatalf("%s: %v, want version %d with %d devices", what, list, version, len(ids))
			}
			for _, id := range ids {
				if !list.Has(secagg.ID{id}) {
					t.Errorf("%s: %d is not on it", what, id)
				}
			}
			if again, err := secagg.VerifyRevocations(a.PublicKey(), raw); err != nil || again.Version != version {
				t.Errorf("%s: the bytes are %v, %v", what, again, err)
			}
		}
	}
	in("nobody yet", 0)
	first := revoke(t, caDir, 1, 2)
	overwrite(t, dir, revokedFile, read(t, caDir, revokedFile))
	in("the first list", first.Version, 1, 2)
	old := read(t, caDir, revokedFile)
	second := revoke(t, caDir, 3, 1)
	if second.Version <= first.Version {
		t.Errorf("version %d after %d", second.Version, first.Version)
	}
	overwrite(t, dir, revokedFile, read(t, caDir, revokedFile))
	in("the second list", second.Version, 1, 2, 3)
	if again := revoke(t, caDir, 2); again.Version != second.Version {
		t.Errorf("revoking again makes version %d of %d", again.Version, second.Version)
	}
	for what, tc := range map[string]struct {
		change func()
		warns  string
	}{
		"an older list": {func() { overwrite(t, dir, revokedFile, old) }, "older than the one before"},
		"half a copy":   {func() { overwrite(t, dir, revokedFile, old[:20]) }, "is refused"},
		"too large":     {func() { overwrite(t, dir, revokedFile, make([]byte, maxRevokedBytes+1)) }, "want at most"},
		"another CA's": {func() {
			_, other, _ := apart(t)
			revoke(t, other, 9)
			overwrite(t, dir, revokedFile, read(t, other, revokedFile))
		}, "not signed by the authority"},
		"the same version, another list": {func() {
			overwrite(t, dir, revokedFile, signedList(t, caDir, second.Version, 1, 2, 4))
		}, "have the same version"},
		"a newer list without a device": {func() {
			overwrite(t, dir, revokedFile, signedList(t, caDir, second.Version+1, 1, 3, 4, 5))
		}, "missing=[" + secagg.ID{2}.String() + "]"},
		"gone": {func() { remove(t, dir, revokedFile) }, "is gone"},
	} {
		log.Reset()
		tc.change()
		in(what, second.Version, 1, 2, 3)
		if n := strings.Count(log.String(), tc.warns); n != 1 {
			t.Errorf("%s: %d warnings of %q in %s", what, n, tc.warns, log)
		}
		overwrite(t, dir, revokedFile, read(t, caDir, revokedFile))
		in(what+", put right", second.Version, 1, 2, 3)
	}
	// A coordinator that is issued later has the list from the start.
	later := filepath.Join(t.TempDir(), "later")
	if err := machine(t, caDir).IssueCoordinator(nil, later, time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, list := open(t, later).Revocations(); list == nil || list.Version != second.Version {
		t.Errorf("a later coordinator has %v", list)
	}
}

// signedList is a list that the CA signs whatever it has signed before.
func signedList(t *testing.T, caDir string, version uint64, heads ...byte) []byte {
	t.Helper()
	list := &secagg.RevocationList{Version: version}
	for _, head := range heads {
		list.Revoked = append(list.Revoked, secagg.ID{head})
	}
	raw, err := list.Sign(machine(t, caDir).key)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// TestFirstListIsBadAndGoes: with no list in force yet, a bad file comes and goes.
func TestFirstListIsBadAndGoes(t *testing.T) {
	_, _, dir := apart(t)
	a, log, err := logged(t, dir, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	overwrite(t, dir, revokedFile, []byte("half a copy"))
	if raw, list := a.Revocations(); raw != nil || list != nil || !strings.Contains(log.String(), "is refused") {
		t.Errorf("a bad first list: %v, %s", list, log)
	}
	remove(t, dir, revokedFile)
	if raw, list := a.Revocations(); raw != nil || list != nil || !strings.Contains(log.String(), "is gone") {
		t.Errorf("no list again: %v, %s", list, log)
	}
}

// TestCommandsAtOnce: of calls at the same time on one folder none undoes another's.
func TestCommandsAtOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	var made atomic.Int32
	all := func(n byte, do func(i byte)) {
		var group sync.WaitGroup
		for i := range n {
			group.Go(func() { do(i) })
		}
		group.Wait()
	}
	all(8, func(byte) {
		if m, err := Init(dir, time.Now()); err == nil {
			made.Add(1)
			if _, err := m.Revoke([]secagg.ID{{99}}, time.Now()); err != nil {
				t.Error(err)
			}
		}
	})
	if made.Load() != 1 {
		t.Errorf("%d CAs were made in one folder", made.Load())
	}
	all(16, func(i byte) { revoke(t, dir, i) })
	if list := revoke(t, dir, 99); len(list.Revoked) != 17 {
		t.Errorf("%d devices are out, want 17: every call said that it had put one out", len(list.Revoked))
	}
	out := t.TempDir()
	all(4, func(i byte) {
		if err := machine(t, dir).IssueCoordinator(nil, filepath.Join(out, string('a'+rune(i))), time.Now()); err != nil {
			t.Error(err)
		}
	})
	for _, name := range []string{logFile, operatorFile} {
		for i := range byte(4) {
			if !bytes.Equal(read(t, filepath.Join(out, string('a'+rune(i))), name), read(t, dir, name)) {
				t.Errorf("coordinator %d has another %s than the CA's folder", i, name)
			}
		}
	}
}

// TestVersionsOutliveABackup: a CA restored from before its last list goes on above it.
func TestVersionsOutliveABackup(t *testing.T) {
	_, caDir, _ := apart(t)
	m, now := machine(t, caDir), time.Now()
	list, err := m.Revoke([]secagg.ID{{1}}, now)
	if err != nil {
		t.Fatal(err)
	}
	backup := read(t, caDir, revokedFile)
	for i := range byte(5) {
		if list, err = m.Revoke([]secagg.ID{{2 + i}}, now); err != nil {
			t.Fatal(err)
		}
	}
	overwrite(t, caDir, revokedFile, backup)
	restored, err := m.Revoke([]secagg.ID{{9}}, now.Add(time.Minute))
	if err != nil || restored.Version <= list.Version {
		t.Errorf("version %d, %v; the devices have seen %d", restored.Version, err, list.Version)
	}
	if early, err := m.Revoke([]secagg.ID{{10}}, time.Unix(-5, 0)); err != nil || early.Version != restored.Version+1 {
		t.Errorf("with a wrong clock: version %d, %v", early.Version, err)
	}
	overwrite(t, caDir, revokedFile, []byte("damaged"))
	if _, err := m.Revoke([]secagg.ID{{1}}, now); err == nil {
		t.Error("a damaged list was replaced, and who was out came in again")
	}
}
