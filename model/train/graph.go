//go:build !js

package train

import (
	"fmt"
	"sync"

	"github.com/discreet-fl/discreet/model"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// newEngine makes the engine of New.
var newEngine = newGraph

// building guards gorgonia's graph construction and compilation, which share a cache of types between all graphs.
var building sync.Mutex

// graph is the engine that runs one step's expression graph on gorgonia's tape machine. The parameters are inputs of
// the graph and views on the flat vector; the gradients are nodes that gorgonia derived. Descent is ours, because
// gorgonia's solvers would write out the gradient of the whole embedding.
type graph struct {
	layout  model.Layout
	batch   *batch
	params  []float32
	machine gorgonia.VM
	run     func() error

	embedding, weights, bias *gorgonia.Node
	loss                     *gorgonia.Node
	derivatives              gorgonia.Nodes // of embedding (in factors), weights, bias
}

func newGraph(l model.Layout, b *batch) (engine, error) {
	building.Lock()
	defer building.Unlock()
	g := gorgonia.NewGraph()
	e := &graph{
		layout: l, batch: b,
		embedding: gorgonia.NewMatrix(g, tensor.Float32, gorgonia.WithShape(l.Rows, l.Dim), gorgonia.WithName("embedding")),
		weights:   gorgonia.NewMatrix(g, tensor.Float32, gorgonia.WithShape(l.Dim, l.Labels), gorgonia.WithName("weights")),
		bias:      gorgonia.NewVector(g, tensor.Float32, gorgonia.WithShape(l.Labels), gorgonia.WithName("bias")),
	}
	hidden, err := gorgonia.ApplyOp(bagOp(b, l), e.embedding)
	if err != nil {
		return nil, err
	}
	scores, err := gorgonia.ApplyOp(affineOp(b, l), hidden, e.weights, e.bias)
	if err != nil {
		return nil, err
	}
	shares, err := gorgonia.ApplyOp(softmaxOp(b, l), scores)
	if err != nil {
		return nil, err
	}
	if e.loss, err = gorgonia.ApplyOp(lossOp(b, l), scores, shares); err != nil {
		return nil, err
	}
	if e.derivatives, err = gorgonia.Grad(e.loss, e.embedding, e.weights, e.bias); err != nil {
		return nil, err
	}
	e.machine = gorgonia.NewTapeMachine(g)
	e.run, _ = runner(e.machine)
	return e, nil
}

func (e *graph) bind(params []float32) error {
	e.params = params
	embedding, weights, bias := e.layout.Split(params)
	for _, input := range []struct {
		node *gorgonia.Node
		view []float32
	}{{e.embedding, embedding}, {e.weights, weights}, {e.bias, bias}} {
		value := tensor.New(tensor.WithShape(input.node.Shape()...), tensor.WithBacking(input.view))
		if err := gorgonia.Let(input.node, value); err != nil {
			return fmt.Errorf("bind %s: %w", input.node.Name(), err)
		}
	}
	return nil
}

func (e *graph) step(rate float32) (float32, error) {
	// Without Reset the next RunAll would find the program at its end and do nothing, without an error.
	defer e.machine.Reset()
	if err := e.run(); err != nil {
		return 0, err
	}
	g := gradients{
		embedding: floats(e.derivatives[0].Value()),
		weights:   floats(e.derivatives[1].Value()),
		bias:      floats(e.derivatives[2].Value()),
	}
	e.batch.descend(e.layout, e.params, g, rate)
	return float32(*e.loss.Value().(*gorgonia.F32)), nil
}

func (e *graph) close() error { return e.machine.Close() }
