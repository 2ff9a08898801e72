package secagg

import (
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
)

// reason says what was wrong with a dealing that its sender had signed.
type reason byte

const (
	unopened     reason = iota + 1 // the seal does not open, or its point is of low order
	notScalars                     // what was sealed is not two scalars
	uncommitted                    // a share does not match its commitment
	badPair                        // the ciphertext does not give the seed that was committed to
	reasonsAbove                   // one more than the last
)

func (r reason) String() string {
	if r < unopened || r >= reasonsAbove {
		return fmt.Sprintf("reason %d", byte(r))
	}
	return [...]string{"", "the sealed shares do not open", "what was sealed is not two scalars",
		"a share does not match its commitment", "the ciphertext does not give the mask's seed that was committed to"}[r]
}

// accusation is one member's signed word that another dealt badly to it.
type accusation struct {
	place     int // of the accused in a complaint, of the accuser in a survivors message
	reason    reason
	signature [ed25519.SignatureSize]byte
}

const accusationSize = 2 + 1 + ed25519.SignatureSize

func (c *accusation) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(c.place))
	b = append(b, byte(c.reason))
	return append(b, c.signature[:]...)
}

// takeAccusations takes a count, and as many accusations with ascending places of a
// roster of n, which are all that is left of f.
func (f fields) takeAccusations(k kind, n int) ([]accusation, error) {
	if err := f.atLeast(k, 2); err != nil {
		return nil, err
	}
	count := int(binary.BigEndian.Uint16(f.next(2)))
	if err := f.exactly(k, count*accusationSize); err != nil {
		return nil, err
	}
	list := make([]accusation, count)
	for i := range list {
		c := &list[i]
		c.place = int(binary.BigEndian.Uint16(f.next(2)))
		c.reason = reason(f.next(1)[0])
		copy(c.signature[:], f.next(len(c.signature)))
		if c.place >= n || i > 0 && c.place <= list[i-1].place || c.reason < unopened || c.reason >= reasonsAbove {
			return nil, fmt.Errorf("%w: accusation %d is of place %d of %d with %v", ErrMalformed, i, c.place, n, c.reason)
		}
	}
	return list, nil
}

func appendAccusations(b []byte, list []accusation) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(list)))
	for i := range list {
		b = list[i].append(b)
	}
	return b
}

// complaint is what a device says of its inbox before it sends its vector.
type complaint struct {
	pledge      []byte       // on a sparse graph
	accusations []accusation // by the place of the accused
}

func (c *complaint) encode() []byte {
	b := append(message(kindComplaint, len(c.pledge)+2+len(c.accusations)*accusationSize), c.pledge...)
	return appendAccusations(b, c.accusations)
}

func (s *session) decodeComplaint(msg []byte) (*complaint, error) {
	if err := checkHeader(kindComplaint, msg); err != nil {
		return nil, err
	}
	f := fields(msg[headerSize:])
	if err := f.atLeast(kindComplaint, s.pledgeSize()); err != nil {
		return nil, err
	}
	c := &complaint{pledge: f.next(s.pledgeSize())}
	var err error
	c.accusations, err = f.takeAccusations(kindComplaint, len(s.members))
	return c, err
}

// complaintSigned is what an accusation's signature is over.
func (s *session) complaintSigned(accuser, accused int, r reason) []byte {
	return transcript(labelComplaint, s.ctx1[:], s.members[accuser].id[:], s.members[accused].id[:], []byte{byte(r)})
}
