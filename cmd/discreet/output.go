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

// output is what a file is to hold, which is written beside it and takes its place once it is
// whole: who reads the file sees what was there before, or all that is new. nil is none.
type output struct {
	path string   // of the file, behind links that lead there
	file *os.File // beside it, or itself where it is a device or a pipe
	done bool     // nothing of file is left to take away
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
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	} else if dir, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
		path = filepath.Join(dir, filepath.Base(path))
	}
	mode := os.FileMode(0o644)
	if info, err := os.Stat(path); err == nil {
		there, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return nil, err
		}
		if !info.Mode().IsRegular() {
			return &output{path: path, file: there, done: true}, nil
		}
		if err := there.Close(); err != nil {
			return nil, err
		}
		mode = info.Mode().Perm()
	}
	beside := filepath.Join(filepath.Dir(path), fmt.Sprintf(".%s-%s", filepath.Base(path), rand.Text()))
	file, err := os.OpenFile(beside, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return nil, unwritable(path, err)
	}
	return &output{path: path, file: file}, nil
}

// same tells whether two are the same file, of which the one would take the other's place; a
// device, such as the null device, takes both.
func (o *output) same(other *output) bool {
	return o != nil && other != nil && !o.done && o.path == other.path
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
	if err := os.Rename(o.file.Name(), o.path); err != nil {
		return err
	}
	o.done = true
	return nil
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

// writeFile replaces a file in one step, so that a failure leaves the old one.
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
