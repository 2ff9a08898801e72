package secagg

import (
	"encoding/binary"
	"fmt"
	"io"
)

// A device commits to a nonce when it checks in, before anybody knows who else takes
// part, and shows it in its advert. The server fixes all commitments, as the root of
// a tree, before it has seen a nonce. Graphs are drawn from the members' nonces, so that
// a server cannot choose them, but by calling devices vanished. Cohorts are drawn from
// the nonces that were shown, as the root of another tree, which all members of a cohort
// sign. Of that tree each can tell its own nonce alone: a server may draw again with other
// bytes in the places of those who are not in the cohort, and cannot choose what it draws.

// CheckedIn is a device that waits for a place in a round.
type CheckedIn struct {
	nonce      digest
	commitment digest
	spent      bool
}

// CheckIn draws a nonce and returns the commitment to it that a check-in carries. One
// CheckedIn serves one attempt.
func CheckIn(rand io.Reader) (*CheckedIn, [32]byte, error) {
	c := &CheckedIn{}
	if _, err := io.ReadFull(rand, c.nonce[:]); err != nil {
		return nil, digest{}, fmt.Errorf("secagg: reading randomness for a nonce: %w", err)
	}
	c.commitment = hash(labelNonce, c.nonce[:])
	return c, c.commitment, nil
}

// Wipe forgets the nonce; the value answers ErrSpent from then on.
func (c *CheckedIn) Wipe() {
	c.spent = true
	clear(c.nonce[:])
}

// checkInLeaf is a device's leaf in the tree of commitments.
func checkInLeaf(id ID, commitment *digest) digest { return hash(labelCheckIn, id[:], commitment[:]) }

// openedLeaf is the leaf of a device that showed its nonce; that of one that did not
// is zero.
func openedLeaf(id ID, nonce *digest) digest { return hash(labelOpened, id[:], nonce[:]) }

// committed is what a device is told of the tree of commitments.
type committed struct {
	devices int // leaves
	place   int // of the device
	root    digest
	path    []byte
}

func (c *committed) encode() []byte {
	b := message(kindCommitted, 4+4+len(c.root)+len(c.path))
	b = binary.BigEndian.AppendUint32(b, uint32(c.devices))
	b = binary.BigEndian.AppendUint32(b, uint32(c.place))
	b = append(b, c.root[:]...)
	return append(b, c.path...)
}

func decodeCommitted(msg []byte) (*committed, error) {
	if err := checkHeader(kindCommitted, msg); err != nil {
		return nil, err
	}
	f := fields(msg[headerSize:])
	if err := f.atLeast(kindCommitted, 4+4+len(digest{})); err != nil {
		return nil, err
	}
	devices, place := binary.BigEndian.Uint32(f.next(4)), binary.BigEndian.Uint32(f.next(4))
	if devices < MinCohort || devices > MaxDevices || place >= devices {
		return nil, fmt.Errorf("%w: place %d of %d devices, want %d to %d devices", ErrRefused, place, devices, MinCohort, MaxDevices)
	}
	c := &committed{devices: int(devices), place: int(place), root: f.digest()}
	if err := f.exactly(kindCommitted, depth(c.devices)*len(digest{})); err != nil {
		return nil, err
	}
	c.path = f
	return c, nil
}

// hash names the tree in what the members sign.
func (c *committed) hash() digest { return hash(labelCommitted, u32(c.devices), c.root[:]) }

// check tells whether the device's own commitment is in the tree.
func (c *committed) check(id ID, commitment *digest) error {
	if rootOf(checkInLeaf(id, commitment), c.place, c.path) != c.root {
		return fmt.Errorf("%w: the commitment that this device checked in with is not in the root it is shown", ErrForged)
	}
	return nil
}

// drawn is what the members of a cohort sign of the lot that put them into it.
type drawn struct {
	cohort, cohorts int    // which of how many
	opened          digest // root of the tree of nonces; zero where there is one cohort
}

// least is the fewest members of the cohort's roster, by its check-ins alone: more than half
// of those that the lot gave it. Without that a server could call all honest ones vanished.
func (d *drawn) least(devices int) int {
	from := func(cohort int) int { return (cohort*devices + d.cohorts - 1) / d.cohorts } // the first of its numbers in the lot
	return (from(d.cohort+1)-from(d.cohort))/2 + 1
}

// lot splits the places of a tree into cohorts.
type lot struct {
	order   []int
	cohorts int
}

// drawLot draws it. opened is the root of the tree of nonces shown.
func drawLot(ctx0, committed, opened *digest, devices, cohorts int) *lot {
	seed := hash(labelCohorts, ctx0[:], committed[:], opened[:])
	return &lot{permutation(devices, &seed), cohorts}
}

// cohort is the cohort of a place, from 0.
func (l *lot) cohort(place int) int { return l.order[place] * l.cohorts / len(l.order) }
