package kernel

// Divergence returns the sum over the pairs of rows 2i and 2i+1 of z, which is n×labels, of weight[2i]
// times the symmetric divergence of their softmaxes p and q, in nats:
//
//	KL(p‖q) + KL(q‖p) = Σ (p−q)·(z_p−z_q)
//
// (Jeffreys 1946, "An invariant form for the prior probability in estimation problems"; what the logarithms of both
// sums of exponentials would add cancels, since p−q sums to zero). p must be the softmax of z.
func Divergence(z, p []float32, labels int, weight []float32) float32 {
	var total float32
	for i := 0; i+1 < len(weight); i += 2 {
		if weight[i] == 0 {
			continue
		}
		z0, z1 := z[i*labels:][:labels], z[(i+1)*labels:][:labels]
		p0, p1 := p[i*labels:][:labels], p[(i+1)*labels:][:labels]
		var sum float32
		for j, x := range z0 {
			sum += float32((p0[j] - p1[j]) * (x - z1[j]))
		}
		total += float32(weight[i] * sum)
	}
	return total
}

// AddDivergenceGradient adds to dz the gradient of upstream times Divergence with regard to z: at element j of the
// first row of a pair weight·upstream·(p−q + p·(d − Σ p·d)), where d is z_p−z_q, and the same with p and q exchanged
// at the second. dz must be neither z nor p.
func AddDivergenceGradient(dz, z, p []float32, labels int, weight []float32, upstream float32) {
	for i := 0; i+1 < len(weight); i += 2 {
		w := float32(weight[i] * upstream)
		if w == 0 {
			continue
		}
		z0, z1 := z[i*labels:][:labels], z[(i+1)*labels:][:labels]
		p0, p1 := p[i*labels:][:labels], p[(i+1)*labels:][:labels]
		var m0, m1 float32
		for j, x := range z0 {
			d := x - z1[j]
			m0 += float32(p0[j] * d)
			m1 += float32(p1[j] * d)
		}
		d0, d1 := dz[i*labels:][:labels], dz[(i+1)*labels:][:labels]
		for j, x := range z0 {
			d, between := x-z1[j], p0[j]-p1[j]
			d0[j] += float32(w * (between + float32(p0[j]*(d-m0))))
			d1[j] -= float32(w * (between + float32(p1[j]*(d-m1))))
		}
	}
}
