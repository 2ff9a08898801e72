package secagg

import (
	"bytes"
	"fmt"
	"slices"
)

// Adverts is a server that gathers the adverts of a round's devices.
type Adverts struct {
	params Params
	ctx0   digest
	root   digest // as the members sign it
	tree   tree   // of the commitments
	ids    []ID   // ascending: the places of the tree
	commit []digest
	got    []*advert // by place
	count  int
	keys   map[string]bool
	spent  bool
}

// NewServer begins an attempt on the server with the devices that checked in and
// what they committed to. More than Params.Cohort of them are split into cohorts.
func NewServer(p Params, checkIns map[ID][32]byte) (*Adverts, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	if n := len(checkIns); n < p.MinSurvivors || n > MaxDevices {
		return nil, fmt.Errorf("%w: %d devices checked in, want %d to %d", ErrTooFew, n, p.MinSurvivors, MaxDevices)
	}
	a := &Adverts{params: p, ctx0: p.context(), keys: make(map[string]bool)}
	for id := range checkIns {
		a.ids = append(a.ids, id)
	}
	slices.SortFunc(a.ids, compareIDs)
	a.got, a.commit = make([]*advert, len(a.ids)), make([]digest, len(a.ids))
	leaves := make([]digest, len(a.ids))
	for i, id := range a.ids {
		a.commit[i] = checkIns[id]
		leaves[i] = checkInLeaf(id, &a.commit[i])
	}
	a.tree = newTree(leaves)
	a.root = (&committed{devices: len(a.ids), root: a.tree.root()}).hash()
	return a, nil
}

func (a *Adverts) place(id ID) (int, bool) { return slices.BinarySearchFunc(a.ids, id, compareIDs) }

// Committed is the answer to a device's check-in.
func (a *Adverts) Committed(id ID) ([]byte, error) {
	place, ok := a.place(id)
	if !ok {
		return nil, &PeerError{id, fmt.Errorf("%w: it did not check in", ErrMember)}
	}
	c := committed{devices: len(a.ids), place: place, root: a.tree.root(), path: a.tree.path(place)}
	return c.encode(), nil
}

// Add takes the advert of a device whose identity the caller has authenticated.
func (a *Adverts) Add(from ID, msg []byte) error {
	if a.spent {
		return ErrSpent
	}
	place, ok := a.place(from)
	if !ok {
		return &PeerError{from, fmt.Errorf("%w: it did not check in", ErrMember)}
	}
	x := a.params.Keys
	b, err := body(kindAdvert, msg, x.advertSize())
	if err != nil {
		return &PeerError{from, err}
	}
	if before := a.got[place]; before != nil {
		if !bytes.Equal(before.append(nil), b) {
			return &PeerError{from, fmt.Errorf("%w: a second advert", ErrDiffers)}
		}
		return nil
	}
	ad := decodeAdvert(x, b)
	if ad.id != from {
		return &PeerError{from, fmt.Errorf("%w: the advert is of device %v", ErrMember, ad.id)}
	}
	if hash(labelNonce, ad.nonce[:]) != a.commit[place] {
		return &PeerError{from, fmt.Errorf("%w: the nonce is not the one it committed to when it checked in", ErrForged)}
	}
	if err := VerifyCredential(a.params.CA, ad.key[:], ad.credential[:]); err != nil {
		return &PeerError{from, err}
	}
	if err := a.params.checkRevoked(from); err != nil {
		return err
	}
	if err := ad.check(&a.params, &a.ctx0, &a.root); err != nil {
		return err
	}
	if a.keys[string(ad.channel)] || a.keys[string(ad.mask)] || bytes.Equal(ad.channel, ad.mask) {
		return &PeerError{from, fmt.Errorf("%w: the key was advertised before", ErrBadKey)}
	}
	a.got[place] = ad
	a.count++
	a.keys[string(ad.channel)], a.keys[string(ad.mask)] = true, true
	return nil
}

// Members lists the devices that checked in, ascending.
func (a *Adverts) Members() []ID { return slices.Clone(a.ids) }

// Needed is the fewest adverts with which there may be a cohort.
func (a *Adverts) Needed() int {
	least := len(a.ids)
	for c := range Cohorts(len(a.ids), a.params.Cohort) {
		least = min(least, a.least(c))
	}
	return least
}

// least is the fewest members with which a cohort is formed.
func (a *Adverts) least(cohort int) int {
	n := len(a.ids)
	return max(a.params.MinSurvivors, (&drawn{cohort: cohort, cohorts: Cohorts(n, a.params.Cohort)}).least(n))
}

// Close fixes the rosters: one for each cohort of which more than half have advertised,
// and at least Params.MinSurvivors. The devices of another are in none. It fails, and stays
// open, when there is no such cohort.
func (a *Adverts) Close() ([]*Shares, error) {
	if a.spent {
		return nil, ErrSpent
	}
	if least := a.Needed(); a.count < least {
		return nil, fmt.Errorf("%w: %d of %d devices advertised, want at least %d", ErrTooFew, a.count, len(a.ids), least)
	}
	n := len(a.ids)
	d := &drawing{adverts: a, cohorts: Cohorts(n, a.params.Cohort), present: make([]bitmap, Cohorts(n, a.params.Cohort))}
	d.draw()
	var list []*Shares
	for c, present := range d.present {
		if present.count() >= a.least(c) {
			list = append(list, d.shares(c))
		}
	}
	if list == nil {
		return nil, fmt.Errorf("%w: %d of %d devices advertised, but in none of the %d cohorts more than half, and the minimum of %d",
			ErrTooFew, a.count, n, d.cohorts, a.params.MinSurvivors)
	}
	a.spent, a.got, a.keys = true, nil, nil
	return list, nil
}

// drawing is the lot by which a round's devices come into cohorts.
type drawing struct {
	adverts *Adverts
	cohorts int
	opened  tree     // of the nonces shown; nil for one cohort
	present []bitmap // by cohort: the places of those who advertised
}

func (p *drawing) draw() {
	a := p.adverts
	cohort := func(int) int { return 0 }
	if p.cohorts > 1 {
		leaves := make([]digest, len(a.ids))
		for i, ad := range a.got {
			if ad != nil {
				leaves[i] = openedLeaf(ad.id, &ad.nonce)
			}
		}
		p.opened = newTree(leaves)
		root := p.opened.root()
		cohort = drawLot(&a.ctx0, &a.root, &root, len(a.ids), p.cohorts).cohort
	}
	for c := range p.present {
		p.present[c] = newBitmap(len(a.ids))
	}
	for i, ad := range a.got {
		if ad != nil {
			p.present[cohort(i)].set(i)
		}
	}
}

// shares begins a cohort.
func (p *drawing) shares(cohort int) *Shares {
	a := p.adverts
	places := p.present[cohort].places()
	r := &roster{present: p.present[cohort], proof: a.tree.proof(len(a.ids), p.present[cohort])}
	credentials := make([][signatureSize]byte, len(places))
	for i, place := range places {
		r.members = append(r.members, a.got[place].member())
		credentials[i] = a.got[place].credential
	}
	r.admission = a.params.admission(r.members, credentials)
	lot := drawn{cohort: cohort, cohorts: p.cohorts}
	if p.opened != nil {
		lot.opened = p.opened.root()
	}
	s := newSession(a.params, a.ctx0, a.root, lot, r.members)
	for i, place := range places {
		s.know(i, a.got[place])
	}
	return &Shares{session: s, prefix: r.prefix(), opened: p.opened, places: places, got: make([]*received, len(places))}
}

// Shares is a server that gathers a cohort's sealed shares.
type Shares struct {
	session *session
	prefix  []byte // of all members' rosters
	opened  tree   // of the nonces shown; nil for one cohort
	places  []int  // of the members in the trees
	got     []*received
	spent   bool
}

// received is a Share message that was taken.
type received struct {
	bytes   []byte
	dealing *dealing
	leaves  tree
	head    []byte   // of bytes: what goes to every neighbour
	parcels [][]byte // of bytes: what goes to each, by slot
}

// newReceived takes the message of the member at a place, which decodeDealing has taken.
func (s *session) newReceived(from int, msg []byte, m *dealing, leaves tree) *received {
	f := fields(msg[headerSize:])
	r := &received{bytes: msg, dealing: m, leaves: leaves, head: f.next(s.headSize()), parcels: make([][]byte, len(m.parcels))}
	for slot, to := range s.graph.neighbours(from) {
		r.parcels[slot] = f.next(s.parcelSize(s.graph.encapsulates(from, to)))
	}
	return r
}

// Members lists the roster.
func (c *Shares) Members() []ID {
	ids := make([]ID, len(c.session.members))
	for i := range ids {
		ids[i] = c.session.members[i].id
	}
	return ids
}

// Needed is the fewest members with which the cohort's later steps may end.
func (c *Shares) Needed() int { return c.session.needed() }

// Roster is the answer to a member's advert. It may be asked for after Close too.
func (c *Shares) Roster(id ID) ([]byte, error) { return c.AppendRoster(nil, id) }

// AppendRoster appends a member's Roster to b, so that the memory of one that was sent can
// serve again: new memory takes as long as what is written to it.
func (c *Shares) AppendRoster(b []byte, id ID) ([]byte, error) {
	s := c.session
	self, ok := s.place(id)
	if !ok {
		return nil, &PeerError{id, fmt.Errorf("%w: not in the roster", ErrMember)}
	}
	neighbours := s.graph.neighbours(self)
	b = slices.Grow(b, len(c.prefix)+(len(c.opened)+1)*len(digest{})+len(neighbours)*s.params.Keys.keysSize())
	b = append(b, c.prefix...)
	if c.opened != nil {
		root := c.opened.root()
		b = append(b, root[:]...)
		b = append(b, c.opened.path(c.places[self])...)
	}
	for _, j := range neighbours {
		b = s.adverts[j].appendKeys(b)
	}
	return b, nil
}

// Add takes a member's sealed shares. The server keeps msg.
func (c *Shares) Add(from ID, msg []byte) error {
	if c.spent {
		return ErrSpent
	}
	s := c.session
	place, ok := s.place(from)
	if !ok {
		return &PeerError{from, fmt.Errorf("%w: not in the roster", ErrMember)}
	}
	if before := c.got[place]; before != nil {
		if !bytes.Equal(before.bytes, msg) {
			return &PeerError{from, fmt.Errorf("%w: second shares", ErrDiffers)}
		}
		return nil
	}
	m, err := s.decodeDealing(msg, place)
	if err != nil {
		return &PeerError{from, err}
	}
	leaves := s.leaves(place, m)
	root := leaves.root()
	if err := s.verifyShares(place, m, &root); err != nil {
		return err
	}
	if err := s.checkPoints(place, m); err != nil {
		return err
	}
	c.got[place] = s.newReceived(place, msg, m, leaves)
	return nil
}

// checkPoints refuses what every recipient would complain about and the server can
// see as well.
func (s *session) checkPoints(from int, m *dealing) error {
	for slot, q := range m.parcels {
		err := checkPublic(s.params.Keys.encapsulated(q.sealed))
		if err == nil && len(q.ciphertext) > 0 {
			err = checkPublic(q.ciphertext)
		}
		if err != nil {
			return s.blame(from, fmt.Errorf("parcel %d: %w", slot, err))
		}
	}
	return nil
}

// Close ends the step. A member that did not share is left out of everything that
// follows. With fewer than Needed it fails and stays open.
func (c *Shares) Close() (*Submissions, error) {
	if c.spent {
		return nil, ErrSpent
	}
	s := c.session
	shared := newBitmap(len(s.members))
	for i, r := range c.got {
		if r != nil {
			shared.set(i)
		}
	}
	if n := shared.count(); n < s.needed() {
		return nil, s.tooFew(n, "shared")
	}
	got := c.got
	c.spent, c.got = true, nil
	return newSubmissions(s, shared, got), nil
}
