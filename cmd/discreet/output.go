package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// outputs is where a simulation's result goes: paths, empty for none.
type outputs struct{ json, page string }

// output is what a file is to hold. It is written beside it, or else where temporary files go,
// and takes its place once it is whole: who reads the file sees what was there before, or all
// that is new. Where it cannot take its place it is copied into the file. A device, a pipe, and
// what a process has open (/dev/stdout, even where a shell leads it into a file) are written to
// as they are. nil is none.
type output struct {
	path string   // of the file, behind links that lead there
	file *os.File // the new one, or itself where it is written to as it is
	done bool     // nothing of file is to be taken away
}

// openOutput is openFile for a path that may be empty or standard output's, for which it is nil.
func openOutput(path string) (*output, error) {
	if path == "" || path == "-" {
		return nil, nil
	}
	return openFile(path)
}

// openFile sees to it that a file can be written, so that a path that cannot be is found out
// before the work, not after. - is standard output. The caller abandons it.
func openFile(path string) (*output, error) {
	if path == "-" {
		return &output{path: os.Stdout.Name(), file: os.Stdout, done: true}, nil
	}
	behind, opened := behindLinks(path)
	if opened {
		return openOpened(path)
	}
	before, err := os.Stat(behind)
	if err != nil && !errors.Is(err, os.ErrNotExist) { // as of links that lead back to themselves
		return nil, unwritable(path, err)
	}
	path = behind
	if err != nil {
		file, err := os.OpenFile(beside(path), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
		if err != nil {
			return nil, unwritable(path, err)
		}
		return &output{path: path, file: file}, nil
	}
	if before.IsDir() {
		return nil, fmt.Errorf("%s is a folder, want the path of a file", path)
	}
	there, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	if !before.Mode().IsRegular() {
		return &output{path: path, file: there, done: true}, nil
	}
	if err := there.Close(); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(beside(path), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil { // as in a folder that takes no new files, with a file that may be written
		if file, err = os.CreateTemp("", ".discreet-"); err != nil {
			return nil, unwritable(path, err)
		}
	}
	_ = file.Chmod(before.Mode().Perm()) // where there are no modes the file is as all others are
	return &output{path: path, file: file}, nil
}

// beside is a name in a file's folder that no other file has.
func beside(path string) string {
	return filepath.Join(filepath.Dir(path), fmt.Sprintf(".%s-%s", filepath.Base(path), rand.Text()))
}

// openOpened writes on where a process has a file open. Its own standard output goes on from
// where it is; another file has what is new at its end.
func openOpened(path string) (*output, error) {
	there, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	for _, own := range []*os.File{os.Stdout, os.Stderr} {
		if info, err := own.Stat(); err == nil && os.SameFile(info, there) {
			return &output{path: path, file: own, done: true}, nil
		}
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return nil, err
	}
	return &output{path: path, file: file, done: true}, nil
}

// behindLinks follows links to a file, which need not be there yet, and tells whether they lead
// to one that a process has open: into /proc, or into /dev/fd where there is no /proc. A link
// there is to the open file itself, and what it reads may be no path, or another file's by now.
func behindLinks(path string) (real string, opened bool) {
	for range 40 { // as many as Linux follows
		if dir, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
			path = filepath.Join(dir, filepath.Base(path))
		}
		if strings.HasPrefix(path, "/proc/") || strings.HasPrefix(path, "/dev/fd/") {
			return path, true
		}
		to, err := os.Readlink(path)
		if err != nil {
			break
		}
		if !filepath.IsAbs(to) {
			to = filepath.Join(filepath.Dir(path), to)
		}
		path = to
	}
	return path, false
}

// same tells whether two are the same file, of which the one would take the other's place; what
// is written to as it is, such as the null device, takes both.
func (o *output) same(other *output) bool {
	if o == nil || other == nil || o.done && other.done {
		return false
	}
	a, errA := os.Stat(o.path)
	b, errB := os.Stat(other.path)
	return o.path == other.path || errA == nil && errB == nil && os.SameFile(a, b)
}

// printed tells whether what is written goes to standard output, by whatever name.
func (o *output) printed() bool {
	if o.file == os.Stdout {
		return true
	}
	there, errThere := os.Stat(o.path)
	own, errOwn := os.Stdout.Stat()
	return errThere == nil && errOwn == nil && os.SameFile(there, own)
}

// replace writes what a file is to hold from now on.
func (o *output) replace(write func(io.Writer) error) error {
	if o == nil {
		return nil
	}
	err := o.put(write)
	if at := (*os.PathError)(nil); errors.As(err, &at) && at.Path == o.file.Name() {
		return unwritable(o.path, at)
	}
	return err
}

func (o *output) put(write func(io.Writer) error) error {
	if err := write(o.file); err != nil {
		return err
	}
	if o.done {
		return o.close()
	}
	if err := o.file.Sync(); err != nil {
		return err
	}
	if err := o.file.Close(); err != nil {
		return err
	}
	o.done = true // from here on it is whole, and stays
	if os.Rename(o.file.Name(), o.path) == nil {
		return nil
	}
	if err := copyInto(o.path, o.file.Name()); err != nil { // another's mount, or open on Windows
		return fmt.Errorf("%s cannot be written: %w; what it was to hold is in %s", o.path, err, o.file.Name())
	}
	o.done = false // the copy is enough
	return nil
}

// copyInto writes what one file holds into another that is there.
func copyInto(path, from string) (err error) {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if _, err := io.Copy(file, source); err != nil {
		return err
	}
	return file.Sync()
}

// unwritable names the file that was asked for in place of the one beside it.
func unwritable(path string, err error) error {
	next := ""
	if errors.Is(err, os.ErrNotExist) {
		next = "; make its folder first"
	}
	return fmt.Errorf("%s cannot be written: %w%s", path, errors.Unwrap(err), next)
}

// abandon takes away what did not become the file.
func (o *output) abandon() {
	if o == nil {
		return
	}
	o.close() // a second time where it was replaced
	if !o.done {
		os.Remove(o.file.Name()) // it is left where that fails, and nobody takes it for the result
	}
}

// close closes what is written, but for the process's own standard output: more is printed there.
func (o *output) close() error {
	if o.file == os.Stdout || o.file == os.Stderr {
		return nil
	}
	return o.file.Close()
}

// writeFile replaces a file as output does, and tells whether that is standard output.
func writeFile(path string, data []byte) (printed bool, err error) {
	o, err := openFile(path)
	if err != nil {
		return false, err
	}
	defer o.abandon()
	printed = o.printed() // a file that is replaced is another one after that
	return printed, o.replace(func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}
