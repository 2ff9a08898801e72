package secagg

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"slices"
)

// parcel is what a dealer sends one neighbour: the sealed shares with a commitment to
// each, and, from the end of the edge that encapsulates, the ciphertext
// of the mask KEM with a commitment to the seed of their mask.
type parcel struct {
	sealed     []byte
	sigma, b   digest // commitments to the shares
	levels     []digest
	ciphertext []byte
	pair       digest
}

// plainSize is the length of the shares that a parcel seals.
func (s *session) plainSize() int { return sharePair + s.levels()*scalarSize }

func (s *session) sealedSize() int { return s.params.Keys.sizes().sealed - sharePair + s.plainSize() }

func (s *session) parcelSize(encapsulates bool) int {
	n := s.sealedSize() + (2+s.levels())*len(digest{})
	if encapsulates {
		n += s.params.Keys.sizes().ciphertext + len(digest{})
	}
	return n
}

func (q *parcel) append(b []byte, encapsulates bool) []byte {
	b = append(b, q.sealed...)
	b = append(b, q.sigma[:]...)
	b = append(b, q.b[:]...)
	b = appendDigests(b, q.levels)
	if encapsulates {
		b = append(b, q.ciphertext...)
		b = append(b, q.pair[:]...)
	}
	return b
}

// takeParcel cuts a parcel off; it holds on to f.
func (s *session) takeParcel(f *fields, encapsulates bool) parcel {
	q := parcel{sealed: f.next(s.sealedSize()), sigma: f.digest(), b: f.digest(), levels: f.takeDigests(s.levels())}
	if encapsulates {
		q.ciphertext, q.pair = f.next(s.params.Keys.sizes().ciphertext), f.digest()
	}
	return q
}

// dealing is what a device sends in the Share step: a parcel for every neighbour.
type dealing struct {
	b         digest   // commitment to the secret b
	levels    []digest // commitments to the secrets of levels
	ownShare  digest   // commitment to the dealer's own share of b; complete graph only
	ownLevels []digest // and to those of levels
	signature [ed25519.SignatureSize]byte
	parcels   []*parcel // by the neighbour's slot
}

// dealingSize is the body's length for the member at place from. Every encapsulating
// end is one of k/2, or on the complete graph about as many.
func (s *session) dealingSize(from int) int {
	n := s.headSize()
	for _, j := range s.graph.neighbours(from) {
		n += s.parcelSize(s.graph.encapsulates(from, j))
	}
	return n
}

// appendHead encodes what goes to every neighbour.
func (m *dealing) appendHead(b []byte, s *session) []byte {
	b = append(b, m.b[:]...)
	b = appendDigests(b, m.levels)
	if s.own() == 1 {
		b = append(b, m.ownShare[:]...)
		b = appendDigests(b, m.ownLevels)
	}
	return append(b, m.signature[:]...)
}

func (s *session) headSize() int {
	return (1+s.own())*(1+s.levels())*len(digest{}) + ed25519.SignatureSize
}

func (s *session) takeHead(f *fields) *dealing {
	m := &dealing{b: f.digest(), levels: f.takeDigests(s.levels())}
	if s.own() == 1 {
		m.ownShare, m.ownLevels = f.digest(), f.takeDigests(s.levels())
	}
	copy(m.signature[:], f.next(len(m.signature)))
	return m
}

func (m *dealing) encode(s *session, from int) []byte {
	b := m.appendHead(message(kindShares, s.dealingSize(from)), s)
	for slot, j := range s.graph.neighbours(from) {
		b = m.parcels[slot].append(b, s.graph.encapsulates(from, j))
	}
	return b
}

// decodeDealing takes the message of the member at a place. The result holds on to
// msg.
func (s *session) decodeDealing(msg []byte, from int) (*dealing, error) {
	b, err := body(kindShares, msg, s.dealingSize(from))
	if err != nil {
		return nil, err
	}
	f := fields(b)
	m := s.takeHead(&f)
	parcels := make([]parcel, s.graph.k)
	m.parcels = make([]*parcel, len(parcels))
	for slot, j := range s.graph.neighbours(from) {
		parcels[slot] = s.takeParcel(&f, s.graph.encapsulates(from, j))
		m.parcels[slot] = &parcels[slot]
	}
	return m, nil
}

// sealedContext is the additional data of a sealed pair of shares: it opens only
// in this attempt, with this roster, from this sender to this recipient, beside this
// ciphertext.
func (s *session) sealedContext(from, to int, b *digest, ciphertext *digest) []byte {
	return transcript(labelSealed, s.ctx1[:], s.members[from].id[:], s.members[to].id[:],
		s.keys[from][:], s.keys[to][:], b[:], s.optional(ciphertext))
}

// leaf is what a sender's signature says about one recipient.
func (s *session) leaf(from, to int, q *parcel) digest {
	return sha256.Sum256(s.appendLeaf(nil, from, to, q))
}

// appendLeaf appends the transcript that a leaf is the hash of. Nothing in it is secret.
func (s *session) appendLeaf(b []byte, from, to int, q *parcel) []byte {
	list := [9][]byte{s.ctx1[:], s.members[from].id[:], s.members[to].id[:], q.sealed, q.sigma[:], q.b[:]}
	fields := list[:6]
	if s.levels() > 0 {
		fields = append(fields, appendDigests(nil, q.levels))
	}
	if s.graph.encapsulates(from, to) {
		fields = append(fields, q.ciphertext, q.pair[:])
	}
	return appendTranscript(slices.Grow(b, transcriptSize(labelLeaf, fields)), labelLeaf, fields)
}

// leaves is the tree over all recipients, by slot.
func (s *session) leaves(from int, m *dealing) tree {
	leaves := make([]digest, len(m.parcels))
	var b []byte
	for slot, to := range s.graph.neighbours(from) {
		b = s.appendLeaf(b[:0], from, to, m.parcels[slot])
		leaves[slot] = sha256.Sum256(b)
	}
	return newTree(leaves)
}

// sharesSigned is what the signature of a Share message is over.
func (s *session) sharesSigned(from int, m *dealing, root *digest) []byte {
	fields := [][]byte{s.ctx1[:], s.members[from].id[:], m.b[:], root[:]}
	if s.own() == 1 {
		fields = append(fields, m.ownShare[:])
	}
	if s.levels() > 0 {
		fields = append(fields, appendDigests(appendDigests(nil, m.levels), m.ownLevels))
	}
	return transcript(labelShares, fields...)
}

func (s *session) verifyShares(from int, m *dealing, root *digest) error {
	if !s.verify(from, s.sharesSigned(from, m, root), m.signature[:]) {
		return s.blame(from, fmt.Errorf("%w: the shares are not signed by their sender for this attempt, roster and recipient", ErrForged))
	}
	return nil
}

// inboxEntry is what one neighbour sent the recipient.
type inboxEntry struct {
	dealing // without parcels
	parcel  *parcel
	path    []byte
}

// inboxEntrySize is the length of what from sent to.
func (s *session) inboxEntrySize(from, to int) int {
	return s.headSize() + s.parcelSize(s.graph.encapsulates(from, to)) + depth(s.graph.k)*len(digest{})
}

// decodeInbox takes the inbox of the member at place self: who shared, and an entry
// for each of its neighbours among them, by slot. The result holds on to msg.
func (s *session) decodeInbox(msg []byte, self int) (bitmap, []*inboxEntry, error) {
	if err := checkHeader(kindInbox, msg); err != nil {
		return nil, nil, err
	}
	f := fields(msg[headerSize:])
	n := len(s.members)
	if err := f.atLeast(kindInbox, bitmapSize(n)); err != nil {
		return nil, nil, err
	}
	sharers, err := decodeBitmap(f.next(bitmapSize(n)), n)
	if err != nil {
		return nil, nil, err
	}
	neighbours := s.graph.neighbours(self)
	size := 0
	for _, from := range neighbours {
		if sharers.has(from) {
			size += s.inboxEntrySize(from, self)
		}
	}
	if err := f.exactly(kindInbox, size); err != nil {
		return nil, nil, err
	}
	entries := make([]*inboxEntry, len(neighbours))
	for slot, from := range neighbours {
		if !sharers.has(from) {
			continue
		}
		e := &inboxEntry{dealing: *s.takeHead(&f)}
		parcel := s.takeParcel(&f, s.graph.encapsulates(from, self))
		e.parcel = &parcel
		e.path = f.next(depth(s.graph.k) * len(digest{}))
		entries[slot] = e
	}
	return sharers, entries, nil
}
