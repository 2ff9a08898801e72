package aggregation

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/discreet-fl/discreet/aggregation/noise"
)

// Memory is how noise of one round is remembered in later ones: a buffer of a buffered
// linear Toeplitz mechanism, whose parameters package privacy chooses (OptimiseBLT).
type Memory struct {
	Scale float64 // of what a round takes back, 0 to 1
	Decay float64 // of what is remembered, from one round to the next, 0 to below 1
}

// NoiseBits is how many bits finer than a sum its correlated noise is: noise is counted
// in 2^−8 of the sum's whole numbers, so that rounding what is taken back of it costs
// next to nothing.
const NoiseBits = 8

// MaxCentralSigma is the largest σ of fresh noise, in units of noise.
const MaxCentralSigma = 1 << 26

// What keeps the arithmetic of buffers within an eighth of a unit of noise: each step of
// each round rounds a number below mostRemembered by 2^−17 at most.
const (
	mostRounds     = 1 << 13
	mostRemembered = 1 << 36
	mostTotal      = 1 << 46
)

// Correlated is noise that a coordinator adds to the sums of rounds one after another, and
// takes back in part in later rounds, so that the sum of all rounds, which a model is,
// has far less of it than of independent noise at the same privacy (Dvijotham et al. 2024,
// "Efficient and near-optimal noise generation for streaming differential privacy"). It
// is for operators whose coordinator is trusted to see a sum before it is noised. With
// fresh noise z and the buffers B, all zero at first, round t has
//
//	n = z − round(Σ_i Scale_i·B_i);  B_i ← Decay_i·B_i + n
//
// Everything that is added is whole, z being discrete Gaussian, and what is taken back is
// a function of what was given out before: so no last bit of a number tells what the
// noise was added to, and privacy.CorrelatedRho counts what all rounds cost. For the
// guarantee the sums have to be of devices whose vectors have a bounded norm, and who keep
// to the number of rounds and the separation that were counted with.
//
// The buffers are secret: with them noise can be taken off. They take eight bytes a
// coordinate and buffer, and go on from one round to the next only: two futures that both
// take back the noise of the same past cost more than was counted. Where it is not sure
// that there is one, the noise begins anew, with buffers of zeros. That costs no more: C is
// then without the entries that join what came before to what comes after, none of which
// was negative, so that no row of it is longer.
type Correlated struct {
	memory  []Memory
	sigma   float64
	rounds  uint64
	buffers [][]float64 // by memory; in units of noise
	sampler *noise.Wide
	draws   []int64
}

// NewCorrelated returns noise that remembers nothing, before its first round or after so
// many rounds of which nothing is to be taken back, for sums of so many words. Sigma is the
// standard deviation of z in units of noise, 2^−NoiseBits of a whole number, 4 to 2^26.
func NewCorrelated(words int, sigma float64, rounds uint64, memory []Memory) (*Correlated, error) {
	if words < 1 || words > 1<<30 || len(memory) > 255 {
		return nil, fmt.Errorf("aggregation: correlated noise for %d words with %d buffers, want 1 to %d and at most 255", words, len(memory), 1<<30)
	}
	sum := 0.0
	for _, m := range memory {
		sum += m.Scale
		if !(m.Decay >= 0 && m.Decay < 1) || !(m.Scale >= 0) || !(sum <= 1) {
			return nil, fmt.Errorf("aggregation: buffers of scale and decay %v, want decays from 0 to below 1, and scales from 0 on with a sum of at most 1", memory)
		}
	}
	if !(sigma <= MaxCentralSigma) {
		return nil, fmt.Errorf("aggregation: correlated noise of σ %v, want at most %d", sigma, MaxCentralSigma)
	}
	sampler, err := noise.NewWide(sigma)
	if err != nil {
		return nil, err
	}
	c := &Correlated{memory: memory, sigma: sigma, rounds: rounds, sampler: sampler, buffers: make([][]float64, len(memory)), draws: make([]int64, words)}
	for i := range c.buffers {
		c.buffers[i] = make([]float64, words)
	}
	return c, nil
}

// Rounds is how many rounds have passed.
func (c *Correlated) Rounds() uint64 { return c.rounds }

// Is tells whether this is noise for sums of so many words, of that σ and memory.
func (c *Correlated) Is(words int, sigma float64, memory []Memory) bool {
	return len(c.draws) == words && c.sigma == sigma && slices.Equal(c.memory, memory)
}

// Next noises the total of one round, in place: what was whole numbers becomes units of
// noise, 2^NoiseBits to each. The fresh noise comes from ChaCha8(seed), which has to be
// from crypto/rand and for this round alone. It refuses a total of another length or with
// a word of more than 46 bits, and a round beyond the 8,192nd, and then changes nothing.
func (c *Correlated) Next(total []int64, seed [32]byte) error {
	if c.rounds >= mostRounds {
		return fmt.Errorf("aggregation: %d rounds were noised, which is the most; begin a new task", c.rounds)
	}
	if len(total) != len(c.draws) {
		return fmt.Errorf("aggregation: noising a total of %d words, want %d", len(total), len(c.draws))
	}
	for i, x := range total {
		if x < -mostTotal || x > mostTotal {
			return fmt.Errorf("aggregation: word %d of a total to be noised is %d, want a magnitude of at most 2^46", i, x)
		}
	}
	for _, buffer := range c.buffers {
		for _, b := range buffer {
			if !(math.Abs(b) < mostRemembered) {
				return fmt.Errorf("aggregation: a buffer of correlated noise holds %v, want a magnitude below 2^36; begin a new task with less noise", b)
			}
		}
	}
	c.sampler.Draw(c.draws, seed)
	for i, z := range c.draws {
		back := 0.0
		for k, m := range c.memory {
			back += float64(m.Scale * c.buffers[k][i])
		}
		n := z - int64(math.RoundToEven(back))
		for k, m := range c.memory {
			c.buffers[k][i] = float64(m.Decay*c.buffers[k][i]) + float64(n)
		}
		total[i] = total[i]<<NoiseBits + n
	}
	clear(c.draws)
	c.rounds++
	return nil
}

// correlatedMagic begins an encoding of Correlated; its last byte is a version.
const correlatedMagic = "discreet-noise\x01"

// Encode returns the noise as it is between two rounds. It is secret, as the buffers are.
func (c *Correlated) Encode() []byte {
	b := make([]byte, 0, len(correlatedMagic)+21+len(c.memory)*(16+8*len(c.draws)))
	b = append(b, correlatedMagic...)
	b = binary.LittleEndian.AppendUint64(b, c.rounds)
	b = binary.LittleEndian.AppendUint64(b, math.Float64bits(c.sigma))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(c.draws)))
	b = append(b, byte(len(c.memory)))
	for _, m := range c.memory {
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(m.Scale))
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(m.Decay))
	}
	for _, buffer := range c.buffers {
		for _, x := range buffer {
			b = binary.LittleEndian.AppendUint64(b, math.Float64bits(x))
		}
	}
	return b
}

// DecodeCorrelated reads what Encode wrote; it refuses anything else.
func DecodeCorrelated(b []byte) (*Correlated, error) {
	rest, ok := len(b)-len(correlatedMagic)-21, len(b) >= len(correlatedMagic)+21
	if !ok || string(b[:len(correlatedMagic)]) != correlatedMagic {
		return nil, fmt.Errorf("aggregation: %d bytes are no state of correlated noise; restore the coordinator's data", len(b))
	}
	b = b[len(correlatedMagic):]
	next := func() uint64 {
		x := binary.LittleEndian.Uint64(b)
		b = b[8:]
		return x
	}
	rounds, sigma, words := next(), math.Float64frombits(next()), int(binary.LittleEndian.Uint32(b))
	memory := make([]Memory, b[4])
	b = b[5:]
	if want := int64(len(memory)) * (16 + 8*int64(words)); int64(rest) != want {
		return nil, fmt.Errorf("aggregation: a state of correlated noise for %d words with %d buffers has %d bytes behind its head, want %d", words, len(memory), rest, want)
	}
	for i := range memory {
		memory[i] = Memory{math.Float64frombits(next()), math.Float64frombits(next())}
	}
	c, err := NewCorrelated(words, sigma, rounds, memory)
	if err != nil {
		return nil, err
	}
	for _, buffer := range c.buffers {
		for i := range buffer {
			buffer[i] = math.Float64frombits(next()) // Next refuses what cannot be
		}
	}
	return c, nil
}
