package secagg

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/cloudflare/circl/group"
)

// What a device adds to its vector beside its update may be more than the sum needs when
// many survive. So each device draws a secret for every one of [Params.Levels] and shares it
// out like b. From the secret follows a seed, and from the seed whatever the caller adds:
// survivors give the secret back for the levels that their number reaches, and for no
// other. Secrets hang in a chain, each the hash of the one above, so that a device reveals
// one share a member whatever the level.

// mostLevels bounds the levels: each costs every edge two fields of 32 bytes.
const mostLevels = 8

func (p *Params) checkLevels() error {
	if len(p.Levels) > mostLevels {
		return fmt.Errorf("%w: %d levels, want at most %d", ErrParams, len(p.Levels), mostLevels)
	}
	before := MinCohort
	for _, n := range p.Levels {
		if n <= before || n > p.Cohort {
			return fmt.Errorf("%w: levels at %v survivors, want numbers that ascend, above %d and up to the cohort of %d", ErrParams, p.Levels, MinCohort, p.Cohort)
		}
		before = n
	}
	return nil
}

// levelsContext is the levels as a field of the context.
func (p *Params) levelsContext() []byte {
	var b []byte
	for _, n := range p.Levels {
		b = binary.BigEndian.AppendUint32(b, uint32(n))
	}
	return b
}

// reached is the highest level, from 1, that a number of survivors reaches; 0 is none.
func (p *Params) reached(survivors int) int {
	level := 0
	for _, n := range p.Levels {
		if survivors >= n {
			level++
		}
	}
	return level
}

// levels is how many there are.
func (s *session) levels() int { return len(s.params.Levels) }

// newLevels makes the secrets of a device's levels, the lowest first.
func (s *session) newLevels(rand io.Reader) ([]group.Scalar, error) {
	n := s.levels()
	if n == 0 {
		return nil, nil
	}
	var secret [scalarSize]byte
	defer clear(secret[:])
	if s.params.LevelSecret != nil {
		var err error
		if secret, err = s.params.LevelSecret(); err != nil {
			return nil, err
		}
	} else if _, err := io.ReadFull(rand, secret[:]); err != nil {
		return nil, fmt.Errorf("secagg: reading randomness for the levels: %w", err)
	}
	return levelsFrom(shortScalar(secret), n), nil
}

// LevelSeeds are the seeds that a device with a secret has for so many levels, the lowest
// first: what [Masking.Seeds] gives where [Params.LevelSecret] gave the secret.
func LevelSeeds(secret [32]byte, levels int) [][32]byte {
	if levels == 0 {
		return nil
	}
	secrets := levelsFrom(shortScalar(secret), levels)
	defer wipeScalars(secrets...)
	return seedsOf(secrets)
}

// shortScalar is the scalar of the low 252 bits of b.
func shortScalar(b [scalarSize]byte) group.Scalar {
	defer clear(b[:])
	b[scalarSize-1] &= 0x0f
	x, err := decodeScalar(b[:])
	if err != nil {
		panic(err) // it is below 2^252, and so below the group's order
	}
	return x
}

// levelsFrom are the secrets up to a level's, which it keeps hold of, the lowest first.
func levelsFrom(secret group.Scalar, level int) []group.Scalar {
	list := make([]group.Scalar, level)
	list[level-1] = secret
	for g := level; g > 1; g-- {
		list[g-2] = shortScalar(ofLevel(labelLevelBelow, g, list[g-1]))
	}
	return list
}

// seedsOf are the seeds of levels whose secrets are at hand, the lowest first.
func seedsOf(secrets []group.Scalar) []digest {
	seeds := make([]digest, len(secrets))
	for i, x := range secrets {
		seeds[i] = ofLevel(labelLevelSeed, i+1, x)
	}
	return seeds
}

func ofLevel(label string, g int, secret group.Scalar) digest {
	b := encodeScalar(secret)
	defer clear(b[:])
	return hash(label, []byte{byte(g)}, b[:])
}

// commitLevel binds the dealer to a level's secret, and hides it.
func (s *session) commitLevel(g int, secret group.Scalar) digest {
	b := encodeScalar(secret)
	defer clear(b[:])
	return hash(labelCommitLevel, s.ctx1[:], []byte{byte(g)}, b[:])
}

// takeDigests cuts n digests off.
func (f *fields) takeDigests(n int) []digest {
	if n == 0 {
		return nil
	}
	list := make([]digest, n)
	for i := range list {
		list[i] = f.digest()
	}
	return list
}

func appendDigests(b []byte, list []digest) []byte {
	for i := range list {
		b = append(b, list[i][:]...)
	}
	return b
}

// checkLevel holds a share of the level reached against its dealer's commitment.
func (c *Reveals) checkLevel(holder, dealer int, share *[scalarSize]byte) error {
	d := c.cohort.dealt[dealer]
	want := d.ownLevel
	if holder != dealer {
		want = d.parcels[c.session.graph.slot(dealer, holder)].level
	}
	return c.hold(holder, dealer, byte(c.cohort.level), share, &want)
}

// levels gathers a survivor's seeds of the level reached and those below.
func (w *unmasker) levels(j int) error {
	c := w.reveals
	s, level := c.session, c.cohort.level
	if level == 0 {
		return nil
	}
	top, err := w.secret(j, true)
	if err != nil {
		return err
	}
	defer wipeScalars(top)
	if s.commitLevel(level, top) != c.cohort.dealt[j].level {
		return w.mismatch(j, fmt.Sprintf("level %d", level))
	}
	secrets := levelsFrom(top, level)
	defer wipeScalars(secrets...)
	for i, seed := range seedsOf(secrets) {
		w.seeds[i] = append(w.seeds[i], seed)
	}
	return nil
}
