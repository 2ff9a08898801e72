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

// AffineInputGradient writes dh = dz·wᵀ: dz is n×labels, w is dim×labels, dh is n×dim, and n is len(dh)/dim.
// Each element adds its products in the order of the labels.
func AffineInputGradient(dh, dz, w []float32, dim, labels int) {
	for i := range len(dh) / dim {
		dots(dh[i*dim:][:dim], w, dz[i*labels:][:labels])
	}
}

// dots writes to dst the products of x with the rows of a matrix, which are as long as x.
func dots(dst, rows, x []float32) {
	n := len(x)
	d := 0
	for ; d+4 <= len(dst); d += 4 {
		r0, r1, r2, r3 := rows[d*n:][:n], rows[(d+1)*n:][:n], rows[(d+2)*n:][:n], rows[(d+3)*n:][:n]
		var s0, s1, s2, s3 float32
		for j, a := range x {
			s0 += float32(a * r0[j])
			s1 += float32(a * r1[j])
			s2 += float32(a * r2[j])
			s3 += float32(a * r3[j])
		}
		dst[d], dst[d+1], dst[d+2], dst[d+3] = s0, s1, s2, s3
	}
	for ; d < len(dst); d++ {
		row := rows[d*n:][:n]
		var s float32
		for j, a := range x {
			s += float32(a * row[j])
		}
		dst[d] = s
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
