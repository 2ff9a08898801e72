package aggregation

import (
	"errors"
	"fmt"
	"math/bits"
)

// Layout says where each block of a vector lies, which is the same for every device of
// a round and known to both ends: the words of the update, a vote on the clip where it
// moves, the weight, then the evaluation's counts and the strategy's scalar, if there are any.
type Layout struct {
	Codec      Codec
	Noise      DiscreteGaussian // takes the codec's place; no clip where sums are exact
	Parameters int              // of the model, or what a Reduction leaves of them: words of the update
	Evaluation Evaluation       // zero where nothing is counted
	Scalar     Scalar           // nil where the strategy needs none
}

// Length is the number of ring words of a vector.
func (l Layout) Length() int {
	return l.UpdateLength() + l.Evaluation.Words() + l.scalars()
}

// UpdateLength is the number of words that the codec, or the noise in its place, writes:
// those of the update, its vote and its weight, which is the last.
func (l Layout) UpdateLength() int {
	if l.Noised() {
		return l.Noise.Length(l.Parameters)
	}
	return l.Codec.Length(l.Parameters)
}

// scalars is how many words there are for the strategy.
func (l Layout) scalars() int {
	if l.Scalar == nil {
		return 0
	}
	return 1
}

// Signed is how many of them, from the first, hold signed numbers: the update's and its
// vote. All others are 0 or more.
func (l Layout) Signed() int { return l.UpdateLength() - 1 }

// Noised tells whether devices add noise to their updates.
func (l Layout) Noised() bool { return l.Noise.Clip != 0 }

// RingBits returns the width of the smallest ring in which the vectors of so many
// devices can be summed.
func (l Layout) RingBits(devices int) int {
	update := l.Codec.RingBits(devices)
	if l.Noised() {
		update = l.Noise.RingBits(devices, l.Parameters)
	}
	most := uint64(max(l.Evaluation.Chats, l.scalars()*MaxScalar, 0))
	return max(update, bits.Len64(uint64(max(devices, 1))*most))
}

// Fits proves that no word of the sum of so many devices' vectors overflows a ring of
// ringBits bits: [Codec.Fits] or [DiscreteGaussian.Fits] for the update and the weight,
// n·Chats < 2^ringBits for a count, of which no device's is above Chats, and as much for
// the scalar with MaxScalar. There is no scalar beside noise, which would not cover it.
func (l Layout) Fits(devices, ringBits int) error {
	if err := l.updateFits(devices, ringBits); err != nil {
		return err
	}
	if err := l.Evaluation.check(); err != nil {
		return err
	}
	if int64(devices)*int64(l.Evaluation.Chats) >= 1<<ringBits {
		return fmt.Errorf("aggregation: %d devices that count %d chats each overflow a ring of %d bits, want at least %d bits",
			devices, l.Evaluation.Chats, ringBits, l.RingBits(devices))
	}
	if l.Scalar == nil {
		return nil
	}
	if l.Noised() {
		return errors.New("aggregation: a strategy's scalar beside noise, which does not cover it")
	}
	if int64(devices)*MaxScalar >= 1<<ringBits {
		return fmt.Errorf("aggregation: the scalars of %d devices overflow a ring of %d bits, want at least %d bits", devices, ringBits, l.RingBits(devices))
	}
	return l.Scalar.Check(l.Codec)
}

func (l Layout) updateFits(devices, ringBits int) error {
	if l.Noised() {
		return l.Noise.Fits(devices, l.Parameters, ringBits)
	}
	return l.Codec.Fits(devices, ringBits)
}

// decode turns the update's part of a total into the mean update and returns the sum of
// the weights.
func (l Layout) decode(mean []float32, total []int64) (weight int, err error) {
	if l.Noised() {
		return l.Noise.Decode(mean, l.Update(total))
	}
	return l.Codec.Decode(mean, l.Update(total))
}

// Update is the part of a vector, or of a total of them, that the codec reads, of
// UpdateLength.
func (l Layout) Update(total []int64) []int64 { return total[:l.UpdateLength()] }

// Weight is the sum of the weights in a total.
func (l Layout) Weight(total []int64) int64 { return total[l.UpdateLength()-1] }

// Votes is the sum of the votes on the clip in a total, with noise in it. There are some
// where Noise has them.
func (l Layout) Votes(total []int64) int64 { return total[l.Parameters] }

// Counts are the evaluation's words of a vector, or of a total of them, by meaning. The
// slices are views. It panics unless the words are Length.
func Counts[W uint32 | int64](l Layout, words []W) Tally[W] {
	if len(words) != l.Length() {
		panic(fmt.Sprintf("aggregation: counts of %d words, want the vector's %d", len(words), l.Length()))
	}
	return tally(l.Evaluation, words[l.UpdateLength():l.Length()-l.scalars()])
}

// Evaluation describes the block of counts. The zero value has no words.
type Evaluation struct {
	Intents int // of the model
	Bins    int // of each histogram, 2 to 100
	Chats   int // that a device counts at most, 1 to 1000: no count of its own is above it
}

// Bounds of an Evaluation, which devices hold a plan to.
const (
	MaxBins  = 100
	MaxChats = 1000
)

// check returns an error unless every field lies in its documented range, or all are 0.
func (e Evaluation) check() error {
	switch {
	case e == Evaluation{}:
		return nil
	case e.Intents < 1:
		return fmt.Errorf("aggregation: counts for %d intents, want at least 1", e.Intents)
	case e.Bins < 2 || e.Bins > MaxBins:
		return fmt.Errorf("aggregation: histograms of %d bins, want 2 to %d", e.Bins, MaxBins)
	case e.Chats < 1 || e.Chats > MaxChats:
		return fmt.Errorf("aggregation: a device counts %d chats at most, want 1 to %d", e.Chats, MaxChats)
	}
	return nil
}

// Words is the length of the block: a word for the device, three for each intent and
// four for each bin.
func (e Evaluation) Words() int {
	if e == (Evaluation{}) {
		return 0
	}
	return 1 + 3*e.Intents + 4*e.Bins
}

// Tally is one device's counts over the chats that it holds back from training, or the
// sum of many devices'.
type Tally[W uint32 | int64] struct {
	Devices   []W // one word: 1 for a device that has counted something
	Chats     []W // by intent: chats of it
	Correct   []W // by intent: chats of it that the model gave it
	Predicted []W // by intent: chats of any intent that the model gave it
	InScope   []W // by the largest score: chats
	StandIns  []W // by the largest score: stand-ins for texts out of scope
	Margins   []W // by the margin of the model's answer: chats
	Right     []W // by the margin: those of them that the answer was right for
}

// tally names the words of a block.
func tally[W uint32 | int64](e Evaluation, words []W) Tally[W] {
	var t Tally[W]
	for _, part := range []struct {
		into *[]W
		n    int
	}{
		{&t.Devices, 1}, {&t.Chats, e.Intents}, {&t.Correct, e.Intents}, {&t.Predicted, e.Intents},
		{&t.InScope, e.Bins}, {&t.StandIns, e.Bins}, {&t.Margins, e.Bins}, {&t.Right, e.Bins},
	} {
		if len(words) == 0 {
			break // nothing is counted
		}
		*part.into, words = words[:part.n:part.n], words[part.n:]
	}
	return t
}
