package model

import (
	"crypto/sha256"
	"encoding/hex"
	"math"
	"testing"
)

func TestSizes(t *testing.T) {
	for _, c := range []struct {
		size string
		want int
	}{{"small", 267_094}, {"base", 1_058_326}} {
		l, err := NewLayout(c.size, 150)
		if err != nil || l.Parameters() != c.want {
			t.Errorf("%s with 150 labels has %d parameters, error %v; want %d", c.size, l.Parameters(), err, c.want)
		}
		s, err := DefaultTraining(c.size)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Validate(); err != nil {
			t.Errorf("default training of %s: %v", c.size, err)
		}
	}
	if _, err := DefaultTraining("tiny"); err == nil {
		t.Error("default training of an unknown size: no error")
	}
}

func TestLayoutsRefused(t *testing.T) {
	for _, l := range []Layout{
		{}, {Rows: 100, Dim: 8, Labels: 3}, {Rows: 1 << 21, Dim: 8, Labels: 3}, {Rows: 64, Labels: 3}, {Rows: 64, Dim: 2000, Labels: 3},
		{Rows: 64, Dim: 8, Labels: 1}, {Rows: 64, Dim: 8, Labels: MaxLabels + 1}, {Rows: -64, Dim: 8, Labels: 3},
	} {
		if l.Validate() == nil {
			t.Errorf("layout %+v is accepted", l)
		}
	}
	for _, labels := range []int{-1, 0, 1, MaxLabels + 1} {
		if _, err := NewLayout("small", labels); err == nil {
			t.Errorf("%d labels are accepted", labels)
		}
	}
}

func TestTrainingRefused(t *testing.T) {
	nan := float32(math.NaN())
	good := Training{Epochs: 1, Batch: 1, LearningRate: 0.1}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for i, change := range []func(s *Training){
		func(s *Training) { s.Epochs = 0 }, func(s *Training) { s.Epochs = MaxEpochs + 1 },
		func(s *Training) { s.Batch = 0 }, func(s *Training) { s.Batch = MaxBatch + 1 },
		func(s *Training) { s.LearningRate = 0 }, func(s *Training) { s.LearningRate = nan }, func(s *Training) { s.LearningRate = 1e9 },
		func(s *Training) { s.FeatureDropout = -0.1 }, func(s *Training) { s.FeatureDropout = 1 }, func(s *Training) { s.FeatureDropout = nan },
		func(s *Training) { s.Proximal = -1 }, func(s *Training) { s.Proximal = MaxProximal + 1 }, func(s *Training) { s.Proximal = nan },
		func(s *Training) { s.Batch, s.Consistency = 2, -1 }, func(s *Training) { s.Batch, s.Consistency = 2, MaxConsistency+1 },
		func(s *Training) { s.Batch, s.Consistency = 2, nan }, func(s *Training) { s.Consistency = 1 },
		func(s *Training) { s.HiddenDropout = -0.1 }, func(s *Training) { s.HiddenDropout = 1 }, func(s *Training) { s.HiddenDropout = nan },
		func(s *Training) { s.Averaged = -1 }, func(s *Training) { s.Averaged = 2 }, func(s *Training) { s.Averaged, s.Proximal = 1, 0.1 },
		func(s *Training) { s.LabelSmoothing = -0.1 }, func(s *Training) { s.LabelSmoothing = 1 }, func(s *Training) { s.LabelSmoothing = nan },
	} {
		s := good
		change(&s)
		if s.Validate() == nil {
			t.Errorf("case %d: %+v is accepted", i, s)
		}
	}
}

func TestSplitIsTheWholeVector(t *testing.T) {
	l := Layout{Rows: 4, Dim: 3, Labels: 5}
	params := make([]float32, l.Parameters())
	for i := range params {
		params[i] = float32(i)
	}
	e, w, b := l.Split(params)
	if len(e) != 12 || len(w) != 15 || len(b) != 5 || e[0] != 0 || w[0] != 12 || b[0] != 27 || cap(e) != 12 || cap(w) != 15 {
		t.Errorf("parts have %d, %d, %d elements beginning with %v, %v, %v", len(e), len(w), len(b), e[0], w[0], b[0])
	}
	defer func() {
		if recover() == nil {
			t.Error("a vector of another length is split")
		}
	}()
	l.Split(params[1:])
}

func TestInit(t *testing.T) {
	l, _ := NewLayout("small", 150)
	params := l.Init(1)
	embedding, weights, bias := l.Split(params)
	var mean, square float64
	for _, x := range embedding {
		mean += float64(x) / float64(len(embedding))
		square += float64(x) * float64(x) / float64(len(embedding))
	}
	if math.Abs(mean) > 3e-4 || math.Abs(math.Sqrt(square)-InitDeviation) > 3e-4 {
		t.Errorf("embedding has mean %v and deviation %v, want 0 and %v", mean, math.Sqrt(square), InitDeviation)
	}
	for _, x := range append(weights, bias...) {
		if x != 0 {
			t.Fatalf("output layer begins with %v, want 0", x)
		}
	}
	sum := sha256.Sum256(encodeParameters(params))
	const golden = "e750b64824bbb938b3de13238c07c8057d1ab7b80e9cc319abe5f91b30360370"
	if got := hex.EncodeToString(sum[:]); got != golden {
		t.Errorf("seed 1 gives %s, want %s on every platform", got, golden)
	}
	if l.Init(2)[0] == params[0] {
		t.Error("another seed gives the same parameters")
	}
}
