package kernel

// Bag writes to dst, of length dim, the sum of the rows of the embedding that the features name, times scale.
// The embedding is (mask+1)×dim and a feature f names row f&mask; a feature that occurs twice counts twice.
// Each column is summed in the order of the features. No features give zeros.
func Bag(dst, embedding []float32, mask uint32, features []uint32, scale float32) {
	dim := len(dst)
	clear(dst)
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
	Scale(dst, dst, scale)
}

// BagStep is the gradient step of Bag: it subtracts step, of length dim, from the row of every feature,
// once for each time the feature occurs. The caller has multiplied the gradient by the scale and the rate.
func BagStep(embedding []float32, mask uint32, features []uint32, step []float32) {
	dim := len(step)
	for _, f := range features {
		e := embedding[int(f&mask)*dim:][:dim]
		for d := range step {
			e[d] -= step[d]
		}
	}
}

// Scale writes x times a to dst, element by element; dst may be x.
func Scale(dst, x []float32, a float32) {
	x = x[:len(dst)]
	for i := range dst {
		dst[i] = float32(a * x[i])
	}
}

// Step subtracts rate times the gradient from x, element by element: one step of gradient descent.
func Step(x, gradient []float32, rate float32) {
	gradient = gradient[:len(x)]
	for i := range x {
		x[i] -= float32(rate * gradient[i])
	}
}
