package secagg

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"crypto/ed25519"
)

// advert is what a device tells its neighbours about itself.
type advert struct {
	id         ID
	key        [ed25519.PublicKeySize]byte
	credential [ed25519.SignatureSize]byte
	nonce      digest
	channel    []byte
	mask       []byte
	signature  [ed25519.SignatureSize]byte
}

// keysSize is the part of an advert that only neighbours are sent.
func (x KeyExchange) keysSize() int { return 2*x.sizes().public + ed25519.SignatureSize }

func (x KeyExchange) advertSize() int {
	return ed25519.PublicKeySize + ed25519.SignatureSize + len(digest{}) + x.keysSize()
}

func (a *advert) append(b []byte) []byte {
	b = append(b, a.key[:]...)
	b = append(b, a.credential[:]...)
	b = append(b, a.nonce[:]...)
	return a.appendKeys(b)
}

func (a *advert) appendKeys(b []byte) []byte {
	b = append(b, a.channel...)
	b = append(b, a.mask...)
	return append(b, a.signature[:]...)
}

// decodeAdvert takes x.advertSize bytes and keeps them.
func decodeAdvert(x KeyExchange, b []byte) *advert {
	f := fields(b)
	a := &advert{}
	copy(a.key[:], f.next(len(a.key)))
	copy(a.credential[:], f.next(len(a.credential)))
	a.nonce = f.digest()
	a.takeKeys(x, f)
	a.id = DeviceID(a.key[:])
	return a
}

func (a *advert) takeKeys(x KeyExchange, f fields) {
	public := x.sizes().public
	a.channel, a.mask = f.next(public), f.next(public)
	copy(a.signature[:], f.next(len(a.signature)))
}

// member is what all others are told of the device.
func (a *advert) member() member {
	return member{id: a.id, key: a.key, nonce: a.nonce, advert: a.hash()}
}

// hash is over all but the credential. Who checks that a device was admitted, by that or
// by a roll, does so for itself: it follows from the key.
func (a *advert) hash() digest {
	b := make([]byte, 0, len(a.key)+len(a.nonce)+2*len(a.mask)+len(a.signature))
	return hash(labelAdvertHash, a.appendKeys(append(append(b, a.key[:]...), a.nonce[:]...)))
}

// signed is what the advert's signature is over.
func (a *advert) signed(ctx0, committed *digest) []byte {
	return transcript(labelAdvert, ctx0[:], a.id[:], a.channel, a.mask, a.nonce[:], committed[:])
}

// check verifies what an advert says by itself, but for the credential.
func (a *advert) check(p *Params, ctx0, committed *digest) error {
	if err := p.Keys.checkKey(a.channel); err != nil {
		return &PeerError{a.id, fmt.Errorf("channel key: %w", err)}
	}
	if err := p.Keys.checkKey(a.mask); err != nil {
		return &PeerError{a.id, fmt.Errorf("mask key: %w", err)}
	}
	if !ed25519.Verify(a.key[:], a.signed(ctx0, committed), a.signature[:]) {
		return &PeerError{a.id, fmt.Errorf("%w: the advert is not signed by its device for this task, round, attempt, plan and root of check-ins", ErrForged)}
	}
	return nil
}

// checkRevoked refuses a device that the authority has put out.
func (p *Params) checkRevoked(id ID) error {
	if p.revoked(id) {
		return &PeerError{id, fmt.Errorf("%w", ErrRevoked)}
	}
	return nil
}

// roster is the message by which a device learns of its cohort.
type roster struct {
	present   bitmap // by place in the tree of commitments
	members   []member
	proof     []digest // of the tree of commitments
	admission admission
	opened    digest // root of the tree of nonces; zero where there is one cohort
	path      []byte // of the device's own nonce in it
	keys      fields // of the neighbours, ascending
}

// prefix is what is the same for all members of a cohort.
func (r *roster) prefix() []byte {
	b := message(kindRoster, 2+len(r.present)+len(r.members)*memberSize+len(r.proof)*len(digest{})+r.admission.size())
	b = binary.BigEndian.AppendUint16(b, uint16(len(r.members)))
	b = append(b, r.present...)
	for i := range r.members {
		b = r.members[i].append(b)
	}
	for i := range r.proof {
		b = append(b, r.proof[i][:]...)
	}
	return r.admission.append(b)
}

// decodeRoster checks the form of a roster, including that ids ascend (so that
// none is there twice), and nothing about its members. The keys of the neighbours
// are left uncut, as who they are follows from the rest.
func decodeRoster(msg []byte, p *Params, c *committed) (*roster, error) {
	if err := checkHeader(kindRoster, msg); err != nil {
		return nil, err
	}
	f := fields(msg[headerSize:])
	if err := f.atLeast(kindRoster, 2+bitmapSize(c.devices)); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(f.next(2)))
	if n > p.Cohort {
		return nil, fmt.Errorf("%w: roster of %d members, the plan allows %d", ErrRefused, n, p.Cohort)
	}
	if n < p.MinSurvivors {
		return nil, fmt.Errorf("%w: roster of %d members, this device's minimum is %d", ErrTooFew, n, p.MinSurvivors)
	}
	r := &roster{}
	var err error
	if r.present, err = decodeBitmap(f.next(bitmapSize(c.devices)), c.devices); err != nil {
		return nil, err
	}
	if r.present.count() != n {
		return nil, fmt.Errorf("%w: roster of %d members at %d places", ErrMalformed, n, r.present.count())
	}
	hashes := proofSize(c.devices, r.present)
	if err := f.atLeast(kindRoster, n*memberSize+hashes*len(digest{})); err != nil {
		return nil, err
	}
	r.members = make([]member, n)
	for i := range r.members {
		r.members[i] = decodeMember(f.next(memberSize))
		if i > 0 && bytes.Compare(r.members[i-1].id[:], r.members[i].id[:]) >= 0 {
			return nil, &PeerError{r.members[i].id, fmt.Errorf("%w: ids of the roster do not ascend: a member is there twice or out of place", ErrMalformed)}
		}
	}
	for range hashes {
		r.proof = append(r.proof, f.digest())
	}
	if r.admission, err = decodeAdmission(&f, n); err != nil {
		return nil, err
	}
	if Cohorts(c.devices, p.Cohort) > 1 {
		if err := f.atLeast(kindRoster, (1+depth(c.devices))*len(digest{})); err != nil {
			return nil, err
		}
		r.opened, r.path = f.digest(), f.next(depth(c.devices)*len(digest{}))
	}
	r.keys = f
	return r, nil
}

// check is a device's whole check of the roster it was sent: who the members are, and
// that neither they nor who neighbours whom were for the server to choose.
func (a *Advertised) check(msg []byte) (*session, int, error) {
	p, c := &a.params, a.committed
	r, err := decodeRoster(msg, p, c)
	if err != nil {
		return nil, 0, err
	}
	if err := r.admission.check(p.CA, r.members); err != nil {
		return nil, 0, err
	}
	places, leaves := r.present.places(), make([]digest, len(r.members))
	for i := range r.members {
		m := &r.members[i]
		if err := p.checkRevoked(m.id); err != nil {
			return nil, 0, err
		}
		commitment := hash(labelNonce, m.nonce[:])
		leaves[i] = checkInLeaf(m.id, &commitment)
	}
	root, err := rootFrom(c.devices, r.present, leaves, r.proof)
	if err != nil {
		return nil, 0, err
	}
	if root != c.root {
		return nil, 0, fmt.Errorf("%w: the roster's members and nonces are not those that were committed to when they checked in", ErrForged)
	}
	if !r.present.has(c.place) {
		return nil, 0, fmt.Errorf("%w: this device is not in the roster", ErrRefused)
	}
	committed := c.hash()
	lot, err := a.checkLot(r, places, &committed)
	if err != nil {
		return nil, 0, err
	}
	if n, least := len(r.members), lot.least(c.devices); n < least {
		return nil, 0, fmt.Errorf("%w: roster of %d members, of at least twice as many that checked in for this cohort; want %d or more", ErrTooFew, n, least)
	}
	s := newSession(*p, a.ctx0, committed, lot, r.members)
	self, ok := s.place(a.own.id)
	if !ok || s.members[self] != a.own.member() {
		return nil, 0, fmt.Errorf("%w: the roster shows another advert for this device than it sent", ErrForged)
	}
	s.know(self, &a.own)
	return s, self, a.takeNeighbours(s, self, r.keys, &committed)
}

// checkLot draws the lot again and holds the members against it.
func (a *Advertised) checkLot(r *roster, places []int, committed *digest) (drawn, error) {
	c := a.committed
	cohorts := Cohorts(c.devices, a.params.Cohort)
	if cohorts == 1 {
		return drawn{cohorts: 1}, nil
	}
	if rootOf(openedLeaf(a.own.id, &a.own.nonce), c.place, r.path) != r.opened {
		return drawn{}, fmt.Errorf("%w: the cohorts were drawn without this device's nonce", ErrForged)
	}
	lot := drawLot(&a.ctx0, committed, &r.opened, c.devices, cohorts)
	cohort := lot.cohort(c.place)
	for i, place := range places {
		if lot.cohort(place) != cohort {
			return drawn{}, &PeerError{r.members[i].id, fmt.Errorf("%w: the member was drawn into cohort %d and not into %d, this device's", ErrForged, lot.cohort(place), cohort)}
		}
	}
	return drawn{cohort, cohorts, r.opened}, nil
}

// takeNeighbours checks the neighbours' adverts.
func (a *Advertised) takeNeighbours(s *session, self int, f fields, committed *digest) error {
	p := &a.params
	neighbours := s.graph.neighbours(self)
	if err := f.exactly(kindRoster, len(neighbours)*p.Keys.keysSize()); err != nil {
		return err
	}
	seen := map[string]bool{string(a.own.channel): true, string(a.own.mask): true}
	for _, j := range neighbours {
		m := &s.members[j]
		ad := &advert{id: m.id, key: m.key, nonce: m.nonce}
		ad.takeKeys(p.Keys, f.next(p.Keys.keysSize()))
		if ad.hash() != m.advert {
			return &PeerError{m.id, fmt.Errorf("%w: the neighbour's advert is not the one that the roster names", ErrForged)}
		}
		if err := ad.check(p, &a.ctx0, committed); err != nil {
			return err
		}
		if seen[string(ad.channel)] || seen[string(ad.mask)] || bytes.Equal(ad.channel, ad.mask) {
			return &PeerError{m.id, fmt.Errorf("%w: the key stands in the roster twice", ErrBadKey)}
		}
		seen[string(ad.channel)], seen[string(ad.mask)] = true, true
		s.know(j, ad)
	}
	return nil
}
