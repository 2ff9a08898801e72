//go:build !amd64 || purego

package kernel

// addRows adds to dst the first n rows of a matrix, as wide as dst, times x[0], x[stride], x[2·stride] and so on, in
// this order.
func addRows(dst, rows, x []float32, stride, n int) {
	width := len(dst)
	i := 0
	for ; i+4 <= n; i += 4 {
		x0, x1, x2, x3 := x[i*stride], x[(i+1)*stride], x[(i+2)*stride], x[(i+3)*stride]
		r0, r1 := rows[i*width:][:width], rows[(i+1)*width:][:width]
		r2, r3 := rows[(i+2)*width:][:width], rows[(i+3)*width:][:width]
		for j := range dst {
			dst[j] = dst[j] + float32(x0*r0[j]) + float32(x1*r1[j]) + float32(x2*r2[j]) + float32(x3*r3[j])
		}
	}
	for ; i < n; i++ {
		a := x[i*stride]
		row := rows[i*width:][:width]
		for j := range dst {
			dst[j] += float32(a * row[j])
		}
	}
}

// addBag adds to dst the rows of the embedding that the features name, in their order.
func addBag(dst, embedding []float32, mask uint32, features []uint32) {
	dim := len(dst)
	for len(features) >= 4 {
		e0 := embedding[int(features[0]&mask)*dim:][:dim]
		e1 := embedding[int(features[1]&mask)*dim:][:dim]
		e2 := embedding[int(features[2]&mask)*dim:][:dim]
		e3 := embedding[int(features[3]&mask)*dim:][:dim]
		for d := range dst {
			dst[d] = dst[d] + e0[d] + e1[d] + e2[d] + e3[d]
		}
		features = features[4:]
	}
	for _, f := range features {
		e := embedding[int(f&mask)*dim:][:dim]
		for d := range dst {
			dst[d] += e[d]
		}
	}
}

// subtractBag subtracts step from the row of every feature, in their order.
func subtractBag(embedding []float32, mask uint32, features []uint32, step []float32) {
	dim := len(step)
	for _, f := range features {
		e := embedding[int(f&mask)*dim:][:dim]
		for d := range step {
			e[d] -= step[d]
		}
	}
}

// subtract subtracts rate times the gradient from x, element by element.
func subtract(x, gradient []float32, rate float32) {
	gradient = gradient[:len(x)]
	for i := range x {
		x[i] -= float32(rate * gradient[i])
	}
}

// exps writes to p what exp gives for each element of z less m.
func exps(p, z []float32, m float32) {
	for j, x := range z {
		p[j] = exp(x - m)
	}
}
