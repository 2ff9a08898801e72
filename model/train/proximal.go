package train

import "github.com/discreet-fl/discreet/model"

// proximal pulls parameters back to where training began, as FedProx does (Li et al. 2020,
// "Federated optimization in heterogeneous networks", equation 2): a device minimises
// F(w) + μ/2·‖w − w₀‖² in place of its loss F. A step of rate r takes the term's gradient
// where the step ends, w ← w − r·(∇F + μ·(w_next − w₀)), which is the proximal step
//
//	w − w₀ ← (w − r·∇F − w₀)/(1 + r·μ)
//
// and does not overshoot, however large r·μ is. A row of the embedding that no example of
// a step has is only pulled; that is put off until an example has it again, or to the end,
// so that a step costs what its batch has and the output layer, not the whole embedding.
// The graph and plain code see the same parameters, and no engine knows of it.
type proximal struct {
	layout  model.Layout
	origin  []float32 // w₀
	shrink  []float32 // 1/(1 + r·μ) of each step so far
	due     []int     // of each row touched, the first step that has not pulled it
	touched []uint32  // rows, in the order of their first step
}

// begin starts from parameters that are trained.
func (p *proximal) begin(l model.Layout, params []float32) {
	p.layout = l
	p.origin = append(p.origin[:0], params...)
	p.shrink, p.touched = p.shrink[:0], p.touched[:0]
	if p.due == nil {
		p.due = make([]int, l.Rows)
	}
	for i := range p.due {
		p.due[i] = -1
	}
}

// before brings the rows that a batch has up to date.
func (p *proximal) before(params []float32, b *batch) {
	for _, f := range b.features {
		row := f & p.layout.Mask()
		if p.due[row] < 0 {
			p.due[row] = len(p.shrink)
			p.touched = append(p.touched, row)
		}
		p.pull(params, row)
	}
}

// after is the pull of a step that was taken at a rate.
func (p *proximal) after(params []float32, rate, mu float32) {
	factor := 1 / (1 + float32(rate*mu))
	p.shrink = append(p.shrink, factor)
	output := p.layout.Rows * p.layout.Dim
	toward(params[output:], p.origin[output:], factor)
}

// end brings all rows up to date.
func (p *proximal) end(params []float32) {
	for _, row := range p.touched {
		p.pull(params, row)
	}
}

// pull makes up for the steps that have not pulled a row.
func (p *proximal) pull(params []float32, row uint32) {
	if p.due[row] == len(p.shrink) {
		return
	}
	factor := float32(1)
	for _, f := range p.shrink[p.due[row]:] {
		factor = float32(factor * f)
	}
	p.due[row] = len(p.shrink)
	lo, hi := int(row)*p.layout.Dim, (int(row)+1)*p.layout.Dim
	toward(params[lo:hi], p.origin[lo:hi], factor)
}

// toward leaves a factor of the distance of x from its origin.
func toward(x, origin []float32, factor float32) {
	origin = origin[:len(x)]
	for i, o := range origin {
		x[i] = o + float32(float32(x[i]-o)*factor)
	}
}
