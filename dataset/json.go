package dataset

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
)

// jsonReader reads one JSON value that fills a file, and knows the line it is
// at.
type jsonReader struct {
	file
	*json.Decoder
	offset, lines int // line breaks before offset, so that none is counted twice
}

func newJSONReader(f file) *jsonReader {
	return &jsonReader{file: f, Decoder: json.NewDecoder(bytes.NewReader(f.data))}
}

// line is the line on which the next token begins.
func (r *jsonReader) line() int {
	end := int(r.InputOffset())
	for end < len(r.data) && bytes.IndexByte([]byte(" \t\r\n,:"), r.data[end]) >= 0 {
		end++
	}
	r.lines += bytes.Count(r.data[r.offset:end], []byte("\n"))
	r.offset = end
	return r.lines + 1
}

// open reads the bracket that begins a list or an object.
func (r *jsonReader) open(bracket json.Delim, want string) error {
	line := r.line()
	t, err := r.Token()
	if err != nil {
		return r.broken(line, err)
	}
	if t != bracket {
		return r.errorf(line, "got %v, want %s", t, want)
	}
	return nil
}

// value reads a value that began on the line given.
func (r *jsonReader) value(line int, v any, want string) error {
	err := r.Decode(v)
	var wrong *json.UnmarshalTypeError
	switch {
	case errors.As(err, &wrong):
		return r.errorf(line, "got a JSON %s, want %s", wrong.Value, want)
	case err != nil:
		return r.broken(line, err)
	}
	return nil
}

// close reads the bracket that ends a list or an object.
func (r *jsonReader) close() error {
	line := r.line()
	if _, err := r.Token(); err != nil {
		return r.broken(line, err)
	}
	return nil
}

// end holds that nothing stands after the value.
func (r *jsonReader) end() error {
	line := r.line()
	if _, err := r.Token(); err != io.EOF {
		return r.errorf(line, "got more after the end of the JSON value; want one in the file")
	}
	return nil
}

// broken explains what is wrong with JSON that does not parse.
func (r *jsonReader) broken(line int, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		last := 1 + bytes.Count(r.data, []byte("\n"))
		return r.errorf(last, "the JSON ends before it is complete; the file was cut short, fetch it again")
	}
	return r.errorf(line, "cannot be read as JSON: %w", err)
}
