package secagg

import (
	"fmt"

	"github.com/cloudflare/circl/sign/ed25519"
)

// sharesMessage is what a device sends in the Share step: its commitment to b and,
// for every other member in roster order, a sealed pair of shares.
type sharesMessage struct {
	commitment digest
	signature  [ed25519.SignatureSize]byte
	sealed     [][]byte // by roster place; nil at the sender's own
}

func sharesSize(n int) int {
	return len(digest{}) + ed25519.SignatureSize + (n-1)*sealedSize
}

func (m *sharesMessage) encode() []byte {
	b := message(kindShares, sharesSize(len(m.sealed)))
	b = append(b, m.commitment[:]...)
	b = append(b, m.signature[:]...)
	for _, sealed := range m.sealed {
		b = append(b, sealed...)
	}
	return b
}

// decodeShares takes the message of the member at place from in a roster of n. The
// result holds on to msg.
func decodeShares(msg []byte, n, from int) (*sharesMessage, error) {
	b, err := body(kindShares, msg, sharesSize(n))
	if err != nil {
		return nil, err
	}
	f := fields(b)
	m := &sharesMessage{sealed: make([][]byte, n)}
	copy(m.commitment[:], f.next(len(m.commitment)))
	copy(m.signature[:], f.next(len(m.signature)))
	for i := range m.sealed {
		if i != from {
			m.sealed[i] = f.next(sealedSize)
		}
	}
	return m, nil
}

// sealedContext is the additional data of a sealed pair of shares: it opens only
// in this attempt, with this roster, from this sender to this recipient.
func (s *session) sealedContext(from, to int, commitment *digest) []byte {
	return transcript(labelSealed, s.ctx1[:], s.roster[from].id[:], s.roster[to].id[:],
		s.keys[from][:], s.keys[to][:], commitment[:])
}

// leaf is what a sender's signature says about one recipient.
func (s *session) leaf(from, to int, sealed []byte, commitment *digest) digest {
	return hash(labelLeaf, s.ctx1[:], s.roster[from].id[:], s.roster[to].id[:], sealed, commitment[:])
}

// leaves is the tree over all recipients; the sender's own leaf is zero.
func (s *session) leaves(from int, m *sharesMessage) tree {
	leaves := make([]digest, len(s.roster))
	for to, sealed := range m.sealed {
		if to != from {
			leaves[to] = s.leaf(from, to, sealed, &m.commitment)
		}
	}
	return newTree(leaves)
}

// sharesSigned is what the signature of a Share message is over.
func (s *session) sharesSigned(from int, commitment, root *digest) []byte {
	return transcript(labelShares, s.ctx1[:], s.roster[from].id[:], commitment[:], root[:])
}

func (s *session) verifyShares(from int, commitment, root *digest, signature []byte) error {
	if !ed25519.Verify(s.roster[from].key[:], s.sharesSigned(from, commitment, root), signature) {
		return &PeerError{s.roster[from].id, fmt.Errorf("%w: the shares are not signed by their sender for this attempt, roster and recipient", ErrForged)}
	}
	return nil
}

// inboxEntry is what one other member sealed for the recipient.
type inboxEntry struct {
	commitment digest
	signature  [ed25519.SignatureSize]byte
	sealed     []byte
	path       []byte
}

func inboxEntrySize(n int) int {
	return len(digest{}) + ed25519.SignatureSize + sealedSize + depth(n)*len(digest{})
}

func (e *inboxEntry) append(b []byte) []byte {
	b = append(b, e.commitment[:]...)
	b = append(b, e.signature[:]...)
	b = append(b, e.sealed...)
	return append(b, e.path...)
}

// inbox is who shared, the recipient among them, and an entry for each of the
// others by roster place.
type inbox struct {
	shared  bitmap
	entries []*inboxEntry
}

// decodeInbox takes the inbox of the member at place self in a roster of n. The
// result holds on to msg.
func decodeInbox(msg []byte, n, self int) (*inbox, error) {
	if err := checkHeader(kindInbox, msg); err != nil {
		return nil, err
	}
	b := msg[headerSize:]
	if len(b) < bitmapSize(n) {
		return nil, fmt.Errorf("%w: inbox of %d bytes, want a bitmap of %d members", ErrMalformed, len(msg), n)
	}
	shared, err := decodeBitmap(b[:bitmapSize(n)], n)
	if err != nil {
		return nil, err
	}
	if !shared.has(self) {
		return nil, fmt.Errorf("%w: the inbox says that this device did not share", ErrRefused)
	}
	places := shared.places()
	f := fields(b[bitmapSize(n):])
	if len(f) != (len(places)-1)*inboxEntrySize(n) {
		return nil, fmt.Errorf("%w: inbox of %d bytes for %d senders, want %d", ErrMalformed,
			len(msg), len(places)-1, headerSize+bitmapSize(n)+(len(places)-1)*inboxEntrySize(n))
	}
	in := &inbox{shared: shared, entries: make([]*inboxEntry, n)}
	for _, i := range places {
		if i == self {
			continue
		}
		e := &inboxEntry{}
		copy(e.commitment[:], f.next(len(e.commitment)))
		copy(e.signature[:], f.next(len(e.signature)))
		e.sealed = f.next(sealedSize)
		e.path = f.next(depth(n) * len(digest{}))
		in.entries[i] = e
	}
	return in, nil
}
