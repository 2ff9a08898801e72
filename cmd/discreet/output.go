package main

import (
	"errors"
	"io"
	"os"
)

// outputs is where a simulation's result goes: paths, empty for none.
type outputs struct{ json, page string }

// output is a file for what the work will give. nil is none.
type output struct {
	file *os.File
	made bool // it was not there before
	done bool // it holds what it was opened for
}

// openOutput opens a file for what the work will give, so that a path that cannot be
// written is found out before the work, not after; what it holds stays until there is
// something better. It is nil for no path and for standard output. The caller abandons it.
func openOutput(path string) (*output, error) {
	if path == "" || path == "-" {
		return nil, nil
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err == nil {
		return &output{file: file, made: true}, nil
	}
	if !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	file, err = os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o644) // a link to nothing is there, too
	if err != nil {
		return nil, err
	}
	return &output{file: file}, nil
}

// same tells whether two are the same file, in which the one would be written over the
// other; a device, such as the null device, takes both.
func (o *output) same(other *output) bool {
	if o == nil || other == nil {
		return false
	}
	a, err := o.file.Stat()
	b, otherErr := other.file.Stat()
	return err == nil && otherErr == nil && a.Mode().IsRegular() && os.SameFile(a, b)
}

// replace writes what a file is to hold in place of what it held, and closes it.
func (o *output) replace(write func(io.Writer) error) error {
	if o == nil {
		return nil
	}
	if info, err := o.file.Stat(); err == nil && info.Mode().IsRegular() {
		if err := o.file.Truncate(0); err != nil {
			return err
		}
	}
	if err := write(o.file); err != nil {
		return err
	}
	if err := o.file.Close(); err != nil {
		return err
	}
	o.done = true
	return nil
}

// abandon closes a file; one that was made for nothing goes.
func (o *output) abandon() {
	if o == nil || o.done {
		return
	}
	o.file.Close() // nothing in it is wanted
	if o.made {
		os.Remove(o.file.Name()) // an empty file is left, no more
	}
}
