package secagg

import (
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
)

const (
	// MinCohort is the fewest devices whose sum is ever taken: a sum over two is
	// no secret to either of them.
	MinCohort = 3
	// MaxCohort is the most devices the complete graph is used for.
	MaxCohort = 100
	// maxLength bounds the vector to 1 GiB of words.
	maxLength = 1 << 28
	// maxTask bounds the task's name.
	maxTask = 64
)

// Params describe one attempt at a round. Device and server derive everything but
// CA and MinSurvivors from the plan, and both hash it into the attempt's context:
// a device that was given another plan makes signatures that the others refuse.
type Params struct {
	Task    string
	Round   uint64
	Attempt uint32
	// Plan is everything the devices were told, the bytes as received.
	Plan []byte
	// CA is the enrolment authority's public key, pinned at enrolment.
	CA ed25519.PublicKey
	// Length is the number of words in a vector.
	Length int
	// RingBits is the number of low bits of a word that travel and count, 1 to 32.
	RingBits int
	// Cohort is the most devices in the roster, MinCohort to MaxCohort.
	Cohort int
	// MinSurvivors is the fewest members, and the fewest vectors in a sum, that
	// this side takes part in, MinCohort to Cohort. It is each side's own
	// and is not hashed.
	MinSurvivors int
}

// Threshold is the number of shares, of n, that give a secret back: n − ⌊n/3⌋.
// So ⌊n/3⌋ devices may vanish. A server that keeps to the protocol learns nothing more
// from t−1 members; docs/threat-model.md says what one does that lies.
func Threshold(n int) int { return n - n/3 }

func (p *Params) check() error {
	switch {
	case p.Task == "" || len(p.Task) > maxTask:
		return fmt.Errorf("%w: task name of %d bytes, want 1 to %d", ErrParams, len(p.Task), maxTask)
	case len(p.CA) != ed25519.PublicKeySize:
		return fmt.Errorf("%w: authority key of %d bytes, want %d", ErrParams, len(p.CA), ed25519.PublicKeySize)
	case p.Length < 1 || p.Length > maxLength:
		return fmt.Errorf("%w: vector length %d, want 1 to %d", ErrParams, p.Length, maxLength)
	case p.RingBits < 1 || p.RingBits > 32:
		return fmt.Errorf("%w: ring of %d bits, want 1 to 32", ErrParams, p.RingBits)
	case p.Cohort < MinCohort || p.Cohort > MaxCohort:
		return fmt.Errorf("%w: cohort of %d, want %d to %d", ErrParams, p.Cohort, MinCohort, MaxCohort)
	case p.MinSurvivors < MinCohort:
		return fmt.Errorf("%w: minimum of %d survivors, want at least %d: the sum of fewer hides nobody", ErrParams, p.MinSurvivors, MinCohort)
	case p.MinSurvivors > p.Cohort:
		return fmt.Errorf("%w: minimum of %d survivors from a cohort of at most %d; raise the cohort or lower the minimum", ErrParams, p.MinSurvivors, p.Cohort)
	}
	return nil
}

// context is ctx0: it binds all that an attempt is about.
func (p *Params) context() digest {
	return hash(labelContext,
		binary.BigEndian.AppendUint16(nil, formatVersion),
		[]byte(p.Task),
		binary.BigEndian.AppendUint64(nil, p.Round),
		binary.BigEndian.AppendUint32(nil, p.Attempt),
		binary.BigEndian.AppendUint32(nil, uint32(p.Length)),
		binary.BigEndian.AppendUint32(nil, uint32(p.RingBits)),
		binary.BigEndian.AppendUint32(nil, uint32(p.Cohort)),
		p.Plan)
}
