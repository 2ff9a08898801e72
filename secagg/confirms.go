package secagg

import (
	"bytes"
	"fmt"
)

// Confirms is a server that gathers signatures under the survivors.
type Confirms struct {
	session    *session
	cohort     *settled
	got        map[int][]byte // by place
	signatures map[int][]byte
	spent      bool
}

func newConfirms(s *session, c *settled) *Confirms {
	return &Confirms{session: s, cohort: c, got: make(map[int][]byte), signatures: make(map[int][]byte)}
}

// Members lists the survivors.
func (c *Confirms) Members() []ID { return c.session.ids(c.cohort.survivors.places()) }

// Needed is the fewest signatures with which the step may end.
func (c *Confirms) Needed() int { return c.session.quorum }

// Survivors is the answer to a survivor's vector. It may be asked for after Close too.
func (c *Confirms) Survivors(id ID) ([]byte, error) {
	place, err := c.member(id)
	if err != nil {
		return nil, err
	}
	v := &shown{alive: c.cohort.survivors}
	for _, j := range c.session.graph.neighbours(place) {
		if c.session.sparse() && v.alive.has(j) {
			v.pledges = append(v.pledges, c.cohort.complain.pledges[j])
		}
		if a := c.cohort.complain.against[place][j]; a != nil {
			v.accusations = append(v.accusations, *a)
		}
	}
	return v.encode(), nil
}

func (c *Confirms) member(id ID) (int, error) {
	place, ok := c.session.place(id)
	if !ok || !c.cohort.survivors.has(place) {
		return 0, &PeerError{id, fmt.Errorf("%w: not a survivor", ErrMember)}
	}
	return place, nil
}

// Add takes a survivor's signature and the seeds of masks that it alone has used.
func (c *Confirms) Add(from ID, msg []byte) error {
	if c.spent {
		return ErrSpent
	}
	place, err := c.member(from)
	if err != nil {
		return err
	}
	if before := c.got[place]; before != nil {
		if !bytes.Equal(before, msg) {
			return &PeerError{from, fmt.Errorf("%w: a second signature", ErrDiffers)}
		}
		return nil
	}
	accusers := c.cohort.accusers(c.session, place)
	b, err := body(kindConfirm, msg, confirmSize(len(accusers)))
	if err != nil {
		return &PeerError{from, err}
	}
	f := fields(bytes.Clone(b))
	signature, seeds := f.next(signatureSize), make(map[int]digest, len(accusers))
	if !c.session.verify(place, c.session.confirmSigned(c.cohort.shared, c.cohort.survivors), signature) {
		return &PeerError{from, fmt.Errorf("%w: not its signature under the survivors", ErrForged)}
	}
	for _, j := range accusers {
		seed := f.digest()
		if err := c.cohort.checkSeed(c.session, place, j, &seed); err != nil {
			return &PeerError{from, err}
		}
		seeds[j] = seed
	}
	c.got[place], c.signatures[place] = bytes.Clone(msg), signature
	if len(seeds) > 0 {
		c.cohort.alone[place] = seeds
	}
	return nil
}

// Ready tells whether the step may end: a quorum has signed, and the seeds are here of
// all masks that only one of two survivors has used.
func (c *Confirms) Ready() bool { return !c.spent && c.lacks() == nil }

// lacks says what is missing.
func (c *Confirms) lacks() error {
	s := c.session
	if n := len(c.signatures); n < s.quorum {
		return fmt.Errorf("%w: %d of %d members signed the survivors, want %d", ErrTooFew, n, len(s.members), s.quorum)
	}
	var silent []Dispute
	for _, j := range c.cohort.survivors.places() { // in order: the same round always names the same
		if c.got[j] == nil {
			silent = s.dispute(silent, j, c.cohort.accusers(s, j))
		}
	}
	if silent != nil {
		return &DisputeError{silent, fmt.Errorf("%w: a member accused of bad shares has not confirmed, and the seeds of masks that it alone used are not here", ErrTooFew)}
	}
	return nil
}

// Close ends the step. While something is missing it fails and stays open, with a
// DisputeError where accused members alone have not confirmed. Nothing has
// been revealed until then that would tell a vector.
func (c *Confirms) Close() (*Reveals, error) {
	if c.spent {
		return nil, ErrSpent
	}
	if err := c.lacks(); err != nil {
		return nil, err
	}
	s := c.session
	c.spent = true
	signers := newBitmap(len(s.members))
	for place, n := 0, 0; n < s.quorum; place++ { // no device needs to check more
		if c.signatures[place] != nil {
			signers.set(place)
			n++
		}
	}
	return newReveals(s, c.cohort, encodeQuorum(signers, c.signatures)), nil
}
