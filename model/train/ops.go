//go:build !js

package train

import (
	"fmt"
	"hash"
	"hash/fnv"

	"github.com/chewxy/hm"
	"github.com/discreet-fl/discreet/model"
	"github.com/discreet-fl/discreet/model/kernel"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// op is a gorgonia operation computed by one of our kernels. Its inputs are float32 tensors of the given ranks (rank 0
// is a scalar), its output has the given shape and one buffer that every run overwrites.
//
// What of a batch is no tensor of fixed shape — the features, of which each example has its own number, and with them
// labels and weights — the operations read from the batch they were made for.
type op struct {
	name  string
	ranks []int
	shape tensor.Shape
	value gorgonia.Value
	// run computes the value from the inputs.
	run func(in []gorgonia.Value)
	// derive returns the gradient node for each input, nil where it is not differentiable, given the output's gradient.
	// Where derive itself is nil the operation is not differentiable.
	derive func(in gorgonia.Nodes, out, grad *gorgonia.Node) (gorgonia.Nodes, error)
	wrt    []bool
}

var (
	_ gorgonia.Op   = (*op)(nil)
	_ gorgonia.SDOp = (*op)(nil)
)

// newOp returns an operation with a buffer of the shape, and the buffer. No dimension makes a scalar, whose buffer is
// nil.
func newOp(name string, ranks []int, shape ...int) (*op, []float32) {
	o := &op{name: name, ranks: ranks, shape: shape, wrt: make([]bool, len(ranks))}
	if len(shape) == 0 {
		o.value = gorgonia.NewF32(0)
		return o, nil
	}
	buffer := make([]float32, o.shape.TotalSize())
	o.value = tensor.New(tensor.WithShape(shape...), tensor.WithBacking(buffer))
	return o, buffer
}

func (o *op) Arity() int { return len(o.ranks) }

// Type returns a fresh type each time: gorgonia puts it into a pool after use.
func (o *op) Type() hm.Type {
	types := make([]hm.Type, 0, len(o.ranks)+1)
	for _, rank := range append(append([]int(nil), o.ranks...), len(o.shape)) {
		if rank == 0 {
			types = append(types, tensor.Float32)
		} else {
			types = append(types, gorgonia.TensorType{Dims: rank, Of: tensor.Float32})
		}
	}
	return hm.NewFnType(types...)
}

func (o *op) InferShape(...gorgonia.DimSizer) (tensor.Shape, error) {
	if len(o.shape) == 0 {
		return tensor.ScalarShape(), nil
	}
	return o.shape, nil
}

func (o *op) Do(in ...gorgonia.Value) (gorgonia.Value, error) {
	if len(in) != len(o.ranks) {
		return nil, fmt.Errorf("%s got %d inputs, want %d", o.name, len(in), len(o.ranks))
	}
	o.run(in)
	return o.value, nil
}

func (o *op) ReturnsPtr() bool      { return true }
func (o *op) CallsExtern() bool     { return false }
func (o *op) OverwritesInput() int  { return -1 }
func (o *op) WriteHash(h hash.Hash) { fmt.Fprint(h, o.name, o.ranks, o.shape) }
func (o *op) String() string        { return o.name }

func (o *op) Hashcode() uint32 {
	h := fnv.New32a()
	o.WriteHash(h)
	return h.Sum32()
}

func (o *op) DiffWRT(int) []bool { return o.wrt }

func (o *op) SymDiff(in gorgonia.Nodes, out, grad *gorgonia.Node) (gorgonia.Nodes, error) {
	if o.derive == nil {
		return nil, fmt.Errorf("%s is not differentiable", o.name)
	}
	return o.derive(in, out, grad)
}

// floats returns a tensor's elements where they lie.
func floats(v gorgonia.Value) []float32 { return v.(*tensor.Dense).Float32s() }

// bagOp: embedding Rows×Dim → hidden size×Dim.
func bagOp(b *batch, l model.Layout) *op {
	o, hidden := newOp("bag", []int{2}, b.size(), l.Dim)
	o.run = func(in []gorgonia.Value) { b.bag(hidden, floats(in[0]), l) }
	o.wrt[0] = true
	o.derive = func(_ gorgonia.Nodes, _, grad *gorgonia.Node) (gorgonia.Nodes, error) {
		return applied(apply(bagGradientOp(b, l), grad))
	}
	return o
}

// bagGradientOp: gradient of hidden size×Dim → gradient of the embedding in factors, size×Dim.
func bagGradientOp(b *batch, l model.Layout) *op {
	o, factors := newOp("bag gradient", []int{2}, b.size(), l.Dim)
	o.run = func(in []gorgonia.Value) { b.bagGradient(factors, floats(in[0]), l.Dim) }
	return o
}

// affineOp: hidden size×Dim, weights Dim×Labels, bias Labels → scores size×Labels.
func affineOp(b *batch, l model.Layout) *op {
	o, scores := newOp("affine", []int{2, 2, 1}, b.size(), l.Labels)
	o.run = func(in []gorgonia.Value) {
		kernel.Affine(scores, floats(in[0]), floats(in[1]), floats(in[2]), l.Dim)
	}
	o.wrt = []bool{true, true, true}
	o.derive = func(in gorgonia.Nodes, _, grad *gorgonia.Node) (gorgonia.Nodes, error) {
		return applied(
			apply(affineInputGradientOp(b, l), grad, in[1]),
			apply(affineWeightGradientOp(l), in[0], grad),
			apply(affineBiasGradientOp(l), grad),
		)
	}
	return o
}

// affineInputGradientOp: gradient of the scores size×Labels, weights Dim×Labels → gradient of hidden size×Dim.
func affineInputGradientOp(b *batch, l model.Layout) *op {
	o, dHidden := newOp("affine input gradient", []int{2, 2}, b.size(), l.Dim)
	o.run = func(in []gorgonia.Value) {
		kernel.AffineInputGradient(dHidden, floats(in[0]), floats(in[1]), l.Dim, l.Labels)
	}
	return o
}

// affineWeightGradientOp: hidden size×Dim, gradient of the scores size×Labels → gradient of the weights Dim×Labels.
func affineWeightGradientOp(l model.Layout) *op {
	o, dWeights := newOp("affine weight gradient", []int{2, 2}, l.Dim, l.Labels)
	o.run = func(in []gorgonia.Value) {
		kernel.AffineWeightGradient(dWeights, floats(in[0]), floats(in[1]), l.Dim, l.Labels)
	}
	return o
}

// affineBiasGradientOp: gradient of the scores size×Labels → gradient of the bias Labels.
func affineBiasGradientOp(l model.Layout) *op {
	o, dBias := newOp("affine bias gradient", []int{2}, l.Labels)
	o.run = func(in []gorgonia.Value) { kernel.AffineBiasGradient(dBias, floats(in[0])) }
	return o
}

// softmaxOp: scores size×Labels → shares size×Labels. It is not differentiable by itself: lossOp's gradient
// goes past it to the scores, which is both shorter and exact where a share is zero.
func softmaxOp(b *batch, l model.Layout) *op {
	o, shares := newOp("softmax", []int{2}, b.size(), l.Labels)
	o.run = func(in []gorgonia.Value) { kernel.Softmax(shares, floats(in[0]), l.Labels) }
	return o
}

// lossOp: scores size×Labels and their softmax → the batch's summed loss, a scalar.
func lossOp(b *batch, l model.Layout) *op {
	o, _ := newOp("loss", []int{2, 2})
	loss := o.value.(*gorgonia.F32)
	o.run = func(in []gorgonia.Value) {
		*loss = gorgonia.F32(b.loss(floats(in[0]), floats(in[1]), l.Labels))
	}
	o.wrt[0] = true
	o.derive = func(in gorgonia.Nodes, _, grad *gorgonia.Node) (gorgonia.Nodes, error) {
		nodes, err := applied(apply(lossGradientOp(b, l), in[0], in[1], grad))
		return append(nodes, nil), err
	}
	return o
}

// lossGradientOp: scores and shares size×Labels, gradient of the loss (a scalar) → gradient of the scores size×Labels.
func lossGradientOp(b *batch, l model.Layout) *op {
	o, dScores := newOp("loss gradient", []int{2, 2, 0}, b.size(), l.Labels)
	o.run = func(in []gorgonia.Value) {
		upstream := float32(*in[2].(*gorgonia.F32))
		b.lossGradient(dScores, floats(in[0]), floats(in[1]), l.Labels, upstream)
	}
	return o
}

// application is a gradient node or why it could not be made.
type application struct {
	node *gorgonia.Node
	err  error
}

func apply(o *op, in ...*gorgonia.Node) application {
	node, err := gorgonia.ApplyOp(o, in...)
	return application{node, err}
}

func applied(all ...application) (gorgonia.Nodes, error) {
	nodes := make(gorgonia.Nodes, 0, len(all)+1)
	for _, a := range all {
		if a.err != nil {
			return nil, a.err
		}
		nodes = append(nodes, a.node)
	}
	return nodes, nil
}
