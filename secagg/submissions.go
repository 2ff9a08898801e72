package secagg

import (
	"bytes"
	"fmt"
	"slices"
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
	pledges  map[int][]byte              // by place; on a sparse graph
	against  map[int]map[int]*accusation // by accused, then by accuser
}

func (c *complaints) pair(accuser, accused int) bool { return c.against[accused][accuser] != nil }

// among lists, in order, the members of a set that accuse one.
func (c *complaints) among(accused int, set bitmap) []int {
	list := make([]int, 0, len(c.against[accused]))
	for accuser := range c.against[accused] {
		if set.has(accuser) {
			list = append(list, accuser)
		}
	}
	slices.Sort(list)
	return list
}

func newSubmissions(s *session, shared bitmap, got []*received) *Submissions {
	return &Submissions{
		session: s, shared: shared, received: got, got: newBitmap(len(s.members)),
		complain: complaints{make(map[int][]byte), make(map[int][]byte), make(map[int]map[int]*accusation)},
	}
}

// Members lists those who shared.
func (c *Submissions) Members() []ID { return c.session.ids(c.shared.places()) }

// Needed is the fewest members with which the cohort's later steps may end.
func (c *Submissions) Needed() int { return c.session.needed() }

// Inbox is the answer to a member's shares. It may be asked for until Close.
func (c *Submissions) Inbox(id ID) ([]byte, error) { return c.AppendInbox(nil, id) }

// AppendInbox appends a member's Inbox to b, as [Shares.AppendRoster] does a roster.
func (c *Submissions) AppendInbox(b []byte, id ID) ([]byte, error) {
	if c.spent {
		return nil, ErrSpent
	}
	place, err := c.member(id)
	if err != nil {
		return nil, err
	}
	s := c.session
	senders, size := s.beside(place, c.shared), len(c.shared)
	for _, j := range senders {
		size += s.inboxEntrySize(j, place)
	}
	b = append(appendMessage(b, kindInbox, size), c.shared...)
	for _, j := range senders {
		r, theirs := c.received[j], s.graph.slot(j, place)
		b = append(b, r.head...)
		b = append(b, r.parcels[theirs]...)
		b = r.leaves.appendPath(b, theirs)
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
// the mask that they have in common and nobody anything else. Who accuses so many that
// too few shares are left to it is refused: it would not have gone on itself. On a sparse
// graph every member sends one, as its pledge is in it.
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
	m, err := s.decodeComplaint(msg)
	if err != nil {
		return nil, &PeerError{from, err}
	}
	if s.sparse() && !s.verify(place, s.pledgeSigned(place, c.shared), m.pledge) {
		return nil, &PeerError{from, fmt.Errorf("%w: the pledge is not its signature under those who shared", ErrForged)}
	}
	accused, err := c.verify(place, m.accusations)
	if err != nil {
		return nil, &PeerError{from, err}
	}
	if n, t := len(s.beside(place, c.shared))+s.own()-len(accused), s.graph.threshold; n < t {
		return nil, &PeerError{from, fmt.Errorf("%w: accusing %d leaves it %d shares that open, and no device goes on with fewer than %d",
			ErrTooFew, len(accused), n, t)}
	}
	for i := range m.accusations {
		a := &m.accusations[i]
		if c.complain.against[a.place] == nil {
			c.complain.against[a.place] = make(map[int]*accusation)
		}
		c.complain.against[a.place][place] = &accusation{place, a.reason, a.signature}
	}
	c.complain.messages[place], c.complain.pledges[place] = bytes.Clone(msg), bytes.Clone(m.pledge)
	return accused, nil
}

// verify checks a member's accusations.
func (c *Submissions) verify(place int, list []accusation) (accused []*PeerError, err error) {
	s := c.session
	for i := range list {
		a := &list[i]
		if s.graph.slot(place, a.place) < 0 || !c.shared.has(a.place) {
			return nil, fmt.Errorf("%w: it accuses place %d, which dealt nothing to it", ErrMalformed, a.place)
		}
		if !s.verify(place, s.complaintSigned(place, a.place, a.reason), a.signature[:]) {
			return nil, fmt.Errorf("%w: an accusation is not signed by its sender", ErrForged)
		}
		accused = append(accused, s.blame(a.place, fmt.Errorf("%w: %v, says device %v", ErrMismatch, a.reason, s.members[place].id)))
	}
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
// shared, enough others hold its shares for its masks to come off again, and on a
// sparse graph its complaint is here.
func (c *Submissions) Admit(from ID) error {
	if err := c.Viable(from); err != nil {
		return err
	}
	place, _ := c.session.place(from)
	if c.session.sparse() && c.complain.pledges[place] == nil {
		return &PeerError{from, fmt.Errorf("%w: its pledge has not come, which goes before the vector", ErrRefused)}
	}
	return nil
}

// Viable returns nil as long as a member's masked vector may still be admitted: it
// shared, and enough others hold its shares that have not complained.
func (c *Submissions) Viable(id ID) error {
	if c.spent {
		return ErrSpent
	}
	place, err := c.member(id)
	if err != nil {
		return err
	}
	if n, t := c.holders(place, c.shared), c.session.graph.threshold; n < t {
		return &PeerError{id, fmt.Errorf("%w: %d members hold shares of it that open, want %d; %d have complained",
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

// Close fixes the survivors. With fewer than Needed, or with gaps that on a sparse graph
// part them, it fails and stays open; where the masks of a survivor could not be removed
// again it fails for good, with a DisputeError if they could but for complaints.
func (c *Submissions) Close() (*Confirms, error) {
	if c.spent {
		return nil, ErrSpent
	}
	s := c.session
	if n := c.got.count(); n < s.needed() {
		return nil, s.tooFew(n, "submitted")
	}
	if err := s.checkJoined(c.got); err != nil {
		return nil, err
	}
	c.spent = true
	if err := c.checkHeld(); err != nil {
		return nil, err
	}
	return newConfirms(s, c.settle()), nil
}

// checkHeld holds that enough survivors have shares of each of them.
func (c *Submissions) checkHeld() error {
	s, t := c.session, c.session.graph.threshold
	var disputes []Dispute
	var lacking error
	for _, i := range c.got.places() {
		n := c.holders(i, c.got)
		if n >= t {
			continue
		}
		err := fmt.Errorf("%w: %d survivors hold shares of one of them, want %d", ErrTooFew, n, t)
		accusers := c.complain.among(i, c.got)
		if n+len(accusers) < t {
			return err // whatever anybody says
		}
		if lacking == nil {
			lacking = err
		}
		disputes = s.dispute(disputes, i, accusers)
	}
	if lacking != nil {
		return &DisputeError{disputes, lacking}
	}
	return nil
}

// settle keeps of the dealings what is needed to remove masks.
func (c *Submissions) settle() *settled {
	s := c.session
	n := len(s.members)
	f := &settled{shared: c.shared, survivors: c.got, complain: c.complain, dealt: make([]*dealt, n), alone: make(map[int]map[int]digest)}
	f.hash, f.level = s.survivorsHash(c.shared, c.got), s.params.reached(c.got.count())
	level := f.level
	for _, i := range c.shared.places() {
		m := c.received[i].dealing
		d := &dealt{b: m.b, ownShare: m.ownShare}
		if level > 0 {
			d.level = m.levels[level-1]
			if s.own() == 1 {
				d.ownLevel = m.ownLevels[level-1]
			}
		}
		for slot, j := range s.graph.neighbours(i) {
			q := m.parcels[slot]
			k := kept{sigma: q.sigma, b: q.b, pair: q.pair}
			if level > 0 {
				k.level = q.levels[level-1]
			}
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
	hash              digest // of both
	level             int    // that the number of survivors reaches, 0 for none
	complain          complaints
	dealt             []*dealt               // by place; nil for who did not share
	alone             map[int]map[int]digest // seeds of masks that a survivor used and another, its accuser, did not
}

// used tells whether a survivor has masked with a neighbour.
func (c *settled) used(survivor, neighbour int) bool {
	return c.shared.has(neighbour) && !c.complain.pair(survivor, neighbour)
}

// accusers lists, in order, the survivors with whom a survivor alone has used the mask
// in common.
func (c *settled) accusers(s *session, survivor int) []int {
	if c.complain.against[survivor] == nil {
		return nil
	}
	var list []int
	for _, j := range s.beside(survivor, c.survivors) {
		if c.used(survivor, j) && c.complain.pair(j, survivor) {
			list = append(list, j)
		}
	}
	return list
}

// checkSeed holds a seed that a survivor reveals against the commitment to it. Where that
// is the survivor's own and the other end has complained of it, it can be no measure:
// what is revealed then is the survivor's word for its own vector, which is all that it
// could spoil with it.
func (c *settled) checkSeed(s *session, holder, neighbour int, seed *digest) error {
	from, to := holder, neighbour
	if s.graph.encapsulates(neighbour, holder) {
		from, to = neighbour, holder
	}
	if a := c.complain.against[holder][neighbour]; a != nil && a.reason == badPair && from == holder {
		return nil
	}
	if s.commitPair(from, to, seed) != c.dealt[from].parcels[s.graph.slot(from, to)].pair {
		return fmt.Errorf("%w: it reveals another seed than was committed to between it and device %v", ErrMismatch, s.members[neighbour].id)
	}
	return nil
}

// dealt is what is kept of a dealing.
type dealt struct {
	b, ownShare     digest
	level, ownLevel digest // of the level reached
	parcels         []kept
}

type kept struct {
	sigma, b, pair digest
	level          digest // of the level reached
	ciphertext     []byte // where an end did not survive
}
