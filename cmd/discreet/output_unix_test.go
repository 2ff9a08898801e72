//go:build unix

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestOpenFilesAreWrittenTo holds that what a process has open is written to as it is, by
// whatever path: another file that took its place would be seen by nobody who has it open.
func TestOpenFilesAreWrittenTo(t *testing.T) {
	const before, result = "before\n", "a result\n"
	if _, err := os.Stat("/dev/fd"); err != nil {
		t.Skip("no files of a process here: ", err)
	}
	dir := t.TempDir()
	file, err := os.Create(filepath.Join(dir, "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteString(before); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	paths := []string{fmt.Sprint("/dev/fd/", file.Fd()), link}
	if _, err := os.Stat("/proc/self/fd"); err == nil {
		paths = append(paths, fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), file.Fd()))
	}
	if err := os.Symlink(paths[0], link); err != nil {
		t.Fatal(err)
	}
	want := before
	for _, path := range paths {
		o := opened(t, path)
		put(t, o, result)
		o.abandon()
		want += result
		if text, err := os.ReadFile(file.Name()); string(text) != want {
			t.Errorf("after %s the open file holds %q, %v, want %q", path, text, err, want)
		}
		if !opened(t, file.Name()).same(o) || !o.same(opened(t, file.Name())) {
			t.Errorf("%s and the file that is open there are not told as the same", path)
		}
	}

	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	o := opened(t, fmt.Sprint("/dev/fd/", writer.Fd()))
	put(t, o, result)
	o.abandon()
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(reader); string(text) != result {
		t.Errorf("a pipe carried %q, %v, want %q", text, err, result)
	}
	if _, err := openOutput("/dev/fd/987654"); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "/dev/fd/987654") {
		t.Errorf("what is not open: %v, want an error that names it", err)
	}
}

// TestResultGoesToStandardOutput leads /dev/stdout into a file, as a shell does that prints
// more before and after.
func TestResultGoesToStandardOutput(t *testing.T) {
	const before, after = "before\n", "after\n"
	b := newBench(t)
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	shell, err := os.Create(filepath.Join(b.dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer shell.Close()
	_, err = shell.WriteString(before)
	c := b.command(path, "simulate", "--devices", "20", "--per-round", "5", "--rounds", "1", "--secure=false", "--json", "/dev/stdout")
	c.Stdout = shell
	if err := errors.Join(err, c.Run()); err != nil {
		t.Fatal(err)
	}
	if _, err := shell.WriteString(after); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(shell.Name())
	if err != nil {
		t.Fatal(err)
	}
	json, table, _ := strings.Cut(strings.TrimPrefix(string(text), before), "}\n")
	if !strings.HasPrefix(string(text), before+"{\n") || !strings.Contains(json, `"rounds": [`) || !strings.Contains(table, "accuracy, trained together") || !strings.HasSuffix(table, after) {
		t.Errorf("the file holds\n%s\nwant what was there, the result, what is printed, and what came after", text)
	}
	if names := namesIn(t, b.dir); len(names) != 1 {
		t.Errorf("beside it there are %q", names)
	}
}

// TestExportedCheckpointIsWhole exports to standard output, by each of its names: that has the
// checkpoint's bytes alone, and what is said of them goes elsewhere.
func TestExportedCheckpointIsWhole(t *testing.T) {
	f := &federation{bench: newBench(t)}
	f.write("intents.txt", "greet\nleave\n")
	f.serve()
	f.operate("task", "create", "support", "--intents", "intents.txt", "--per-round", "3")
	said := f.operate("checkpoint", "export", "support", "model.ckpt")
	want, err := os.ReadFile(filepath.Join(f.dir, "model.ckpt"))
	if err != nil || !strings.HasPrefix(said, "model.ckpt: round 0, ") {
		t.Fatalf("export prints %q, %v", said, err)
	}
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{"-", "/dev/stdout", "out"} { // out is what the shell leads it into
		out, err := os.Create(filepath.Join(f.dir, "out"))
		if err != nil {
			t.Fatal(err)
		}
		var said strings.Builder
		c := f.command(path, "checkpoint", "export", "support", to, "--server", f.address)
		c.Stdout, c.Stderr = out, &said
		if err := errors.Join(c.Run(), out.Close()); err != nil || !strings.HasPrefix(said.String(), to+": round 0, ") {
			t.Errorf("to %s: %v, and it says %q, want what it has written", to, err, said.String())
		}
		if got, err := os.ReadFile(out.Name()); err != nil || string(got) != string(want) {
			t.Errorf("to %s: %d bytes that are not the checkpoint's %d, %v", to, len(got), len(want), err)
		}
	}
}
