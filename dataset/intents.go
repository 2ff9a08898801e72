package dataset

import (
	"bytes"
	"fmt"
	"io"
	"sort"
	"strings"
)

// ReadIntents reads a list of intents and gives it sorted: plain text with one
// intent a line (lines that begin with # are remarks), a JSON array of strings,
// or any file that Read reads, of which it takes the distinct intents. In a
// list each intent stands once. name is only used in errors.
func ReadIntents(name string, r io.Reader) ([]string, error) {
	f, err := load(name, r, MaxBytes)
	if err != nil {
		return nil, err
	}
	switch kindOf(f.data) {
	case kindEmpty:
		return nil, fmt.Errorf("%s: got an empty file, want one intent a line, a JSON array of intents, or a file of phrases", name)
	case kindPlain:
		return parseList(f)
	case kindArray:
		return parseArray(f)
	}
	train, _, err := parse(f)
	if err != nil {
		return nil, err
	}
	if len(train.phrases) == 0 {
		return nil, f.errorf(1, "got a test part without a train part, want phrases under train")
	}
	return intentsOf(train.phrases), nil
}

// list collects the names of a list of intents with the line of each.
type list struct {
	file
	lines map[string]int
}

func (l *list) add(line int, intent string) error {
	intent = strings.TrimSpace(intent)
	if intent == "" {
		return l.errorf(line, "got an empty intent, want a name")
	}
	if err := checkName("intent", intent); err != nil {
		return l.errorf(line, "%w", err)
	}
	if first := l.lines[intent]; first != 0 {
		return l.errorf(line, "got the intent %q again, which stands on line %d; keep one", intent, first)
	}
	if len(l.lines) == MaxIntents {
		return l.errorf(line, "got more than %d intents", MaxIntents)
	}
	l.lines[intent] = line
	return nil
}

func (l *list) sorted() ([]string, error) {
	if len(l.lines) == 0 {
		return nil, fmt.Errorf("%s: got no intents at all, want at least one", l.name)
	}
	intents := make([]string, 0, len(l.lines))
	for intent := range l.lines {
		intents = append(intents, intent)
	}
	sort.Strings(intents)
	return intents, nil
}

func parseList(f file) ([]string, error) {
	l := &list{f, make(map[string]int)}
	line := 0
	for text := range bytes.Lines(f.data) {
		line++
		intent := string(bytes.TrimSpace(text))
		if intent == "" || intent[0] == '#' {
			continue
		}
		if strings.ContainsAny(intent, ",;\t\"") {
			return nil, f.errorf(line, "got %q, which looks like a row of a table; want one intent a line, or %s", clip(intent), formats)
		}
		if err := l.add(line, intent); err != nil {
			return nil, err
		}
	}
	return l.sorted()
}

func parseArray(f file) ([]string, error) {
	const want = "an array of strings"
	l := &list{f, make(map[string]int)}
	r := newJSONReader(f)
	if err := r.open('[', want); err != nil {
		return nil, err
	}
	for r.More() {
		line := r.line()
		var intent string
		if err := r.value(line, &intent, want); err != nil {
			return nil, err
		}
		if err := l.add(line, intent); err != nil {
			return nil, err
		}
	}
	if err := r.close(); err != nil {
		return nil, err
	}
	if err := r.end(); err != nil {
		return nil, err
	}
	return l.sorted()
}
