package model

import (
	"fmt"
	"math"
	"math/rand/v2"
)

// MaxLabels bounds the intents of one model. A kiosk has tens, CLINC150 has 150.
const MaxLabels = 4096

// sizes are the models a task may choose. Both stay small enough for a phone's upload: at 150 intents, small
// has 267,094 parameters and base 1,058,326.
var sizes = map[string]Layout{
	"small": {Rows: 8192, Dim: 32},
	"base":  {Rows: 16384, Dim: 64},
}

// Layout says how a model's parameters lie in one flat vector: the embedding, Rows×Dim; then the weights of the
// output layer, Dim×Labels; then its bias, Labels. Matrices are row-major. Rows is a power of two.
//
// Weights lie with the labels side by side (and not the dimensions) because prediction and the forward pass of
// training then read eight labels' weights at once while eight sums stay in registers.
type Layout struct {
	Rows   int `json:"rows"`
	Dim    int `json:"dim"`
	Labels int `json:"labels"`
}

// NewLayout returns the layout of a size, "small" (8192×32) or "base" (16384×64), for a number of intents.
func NewLayout(size string, labels int) (Layout, error) {
	l, ok := sizes[size]
	if !ok {
		return Layout{}, fmt.Errorf("model size %q is unknown: choose small or base", size)
	}
	l.Labels = labels
	return l, l.Validate()
}

// Validate reports what keeps l from being a usable layout. Its bounds keep Parameters below 2^31.
func (l Layout) Validate() error {
	switch {
	case l.Rows < 1 || l.Rows > 1<<20 || l.Rows&(l.Rows-1) != 0:
		return fmt.Errorf("layout has %d rows, want a power of two up to %d", l.Rows, 1<<20)
	case l.Dim < 1 || l.Dim > 1024:
		return fmt.Errorf("layout has dimension %d, want 1 to 1024", l.Dim)
	case l.Labels < 2 || l.Labels > MaxLabels:
		return fmt.Errorf("layout has %d labels, want 2 to %d", l.Labels, MaxLabels)
	}
	return nil
}

// Parameters returns the length of the flat vector.
func (l Layout) Parameters() int { return l.Rows*l.Dim + l.Dim*l.Labels + l.Labels }

// Split returns the three parts of a flat vector as views on it: embedding Rows×Dim, weights Dim×Labels, bias.
// It panics unless len(params) is Parameters.
func (l Layout) Split(params []float32) (embedding, weights, bias []float32) {
	if len(params) != l.Parameters() {
		panic(fmt.Sprintf("model: %d parameters do not fit a layout of %d", len(params), l.Parameters()))
	}
	a, b := l.Rows*l.Dim, l.Rows*l.Dim+l.Dim*l.Labels
	return params[:a:a], params[a:b:b], params[b:]
}

// Output returns the output layer of a flat vector, weights and then bias, as a view on it. It panics unless
// len(params) is Parameters.
func (l Layout) Output(params []float32) []float32 {
	embedding, _, _ := l.Split(params)
	return params[len(embedding):]
}

// Mask turns a feature hash into a row of the embedding: row = hash & Mask.
func (l Layout) Mask() uint32 { return uint32(l.Rows - 1) }

// InitDeviation is the standard deviation of a fresh embedding. Small on purpose: training starts near the
// origin and what separates the intents is learned; at .5 the accuracy on CLINC150 falls by two points.
const InitDeviation = 0.03

// Init returns fresh parameters: an embedding of independent, nearly normal values of mean zero and deviation
// InitDeviation, and an output layer of zeros. The same seed gives the same bits on every platform.
func (l Layout) Init(seed uint64) []float32 {
	params := make([]float32, l.Parameters())
	embedding, _, _ := l.Split(params)
	// The sum of four uniform 16-bit numbers is close to normal and needs no logarithm or cosine, whose last bit
	// differs between platforms. Its variance is 4·(2^32−1)/12.
	unit := float32(InitDeviation / math.Sqrt(4*(1<<32-1)/12.0))
	random := rand.NewPCG(seed, 0x6d6f64656c) // "model"
	for i := range embedding {
		x := random.Uint64()
		sum := int(x&0xffff) + int(x>>16&0xffff) + int(x>>32&0xffff) + int(x>>48) - 2*0xffff
		embedding[i] = float32(float32(sum) * unit)
	}
	return params
}
