package secagg

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"slices"
)

// member is what everybody knows of a member of a cohort.
type member struct {
	id     ID
	key    [ed25519.PublicKeySize]byte
	nonce  digest
	advert digest // hash of the advert
}

// signatureSize is that of Ed25519.
const signatureSize = ed25519.SignatureSize

const memberSize = ed25519.PublicKeySize + 2*len(digest{})

func (m *member) append(b []byte) []byte {
	b = append(b, m.key[:]...)
	b = append(b, m.nonce[:]...)
	return append(b, m.advert[:]...)
}

// decodeMember takes memberSize bytes.
func decodeMember(b []byte) (m member) {
	f := fields(b)
	copy(m.key[:], f.next(len(m.key)))
	m.nonce, m.advert = f.digest(), f.digest()
	m.id = DeviceID(m.key[:])
	return m
}

// session is what both sides know of a cohort once its roster is fixed.
type session struct {
	params  Params
	ctx0    digest
	ctx1    digest
	members []member // ascending by id
	graph   *graph
	quorum  int

	// By place; a device knows its own and its neighbours', a server all.
	adverts    []*advert
	keys       []digest // hash of both keys
	maskHashes []digest // hash of the mask key
}

// newSession takes members that were checked, ascending by id.
func newSession(p Params, ctx0, committed digest, lot drawn, members []member) *session {
	n := len(members)
	s := &session{
		params: p, ctx0: ctx0, members: members, quorum: Quorum(n, p.Corrupt),
		adverts: make([]*advert, n), keys: make([]digest, n), maskHashes: make([]digest, n),
	}
	roster := [][]byte{ctx0[:], committed[:], u32(lot.cohort), u32(lot.cohorts), lot.opened[:]}
	nonces := [][]byte{ctx0[:], committed[:]}
	for i := range members {
		m := &members[i]
		h := hash(labelMember, m.id[:], m.key[:], m.nonce[:], m.advert[:])
		roster = append(roster, h[:])
		nonces = append(nonces, m.id[:], m.nonce[:])
	}
	rosterRoot, seed := hash(labelRoster, roster...), hash(labelGraph, nonces...)
	s.ctx1 = hash(labelCohort, ctx0[:], rosterRoot[:], seed[:])
	if k, t, ok := Search(n, p.Corrupt, p.Dropout, sigma, eta); n > CompleteGraph && ok {
		s.graph = newGraph(n, k, t, false, &seed)
	} else {
		s.graph = newGraph(n, n-1, Threshold(n), true, &seed)
	}
	return s
}

// know takes in a member's full advert.
func (s *session) know(place int, a *advert) {
	s.adverts[place] = a
	s.keys[place] = hash(labelKeys, a.id[:], a.channel, a.mask)
	s.maskHashes[place] = hash(labelMaskPublic, a.mask)
}

func (s *session) maskPublic(place int) *digest { return &s.maskHashes[place] }

// place is the member's place in the roster.
func (s *session) place(id ID) (int, bool) {
	return slices.BinarySearchFunc(s.members, id, func(m member, id ID) int { return bytes.Compare(m.id[:], id[:]) })
}

func (s *session) ids(places []int) []ID {
	out := make([]ID, len(places))
	for i, p := range places {
		out[i] = s.members[p].id
	}
	return out
}

// blame is an error that names a member.
func (s *session) blame(place int, err error) *PeerError {
	return &PeerError{s.members[place].id, err}
}

// dispute appends what some members say of one.
func (s *session) dispute(list []Dispute, accused int, accusers []int) []Dispute {
	for _, j := range accusers {
		list = append(list, Dispute{s.members[accused].id, s.members[j].id})
	}
	return list
}

// verify tells whether a member signed a transcript.
func (s *session) verify(place int, transcript, signature []byte) bool {
	return ed25519.Verify(s.members[place].key[:], transcript, signature)
}

// shareIndex is the place, from 0, of a member's share among those of a dealer. On the
// complete graph everybody has one, the dealer included; otherwise its neighbours do.
func (s *session) shareIndex(dealer, holder int) int {
	if s.graph.complete {
		return holder
	}
	return s.graph.slot(dealer, holder)
}

// shares is how many shares a dealer makes.
func (s *session) shares() int {
	if s.graph.complete {
		return s.graph.n
	}
	return s.graph.k
}

// own is how many shares of its own b a member keeps.
func (s *session) own() int { return s.shares() - s.graph.k }

// needed is the fewest members with which a step may end.
func (s *session) needed() int {
	n := max(s.params.MinSurvivors, s.quorum)
	if s.graph.complete {
		n = max(n, s.graph.threshold)
	}
	return n
}

// tooFew says that a step has fewer members than it needs.
func (s *session) tooFew(got int, did string) error {
	return fmt.Errorf("%w: %d of %d members %s, want at least %d (threshold %d of %d shares, quorum %d, minimum survivors %d)",
		ErrTooFew, got, len(s.members), did, s.needed(), s.graph.threshold, s.shares(), s.quorum, s.params.MinSurvivors)
}

// sparse tells whether a member has only some of the others as its neighbours.
func (s *session) sparse() bool { return !s.graph.complete }

// pledgeSize is the length of a pledge, 0 where there is none.
func (s *session) pledgeSize() int {
	if s.sparse() {
		return signatureSize
	}
	return 0
}

// pledgeSigned is what a pledge's signature is over. On a sparse graph every member
// pledges, before its vector is taken, that it masks with all its neighbours among the
// sharers but those whom it accuses, and those who hold shares of its b give them away
// only against that. A server that shows a member fewer sharers can call back every
// mask that the member then puts on, and would have its b from the neighbours that it
// left out. On the complete graph it is short of members for that, who have to sign.
func (s *session) pledgeSigned(place int, sharers bitmap) []byte {
	return transcript(labelSharers, s.ctx1[:], s.members[place].id[:], sharers)
}

// survivorsHash names a set of survivors, and the sharers they are among, in one attempt.
func (s *session) survivorsHash(sharers, survivors bitmap) digest {
	return hash(labelSurvivors, s.ctx1[:], sharers, survivors)
}

// confirmSigned is what a member's signature of a set of survivors is over.
func (s *session) confirmSigned(sharers, survivors bitmap) []byte {
	h := s.survivorsHash(sharers, survivors)
	return transcript(labelConfirm, s.ctx1[:], h[:])
}

// checkJoined refuses survivors of a sparse graph that could be parted. Where two runs
// of k/2 places of the circle, with others on either side, hold fewer of them than the
// threshold, it may be corrupt ones alone that join the two sides, and a server that had
// called the rest vanished would have the sums of both. That no more corrupt members
// are on some such k places is nearly as likely as that no member has more of them
// for neighbours, which the threshold was chosen by.
func (s *session) checkJoined(survivors bitmap) error {
	if !s.sparse() {
		return nil
	}
	if n := s.graph.leastApart(survivors); n < s.graph.threshold {
		return fmt.Errorf("%w: %d survivors in the %d places by which two parts of the circle hang together, want %d",
			ErrTooFew, n, s.graph.k, s.graph.threshold)
	}
	return nil
}

// beside lists a member's neighbours among a set.
func (s *session) beside(place int, among bitmap) []int {
	var list []int
	for _, j := range s.graph.neighbours(place) {
		if among.has(j) {
			list = append(list, j)
		}
	}
	return list
}
