package kernel

// Affine writes z = h·w + bias: h is n×dim, w is dim×labels, bias has labels elements, z is n×labels, and n is
// len(h)/dim. Each element starts from the bias and adds its products in the order of dim.
func Affine(z, h, w, bias []float32, dim int) {
	labels := len(bias)
	n := len(h) / dim
	j := 0
	// A block of eight columns of w stays in the first-level cache while all examples pass over it.
	for ; j+8 <= labels; j += 8 {
		b := (*[8]float32)(bias[j:])
		for i := range n {
			affine8((*[8]float32)(z[i*labels+j:]), h[i*dim:][:dim], w[j:], b, labels)
		}
	}
	for ; j < labels; j++ {
		for i := range n {
			s := bias[j]
			off := j
			for _, x := range h[i*dim:][:dim] {
				s += float32(x * w[off])
				off += labels
			}
			z[i*labels+j] = s
		}
	}
}

// affine8 is eight neighbouring columns of Affine for one example; w begins at the first of them.
func affine8(z *[8]float32, h, w []float32, bias *[8]float32, labels int) {
	s0, s1, s2, s3 := bias[0], bias[1], bias[2], bias[3]
	s4, s5, s6, s7 := bias[4], bias[5], bias[6], bias[7]
	off := 0
	for _, x := range h {
		c := (*[8]float32)(w[off:])
		s0 += float32(x * c[0])
		s1 += float32(x * c[1])
		s2 += float32(x * c[2])
		s3 += float32(x * c[3])
		s4 += float32(x * c[4])
		s5 += float32(x * c[5])
		s6 += float32(x * c[6])
		s7 += float32(x * c[7])
		off += labels
	}
	z[0], z[1], z[2], z[3] = s0, s1, s2, s3
	z[4], z[5], z[6], z[7] = s4, s5, s6, s7
}

// AffineInputGradient writes dh = dz·wᵀ: dz is n×labels, w is dim×labels, dh is n×dim, and n is len(dh)/dim.
// Each element adds its products in the order of the labels.
func AffineInputGradient(dh, dz, w []float32, dim, labels int) {
	n := len(dh) / dim
	d := 0
	for ; d+8 <= dim; d += 8 {
		for i := range n {
			inputGradient8((*[8]float32)(dh[i*dim+d:]), dz[i*labels:][:labels], w[d*labels:][:8*labels])
		}
	}
	for ; d < dim; d++ {
		row := w[d*labels:][:labels]
		for i := range n {
			var s float32
			for j, g := range dz[i*labels:][:labels] {
				s += float32(g * row[j])
			}
			dh[i*dim+d] = s
		}
	}
}

// inputGradient8 is eight neighbouring elements of AffineInputGradient for one example; w is their eight rows.
func inputGradient8(dh *[8]float32, dz, w []float32) {
	n := len(dz)
	w0, w1, w2, w3 := w[:n], w[n:][:n], w[2*n:][:n], w[3*n:][:n]
	w4, w5, w6, w7 := w[4*n:][:n], w[5*n:][:n], w[6*n:][:n], w[7*n:][:n]
	var s0, s1, s2, s3, s4, s5, s6, s7 float32
	for j, g := range dz {
		s0 += float32(g * w0[j])
		s1 += float32(g * w1[j])
		s2 += float32(g * w2[j])
		s3 += float32(g * w3[j])
		s4 += float32(g * w4[j])
		s5 += float32(g * w5[j])
		s6 += float32(g * w6[j])
		s7 += float32(g * w7[j])
	}
	dh[0], dh[1], dh[2], dh[3] = s0, s1, s2, s3
	dh[4], dh[5], dh[6], dh[7] = s4, s5, s6, s7
}

// AffineWeightGradient writes dw = hᵀ·dz: h is n×dim, dz is n×labels, dw is dim×labels, and n is len(h)/dim.
// Each element adds its products in the order of the examples.
func AffineWeightGradient(dw, h, dz []float32, dim, labels int) {
	n := len(h) / dim
	j := 0
	for ; j+8 <= labels; j += 8 {
		for d := range dim {
			weightGradient8((*[8]float32)(dw[d*labels+j:]), h[d:], dz[j:], n, dim, labels)
		}
	}
	for ; j < labels; j++ {
		for d := range dim {
			var s float32
			for i := range n {
				s += float32(h[i*dim+d] * dz[i*labels+j])
			}
			dw[d*labels+j] = s
		}
	}
}

// weightGradient8 is eight neighbouring elements of one row of AffineWeightGradient; h begins at the row's
// column and dz at the first of the eight.
func weightGradient8(dw *[8]float32, h, dz []float32, n, dim, labels int) {
	var s0, s1, s2, s3, s4, s5, s6, s7 float32
	for i := range n {
		x := h[i*dim]
		g := (*[8]float32)(dz[i*labels:])
		s0 += float32(x * g[0])
		s1 += float32(x * g[1])
		s2 += float32(x * g[2])
		s3 += float32(x * g[3])
		s4 += float32(x * g[4])
		s5 += float32(x * g[5])
		s6 += float32(x * g[6])
		s7 += float32(x * g[7])
	}
	dw[0], dw[1], dw[2], dw[3] = s0, s1, s2, s3
	dw[4], dw[5], dw[6], dw[7] = s4, s5, s6, s7
}

// AffineBiasGradient writes to db, of length labels, the sum of the rows of dz, which is n×labels, in order.
func AffineBiasGradient(db, dz []float32) {
	clear(db)
	for len(dz) >= len(db) && len(db) > 0 {
		row := dz[:len(db)]
		for j, g := range row {
			db[j] += g
		}
		dz = dz[len(db):]
	}
}
