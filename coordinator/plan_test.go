package coordinator

import (
	"math"
	"testing"
	"testing/synctest"

	"github.com/discreet-fl/discreet/aggregation"
	"github.com/discreet-fl/discreet/model"
	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/secagg"
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

// TestBitsFollowTheCohort holds what the plans of rounds of so many devices, or of fewer
// that came, take for a coordinate and a ring.
func TestBitsFollowTheCohort(t *testing.T) {
	for _, tc := range []struct {
		perRound, cohort uint32
		came             int
		compression      string
		strategy         string
		bits, ring       uint32
	}{
		{20, 0, 0, "none", "", 16, 21},
		{79, 0, 0, "none", "", 16, 23},
		{100, 0, 0, "none", "", 15, 22},
		{1000, 0, 0, "none", "", 14, 24},
		{1000, 0, 1000, "none", "", 14, 24},
		{1000, 0, 100, "none", "", 15, 25}, // in a ring for 1,000
		{1000, 0, 30, "none", "", 16, 26},
		{1000, 0, 3, "none", "", 16, 26},
		{1000, 20, 0, "none", "", 16, 21},
		{330, 300, 0, "none", "", 15, 24}, // cohorts of 165, in a ring for 300
		{20_000, 0, 1001, "none", "", 14, 24},
		{20_000, 0, 80, "none", "", 16, 26},
		{20, 1000, 0, "none", "", 16, 26},
		{1000, 0, 0, "sketch:6", "", 14, 24},
		{1000, 0, 30, "sketch:6", "", 16, 26},
		{1000, 0, 0, "bits:15", "", 15, 25},
		{1000, 0, 30, "bits:15", "", 15, 25},
		{1000, 0, 0, "8x", "", 8, 18},
		{1000, 0, 0, "none", "fednova", 16, 26},
		{1000, 0, 0, "none", "qfedavg", 16, 26},
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
		plan, _, err := NewPlan(s, 1, 1, Basis{Layout: layoutFor(t, s), Devices: tc.came})
		if err != nil {
			t.Fatal(err)
		}
		if c := plan.GetCodec(); c.GetBits() != tc.bits || c.GetRingBits() != tc.ring {
			t.Errorf("%+v: codec %v", tc, c)
		}
	}
}

// TestFewerDevicesErrNoMore holds, of any number of devices that a round may begin with, that
// the mean of its smallest cohort is as exact as that of 20 at 16 bits, or of as many at 16
// where there are not 20, that sums hold in the ring, and that no vector is larger than
// a task is held against when it is created.
func TestFewerDevicesErrNoMore(t *testing.T) {
	exact := func(devices, bits int) float64 {
		return math.Sqrt(float64(devices)) * (math.Pow(2, float64(bits-1)) - 1)
	}
	for _, tc := range []struct{ perRound, cohort, least uint32 }{{1000, 0, 3}, {1000, 0, 500}, {3000, 300, 100}, {4000, 2000, 3}} {
		s := spec(tc.perRound, tc.least)
		s.Cohort = tc.cohort
		if err := CheckSpec(s); err != nil {
			t.Fatal(err)
		}
		m, cohort, largest := layoutFor(t, s), int(cohortOf(s)), 0
		for came := int(tc.least); came <= int(tc.perRound); came++ {
			smallest := came / secagg.Cohorts(came, cohort)
			if smallest < int(tc.least) {
				continue // the last wait for the next round
			}
			plan, _, err := NewPlan(s, 1, 1, Basis{Layout: m, Devices: came})
			if err != nil {
				t.Fatal(err)
			}
			bits, ring := int(plan.GetCodec().GetBits()), int(plan.GetCodec().GetRingBits())
			if bits > 16 || exact(smallest, bits) < exact(min(smallest, 20), 16) {
				t.Errorf("%+v, %d came: %d bits in cohorts of %d", tc, came, bits, smallest)
			}
			l := LayoutOf(plan, m)
			if err := l.Fits(cohort, ring); err != nil {
				t.Errorf("%+v, %d came: %v", tc, came, err)
			}
			largest = max(largest, aggregation.PackedSize(l.Length(), ring))
		}
		for room, fits := range map[int]bool{largest: true, largest - 1: false} {
			c := &Coordinator{memory: budget{limit: int64(room)}}
			if err := c.hasMemoryFor(s, m); (err == nil) != fits {
				t.Errorf("%+v: a memory of %d bytes for vectors of up to %d: %v", tc, room, largest, err)
			}
		}
	}
}

// TestPlanIsOfThoseWhoCame lets three devices come for a round of up to a thousand: they have
// the bits of three, and so the coordinator reads their sum.
func TestPlanIsOfThoseWhoCame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := spec(1000, 3)
		s.Strategy = StrategyFor(aggregation.Choice{Name: "fedavg"})
		w, devices := fleet(t, 3, s, Options{})
		for i, d := range devices {
			d.value, d.weight = []float32{0.5, 0.25, -0.25}[i], []int{4, 8, 16}[i]
		}
		before := first(devices[0], w.task("desk").view.Load().sum[:])
		walks := gather(t, devices...)
		if c := walks[0].plan.GetCodec(); c.GetBits() != 16 {
			t.Errorf("three devices of up to 1,000 have the codec %v, want 16 bits", c)
		}
		wholly(t, walks...)
		if moved := first(devices[0], walks[0].receipt.GetCheckpointSha256()) - before; math.Abs(moved) > 2e-4 { // (2 + 2 − 4) / 28
			t.Errorf("the checkpoint moved by %v, want 0", moved)
		}
	})
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
