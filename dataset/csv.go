package dataset

import (
	"bytes"
	"encoding/csv"
	"errors"
	"io"
	"strings"
)

const (
	maxColumns  = 1000
	maxRowBytes = 1 << 20
)

// parseCSV reads a table with a header.
func parseCSV(f file) (*part, error) {
	if err := checkRows(f); err != nil {
		return nil, err
	}
	r := csv.NewReader(bytes.NewReader(f.data))
	r.ReuseRecord = true
	header, err := r.Read()
	if err != nil {
		return nil, csvError(f, r, err)
	}
	column, err := columns(f, header)
	if err != nil {
		return nil, err
	}
	width := len(header)
	p := newPart(f)
	for {
		row, err := r.Read()
		if err == io.EOF {
			return p, nil
		}
		if errors.Is(err, csv.ErrFieldCount) {
			line, _ := r.FieldPos(0)
			return nil, f.errorf(line, "got %d columns, want %d as in the header; put a text that has commas or quotation marks in it between quotation marks", len(row), width)
		}
		if err != nil {
			return nil, csvError(f, r, err)
		}
		line, _ := r.FieldPos(0)
		var value [fieldCount]string
		for at, c := range column {
			if c >= 0 {
				value[at] = row[c]
			}
		}
		if err := p.addChat(line, value); err != nil {
			return nil, err
		}
	}
}

// checkRows bounds the columns and the bytes of every row, because the CSV
// reader takes memory for a whole row before it compares it with the header.
func checkRows(f file) error {
	line, begins := 1, 1
	quoted := false
	fields, from := 1, 0
	for i, c := range f.data {
		switch {
		case c == '"':
			quoted = !quoted
		case c == ',' && !quoted:
			fields++
		case c == '\n':
			line++
			if !quoted {
				fields, from, begins = 1, i+1, line
			}
		}
		if fields > maxColumns {
			return f.errorf(begins, "got a row of more than %d columns; is a line break missing?", maxColumns)
		}
		if i-from == maxRowBytes {
			return f.errorf(begins, "got a row of more than %d bytes; is a quotation mark or a line break missing?", maxRowBytes)
		}
	}
	return nil
}

// columns finds the fields in a CSV header; -1 stands for no such column.
func columns(f file, header []string) ([fieldCount]int, error) {
	column := [fieldCount]int{-1, -1, -1, -1}
	seen := make(map[string]bool)
	for i, name := range header {
		name = strings.ToLower(strings.TrimSpace(name))
		if name != "" && seen[name] {
			return column, f.errorf(1, "got the column %q twice in the header; keep one", clip(name))
		}
		seen[name] = true
		at, ok := fieldOf(name)
		if !ok {
			continue
		}
		if column[at] >= 0 {
			return column, f.errorf(1, "got the columns %q and %q, which mean the same; rename the one that is not to be read", header[column[at]], header[i])
		}
		column[at] = i
	}
	got := clip(strings.Join(header, ","))
	if column[fieldText] < 0 {
		return column, f.errorf(1, "got %q as the first line, want %s; a table needs a header, separated by commas, with a column text, utterance or query", got, formats)
	}
	if column[fieldIntent] < 0 {
		return column, f.errorf(1, "got the header %q without a column for the intent, want one called intent, label or category, separated by commas", got)
	}
	return column, nil
}

// csvError gives an error of the CSV reader this package's form.
func csvError(f file, r *csv.Reader, err error) error {
	var p *csv.ParseError
	if !errors.As(err, &p) {
		return f.errorf(1+bytes.Count(f.data[:r.InputOffset()], []byte("\n")), "cannot be read as CSV: %w", err)
	}
	return f.errorf(p.StartLine, "cannot be read as CSV: %w (the row begins here, column %d of line %d is where it breaks); a quotation mark inside a quoted text is written twice", p.Err, p.Column, p.Line)
}
