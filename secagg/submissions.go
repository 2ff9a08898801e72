package secagg

import (
	"bytes"
	"fmt"
)

// Submissions is a server that notes whose masked vectors have arrived, and who has
// complained about whom.
type Submissions struct {
	session  *session
	shared   bitmap
	received []*received // by place
	complain complaints
	got      bitmap
	spent    bool
}

// complaints are what members said of their neighbours' dealings.
type complaints struct {
	messages map[int][]byte              // by accuser's place
	against  map[int]map[int]*accusation // by accused, then by accuser
}

func (c *complaints) pair(accuser, accused int) bool { return c.against[accused][accuser] != nil }

func newSubmissions(s *session, shared bitmap, got []*received) *Submissions {
	return &Submissions{
		session: s, shared: shared, received: got, got: newBitmap(len(s.members)),
		complain: complaints{make(map[int][]byte), make(map[int]map[int]*accusation)},
	}
}

// Members lists those who shared.
func (c *Submissions) Members() []ID { return c.session.ids(c.shared.places()) }

// Needed is the fewest members with which the cohort's later steps may end.
func (c *Submissions) Needed() int { return c.session.needed() }

// Inbox is the answer to a member's shares. It may be asked for until Close.
func (c *Submissions) Inbox(id ID) ([]byte, error) {
	if c.spent {
		return nil, ErrSpent
	}
	place, err := c.member(id)
	if err != nil {
		return nil, err
	}
	s := c.session
	neighbours := s.graph.neighbours(place)
	shared, size := newBitmap(len(neighbours)), bitmapSize(len(neighbours))
	for slot, j := range neighbours {
		if c.shared.has(j) {
			shared.set(slot)
			size += s.inboxEntrySize(j, place)
		}
	}
	b := append(message(kindInbox, size), shared...)
	for slot, j := range neighbours {
		if !shared.has(slot) {
			continue
		}
		r, theirs := c.received[j], s.graph.slot(j, place)
		b = r.dealing.appendHead(b, s)
		b = r.dealing.parcels[theirs].append(b, s.graph.encapsulates(j, place))
		b = append(b, r.leaves.path(theirs)...)
	}
	return b, nil
}

// member is the place of a member that shared.
func (c *Submissions) member(id ID) (int, error) {
	place, ok := c.session.place(id)
	if !ok || !c.shared.has(place) {
		return 0, &PeerError{id, fmt.Errorf("%w: its shares did not come", ErrMember)}
	}
	return place, nil
}

// Complain takes a member's complaint, which comes before its vector, and returns whom
// it accuses of what. Which of the two is wrong cannot be told from it; it costs them
// the mask that they have in common and nobody anything else.
func (c *Submissions) Complain(from ID, msg []byte) ([]*PeerError, error) {
	if c.spent {
		return nil, ErrSpent
	}
	s := c.session
	place, err := c.member(from)
	if err != nil {
		return nil, err
	}
	if before := c.complain.messages[place]; before != nil || c.got.has(place) {
		if !bytes.Equal(before, msg) {
			return nil, &PeerError{from, fmt.Errorf("%w: a second complaint, or one after the vector", ErrDiffers)}
		}
		return nil, nil
	}
	if err := checkHeader(kindComplaint, msg); err != nil {
		return nil, &PeerError{from, err}
	}
	list, err := fields(msg[headerSize:]).takeAccusations(kindComplaint, len(s.members))
	if err != nil {
		return nil, &PeerError{from, err}
	}
	var accused []*PeerError
	for i := range list {
		a := &list[i]
		if s.graph.slot(place, a.place) < 0 || !c.shared.has(a.place) {
			return nil, &PeerError{from, fmt.Errorf("%w: it accuses place %d, which dealt nothing to it", ErrMalformed, a.place)}
		}
		if !s.verify(place, s.complaintSigned(place, a.place, a.reason), a.signature[:]) {
			return nil, &PeerError{from, fmt.Errorf("%w: an accusation is not signed by its sender", ErrForged)}
		}
		accused = append(accused, s.blame(a.place, fmt.Errorf("%w: %v, says device %v", ErrMismatch, a.reason, from)))
	}
	for i := range list {
		a := &list[i]
		if c.complain.against[a.place] == nil {
			c.complain.against[a.place] = make(map[int]*accusation)
		}
		c.complain.against[a.place][place] = &accusation{place, a.reason, a.signature}
	}
	c.complain.messages[place] = bytes.Clone(msg)
	return accused, nil
}

// holders is how many members hold a share of a dealer's secrets that opened.
func (c *Submissions) holders(dealer int, among bitmap) int {
	s := c.session
	n := 0
	for _, j := range s.graph.neighbours(dealer) {
		if among.has(j) && !c.complain.pair(j, dealer) {
			n++
		}
	}
	if s.own() == 1 && among.has(dealer) {
		n++
	}
	return n
}

// Admit returns nil where a member's masked vector may be added to the caller's sum: it
// shared, and enough others hold its shares for its masks to come off again.
func (c *Submissions) Admit(from ID) error {
	if c.spent {
		return ErrSpent
	}
	place, err := c.member(from)
	if err != nil {
		return err
	}
	if n, t := c.holders(place, c.shared), c.session.graph.threshold; n < t {
		return &PeerError{from, fmt.Errorf("%w: %d members hold shares of it that open, want %d; %d have complained",
			ErrRefused, n, t, len(c.complain.against[place]))}
	}
	return nil
}

// Add notes that the member's whole masked vector is in the caller's sum. A second
// Add changes nothing; it is for the caller to add a vector once, and after Admit.
func (c *Submissions) Add(from ID) error {
	if err := c.Admit(from); err != nil {
		return err
	}
	place, _ := c.session.place(from)
	c.got.set(place)
	return nil
}

// Close fixes the survivors. With fewer than Needed it fails and stays open; where the
// masks of a survivor could not be removed again it fails for good, and the error names
// the survivor if others complained about it.
func (c *Submissions) Close() (*Confirms, error) {
	if c.spent {
		return nil, ErrSpent
	}
	s := c.session
	if n := c.got.count(); n < s.needed() {
		return nil, s.tooFew(n, "submitted")
	}
	c.spent = true
	for _, i := range c.got.places() {
		if n := c.holders(i, c.got); n < s.graph.threshold {
			err := fmt.Errorf("%w: %d survivors hold shares of one of them, want %d", ErrTooFew, n, s.graph.threshold)
			if len(c.complain.against[i]) > 0 {
				return nil, s.blame(i, err)
			}
			return nil, err
		}
	}
	return &Confirms{session: s, cohort: c.settle(), signatures: make(map[int][]byte)}, nil
}

// settle keeps of the dealings what is needed to remove masks.
func (c *Submissions) settle() *settled {
	s := c.session
	n := len(s.members)
	f := &settled{shared: c.shared, survivors: c.got, complain: c.complain, dealt: make([]*dealt, n)}
	f.hash = s.survivorsHash(c.got)
	for _, i := range c.shared.places() {
		m := c.received[i].dealing
		d := &dealt{b: m.b, ownShare: m.ownShare}
		for slot, j := range s.graph.neighbours(i) {
			q := m.parcels[slot]
			k := kept{sigma: q.sigma, b: q.b, pair: q.pair}
			if !c.got.has(i) || !c.got.has(j) {
				k.ciphertext = bytes.Clone(q.ciphertext)
			}
			d.parcels = append(d.parcels, k)
		}
		f.dealt[i] = d
	}
	c.received = nil
	return f
}

// settled is what is fixed once the vectors are in.
type settled struct {
	shared, survivors bitmap
	hash              digest // of the survivors
	complain          complaints
	dealt             []*dealt // by place; nil for who did not share
}

// dealt is what is kept of a dealing.
type dealt struct {
	b, ownShare digest
	parcels     []kept
}

type kept struct {
	sigma, b, pair digest
	ciphertext     []byte // where an end did not survive
}

// Confirms is a server that gathers signatures under the survivors.
type Confirms struct {
	session    *session
	cohort     *settled
	signatures map[int][]byte
	spent      bool
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

// Add takes a survivor's signature.
func (c *Confirms) Add(from ID, msg []byte) error {
	if c.spent {
		return ErrSpent
	}
	place, err := c.member(from)
	if err != nil {
		return err
	}
	b, err := body(kindConfirm, msg, signatureSize)
	if err != nil {
		return &PeerError{from, err}
	}
	if before := c.signatures[place]; before != nil {
		if !bytes.Equal(before, b) {
			return &PeerError{from, fmt.Errorf("%w: a second signature", ErrDiffers)}
		}
		return nil
	}
	if !c.session.verify(place, c.session.confirmSigned(c.cohort.survivors), b) {
		return &PeerError{from, fmt.Errorf("%w: not its signature under the survivors", ErrForged)}
	}
	c.signatures[place] = bytes.Clone(b)
	return nil
}

// Ready tells whether a quorum has signed.
func (c *Confirms) Ready() bool { return !c.spent && len(c.signatures) >= c.session.quorum }

// Close ends the step. Without a quorum it fails and stays open.
func (c *Confirms) Close() (*Reveals, error) {
	if c.spent {
		return nil, ErrSpent
	}
	s := c.session
	if !c.Ready() {
		return nil, fmt.Errorf("%w: %d of %d members signed the survivors, want %d", ErrTooFew, len(c.signatures), len(s.members), s.quorum)
	}
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
