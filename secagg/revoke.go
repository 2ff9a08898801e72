package secagg

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"slices"
)

const labelRevoked = "discreet/revoked/v1"

// MaxRevoked is how many devices a revocation list names at most. A list of them has
// 3.2 MB, which fits into one message of the wire.
const MaxRevoked = 200_000

// A list is the magic, whose last byte is the format's version, u64 version, u32
// count, the ids, and the signature. Integers are big-endian.
const (
	revokedMagic  = "DRL\x01"
	revokedHeader = len(revokedMagic) + 8 + 4
	idSize        = len(ID{})
)

// RevocationList names the devices that the enrolment authority has put out of the
// federation. A newer list has a higher version; it holds everybody who is out, not
// only who was added.
type RevocationList struct {
	Version uint64 // from 1
	Revoked []ID   // ascending and distinct where the list came from VerifyRevocations
}

// Sign returns the list as the authority publishes it: the ids ascending, each once,
// with the authority's Ed25519 signature over "discreet/revoked/v1" ‖ all before it.
// [ErrParams] for version 0, more than [MaxRevoked] devices or a key that is none.
func (l *RevocationList) Sign(ca ed25519.PrivateKey) ([]byte, error) {
	ids := slices.Clone(l.Revoked)
	slices.SortFunc(ids, compareIDs)
	ids = slices.Compact(ids)
	switch {
	case len(ca) != ed25519.PrivateKeySize:
		return nil, fmt.Errorf("%w: the authority's Ed25519 private key has %d bytes, want %d", ErrParams, len(ca), ed25519.PrivateKeySize)
	case l.Version == 0:
		return nil, fmt.Errorf("%w: a revocation list of version 0, want 1 or more", ErrParams)
	case len(ids) > MaxRevoked:
		return nil, fmt.Errorf("%w: a revocation list of %d devices, want at most %d; set up a new authority", ErrParams, len(ids), MaxRevoked)
	}
	list := make([]byte, 0, revokedHeader+len(ids)*idSize+ed25519.SignatureSize)
	list = append(list, revokedMagic...)
	list = binary.BigEndian.AppendUint64(list, l.Version)
	list = binary.BigEndian.AppendUint32(list, uint32(len(ids)))
	for _, id := range ids {
		list = append(list, id[:]...)
	}
	return append(list, ed25519.Sign(ca, revokedMessage(list))...), nil
}

// VerifyRevocations reads a list that the authority whose public key is ca has signed.
// [ErrMalformed] for bytes that are not the one encoding of a list, [ErrForged] for a
// signature that is not the authority's.
func VerifyRevocations(ca ed25519.PublicKey, list []byte) (*RevocationList, error) {
	if len(ca) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("%w: the authority's Ed25519 public key has %d bytes, want %d", ErrMalformed, len(ca), ed25519.PublicKeySize)
	}
	if least := revokedHeader + ed25519.SignatureSize; len(list) < least || len(list) > least+MaxRevoked*idSize {
		return nil, fmt.Errorf("%w: a revocation list of %d bytes, want %d to %d", ErrMalformed, len(list), least, least+MaxRevoked*idSize)
	}
	if !bytes.HasPrefix(list, []byte(revokedMagic)) {
		return nil, fmt.Errorf("%w: a revocation list begins with %q, got %q", ErrMalformed, revokedMagic, list[:len(revokedMagic)])
	}
	signed, signature := list[:len(list)-ed25519.SignatureSize], list[len(list)-ed25519.SignatureSize:]
	l := &RevocationList{Version: binary.BigEndian.Uint64(signed[len(revokedMagic):])}
	count, ids := binary.BigEndian.Uint32(signed[revokedHeader-4:]), signed[revokedHeader:]
	if l.Version == 0 || uint64(count)*uint64(idSize) != uint64(len(ids)) {
		return nil, fmt.Errorf("%w: a revocation list of version %d with %d bytes for %d devices, want a version from 1 and %d bytes a device",
			ErrMalformed, l.Version, len(ids), count, idSize)
	}
	if !ed25519.Verify(ca, revokedMessage(signed), signature) {
		return nil, fmt.Errorf("%w: the revocation list was not signed by the authority pinned here", ErrForged)
	}
	l.Revoked = make([]ID, count)
	for i := range l.Revoked {
		l.Revoked[i] = ID(ids[i*idSize:])
		if i > 0 && compareIDs(l.Revoked[i-1], l.Revoked[i]) >= 0 {
			return nil, fmt.Errorf("%w: device %v of a revocation list comes after %v, want ascending ids, each once", ErrMalformed, l.Revoked[i], l.Revoked[i-1])
		}
	}
	return l, nil
}

// Has tells whether a device is out. A nil list has nobody; one that was not verified
// has to be ascending.
func (l *RevocationList) Has(id ID) bool {
	if l == nil {
		return false
	}
	_, found := slices.BinarySearchFunc(l.Revoked, id, compareIDs)
	return found
}

// Missing returns those of an earlier list who are not on this one, nil for none. A
// list that lets anybody in again is none that an authority publishes. Both are nil or
// verified.
func (l *RevocationList) Missing(earlier *RevocationList) []ID {
	if earlier == nil {
		return nil
	}
	var missing []ID
	for _, id := range earlier.Revoked {
		if !l.Has(id) {
			missing = append(missing, id)
		}
	}
	return missing
}

func compareIDs(a, b ID) int { return bytes.Compare(a[:], b[:]) }

func revokedMessage(list []byte) []byte {
	return slices.Concat([]byte(labelRevoked), list)
}
