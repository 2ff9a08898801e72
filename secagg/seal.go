package secagg

import (
	"fmt"
	"io"

	"github.com/cloudflare/circl/dh/x25519"
	"github.com/cloudflare/circl/hpke"
	"github.com/cloudflare/circl/kem"
)

// Shares travel sealed by HPKE (RFC 9180) in base mode, one context per message:
// DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM. Base mode says nothing
// about the sender; the signature over the leaves does (see leaf).

const (
	kemID        = hpke.KEM_X25519_HKDF_SHA256
	encapsulated = 32
	sharePair    = 2 * scalarSize // share of σ ‖ share of b
	sealedSize   = encapsulated + sharePair + 16
)

var suite = hpke.NewSuite(kemID, hpke.KDF_HKDF_SHA256, hpke.AEAD_AES256GCM)

// seal encrypts plain to the holder of the channel key: enc ‖ ciphertext.
func seal(to *x25519.Key, aad, plain []byte, rand io.Reader) ([]byte, error) {
	pk, err := kemID.Scheme().UnmarshalBinaryPublicKey(to[:])
	if err != nil {
		return nil, fmt.Errorf("%w: channel key: %w", ErrBadKey, err)
	}
	sender, err := suite.NewSender(pk, []byte(labelSeal))
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
type opener struct{ key kem.PrivateKey }

func newOpener(k *keyPair) (*opener, error) {
	sk, err := kemID.Scheme().UnmarshalBinaryPrivateKey(k.secret[:])
	if err != nil {
		return nil, fmt.Errorf("secagg: channel key: %w", err)
	}
	return &opener{sk}, nil
}

func (o *opener) open(sealed, aad []byte) ([]byte, error) {
	receiver, err := suite.NewReceiver(o.key, []byte(labelSeal))
	if err != nil {
		return nil, fmt.Errorf("secagg: opening: %w", err)
	}
	ctx, err := receiver.Setup(sealed[:encapsulated])
	if err != nil {
		return nil, fmt.Errorf("%w: sealed share: %w", ErrForged, err)
	}
	plain, err := ctx.Open(sealed[encapsulated:], aad)
	if err != nil {
		return nil, fmt.Errorf("%w: the sealed share does not open: %w", ErrForged, err)
	}
	return plain, nil
}
