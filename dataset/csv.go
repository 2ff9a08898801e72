package dataset

import (
	"bytes"
	"encoding/csv"
	"errors"
	"io"
	"strings"
)

// parseCSV reads a table with a header.
func parseCSV(f file) (*part, error) {
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
		user := ""
		if column[fieldUser] >= 0 {
			user = row[column[fieldUser]]
		}
		if err := p.add(line, row[column[fieldText]], row[column[fieldIntent]], user); err != nil {
			return nil, err
		}
	}
}

// columns finds the fields in a CSV header; -1 stands for no such column.
func columns(f file, header []string) ([fieldCount]int, error) {
	column := [fieldCount]int{-1, -1, -1}
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
