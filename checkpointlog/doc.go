// Package checkpointlog is the signed, append-only log of a task's checkpoints: what
// is in it, how its head is signed, and how anybody who holds the enrolment
// authority's public key checks that a checkpoint is in it and that it only grew.
//
// A log is a list of entries ([Entry]), one for each checkpoint that a coordinator
// committed, over which stands the Merkle tree of RFC 6962 (golang.org/x/mod/sumdb/tlog).
// The coordinator signs the tree's size and root with its log key ([SignHead]), which
// the authority has certified ([CertifyKey]).
//
// A device begins with [VerifyKey] and [VerifyHead], then [VerifyInclusion] of its
// checkpoint's entry and [VerifyConsistency] with the head it verified last. An
// auditor begins with [VerifyAll], or with [DecodeFile] where the log was exported.
// The coordinator begins with [Append] and keeps the hashes it returns.
//
// # Formats
//
// An entry is eight lines of text, each ended by a line feed, numbers in decimal
// without leading zeros, hashes in lower-case hexadecimal:
//
//	discreet/checkpoint/v1
//	task support
//	round 12
//	checkpoint 5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef
//	bytes 1048576
//	previous c147efcfc2d7ea666a9e4f5187b115c90903f0fc896a56df9a6ef5d8f3fc9f31
//	survivors 8
//	committed 1700000000000
//
// A head is a note as C2SP's tlog-checkpoint has it, with one signature line, so that
// other tools for transparency logs can read it:
//
//	discreet/log/v1/<the authority's Ed25519 key in hexadecimal>/support
//	13
//	<root in base64>
//
//	— discreet/log/v1/…/support <base64 of key hash ‖ signature>
//
// The signature is Ed25519 over the three lines. The key hash is the head of
// SHA-256(origin ‖ "\n" ‖ 0x01 ‖ log key), four bytes. The log key's credential is the
// authority's Ed25519 signature over "discreet/log/v1" ‖ log key.
//
// Every decoder takes one encoding of a value and refuses every other.
package checkpointlog

import "errors"

const (
	// MaxEntryBytes bounds an entry, MaxHeadBytes a signed head.
	MaxEntryBytes = 1024
	MaxHeadBytes  = 1024
	// MaxSize is the most entries of a log. The proofs of such a log have fewer than
	// MaxProof hashes.
	MaxSize  uint64 = 1 << 40
	MaxProof        = 64
	// MaxTaskBytes bounds a task's name.
	MaxTaskBytes = 64
)

var (
	// ErrMalformed is returned for bytes that are not the one encoding of a value.
	ErrMalformed = errors.New("malformed")
	// ErrForged is returned for a signature that is not the expected key's.
	ErrForged = errors.New("forged")
	// ErrNotProven is returned for an entry that is not in the log, for a log that
	// did not grow out of the earlier one, and for entries that are not a log.
	ErrNotProven = errors.New("not what the log's head says")
)
