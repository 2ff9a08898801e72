package coordinator

import (
	"math"
	"testing"

	"github.com/discreet-fl/discreet/aggregation"
	"github.com/discreet-fl/discreet/model"
	pb "github.com/discreet-fl/discreet/proto"
)

// The learning rate falls to a tenth in a task's last round, and not where there is none.
func TestLearningRateFallsOverTheRounds(t *testing.T) {
	for _, tc := range []struct {
		round, rounds uint64
		want          float32
	}{{1, 0, 0.5}, {7, 0, 0.5}, {1, 1, 0.5}, {1, 11, 0.5}, {6, 11, 0.275}, {11, 11, 0.05}, {12, 11, 0.05}} {
		got := TrainingOf(model.Training{Epochs: 3, Batch: 2, LearningRate: 0.5}, tc.round, tc.rounds)
		if got.GetLearningRate() != tc.want || got.GetEpochs() != 3 || got.GetBatch() != 2 {
			t.Errorf("round %d of %d: %v, want a rate of %v", tc.round, tc.rounds, got, tc.want)
		}
	}
}

// The server's rate stays for fifty rounds and falls to a tenth in the last.
func TestServerRateFallsAfterFiftyRounds(t *testing.T) {
	for _, tc := range []struct {
		round, rounds uint64
		want          float32
	}{{1, 0, 0.03}, {700, 0, 0.03}, {50, 50, 0.03}, {50, 90, 0.03}, {70, 90, 0.0165}, {90, 90, 0.003}, {91, 90, 0.003}} {
		s := StrategyOf(&pb.TaskSpec{Rounds: tc.rounds}, tc.round, 20).(aggregation.FedAdam)
		if math.Abs(float64(s.Rate-tc.want)) > 1e-8 {
			t.Errorf("round %d of %d: a rate of %v, want %v", tc.round, tc.rounds, s.Rate, tc.want)
		}
	}
}

// TestBitsFollowTheCohort holds what the plans of rounds of so many devices take for a
// coordinate and a ring.
func TestBitsFollowTheCohort(t *testing.T) {
	for _, tc := range []struct {
		perRound, cohort uint32
		compression      string
		strategy         string
		bits, ring       uint32
	}{
		{20, 0, "none", "", 16, 21},
		{79, 0, "none", "", 16, 23},
		{100, 0, "none", "", 15, 22},
		{1000, 0, "none", "", 14, 24},
		{1000, 20, "none", "", 16, 21},
		{330, 300, "none", "", 15, 24}, // cohorts of 165, in a ring for 300
		{20, 1000, "none", "", 16, 26},
		{1000, 0, "sketch:6", "", 14, 24},
		{1000, 0, "bits:15", "", 15, 25},
		{1000, 0, "8x", "", 8, 18},
		{1000, 0, "none", "fednova", 16, 26},
		{1000, 0, "none", "qfedavg", 16, 26},
	} {
		s := spec(tc.perRound, 3)
		s.Cohort, s.Strategy = tc.cohort, StrategyFor(aggregation.Choice{Name: tc.strategy})
		var err error
		if s.Compression, err = ParseCompression(tc.compression); err != nil {
			t.Fatal(err)
		}
		if err := CheckSpec(s); err != nil {
			t.Errorf("%+v: %v", tc, err)
		}
		plan, _, err := NewPlan(s, 1, 1, Basis{Layout: layoutFor(t, s)})
		if err != nil {
			t.Fatal(err)
		}
		if c := plan.GetCodec(); c.GetBits() != tc.bits || c.GetRingBits() != tc.ring {
			t.Errorf("%+v: codec %v", tc, c)
		}
	}
}

// TestSpecsWithAnEvaluation holds that a task that evaluates is accepted, that its vectors
// have room for the counts, and that a share out of bounds is refused.
func TestSpecsWithAnEvaluation(t *testing.T) {
	s := spec(3, 3)
	plain, _, err := NewPlan(s, 1, 1, Basis{Layout: layoutFor(t, s)})
	if err != nil {
		t.Fatal(err)
	}
	for _, share := range []uint32{1, 1000, mostHeldBack} {
		s.Evaluation = &pb.TaskEvaluation{HeldBack: share}
		if err := CheckSpec(s); err != nil {
			t.Errorf("%d in 10,000: %v", share, err)
		}
	}
	plan, _, err := NewPlan(s, 1, 1, Basis{Layout: layoutFor(t, s)})
	if err != nil {
		t.Fatal(err)
	}
	if more := plan.SecureAggregation.Length - plain.SecureAggregation.Length; more != uint32(1+3*len(s.Intents)+4*bins) || plain.Evaluation != nil {
		t.Errorf("%d words more, want one, three an intent and four a bin", more)
	}
	s.Evaluation = &pb.TaskEvaluation{HeldBack: 1000, Unknown: mostUnknown + 1}
	if CheckSpec(s) == nil {
		t.Error("a threshold above most chats was accepted")
	}
	for _, share := range []uint32{0, mostHeldBack + 1} {
		s.Evaluation = &pb.TaskEvaluation{HeldBack: share}
		if CheckSpec(s) == nil {
			t.Errorf("%d in 10,000 was accepted", share)
		}
	}
}

func layoutFor(t *testing.T, s *pb.TaskSpec) model.Layout {
	t.Helper()
	l, err := model.NewLayout(s.GetModel(), len(s.GetIntents()))
	if err != nil {
		t.Fatal(err)
	}
	return l
}
