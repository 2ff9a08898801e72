package kernel

// Bag writes to dst, of length dim, the sum of the rows of the embedding that the features name, times scale.
// The embedding is (mask+1)×dim and a feature f names row f&mask; a feature that occurs twice counts twice.
// Each column is summed in the order of the features. No features give zeros.
func Bag(dst, embedding []float32, mask uint32, features []uint32, scale float32) {
	clear(dst)
	addBag(dst, embedding, mask, features)
	Scale(dst, dst, scale)
}

// BagStep is the gradient step of Bag: it subtracts step, of length dim, from the row of every feature,
// once for each time the feature occurs. The caller has multiplied the gradient by the scale and the rate.
func BagStep(embedding []float32, mask uint32, features []uint32, step []float32) {
	subtractBag(embedding, mask, features, step)
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
	subtract(x, gradient, rate)
}
