package checkpointlog

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

const (
	labelFile = "discreet/log-file/v1"

	// MaxFileBytes bounds an exported log, of about a million entries.
	MaxFileBytes = 512 << 20
)

// File is a whole log as it is exported for an auditor. As text it is
//
//	discreet/log-file/v1
//	log-key <base64>
//	log-credential <base64>
//
// then an empty line and the head, and for each entry an empty line, the entry and
// the line "leaf <base64>" with the entry's hash as a leaf of the tree. What is in it
// is for [VerifyAll] to judge; the leaves only tell which entry was spoilt.
type File struct {
	LogKey     ed25519.PublicKey
	Credential []byte // the authority's over the log key
	Head       []byte // the signed note
	Entries    [][]byte
}

// Encode returns the file's text.
func (f *File) Encode() []byte {
	b := make([]byte, 0, 1024+512*len(f.Entries))
	b = fmt.Appendf(b, "%s\nlog-key %s\nlog-credential %s\n\n%s", labelFile,
		base64.StdEncoding.EncodeToString(f.LogKey), base64.StdEncoding.EncodeToString(f.Credential), f.Head)
	for _, entry := range f.Entries {
		b = fmt.Appendf(b, "\n%sleaf %s\n", entry, tlog.RecordHash(entry))
	}
	return b
}

// DecodeFile reads an exported log. It checks the form alone, and each entry against
// its leaf: the error names the first that differs. Errors: [ErrMalformed].
func DecodeFile(b []byte) (*File, error) {
	if len(b) > MaxFileBytes {
		return nil, fmt.Errorf("checkpointlog: %w: a log of %d bytes, want at most %d", ErrMalformed, len(b), MaxFileBytes)
	}
	const ahead = 9 // lines before the first entry: four, and five of the head
	lines := bytes.SplitAfterN(b, []byte("\n"), ahead+1)
	if len(lines) != ahead+1 || string(lines[0]) != labelFile+"\n" {
		return nil, fmt.Errorf("checkpointlog: %w: a file that begins %.40q, want a log as %q begins", ErrMalformed, lines[0], labelFile)
	}
	f := &File{Head: bytes.Join(lines[4:ahead], nil)}
	var err error
	if f.LogKey, err = parseLine(lines[1], "log-key"); err != nil {
		return nil, err
	}
	if f.Credential, err = parseLine(lines[2], "log-credential"); err != nil {
		return nil, err
	}
	if err := f.parseEntries(lines[ahead]); err != nil {
		return nil, err
	}
	if !bytes.Equal(f.Encode(), b) {
		return nil, fmt.Errorf("checkpointlog: %w: an exported log that is written in another way than this format's", ErrMalformed)
	}
	return f, nil
}

// parseLine reads a named value in base64.
func parseLine(line []byte, name string) ([]byte, error) {
	encoded, named := strings.CutPrefix(string(line), name+" ")
	value, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(encoded, "\n"))
	if !named || err != nil {
		return nil, fmt.Errorf("checkpointlog: %w: a line %.80q, want %q and a value in base64", ErrMalformed, line, name)
	}
	return value, nil
}

// parseEntries reads what follows the head.
func (f *File) parseEntries(rest []byte) error {
	for i := 0; len(rest) > 0; i++ {
		block := bytes.SplitAfterN(rest, []byte("\n"), len(fields)+4) // empty, label, fields, leaf
		if len(block) != len(fields)+4 || len(block[0]) != 1 {
			return fmt.Errorf("checkpointlog: entry %d: %w: the file ends within it, or no empty line stands before it", i, ErrMalformed)
		}
		entry, leaf := bytes.Join(block[1:len(fields)+2], nil), block[len(fields)+2]
		if want := fmt.Sprintf("leaf %s\n", tlog.RecordHash(entry)); string(leaf) != want {
			return fmt.Errorf("checkpointlog: entry %d: %w: its hash is %q, the file says %.80q: it was changed", i, ErrMalformed, strings.TrimSpace(want), bytes.TrimSpace(leaf))
		}
		f.Entries = append(f.Entries, entry)
		rest = block[len(fields)+3]
	}
	return nil
}
