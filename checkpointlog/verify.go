package checkpointlog

import (
	"crypto/ed25519"
	"fmt"
)

// VerifyAll checks a whole log, from its first entry on: that the authority certified
// the log key; that the head is signed by it for this task; that every entry is well
// formed and the task's; that each names the one before as its previous checkpoint and
// a later round; and that the head's root is the entries'. It returns the head. The
// error names the first entry, counted from 0, that is wrong; where a changed entry is
// still well formed and in its place, the root alone tells that there is one.
//
// Errors: [ErrMalformed], [ErrForged], [ErrNotProven].
func VerifyAll(ca, logKey ed25519.PublicKey, credential []byte, task string, head []byte, entries [][]byte) (Head, error) {
	if err := VerifyKey(ca, logKey, credential); err != nil {
		return Head{}, err
	}
	h, err := VerifyHead(logKey, Origin(ca, task), head)
	if err != nil {
		return Head{}, err
	}
	tree, err := verifyEntries(task, entries)
	if err != nil {
		return Head{}, err
	}
	if tree.size != h.Size {
		return Head{}, fmt.Errorf("checkpointlog: %w: %d entries, the head is over %d", ErrNotProven, tree.size, h.Size)
	}
	if root, err := HeadOf(tree.size, tree); err != nil {
		return Head{}, err
	} else if root != h {
		return Head{}, fmt.Errorf("checkpointlog: %w: the root of the %d entries is %x, the head signs %x: one of them was changed",
			ErrNotProven, h.Size, root.Root[:8], h.Root[:8])
	}
	return h, nil
}

// verifyEntries checks the entries as a chain and returns the tree over them.
func verifyEntries(task string, entries [][]byte) (*Tree, error) {
	tree, last := new(Tree), Entry{}
	for i, raw := range entries {
		e, err := DecodeEntry(raw)
		if err != nil {
			return nil, fmt.Errorf("entry %d: %w", i, err)
		}
		switch {
		case e.Task != task:
			return nil, fmt.Errorf("checkpointlog: entry %d, of round %d: %w: it belongs to task %q, want %q", i, e.Round, ErrNotProven, e.Task, task)
		case e.Previous != last.Checkpoint: // zero before the first
			return nil, fmt.Errorf("checkpointlog: entry %d, of round %d: %w: it follows checkpoint %x, the entry before it is %x",
				i, e.Round, ErrNotProven, e.Previous[:8], last.Checkpoint[:8])
		case i > 0 && e.Round <= last.Round:
			return nil, fmt.Errorf("checkpointlog: entry %d: %w: round %d stands after round %d", i, ErrNotProven, e.Round, last.Round)
		}
		tree.Add(raw)
		last = e
	}
	return tree, nil
}
