package secagg

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"

	"github.com/cloudflare/circl/dh/x25519"
	"github.com/cloudflare/circl/group"
)

type keyPair struct{ public, secret x25519.Key }

func (k *keyPair) wipe() { clear(k.secret[:]) }

// newChannelKey draws the key to which others seal shares. It has nothing to do
// with σ: revealing σ must not open what was sealed.
func newChannelKey(rand io.Reader) (k keyPair, err error) {
	if _, err := io.ReadFull(rand, k.secret[:]); err != nil {
		return keyPair{}, fmt.Errorf("secagg: reading randomness for the channel key: %w", err)
	}
	x25519.KeyGen(&k.public, &k.secret)
	return k, nil
}

// maskKey derives the pair for mask agreement from the shared scalar σ, so that
// the shares of σ give a vanished device's masks back, and so that what comes back
// can be checked against the key it advertised.
func maskKey(ctx0 *digest, sigma group.Scalar) (k keyPair) {
	s := encodeScalar(sigma)
	k.secret = hash(labelMaskKey, ctx0[:], s[:])
	clear(s[:])
	x25519.KeyGen(&k.public, &k.secret)
	return k
}

// lowOrder lists the canonical u-coordinates with which X25519 gives zero for
// every secret.
var lowOrder = [...]string{
	"0000000000000000000000000000000000000000000000000000000000000000",
	"0100000000000000000000000000000000000000000000000000000000000000",
	"e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
	"5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
	"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
}

// fieldPrime is 2^255 − 19, little-endian.
const fieldPrime = "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"

var lowOrderPoints, fieldPrimeBytes = func() (points [][]byte, prime []byte) {
	for _, s := range lowOrder {
		points = append(points, mustHex(s))
	}
	return points, mustHex(fieldPrime)
}()

func mustHex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

// checkPoint refuses a public key that is not the canonical encoding of a field
// element (two encodings of one key would pass for two keys) or of low order.
func checkPoint(k *x25519.Key) error {
	if !lessLittleEndian(k[:], fieldPrimeBytes) {
		return fmt.Errorf("%w: X25519 key is not below 2^255−19", ErrBadKey)
	}
	for _, p := range lowOrderPoints {
		if bytes.Equal(p, k[:]) {
			return fmt.Errorf("%w: X25519 key of low order", ErrBadKey)
		}
	}
	return nil
}

func lessLittleEndian(a, b []byte) bool {
	for i := len(a) - 1; i >= 0; i-- {
		if a[i] != b[i] {
			return a[i] < b[i]
		}
	}
	return false
}

// pairSeed is the AES-256 key of the mask between the members at roster places lo
// and hi, from the mask secret of one and the public key of the other.
func pairSeed(s *session, lo, hi int, secret, public *x25519.Key) (digest, error) {
	var shared x25519.Key
	defer clear(shared[:])
	if !x25519.Shared(&shared, secret, public) {
		return digest{}, fmt.Errorf("%w: X25519 gave zero", ErrBadKey)
	}
	a, b := s.roster[lo], s.roster[hi]
	return hash(labelPair, s.ctx1[:], a.id[:], b.id[:], a.mask[:], b.mask[:], shared[:]), nil
}

// selfSeed is the AES-256 key of a device's own mask.
func selfSeed(ctx1 *digest, b group.Scalar) digest {
	s := encodeScalar(b)
	defer clear(s[:])
	return hash(labelSelf, ctx1[:], s[:])
}

// commitment is com_b: it binds the dealer to b and, b being a uniform scalar,
// hides it.
func commitment(ctx1 *digest, b group.Scalar) digest {
	s := encodeScalar(b)
	defer clear(s[:])
	return hash(labelCommitment, ctx1[:], s[:])
}
