package secagg

import (
	"cmp"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"slices"

	"github.com/cloudflare/circl/hpke"
	"github.com/cloudflare/circl/kem"
)

// Shares travel sealed by HPKE (RFC 9180) in base mode, one context per message:
// X-Wing or DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM. Base mode says
// nothing about the sender; the signature over the leaves does (see leaf). circl's
// HPKE would do all of it in one call, between whose KEM and key schedule nothing can
// clear the registers (see clearUpper); the standard library's takes no coins.

const (
	sharePair = 2 * scalarSize // share of σ ‖ share of b
	sealTag   = 16
)

func (x KeyExchange) kem() hpke.KEM {
	if x == Classical {
		return hpke.KEM_X25519_HKDF_SHA256
	}
	return hpke.KEM_XWING
}

// encapsulated is the key that a sealed message begins with.
func (x KeyExchange) encapsulated(sealed []byte) []byte {
	return sealed[:x.sizes().sealed-sharePair-sealTag]
}

// The other two algorithms of the suite (RFC 9180, section 7).
const (
	kdfHKDFSHA256 = 0x0001
	aeadAES256GCM = 0x0002
	hpkeKeySize   = 32
	hpkeNonceSize = 12
)

// aead is HPKE's key schedule in base mode (RFC 9180, section 5.1) for a single message: the AEAD and the nonce that
// a secret of the KEM gives.
func (x KeyExchange) aead(secret []byte) (aead cipher.AEAD, nonce []byte, err error) {
	suite := binary.BigEndian.AppendUint16([]byte("HPKE"), uint16(x.kem()))
	suite = binary.BigEndian.AppendUint16(suite, kdfHKDFSHA256)
	suite = binary.BigEndian.AppendUint16(suite, aeadAES256GCM)
	labeled := func(label string, more []byte) []byte {
		return slices.Concat([]byte("HPKE-v1"), suite, []byte(label), more)
	}
	extract := func(salt []byte, label string, of []byte) []byte {
		input := labeled(label, of)
		defer clear(input)
		key, failed := hkdf.Extract(sha256.New, input, salt)
		err = cmp.Or(err, failed)
		return key
	}
	context := slices.Concat([]byte{0}, extract(nil, "psk_id_hash", nil), extract(nil, "info_hash", []byte(labelSeal)))
	prk := extract(secret, "secret", nil)
	defer clear(prk)
	expand := func(label string, size int) []byte {
		info := append(binary.BigEndian.AppendUint16(nil, uint16(size)), labeled(label, context)...)
		out, failed := hkdf.Expand(sha256.New, prk, string(info), size)
		err = cmp.Or(err, failed)
		return out
	}
	key, nonce := expand("key", hpkeKeySize), expand("base_nonce", hpkeNonceSize)
	defer clear(key)
	if err != nil {
		return nil, nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, nil, err
	}
	aead, err = cipher.NewGCM(block)
	return aead, nonce, err
}

// channelKey is the key to which others seal shares. It has nothing to do with σ:
// revealing σ must not open what was sealed.
type channelKey struct {
	exchange KeyExchange
	secret   []byte
	public   []byte
}

const channelSecretSize = 32 // of both exchanges

func newChannelKey(x KeyExchange, rand io.Reader) (*channelKey, error) {
	secret := make([]byte, channelSecretSize)
	if _, err := io.ReadFull(rand, secret); err != nil {
		return nil, fmt.Errorf("secagg: reading randomness for the channel key: %w", err)
	}
	sk, err := x.kem().Scheme().UnmarshalBinaryPrivateKey(secret)
	clearUpper()
	if err != nil {
		return nil, fmt.Errorf("secagg: channel key: %w", err)
	}
	public, err := sk.Public().MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("secagg: channel key: %w", err)
	}
	return &channelKey{exchange: x, secret: secret, public: public}, nil
}

func (k *channelKey) wipe() { clear(k.secret) }

// seal encrypts plain to the holder of the channel key: enc ‖ ciphertext.
func (x KeyExchange) seal(to, aad, plain []byte, rand io.Reader) ([]byte, error) {
	scheme := x.kem().Scheme()
	coins := make([]byte, scheme.EncapsulationSeedSize())
	defer clear(coins)
	if _, err := io.ReadFull(rand, coins); err != nil {
		return nil, fmt.Errorf("secagg: reading randomness for a seal: %w", err)
	}
	pk, err := scheme.UnmarshalBinaryPublicKey(to)
	if err != nil {
		return nil, fmt.Errorf("%w: channel key: %w", ErrBadKey, err)
	}
	enc, secret, err := scheme.EncapsulateDeterministically(pk, coins)
	clearUpper()
	if err != nil {
		return nil, fmt.Errorf("secagg: sealing: %w", err)
	}
	defer clear(secret)
	aead, nonce, err := x.aead(secret)
	if err != nil {
		return nil, fmt.Errorf("secagg: sealing: %w", err)
	}
	return aead.Seal(enc, nonce, plain, aad), nil
}

// opener opens what was sealed to one channel key.
type opener struct {
	exchange KeyExchange
	key      kem.PrivateKey
}

func (k *channelKey) opener() (*opener, error) {
	sk, err := k.exchange.kem().Scheme().UnmarshalBinaryPrivateKey(k.secret)
	clearUpper()
	if err != nil {
		return nil, fmt.Errorf("secagg: channel key: %w", err)
	}
	return &opener{k.exchange, sk}, nil
}

func (o *opener) open(sealed, aad []byte) ([]byte, error) {
	enc := o.exchange.encapsulated(sealed)
	if err := checkPublic(enc); err != nil {
		return nil, err
	}
	secret, err := o.exchange.kem().Scheme().Decapsulate(o.key, enc)
	clearUpper()
	if err != nil {
		return nil, fmt.Errorf("%w: sealed share: %w", ErrForged, err)
	}
	defer clear(secret)
	aead, nonce, err := o.exchange.aead(secret)
	if err != nil {
		return nil, fmt.Errorf("secagg: opening: %w", err)
	}
	plain, err := aead.Open(nil, nonce, sealed[len(enc):], aad)
	if err != nil {
		return nil, fmt.Errorf("%w: the sealed share does not open: %w", ErrForged, err)
	}
	return plain, nil
}

// copy is the key for the next step, where this one's is wiped.
func (k *channelKey) copy() *channelKey {
	return &channelKey{k.exchange, append([]byte(nil), k.secret...), k.public}
}
