package train

import (
	"github.com/discreet-fl/discreet/model"
	"github.com/discreet-fl/discreet/model/kernel"
)

// plain is the engine that calls the kernels one after the other.
type plain struct {
	layout model.Layout
	batch  *batch
	params []float32

	hidden, dHidden []float32 // size×dim
	scores, shares  []float32 // size×labels
	dScores         []float32
	gradients       gradients
}

func newPlain(l model.Layout, b *batch) (engine, error) {
	n := b.size()
	return &plain{
		layout: l, batch: b,
		hidden: make([]float32, n*l.Dim), dHidden: make([]float32, n*l.Dim),
		scores: make([]float32, n*l.Labels), shares: make([]float32, n*l.Labels),
		dScores: make([]float32, n*l.Labels),
		gradients: gradients{
			embedding: make([]float32, n*l.Dim),
			weights:   make([]float32, l.Dim*l.Labels),
			bias:      make([]float32, l.Labels),
		},
	}, nil
}

func (p *plain) bind(params []float32) error {
	p.params = params
	return nil
}

func (p *plain) step(rate float32) (float32, error) {
	l, b, g := p.layout, p.batch, p.gradients
	embedding, weights, bias := l.Split(p.params)
	b.bag(p.hidden, embedding, l)
	kernel.Affine(p.scores, p.hidden, weights, bias, l.Dim)
	kernel.Softmax(p.shares, p.scores, l.Labels)
	loss := b.loss(p.scores, p.shares, l.Labels)
	dScores := p.dScores
	b.lossGradient(dScores, p.scores, p.shares, l.Labels, 1)
	kernel.AffineInputGradient(p.dHidden, dScores, weights, l.Dim, l.Labels)
	kernel.AffineWeightGradient(g.weights, p.hidden, dScores, l.Dim, l.Labels)
	kernel.AffineBiasGradient(g.bias, dScores)
	b.bagGradient(g.embedding, p.dHidden, l.Dim)
	b.descend(l, p.params, g, rate)
	return loss, nil
}

func (p *plain) close() error { return nil }
