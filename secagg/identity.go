package secagg

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

const (
	labelDevice     = "discreet/device/v1"
	labelCredential = "discreet/credential/v1"
)

// ID names a device: the head of a hash of its Ed25519 public key.
type ID [16]byte

// String is the ID in hexadecimal.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// DeviceID is SHA-256("discreet/device/v1" ‖ pub)[:16].
func DeviceID(pub ed25519.PublicKey) ID {
	h := sha256.New()
	h.Write([]byte(labelDevice))
	h.Write(pub)
	return ID(h.Sum(nil)[:len(ID{})])
}

// Signer is what proves to the other devices who a device is: its Ed25519 key
// and the credential that the enrolment authority issued for it.
type Signer struct {
	Key        ed25519.PrivateKey
	Credential []byte
}

// Certify makes the 64-byte credential of a device: the authority's Ed25519
// signature over "discreet/credential/v1" ‖ device. It panics when ca is not a
// private key of 64 bytes.
func Certify(ca ed25519.PrivateKey, device ed25519.PublicKey) []byte {
	return ed25519.Sign(ca, credentialMessage(device))
}

// VerifyCredential tells whether credential was issued for the device's public
// key by the authority whose public key is ca.
func VerifyCredential(ca, device ed25519.PublicKey, credential []byte) error {
	if len(ca) != ed25519.PublicKeySize || len(device) != ed25519.PublicKeySize {
		return fmt.Errorf("%w: Ed25519 public keys have %d bytes, got %d for the authority and %d for the device",
			ErrMalformed, ed25519.PublicKeySize, len(ca), len(device))
	}
	if len(credential) != ed25519.SignatureSize {
		return fmt.Errorf("%w: a credential has %d bytes, got %d", ErrMalformed, ed25519.SignatureSize, len(credential))
	}
	if !ed25519.Verify(ca, credentialMessage(device), credential) {
		return fmt.Errorf("%w: the credential was not issued for this device by the authority pinned here; enrol with that authority", ErrForged)
	}
	return nil
}

func credentialMessage(device []byte) []byte {
	return append([]byte(labelCredential), device...)
}

// check tells whether the signer can sign, before an attempt begins.
func (s *Signer) check(ca ed25519.PublicKey) error {
	if len(s.Key) != ed25519.PrivateKeySize {
		return fmt.Errorf("%w: the device's Ed25519 private key has %d bytes, want %d", ErrParams, len(s.Key), ed25519.PrivateKeySize)
	}
	return VerifyCredential(ca, s.public(), s.Credential)
}

func (s *Signer) public() ed25519.PublicKey {
	return ed25519.PublicKey(s.Key[ed25519.PublicKeySize:])
}

func (s *Signer) sign(message []byte) []byte {
	return ed25519.Sign(s.Key, message)
}
