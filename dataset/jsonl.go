package dataset

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// parseLines reads JSON Lines: one object a line, blank lines allowed.
func parseLines(f file) (*part, error) {
	p := newPart(f)
	line := 0
	for text := range bytes.Lines(f.data) {
		line++
		if len(bytes.TrimSpace(text)) == 0 {
			continue
		}
		value, err := parseObject(text)
		if err != nil {
			return nil, f.errorf(line, "%w", err)
		}
		if err := p.addChat(line, value); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// parseObject reads the fields of one line. It goes token by token because
// decoding into a struct would let the last of two equal keys win in silence.
func parseObject(line []byte) (value [fieldCount]string, err error) {
	d := json.NewDecoder(bytes.NewReader(line))
	var first [fieldCount]string
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return value, errorOnLine(line, err)
	}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return value, errorOnLine(line, err)
		}
		key, _ := t.(string)
		at, ok := fieldOf(key)
		if !ok {
			var passed json.RawMessage
			if err := d.Decode(&passed); err != nil {
				return value, errorOnLine(line, err)
			}
			continue
		}
		if first[at] != "" {
			return value, fmt.Errorf("got the keys %q and %q, which mean the same; keep one", first[at], key)
		}
		first[at] = key
		if err := decodeField(d, at, &value[at]); err != nil {
			var wrong *json.UnmarshalTypeError
			if errors.As(err, &wrong) {
				return value, fmt.Errorf("got a JSON %s under %q, want a string", wrong.Value, key)
			}
			return value, errorOnLine(line, err)
		}
	}
	if _, err := d.Token(); err != nil {
		return value, errorOnLine(line, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return value, errors.New("got more after the object; want one object a line")
	}
	if first[fieldText] == "" {
		return value, errors.New("got an object without a text, want one under text, utterance or query")
	}
	return value, nil
}

// decodeField reads a string. A user may also be a number, as customer numbers
// are often written so, and null stands for none.
func decodeField(d *json.Decoder, at field, value *string) error {
	if at != fieldUser {
		return d.Decode(value)
	}
	var raw json.RawMessage
	if err := d.Decode(&raw); err != nil {
		return err
	}
	if c := raw[0]; c == '-' || c >= '0' && c <= '9' {
		*value = string(raw)
		return nil
	}
	return json.Unmarshal(raw, value)
}

// errorOnLine explains a line of JSON Lines that does not parse. err is nil
// where the line parses but is no object.
func errorOnLine(line []byte, err error) error {
	got := clip(string(bytes.TrimSpace(line)))
	switch {
	case err == nil:
		return fmt.Errorf("got %q, want a JSON object with text and intent", got)
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("got a JSON object that ends before it is complete: %q; want one whole object a line", got)
	}
	return fmt.Errorf("got %q, which is not JSON: %w; want one whole object a line", got, err)
}
