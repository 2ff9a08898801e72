package dataset

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
)

// lineAt turns growing offsets into line numbers without counting anew.
type lineAt struct {
	data         []byte
	offset, line int
}

func (l *lineAt) of(offset int) int {
	l.line += bytes.Count(l.data[l.offset:offset], []byte("\n"))
	l.offset = offset
	return l.line
}

// parseSplits reads CLINC150's JSON. train is empty and test is nil where the
// object has none.
func parseSplits(f file) (train, test *part, err error) {
	d := json.NewDecoder(bytes.NewReader(f.data))
	at := &lineAt{data: f.data, line: 1}
	here := func() int { return at.of(int(d.InputOffset())) }
	broken := func(err error) error {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return f.errorf(at.of(len(f.data)), "the JSON ends before it is complete; the file was cut short, fetch it again")
		}
		return f.errorf(here(), "cannot be read as JSON: %w", err)
	}
	if _, err := d.Token(); err != nil {
		return nil, nil, broken(err)
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, nil, broken(err)
		}
		into := &train
		switch key {
		case "train":
		case "test":
			into = &test
		default:
			var passed json.RawMessage
			if err := d.Decode(&passed); err != nil {
				return nil, nil, broken(err)
			}
			continue
		}
		if *into != nil {
			return nil, nil, f.errorf(here(), "got the key %q twice; keep one", key)
		}
		*into = newPart(f)
		if err := parsePairs(d, *into, here, broken); err != nil {
			return nil, nil, err
		}
	}
	if _, err := d.Token(); err != nil {
		return nil, nil, broken(err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, nil, f.errorf(here(), "got more after the JSON object; want one object in the file")
	}
	if train == nil && test == nil {
		return nil, nil, f.errorf(1, `got a JSON object without train, want a list of ["text", "intent"] pairs under it`)
	}
	if train == nil {
		train = newPart(f)
	}
	return train, test, nil
}

// parsePairs reads one list of ["text", "intent"] pairs into p.
func parsePairs(d *json.Decoder, p *part, here func() int, broken func(error) error) error {
	const want = `want a list of ["text", "intent"] pairs`
	if t, err := d.Token(); err != nil {
		return broken(err)
	} else if t != json.Delim('[') {
		return p.errorf(here(), "got %v, %s", t, want)
	}
	for d.More() {
		var pair []string
		if err := d.Decode(&pair); err != nil {
			var wrong *json.UnmarshalTypeError
			if errors.As(err, &wrong) {
				return p.errorf(here(), "got a JSON %s, %s", wrong.Value, want)
			}
			return broken(err)
		}
		if len(pair) != 2 {
			return p.errorf(here(), "got %d strings, %s", len(pair), want)
		}
		if err := p.add(here(), pair[0], pair[1], ""); err != nil {
			return err
		}
	}
	if _, err := d.Token(); err != nil {
		return broken(err)
	}
	return nil
}
