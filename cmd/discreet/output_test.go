package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/discreet-fl/discreet/simulate"
)

// TestUnfinishedSimulationLeavesNoFile holds that a simulation which is stopped takes the
// files away that it made, and no others.
func TestUnfinishedSimulationLeavesNoFile(t *testing.T) {
	s := simulation{config: simulate.Config{MinSurvivors: minSurvivors}}
	flags := pflag.NewFlagSet("simulate", pflag.ContinueOnError)
	s.flags(flags)
	if err := s.fill(flags); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	fresh, old := filepath.Join(dir, "fresh.json"), filepath.Join(dir, "old.html")
	if err := os.WriteFile(old, []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := runSimulation(ctx, s.config, time.Now(), outputs{json: fresh, page: old}, io.Discard, io.Discard)
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("a simulation whose context has ended: %v, want %v", err, context.Canceled)
	}
	if names := namesIn(t, dir); len(names) != 1 {
		t.Errorf("after it there are %q, want old.html alone", names)
	}
	if text, err := os.ReadFile(old); string(text) != "kept" {
		t.Errorf("%s, which was there before, holds %q, %v", old, text, err)
	}
}

// namesIn lists a folder, hidden files included.
func namesIn(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// put writes a text by an output.
func put(t *testing.T, o *output, text string) {
	t.Helper()
	if err := o.replace(func(w io.Writer) error {
		_, err := io.WriteString(w, text)
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// TestFilesAreReplacedWhole holds that a file is what it was before or what it is to be, and
// that a run that is given up takes nothing away from another that writes the same file.
func TestFilesAreReplacedWhole(t *testing.T) {
	dir := t.TempDir()
	path, link := filepath.Join(dir, "out.json"), filepath.Join(dir, "link")
	open := func(path string) *output { return opened(t, path) }
	holds := func(when, want string) {
		t.Helper()
		if text, err := os.ReadFile(path); string(text) != want {
			t.Errorf("%s it holds %q, %v, want %q", when, text, err, want)
		}
	}
	first, second := open(path), open(path)
	if !first.same(second) {
		t.Error("two outputs to one path are not told as the same")
	}
	put(t, second, "second")
	first.abandon()
	holds("given up by another run", "second")
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	broken := open(path)
	if err := broken.replace(func(w io.Writer) error {
		_, err := io.WriteString(w, "half of")
		return errors.Join(err, io.ErrUnexpectedEOF)
	}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("writing that fails: %v", err)
	}
	holds("after writing that failed", "second")
	broken.abandon()
	full := open(path)
	full.file.Close() // as a full disk does, it fails whoever writes
	if err := full.replace(func(w io.Writer) error {
		_, err := w.Write([]byte("x"))
		return err
	}); !errors.Is(err, os.ErrClosed) || !strings.HasPrefix(err.Error(), full.path+" cannot be written: ") {
		t.Errorf("an error of writing: %v, want one of %s", err, full.path)
	}
	if err := os.Symlink(path, link); err != nil {
		t.Skip("no links here: ", err)
	}
	linked := open(link)
	if !linked.same(open(path)) {
		t.Error("a link and what it leads to are not told as the same file")
	}
	put(t, linked, "by a link")
	holds("written by a link", "by a link")
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("replaced, its mode is %v, %v, want 0600 as before", info.Mode(), err)
	}
	if _, err := openOutput(filepath.Join(dir, "missing", "out.json")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("in a folder that is not there: %v", err)
	}
	null := open(os.DevNull)
	put(t, null, "nothing")
	null.abandon()
	if _, err := os.Stat(os.DevNull); err != nil {
		t.Errorf("the null device is gone: %v", err)
	}
}

// opened opens an output, of which nothing is left after the test.
func opened(t *testing.T, path string) *output {
	t.Helper()
	o, err := openOutput(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.abandon)
	return o
}

// TestFilesThatCannotBeReplaced holds that a result is written into a file that no other can
// take the place of, and that it is kept where that cannot be done either.
func TestFilesThatCannotBeReplaced(t *testing.T) {
	const elsewhere = "/dev/shm" // of another device, from which nothing can be renamed
	dir := t.TempDir()
	if _, err := os.Stat(elsewhere); err == nil {
		t.Setenv("TMPDIR", elsewhere)
	}
	for name, within := range map[string]struct {
		file string
		mode os.FileMode
	}{
		"too long a name for one beside it": {strings.Repeat("x", 250), 0o755},
		"a folder that takes no new files":  {"out.json", 0o555}, // but from root
	} {
		folder := filepath.Join(dir, within.file[:3])
		path := filepath.Join(folder, within.file)
		if err := errors.Join(os.Mkdir(folder, 0o755), os.WriteFile(path, []byte("what was there before"), 0o600), os.Chmod(folder, within.mode)); err != nil {
			t.Fatal(err)
		}
		o := opened(t, path)
		put(t, o, "new")
		o.abandon()
		if text, err := os.ReadFile(path); string(text) != "new" {
			t.Errorf("%s: it holds %q, %v", name, text, err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: its mode is %v, %v, want 0600 as before", name, info.Mode(), err)
		}
		if names := namesIn(t, folder); len(names) != 1 {
			t.Errorf("%s: beside it there are %q", name, names)
		}
		_ = os.Chmod(folder, 0o755) // so that it can be removed
	}

	kept := opened(t, filepath.Join(dir, "kept"))
	if err := os.Mkdir(kept.path, 0o755); err != nil {
		t.Fatal(err)
	}
	err := kept.replace(func(w io.Writer) error {
		_, err := io.WriteString(w, "a result")
		return err
	})
	kept.abandon()
	if err == nil || !strings.Contains(err.Error(), kept.path+" cannot be written") || !strings.HasSuffix(err.Error(), " is in "+kept.file.Name()) {
		t.Errorf("in the place of a folder: %v, want where it is now", err)
	}
	if text, err := os.ReadFile(kept.file.Name()); string(text) != "a result" {
		t.Errorf("it is kept as %q, %v", text, err)
	}
}

// TestFilesBehindLinks holds that a link stays one, and that two names of one file are seen.
func TestFilesBehindLinks(t *testing.T) {
	dir := t.TempDir()
	path, link, hard := filepath.Join(dir, "file"), filepath.Join(dir, "link"), filepath.Join(dir, "hard")
	if err := os.Symlink("file", link); err != nil {
		t.Skip("no links here: ", err)
	}
	put(t, opened(t, link), "by a link to nothing")
	if text, err := os.ReadFile(path); string(text) != "by a link to nothing" {
		t.Errorf("%s holds %q, %v", path, text, err)
	}
	if to, err := os.Readlink(link); to != "file" {
		t.Errorf("the link leads to %q, %v", to, err)
	}
	for from, to := range map[string]string{"la": "lb", "lb": "la"} {
		if err := os.Symlink(to, filepath.Join(dir, from)); err != nil {
			t.Fatal(err)
		}
	}
	loop := filepath.Join(dir, "la")
	if _, err := openOutput(loop); err == nil || !strings.HasPrefix(err.Error(), loop+" cannot be written: ") {
		t.Errorf("links that lead back to themselves: %v, want an error that names %s", err, loop)
	}
	if names := namesIn(t, dir); len(names) != 4 {
		t.Errorf("beside the links there are %q", names)
	}
	if err := errors.Join(os.Link(path, hard), os.Chmod(path, 0o666)); err != nil {
		t.Fatal(err)
	}
	if !opened(t, path).same(opened(t, hard)) {
		t.Error("two names of one file are not told as the same")
	}
	put(t, opened(t, path), "with a mode that a umask would cut")
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o666 {
		t.Errorf("its mode is %v, %v, want 0666 as before", info.Mode(), err)
	}
}

// TestResultIsPrintedWhereItCannotBeWritten fills the disk at the end of a simulation.
func TestResultIsPrintedWhereItCannotBeWritten(t *testing.T) {
	const full = "/dev/full"
	if _, err := os.Stat(full); err != nil {
		t.Skip("no device here that is full: ", err)
	}
	s := simulation{config: simulate.Config{}}
	flags := pflag.NewFlagSet("simulate", pflag.ContinueOnError)
	s.flags(flags)
	if err := errors.Join(flags.Parse([]string{"--devices", "20", "--per-round", "3", "--rounds", "1", "--secure=false"}), s.fill(flags)); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	path := filepath.Join(t.TempDir(), "out.json")
	err := runSimulation(t.Context(), s.config, time.Now(), outputs{json: path, page: full}, &out, io.Discard)
	if err == nil || !strings.HasPrefix(err.Error(), full+" cannot be written: ") {
		t.Errorf("to a full disk: %v", err)
	}
	if !strings.Contains(out.String(), "1 of 1") {
		t.Errorf("it prints %q, want the result", out.String())
	}
	if info, err := os.Stat(path); err != nil || info.Size() == 0 {
		t.Errorf("the other file: %v, %v", info, err)
	}
}

// TestUncommittedRoundsAreToldAsSuch holds what is printed of a simulation in which every
// attempt failed, and of one in which devices were lost.
func TestUncommittedRoundsAreToldAsSuch(t *testing.T) {
	failed := simulate.Round{Round: 1, Participants: 20, Attempts: 3, Cohorts: 1, CohortsLost: 1, Drops: simulate.Drops{AfterShare: 20}}
	committed := simulate.Round{Round: 2, Participants: 20, Survivors: 19, Attempts: 1, Cohorts: 1, Drops: simulate.Drops{AfterShare: 1}}
	for _, tc := range []struct {
		name   string
		rounds []simulate.Round
		want   []string
	}{
		{"none committed", []simulate.Round{failed}, []string{"0 of 1 in 3 attempts", "0 of 1\n", "not known: no round was committed", "20, in the last attempt of each"}},
		{"one of two", []simulate.Round{failed, committed}, []string{"1 of 2 in 4 attempts", "1 of 2\n", "none were held back", "21, in the last attempt of each"}},
		{"no attempt failed", []simulate.Round{committed}, []string{"1 of 1 in 1 attempts", "1 of 1\n", "none were held back", " 1\n"}},
	} {
		var out bytes.Buffer
		printSimulation(&out, &simulate.Result{Rounds: tc.rounds, Parameters: 1})
		for _, want := range tc.want {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%s: it prints\n%s, want %q in it", tc.name, out.String(), want)
			}
		}
	}
}
