package train

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/discreet-fl/discreet/model"
)

// odd has dimensions that are no multiple of the kernels' blocks.
var odd = model.Layout{Rows: 256, Dim: 20, Labels: 13}

var usual = model.Training{Epochs: 4, Batch: 8, LearningRate: 0.3, FeatureDropout: 0.4, LabelSmoothing: 0.1}

var engines = []struct {
	name string
	make func(model.Layout, int) (*Trainer, error)
}{{"graph", New}, {"plain", NewPlain}} // under js/wasm both are plain

// synthetic returns examples of random features, half of which are ones their label owns.
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
	for _, x := range params {
		h.Write(binary.LittleEndian.AppendUint32(nil, math.Float32bits(x)))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// trained makes a trainer, trains fresh parameters and returns them.
func trained(t testing.TB, make func(model.Layout, int) (*Trainer, error), l model.Layout, ex []model.Example, s model.Training, seed uint64) ([]float32, Report) {
	t.Helper()
	trainer, err := make(l, s.Batch)
	if err != nil {
		t.Fatal(err)
	}
	defer trainer.Close()
	params := l.Init(7)
	r, err := trainer.Train(params, ex, s, seed)
	if err != nil {
		t.Fatal(err)
	}
	return params, r
}

// A hundred steps on every size and every engine give these bits on amd64, arm64 and wasm alike.
func TestHundredStepsAreGolden(t *testing.T) {
	small, err := model.NewLayout("small", 150)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		layout model.Layout
		golden string
	}{
		{"odd", odd, "36c11902b5bca18fe4fc50c9b0fc2edbd965a7916664d3ae8d223a44018362f6"},
		{"small", small, "db22b79f87ef8cde2edb6cf3299f21a3e42b13b85abc4a7d2a6b5dd5d01dd00f"},
	} {
		for _, e := range engines {
			ex := synthetic(197, 40, c.layout.Labels, 3) // 25 batches, the last of 5
			params, r := trained(t, e.make, c.layout, ex, usual, 5)
			if got := digest(params); got != c.golden || r.Steps != 100 {
				t.Errorf("%s, %s: %d steps give %s, want 100 and %s", c.name, e.name, r.Steps, got, c.golden)
			}
		}
	}
}

// Weights and labels that a text does not have give the same bits on both engines and every platform, too.
func TestSignalsAreGolden(t *testing.T) {
	const golden = "67474a194aabe14c7a0f7ccfc9a380a7b91c6efbafc2d21b31c9c495277d2a11"
	ex := synthetic(197, 40, odd.Labels, 3)
	for i := range ex {
		ex[i].Not = i%5 == 0
		ex[i].Weight = float32(i%4) / 4
	}
	for _, e := range engines {
		params, _ := trained(t, e.make, odd, ex, usual, 5)
		if got := digest(params); got != golden {
			t.Errorf("%s gives %s, want %s", e.name, got, golden)
		}
	}
}

// Training with consistency gives the same bits on both engines and every platform; a batch holds half as many examples.
func TestConsistencyIsGolden(t *testing.T) {
	const golden = "ae694e7ebb332176936d773e1ea90a57fb6e9b4019e9955c300a25ae2ca749ae"
	s := usual
	s.Consistency = 2
	for _, e := range engines {
		params, r := trained(t, e.make, odd, synthetic(197, 40, odd.Labels, 3), s, 5)
		if got := digest(params); got != golden || r.Steps != 200 {
			t.Errorf("%s: %d steps give %s, want 200 and %s", e.name, r.Steps, got, golden)
		}
	}
}

// What is for training in one place alone gives the same bits on both engines and every platform, too.
func TestHiddenDropoutAndAverageAreGolden(t *testing.T) {
	for _, c := range []struct {
		change func(*model.Training)
		golden string
	}{
		{func(s *model.Training) { s.HiddenDropout = 0.1 }, "82e18c54dc4f6233c89017769aefa00f3ea238e679979ed1a38d94bcaed40dbe"},
		{func(s *model.Training) { s.Averaged = 3 }, "e6e37ce20acbf45b89c61793c200bc472c0dc5130936dd7eb3dd4a00d3b16e7d"},
		{func(s *model.Training) { s.HiddenDropout, s.Consistency, s.Averaged = 0.1, 1, 2 }, "151e0bc3087d6920e5744d4e6ef03d14a6a7d343842fd2f54106a381d45d5842"},
	} {
		s := usual
		c.change(&s)
		for _, e := range engines {
			params, _ := trained(t, e.make, odd, synthetic(197, 40, odd.Labels, 3), s, 5)
			if got := digest(params); got != c.golden {
				t.Errorf("%s, %+v: got %s, want %s", e.name, s, got, c.golden)
			}
		}
	}
}

// With one example a pass is a step, and what is averaged is what the last of them left.
func TestAverageIsOfTheLastPasses(t *testing.T) {
	ex := synthetic(1, 20, odd.Labels, 3)
	s := model.Training{Epochs: 5, Batch: 1, LearningRate: 0.3}
	for _, e := range engines {
		trainer, err := e.make(odd, s.Batch)
		if err != nil {
			t.Fatal(err)
		}
		defer trainer.Close()
		params := odd.Init(7)
		if err := trainer.engine.bind(params); err != nil {
			t.Fatal(err)
		}
		var after [][]float32
		for step := range s.Epochs {
			trainer.batch.fill(ex, []int{0}, s, nil)
			if _, err := trainer.engine.step(s.LearningRate * float32(s.Epochs-step) / float32(s.Epochs)); err != nil {
				t.Fatal(err)
			}
			after = append(after, slices.Clone(params))
		}
		for n := range s.Epochs + 1 {
			averaged := s
			averaged.Averaged = n
			for range 2 { // the second time with what the first has left
				params := odd.Init(7)
				if _, err := trainer.Train(params, ex, averaged, 5); err != nil {
					t.Fatal(err)
				}
				for i := range params {
					var want float64
					last := after[len(after)-max(n, 1):]
					for _, params := range last {
						want += float64(params[i]) / float64(len(last))
					}
					if math.Abs(float64(params[i])-want) > 1e-6 {
						t.Fatalf("%s: the average of %d passes has parameter %d at %v, want %v", e.name, n, i, params[i], want)
					}
				}
			}
		}
	}
}

// Two copies of an example whose features all stay say the same: no consistency is wanting, and the step is that of one.
func TestConsistencyWithoutDropoutIsNone(t *testing.T) {
	ex := synthetic(12, 20, odd.Labels, 3)
	once, twice := usual, usual
	once.FeatureDropout, once.Batch = 0, 4
	twice.FeatureDropout, twice.Batch, twice.Consistency = 0, 9, 2 // the ninth place stays empty
	for _, e := range engines {
		want, before := trained(t, e.make, odd, ex, once, 5)
		got, after := trained(t, e.make, odd, ex, twice, 5)
		if before.Steps != after.Steps || math.Abs(float64(before.Loss-after.Loss)) > 1e-5 {
			t.Errorf("%s: %+v with each example once, %+v with each twice", e.name, before, after)
		}
		for i := range want {
			if math.Abs(float64(got[i]-want[i])) > 1e-5 {
				t.Fatalf("%s: parameter %d is %v with each example twice, want %v", e.name, i, got[i], want[i])
			}
		}
	}
}

// Told only what examples are not, a model gives their labels less than others.
func TestRejectedLabelsLoseProbability(t *testing.T) {
	for _, e := range engines {
		ex := []model.Example{{Features: model.Features{1, 2, 3}, Label: 4, Not: true}}
		params, _ := trained(t, e.make, odd, ex, model.Training{Epochs: 50, Batch: 8, LearningRate: 0.3}, 1)
		c := model.NewClassifier(&model.Checkpoint{Manifest: model.Manifest{Layout: odd, Labels: make([]string, odd.Labels)}, Params: params})
		p := c.Probabilities(ex[0].Features)
		for j, x := range p {
			if j != 4 && !(x > 1.5*p[4]) {
				t.Errorf("%s: label %d has probability %v, the rejected one %v", e.name, j, x, p[4])
			}
		}
	}
}

func TestReportsAgreeAndRepeat(t *testing.T) {
	ex := synthetic(50, 20, odd.Labels, 3)
	var all []string
	for _, e := range engines {
		for range 2 {
			params, r := trained(t, e.make, odd, ex, usual, 5)
			all = append(all, fmt.Sprint(r, digest(params)))
		}
	}
	for _, one := range all[1:] {
		if one != all[0] {
			t.Errorf("got %s and %s", all[0], one)
		}
	}
	if params, _ := trained(t, New, odd, ex, usual, 6); strings.HasSuffix(all[0], digest(params)) {
		t.Error("another seed gives the same parameters")
	}
}

// A trainer carries nothing from one call into the next.
func TestTrainerIsReusable(t *testing.T) {
	for _, e := range engines {
		trainer, err := e.make(odd, usual.Batch)
		if err != nil {
			t.Fatal(err)
		}
		defer trainer.Close()
		want, _ := trained(t, e.make, odd, synthetic(50, 20, odd.Labels, 3), usual, 5)
		for range 2 {
			if _, err := trainer.Train(odd.Init(1), synthetic(31, 90, odd.Labels, 9), usual, 1); err != nil {
				t.Fatal(err)
			}
			params := odd.Init(7)
			if _, err := trainer.Train(params, synthetic(50, 20, odd.Labels, 3), usual, 5); err != nil {
				t.Fatal(err)
			}
			if digest(params) != digest(want) {
				t.Errorf("%s: a used trainer gives other parameters than a new one", e.name)
			}
		}
	}
}

func TestTrainingLearns(t *testing.T) {
	s := model.Training{Epochs: 20, Batch: 8, LearningRate: 0.3, FeatureDropout: 0.3, LabelSmoothing: 0.1}
	for _, e := range engines {
		params, r := trained(t, e.make, odd, synthetic(300, 40, odd.Labels, 1), s, 1)
		if untaught := float32(math.Log(float64(odd.Labels))); r.Loss > untaught/2 {
			t.Errorf("%s: loss is %v after training, %v before", e.name, r.Loss, untaught)
		}
		embedding, weights, bias := odd.Split(params)
		b := newBatch(1, odd.Dim)
		right := 0
		for _, x := range synthetic(200, 40, odd.Labels, 2) {
			b.fill([]model.Example{x}, []int{0}, model.Training{}, nil)
			hidden := make([]float32, odd.Dim)
			b.bag(hidden, embedding, odd)
			best, at := math.Inf(-1), 0
			for j := range odd.Labels {
				z := float64(bias[j])
				for d, h := range hidden {
					z += float64(h) * float64(weights[d*odd.Labels+j])
				}
				if z > best {
					best, at = z, j
				}
			}
			if at == x.Label {
				right++
			}
		}
		if right < 180 {
			t.Errorf("%s: %d of 200 new examples are right", e.name, right)
		}
	}
}

// What fills up a batch has no effect: the same examples in a batch of just their number give the same bits.
func TestPaddingHasNoEffect(t *testing.T) {
	ex := synthetic(5, 20, odd.Labels, 3)
	for _, e := range engines {
		var digests []string
		for _, size := range []int{5, 8, 33} {
			s := usual
			s.Batch = size
			params, _ := trained(t, e.make, odd, ex, s, 5)
			digests = append(digests, digest(params))
		}
		if digests[0] != digests[1] || digests[0] != digests[2] {
			t.Errorf("%s: batches of 5, 8 and 33 give %v", e.name, digests)
		}
	}
}

func TestTrainRefuses(t *testing.T) {
	ex := synthetic(5, 20, odd.Labels, 3)
	heavy := append(synthetic(1, 3, odd.Labels, 1), model.Example{Weight: 1.5})
	mislabelled := append(synthetic(1, 3, odd.Labels, 1), model.Example{Label: odd.Labels})
	for _, e := range engines {
		trainer, err := e.make(odd, 8)
		if err != nil {
			t.Fatal(err)
		}
		defer trainer.Close()
		params := odd.Init(1)
		before := digest(params)
		for _, c := range []struct {
			name   string
			params []float32
			ex     []model.Example
			change func(s *model.Training)
		}{
			{"short parameters", params[1:], ex, func(*model.Training) {}},
			{"a label outside", params, mislabelled, func(*model.Training) {}},
			{"a weight above 1", params, heavy, func(*model.Training) {}},
			{"another batch size", params, ex, func(s *model.Training) { s.Batch = 4 }},
			{"no epochs", params, ex, func(s *model.Training) { s.Epochs = 0 }},
		} {
			s := usual
			c.change(&s)
			if _, err := trainer.Train(c.params, c.ex, s, 1); err == nil || digest(params) != before {
				t.Errorf("%s, %s: error %v, parameters changed %t", e.name, c.name, err, digest(params) != before)
			}
		}
		if r, err := trainer.Train(params, nil, usual, 1); err != nil || r.Steps != 0 || digest(params) != before {
			t.Errorf("%s: no examples give %+v, error %v, parameters changed %t", e.name, r, err, digest(params) != before)
		}
	}
	if _, err := New(model.Layout{Rows: 3}, 8); err == nil {
		t.Error("a trainer is made for an impossible layout")
	}
	for _, size := range []int{0, -1, model.MaxBatch + 1} {
		if _, err := New(odd, size); err == nil {
			t.Errorf("a trainer is made for batches of %d", size)
		}
	}
}

func TestResultsThatAreNotFiniteAreErrors(t *testing.T) {
	ex := synthetic(40, 20, odd.Labels, 3)
	for _, e := range engines {
		for _, c := range []struct {
			name string
			rate float32
			bad  float32
		}{
			{"NaN going in", 0.1, float32(math.NaN())},
			{"infinity going in", 0.1, float32(math.Inf(1))},
			{"a rate that diverges", model.MaxLearningRate, 1e30},
		} {
			trainer, err := e.make(odd, 8)
			if err != nil {
				t.Fatal(err)
			}
			params := odd.Init(1)
			for i := range 40 {
				params[i*odd.Dim] = c.bad
			}
			s := usual
			s.LearningRate = c.rate
			if _, err := trainer.Train(params, ex, s, 1); err == nil {
				t.Errorf("%s, %s: no error", e.name, c.name)
			}
			// The trainer itself stays usable.
			if _, err := trainer.Train(odd.Init(1), ex, usual, 1); err != nil {
				t.Errorf("%s, after %s: %v", e.name, c.name, err)
			}
			trainer.Close()
		}
	}
}

func TestExamplesWithoutFeaturesTrainTheBias(t *testing.T) {
	ex := []model.Example{{Label: 2}, {Label: 2}, {Label: 2}}
	for _, e := range engines {
		params, _ := trained(t, e.make, odd, ex, usual, 1)
		_, _, bias := odd.Split(params)
		for j, x := range bias {
			if (j == 2) != (x > 0) {
				t.Errorf("%s: bias %d is %v after training on label 2 alone", e.name, j, x)
			}
		}
	}
}

// Trainers of several goroutines share nothing that they change. Meaningful under -race.
func TestTrainersInParallel(t *testing.T) {
	ex := synthetic(30, 20, odd.Labels, 3)
	want, _ := trained(t, NewPlain, odd, ex, usual, 5)
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			for range 3 {
				trainer, err := New(odd, usual.Batch)
				if err != nil {
					t.Error(err)
					return
				}
				params := odd.Init(7)
				if _, err := trainer.Train(params, ex, usual, 5); err != nil || digest(params) != digest(want) {
					t.Errorf("error %v, parameters equal %t", err, digest(params) == digest(want))
				}
				trainer.Close()
			}
		})
	}
	wait.Wait()
}

func TestTrainingIsToldToEnd(t *testing.T) {
	over := errors.New("over")
	for _, e := range engines {
		trainer, err := e.make(odd, usual.Batch)
		if err != nil {
			t.Fatal(err)
		}
		defer trainer.Close()
		passes := 3
		trainer.Ended = func() error {
			if passes--; passes < 0 {
				return over
			}
			return nil
		}
		s := usual
		s.Epochs = 5
		r, err := trainer.Train(odd.Init(1), synthetic(16, 20, odd.Labels, 3), s, 1)
		if want := 3 * ((16 + s.Batch - 1) / s.Batch); !errors.Is(err, over) || r.Steps != want {
			t.Errorf("%s: %d steps and %v, want the %d steps of three passes and why it ended", e.name, r.Steps, err, want)
		}
	}
}

func BenchmarkTrain(b *testing.B) {
	for _, size := range []string{"small", "base"} {
		l, err := model.NewLayout(size, 150)
		if err != nil {
			b.Fatal(err)
		}
		ex := synthetic(320, 60, l.Labels, 1)
		for _, batch := range []int{8, 32} {
			for _, e := range engines {
				b.Run(fmt.Sprintf("%s/batch%d/%s", size, batch, e.name), func(b *testing.B) {
					trainer, err := e.make(l, batch)
					if err != nil {
						b.Fatal(err)
					}
					defer trainer.Close()
					params := l.Init(1)
					s := model.Training{Epochs: 1, Batch: batch, LearningRate: 0.1, LabelSmoothing: 0.1}
					b.ReportAllocs()
					for b.Loop() {
						if _, err := trainer.Train(params, ex, s, 1); err != nil {
							b.Fatal(err)
						}
					}
					b.ReportMetric(float64(b.N*len(ex))/b.Elapsed().Seconds(), "examples/s")
				})
			}
		}
	}
}

// TestOnlyNamedRowsMove trains with every third row of the embedding free, with both
// engines: the other rows keep their bits, and what moves is the same in both.
func TestOnlyNamedRowsMove(t *testing.T) {
	l := model.Layout{Rows: 64, Dim: 8, Labels: 5}
	s := model.Training{Epochs: 2, Batch: 4, LearningRate: 0.3, FeatureDropout: 0.2, LabelSmoothing: 0.1, Rows: make([]bool, l.Rows)}
	for i := range s.Rows {
		s.Rows[i] = i%3 == 0
	}
	ex, before := synthetic(30, 12, l.Labels, 3), l.Init(1)
	var digests []string
	for _, make := range []func(model.Layout, int) (*Trainer, error){New, NewPlain} {
		trainer, err := make(l, s.Batch)
		if err != nil {
			t.Fatal(err)
		}
		params := append([]float32(nil), before...)
		if _, err := trainer.Train(params, ex, s, 1); err != nil {
			t.Fatal(err)
		}
		moved := 0
		for i, x := range params[:l.Rows*l.Dim] {
			if x != before[i] {
				moved++
				if row := i / l.Dim; !s.Rows[row] {
					t.Fatalf("row %d moved", row)
				}
			}
		}
		if moved == 0 {
			t.Error("no row moved")
		}
		digests = append(digests, digest(params))
		short := s
		short.Rows = short.Rows[:63]
		if _, err := trainer.Train(params, ex, short, 1); err == nil {
			t.Error("settings for 63 rows of 64 were taken")
		}
		if err := trainer.Close(); err != nil {
			t.Error(err)
		}
	}
	if digests[0] != digests[1] {
		t.Errorf("the graph gives %s, plain code %s", digests[0], digests[1])
	}
}
