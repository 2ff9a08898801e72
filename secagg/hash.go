package secagg

import (
	"crypto/sha256"
	"encoding/binary"
)

// Every hash and every signature of an attempt is over a transcript with one of
// these labels (labelSeal is the info of HPKE); no two purposes share one.
const (
	labelContext     = "discreet/secagg/v4/context"
	labelNonce       = "discreet/secagg/v4/nonce"
	labelCheckIn     = "discreet/secagg/v4/check-in"
	labelCommitted   = "discreet/secagg/v4/committed"
	labelOpened      = "discreet/secagg/v4/opened"
	labelCohorts     = "discreet/secagg/v4/cohorts"
	labelAdvert      = "discreet/secagg/v4/advert"
	labelAdvertHash  = "discreet/secagg/v4/advert-hash"
	labelMember      = "discreet/secagg/v4/member"
	labelRoster      = "discreet/secagg/v4/roster"
	labelGraph       = "discreet/secagg/v4/graph"
	labelCohort      = "discreet/secagg/v4/cohort"
	labelKeys        = "discreet/secagg/v4/keys"
	labelSigma       = "discreet/secagg/v4/sigma"
	labelMaskKey     = "discreet/secagg/v4/mask-key"
	labelCoins       = "discreet/secagg/v4/coins"
	labelMaskPublic  = "discreet/secagg/v4/mask-public"
	labelCiphertext  = "discreet/secagg/v4/ciphertext"
	labelCommitB     = "discreet/secagg/v4/commit-b"
	labelCommitShare = "discreet/secagg/v4/commit-share"
	labelCommitPair  = "discreet/secagg/v4/commit-pair"
	labelCommitLevel = "discreet/secagg/v4/commit-level"
	labelLevelBelow  = "discreet/secagg/v4/level-below"
	labelLevelSeed   = "discreet/secagg/v4/level-seed"
	labelSeal        = "discreet/secagg/v4/seal"
	labelSealed      = "discreet/secagg/v4/sealed"
	labelLeaf        = "discreet/secagg/v4/leaf"
	labelNode        = "discreet/secagg/v4/node"
	labelShares      = "discreet/secagg/v4/shares"
	labelComplaint   = "discreet/secagg/v4/complaint"
	labelSharers     = "discreet/secagg/v4/sharers"
	labelSelf        = "discreet/secagg/v4/self-mask"
	labelPair        = "discreet/secagg/v4/pair-mask"
	labelSurvivors   = "discreet/secagg/v4/survivors"
	labelConfirm     = "discreet/secagg/v4/confirm"
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
