//go:build !js

package train

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/discreet-fl/discreet/model"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// weigh is an operation of the test: the sum of the elements of its input times fixed factors. It makes a scalar cost
// of any tensor, and its gradient is the factors.
func weigh(factors []float32, shape ...int) *op {
	o, _ := newOp("weigh", []int{len(shape)})
	o.run = func(in []gorgonia.Value) {
		var sum float64
		for i, x := range floats(in[0]) {
			sum += float64(factors[i]) * float64(x)
		}
		*o.value.(*gorgonia.F32) = gorgonia.F32(sum)
	}
	o.wrt[0] = true
	o.derive = func(_ gorgonia.Nodes, _, grad *gorgonia.Node) (gorgonia.Nodes, error) {
		d, buffer := newOp("weigh gradient", []int{0}, shape...)
		d.run = func(in []gorgonia.Value) {
			for i, f := range factors {
				buffer[i] = f * float32(*in[0].(*gorgonia.F32))
			}
		}
		return applied(apply(d, grad))
	}
	return o
}

func normal(random *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(random.NormFloat64())
	}
	return x
}

// small sizes, so that every element can be moved; a padded batch with a repeated feature.
func exampleBatch(l model.Layout) *batch {
	b := newBatch(4, l.Dim)
	ex := []model.Example{
		{Features: model.Features{1, 5, 5, 30}, Label: 2},
		{Label: 0},
		{Features: model.Features{5, 7, 1 << 31}, Label: l.Labels - 1},
	}
	b.fill(ex, []int{0, 1, 2}, model.Training{LabelSmoothing: 0.2}, nil)
	return b
}

// check compares gorgonia's gradients of a cost with finite differences of the cost.
func check(t *testing.T, cost *gorgonia.Node, inputs gorgonia.Nodes, h, tolerance float64, dense func(i int, gradient []float32) []float32) {
	t.Helper()
	gradients, err := gorgonia.Grad(cost, inputs...)
	if err != nil {
		t.Fatal(err)
	}
	machine := gorgonia.NewTapeMachine(cost.Graph())
	defer machine.Close()
	evaluate := func() float64 {
		defer machine.Reset()
		if err := machine.RunAll(); err != nil {
			t.Fatal(err)
		}
		return float64(*cost.Value().(*gorgonia.F32))
	}
	for i, input := range inputs {
		evaluate()
		got := append([]float32(nil), dense(i, floats(gradients[i].Value()))...)
		x := floats(input.Value())
		if len(got) != len(x) {
			t.Fatalf("gradient of %s has %d elements, want %d", input.Name(), len(got), len(x))
		}
		for k := range x {
			at := x[k]
			x[k] = at + float32(h)
			above := evaluate()
			x[k] = at - float32(h)
			below := evaluate()
			x[k] = at
			if want := (above - below) / (2 * h); math.Abs(float64(got[k])-want) > tolerance {
				t.Errorf("gradient of %s, element %d, is %v; finite differences give %v", input.Name(), k, got[k], want)
			}
		}
	}
}

func asIs(_ int, gradient []float32) []float32 { return gradient }

func input(g *gorgonia.ExprGraph, name string, backing []float32, shape ...int) *gorgonia.Node {
	value := tensor.New(tensor.WithShape(shape...), tensor.WithBacking(backing))
	return gorgonia.NewTensor(g, tensor.Float32, len(shape), gorgonia.WithShape(shape...), gorgonia.WithName(name), gorgonia.WithValue(value))
}

// written turns a gradient in factors into the embedding's.
func written(b *batch, l model.Layout, factors []float32) []float32 {
	gradient := make([]float32, l.Rows*l.Dim)
	for i := range b.end {
		for _, f := range b.of(i) {
			for d := range l.Dim {
				gradient[int(f&l.Mask())*l.Dim+d] += factors[i*l.Dim+d]
			}
		}
	}
	return gradient
}

func TestOpsByFiniteDifferences(t *testing.T) {
	l := model.Layout{Rows: 16, Dim: 9, Labels: 11}
	random := rand.New(rand.NewPCG(1, 1))
	b := exampleBatch(l)
	n := b.size()
	node := func(n *gorgonia.Node, err error) *gorgonia.Node {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	t.Run("bag", func(t *testing.T) {
		g := gorgonia.NewGraph()
		embedding := input(g, "embedding", normal(random, l.Rows*l.Dim), l.Rows, l.Dim)
		hidden := node(gorgonia.ApplyOp(bagOp(b, l), embedding))
		cost := node(gorgonia.ApplyOp(weigh(normal(random, n*l.Dim), n, l.Dim), hidden))
		check(t, cost, gorgonia.Nodes{embedding}, 0.25, 1e-5, func(_ int, factors []float32) []float32 { return written(b, l, factors) })
	})
	t.Run("bag with units left out", func(t *testing.T) {
		b := newBatch(4, l.Dim)
		b.fill(synthetic(3, 6, l.Labels, 1), []int{0, 1, 2}, model.Training{HiddenDropout: 0.4}, rand.NewPCG(1, 1))
		g := gorgonia.NewGraph()
		embedding := input(g, "embedding", normal(random, l.Rows*l.Dim), l.Rows, l.Dim)
		hidden := node(gorgonia.ApplyOp(bagOp(b, l), embedding))
		cost := node(gorgonia.ApplyOp(weigh(normal(random, n*l.Dim), n, l.Dim), hidden))
		check(t, cost, gorgonia.Nodes{embedding}, 0.25, 1e-4, func(_ int, factors []float32) []float32 { return written(b, l, factors) })
	})
	t.Run("affine", func(t *testing.T) {
		g := gorgonia.NewGraph()
		hidden := input(g, "hidden", normal(random, n*l.Dim), n, l.Dim)
		weights := input(g, "weights", normal(random, l.Dim*l.Labels), l.Dim, l.Labels)
		bias := input(g, "bias", normal(random, l.Labels), l.Labels)
		scores := node(gorgonia.ApplyOp(affineOp(b, l), hidden, weights, bias))
		cost := node(gorgonia.ApplyOp(weigh(normal(random, n*l.Labels), n, l.Labels), scores))
		check(t, cost, gorgonia.Nodes{hidden, weights, bias}, 0.25, 1e-4, asIs)
	})
	t.Run("softmax and cross-entropy", func(t *testing.T) {
		g := gorgonia.NewGraph()
		scores := input(g, "scores", normal(random, n*l.Labels), n, l.Labels)
		shares := node(gorgonia.ApplyOp(softmaxOp(b, l), scores))
		cost := node(gorgonia.ApplyOp(lossOp(b, l), scores, shares))
		check(t, cost, gorgonia.Nodes{scores}, 1e-2, 2e-4, asIs)
	})
	t.Run("consistency", func(t *testing.T) {
		b := newBatch(4, l.Dim)
		b.fill(synthetic(2, 6, l.Labels, 1), []int{0, 1}, model.Training{LabelSmoothing: 0.2, FeatureDropout: 0.5, Consistency: 2}, rand.NewPCG(1, 1))
		g := gorgonia.NewGraph()
		scores := input(g, "scores", normal(random, n*l.Labels), n, l.Labels)
		shares := node(gorgonia.ApplyOp(softmaxOp(b, l), scores))
		cost := node(gorgonia.ApplyOp(lossOp(b, l), scores, shares))
		check(t, cost, gorgonia.Nodes{scores}, 1e-2, 2e-4, asIs)
	})
	t.Run("whole step", func(t *testing.T) {
		e, err := newGraph(l, b)
		if err != nil {
			t.Fatal(err)
		}
		defer e.close()
		params := normal(random, l.Parameters())
		if err := e.bind(params); err != nil {
			t.Fatal(err)
		}
		// At rate zero a step only computes; at rate one the parameters move by the gradient.
		loss := func() float64 {
			x, err := e.step(0)
			if err != nil {
				t.Fatal(err)
			}
			return float64(x)
		}
		gradient := append([]float32(nil), params...)
		if _, err := e.step(1); err != nil {
			t.Fatal(err)
		}
		for i := range gradient {
			gradient[i], params[i] = gradient[i]-params[i], gradient[i]
		}
		const h = 1e-2
		for i, x := range params {
			params[i] = x + h
			above := loss()
			params[i] = x - h
			below := loss()
			params[i] = x
			if want := (above - below) / (2 * h); math.Abs(float64(gradient[i])-want) > 1e-3 {
				t.Errorf("gradient of parameter %d is %v, finite differences give %v", i, gradient[i], want)
			}
		}
	})
}

func TestGradientsAreNotDifferentiatedAgain(t *testing.T) {
	b := exampleBatch(odd)
	for _, o := range []*op{
		bagGradientOp(b, odd), affineInputGradientOp(b, odd), affineWeightGradientOp(odd), affineBiasGradientOp(odd),
		softmaxOp(b, odd), lossGradientOp(b, odd),
	} {
		for i, differentiable := range o.DiffWRT(o.Arity()) {
			if differentiable {
				t.Errorf("%s claims to be differentiable in input %d", o, i)
			}
		}
		if _, err := o.SymDiff(nil, nil, nil); err == nil {
			t.Errorf("%s: SymDiff gives no error", o)
		}
		if _, err := o.Do(); err == nil {
			t.Errorf("%s: Do without inputs gives no error", o)
		}
	}
}

// Two operations that hash alike would become one node.
func TestOpsHashApart(t *testing.T) {
	b := exampleBatch(odd)
	seen := map[uint32]string{}
	for _, o := range []*op{
		bagOp(b, odd), bagGradientOp(b, odd), affineOp(b, odd), affineInputGradientOp(b, odd), affineWeightGradientOp(odd),
		affineBiasGradientOp(odd), softmaxOp(b, odd), lossOp(b, odd), lossGradientOp(b, odd),
	} {
		if other, taken := seen[o.Hashcode()]; taken {
			t.Errorf("%s hashes like %s", o, other)
		}
		seen[o.Hashcode()] = o.String()
	}
}

// The direct way through the tape machine must exist in the gorgonia we build with, and give what RunAll gives.
func TestDirectRunGivesWhatRunAllGives(t *testing.T) {
	ex := synthetic(50, 20, odd.Labels, 3)
	var digests []string
	for _, direct := range []bool{true, false} {
		trainer, err := New(odd, usual.Batch)
		if err != nil {
			t.Fatal(err)
		}
		defer trainer.Close()
		e := trainer.engine.(*graph)
		if _, found := runner(e.machine); !found {
			t.Fatal("this gorgonia has no instructions to be found: small batches will be slow, see runner")
		}
		if !direct {
			e.run = e.machine.RunAll
		}
		params := odd.Init(7)
		if _, err := trainer.Train(params, ex, usual, 5); err != nil {
			t.Fatal(err)
		}
		digests = append(digests, digest(params))
	}
	if digests[0] != digests[1] {
		t.Errorf("direct and RunAll give %v", digests)
	}
}

type hollow struct{ gorgonia.VM }

func TestRunnerFallsBackToRunAll(t *testing.T) {
	if _, direct := runner(hollow{}); direct {
		t.Error("a machine without Run and Prog is run directly")
	}
}

// A failing operation fails the step, and the next one still works.
func TestStepReportsFailure(t *testing.T) {
	b := exampleBatch(odd)
	e, err := newGraph(odd, b)
	if err != nil {
		t.Fatal(err)
	}
	defer e.close()
	if _, err := e.step(0.1); err == nil {
		t.Error("a step without bound parameters gives no error")
	}
	if err := e.bind(odd.Init(1)); err != nil {
		t.Fatal(err)
	}
	if _, err := e.step(0.1); err != nil {
		t.Error(err)
	}
	if err := fmt.Sprint(e.(*graph).loss); err == "" {
		t.Error("the loss has no name")
	}
}

// Neither gorgonia's global state nor a finalizer in a cycle keeps a closed trainer alive.
func TestClosedTrainersAreFreed(t *testing.T) {
	heap := func() uint64 {
		var m runtime.MemStats
		for range 3 { // a finalizer's object goes with the second collection
			runtime.GC()
		}
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	build := func(n int) {
		for range n {
			trainer, err := New(model.Layout{Rows: 16, Dim: 64, Labels: 150}, 32)
			if err != nil {
				t.Fatal(err)
			}
			if err := trainer.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	build(5)
	before := heap()
	build(100)
	if after := heap(); after > before+1<<20 {
		t.Errorf("100 closed trainers leave %d KB behind", (after-before)>>10)
	}
}
