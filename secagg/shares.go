package secagg

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"slices"
)

// parcel is what a dealer sends one neighbour: the sealed pair of shares with a
// commitment to each, and, from the end of the edge that encapsulates, the ciphertext
// of the mask KEM with a commitment to the seed of their mask.
type parcel struct {
	sealed     []byte
	sigma, b   digest // commitments to the shares
	ciphertext []byte
	pair       digest
}

func (x KeyExchange) parcelSize(encapsulates bool) int {
	n := x.sizes().sealed + 2*len(digest{})
	if encapsulates {
		n += x.sizes().ciphertext + len(digest{})
	}
	return n
}

func (q *parcel) append(b []byte, encapsulates bool) []byte {
	b = append(b, q.sealed...)
	b = append(b, q.sigma[:]...)
	b = append(b, q.b[:]...)
	if encapsulates {
		b = append(b, q.ciphertext...)
		b = append(b, q.pair[:]...)
	}
	return b
}

// takeParcel cuts a parcel off; it holds on to f.
func (f *fields) takeParcel(x KeyExchange, encapsulates bool) *parcel {
	q := &parcel{sealed: f.next(x.sizes().sealed), sigma: f.digest(), b: f.digest()}
	if encapsulates {
		q.ciphertext, q.pair = f.next(x.sizes().ciphertext), f.digest()
	}
	return q
}

// dealing is what a device sends in the Share step: a parcel for every neighbour.
type dealing struct {
	b         digest // commitment to the secret b
	ownShare  digest // commitment to the dealer's own share of b; complete graph only
	signature [ed25519.SignatureSize]byte
	parcels   []*parcel // by the neighbour's slot
}

// dealingSize is the body's length for the member at place from. Every encapsulating
// end is one of k/2, or on the complete graph about as many.
func (s *session) dealingSize(from int) int {
	n := len(digest{}) + ed25519.SignatureSize + s.own()*len(digest{})
	for _, j := range s.graph.neighbours(from) {
		n += s.params.Keys.parcelSize(s.graph.encapsulates(from, j))
	}
	return n
}

// appendHead encodes what goes to every neighbour.
func (m *dealing) appendHead(b []byte, s *session) []byte {
	b = append(b, m.b[:]...)
	if s.own() == 1 {
		b = append(b, m.ownShare[:]...)
	}
	return append(b, m.signature[:]...)
}

func (s *session) headSize() int {
	return (1+s.own())*len(digest{}) + ed25519.SignatureSize
}

func (s *session) takeHead(f *fields) *dealing {
	m := &dealing{b: f.digest()}
	if s.own() == 1 {
		m.ownShare = f.digest()
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
	for _, j := range s.graph.neighbours(from) {
		m.parcels = append(m.parcels, f.takeParcel(s.params.Keys, s.graph.encapsulates(from, j)))
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
	fields := [...][]byte{s.ctx1[:], s.members[from].id[:], s.members[to].id[:], q.sealed, q.sigma[:], q.b[:], q.ciphertext, q.pair[:]}
	n := len(fields)
	if !s.graph.encapsulates(from, to) {
		n -= 2 // no ciphertext and no seed
	}
	return appendTranscript(slices.Grow(b, transcriptSize(labelLeaf, fields[:n])), labelLeaf, fields[:n])
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
	return s.headSize() + s.params.Keys.parcelSize(s.graph.encapsulates(from, to)) + depth(s.graph.k)*len(digest{})
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
		e.parcel = f.takeParcel(s.params.Keys, s.graph.encapsulates(from, self))
		e.path = f.next(depth(s.graph.k) * len(digest{}))
		entries[slot] = e
	}
	return sharers, entries, nil
}
