package dataset

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// file is one file in memory: valid UTF-8 without a byte order mark.
type file struct {
	name  string
	data  []byte
	chats bool // of a device, so that a rejected one is no mistake
}

// load reads at most limit bytes from r and checks that they are text.
func load(name string, r io.Reader, limit int) (file, error) {
	data, err := io.ReadAll(io.LimitReader(r, int64(limit)+1))
	if err != nil {
		return file{}, fmt.Errorf("%s: cannot be read: %w", name, err)
	}
	if len(data) > limit {
		return file{}, fmt.Errorf("%s: got more than the %d bytes left of the %d that are read at once; use a smaller file", name, limit, MaxBytes)
	}
	if bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff")) {
		return file{}, fmt.Errorf("%s: got UTF-16, want UTF-8; save the file as UTF-8", name)
	}
	f := file{name: name, data: bytes.TrimPrefix(data, []byte("\ufeff"))}
	if at := badText(f.data); at >= 0 {
		return file{}, f.errorf(1+bytes.Count(f.data[:at], []byte("\n")), "got byte 0x%02x, which is not text in UTF-8; save the file as UTF-8", f.data[at])
	}
	return f, nil
}

// badText gives the offset of the first byte that is not UTF-8 or is zero,
// which stands in binary files and in no text; -1 where there is none.
func badText(b []byte) int {
	zero := bytes.IndexByte(b, 0)
	if utf8.Valid(b) {
		return zero
	}
	for i := 0; ; {
		r, n := utf8.DecodeRune(b[i:])
		if i == zero || r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
}

// errorf makes an error that names the file and a line counted from 1.
func (f file) errorf(line int, format string, args ...any) error {
	return fmt.Errorf("%s:%d: %w", f.name, line, fmt.Errorf(format, args...))
}

// part collects the phrases of a file, or of one half of a file that holds
// both halves, with the line each began on.
type part struct {
	file
	phrases []Phrase
	lines   []int
	signals []string          // of the phrases, in a format that can tell them
	outside []string          // texts of no intent that come with the phrases
	intents map[string]string // each name once, so that a phrase does not keep its line in memory
}

func newPart(f file) *part { return &part{file: f, intents: make(map[string]string)} }

// add checks one phrase and keeps it.
func (p *part) add(line int, text, intent, user string) error {
	text, intent, user = strings.TrimSpace(text), strings.TrimSpace(intent), strings.TrimSpace(user)
	switch {
	case text == "":
		return p.errorf(line, "got an empty text for intent %q; want what somebody typed, or take the line out", clip(intent))
	case len(text) > MaxTextBytes:
		return p.errorf(line, "got a text of %d bytes that begins %q, want at most %d; is a quotation mark missing?", len(text), clip(text), MaxTextBytes)
	case intent == "":
		return p.errorf(line, "got no intent for the text %q; want one under intent, label or category, or take the line out", clip(text))
	case len(p.phrases) == MaxPhrases:
		return p.errorf(line, "got more than %d phrases; use a smaller file", MaxPhrases)
	}
	if err := checkName("intent", intent); err != nil {
		return p.errorf(line, "%w", err)
	}
	if err := checkName("user", user); err != nil {
		return p.errorf(line, "%w", err)
	}
	known, ok := p.intents[intent]
	if !ok {
		if len(p.intents) == MaxIntents {
			return p.errorf(line, "got more than %d intents; are text and intent the wrong way round?", MaxIntents)
		}
		known = strings.Clone(intent)
		p.intents[known] = known
	}
	p.phrases = append(p.phrases, Phrase{text, known, user})
	p.lines = append(p.lines, line)
	return nil
}

// rejected is the one signal that turns an intent into its opposite.
const rejected = "rejected"

// addChat is add with a signal.
func (p *part) addChat(line int, value [fieldCount]string) error {
	if err := p.add(line, value[fieldText], value[fieldIntent], value[fieldUser]); err != nil {
		return err
	}
	signal := strings.TrimSpace(value[fieldSignal])
	if signal == rejected && !p.chats {
		return p.errorf(line, "got a rejected chat, whose intent is the one it does not have, want phrases of their intents; take it out here, discreet learn reads it")
	}
	if err := checkName("signal", signal); err != nil {
		return p.errorf(line, "%w", err)
	}
	p.signals = append(p.signals, strings.Clone(signal))
	return nil
}

// checkName holds the name of an intent or user to one short printable line:
// it becomes a label in a model's manifest and is printed in tables.
func checkName(what, name string) error {
	if len(name) > MaxNameBytes {
		return fmt.Errorf("got %s of %d bytes that begins %q, want at most %d", article(what), len(name), clip(name), MaxNameBytes)
	}
	if i := strings.IndexFunc(name, unicode.IsControl); i >= 0 {
		return fmt.Errorf("got %s %q with a control character in it, want one line of plain text", article(what), name)
	}
	return nil
}

func article(noun string) string {
	if strings.ContainsRune("aeio", rune(noun[0])) {
		return "an " + noun
	}
	return "a " + noun
}

// clip shortens a text from a file for an error message.
func clip(text string) string {
	const most = 40
	if utf8.RuneCountInString(text) <= most {
		return text
	}
	return string([]rune(text)[:most]) + "…"
}
