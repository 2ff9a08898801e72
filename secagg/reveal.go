package secagg

import (
	"crypto/ed25519"
	"fmt"
)

// shown is what a device is told of the survivors: who they are, what its neighbours
// among them have pledged, and who has accused it.
type shown struct {
	alive       bitmap
	pledges     [][]byte // of the surviving neighbours, by place; on a sparse graph
	accusations []accusation
}

func (v *shown) encode() []byte {
	size := len(v.alive) + len(v.pledges)*signatureSize + 2 + len(v.accusations)*accusationSize
	b := append(message(kindSurvivors, size), v.alive...)
	for _, g := range v.pledges {
		b = append(b, g...)
	}
	return appendAccusations(b, v.accusations)
}

// decodeSurvivors takes the survivors as the member at place self is shown them. The
// result holds on to msg.
func (s *session) decodeSurvivors(msg []byte, self int) (*shown, error) {
	if err := checkHeader(kindSurvivors, msg); err != nil {
		return nil, err
	}
	n, f := len(s.members), fields(msg[headerSize:])
	if err := f.atLeast(kindSurvivors, bitmapSize(n)); err != nil {
		return nil, err
	}
	v := &shown{}
	var err error
	if v.alive, err = decodeBitmap(f.next(bitmapSize(n)), n); err != nil {
		return nil, err
	}
	if s.sparse() {
		beside := len(s.beside(self, v.alive))
		if err := f.atLeast(kindSurvivors, beside*s.pledgeSize()); err != nil {
			return nil, err
		}
		for range beside {
			v.pledges = append(v.pledges, f.next(s.pledgeSize()))
		}
	}
	v.accusations, err = f.takeAccusations(kindSurvivors, n)
	return v, err
}

// confirmSize is the body's length of a confirm with so many seeds.
func confirmSize(seeds int) int { return signatureSize + seeds*len(digest{}) }

// A quorum is who signed a set of survivors, and their signatures.

func encodeQuorum(signers bitmap, signatures map[int][]byte) []byte {
	places := signers.places()
	b := append(message(kindQuorum, len(signers)+len(places)*ed25519.SignatureSize), signers...)
	for _, p := range places {
		b = append(b, signatures[p]...)
	}
	return b
}

// checkQuorum tells whether enough members signed the survivors.
func (s *session) checkQuorum(msg []byte, sharers, survivors bitmap) error {
	if err := checkHeader(kindQuorum, msg); err != nil {
		return err
	}
	n := len(s.members)
	f := fields(msg[headerSize:])
	if err := f.atLeast(kindQuorum, bitmapSize(n)); err != nil {
		return err
	}
	signers, err := decodeBitmap(f.next(bitmapSize(n)), n)
	if err != nil {
		return err
	}
	places := signers.places()
	if err := f.exactly(kindQuorum, len(places)*ed25519.SignatureSize); err != nil {
		return err
	}
	if len(places) < s.quorum {
		return fmt.Errorf("%w: %d of %d members signed these survivors, want at least %d: the server may have shown others another set",
			ErrTooFew, len(places), n, s.quorum)
	}
	signed := s.confirmSigned(sharers, survivors)
	for _, p := range places {
		if !s.verify(p, signed, f.next(ed25519.SignatureSize)) {
			return s.blame(p, fmt.Errorf("%w: the quorum holds a signature that is not this member's under these survivors", ErrForged))
		}
	}
	return nil
}

// A reveal holds, for every member whose share the device has and in roster order, one
// share: of its b where it survived and of its σ where it did not. There is no room for
// both. Behind it stands the seed of the mask between the two where the member did not
// survive, and a share of its secret of the level reached where it did and there is one.

// revealSize is the body's length for shares, seeds and shares of levels of those numbers.
func revealSize(shares, seeds, levels int) int {
	return len(digest{}) + (shares+levels)*scalarSize + seeds*len(digest{})
}
