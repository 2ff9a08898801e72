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
	// CompleteGraph is the most members that all mask with each other. In a larger
	// cohort each member has some of the others as its neighbours.
	CompleteGraph = 100
	// MaxCohort is the most members of a cohort.
	MaxCohort = 2000
	// MaxDevices is the most devices of a round, over all its cohorts.
	MaxDevices = 20000

	// sigma and eta bound what may go wrong with a sparse graph's randomness: that a
	// cohort has a graph or a neighbourhood in which the corrupt members learn
	// something, 2^−sigma (of which a server that tries 2^40 subsets of a roster
	// uses up half), and that a round fails although no more members vanish than
	// tolerated, 2^−eta.
	sigma = 80
	eta   = 30

	// maxLength bounds the vector to 1 GiB of words.
	maxLength = 1 << 28
	// maxTask bounds the task's name.
	maxTask = 64
	// leastCorrupt is the least corrupt fraction, in 10,000, that a sparse graph may be
	// drawn for: with none, one neighbour's share alone would give a secret back.
	leastCorrupt = 100
	// mostTolerated bounds the corrupt and the dropout fraction, in 10,000.
	mostTolerated = 3333
)

// KeyExchange is how masks and channels are agreed on.
type KeyExchange int

const (
	// Hybrid is X-Wing (X25519 with ML-KEM-768): safe as long as either is.
	Hybrid KeyExchange = iota
	// Classical is X25519 alone, for vectors that X-Wing's keys would outweigh.
	Classical
)

func (x KeyExchange) String() string {
	if x == Hybrid || x == Classical {
		return [...]string{"hybrid", "classical"}[x]
	}
	return fmt.Sprintf("key exchange %d", int(x))
}

// Params describe one attempt at a round. Device and server derive everything but
// CA, MinSurvivors, LevelSecret, Revoked and Rolls from the plan, and both hash it into the attempt's
// context: a device that was given another plan makes signatures that the others
// refuse.
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
	// Cohort is the most members of a cohort, MinCohort to MaxCohort. More devices are
	// split into cohorts by lot.
	Cohort int
	// Corrupt and Dropout are the members of a cohort, in 10,000 and at most 3,333,
	// that may work for the server, and that may vanish where the graph is sparse.
	Corrupt, Dropout int
	// Keys is how keys are agreed on.
	Keys KeyExchange
	// MinSurvivors is the fewest members of a roster, and the fewest vectors in a
	// cohort's sum, that this side takes part in, MinCohort to Cohort. It is each
	// side's own and is not hashed.
	MinSurvivors int
	// Levels are numbers of survivors, ascending, at each of which the sum gives back one
	// more seed of every survivor: what it had added by that seed can then be taken off
	// ([Masking.Seeds], [Unmasking.Seeds]). There may be up to eight, above MinCohort and up
	// to Cohort, or none.
	Levels []int
	// LevelSecret, where set, is asked for the secret that a device's seeds follow from, a
	// fresh one for each attempt; otherwise it is drawn with the others.
	LevelSecret func() ([32]byte, error)
	// Revoked, where set, tells which devices are members no more.
	Revoked func(ID) bool
	// Rolls, where set, gives a server the authority's rolls by which it may show that the
	// members of a cohort were admitted. It is asked once for each cohort, with the keys of
	// its members, ascending by id, whose credentials were verified. Who is in no roll is
	// shown by its credential.
	Rolls func(members []ed25519.PublicKey) []*Roll
}

// Threshold is the number of shares, of n, that give a secret back on the complete
// graph: n − ⌊n/3⌋. So ⌊n/3⌋ members may vanish, and any n − ⌊n/3⌋ − 1 learn nothing.
func Threshold(n int) int { return n - n/3 }

// Quorum is the number of signatures under one set of survivors, of n members of
// whom corrupt in 10,000 may sign anything: ⌊(n+c)/2⌋ + 1 with c = ⌊n·corrupt/10000⌋.
// Two sets cannot both have as many, as no honest member signs twice.
func Quorum(n, corrupt int) int { return (n+n*corrupt/10000)/2 + 1 }

// Cohorts is the number of cohorts that a round of so many devices is split into.
func Cohorts(devices, cohort int) int { return (devices + cohort - 1) / cohort }

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
	case p.Corrupt < 0 || p.Corrupt > mostTolerated:
		return fmt.Errorf("%w: %d corrupt members in 10,000, want 0 to %d", ErrParams, p.Corrupt, mostTolerated)
	case p.Cohort > CompleteGraph && p.Corrupt < leastCorrupt:
		return fmt.Errorf("%w: %d corrupt members in 10,000 of a cohort of up to %d, want at least %d above %d members",
			ErrParams, p.Corrupt, p.Cohort, leastCorrupt, CompleteGraph)
	case p.Dropout < 0 || p.Dropout > mostTolerated:
		return fmt.Errorf("%w: %d vanishing members in 10,000, want 0 to %d", ErrParams, p.Dropout, mostTolerated)
	case p.Keys != Hybrid && p.Keys != Classical:
		return fmt.Errorf("%w: %v, want %v or %v", ErrParams, p.Keys, Hybrid, Classical)
	case p.MinSurvivors < MinCohort:
		return fmt.Errorf("%w: minimum of %d survivors, want at least %d: the sum of fewer hides nobody", ErrParams, p.MinSurvivors, MinCohort)
	case p.MinSurvivors > p.Cohort:
		return fmt.Errorf("%w: minimum of %d survivors from a cohort of at most %d; raise the cohort or lower the minimum", ErrParams, p.MinSurvivors, p.Cohort)
	}
	return p.checkLevels()
}

func (p *Params) revoked(id ID) bool { return p.Revoked != nil && p.Revoked(id) }

// context is ctx0: it binds all that an attempt is about.
func (p *Params) context() digest {
	fields := [][]byte{
		binary.BigEndian.AppendUint16(nil, formatVersion),
		[]byte(p.Task),
		binary.BigEndian.AppendUint64(nil, p.Round),
		binary.BigEndian.AppendUint32(nil, p.Attempt),
		u32(p.Length), u32(p.RingBits), u32(p.Cohort), u32(p.Corrupt), u32(p.Dropout), u32(int(p.Keys)),
		p.Plan,
	}
	if len(p.Levels) > 0 {
		fields = append(fields, p.levelsContext())
	}
	return hash(labelContext, fields...)
}
