package store

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"
)

// TestForgottenIsGone greps every file of the folder, before and after, for the
// text, for its sealed bytes and for each key that could open them.
func TestForgottenIsGone(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	const canary = "QWJXKZVPLMRTGHNB"
	for range 50 { // enough for several pages, so that some are freed and none reused
		add(t, s, Chat{Text: "my name is " + canary, Intent: "a", Conversation: "anna"}, Chat{Text: "kept", Intent: "b", Conversation: "ben"})
	}
	if err := s.PutSecret("identity", []byte("identity key")); err != nil {
		t.Fatal(err)
	}
	if err := s.PutDerived("personal", []byte("made from "+canary)); err != nil {
		t.Fatal(err)
	}
	anna := s.keys.handle("anna")
	traces := map[string][]byte{"key-encryption key": bytes.Clone(s.keys.kek[:]), "conversation": []byte("anna"), "handle": anna[:]}
	err := s.db.View(func(tx *bolt.Tx) error {
		key, count, err := s.openKey(tx, anna)
		if err != nil || count != 50 {
			t.Fatalf("data key of %d chats, %v", count, err)
		}
		traces["data key"] = bytes.Clone(key[:])
		traces["sealed derived record"] = bytes.Clone(tx.Bucket(derivedBucket).Get([]byte("personal")))
		traces["sealed data key"] = bytes.Clone(tx.Bucket(keysBucket).Get(anna[:])[4:])
		return tx.Bucket(chatsBucket).ForEach(func(name, sealed []byte) error {
			if h, _ := handleOf(name); h == anna {
				traces["sealed chat"] = bytes.Clone(sealed)
			}
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, form := range []string{canary, strings.ToLower(canary), hex.EncodeToString([]byte(canary)), base64.StdEncoding.EncodeToString([]byte(canary))} {
		traces["text "+form] = []byte(form)
	}
	for _, sealed := range []string{"sealed chat", "sealed derived record", "sealed data key", "key-encryption key", "handle"} {
		if where := grep(t, dir, traces[sealed]); where == "" {
			t.Fatalf("%s is not in the folder before it is forgotten: the search is blind", sealed)
		}
	}
	old := onlyKey(t, dir)
	if n, err := s.Forget("anna"); n != 50 || err != nil {
		t.Fatalf("forgot %d, %v, want 50", n, err)
	}
	for what, trace := range traces {
		if where := grep(t, dir, trace); where != "" {
			t.Errorf("%s is still in %s", what, where)
		}
	}
	if onlyKey(t, dir) == old {
		t.Error("the key-encryption key was not renewed")
	}
	s.Close()
	s = open(t, dir)
	if got, want := texts(t, s), strings.Repeat("kept=b@ben ", 50); got != want {
		t.Errorf("after forgetting: got %.60q…, want %.60q…", got, want)
	}
	if v, err := s.Secret("identity"); err != nil || string(v) != "identity key" {
		t.Errorf("sealed record is %q, %v", v, err)
	}
	if v, err := s.Derived("personal"); err != nil || v != nil {
		t.Errorf("what was made from the chats is %q, %v", v, err)
	}
	if n, err := s.ForgetAll(); n != 50 || err != nil {
		t.Errorf("forgot all %d, %v, want 50", n, err)
	}
	if got := texts(t, s); got != "" {
		t.Errorf("after forgetting all: %q", got)
	}
}

// TestKilledWhileForgetting stops Forget where a process could be killed and lets
// the next Open finish: either nothing was forgotten or everything of it is gone.
func TestKilledWhileForgetting(t *testing.T) {
	for _, c := range []struct {
		name   string
		stop   func(t *testing.T, s *Store)
		forgot bool
	}{
		{"fresh key written", func(t *testing.T, s *Store) {
			fresh := s.keys.renew()
			if err := writeFile(s.path(keyFile(fresh.id)), fresh.kek[:]); err != nil {
				t.Fatal(err)
			}
		}, false},
		{"committed", func(t *testing.T, s *Store) { commitForget(t, s) }, true},
		{"half compacted", func(t *testing.T, s *Store) {
			commitForget(t, s)
			if err := os.WriteFile(s.path(compactName), []byte("half a file"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, true},
		{"compacted, not renamed", func(t *testing.T, s *Store) {
			commitForget(t, s)
			if err := s.writeCompacted(); err != nil {
				t.Fatal(err)
			}
		}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir)
			for range 60 { // more than the pages that opening the folder again overwrites
				add(t, s, Chat{Text: "hers" + strings.Repeat(" and", 100), Intent: "a", Conversation: "anna"})
			}
			add(t, s, Chat{Text: "his", Intent: "b", Conversation: "ben"})
			var sealed [][]byte
			s.db.View(func(tx *bolt.Tx) error {
				return tx.Bucket(chatsBucket).ForEach(func(name, v []byte) error {
					if h, _ := handleOf(name); h == s.keys.handle("anna") {
						sealed = append(sealed, bytes.Clone(v))
					}
					return nil
				})
			})
			old := onlyKey(t, dir)
			c.stop(t, s)
			s.closeFiles() // what the system does for a killed process
			s = open(t, dir)
			if got := texts(t, s); strings.Contains(got, "hers and") == c.forgot || !strings.Contains(got, "his") {
				t.Errorf("after the restart: %q", got)
			}
			if renewed := onlyKey(t, dir) != old; renewed != c.forgot {
				t.Errorf("key renewed: %v, want %v", renewed, c.forgot)
			}
			left := 0
			for _, chat := range sealed {
				if grep(t, dir, chat) != "" {
					left++
				}
			}
			if c.forgot != (left == 0) || !c.forgot && left != len(sealed) {
				t.Errorf("%d of %d sealed chats are in the folder, forgotten: %v", left, len(sealed), c.forgot)
			}
			if _, err := os.Stat(s.path(compactName)); err == nil {
				t.Error("the half-written copy is still there")
			}
		})
	}
}

// commitForget does the transaction of forgetting anna and stops there.
func commitForget(t *testing.T, s *Store) {
	t.Helper()
	fresh := s.keys.renew()
	if err := writeFile(s.path(keyFile(fresh.id)), fresh.kek[:]); err != nil {
		t.Fatal(err)
	}
	err := s.db.Update(func(tx *bolt.Tx) error {
		if _, err := dropChats(tx, func(h handle) bool { return h == s.keys.handle("anna") }); err != nil {
			return err
		}
		return s.rewrap(tx, &fresh)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// grep returns the first file under dir that holds the bytes, "" where none does.
func grep(t *testing.T, dir string, what []byte) (where string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || where != "" {
			return err
		}
		data, err := os.ReadFile(path)
		if bytes.Contains(data, what) || strings.Contains(path, string(what)) {
			where = path
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return where
}
