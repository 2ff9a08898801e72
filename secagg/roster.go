package secagg

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/cloudflare/circl/dh/x25519"
	"github.com/cloudflare/circl/sign/ed25519"
)

// advert is what a device tells all others about itself.
type advert struct {
	id         ID
	key        [ed25519.PublicKeySize]byte
	credential [ed25519.SignatureSize]byte
	channel    x25519.Key
	mask       x25519.Key
	signature  [ed25519.SignatureSize]byte
}

const advertSize = ed25519.PublicKeySize + ed25519.SignatureSize + 2*x25519.Size + ed25519.SignatureSize

func (a *advert) append(b []byte) []byte {
	b = append(b, a.key[:]...)
	b = append(b, a.credential[:]...)
	b = append(b, a.channel[:]...)
	b = append(b, a.mask[:]...)
	return append(b, a.signature[:]...)
}

// decodeAdvert takes advertSize bytes.
func decodeAdvert(b []byte) (a advert) {
	f := fields(b)
	copy(a.key[:], f.next(len(a.key)))
	copy(a.credential[:], f.next(len(a.credential)))
	copy(a.channel[:], f.next(len(a.channel)))
	copy(a.mask[:], f.next(len(a.mask)))
	copy(a.signature[:], f.next(len(a.signature)))
	a.id = DeviceID(a.key[:])
	return a
}

// signed is what the advert's signature is over.
func (a *advert) signed(ctx0 *digest) []byte {
	return transcript(labelAdvert, ctx0[:], a.id[:], a.channel[:], a.mask[:])
}

// check verifies everything about an advert that does not depend on other members.
func (a *advert) check(p *Params, ctx0 *digest) error {
	if err := checkPoint(&a.channel); err != nil {
		return &PeerError{a.id, fmt.Errorf("channel key: %w", err)}
	}
	if err := checkPoint(&a.mask); err != nil {
		return &PeerError{a.id, fmt.Errorf("mask key: %w", err)}
	}
	if err := VerifyCredential(p.CA, a.key[:], a.credential[:]); err != nil {
		return &PeerError{a.id, err}
	}
	if !ed25519.Verify(a.key[:], a.signed(ctx0), a.signature[:]) {
		return &PeerError{a.id, fmt.Errorf("%w: the advert is not signed by its device for this task, round, attempt and plan", ErrForged)}
	}
	return nil
}

// keysHash binds sealed shares to the keys of both ends.
func keysHash(a *advert) digest {
	return hash(labelKeys, a.id[:], a.channel[:], a.mask[:])
}

// session is what both sides know of an attempt once the roster is fixed.
type session struct {
	params    Params
	ctx0      digest
	ctx1      digest
	roster    []advert // ascending by id
	keys      []digest // keysHash of each
	threshold int
}

// newSession takes adverts that were checked one by one, ascending by id.
func newSession(p Params, ctx0 digest, members []advert) *session {
	s := &session{params: p, ctx0: ctx0, roster: members, threshold: Threshold(len(members))}
	leaves := [][]byte{ctx0[:]}
	for i := range members {
		a := &members[i]
		advertHash := hash(labelAdvertHash, a.append(nil))
		leaf := hash(labelMember, a.id[:], a.key[:], a.credential[:], advertHash[:])
		leaves = append(leaves, leaf[:])
		s.keys = append(s.keys, keysHash(a))
	}
	s.ctx1 = hash(labelRoster, leaves...)
	return s
}

// place is the member's place in the roster.
func (s *session) place(id ID) (int, bool) {
	return slices.BinarySearchFunc(s.roster, id, func(a advert, id ID) int { return bytes.Compare(a.id[:], id[:]) })
}

func (s *session) ids(places []int) []ID {
	out := make([]ID, len(places))
	for i, p := range places {
		out[i] = s.roster[p].id
	}
	return out
}

// needed is the fewest members with which a step may end.
func (s *session) needed() int { return max(s.threshold, s.params.MinSurvivors) }

// tooFew says that a step has fewer members than it needs.
func (s *session) tooFew(got int, did string) error {
	return fmt.Errorf("%w: %d of %d members %s, want at least %d (threshold %d, minimum survivors %d)",
		ErrTooFew, got, len(s.roster), did, s.needed(), s.threshold, s.params.MinSurvivors)
}

func encodeRoster(members []advert) []byte {
	b := message(kindRoster, 2+len(members)*advertSize)
	b = binary.BigEndian.AppendUint16(b, uint16(len(members)))
	for i := range members {
		b = members[i].append(b)
	}
	return b
}

// decodeRoster checks the form of a roster, including that ids ascend (so that
// none is there twice), and nothing about its members.
func decodeRoster(msg []byte, cohort int) ([]advert, error) {
	if err := checkHeader(kindRoster, msg); err != nil {
		return nil, err
	}
	b := msg[headerSize:]
	if len(b) < 2 {
		return nil, fmt.Errorf("%w: roster without its count", ErrMalformed)
	}
	n := int(binary.BigEndian.Uint16(b))
	if n > cohort {
		return nil, fmt.Errorf("%w: roster of %d members, the plan allows %d", ErrRefused, n, cohort)
	}
	if len(b) != 2+n*advertSize {
		return nil, fmt.Errorf("%w: roster of %d bytes for %d members, want %d", ErrMalformed, len(msg), n, headerSize+2+n*advertSize)
	}
	f := fields(b[2:])
	members := make([]advert, n)
	for i := range members {
		members[i] = decodeAdvert(f.next(advertSize))
		if i > 0 && bytes.Compare(members[i-1].id[:], members[i].id[:]) >= 0 {
			return nil, &PeerError{members[i].id, fmt.Errorf("%w: ids of the roster do not ascend: a member is there twice or out of place", ErrMalformed)}
		}
	}
	return members, nil
}

// checkRoster is a device's whole check of the roster it was sent.
func checkRoster(p Params, ctx0 digest, own *advert, msg []byte) (*session, int, error) {
	members, err := decodeRoster(msg, p.Cohort)
	if err != nil {
		return nil, 0, err
	}
	if len(members) < p.MinSurvivors {
		return nil, 0, fmt.Errorf("%w: roster of %d members, this device's minimum is %d", ErrTooFew, len(members), p.MinSurvivors)
	}
	seen := make(map[x25519.Key]bool, 2*len(members))
	for i := range members {
		a := &members[i]
		if err := a.check(&p, &ctx0); err != nil {
			return nil, 0, err
		}
		if seen[a.channel] || seen[a.mask] || a.channel == a.mask {
			return nil, 0, &PeerError{a.id, fmt.Errorf("%w: the key stands in the roster twice", ErrBadKey)}
		}
		seen[a.channel], seen[a.mask] = true, true
	}
	s := newSession(p, ctx0, members)
	self, ok := s.place(own.id)
	if !ok {
		return nil, 0, fmt.Errorf("%w: this device is not in the roster", ErrRefused)
	}
	if members[self] != *own {
		return nil, 0, fmt.Errorf("%w: the roster shows another advert for this device than it sent", ErrForged)
	}
	return s, self, nil
}
