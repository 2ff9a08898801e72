package checkpointlog

import (
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

// Append checks an entry and returns the hashes that a log of size entries gains with
// it. They are to be kept at the indexes from tlog.StoredHashCount(size) on, where
// read finds the earlier ones. Errors: [ErrMalformed] and those of read.
func Append(entry []byte, size uint64, read tlog.HashReader) ([]tlog.Hash, error) {
	if _, err := DecodeEntry(entry); err != nil {
		return nil, err
	}
	if size >= MaxSize {
		return nil, fmt.Errorf("checkpointlog: a log of %d entries takes no more", size)
	}
	hashes, err := tlog.StoredHashes(int64(size), entry, read)
	if err != nil {
		return nil, fmt.Errorf("checkpointlog: appending to a log of %d entries: %w", size, err)
	}
	return hashes, nil
}

// HeadOf returns the head of the first size entries of a log from its kept hashes.
func HeadOf(size uint64, read tlog.HashReader) (Head, error) {
	if size < 1 || size > MaxSize {
		return Head{}, fmt.Errorf("checkpointlog: a head over %d entries, want 1 to %d", size, MaxSize)
	}
	root, err := tlog.TreeHash(int64(size), read)
	if err != nil {
		return Head{}, fmt.Errorf("checkpointlog: the root of %d entries: %w", size, err)
	}
	return Head{Size: size, Root: root}, nil
}

// ProveInclusion returns the proof that the entry at index, from 0, is in the log of
// size entries: hashes of 32 bytes from the leaf up.
func ProveInclusion(index, size uint64, read tlog.HashReader) ([][]byte, error) {
	if index >= size || size > MaxSize {
		return nil, fmt.Errorf("checkpointlog: a proof of entry %d in a log of %d, want one that is in a log of at most %d", index, size, MaxSize)
	}
	proof, err := tlog.ProveRecord(int64(size), int64(index), read)
	if err != nil {
		return nil, fmt.Errorf("checkpointlog: proving entry %d of %d: %w", index, size, err)
	}
	return asBytes(proof), nil
}

// ProveConsistency returns the proof that the log of old entries is the beginning of
// the log of size entries; no hashes where old is 0 or size.
func ProveConsistency(old, size uint64, read tlog.HashReader) ([][]byte, error) {
	if old > size || size > MaxSize {
		return nil, fmt.Errorf("checkpointlog: a proof that a log of %d entries grew to %d, want growth to at most %d", old, size, MaxSize)
	}
	if old == 0 {
		return nil, nil
	}
	proof, err := tlog.ProveTree(int64(size), int64(old), read)
	if err != nil {
		return nil, fmt.Errorf("checkpointlog: proving growth from %d to %d entries: %w", old, size, err)
	}
	return asBytes(proof), nil
}

// VerifyInclusion checks that an entry is in the log of a head, at index, counted
// from 0. Errors: [ErrMalformed] for a proof that is none, [ErrNotProven].
func VerifyInclusion(h Head, index uint64, entry []byte, proof [][]byte) error {
	hashes, err := parseProof(proof)
	if err != nil {
		return err
	}
	if h.Size > MaxSize || index >= h.Size {
		return fmt.Errorf("checkpointlog: %w: entry %d of a log of %v", ErrNotProven, index, h)
	}
	if err := tlog.CheckRecord(hashes, int64(h.Size), h.Root, int64(index), tlog.RecordHash(entry)); err != nil {
		return fmt.Errorf("checkpointlog: %w: entry %d is not in the log of %v", ErrNotProven, index, h)
	}
	return nil
}

// VerifyConsistency checks that the log of a head grew out of the log of an earlier
// one, which may be the zero Head: nothing was seen before. Errors: [ErrMalformed] for a
// proof that is none, [ErrNotProven].
func VerifyConsistency(old, h Head, proof [][]byte) error {
	hashes, err := parseProof(proof)
	if err != nil {
		return err
	}
	switch {
	case old.Size > h.Size || h.Size > MaxSize:
		return fmt.Errorf("checkpointlog: %w: the log shrank: it had %v, now it has %v", ErrNotProven, old, h)
	case old.Size == 0:
		if len(hashes) > 0 {
			return fmt.Errorf("checkpointlog: %w: a proof of %d hashes that a log grew from nothing", ErrMalformed, len(hashes))
		}
		return nil
	}
	if err := tlog.CheckTree(hashes, int64(h.Size), h.Root, int64(old.Size), old.Root); err != nil {
		return fmt.Errorf("checkpointlog: %w: the log forked: it had %v, and the one of %v did not grow out of that", ErrNotProven, old, h)
	}
	return nil
}

// parseProof reads the hashes of a proof.
func parseProof(proof [][]byte) ([]tlog.Hash, error) {
	if len(proof) > MaxProof {
		return nil, fmt.Errorf("checkpointlog: %w: a proof of %d hashes, want at most %d", ErrMalformed, len(proof), MaxProof)
	}
	hashes := make([]tlog.Hash, len(proof))
	for i, b := range proof {
		if len(b) != tlog.HashSize {
			return nil, fmt.Errorf("checkpointlog: %w: a proof with a hash of %d bytes, want %d", ErrMalformed, len(b), tlog.HashSize)
		}
		hashes[i] = tlog.Hash(b)
	}
	return hashes, nil
}

// asBytes are the hashes of a proof as they are sent.
func asBytes(proof []tlog.Hash) [][]byte {
	list := make([][]byte, len(proof))
	for i := range proof {
		list[i] = proof[i][:]
	}
	return list
}

// Tree is a log's tree in memory, for somebody who has all entries. The zero value is
// empty.
type Tree struct {
	size   uint64
	hashes []tlog.Hash
}

// Add appends an entry's bytes, whatever they are.
func (t *Tree) Add(entry []byte) {
	more, err := tlog.StoredHashes(int64(t.size), entry, t)
	if err != nil {
		panic(err) // ReadHashes never fails for what was added
	}
	t.hashes = append(t.hashes, more...)
	t.size++
}

// Size returns how many entries were added.
func (t *Tree) Size() uint64 { return t.size }

// ReadHashes is tlog.HashReader.
func (t *Tree) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	list := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		if index < 0 || index >= int64(len(t.hashes)) {
			return nil, fmt.Errorf("checkpointlog: hash %d of a tree that has %d", index, len(t.hashes))
		}
		list[i] = t.hashes[index]
	}
	return list, nil
}
