package secagg

import (
	"crypto/sha256"
	"encoding/binary"
)

// Every hash and every signature of the protocol is over a transcript with one of
// these labels (labelSeal is the info of HPKE); no two purposes share one.
const (
	labelContext    = "discreet/secagg/v1/context"
	labelAdvert     = "discreet/secagg/v1/advert"
	labelAdvertHash = "discreet/secagg/v1/advert-hash"
	labelMember     = "discreet/secagg/v1/member"
	labelRoster     = "discreet/secagg/v1/roster"
	labelKeys       = "discreet/secagg/v1/keys"
	labelMaskKey    = "discreet/secagg/v1/mask-key"
	labelCommitment = "discreet/secagg/v1/commit-b"
	labelSeal       = "discreet/secagg/v1/seal"
	labelSealed     = "discreet/secagg/v1/sealed"
	labelLeaf       = "discreet/secagg/v1/leaf"
	labelNode       = "discreet/secagg/v1/node"
	labelShares     = "discreet/secagg/v1/shares"
	labelSelf       = "discreet/secagg/v1/self-mask"
	labelPair       = "discreet/secagg/v1/pair-mask"
	labelSurvivors  = "discreet/secagg/v1/survivors"
)

// digest is a SHA-256 value.
type digest = [sha256.Size]byte

// transcript is an injective encoding of a label and fields: each is preceded by
// its length in four bytes, big-endian, so that no byte can move from one field to
// the next without changing the whole.
func transcript(label string, fields ...[]byte) []byte {
	size := 4 + len(label)
	for _, f := range fields {
		size += 4 + len(f)
	}
	b := make([]byte, 0, size)
	b = binary.BigEndian.AppendUint32(b, uint32(len(label)))
	b = append(b, label...)
	for _, f := range fields {
		b = binary.BigEndian.AppendUint32(b, uint32(len(f)))
		b = append(b, f...)
	}
	return b
}

// hash is SHA-256 of the transcript. The transcript is wiped, as some carry
// secrets.
func hash(label string, fields ...[]byte) digest {
	b := transcript(label, fields...)
	sum := sha256.Sum256(b)
	clear(b)
	return sum
}
