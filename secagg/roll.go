package secagg

import (
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
)

// The labels of rolls are not those of a version of the protocol: a roll outlives it.
const (
	labelRoll     = "discreet/roll/v1"
	labelRollLeaf = "discreet/roll/v1/leaf"
	labelRollNode = "discreet/roll/v1/node"
)

// MaxRoll is how many devices a roll holds at most. Their keys have 1 MiB, which fits into
// one message of the wire.
const MaxRoll = 32_768

// Roll is one signature of the enrolment authority by which it admits many devices. It
// says of each what its credential says, and lets a device check a cohort's members
// without a signature for each of them.
type Roll struct {
	Keys      []ed25519.PublicKey // of the devices, ascending by id and distinct
	Signature []byte              // 64 bytes

	once sync.Once
	ids  []ID // of the keys
	tree tree
}

// SignRoll makes the roll of devices whose keys are given in any order: the authority's
// Ed25519 signature over "discreet/roll/v1" ‖ u32 how many ‖ root of the tree of their
// keys. [ErrParams] for a key that is none, and for no device or more than [MaxRoll].
func SignRoll(ca ed25519.PrivateKey, devices []ed25519.PublicKey) (*Roll, error) {
	r := &Roll{Keys: slices.Clone(devices)}
	slices.SortFunc(r.Keys, func(a, b ed25519.PublicKey) int { return compareIDs(DeviceID(a), DeviceID(b)) })
	r.Keys = slices.CompactFunc(r.Keys, func(a, b ed25519.PublicKey) bool { return a.Equal(b) })
	if len(ca) != ed25519.PrivateKeySize {
		return nil, fmt.Errorf("%w: the authority's Ed25519 private key has %d bytes, want %d", ErrParams, len(ca), ed25519.PrivateKeySize)
	}
	if err := r.checkKeys(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrParams, err)
	}
	r.prepare()
	root := r.tree.root()
	r.Signature = ed25519.Sign(ca, rollMessage(len(r.Keys), &root))
	return r, nil
}

// SignRolls is an authority for Params.Rolls that signs one roll of each cohort.
func SignRolls(ca ed25519.PrivateKey) func(members []ed25519.PublicKey) []*Roll {
	return func(members []ed25519.PublicKey) []*Roll {
		r, err := SignRoll(ca, members)
		if err != nil {
			return nil // no members: their credentials do
		}
		return []*Roll{r}
	}
}

// Verify tells whether the authority whose public key is ca has signed the roll.
// [ErrMalformed] where it holds no devices, more than [MaxRoll], or not in their order,
// and [ErrForged] where the signature is not the authority's over just these.
func (r *Roll) Verify(ca ed25519.PublicKey) error {
	if len(ca) != ed25519.PublicKeySize || len(r.Signature) != ed25519.SignatureSize {
		return fmt.Errorf("%w: an authority's key of %d bytes and a roll's signature of %d, want %d and %d",
			ErrMalformed, len(ca), len(r.Signature), ed25519.PublicKeySize, ed25519.SignatureSize)
	}
	if err := r.checkKeys(); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	r.prepare()
	for i := range r.ids[1:] {
		if compareIDs(r.ids[i], r.ids[i+1]) >= 0 {
			return fmt.Errorf("%w: device %v of a roll comes after %v, want ascending ids, each once", ErrMalformed, r.ids[i+1], r.ids[i])
		}
	}
	if !verifyRoll(ca, len(r.Keys), r.tree.root(), r.Signature) {
		return fmt.Errorf("%w: the signature of a roll of %d devices is not that authority's over just these", ErrForged, len(r.Keys))
	}
	return nil
}

func (r *Roll) checkKeys() error {
	if n := len(r.Keys); n < 1 || n > MaxRoll {
		return fmt.Errorf("a roll of %d devices, want 1 to %d", n, MaxRoll)
	}
	for i, key := range r.Keys {
		if len(key) != ed25519.PublicKeySize {
			return fmt.Errorf("key %d of a roll has %d bytes, want %d", i, len(key), ed25519.PublicKeySize)
		}
	}
	return nil
}

// prepare computes ids and tree once.
func (r *Roll) prepare() {
	r.once.Do(func() {
		leaves := make([]digest, len(r.Keys))
		r.ids = make([]ID, len(r.Keys))
		for i, key := range r.Keys {
			r.ids[i], leaves[i] = DeviceID(key), rollLeaf(key)
		}
		r.tree = nodes(rollNode).tree(leaves)
	})
}

func rollLeaf(key []byte) digest { return hash(labelRollLeaf, key) }

func rollNode(left, right *digest) digest { return hash(labelRollNode, left[:], right[:]) }

func rollMessage(size int, root *digest) []byte {
	b := binary.BigEndian.AppendUint32([]byte(labelRoll), uint32(size))
	return append(b, root[:]...)
}

func verifyRoll(ca ed25519.PublicKey, size int, root digest, signature []byte) bool {
	return ed25519.Verify(ca, rollMessage(size, &root), signature)
}
