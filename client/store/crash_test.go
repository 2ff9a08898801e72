//go:build unix

package store

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// The tests here run this test binary again as another process; these variables
// tell it what to do with which folder.
const (
	roleVariable   = "STORE_TEST_ROLE"
	folderVariable = "STORE_TEST_FOLDER"
)

func TestMain(m *testing.M) {
	switch os.Getenv(roleVariable) {
	case "":
		os.Exit(m.Run())
	case "add":
		addForEver(os.Getenv(folderVariable))
	case "derive":
		deriveForEver(os.Getenv(folderVariable))
	case "full":
		fillDisk(os.Getenv(folderVariable))
	}
}

func child(t *testing.T, role, dir string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), roleVariable+"="+role, folderVariable+"="+dir)
	cmd.Stderr = os.Stderr
	return cmd
}

// addForEver adds and forgets until it is killed, and prints what was acknowledged.
func addForEver(dir string) {
	s, err := Open(dir, testOptions)
	for i := 0; err == nil; i++ {
		if err = s.Add(Chat{Text: fmt.Sprint(i), Intent: "a"}); err == nil {
			fmt.Println(i)
		}
		if err == nil && i%5 == 4 {
			if err = s.Add(Chat{Text: "x", Intent: "a", Conversation: "passing"}); err == nil {
				_, err = s.Forget("passing")
			}
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// TestKilled kills a process at some moment while it adds and forgets. Every chat
// that it had acknowledged is there, and the folder opens at once.
func TestKilled(t *testing.T) {
	for _, after := range []int{3, 16, 29, 44} {
		dir := t.TempDir()
		cmd := child(t, "add", dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		acknowledged := 0
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if acknowledged++; acknowledged == after {
				cmd.Process.Kill() // what else it prints before it dies counts too
			}
		}
		cmd.Wait()
		s := open(t, dir)
		chats, err := s.Chats()
		if err != nil {
			t.Fatal(err)
		}
		kept := 0
		for _, c := range chats {
			if c.Conversation == "" {
				if c.Text != fmt.Sprint(kept) {
					t.Fatalf("chat %d is %q", kept, c.Text)
				}
				kept++
			}
		}
		if kept < acknowledged || acknowledged < after {
			t.Errorf("%d chats of %d acknowledged are left", kept, acknowledged)
		}
		onlyKey(t, dir)
		if _, err := s.ForgetAll(); err != nil {
			t.Error(err)
		}
	}
}

// deriveForEver replaces a derived record until it is killed, and prints what was
// acknowledged.
func deriveForEver(dir string) {
	s, err := Open(dir, testOptions)
	for i := 0; err == nil; i++ {
		if err = s.PutDerived("personal", bytes.Repeat([]byte{byte(i)}, 40<<10)); err == nil {
			fmt.Println(i)
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// TestKilledWhileDeriving kills a process at some moment while it replaces a derived
// record: the last that it acknowledged is there, or the one after it, whole.
func TestKilledWhileDeriving(t *testing.T) {
	dir := t.TempDir()
	cmd := child(t, "derive", dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	last := -1
	for lines := bufio.NewScanner(out); lines.Scan(); last++ {
		if last == 20 {
			cmd.Process.Kill()
		}
	}
	cmd.Wait()
	v, err := open(t, dir).Derived("personal")
	if err != nil || len(v) != 40<<10 {
		t.Fatalf("%d bytes, %v", len(v), err)
	}
	for _, b := range v {
		if b != v[0] || b != byte(last) && b != byte(last+1) {
			t.Fatalf("a record of %d and %d, want all of %d or the next", v[0], b, last)
		}
	}
}

// fillDisk makes files unable to grow, which is how a full disk looks to a process,
// and adds chats until that is felt.
func fillDisk(dir string) {
	s, err := Open(dir, testOptions)
	if err != nil {
		fmt.Println("opening:", err)
		os.Exit(1)
	}
	signal.Ignore(syscall.SIGXFSZ)
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	limit.Cur = 96 << 10
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	added := 0
	for err == nil && added < 1000 {
		if err = s.Add(Chat{Text: strings.Repeat("long ", 400), Intent: "a"}); err == nil {
			added++
		}
	}
	count, countErr := s.Count()
	fmt.Println(added, errors.Is(err, ErrFull), err)
	if count != added || countErr != nil {
		fmt.Println("after the failure there are", count, countErr)
		os.Exit(1)
	}
	d, err := s.Download([32]byte{1}, 1<<20)
	if err == nil {
		err = d.Append(make([]byte, 1<<20))
	}
	if !errors.Is(err, ErrFull) {
		fmt.Println("a checkpoint:", err)
		os.Exit(1)
	}
	if _, err := s.ForgetAll(); err != nil { // there must be a way out
		fmt.Println("forgetting:", err)
		os.Exit(1)
	}
	if err := s.Add(Chat{Text: "room again", Intent: "a"}); err != nil {
		fmt.Println("after forgetting:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// TestFullDisk holds that a full disk is named, loses nothing, and that the folder
// works on as soon as there is room.
func TestFullDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	cmd := child(t, "full", dir)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var added int
	var full bool
	if _, err := fmt.Sscan(string(out), &added, &full); err != nil || !full || added == 0 {
		t.Fatalf("the process said: %s", out)
	}
	if got := texts(t, open(t, dir)); got != "room again=a@ " {
		t.Errorf("the folder holds %q", got)
	}
}
