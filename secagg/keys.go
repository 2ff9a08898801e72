package secagg

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/cloudflare/circl/dh/x25519"
	"github.com/cloudflare/circl/group"
	"github.com/cloudflare/circl/kem/xwing"
)

// sizes are the lengths that depend on the key exchange. An X-Wing key and
// ciphertext end with those of X25519.
type sizes struct {
	public     int // of a channel or mask key
	ciphertext int // of the mask KEM; without one both ends use their static keys
	sealed     int // of a sealed pair of shares, without those of levels
}

func (x KeyExchange) sizes() sizes {
	if x == Classical {
		return sizes{public: x25519.Size, sealed: x25519.Size + sharePair + sealTag}
	}
	return sizes{
		public: xwing.PublicKeySize, ciphertext: xwing.CiphertextSize,
		sealed: xwing.CiphertextSize + sharePair + sealTag,
	}
}

// maskKey is a device's key pair for mask agreement, all of it derived from the
// shared scalar σ: the shares of σ give a vanished device's key back, and with it
// what it encapsulated to others, and what comes back can be checked against what it
// had advertised.
type maskKey struct {
	exchange KeyExchange
	seed     digest // H(σ): everything else follows from it
	public   []byte
	dh       x25519.Key        // classical: the secret key
	kem      *xwing.PrivateKey // hybrid
}

func newMaskKey(x KeyExchange, ctx0 *digest, sigma group.Scalar) *maskKey {
	s := encodeScalar(sigma)
	defer clear(s[:])
	k := &maskKey{exchange: x, seed: hash(labelSigma, ctx0[:], s[:])}
	secret := expand(&k.seed, []byte(labelMaskKey), xwing.SeedSize)
	defer clear(secret)
	if x == Classical {
		copy(k.dh[:], secret)
		var public x25519.Key
		x25519.KeyGen(&public, &k.dh)
		k.public = public[:]
		return k
	}
	sk, pk := xwing.DeriveKeyPair(secret)
	k.kem, k.public = sk, make([]byte, xwing.PublicKeySize)
	pk.Pack(k.public)
	clearUpper()
	return k
}

func (k *maskKey) wipe() {
	clear(k.seed[:])
	clear(k.dh[:])
	if k.kem != nil {
		*k.kem = xwing.PrivateKey{}
	}
}

// expand is HKDF-Expand with SHA-256.
func expand(key *digest, info []byte, size int) []byte {
	out, err := hkdf.Expand(sha256.New, key[:], string(info), size)
	if err != nil {
		panic(err) // the sizes are constants far below the limit
	}
	return out
}

// encapsulate makes the secret that this device shares with the member who has the
// given id and public mask key, and the ciphertext that gives it to that member. The
// same σ makes the same again.
func (k *maskKey) encapsulate(to ID, public []byte) (secret digest, ciphertext []byte, err error) {
	if k.exchange == Classical {
		secret, err = k.agree(public)
		return secret, nil, err
	}
	var pk xwing.PublicKey
	err = pk.Unpack(public)
	clearUpper()
	if err != nil {
		return digest{}, nil, fmt.Errorf("%w: mask key: %w", ErrBadKey, err)
	}
	h := hash(labelMaskPublic, public)
	coins := expand(&k.seed, transcript(labelCoins, to[:], h[:]), xwing.EncapsulationSeedSize)
	defer clear(coins)
	ciphertext = make([]byte, xwing.CiphertextSize)
	pk.EncapsulateTo(ciphertext, secret[:], coins)
	clearUpper()
	return secret, ciphertext, nil
}

// decapsulate is the other end of encapsulate.
func (k *maskKey) decapsulate(public, ciphertext []byte) (secret digest, err error) {
	if k.exchange == Classical {
		return k.agree(public)
	}
	if err := checkPublic(ciphertext); err != nil {
		return digest{}, err
	}
	k.kem.DecapsulateTo(secret[:], ciphertext)
	clearUpper()
	return secret, nil
}

func (k *maskKey) agree(public []byte) (digest, error) {
	var shared, theirs x25519.Key
	copy(theirs[:], public)
	if !x25519.Shared(&shared, &k.dh, &theirs) {
		return digest{}, fmt.Errorf("%w: X25519 gave zero", ErrBadKey)
	}
	return digest(shared), nil
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

// checkPublic refuses a public key or ciphertext whose last 32 bytes, its X25519
// part, are not the canonical encoding of a field element (two encodings of one key
// would pass for two keys) or are of low order, with which the agreement gives zero.
func checkPublic(b []byte) error {
	point := b[len(b)-x25519.Size:]
	if !lessLittleEndian(point, fieldPrimeBytes) {
		return fmt.Errorf("%w: X25519 key is not below 2^255−19", ErrBadKey)
	}
	for _, p := range lowOrderPoints {
		if bytes.Equal(p, point) {
			return fmt.Errorf("%w: X25519 key of low order", ErrBadKey)
		}
	}
	return nil
}

// checkKey refuses a public key that the exchange cannot use.
func (x KeyExchange) checkKey(b []byte) error {
	if err := checkPublic(b); err != nil || x == Classical {
		return err
	}
	if !coefficientsBelowQ(b) {
		return fmt.Errorf("%w: ML-KEM-768 part: a coefficient is not below %d", ErrBadKey, kemQ)
	}
	return nil
}

// The head of an X-Wing key is ML-KEM-768's: three polynomials of 256 coefficients
// modulo q, 12 bits each.
const (
	kemQ               = 3329
	kemPolynomialsSize = 3 * 256 * 12 / 8
)

// coefficientsBelowQ is ML-KEM's check of an encapsulation key (FIPS 203, section 7.2).
// Unpacking the key makes it as well, and a matrix that a check has no use for.
func coefficientsBelowQ(key []byte) bool {
	for b := key[:kemPolynomialsSize]; len(b) >= 3; b = b[3:] {
		pair := uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16
		if pair&0xfff >= kemQ || pair>>12 >= kemQ {
			return false
		}
	}
	return true
}

func lessLittleEndian(a, b []byte) bool {
	for i := len(a) - 1; i >= 0; i-- {
		if a[i] != b[i] {
			return a[i] < b[i]
		}
	}
	return false
}

// selfSeed is the AES-256 key of a device's own mask.
func selfSeed(ctx1 *digest, b group.Scalar) digest {
	s := encodeScalar(b)
	defer clear(s[:])
	return hash(labelSelf, ctx1[:], s[:])
}

// commitB is com_b: it binds the dealer to b and, b being a uniform scalar, hides it.
func commitB(ctx1 *digest, b group.Scalar) digest {
	s := encodeScalar(b)
	defer clear(s[:])
	return hash(labelCommitB, ctx1[:], s[:])
}

// The two secrets that every member shares out. Those of levels are 1, 2, ….
const (
	shareOfB     byte = 'b'
	shareOfSigma byte = 's'
)

// commitShare binds a dealer to the share of one of its secrets that a member holds.
// It needs no salt: whoever has fewer than the threshold of shares knows nothing of
// another, which is a uniform scalar to it.
func (s *session) commitShare(dealer, holder int, secret byte, share *[scalarSize]byte) digest {
	return hash(labelCommitShare, s.ctx1[:], s.members[dealer].id[:], s.members[holder].id[:], []byte{secret}, share[:])
}

// pairSeed is the AES-256 key of the mask between two neighbours, of whom from
// encapsulated to to. from adds the mask and to subtracts it.
func (s *session) pairSeed(from, to int, ciphertext *digest, secret *digest) digest {
	a, b := s.members[from], s.members[to]
	ha, hb := s.maskPublic(from), s.maskPublic(to)
	return hash(labelPair, s.ctx1[:], a.id[:], b.id[:], ha[:], hb[:], s.optional(ciphertext), secret[:])
}

// commitPair binds the two to that seed.
func (s *session) commitPair(from, to int, seed *digest) digest {
	return hash(labelCommitPair, s.ctx1[:], s.members[from].id[:], s.members[to].id[:], seed[:])
}

// optional is a ciphertext's hash as a field of a transcript, empty where the
// exchange has no ciphertexts.
func (s *session) optional(ciphertext *digest) []byte {
	if s.params.Keys == Classical || ciphertext == nil {
		return nil
	}
	return ciphertext[:]
}

func ciphertextHash(ciphertext []byte) digest { return hash(labelCiphertext, ciphertext) }
