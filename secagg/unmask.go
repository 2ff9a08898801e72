package secagg

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/cloudflare/circl/group"
)

// Reveals is a server that gathers the survivors' reveals.
type Reveals struct {
	session       *session
	sharers       []int
	commitments   []digest
	survivors     bitmap
	survivorsHash digest
	got           [][]group.Scalar // by roster place of the revealer, then as sharers
	count         int
	spent         bool
}

func newReveals(s *session, sharers []int, commitments []digest, survivors bitmap) *Reveals {
	return &Reveals{
		session: s, sharers: sharers, commitments: commitments,
		survivors: survivors, survivorsHash: s.survivorsHash(survivors),
		got: make([][]group.Scalar, len(s.roster)),
	}
}

// Members lists the survivors.
func (c *Reveals) Members() []ID { return c.session.ids(c.survivors.places()) }

// Add takes a survivor's reveal.
func (c *Reveals) Add(from ID, msg []byte) error {
	if c.spent {
		return ErrSpent
	}
	place, ok := c.session.place(from)
	if !ok || !c.survivors.has(place) {
		return &PeerError{from, fmt.Errorf("%w: not a survivor", ErrMember)}
	}
	if before := c.got[place]; before != nil {
		if !bytes.Equal(encodeReveal(&c.survivorsHash, before), msg) {
			return &PeerError{from, fmt.Errorf("%w: a second reveal", ErrDiffers)}
		}
		return nil
	}
	shares, err := decodeReveal(msg, &c.survivorsHash, len(c.sharers))
	if err != nil {
		return &PeerError{from, err}
	}
	c.got[place] = shares
	c.count++
	return nil
}

// Ready tells whether enough survivors have revealed for every mask to be removed.
func (c *Reveals) Ready() bool { return !c.spent && c.count >= c.session.threshold }

// Wipe forgets the shares; the value answers ErrSpent from then on.
func (c *Reveals) Wipe() {
	c.spent = true
	for _, shares := range c.got {
		wipeScalars(shares...)
	}
	c.got = nil
}

// Close reconstructs the secrets and checks them against what their dealers
// committed to. Fewer reveals than the threshold are an error that leaves the value
// open; a secret that does not match ends the attempt, and the error names its
// dealer.
func (c *Reveals) Close() (*Unmasking, error) {
	if c.spent {
		return nil, ErrSpent
	}
	s := c.session
	if !c.Ready() {
		return nil, fmt.Errorf("%w: %d of %d survivors revealed, the threshold is %d",
			ErrTooFew, c.count, len(c.survivors.places()), s.threshold)
	}
	defer c.Wipe()
	var from []int
	for place, shares := range c.got {
		if shares != nil && len(from) < s.threshold {
			from = append(from, place)
		}
	}
	coefficients, err := newLagrange(from)
	if err != nil {
		return nil, err
	}
	u := &Unmasking{length: s.params.Length, survivors: s.ids(c.survivors.places()), masks: &maskSet{}}
	shares := make([]group.Scalar, len(from))
	for k, j := range c.sharers {
		for i, place := range from {
			shares[i] = c.got[place][k]
		}
		if err := c.remove(u.masks, j, coefficients.secret(shares)); err != nil {
			u.Wipe()
			return nil, err
		}
	}
	return u, nil
}

// remove adds to masks what takes member j's part off the sum, given its b where
// it survived and its σ where it did not.
func (c *Reveals) remove(masks *maskSet, j int, secret group.Scalar) error {
	defer wipeScalars(secret)
	s := c.session
	if c.survivors.has(j) {
		if commitment(&s.ctx1, secret) != c.commitments[j] {
			return c.mismatch(j, "b")
		}
		seed := selfSeed(&s.ctx1, secret)
		masks.add(&seed, true)
		clear(seed[:])
		return nil
	}
	mask := maskKey(&s.ctx0, secret)
	defer mask.wipe()
	if mask.public != s.roster[j].mask {
		return c.mismatch(j, "σ")
	}
	for _, i := range c.survivors.places() {
		seed, err := pairSeed(s, min(i, j), max(i, j), &mask.secret, &s.roster[i].mask)
		if err != nil {
			return &PeerError{s.roster[i].id, err}
		}
		masks.add(&seed, i < j) // i added the mask where it stands before j
		clear(seed[:])
	}
	return nil
}

func (c *Reveals) mismatch(j int, secret string) error {
	return &PeerError{c.session.roster[j].id,
		fmt.Errorf("%w: %s: it was dealt in bad shares, or a survivor revealed a wrong one", ErrMismatch, secret)}
}

// Unmasking removes the masks from the sum of the survivors' vectors.
type Unmasking struct {
	length    int
	survivors []ID
	masks     *maskSet
}

// Range takes the masks off sum[lo:hi], modulo 2^32. The sum has Params.Length
// words, of which the low RingBits of each are meant; every word is to be in
// exactly one range. Ranges that do not overlap may run at the same time. It
// panics when the range or the sum's length is wrong or after Wipe.
func (u *Unmasking) Range(sum []uint32, lo, hi int) {
	if u.masks == nil {
		panic("secagg: unmasking with a value that was wiped")
	}
	if len(sum) != u.length || lo < 0 || hi < lo || hi > u.length {
		panic(fmt.Sprintf("secagg: unmasking [%d,%d) of a sum of %d words, want a sum of %d", lo, hi, len(sum), u.length))
	}
	u.masks.apply(sum[lo:hi], lo)
}

// Expansions is the number of masks that are removed, each as long as the vector.
func (u *Unmasking) Expansions() int {
	if u.masks == nil {
		return 0
	}
	return len(u.masks.blocks)
}

// Survivors lists the devices whose vectors the sum is of, ascending.
func (u *Unmasking) Survivors() []ID { return slices.Clone(u.survivors) }

// Wipe forgets the masks.
func (u *Unmasking) Wipe() {
	if u.masks != nil {
		u.masks.wipe()
		u.masks = nil
	}
}
