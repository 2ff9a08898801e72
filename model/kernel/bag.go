package kernel

// Bag writes to dst, of length dim, the sum of the rows of the embedding that the features name, times scale.
// The embedding is (mask+1)×dim and a feature f names row f&mask; a feature that occurs twice counts twice.
// Each column is summed in the order of the features. No features give zeros.
func Bag(dst, embedding []float32, mask uint32, features []uint32, scale float32) {
	dim := len(dst)
	d := 0
	for ; d+8 <= dim; d += 8 {
		var s0, s1, s2, s3, s4, s5, s6, s7 float32
		for _, f := range features {
			e := (*[8]float32)(embedding[int(f&mask)*dim+d:])
			s0 += e[0]
			s1 += e[1]
			s2 += e[2]
			s3 += e[3]
			s4 += e[4]
			s5 += e[5]
			s6 += e[6]
			s7 += e[7]
		}
		out := (*[8]float32)(dst[d:])
		out[0] = float32(s0 * scale)
		out[1] = float32(s1 * scale)
		out[2] = float32(s2 * scale)
		out[3] = float32(s3 * scale)
		out[4] = float32(s4 * scale)
		out[5] = float32(s5 * scale)
		out[6] = float32(s6 * scale)
		out[7] = float32(s7 * scale)
	}
	for ; d < dim; d++ {
		var s float32
		for _, f := range features {
			s += embedding[int(f&mask)*dim+d]
		}
		dst[d] = float32(s * scale)
	}
}

// BagStep is the gradient step of Bag: it subtracts step, of length dim, from the row of every feature,
// once for each time the feature occurs. The caller has multiplied the gradient by the scale and the rate.
func BagStep(embedding []float32, mask uint32, features []uint32, step []float32) {
	dim := len(step)
	for _, f := range features {
		row := embedding[int(f&mask)*dim:][:dim]
		d := 0
		for ; d+8 <= dim; d += 8 {
			e := (*[8]float32)(row[d:])
			s := (*[8]float32)(step[d:])
			e[0] -= s[0]
			e[1] -= s[1]
			e[2] -= s[2]
			e[3] -= s[3]
			e[4] -= s[4]
			e[5] -= s[5]
			e[6] -= s[6]
			e[7] -= s[7]
		}
		for ; d < dim; d++ {
			row[d] -= step[d]
		}
	}
}

// Scale writes x times a to dst, element by element.
func Scale(dst, x []float32, a float32) {
	x = x[:len(dst)]
	for i := range dst {
		dst[i] = float32(a * x[i])
	}
}

// Step subtracts rate times the gradient from x, element by element: one step of gradient descent.
func Step(x, gradient []float32, rate float32) {
	gradient = gradient[:len(x)]
	i := 0
	for ; i+8 <= len(x); i += 8 {
		a := (*[8]float32)(x[i:])
		g := (*[8]float32)(gradient[i:])
		a[0] -= float32(rate * g[0])
		a[1] -= float32(rate * g[1])
		a[2] -= float32(rate * g[2])
		a[3] -= float32(rate * g[3])
		a[4] -= float32(rate * g[4])
		a[5] -= float32(rate * g[5])
		a[6] -= float32(rate * g[6])
		a[7] -= float32(rate * g[7])
	}
	for ; i < len(x); i++ {
		x[i] -= float32(rate * gradient[i])
	}
}
