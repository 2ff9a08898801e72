//go:build !purego

package kernel

// The kernels' inner loops, four columns at once. They need no more than SSE2, which every amd64 has, and take
// each element's products and sums one by one in the same order as the loops of rows.go, so that they give the same
// bits. What they are told of slices is checked here, since they check nothing.

// addRows adds to dst the first n rows of a matrix, as wide as dst, times x[0], x[stride], x[2·stride] and so on, in
// this order.
func addRows(dst, rows, x []float32, stride, n int) {
	if n == 0 || len(dst) == 0 {
		return
	}
	_, _ = rows[n*len(dst)-1], x[(n-1)*stride]
	addRowsWide(&dst[0], &rows[0], &x[0], len(dst), stride, n)
}

// addBag adds to dst the rows of the embedding that the features name, in their order.
func addBag(dst, embedding []float32, mask uint32, features []uint32) {
	if len(features) == 0 || len(dst) == 0 {
		return
	}
	_ = embedding[(int(mask)+1)*len(dst)-1]
	bagWide(&dst[0], &embedding[0], mask, &features[0], len(features), len(dst))
}

// subtractBag subtracts step from the row of every feature, in their order.
func subtractBag(embedding []float32, mask uint32, features []uint32, step []float32) {
	if len(features) == 0 || len(step) == 0 {
		return
	}
	_ = embedding[(int(mask)+1)*len(step)-1]
	bagStepWide(&embedding[0], mask, &features[0], len(features), &step[0], len(step))
}

// subtract subtracts rate times the gradient from x, element by element.
func subtract(x, gradient []float32, rate float32) {
	if len(x) == 0 {
		return
	}
	_ = gradient[len(x)-1]
	stepWide(&x[0], &gradient[0], rate, len(x))
}

// exps writes to p what exp gives for each element of z less m.
func exps(p, z []float32, m float32) {
	p = p[:len(z)]
	wide := len(z) &^ 3
	if wide > 0 {
		expsWide(&p[0], &z[0], m, wide, &expNumbers)
	}
	for j := wide; j < len(z); j++ {
		p[j] = exp(z[j] - m)
	}
}

// expNumbers are what exp computes with, in the order that expsWide needs them in, four times each.
var expNumbers = [12][4]float32{
	four(least), four(log2e), four(0.5), four(ln2hi), four(ln2lo), four(exp7), four(exp6), four(exp5), four(exp4), four(exp3), four(exp2), four(1),
}

func four(x float32) [4]float32 { return [4]float32{x, x, x, x} }

//go:noescape
func expsWide(p, z *float32, m float32, n int, numbers *[12][4]float32)

//go:noescape
func addRowsWide(dst, rows, x *float32, width, stride, n int)

//go:noescape
func bagWide(dst, embedding *float32, mask uint32, features *uint32, count, dim int)

//go:noescape
func bagStepWide(embedding *float32, mask uint32, features *uint32, count int, step *float32, dim int)

//go:noescape
func stepWide(x, gradient *float32, rate float32, n int)
