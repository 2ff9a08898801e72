package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// outputs is where a simulation's result goes: paths, empty for none.
type outputs struct{ json, page string }

// output is what a file is to hold. It is written beside it, or else where temporary files go,
// and takes its place once it is whole: who reads the file sees what was there before, or all
// that is new. Where it cannot take its place it is copied into the file. nil is none.
type output struct {
	path string   // of the file, behind links that lead there
	file *os.File // the new one, or itself where it is a device or a pipe
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
// before the work, not after. The caller abandons it.
func openFile(path string) (*output, error) {
	path = behindLinks(path)
	before, err := os.Stat(path)
	if err != nil {
		file, err := os.OpenFile(beside(path), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
		if err != nil {
			return nil, unwritable(path, err)
		}
		return &output{path: path, file: file}, nil
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

// behindLinks follows links to a file, which need not be there yet.
func behindLinks(path string) string {
	for range 40 { // as many as Linux follows
		if real, err := filepath.EvalSymlinks(path); err == nil {
			return real
		}
		if dir, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
			path = filepath.Join(dir, filepath.Base(path))
		}
		to, err := os.Readlink(path)
		if _, there := os.Stat(path); err != nil || there == nil { // there, without a path of its own: a pipe
			break
		}
		if !filepath.IsAbs(to) {
			to = filepath.Join(filepath.Dir(path), to)
		}
		path = to
	}
	return path
}

// same tells whether two are the same file, of which the one would take the other's place; a
// device, such as the null device, takes both.
func (o *output) same(other *output) bool {
	if o == nil || other == nil || o.done {
		return false
	}
	a, errA := os.Stat(o.path)
	b, errB := os.Stat(other.path)
	return o.path == other.path || errA == nil && errB == nil && os.SameFile(a, b)
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
		return o.file.Close()
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
	return fmt.Errorf("%s cannot be written: %w", path, errors.Unwrap(err))
}

// abandon takes away what did not become the file.
func (o *output) abandon() {
	if o == nil {
		return
	}
	o.file.Close() // a second time where it was replaced
	if !o.done {
		os.Remove(o.file.Name()) // it is left where that fails, and nobody takes it for the result
	}
}

// writeFile replaces a file as output does.
func writeFile(path string, data []byte) error {
	o, err := openFile(path)
	if err != nil {
		return err
	}
	defer o.abandon()
	return o.replace(func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}
