package kernel

// Affine writes z = h·w + bias: h is n×dim, w is dim×labels, bias has labels elements, z is n×labels, and n is
// len(h)/dim. Each element starts from the bias and adds its products in the order of dim.
func Affine(z, h, w, bias []float32, dim int) {
	labels := len(bias)
	for i := range len(h) / dim {
		row := z[i*labels:][:labels]
		copy(row, bias)
		addRows(row, w, h[i*dim:][:dim], 1, dim)
	}
}

// AffineWeightGradient writes dw = hᵀ·dz: h is n×dim, dz is n×labels, dw is dim×labels, and n is len(h)/dim.
// Each element adds its products in the order of the examples.
func AffineWeightGradient(dw, h, dz []float32, dim, labels int) {
	n := len(h) / dim
	for d := range dim {
		row := dw[d*labels:][:labels]
		clear(row)
		addRows(row, dz, h[d:], dim, n)
	}
}

// AffineInputGradient writes dh = dz·wᵀ: dz is n×labels, w is dim×labels, dh is n×dim, and n is len(dh)/dim.
// Each element adds its products in the order of the labels.
func AffineInputGradient(dh, dz, w []float32, dim, labels int) {
	const tile = 32 // its square is turned over, on the stack, for all examples to add up whole rows of it
	var turned [tile * tile]float32
	clear(dh)
	for from := 0; from < dim; from += tile {
		width := min(tile, dim-from)
		for label := 0; label < labels; label += tile {
			n := min(tile, labels-label)
			for d := range width {
				for j, x := range w[(from+d)*labels+label:][:n] {
					turned[j*width+d] = x
				}
			}
			for i := range len(dh) / dim {
				addRows(dh[i*dim+from:][:width], turned[:], dz[i*labels+label:][:n], 1, n)
			}
		}
	}
}

// AffineBiasGradient writes to db, of length labels, the sum of the rows of dz, which is n×labels, in order.
func AffineBiasGradient(db, dz []float32) {
	labels := len(db)
	clear(db)
	for i := range len(dz) / labels {
		for j, g := range dz[i*labels:][:labels] {
			db[j] += g
		}
	}
}
