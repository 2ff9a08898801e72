package aggregation

import (
	"math"
	"testing"
)

func TestNormByHand(t *testing.T) {
	for _, tc := range []struct {
		examples, epochs, batch int
		want                    float64
	}{
		{8, 1, 8, 8},      // one step of eight at the whole rate
		{8, 2, 8, 8 + 4},  // and one at half of it
		{10, 1, 8, 8 + 1}, // eight at the whole rate, two at half
		{3, 2, 2, 2 + 0.75 + 1 + 0.25},
		{1, 1, 8, 1},
		{0, 5, 8, 1},
	} {
		if got := Norm(tc.examples, tc.epochs, tc.batch); math.Abs(got-tc.want) > 1e-12 {
			t.Errorf("%d examples, %d epochs in batches of %d: %v, want %v", tc.examples, tc.epochs, tc.batch, got, tc.want)
		}
	}
}

// TestFedNovaByHand has two devices of norms 4 and 16: with p = 8 and 24 the model moves
// by (8·4+24·16)/32 · (8·Δ₁/4 + 24·Δ₂/16)/32, whatever the scale.
func TestFedNovaByHand(t *testing.T) {
	const one, two = 0.5, -0.25
	want := (8*4. + 24*16.) / 32 * (8*one/4 + 24*two/16) / 32
	for _, scale := range []float32{1, 80} {
		n := Normalised{Scale: scale}
		a, b := []float32{one}, []float32{two}
		scalars := n.Divide(a, 4, 8) + n.Divide(b, 16, 24)
		mean := (8*float64(a[0]) + 24*float64(b[0])) / 32
		if got := mean * n.Factor(32, int64(scalars)); scalars != 416 || math.Abs(got-want) > 1e-6 {
			t.Errorf("scale %v: moves by %v with scalars %d, want %v with 416", scale, got, scalars, want)
		}
	}
	n := Normalised{Scale: 1}
	if got := n.Divide([]float32{1}, 1e9, MostNormWeight); got > MaxScalar || n.Factor(0, 0) != 0 {
		t.Errorf("a scalar of %d", got)
	}
}

// TestQFedAvgByHand holds two devices to the paper's step with q = 2 and L = 0.5:
// (F₁²Δ₁ + F₂²Δ₂) / (F₁² + 2·F₁·L‖Δ₁‖² + F₂² + 2·F₂·L‖Δ₂‖²).
func TestQFedAvgByHand(t *testing.T) {
	f := Fair{Eighths: 16, Lipschitz: 0.5, Reference: 4}
	one, two := []float32{0.6, 0.8}, []float32{0, -2}
	w1, s1 := f.Weigh(3, one)
	w2, s2 := f.Weigh(1, two)
	if w1 != 36863 || w2 != 4096 { // 65535·(3/4)² and ·(1/4)²
		t.Errorf("weights %d and %d, want 36863 and 4096", w1, w2)
	}
	mean := (float64(w1)*0.8 + float64(w2)*-2) / float64(w1+w2)
	want := (9*0.8 - 1*2) / (9 + 2*3*0.5*1 + 1 + 2*1*0.5*4)
	if got := mean * f.Factor(w1+w2, int64(s1+s2)); math.Abs(got-want) > 1e-3 {
		t.Errorf("moves by %v, want %v", got, want)
	}
	// q = 0 is a mean without weights.
	f.Eighths = 0
	w1, s1 = f.Weigh(3, one)
	if w2, s2 = f.Weigh(0, two); w1 != w2 || s1+s2 != 0 || f.Factor(w1+w2, 0) != 1 {
		t.Errorf("q = 0 weighs %d and %d, with %d", w1, w2, s1+s2)
	}
	// What is no loss, or more than is bounded, counts as the bound.
	f.Eighths = 4
	for _, loss := range []float32{4, 99, float32(math.Inf(1)), float32(math.NaN())} {
		if w, _ := f.Weigh(loss, one); w != FairWeight {
			t.Errorf("a loss of %v weighs %d", loss, w)
		}
	}
	if w, s := f.Weigh(0, []float32{1e10}); w < 1 || s != MaxScalar {
		t.Errorf("no loss and a huge update weigh %d, %d", w, s)
	}
	for eighths, want := range map[int]float64{-8: 4, 0: 1, 4: 0.5, 8: 0.25, 12: 0.125} {
		if got := power(0.25, eighths); math.Abs(got-want) > 1e-14 {
			t.Errorf("0.25 to %d eighths is %v, want %v", eighths, got, want)
		}
	}
}

// TestScalarNeverOverflows sums as many devices' vectors as Fits lets into a ring, each
// with the largest scalar, and refuses settings out of their ranges.
func TestScalarNeverOverflows(t *testing.T) {
	const devices = 1000
	codec := Codec{Clip: 1, Bits: 2, MaxWeight: FairWeight}
	l := Layout{Codec: codec, Parameters: 2, Evaluation: Evaluation{Intents: 3, Bins: 4, Chats: 100}, Scalar: Fair{8, 1, 1}}
	ring := l.RingBits(devices)
	if err := l.Fits(devices, ring); err != nil || l.Fits(devices, ring-1) == nil || l.Length() != 3+l.Evaluation.Words()+1 {
		t.Fatalf("%d bits for %d words: %v", ring, l.Length(), err)
	}
	words := make([]uint32, l.Length())
	words[len(words)-1] = devices * MaxScalar
	total := make([]int64, len(words))
	Lift(total, words, l.Signed(), ring)
	if got := total[len(total)-1]; got != devices*MaxScalar {
		t.Errorf("a sum of scalars is %d, want %d", got, devices*MaxScalar)
	}
	if counts := Counts(l, total); counts.Right[3] != 0 {
		t.Error("the scalar stands among the counts")
	}
	nan := float32(math.NaN())
	for _, bad := range []Layout{
		{Codec: codec, Scalar: Fair{-1, 1, 1}}, {Codec: codec, Scalar: Fair{MaxEighths + 1, 1, 1}}, {Codec: codec, Scalar: Fair{8, 0, 1}},
		{Codec: codec, Scalar: Fair{8, nan, 1}}, {Codec: codec, Scalar: Fair{8, 1, nan}}, {Codec: codec, Scalar: Normalised{1}},
		{Codec: Codec{1, 2, 32}, Scalar: Fair{8, 1, 1}}, {Codec: Codec{1, 2, 32}, Scalar: Normalised{nan}}, {Codec: Codec{1, 2, 32}, Scalar: Normalised{MaxScale * 2}},
	} {
		if bad.Fits(3, 30) == nil {
			t.Errorf("%+v was accepted", bad)
		}
	}
}
