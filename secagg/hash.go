package secagg

import (
	"crypto/sha256"
	"encoding/binary"
)

// Every hash and every signature of the protocol is over a transcript with one of
// these labels (labelSeal is the info of HPKE); no two purposes share one.
const (
	labelContext     = "discreet/secagg/v2/context"
	labelNonce       = "discreet/secagg/v2/nonce"
	labelCheckIn     = "discreet/secagg/v2/check-in"
	labelCommitted   = "discreet/secagg/v2/committed"
	labelOpened      = "discreet/secagg/v2/opened"
	labelCohorts     = "discreet/secagg/v2/cohorts"
	labelAdvert      = "discreet/secagg/v2/advert"
	labelAdvertHash  = "discreet/secagg/v2/advert-hash"
	labelMember      = "discreet/secagg/v2/member"
	labelRoster      = "discreet/secagg/v2/roster"
	labelGraph       = "discreet/secagg/v2/graph"
	labelCohort      = "discreet/secagg/v2/cohort"
	labelKeys        = "discreet/secagg/v2/keys"
	labelSigma       = "discreet/secagg/v2/sigma"
	labelMaskKey     = "discreet/secagg/v2/mask-key"
	labelCoins       = "discreet/secagg/v2/coins"
	labelMaskPublic  = "discreet/secagg/v2/mask-public"
	labelCiphertext  = "discreet/secagg/v2/ciphertext"
	labelCommitB     = "discreet/secagg/v2/commit-b"
	labelCommitShare = "discreet/secagg/v2/commit-share"
	labelCommitPair  = "discreet/secagg/v2/commit-pair"
	labelCommitLevel = "discreet/secagg/v2/commit-level"
	labelLevelBelow  = "discreet/secagg/v2/level-below"
	labelLevelSeed   = "discreet/secagg/v2/level-seed"
	labelSeal        = "discreet/secagg/v2/seal"
	labelSealed      = "discreet/secagg/v2/sealed"
	labelLeaf        = "discreet/secagg/v2/leaf"
	labelNode        = "discreet/secagg/v2/node"
	labelShares      = "discreet/secagg/v2/shares"
	labelComplaint   = "discreet/secagg/v2/complaint"
	labelSharers     = "discreet/secagg/v2/sharers"
	labelSelf        = "discreet/secagg/v2/self-mask"
	labelPair        = "discreet/secagg/v2/pair-mask"
	labelSurvivors   = "discreet/secagg/v2/survivors"
	labelConfirm     = "discreet/secagg/v2/confirm"
)

// digest is a SHA-256 value.
type digest = [sha256.Size]byte

// transcript is an injective encoding of a label and fields: each is preceded by
// its length in four bytes, big-endian, so that no byte can move from one field to
// the next without changing the whole.
func transcript(label string, fields ...[]byte) []byte {
	return appendTranscript(make([]byte, 0, transcriptSize(label, fields)), label, fields)
}

func transcriptSize(label string, fields [][]byte) int {
	size := 4 + len(label)
	for _, f := range fields {
		size += 4 + len(f)
	}
	return size
}

func appendTranscript(b []byte, label string, fields [][]byte) []byte {
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
	var short [256]byte // most of them have room in it, which costs no allocation
	b := short[:0]
	if size := transcriptSize(label, fields); size > len(short) {
		b = make([]byte, 0, size) // at once: growing would leave bytes behind
	}
	b = appendTranscript(b, label, fields)
	sum := sha256.Sum256(b)
	clear(b)
	return sum
}

// u32 is the big-endian bytes of a count or a place.
func u32(n int) []byte { return binary.BigEndian.AppendUint32(nil, uint32(n)) }
