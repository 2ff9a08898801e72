package secagg

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/cloudflare/circl/dh/x25519"
)

// Adverts is a server that gathers adverts.
type Adverts struct {
	params Params
	ctx0   digest
	adverts
	spent bool
}

type adverts struct {
	byID map[ID]advert
	keys map[x25519.Key]bool
}

// NewServer begins an attempt on the server.
func NewServer(p Params) (*Adverts, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	return &Adverts{params: p, ctx0: p.context(), adverts: adverts{map[ID]advert{}, map[x25519.Key]bool{}}}, nil
}

// Add takes the advert of a device whose identity the caller has authenticated.
func (a *Adverts) Add(from ID, msg []byte) error {
	if a.spent {
		return ErrSpent
	}
	b, err := body(kindAdvert, msg, advertSize)
	if err != nil {
		return &PeerError{from, err}
	}
	ad := decodeAdvert(b)
	if ad.id != from {
		return &PeerError{from, fmt.Errorf("%w: the advert is of device %v", ErrMember, ad.id)}
	}
	if before, ok := a.byID[from]; ok {
		if before != ad {
			return &PeerError{from, fmt.Errorf("%w: a second advert", ErrDiffers)}
		}
		return nil
	}
	if len(a.byID) >= a.params.Cohort {
		return &PeerError{from, fmt.Errorf("%w: the cohort of %d is full", ErrMember, a.params.Cohort)}
	}
	if err := ad.check(&a.params, &a.ctx0); err != nil {
		return err
	}
	if a.keys[ad.channel] || a.keys[ad.mask] || ad.channel == ad.mask {
		return &PeerError{from, fmt.Errorf("%w: the key was advertised before", ErrBadKey)}
	}
	a.byID[from] = ad
	a.keys[ad.channel], a.keys[ad.mask] = true, true
	return nil
}

// Members lists the devices whose adverts were taken, ascending.
func (a *Adverts) Members() []ID {
	ids := make([]ID, 0, len(a.byID))
	for id := range a.byID {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(x, y ID) int { return bytes.Compare(x[:], y[:]) })
	return ids
}

// Close fixes the roster and returns the message for all its members. With fewer
// than Params.MinSurvivors it fails and stays open.
func (a *Adverts) Close() (*Shares, []byte, error) {
	if a.spent {
		return nil, nil, ErrSpent
	}
	if len(a.byID) < a.params.MinSurvivors {
		return nil, nil, fmt.Errorf("%w: %d devices advertised, the minimum is %d", ErrTooFew, len(a.byID), a.params.MinSurvivors)
	}
	a.spent = true
	var members []advert
	for _, id := range a.Members() {
		members = append(members, a.byID[id])
	}
	s := newSession(a.params, a.ctx0, members)
	return &Shares{session: s, got: make([]*received, len(members))}, encodeRoster(members), nil
}

// Shares is a server that gathers sealed shares.
type Shares struct {
	session *session
	got     []*received // by roster place
	spent   bool
}

// received is a Share message that was taken.
type received struct {
	bytes   []byte
	message *sharesMessage
	leaves  tree
}

// Members lists the roster.
func (c *Shares) Members() []ID {
	ids := make([]ID, len(c.session.roster))
	for i := range ids {
		ids[i] = c.session.roster[i].id
	}
	return ids
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
	m, err := decodeShares(msg, len(s.roster), place)
	if err != nil {
		return &PeerError{from, err}
	}
	leaves := s.leaves(place, m)
	root := leaves.root()
	if err := s.verifyShares(place, &m.commitment, &root, m.signature[:]); err != nil {
		return err
	}
	c.got[place] = &received{msg, m, leaves}
	return nil
}

// Close ends the step and returns each sharer's inbox. A member that did not share
// is left out of everything that follows. With fewer than the threshold or
// Params.MinSurvivors it fails and stays open.
func (c *Shares) Close() (*Submissions, map[ID][]byte, error) {
	if c.spent {
		return nil, nil, ErrSpent
	}
	s := c.session
	n := len(s.roster)
	shared, commitments := newBitmap(n), make([]digest, n)
	for i, r := range c.got {
		if r != nil {
			shared.set(i)
			commitments[i] = r.message.commitment
		}
	}
	places := shared.places()
	if len(places) < s.needed() {
		return nil, nil, s.tooFew(len(places), "shared")
	}
	inboxes := make(map[ID][]byte, len(places))
	for _, to := range places {
		b := message(kindInbox, len(shared)+(len(places)-1)*inboxEntrySize(n))
		b = append(b, shared...)
		for _, from := range places {
			if from != to {
				r := c.got[from]
				e := inboxEntry{r.message.commitment, r.message.signature, r.message.sealed[to], r.leaves.path(to)}
				b = e.append(b)
			}
		}
		inboxes[s.roster[to].id] = b
	}
	c.spent, c.got = true, nil
	return &Submissions{session: s, shared: shared, commitments: commitments, got: newBitmap(n)}, inboxes, nil
}

// Submissions is a server that notes whose masked vectors have arrived.
type Submissions struct {
	session     *session
	shared      bitmap
	commitments []digest // of b, by roster place
	got         bitmap
	spent       bool
}

// Members lists those who shared.
func (c *Submissions) Members() []ID { return c.session.ids(c.shared.places()) }

// Add notes that the member's whole masked vector is in the caller's sum. A second
// Add changes nothing; it is for the caller to add a vector once.
func (c *Submissions) Add(from ID) error {
	if c.spent {
		return ErrSpent
	}
	place, ok := c.session.place(from)
	if !ok || !c.shared.has(place) {
		return &PeerError{from, fmt.Errorf("%w: its shares did not come", ErrMember)}
	}
	c.got.set(place)
	return nil
}

// Close fixes the survivors and returns the message for them. With fewer than the
// threshold or Params.MinSurvivors it fails and stays open.
func (c *Submissions) Close() (*Reveals, []byte, error) {
	if c.spent {
		return nil, nil, ErrSpent
	}
	s := c.session
	survivors := c.got.places()
	if len(survivors) < s.needed() {
		return nil, nil, s.tooFew(len(survivors), "submitted")
	}
	c.spent = true
	return newReveals(s, c.shared.places(), c.commitments, c.got), encodeSurvivors(c.got), nil
}
