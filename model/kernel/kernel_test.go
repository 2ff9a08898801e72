package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// shapes meet every path through the loops: below, at and above four rows at a time, and the sizes in use.
var shapes = []struct{ n, dim, labels int }{
	{1, 1, 2}, {3, 7, 7}, {2, 8, 8}, {5, 9, 17}, {1, 16, 3}, {4, 24, 30}, {32, 32, 20}, {8, 64, 150}, {3, 35, 39}, {2, 71, 101},
}

func each(t *testing.T, f func(t *testing.T, n, dim, labels int, random *rand.Rand)) {
	for _, s := range shapes {
		t.Run(fmt.Sprintf("n%d,dim%d,labels%d", s.n, s.dim, s.labels), func(t *testing.T) {
			f(t, s.n, s.dim, s.labels, rand.New(rand.NewPCG(1, uint64(s.n))))
		})
	}
}

func normal(random *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(random.NormFloat64())
	}
	return x
}

// sum adds up float32 products in the documented order, one accumulator, each step rounded: what a kernel must give
// to the last bit.
func sum(start float32, n int, product func(i int) (a, b float32)) float32 {
	for i := range n {
		a, b := product(i)
		p := float32(a * b)
		start = float32(start + p)
	}
	return start
}

func same(t *testing.T, what string, got, want []float32) {
	t.Helper()
	for i := range want {
		if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
			t.Fatalf("%s: element %d is %v, want %v", what, i, got[i], want[i])
		}
	}
}

func TestBagIsTheScaledSumOfRows(t *testing.T) {
	each(t, func(t *testing.T, n, dim, _ int, random *rand.Rand) {
		const rows = 16
		embedding := normal(random, rows*dim)
		features := make([]uint32, 3*n)
		for i := range features {
			features[i] = random.Uint32() // names a row by its low bits
		}
		features = append(features, features[0]) // counts twice
		got, want := make([]float32, dim), make([]float32, dim)
		Bag(got, embedding, rows-1, features, 0.37)
		for d := range want {
			want[d] = 0.37 * sum(0, len(features), func(i int) (float32, float32) {
				return embedding[int(features[i]%rows)*dim+d], 1
			})
		}
		same(t, "bag", got, want)
		Bag(got, embedding, rows-1, nil, 0)
		same(t, "bag of nothing", got, make([]float32, dim))
	})
}

func TestBagStepSubtractsOncePerFeature(t *testing.T) {
	each(t, func(t *testing.T, _, dim, _ int, random *rand.Rand) {
		embedding, step := normal(random, 4*dim), normal(random, dim)
		want := append([]float32(nil), embedding...)
		for _, row := range []int{3, 1, 3} {
			for d := range dim {
				want[row*dim+d] -= step[d]
			}
		}
		BagStep(embedding, 3, []uint32{7, 1, 3}, step)
		same(t, "embedding", embedding, want)
	})
}

func TestAffineAndItsGradients(t *testing.T) {
	each(t, func(t *testing.T, n, dim, labels int, random *rand.Rand) {
		h, w, bias, dz := normal(random, n*dim), normal(random, dim*labels), normal(random, labels), normal(random, n*labels)
		z, dh, dw, db := make([]float32, n*labels), make([]float32, n*dim), make([]float32, dim*labels), make([]float32, labels)
		wantZ, wantDH, wantDW, wantDB := make([]float32, n*labels), make([]float32, n*dim), make([]float32, dim*labels), make([]float32, labels)
		for i := range n {
			for j := range labels {
				wantZ[i*labels+j] = sum(bias[j], dim, func(d int) (float32, float32) { return h[i*dim+d], w[d*labels+j] })
			}
			for d := range dim {
				wantDH[i*dim+d] = sum(0, labels, func(j int) (float32, float32) { return dz[i*labels+j], w[d*labels+j] })
			}
		}
		for j := range labels {
			for d := range dim {
				wantDW[d*labels+j] = sum(0, n, func(i int) (float32, float32) { return h[i*dim+d], dz[i*labels+j] })
			}
			wantDB[j] = sum(0, n, func(i int) (float32, float32) { return 1, dz[i*labels+j] })
		}
		Affine(z, h, w, bias, dim)
		AffineInputGradient(dh, dz, w, dim, labels)
		AffineWeightGradient(dw, h, dz, dim, labels)
		AffineBiasGradient(db, dz)
		same(t, "z", z, wantZ)
		same(t, "dh", dh, wantDH)
		same(t, "dw", dw, wantDW)
		same(t, "db", db, wantDB)
	})
}

// TestEveryWidth holds the inner loops, which take columns in blocks of several sizes, to the documented order at every
// width up to more than two of the largest, and that they leave alone what is beside.
func TestEveryWidth(t *testing.T) {
	const rows, beside = 8, 4 // rows of the embedding; elements before and behind what is written
	random := rand.New(rand.NewPCG(2, 2))
	for width := range 71 {
		for n := range 10 {
			stride := 1 + n%3
			embedding, x, dst := normal(random, max(rows, n)*width), normal(random, n*stride), normal(random, width+2*beside)
			features := make([]uint32, n)
			for i := range features {
				features[i] = random.Uint32()
			}
			added, bag := append([]float32(nil), dst...), append([]float32(nil), dst...)
			for j := range width {
				added[beside+j] = sum(dst[beside+j], n, func(i int) (float32, float32) { return x[i*stride], embedding[i*width+j] })
				bag[beside+j] = sum(dst[beside+j], n, func(i int) (float32, float32) { return embedding[int(features[i]%rows)*width+j], 1 })
			}
			got := append([]float32(nil), dst...)
			addRows(got[beside:][:width], embedding, x, stride, n)
			same(t, fmt.Sprintf("%d rows of width %d, stride %d", n, width, stride), got, added)
			copy(got, dst)
			addBag(got[beside:][:width], embedding, rows-1, features)
			same(t, fmt.Sprintf("a bag of %d rows of width %d", n, width), got, bag)

			stepped, step := append([]float32(nil), embedding...), dst[beside:][:width]
			for _, f := range features {
				for j, s := range step {
					stepped[int(f%rows)*width+j] -= s
				}
			}
			subtractBag(embedding, rows-1, features, step)
			same(t, fmt.Sprintf("a step of %d rows of width %d", n, width), embedding, stepped)
		}
	}
}

func TestStepAndScale(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 3))
	for n := range 71 {
		x, g := normal(random, n), normal(random, n)
		scaled, want := make([]float32, n), make([]float32, n)
		Scale(scaled, g, 0.3)
		for i := range want {
			p := float32(0.3 * g[i])
			want[i] = x[i] - p
			if scaled[i] != p {
				t.Fatalf("scaled[%d] is %v, want %v", i, scaled[i], p)
			}
		}
		Step(x, g, 0.3)
		same(t, "x", x, want)
	}
}

func TestSoftmaxAgainstDoublePrecision(t *testing.T) {
	each(t, func(t *testing.T, n, _, labels int, random *rand.Rand) {
		z := normal(random, n*labels)
		for i := range z {
			z[i] *= 5
		}
		p := make([]float32, n*labels)
		Softmax(p, z, labels)
		for i := range n {
			var total, m float64
			m = math.Inf(-1)
			for _, x := range z[i*labels:][:labels] {
				m = max(m, float64(x))
			}
			for _, x := range z[i*labels:][:labels] {
				total += math.Exp(float64(x) - m)
			}
			for j, x := range z[i*labels:][:labels] {
				want := math.Exp(float64(x)-m) / total
				if got := float64(p[i*labels+j]); math.Abs(got-want) > 2e-6*want+1e-30 {
					t.Fatalf("p[%d,%d] is %v, want %v", i, j, got, want)
				}
			}
		}
	})
}

// A row must not be touched by another's largest element, and no finite row may overflow.
func TestSoftmaxExtremes(t *testing.T) {
	big := float32(math.MaxFloat32)
	z := []float32{
		1000, -1000, 5,
		90, 80, -90,
		big, -big, 0,
		-big, -big, -big,
		0, -103, -87.4,
	}
	want := []float64{
		1, 0, 0,
		0.9999546021312976, 4.5397868702434395e-05, 0,
		1, 0, 0,
		1. / 3, 1. / 3, 1. / 3,
		1, 0, 0,
	}
	p := make([]float32, len(z))
	Softmax(p, z, 3)
	for i := range want {
		if math.Abs(float64(p[i])-want[i]) > 1e-7 {
			t.Errorf("row %d: p is %v, want %v", i/3, p[i/3*3:][:3], want[i/3*3:][:3])
		}
	}
	loss := CrossEntropy(z, p, 3, []int32{0, 1, 1, 2, 0}, []float32{1, 1, 0, 1, 1}, 0)
	if want := 10 + 4.5398899e-05 + math.Log(3); math.Abs(float64(loss)-want) > 1e-5 {
		t.Errorf("cross-entropy is %v, want %v", loss, want)
	}
	Softmax(z, z, 3)
	same(t, "softmax in place", z, p)
}

func TestCrossEntropyGradientByFiniteDifferences(t *testing.T) {
	const labels, smoothing, upstream, h = 7, 0.15, 1.5, 1e-2
	random := rand.New(rand.NewPCG(5, 5))
	z := normal(random, 5*labels)
	label, weight := []int32{6, 0, 3, ^2, ^0}, []float32{1, 0, 0.5, 1, 0.25}
	loss := func() float64 {
		p := make([]float32, len(z))
		Softmax(p, z, labels)
		return float64(CrossEntropy(z, p, labels, label, weight, smoothing))
	}
	p, dz := make([]float32, len(z)), make([]float32, len(z))
	Softmax(p, z, labels)
	CrossEntropyGradient(dz, p, labels, label, weight, smoothing, upstream)
	for i := range z {
		x := z[i]
		z[i] = x + h
		above := loss()
		z[i] = x - h
		below := loss()
		z[i] = x
		if want := upstream * (above - below) / (2 * h); math.Abs(float64(dz[i])-want) > 2e-4 {
			t.Errorf("dz[%d] is %v, finite differences give %v", i, dz[i], want)
		}
	}
}

func TestDivergence(t *testing.T) {
	const labels, upstream, h = 7, 1.5, 1e-2
	random := rand.New(rand.NewPCG(6, 6))
	z, p := normal(random, 6*labels), make([]float32, 6*labels)
	weight := []float32{0.5, 0.5, 0, 0, 0.125, 0.125}
	Softmax(p, z, labels)
	var want float64
	for _, i := range []int{0, 4} {
		for j := range labels {
			a, b := float64(p[i*labels+j]), float64(p[(i+1)*labels+j])
			want += float64(weight[i]) * (a*math.Log(a/b) + b*math.Log(b/a))
		}
	}
	if got := float64(Divergence(z, p, labels, weight)); math.Abs(got-want) > 1e-5 {
		t.Errorf("the divergence is %v, want %v", got, want)
	}
	divergence := func() float64 {
		Softmax(p, z, labels)
		return float64(Divergence(z, p, labels, weight))
	}
	before := normal(random, len(z))
	dz := append([]float32(nil), before...)
	AddDivergenceGradient(dz, z, p, labels, weight, upstream)
	for i := range z {
		x := z[i]
		z[i] = x + h
		above := divergence()
		z[i] = x - h
		below := divergence()
		z[i] = x
		if got, want := float64(dz[i]-before[i]), upstream*(above-below)/(2*h); math.Abs(got-want) > 2e-4 {
			t.Errorf("dz[%d] grew by %v, finite differences give %v", i, got, want)
		}
	}
}

// An example that is surely what it is said not to be has a finite loss and gradient.
func TestRejectedExtremes(t *testing.T) {
	p, dz := []float32{1, 0, 0}, make([]float32, 3)
	loss := CrossEntropy(p, p, 3, []int32{^0}, []float32{1}, 0)
	if want := -math.Log(1e-20); math.Abs(float64(loss)-want) > 1e-4 {
		t.Errorf("the loss is %v, want %v", loss, want)
	}
	CrossEntropyGradient(dz, p, 3, []int32{^0}, []float32{1}, 0, 1)
	same(t, "gradient", dz, []float32{1, 0, 0})
	CrossEntropyGradient(dz, []float32{0.5, 0.3, 0.2}, 3, []int32{^0}, []float32{1}, 0.1, 1)
	same(t, "gradient", dz, []float32{0.5, -0.3, -0.2})
}

func TestExpWithinTwoUnitsInTheLastPlace(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 7))
	var worst float64
	check := func(x float32) {
		want := math.Exp(float64(x))
		unit := float64(math.Nextafter32(float32(want), 2)) - float64(float32(want))
		worst = max(worst, math.Abs(float64(exp(x))-want)/unit)
	}
	for range 1_000_000 {
		check(-87.33 * random.Float32())
		check(-random.Float32())
	}
	check(0)
	check(-87.33)
	t.Logf("largest error: %.2f units in the last place", worst)
	if worst > 2 {
		t.Errorf("largest error is %.2f units in the last place, want at most 2", worst)
	}
	if exp(0) != 1 || exp(-87.34) != 0 || exp(float32(math.Inf(-1))) != 0 || exp(float32(math.NaN())) == exp(float32(math.NaN())) {
		t.Errorf("exp of 0, -87.34, -Inf, NaN is %v, %v, %v, %v; want 1, 0, 0, NaN",
			exp(0), exp(-87.34), exp(float32(math.Inf(-1))), exp(float32(math.NaN())))
	}
}

// TestExpsAreExp holds that several at once have the bits of each.
func TestExpsAreExp(t *testing.T) {
	random := rand.New(rand.NewPCG(8, 8))
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	z := []float32{0, -87.33, math.Nextafter32(-87.33, 0), math.Nextafter32(-87.33, -100), -88, -1e9, -inf, nan, -0.3465736, -0.3465735, -3e-45, -1, nan, -2}
	for range 100_000 {
		z = append(z, -90*random.Float32(), -random.Float32())
	}
	for _, m := range []float32{0, 1.5, inf, nan} {
		for n := range 71 {
			got := normal(random, n+4) // what is behind stays
			want := append([]float32(nil), got...)
			for j, x := range z[len(z)-n:] {
				want[j] = exp(x - m)
			}
			exps(got[:n], z[len(z)-n:], m)
			same(t, fmt.Sprintf("%d less %v", n, m), got, want)
		}
		for _, n := range []int{1, 2, 3, 4, 7, len(z)} {
			got, want := make([]float32, n), make([]float32, n)
			exps(got, z[:n], m)
			for j, x := range z[:n] {
				want[j] = exp(x - m)
			}
			same(t, fmt.Sprintf("%d less %v", n, m), got, want)
		}
	}
}

func TestLogAccuracy(t *testing.T) {
	random := rand.New(rand.NewPCG(9, 9))
	for range 200_000 {
		x := math.Exp(20 * (random.Float64() - 0.5))
		if got, want := log(x), math.Log(x); math.Abs(got-want) > 1e-14 {
			t.Fatalf("log(%v) is %v, want %v", x, got, want)
		}
	}
	if log(1) != 0 {
		t.Errorf("log(1) is %v, want 0", log(1))
	}
}

func BenchmarkKernels(b *testing.B) {
	const n, dim, labels, rows = 32, 64, 150, 16384
	random := rand.New(rand.NewPCG(1, 1))
	embedding, w, bias := normal(random, rows*dim), normal(random, dim*labels), normal(random, labels)
	h, z, dw := normal(random, n*dim), normal(random, n*labels), make([]float32, dim*labels)
	features := make([]uint32, 60)
	for i := range features {
		features[i] = random.Uint32()
	}
	b.Run("Bag", func(b *testing.B) {
		for b.Loop() {
			Bag(h[:dim], embedding, rows-1, features, 0.1)
		}
	})
	b.Run("BagStep", func(b *testing.B) {
		for b.Loop() {
			BagStep(embedding, rows-1, features, w[:dim])
		}
	})
	b.Run("Affine", func(b *testing.B) {
		for b.Loop() {
			Affine(z, h, w, bias, dim)
		}
	})
	b.Run("AffineInputGradient", func(b *testing.B) {
		for b.Loop() {
			AffineInputGradient(h, z, w, dim, labels)
		}
	})
	b.Run("AffineWeightGradient", func(b *testing.B) {
		for b.Loop() {
			AffineWeightGradient(dw, h, z, dim, labels)
		}
	})
	b.Run("Softmax", func(b *testing.B) {
		for b.Loop() {
			Softmax(z, z, labels)
		}
	})
}
