package client

import (
	"errors"
	"math"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/discreet-fl/discreet/aggregation"
	"github.com/discreet-fl/discreet/model"
	pb "github.com/discreet-fl/discreet/proto"
)

// withScalar is a plan for a strategy that takes one more word.
func withScalar(c *model.Checkpoint, change func(*pb.Plan)) *pb.Plan {
	plan := testPlan(c, c.Encode(), 5)
	plan.Codec.MaxWeight = 32
	plan.SecureAggregation.Length++
	change(plan)
	l := layout(plan, c.Manifest.Layout)
	if plan.Noise == nil {
		plan.Codec.RingBits = uint32(l.RingBits(5))
	}
	return plan
}

func testCheckpoint(t *testing.T) *model.Checkpoint {
	t.Helper()
	layout, err := model.NewLayout("small", len(rigLabels))
	if err != nil {
		t.Fatal(err)
	}
	c, err := model.NewCheckpoint("shop", "small", 0, rigLabels, layout.Init(1))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestStrategyScalars has a device train to a known update, and holds what it sends to
// FedNova's and q-FedAvg's formulas; a device without chats sends zeros.
func TestStrategyScalars(t *testing.T) {
	c := testCheckpoint(t)
	examples := []model.Example{{Features: model.LatestTokeniser.Featurise("where is it"), Label: 0}, {Features: model.LatestTokeniser.Featurise("hi"), Label: 2}, {Features: model.LatestTokeniser.Featurise("no"), Label: 1, Not: true}}
	const moved = 1. / 256
	p := &Participant{
		Examples: func(*model.Manifest) ([]model.Example, error) { return examples, nil },
		Train: func(params []float32, _ model.Layout, _ []model.Example, _ model.Training, _ uint64) error {
			for i := range params {
				params[i] += moved
			}
			return nil
		},
		Seed: func(*pb.Plan, string) (seed [32]byte) { return seed },
	}
	decoded := func(plan *pb.Plan) (mean float64, weight int, scalar uint32) {
		t.Helper()
		words, err := p.Update(plan, c)
		if err != nil {
			t.Fatal(err)
		}
		l := layout(plan, c.Manifest.Layout)
		total, update := make([]int64, len(words)), make([]float32, l.Parameters)
		aggregation.Lift(total, words, l.Signed(), int(plan.Codec.RingBits))
		if weight, err = l.Codec.Decode(update, l.Update(total)); err != nil {
			t.Fatal(err)
		}
		for _, u := range update {
			mean += float64(u) / float64(len(update))
		}
		return mean, weight, words[len(words)-1]
	}
	// 20 epochs over three examples in one batch of up to four: 3·(20+19+…+1)/20 = 31.5.
	nova := withScalar(c, func(plan *pb.Plan) { plan.Training.Normalise = 100 })
	if mean, weight, scalar := decoded(nova); weight != 2 || scalar != 63 || math.Abs(mean-moved*100/31.5) > 1e-4 {
		t.Errorf("FedNova: %v with weight %d and scalar %d", mean, weight, scalar)
	}
	fair := withScalar(c, func(plan *pb.Plan) {
		plan.Codec.MaxWeight = aggregation.FairWeight
		plan.Training.Fairness = &pb.Fairness{Eighths: 8, Lipschitz: 2, Reference: 4}
	})
	loss := float64(model.NewClassifier(c).Loss(examples))
	if math.Abs(loss-math.Log(3)) > 0.1 { // the model knows nothing yet
		t.Errorf("a loss of %v, want about %v", loss, math.Log(3))
	}
	square := moved * moved * float64(len(c.Params))
	if mean, weight, scalar := decoded(fair); math.Abs(float64(weight)-loss/4*65535) > 1 || math.Abs(float64(scalar)-1024*2*square/4) > 2 || math.Abs(mean-moved) > 1e-4 {
		t.Errorf("q-FedAvg: %v with weight %d and scalar %d; want %v, %v and %v", mean, weight, scalar, moved, loss/4*65535, 512*square)
	}
	examples = nil
	for _, plan := range []*pb.Plan{nova, fair} {
		if mean, weight, scalar := decoded(plan); mean != 0 || weight != 0 || scalar != 0 {
			t.Errorf("without chats: %v with weight %d and scalar %d", mean, weight, scalar)
		}
	}
}

// TestScalarBounds has a device refuse what no strategy needs.
func TestScalarBounds(t *testing.T) {
	c := testCheckpoint(t)
	own, err := Bounds{}.filled()
	if err != nil {
		t.Fatal(err)
	}
	fairness := func(f *pb.Fairness) func(*pb.Plan) {
		return func(plan *pb.Plan) { plan.Codec.MaxWeight, plan.Training.Fairness = aggregation.FairWeight, f }
	}
	good := &pb.Fairness{Eighths: 8, Lipschitz: 1, Reference: 5}
	nan := float32(math.NaN())
	for _, tc := range []struct {
		name   string
		change func(*pb.Plan)
		want   string // empty where it is taken
	}{
		{"normalised", func(p *pb.Plan) { p.Training.Normalise = 80 }, ""},
		{"fair", fairness(good), ""},
		{"both", func(p *pb.Plan) { p.Training.Normalise, p.Training.Fairness = 80, good }, "one of the two"},
		{"proximal", func(p *pb.Plan) { p.Training.Normalise, p.Training.Proximal = 80, 0.1 }, "proximal"},
		{"scale", func(p *pb.Plan) { p.Training.Normalise = -1 }, "normalised updates"},
		{"no number", func(p *pb.Plan) { p.Training.Normalise = nan }, "normalised updates"},
		{"weight", func(p *pb.Plan) { p.Training.Normalise, p.Codec.MaxWeight = 80, 64 }, "at most 32"},
		{"q", fairness(&pb.Fairness{Eighths: 65, Lipschitz: 1, Reference: 5}), "0 to 64"},
		{"lipschitz", fairness(&pb.Fairness{Eighths: 8, Lipschitz: nan, Reference: 5}), "Lipschitz"},
		{"reference", fairness(&pb.Fairness{Eighths: 8, Lipschitz: 1, Reference: 1000}), "reference"},
		{"small weight", func(p *pb.Plan) { p.Training.Fairness = good }, "want 65535"},
		{"noise", func(p *pb.Plan) {
			p.Training.Normalise = 80
			p.Noise, p.Codec = &pb.Noise{Privacy: &pb.Privacy{Epsilon: 8, Delta: 1e-6, Participations: 5, Separation: 2, Clip: 1}, Honest: 3}, &pb.Codec{RingBits: 24}
		}, "without noise"},
		{"small ring", func(p *pb.Plan) { fairness(good)(p); p.SecureAggregation.Cohort = 2000 }, "overflow"},
	} {
		plan := withScalar(c, tc.change)
		raw, err := proto.Marshal(plan)
		if err != nil {
			t.Fatal(err)
		}
		_, err = readPlan(raw, own)
		if tc.want == "" && err != nil || tc.want != "" && (!errors.Is(err, ErrPlanRefused) || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		}
	}
}
