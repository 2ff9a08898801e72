package train

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/discreet-fl/discreet/model"
)

// synthetic returns examples of random features: half of an example's features come from a set its label owns.
func synthetic(n, features, labels int, seed uint64) []model.Example {
	random := rand.New(rand.NewPCG(seed, 0))
	ex := make([]model.Example, n)
	for i := range ex {
		label := random.IntN(labels)
		f := make(model.Features, features)
		for j := range f {
			f[j] = random.Uint32()
			if j%2 == 0 {
				f[j] = uint32(label*31+random.IntN(20)) * 0x9e3779b1
			}
		}
		ex[i] = model.Example{Features: f, Label: label}
	}
	return ex
}

func digest(params []float32) string {
	h := sha256.New()
	var b [4]byte
	for _, x := range params {
		binary.LittleEndian.PutUint32(b[:], math.Float32bits(x))
		h.Write(b[:])
	}
	return hex.EncodeToString(h.Sum(nil))
}

func benchmarkTrain(b *testing.B, size string, batch int, plain bool) {
	l, err := model.NewLayout(size, 150)
	if err != nil {
		b.Fatal(err)
	}
	make := New
	if plain {
		make = NewPlain
	}
	t, err := make(l, batch)
	if err != nil {
		b.Fatal(err)
	}
	defer t.Close()
	params := l.Init(1)
	ex := synthetic(960, 60, 150, 1)
	s := model.Training{Epochs: 1, Batch: batch, LearningRate: 0.1}
	b.ResetTimer()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := t.Train(params, ex, s, 1); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N*len(ex))/b.Elapsed().Seconds(), "examples/s")
}

func BenchmarkTrain(b *testing.B) {
	for _, size := range []string{"small", "base"} {
		for _, batch := range []int{8, 32} {
			for _, plain := range []bool{false, true} {
				name := size + "/batch" + string(rune('0'+batch/10)) + string(rune('0'+batch%10)) + "/graph"
				if plain {
					name = name[:len(name)-5] + "plain"
				}
				b.Run(name, func(b *testing.B) { benchmarkTrain(b, size, batch, plain) })
			}
		}
	}
}

func TestEnginesAgree(t *testing.T) {
	l := model.Layout{Rows: 256, Dim: 20, Labels: 13}
	ex := synthetic(117, 30, l.Labels, 3)
	s := model.Training{Epochs: 8, Batch: 8, LearningRate: 0.3, FeatureDropout: 0.4, LabelSmoothing: 0.1}
	var digests [2]string
	for i, make := range []func(model.Layout, int) (*Trainer, error){New, NewPlain} {
		tr, err := make(l, s.Batch)
		if err != nil {
			t.Fatal(err)
		}
		params := l.Init(7)
		r, err := tr.Train(params, ex, s, 5)
		if err != nil {
			t.Fatal(err)
		}
		t.Log(r)
		digests[i] = digest(params)
	}
	if digests[0] != digests[1] {
		t.Fatal(digests)
	}
}
