package train

import (
	"math/bits"
	"math/rand/v2"

	"github.com/discreet-fl/discreet/model"
	"github.com/discreet-fl/discreet/model/kernel"
)

// batch is what one step trains on. Its examples have each their own number of features, so they lie one after the
// other in one slice. A batch that is not full is padded with examples of weight zero and without features: they
// have no loss and no gradient.
type batch struct {
	features  []uint32
	end       []int     // example i has features[end[i-1]:end[i]]
	scale     []float32 // model.FeatureScale of its features
	label     []int32   // ^label of an example that is known not to have it
	weight    []float32 // the example's, or 0 for padding
	smoothing float32
	// consistency is 0, or what the divergence of examples 2i and 2i+1, the same one twice, is multiplied by.
	consistency float32
	rows        []bool   // which rows of the embedding move; all, where it is nil
	moved       []uint32 // an example's features in such rows
	dim         int
	units       []float32 // size×dim, what each unit of the hidden layer is multiplied by; none, where all stay
}

func newBatch(size, dim int) *batch {
	return &batch{
		dim: dim,
		end: make([]int, size), scale: make([]float32, size),
		label: make([]int32, size), weight: make([]float32, size),
	}
}

func (b *batch) size() int { return len(b.end) }

// of returns the features of example i.
func (b *batch) of(i int) []uint32 {
	start := 0
	if i > 0 {
		start = b.end[i-1]
	}
	return b.features[start:b.end[i]]
}

// moving returns the features of example i whose rows move, until the next call.
func (b *batch) moving(i int, l model.Layout) []uint32 {
	if b.rows == nil {
		return b.of(i)
	}
	b.moved = b.moved[:0]
	for _, f := range b.of(i) {
		if b.rows[f&l.Mask()] {
			b.moved = append(b.moved, f)
		}
	}
	return b.moved
}

// copies is how often a batch holds each of its examples.
func copies(s model.Training) int {
	if s.Consistency > 0 {
		return 2
	}
	return 1
}

// fill puts the examples of the given indices into the batch, each with its features thinned out afresh. With
// consistency each is there twice, side by side, and each of the two has half of its weight.
func (b *batch) fill(ex []model.Example, indices []int, s model.Training, random *rand.PCG) {
	b.smoothing, b.rows = s.LabelSmoothing, s.Rows
	b.consistency = float32(s.Consistency / 2) // of half a weight, so that α/4 of a whole one
	b.features, b.units = b.features[:0], b.units[:0]
	times := copies(s)
	for i := range b.end {
		if i >= times*len(indices) {
			b.end[i], b.scale[i], b.label[i], b.weight[i] = len(b.features), 0, 0, 0
			continue
		}
		e := ex[indices[i/times]]
		before := len(b.features)
		b.features = appendKept(b.features, e.Features, s.FeatureDropout, random)
		b.end[i] = len(b.features)
		b.scale[i] = model.FeatureScale(len(b.features) - before)
		b.label[i], b.weight[i] = int32(e.Label), e.Weight
		if e.Not {
			b.label[i] = ^b.label[i]
		}
		if e.Weight == 0 {
			b.weight[i] = 1
		}
		b.weight[i] /= float32(times)
		if s.HiddenDropout > 0 {
			b.units = appendUnits(b.units, b.dim, s.HiddenDropout, random)
		}
	}
}

// appendUnits appends to units what so many are multiplied by: 0 with the chance of dropout (a multiple of 2^-16), or
// what makes up for it.
func appendUnits(units []float32, n int, dropout float32, random *rand.PCG) []float32 {
	threshold := uint64(float32(dropout * (1 << 16)))
	kept := 1 / (1 - dropout)
	var draw uint64
	for i := range n {
		if i&3 == 0 {
			draw = random.Uint64()
		}
		x := kept
		if draw&0xffff < threshold {
			x = 0
		}
		units = append(units, x)
		draw >>= 16
	}
	return units
}

// appendKept appends to kept each feature with chance 1−dropout (a multiple of 2^-16), and at least one if there
// is any.
func appendKept(kept []uint32, features model.Features, dropout float32, random *rand.PCG) []uint32 {
	threshold := uint64(float32(dropout * (1 << 16)))
	if threshold == 0 || len(features) == 0 {
		return append(kept, features...)
	}
	n := len(kept)
	kept = append(kept, features...) // makes room, and is overwritten from n on
	var draw uint64
	for i, f := range features {
		if i&3 == 0 {
			draw = random.Uint64()
		}
		kept[n] = f
		// One if the draw's low 16 bits are not below the threshold: written so that the compiler needs no branch,
		// which at a dropout of one half would be mispredicted every other time.
		n += 1 - int((draw&0xffff-threshold)>>63)
		draw >>= 16
	}
	if n == len(kept)-len(features) {
		kept[n] = features[below(len(features), random)]
		n++
	}
	return kept[:n]
}

// shuffle brings order into a uniformly random order.
func shuffle(order []int, random *rand.PCG) {
	for i := len(order) - 1; i > 0; i-- {
		j := below(i+1, random)
		order[i], order[j] = order[j], order[i]
	}
}

// below returns a number from 0 to n−1. Its bias is below n/2^64, and it always draws once.
func below(n int, random *rand.PCG) int {
	high, _ := bits.Mul64(random.Uint64(), uint64(n))
	return int(high)
}

// loss returns the batch's summed loss, from scores size×labels and their softmax.
func (b *batch) loss(scores, shares []float32, labels int) float32 {
	loss := kernel.CrossEntropy(scores, shares, labels, b.label, b.weight, b.smoothing)
	if b.consistency > 0 {
		loss += float32(b.consistency * kernel.Divergence(scores, shares, labels, b.weight))
	}
	return loss
}

// lossGradient writes to dst, which is neither of them, upstream times the loss's gradient with regard to the scores.
func (b *batch) lossGradient(dst, scores, shares []float32, labels int, upstream float32) {
	kernel.CrossEntropyGradient(dst, shares, labels, b.label, b.weight, b.smoothing, upstream)
	if b.consistency > 0 {
		kernel.AddDivergenceGradient(dst, scores, shares, labels, b.weight, float32(b.consistency*upstream))
	}
}

// bag writes the bags of the batch's examples to hidden, size×dim.
func (b *batch) bag(hidden, embedding []float32, l model.Layout) {
	for i, scale := range b.scale {
		kernel.Bag(hidden[i*l.Dim:][:l.Dim], embedding, l.Mask(), b.of(i), scale)
	}
	b.drop(hidden)
}

// drop leaves units out of the hidden layer, or of its gradient. Padding has none to leave out.
func (b *batch) drop(hidden []float32) {
	for i, x := range b.units {
		hidden[i] *= x
	}
}

// bagGradient turns the gradient with regard to the bags, size×dim, into the one with regard to the embedding, kept
// in factors: every feature of example i has row i of dst as its part of the gradient. Written out, it would be a
// matrix as large as the embedding that is zero in nearly all rows.
func (b *batch) bagGradient(dst, dHidden []float32, dim int) {
	for i, scale := range b.scale {
		kernel.Scale(dst[i*dim:][:dim], dHidden[i*dim:][:dim], scale)
	}
	b.drop(dst)
}

// gradients are those of one batch. embedding is in factors, see batch.bagGradient; weights and bias are as large as
// what they belong to.
type gradients struct {
	embedding, weights, bias []float32
}

// descend takes the step. It overwrites the embedding's gradient.
func (b *batch) descend(l model.Layout, params []float32, g gradients, rate float32) {
	embedding, weights, bias := l.Split(params)
	for i := range b.end {
		step := g.embedding[i*l.Dim:][:l.Dim]
		kernel.Scale(step, step, rate)
		kernel.BagStep(embedding, l.Mask(), b.moving(i, l), step)
	}
	kernel.Step(weights, g.weights, rate)
	kernel.Step(bias, g.bias, rate)
}
