package secagg

import (
	"fmt"
	"io"

	"github.com/cloudflare/circl/hpke"
	"github.com/cloudflare/circl/kem"
)

// Shares travel sealed by HPKE (RFC 9180) in base mode, one context per message:
// X-Wing or DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM. Base mode says
// nothing about the sender; the signature over the leaves does (see leaf).

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

func (x KeyExchange) suite() hpke.Suite {
	return hpke.NewSuite(x.kem(), hpke.KDF_HKDF_SHA256, hpke.AEAD_AES256GCM)
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
	pk, err := x.kem().Scheme().UnmarshalBinaryPublicKey(to)
	if err != nil {
		return nil, fmt.Errorf("%w: channel key: %w", ErrBadKey, err)
	}
	sender, err := x.suite().NewSender(pk, []byte(labelSeal))
	if err != nil {
		return nil, fmt.Errorf("secagg: sealing: %w", err)
	}
	enc, sealer, err := sender.Setup(rand)
	if err != nil {
		return nil, fmt.Errorf("secagg: sealing: %w", err)
	}
	ciphertext, err := sealer.Seal(plain, aad)
	if err != nil {
		return nil, fmt.Errorf("secagg: sealing: %w", err)
	}
	return append(enc, ciphertext...), nil
}

// opener opens what was sealed to one channel key.
type opener struct {
	exchange KeyExchange
	key      kem.PrivateKey
}

func (k *channelKey) opener() (*opener, error) {
	sk, err := k.exchange.kem().Scheme().UnmarshalBinaryPrivateKey(k.secret)
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
	receiver, err := o.exchange.suite().NewReceiver(o.key, []byte(labelSeal))
	if err != nil {
		return nil, fmt.Errorf("secagg: opening: %w", err)
	}
	ctx, err := receiver.Setup(enc)
	if err != nil {
		return nil, fmt.Errorf("%w: sealed share: %w", ErrForged, err)
	}
	plain, err := ctx.Open(sealed[len(enc):], aad)
	if err != nil {
		return nil, fmt.Errorf("%w: the sealed share does not open: %w", ErrForged, err)
	}
	return plain, nil
}

// copy is the key for the next step, where this one's is wiped.
func (k *channelKey) copy() *channelKey {
	return &channelKey{k.exchange, append([]byte(nil), k.secret...), k.public}
}
