package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	bolt "go.etcd.io/bbolt"
)

var testOptions = Options{MaxChats: 1000, MaxCheckpoint: 1 << 20}

func open(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir, testOptions)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func texts(t *testing.T, s *Store) string {
	t.Helper()
	chats, err := s.Chats()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, c := range chats {
		fmt.Fprintf(&b, "%s=%s@%s ", c.Text, c.Intent, c.Conversation)
	}
	count, err := s.Count()
	if err != nil || count != len(chats) {
		t.Fatalf("Count is %d, %v with %d chats", count, err, len(chats))
	}
	return b.String()
}

func add(t *testing.T, s *Store, chats ...Chat) {
	t.Helper()
	for _, c := range chats {
		if err := s.Add(c); err != nil {
			t.Fatal(err)
		}
	}
}

func TestChatsComeBackInOrder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "device")
	s := open(t, dir)
	add(t, s, Chat{Text: "one", Intent: "a"}, Chat{Text: "two", Intent: "b", Conversation: "anna"}, Chat{Text: "three", Intent: "a", Conversation: "ben"})
	if err := s.PutRecord("plain", []byte("p")); err != nil {
		t.Fatal(err)
	}
	if err := s.PutSecret("secret", []byte("s")); err != nil {
		t.Fatal(err)
	}
	const want = "one=a@ two=b@anna three=a@ben "
	if got := texts(t, s); got != want {
		t.Fatalf("got %q, want %q", got, want)
	}
	s.Close()
	s = open(t, dir)
	if got := texts(t, s); got != want {
		t.Fatalf("after opening again: got %q, want %q", got, want)
	}
	if v, err := s.Record("plain"); err != nil || string(v) != "p" {
		t.Errorf("plain record is %q, %v", v, err)
	}
	if v, err := s.Secret("secret"); err != nil || string(v) != "s" {
		t.Errorf("sealed record is %q, %v", v, err)
	}
	if v, err := s.Secret("missing"); err != nil || v != nil {
		t.Errorf("missing record is %q, %v", v, err)
	}
}

func TestOldestLeaveFirst(t *testing.T) {
	s, err := Open(t.TempDir(), Options{MaxChats: 3, MaxCheckpoint: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for i := range 5 {
		add(t, s, Chat{Text: fmt.Sprint(i), Intent: "a", Conversation: fmt.Sprint(i % 2)})
	}
	if got, want := texts(t, s), "2=a@0 3=a@1 4=a@0 "; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	add(t, s, Chat{Text: "5", Intent: "a"}, Chat{Text: "6", Intent: "a"}, Chat{Text: "7", Intent: "a"})
	s.db.View(func(tx *bolt.Tx) error {
		if n := tx.Bucket(keysBucket).Stats().KeyN; n != 1 {
			t.Errorf("%d data keys are left, want 1: those of conversations without chats must go", n)
		}
		return nil
	})
}

// TestClockGoesBack adds a chat in 2026 and then starts in 2000, as a kiosk without a
// battery does.
func TestClockGoesBack(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	add(t, s, Chat{Text: "first", Intent: "a"})
	s.Close()
	synctest.Test(t, func(t *testing.T) { // begins in 2000
		s := open(t, dir)
		add(t, s, Chat{Text: "second", Intent: "a"})
		s.Close()
	})
	if got, want := texts(t, open(t, dir)), "first=a@ second=a@ "; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestFolderIsPrivate(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("permissions are inherited there")
	}
	dir := filepath.Join(t.TempDir(), "a", "device")
	s := open(t, dir)
	add(t, s, Chat{Text: "one", Intent: "a"})
	d, err := s.Download([32]byte{1}, 10)
	if err != nil {
		t.Fatal(err)
	}
	d.Close()
	filepath.WalkDir(dir, func(path string, e fs.DirEntry, _ error) error {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v, want nothing for group and others", path, info.Mode())
		}
		return nil
	})
}

func TestFolderOfOthersIsRefused(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "letter.txt"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, testOptions); err == nil || !strings.Contains(err.Error(), "holds other files") {
		t.Errorf("got %v, want a refusal", err)
	}
	if info, _ := os.Stat(dir); info.Mode().Perm() != 0o755 && runtime.GOOS != "windows" {
		t.Errorf("the folder's mode became %v", info.Mode())
	}
}

func TestFolderInUse(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	if _, err := Open(dir, testOptions); !errors.Is(err, ErrInUse) {
		t.Fatalf("got %v, want ErrInUse", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, dir)
	if err := s.Add(Chat{}); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: got %v, want ErrClosed", err)
	}
	if _, err := s.ForgetAll(); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: got %v, want ErrClosed", err)
	}
}

func TestDamagedFolder(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, dir string)
		want   string
	}{
		{"database overwritten", func(t *testing.T, dir string) {
			if err := os.WriteFile(filepath.Join(dir, databaseName), bytes.Repeat([]byte("x"), 1<<16), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "damaged"},
		{"key missing", func(t *testing.T, dir string) {
			if err := os.Remove(onlyKey(t, dir)); err != nil {
				t.Fatal(err)
			}
		}, "is missing"},
		{"key cut", func(t *testing.T, dir string) {
			if err := os.Truncate(onlyKey(t, dir), 5); err != nil {
				t.Fatal(err)
			}
		}, "damaged"},
		{"another key", func(t *testing.T, dir string) {
			if err := os.WriteFile(onlyKey(t, dir), make([]byte, keySize), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "damaged"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir)
			add(t, s, Chat{Text: "one", Intent: "a"})
			s.Close()
			c.damage(t, dir)
			if _, err := Open(dir, testOptions); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
		})
	}
}

// TestSwappedChats puts one chat's sealed bytes under another's key: the record
// key is part of the seal, so that neither opens.
func TestSwappedChats(t *testing.T) {
	s := open(t, t.TempDir())
	add(t, s, Chat{Text: "one", Intent: "a"}, Chat{Text: "two", Intent: "b"})
	err := s.db.Update(func(tx *bolt.Tx) error {
		chats := tx.Bucket(chatsBucket)
		first, sealed := chats.Cursor().First()
		last, _ := chats.Cursor().Last()
		sealed = bytes.Clone(sealed)
		_ = first
		return chats.Put(bytes.Clone(last), sealed)
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Chats(); !errors.Is(err, ErrDamaged) {
		t.Errorf("got %v, want ErrDamaged", err)
	}
}

// A chat of format 1 was confirmed; one of a format to come is refused.
func TestFormats(t *testing.T) {
	s := open(t, t.TempDir())
	add(t, s, Chat{Text: "one", Intent: "a", Signal: "rejected"})
	write := func(plain string) {
		err := s.db.Update(func(tx *bolt.Tx) error {
			name, _ := tx.Bucket(chatsBucket).Cursor().First()
			h, err := handleOf(name)
			if err != nil {
				return err
			}
			key, _, err := s.openKey(tx, h)
			if err != nil {
				return err
			}
			name = bytes.Clone(name)
			return tx.Bucket(chatsBucket).Put(name, seal(key, []byte(plain), name))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if chats, err := s.Chats(); err != nil || chats[0].Signal != "rejected" {
		t.Errorf("got %+v, %v, want a rejected chat", chats, err)
	}
	write(`{"text":"one","intent":"a"}`)
	if chats, err := s.Chats(); err != nil || chats[0].Signal != "confirmed" || chats[0].Intent != "a" {
		t.Errorf("got %+v, %v, want a confirmed chat", chats, err)
	}
	write(`{"format":3,"text":"one","intent":"a"}`)
	if _, err := s.Chats(); err == nil || !strings.Contains(err.Error(), "format 3") {
		t.Errorf("a chat of format 3: %v", err)
	}
}

func TestConcurrentUse(t *testing.T) {
	s := open(t, t.TempDir())
	var group sync.WaitGroup
	for g := range 4 {
		group.Go(func() {
			for i := range 5 {
				if err := s.Add(Chat{Text: "text", Intent: "a", Conversation: fmt.Sprint(g)}); err != nil {
					t.Error(err)
				}
				if _, err := s.Chats(); err != nil {
					t.Error(err)
				}
				if i == 2 && g == 0 {
					if _, err := s.Forget("nobody"); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	group.Wait()
	if n, err := s.Count(); n != 20 || err != nil {
		t.Errorf("%d chats, %v, want 20", n, err)
	}
}

func onlyKey(t *testing.T, dir string) string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, keyPrefix+"*"+keySuffix))
	if err != nil || len(names) != 1 {
		t.Fatalf("key files %v, %v, want just one", names, err)
	}
	return names[0]
}

// TestDerived holds that what was made from chats is sealed, kept, replaced and dropped.
func TestDerived(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	before, err := s.Added()
	if err != nil {
		t.Fatal(err)
	}
	add(t, s, Chat{Text: "one", Intent: "a"}, Chat{Text: "two", Intent: "a"})
	if n, err := s.Added(); err != nil || n != before+2 {
		t.Errorf("%d chats added, %v, want two more than %d", n, err, before)
	}
	for _, value := range []string{"an old value", "the value"} {
		if err := s.PutDerived("personal", []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	if where := grep(t, dir, []byte("value")); where != "" {
		t.Errorf("it lies open in %s", where)
	}
	s.Close()
	s = open(t, dir)
	if v, err := s.Derived("personal"); err != nil || string(v) != "the value" {
		t.Errorf("read %q, %v", v, err)
	}
	if v, err := s.Derived("other"); err != nil || v != nil {
		t.Errorf("another name: %q, %v", v, err)
	}
	if n, err := s.Added(); err != nil || n != before+2 {
		t.Errorf("%d chats added, %v, when opened again", n, err)
	}
	if err := s.DropDerived(); err != nil {
		t.Fatal(err)
	}
	if v, err := s.Derived("personal"); err != nil || v != nil {
		t.Errorf("dropped: %q, %v", v, err)
	}
	if got := texts(t, s); got != "one=a@ two=a@ " {
		t.Errorf("the chats are %q", got)
	}
}

// TestOlderVersionsTrainOnNoDoubt reads what is sealed as 0.2.0 does, which knows no signals:
// it finds an intent only in a chat that was confirmed or corrected.
func TestOlderVersionsTrainOnNoDoubt(t *testing.T) {
	for signal, want := range map[string]string{"": "refund", "confirmed": "refund", "corrected": "refund", "rejected": "", "rephrased": "", "handed_over": ""} {
		plain, err := json.Marshal(Chat{Text: "give it back", Intent: "refund", Signal: signal}.sealed())
		if err != nil {
			t.Fatal(err)
		}
		var old struct{ Text, Intent, Conversation string }
		if err := json.Unmarshal(plain, &old); err != nil || old.Text != "give it back" || old.Intent != want {
			t.Errorf("%q: %+v, %v, want the intent %q", signal, old, err, want)
		}
		s := open(t, t.TempDir())
		chat := Chat{Text: "give it back", Intent: "refund", Signal: signal}
		add(t, s, chat)
		if chats, err := s.Chats(); err != nil || len(chats) != 1 || chats[0].Intent != "refund" || chats[0].Signal != signal {
			t.Errorf("%q: this version reads %+v, %v", signal, chats, err)
		}
	}
}
