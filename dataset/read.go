package dataset

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strings"
)

// Read reads the phrases of one file in any of the formats of this package, in
// the order they stand. Of CLINC150's JSON it gives the train part. name is
// only used in errors.
func Read(name string, r io.Reader) ([]Phrase, error) {
	train, err := read(name, r, false)
	if err != nil {
		return nil, err
	}
	return train.phrases, nil
}

// ReadChats is Read for what was collected at a device: a column or key signal says
// how each chat's intent is known. Read and Open pass signals over, and refuse a
// rejected chat, whose intent is the one it does not have.
func ReadChats(name string, r io.Reader) ([]Chat, error) {
	train, err := read(name, r, true)
	if err != nil {
		return nil, err
	}
	chats := make([]Chat, len(train.phrases))
	for i, p := range train.phrases {
		chats[i].Phrase = p
		if i < len(train.signals) {
			chats[i].Signal = train.signals[i]
		}
	}
	return chats, nil
}

func read(name string, r io.Reader, chats bool) (*part, error) {
	f, err := load(name, r, MaxBytes)
	if err != nil {
		return nil, err
	}
	f.chats = chats
	train, _, err := parse(f)
	if err != nil {
		return nil, err
	}
	if len(train.phrases) == 0 {
		return nil, f.errorf(1, "got a test part without a train part, want phrases under train")
	}
	return train, nil
}

// parse reads a file's phrases. test is nil unless the file holds a test part
// of its own. The two together have at least one phrase.
func parse(f file) (train, test *part, err error) {
	switch kindOf(f.data) {
	case kindSplits:
		train, test, err = parseSplits(f)
	case kindLines:
		train, err = parseLines(f)
	case kindRasa:
		train, err = parseRasa(f)
	case kindArray:
		return nil, nil, f.errorf(1, "got a JSON array, want %s", formats)
	case kindEmpty:
		return nil, nil, fmt.Errorf("%s: got an empty file, want %s", f.name, formats)
	default:
		train, err = parseCSV(f)
	}
	if err != nil {
		return nil, nil, err
	}
	if len(train.phrases) == 0 && (test == nil || len(test.phrases) == 0) {
		return nil, nil, fmt.Errorf("%s: got no phrases at all, want at least one text with its intent", f.name)
	}
	return train, test, nil
}

const formats = "CSV with a header (text,intent), JSON Lines (one object with text and intent a line), Rasa's nlu.yml or CLINC150's JSON"

// The columns and keys that are read; the rest is passed over.
var fields = map[string]field{
	"text": fieldText, "utterance": fieldText, "query": fieldText,
	"intent": fieldIntent, "label": fieldIntent, "category": fieldIntent,
	"user":   fieldUser,
	"signal": fieldSignal,
}

type field int

const (
	fieldText field = iota
	fieldIntent
	fieldUser
	fieldSignal
	fieldCount
)

// fieldOf tells which field a column's or key's name stands for.
func fieldOf(name string) (field, bool) {
	f, ok := fields[strings.ToLower(strings.TrimSpace(name))]
	return f, ok
}

type kind int

const (
	kindPlain kind = iota // none of the below: a list of intents, or a table without the columns
	kindEmpty
	kindCSV
	kindLines
	kindSplits
	kindRasa
	kindArray
)

// yamlKey is how a YAML mapping begins: a bare key and a colon.
var yamlKey = regexp.MustCompile(`^["']?[A-Za-z_]+["']?\s*:(\s|$)`)

// kindOf tells the format of a file from its first significant bytes.
func kindOf(data []byte) kind {
	data = bytes.TrimSpace(data)
	if len(data) == 0 {
		return kindEmpty
	}
	switch data[0] {
	case '{':
		return kindOfObject(data)
	case '[':
		return kindArray
	}
	// A header beyond this is refused later on, as a row with too many columns.
	start := data[:min(len(data), maxRowBytes)]
	if header, err := csv.NewReader(bytes.NewReader(start)).Read(); err == nil {
		var has [fieldCount]bool
		for _, name := range header {
			if f, ok := fieldOf(name); ok {
				has[f] = true
			}
		}
		if has[fieldText] && has[fieldIntent] {
			return kindCSV
		}
	}
	for line := range bytes.Lines(data) {
		line = bytes.TrimRight(line, " \t\r\n")
		if len(line) == 0 || line[0] == '#' || line[0] == '%' || string(line) == "---" {
			continue
		}
		if yamlKey.Match(line) {
			return kindRasa
		}
		break
	}
	return kindPlain
}

// kindOfObject tells CLINC150's object of lists from the first line of JSON
// Lines: by the first key either of them knows.
func kindOfObject(data []byte) kind {
	d := json.NewDecoder(bytes.NewReader(data))
	if _, err := d.Token(); err != nil {
		return kindLines
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			break
		}
		name, _ := key.(string)
		if _, ok := fieldOf(name); ok {
			return kindLines
		}
		if name == "train" || name == "test" || name == "val" || strings.HasPrefix(name, "oos_") {
			return kindSplits
		}
		var passed json.RawMessage
		if d.Decode(&passed) != nil {
			break
		}
	}
	return kindLines
}
