package train

import "github.com/discreet-fl/discreet/model"

// average is the mean of the parameters at the ends of the last passes, kept as their sum. It is empty where none is
// asked for.
type average struct {
	sum   []float32
	of    int // passes
	first int // the first of them
}

// begin starts from nothing.
func (a *average) begin(parameters int, s model.Training) {
	a.of, a.first, a.sum = s.Averaged, s.Epochs-s.Averaged, a.sum[:0]
	if a.of > 0 {
		a.sum = append(a.sum, make([]float32, parameters)...)
	}
}

// after takes in the parameters at the end of a pass.
func (a *average) after(pass int, params []float32) {
	if a.of == 0 || pass < a.first {
		return
	}
	for i, x := range params {
		a.sum[i] += x
	}
}

// end makes the parameters the mean.
func (a *average) end(params []float32) {
	for i, x := range a.sum {
		params[i] = x / float32(a.of)
	}
}
