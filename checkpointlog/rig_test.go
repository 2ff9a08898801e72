package checkpointlog

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"testing"
)

// rig is an authority, a log key that it certified, and a log of a task "desk".
type rig struct {
	ca, key    ed25519.PrivateKey
	credential []byte
	entries    [][]byte
}

// testKey is the Ed25519 key of a seed that repeats one byte.
func testKey(b byte) ed25519.PrivateKey {
	var seed [ed25519.SeedSize]byte
	for i := range seed {
		seed[i] = b
	}
	return ed25519.NewKeyFromSeed(seed[:])
}

func public(key ed25519.PrivateKey) ed25519.PublicKey { return key.Public().(ed25519.PublicKey) }

// newRig returns a log of n entries. Every third round was left without a checkpoint.
func newRig(n int) *rig {
	r := &rig{ca: testKey(1), key: testKey(2)}
	r.credential = CertifyKey(r.ca, public(r.key))
	var previous [32]byte
	for i := range n {
		e := entryOf("desk", uint64(i+i/2), previous)
		r.entries = append(r.entries, e.Encode())
		previous = e.Checkpoint
	}
	return r
}

// entryOf is an entry whose values follow from its round.
func entryOf(task string, round uint64, previous [32]byte) Entry {
	e := Entry{Task: task, Round: round, Checkpoint: sha256.Sum256(fmt.Appendf(nil, "checkpoint %d", round)), Bytes: 1000 + round,
		Previous: previous, Survivors: uint32(3 + round), Committed: 1_700_000_000_000 + int64(round)}
	if round == 0 {
		e.Survivors = 0
	}
	return e
}

func (r *rig) origin() string { return Origin(public(r.ca), "desk") }

// tree is the tree over the log's first n entries.
func (r *rig) tree(n int) *Tree {
	t := new(Tree)
	for _, e := range r.entries[:n] {
		t.Add(e)
	}
	return t
}

// headOf is the head over the log's first n entries.
func (r *rig) headOf(t testing.TB, n int) Head {
	t.Helper()
	h, err := HeadOf(uint64(n), r.tree(n))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// note is the signed head over the log's first n entries.
func (r *rig) note(t testing.TB, n int) []byte { return SignHead(r.key, r.origin(), r.headOf(t, n)) }

// file is the whole log as it is exported.
func (r *rig) file(t testing.TB) *File {
	return &File{LogKey: public(r.key), Credential: r.credential, Head: r.note(t, len(r.entries)), Entries: r.entries}
}
