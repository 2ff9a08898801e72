package secagg

import (
	"fmt"

	"github.com/cloudflare/circl/group"
)

// survivorsHash names a set of survivors in one attempt.
func (s *session) survivorsHash(survivors bitmap) digest {
	return hash(labelSurvivors, s.ctx1[:], survivors)
}

func encodeSurvivors(survivors bitmap) []byte {
	return append(message(kindSurvivors, len(survivors)), survivors...)
}

func decodeSurvivors(msg []byte, n int) (bitmap, error) {
	b, err := body(kindSurvivors, msg, bitmapSize(n))
	if err != nil {
		return nil, err
	}
	return decodeBitmap(b, n)
}

// A reveal holds, for every member that shared and in roster order, one scalar:
// the share of its b where it survived and the share of its σ where it did not.
// There is no room for both.

func revealSize(sharers int) int { return len(digest{}) + sharers*scalarSize }

func encodeReveal(survivors *digest, shares []group.Scalar) []byte {
	b := message(kindReveal, revealSize(len(shares)))
	b = append(b, survivors[:]...)
	for _, x := range shares {
		e := encodeScalar(x)
		b = append(b, e[:]...)
	}
	return b
}

func decodeReveal(msg []byte, survivors *digest, sharers int) ([]group.Scalar, error) {
	b, err := body(kindReveal, msg, revealSize(sharers))
	if err != nil {
		return nil, err
	}
	f := fields(b)
	if digest(f.next(len(digest{}))) != *survivors {
		return nil, fmt.Errorf("%w: the reveal is for other survivors or another attempt", ErrMalformed)
	}
	shares := make([]group.Scalar, sharers)
	for i := range shares {
		if shares[i], err = decodeScalar(f.next(scalarSize)); err != nil {
			return nil, err
		}
	}
	return shares, nil
}
