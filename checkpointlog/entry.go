package checkpointlog

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

const labelEntry = "discreet/checkpoint/v1"

// Entry says which checkpoint a task went on with, and what it came from.
type Entry struct {
	Task       string   // 1 to 64 of a-z, 0-9 and -
	Round      uint64   // that made the checkpoint; 0 for a task's first
	Checkpoint [32]byte // SHA-256 of its file
	Bytes      uint64   // the file's size, at least 1
	Previous   [32]byte // the entry's before; zero in the log's first entry
	Survivors  uint32   // devices in the sum; 0 where the parameters are the previous ones
	Committed  int64    // Unix time in milliseconds, not negative
}

// fields names the lines of an entry after the first, in order.
var fields = [...]string{"task", "round", "checkpoint", "bytes", "previous", "survivors", "committed"}

// Encode returns the entry as the lines that are hashed.
func (e Entry) Encode() []byte {
	values := [len(fields)]string{
		e.Task, strconv.FormatUint(e.Round, 10), hex.EncodeToString(e.Checkpoint[:]), strconv.FormatUint(e.Bytes, 10),
		hex.EncodeToString(e.Previous[:]), strconv.FormatUint(uint64(e.Survivors), 10), strconv.FormatInt(e.Committed, 10),
	}
	b := append(make([]byte, 0, 384), labelEntry+"\n"...)
	for i, name := range fields {
		b = fmt.Appendf(b, "%s %s\n", name, values[i])
	}
	return b
}

// DecodeEntry reads an entry. It returns [ErrMalformed] for anything that Encode does
// not make of a valid entry.
func DecodeEntry(b []byte) (Entry, error) {
	var e Entry
	if len(b) > MaxEntryBytes {
		return e, fmt.Errorf("checkpointlog: %w: an entry of %d bytes, want at most %d", ErrMalformed, len(b), MaxEntryBytes)
	}
	lines := strings.Split(string(b), "\n")
	if len(lines) != len(fields)+2 || lines[0] != labelEntry || lines[len(lines)-1] != "" {
		return e, fmt.Errorf("checkpointlog: %w: an entry of %d lines that begins %.40q, want %d that begin %q",
			ErrMalformed, len(lines)-1, lines[0], len(fields)+1, labelEntry)
	}
	var values [len(fields)]string
	for i, name := range fields {
		value, ok := strings.CutPrefix(lines[i+1], name+" ")
		if !ok {
			return e, fmt.Errorf("checkpointlog: %w: an entry's line %.80q, want one that begins %q", ErrMalformed, lines[i+1], name+" ")
		}
		values[i] = value
	}
	if err := e.parse(values); err != nil {
		return Entry{}, fmt.Errorf("checkpointlog: %w: %w", ErrMalformed, err)
	}
	if !bytes.Equal(e.Encode(), b) { // leading zeros, upper case
		return Entry{}, fmt.Errorf("checkpointlog: %w: an entry whose numbers or hashes are written in another way than this format's", ErrMalformed)
	}
	return e, nil
}

// parse fills in the entry from the values of its lines.
func (e *Entry) parse(values [len(fields)]string) error {
	e.Task = values[0]
	numbers := [...]struct {
		value string
		bits  int
		into  func(uint64)
	}{
		{values[1], 64, func(n uint64) { e.Round = n }},
		{values[3], 64, func(n uint64) { e.Bytes = n }},
		{values[5], 32, func(n uint64) { e.Survivors = uint32(n) }},
		{values[6], 63, func(n uint64) { e.Committed = int64(n) }},
	}
	for _, number := range numbers {
		n, err := strconv.ParseUint(number.value, 10, number.bits)
		if err != nil {
			return fmt.Errorf("%.40q is no number of %d bits", number.value, number.bits)
		}
		number.into(n)
	}
	for value, into := range map[string]*[32]byte{values[2]: &e.Checkpoint, values[4]: &e.Previous} {
		if len(value) != hex.EncodedLen(len(into)) {
			return fmt.Errorf("a hash of %d digits, want %d", len(value), hex.EncodedLen(len(into)))
		}
		if _, err := hex.Decode(into[:], []byte(value)); err != nil {
			return err
		}
	}
	return e.check()
}

// check holds the values' own bounds.
func (e *Entry) check() error {
	switch {
	case !validTask(e.Task):
		return fmt.Errorf("task %.80q, want 1 to %d of a-z, 0-9 and -", e.Task, MaxTaskBytes)
	case e.Bytes == 0:
		return fmt.Errorf("a checkpoint of no bytes")
	case e.Checkpoint == [32]byte{} || e.Checkpoint == e.Previous:
		return fmt.Errorf("checkpoint %x after %x", e.Checkpoint[:4], e.Previous[:4])
	}
	return nil
}

func validTask(name string) bool {
	return name != "" && len(name) <= MaxTaskBytes && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}
