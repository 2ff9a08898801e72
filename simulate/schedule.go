package simulate

import (
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
)

// Vanish is the place in a round at which a device leaves for good.
type Vanish int

// A device vanishes before it sends its advert, or right after it has sent one of
// its messages and before it has read the answer.
const (
	Stays Vanish = iota
	BeforeAdvertise
	AfterAdvertise
	AfterShare
	AfterSubmit
	AfterConfirm
)

// places is how many places there are to vanish at.
const places = int(AfterConfirm)

// member is one selected device of an attempt and what will become of it.
type member struct {
	device int
	vanish Vanish
}

// schedule fixes, before the run and by the seed alone, who is selected for each
// attempt and where each of them vanishes, so that a secure and a plain run meet
// the same devices.
type schedule struct {
	seed              uint64
	devices, perRound int
	drop              float64
	// may tells whether a device may take part in a round; nil where all may.
	may func(device int, round uint64) bool
}

// members returns those of one attempt: perRound devices drawn without repetition, fewer
// where no more may take part, each of which vanishes with probability drop at a place
// drawn uniformly.
func (s schedule) members(round uint64, attempt uint32) []member {
	draw := stream(s.seed, "cohort", round, uint64(attempt))
	members := make([]member, 0, s.perRound)
	for _, device := range draw.Perm(s.devices) {
		if len(members) == s.perRound {
			break
		}
		if s.may != nil && !s.may(device, round) {
			continue
		}
		m := member{device: device}
		if draw.Float64() < s.drop {
			m.vanish = BeforeAdvertise + Vanish(draw.IntN(places))
		}
		members = append(members, m)
	}
	return members
}

// dropsOf counts vanishings by place.
func dropsOf(members []member) Drops {
	var d Drops
	for _, m := range members {
		switch m.vanish {
		case BeforeAdvertise:
			d.BeforeAdvertise++
		case AfterAdvertise:
			d.AfterAdvertise++
		case AfterShare:
			d.AfterShare++
		case AfterSubmit:
			d.AfterSubmit++
		case AfterConfirm:
			d.AfterConfirm++
		}
	}
	return d
}

// derive hashes the seed, a purpose and numbers into 32 bytes: H(seed, round, device).
func derive(seed uint64, purpose string, numbers ...uint64) [32]byte {
	b := binary.LittleEndian.AppendUint64(nil, seed)
	b = append(b, byte(len(purpose)))
	b = append(b, purpose...)
	for _, n := range numbers {
		b = binary.LittleEndian.AppendUint64(b, n)
	}
	return sha256.Sum256(b)
}

// stream is a random stream of its own for a purpose.
func stream(seed uint64, purpose string, numbers ...uint64) *rand.Rand {
	return rand.New(rand.NewChaCha8(derive(seed, purpose, numbers...)))
}
