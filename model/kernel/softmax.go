package kernel

import "math"

// Softmax writes the softmax of every row of z, which is n×labels, to p of the same shape; p may be z.
// A row's largest element is subtracted before exponentiation, so that no finite row overflows; the
// exponentials are summed in the order of the labels.
func Softmax(p, z []float32, labels int) {
	for len(z) >= labels && labels > 0 {
		softmaxRow(p[:labels], z[:labels])
		p, z = p[labels:], z[labels:]
	}
}

func softmaxRow(p, z []float32) {
	p = p[:len(z)]
	m := largest(z)
	exps(p, z, m)
	var sum float32
	for _, e := range p {
		sum += e
	}
	r := 1 / sum
	for j := range p {
		p[j] = float32(p[j] * r)
	}
}

func largest(z []float32) float32 {
	m := z[0]
	for _, x := range z[1:] {
		if x > m {
			m = x
		}
	}
	return m
}

// CrossEntropy returns the sum over the n examples of weight[i] times the cross-entropy between the target of
// example i and softmax(z[i]), in nats. z and p are n×labels, and p must be the softmax of z. With smoothing e
// the target is 1-e+e/labels at the example's label and e/labels elsewhere.
//
// A negative label ^k tells of an example only that it is not k. Its loss is −log(1−p[k]), without smoothing.
func CrossEntropy(z, p []float32, labels int, label []int32, weight []float32, smoothing float32) float32 {
	var total float32
	for i, w := range weight {
		if w == 0 {
			continue
		}
		row, probabilities := z[i*labels:][:labels], p[i*labels:][:labels]
		if label[i] < 0 {
			total += float32(w * float32(-log(float64(others(probabilities, ^label[i])))))
			continue
		}
		at := 0
		for j, x := range row {
			if x > row[at] {
				at = j
			}
		}
		// Measured from the largest element, the loss is a logarithm plus distances, and nothing large cancels. The
		// logarithm is of the sum of exponentials, which the largest element's share is one over.
		m := float64(row[at])
		var distances float64
		for _, x := range row {
			distances += m - float64(x)
		}
		e := float64(smoothing)
		loss := float64((1-e)*(m-float64(row[label[i]]))) + float64(e*distances)/float64(labels) - log(float64(probabilities[at]))
		total += float32(w * float32(loss))
	}
	return total
}

// CrossEntropyGradient writes to dz the gradient of upstream times CrossEntropy with regard to z, given
// p = softmax(z): weight[i]·upstream·(p − target). Where label[i] is ^k it is weight[i]·upstream·p[k] at k, and
// that times −p[j]/(1−p[k]) at every other j. dz may be p.
func CrossEntropyGradient(dz, p []float32, labels int, label []int32, weight []float32, smoothing, upstream float32) {
	elsewhere := smoothing / float32(labels)
	at := 1 - smoothing
	for i, w := range weight {
		w = float32(w * upstream)
		row, probabilities := dz[i*labels:][:labels], p[i*labels:][:labels]
		if label[i] < 0 {
			rejectRow(row, probabilities, ^label[i], w)
			continue
		}
		for j, x := range probabilities {
			row[j] = float32(w * (x - elsewhere))
		}
		row[label[i]] -= float32(w * at)
	}
}

// rejectRow is a row of CrossEntropyGradient for an example that is not k.
func rejectRow(dz, p []float32, k int32, w float32) {
	dz = dz[:len(p)]
	pull := float32(w * p[k])
	share := pull / others(p, k)
	for j, x := range p {
		dz[j] = 0 - float32(share*x) // a zero without a sign on every platform, which -x has not
	}
	dz[k] = pull
}

// others returns the sum of a row's probabilities but the one at k: 1−p[k] without its cancellation. It is at least
// 1e-20, so that where p[k] is all there is a gradient stays finite.
func others(p []float32, k int32) float32 {
	var sum float32
	for j, x := range p {
		if int32(j) != k {
			sum += x
		}
	}
	return max(sum, 1e-20)
}

// Margin returns log(p/(1−p)) for the softmax p of z at one index: how far its element is above the logarithm
// of the others' exponentials together. It is +Inf for an element alone. The others are summed in their order.
func Margin(z []float32, at int) float32 {
	if len(z) < 2 {
		return float32(math.Inf(1))
	}
	m := float32(math.Inf(-1))
	for j, x := range z {
		if j != at && x > m {
			m = x
		}
	}
	var sum float32
	for j, x := range z {
		if j != at {
			sum += exp(x - m)
		}
	}
	return z[at] - m - float32(log(float64(sum)))
}

// Logistic returns 1/(1+e^−x).
func Logistic(x float32) float32 {
	if x < 0 {
		e := exp(x)
		return e / (1 + e)
	}
	return 1 / (1 + exp(-x))
}

// Numbers of exp.
const (
	least = -87.33 // below it the result would be subnormal
	log2e = 1.44269504088896341
	ln2hi = 0.693359375 // 355/512: its products with small integers are exact
	ln2lo = -2.12194440e-4

	exp7 = 1.9875691500e-4
	exp6 = 1.3981999507e-3
	exp5 = 8.3334519073e-3
	exp4 = 4.1665795894e-2
	exp3 = 1.6666665459e-1
	exp2 = 5.0000001201e-1
)

// exp returns e to the x for x ≤ 0, within two units in the last place; below −87.33, where the result would
// be subnormal, it returns zero. Method and coefficients: S. L. Moshier, Cephes Mathematical Library, expf.
func exp(x float32) float32 {
	if !(x >= least) { // NaN too: its caller's result is refused, and the conversion below must stay in range
		if x != x {
			return x
		}
		return 0
	}
	k := int32(float32(x*log2e) - 0.5)
	f := float32(k)
	r := x - float32(f*ln2hi)
	r -= float32(f * ln2lo)
	p := float32(exp7*r) + exp6
	p = float32(p*r) + exp5
	p = float32(p*r) + exp4
	p = float32(p*r) + exp3
	p = float32(p*r) + exp2
	y := float32(p*float32(r*r)) + r + 1
	return float32(y * math.Float32frombits(uint32(k+127)<<23))
}

// log returns the natural logarithm of a positive, normal x, with an error below 1e-15 relative to one.
// Method: x = 2^k·m with m in [√½, √2), and log m = 2·atanh((m−1)/(m+1)) by its Taylor series.
func log(x float64) float64 {
	bits := math.Float64bits(x)
	k := int64(bits>>52&0x7ff) - 1023
	m := math.Float64frombits(bits&(1<<52-1) | 1023<<52)
	if m > math.Sqrt2 {
		m /= 2
		k++
	}
	s := (m - 1) / (m + 1)
	s2 := float64(s * s)
	var sum float64
	for n := 21; n >= 1; n -= 2 {
		sum = float64(sum*s2) + 1/float64(n)
	}
	return float64(float64(k)*math.Ln2) + float64(2*float64(s*sum))
}
