package coordinator

import (
	"math"
	"strings"
	"testing"
	"testing/synctest"

	"google.golang.org/protobuf/proto"

	"github.com/discreet-fl/discreet/aggregation"
	"github.com/discreet-fl/discreet/privacy"
	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/proto/rpc"
)

// moving is a task of short vectors whose clip moves to the median.
func moving(perRound, minSurvivors, participations uint32) *pb.TaskSpec {
	s := promised(perRound, minSurvivors, participations, 1)
	s.Privacy.ClipQuantile = 5000
	return s
}

// TestVotesAreInThePrice holds that update and vote together cost what was promised, at any
// clip, in one ring.
func TestVotesAreInThePrice(t *testing.T) {
	for _, s := range []*pb.TaskSpec{moving(3, 3, 1), moving(20, 15, 5), moving(1000, 900, 50)} {
		if err := CheckSpec(s); err != nil {
			t.Fatal(err)
		}
		m, ring := layoutFor(t, s), uint32(0)
		for _, clip := range []float32{0, 1, 1. / 1024, 0.3333333, 77.7, 1024} {
			plan, _, err := NewPlan(s, 1, 1, Basis{Layout: m, Clip: clip})
			if err != nil {
				t.Fatal(err)
			}
			l, n := LayoutOf(plan, m), plan.GetNoise()
			if clip > 0 && l.Noise.Clip != clip || l.Length() != int(plan.GetSecureAggregation().GetLength()) || l.Length() != l.Parameters+2 {
				t.Errorf("a clip of %v told as %v, in %d words", clip, l.Noise.Clip, l.Length())
			}
			honest, root := int(n.GetHonest()), math.Sqrt(float64(n.GetHonest()))
			cost, err := privacy.NewCharge(privacy.SummedRho(l.Noise.Norm(l.Parameters), honest, []float64{l.Noise.Whole()}, l.Parameters+1))
			if err != nil || cost > privacy.Charge(n.GetCharge()) || cost.Times(int(s.Privacy.Participations)).Epsilon(1e-6) < 7.99 {
				t.Errorf("clip %v: a vector costs ρ %v, charged %v, %v", clip, cost.Rho(), privacy.Charge(n.GetCharge()).Rho(), err)
			}
			// What the update would cost alone, and the vote by the formula of its own, add up.
			bare := l.Noise
			bare.Below, bare.Above = 0, 0
			vote := privacy.GaussianRho(0.5, root*l.Noise.Whole()/float64(l.Noise.Below+l.Noise.Above))
			alone := privacy.SummedRho(bare.Norm(l.Parameters), honest, []float64{l.Noise.Whole()}, l.Parameters)
			if math.Abs((alone+vote)/cost.Rho()-1) > 1e-6 || vote > cost.Rho()/15 {
				t.Errorf("clip %v: ρ %v of the update and %v of the vote, want %v together", clip, alone, vote, cost.Rho())
			}
			if err := l.Fits(int(cohortOf(s)), int(plan.Codec.RingBits)); err != nil || ring > 0 && plan.Codec.RingBits != ring {
				t.Errorf("clip %v: %d bits, %d before, %v", clip, plan.Codec.RingBits, ring, err)
			}
			ring = plan.Codec.RingBits
		}
	}
}

func TestClipsThatCannotMove(t *testing.T) {
	for _, tc := range []struct {
		name, want string
		edit       func(*pb.TaskSpec)
	}{
		{"all", "in steps of 500", func(s *pb.TaskSpec) { s.Privacy.ClipQuantile = 10_000 }},
		{"a fraction", "in steps of 500", func(s *pb.TaskSpec) { s.Privacy.ClipQuantile = 5001 }},
		{"a tiny clip", "a clip that moves from 1e-07", func(s *pb.TaskSpec) { s.Privacy.Clip = 1e-7 }},
		{"noise by the coordinator", "in units of their clip", func(s *pb.TaskSpec) {
			s.Compression, s.Rounds = nil, 4
			s.Privacy.Central, _ = CentralNoise(4, s.Privacy)
		}},
		{"a buffer", "side by side", func(s *pb.TaskSpec) { s.Buffer = &pb.Buffer{Cohorts: 2, Staleness: 1} }},
	} {
		s := moving(20, 15, 2)
		tc.edit(s)
		if err := CheckSpec(s); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want an error with %q", tc.name, err, tc.want)
		}
	}
}

// TestClipIsKept walks two rounds with a restart between them. All devices' updates are far
// longer than the clip, which the second round's plan, the task and the records tell.
func TestClipIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := moving(3, 3, 3)
		s.Privacy.Epsilon = 900 // so that hardly any noise is in the votes
		w, devices := fleet(t, 3, s, Options{})
		show := func() *pb.GetTaskResponse {
			t.Helper()
			reply, err := rpc.NewOperatorServiceClient(w.operator(t)).GetTask(t.Context(), &pb.GetTaskRequest{Name: s.Name})
			if err != nil {
				t.Fatal(err)
			}
			return reply
		}
		if got := show().Task.Privacy.GetNoise(); got.GetClip() != 1 {
			t.Errorf("the task begins with a clip of %v, want 1", got.GetClip())
		}
		clip := float32(1)
		for round := range 2 {
			walks := gather(t, devices...)
			for _, k := range walks {
				k.value = 5
				if got := k.plan.GetNoise().GetClip(); got != clip {
					t.Errorf("round %d has a clip of %v, want %v", round+1, got, clip)
				}
			}
			each(t, 3, func(i int) error { return walks[i].steps(t.Context(), all) })
			told := show()
			if r := told.Rounds[0].GetPrivacy(); r.GetClip() != clip {
				t.Errorf("round %d is recorded with a clip of %v, want %v", round+1, r.GetClip(), clip)
			}
			next := told.Task.Privacy.GetNoise().GetClip()
			if grown := float64(next / clip); grown < 1.05 || grown > 1.1052 { // e^0.1 without noise
				t.Errorf("round %d: a clip of %v after %v, want e^0.1 times that, or little less", round+1, next, clip)
			}
			clip = next
			w.shut()
			w = newWorld(t, w.dir, Options{})
			for _, d := range devices {
				d.connect(w)
			}
			if again := show(); !proto.Equal(again.Task.Privacy, told.Task.Privacy) {
				t.Errorf("after a restart %v, before %v", again.Task.Privacy, told.Task.Privacy)
			}
		}
	})
}

// TestNextClipOfAllCohorts adds votes up over the cohorts of a round.
func TestNextClipOfAllCohorts(t *testing.T) {
	s := moving(20, 15, 2)
	m := layoutFor(t, s)
	plan, _, err := NewPlan(s, 1, 1, Basis{Layout: m})
	if err != nil {
		t.Fatal(err)
	}
	l := LayoutOf(plan, m)
	for strategy, sums := range map[string]*aggregation.Sums{
		"fedadam": aggregation.Choice{}.Sums(l.Length()),
		"median":  aggregation.Choice{Name: "median"}.Sums(l.Length()),
	} {
		for range 5 {
			sum := make([]uint32, l.Length())
			sum[l.Parameters] = uint32(4 * l.Noise.Below) // of four devices each
			sums.Add(sum, l.Signed(), int(plan.Codec.RingBits))
		}
		if got := float64(NextClip(plan, m, sums, 20)); math.Abs(got-math.Exp(-0.1)) > 1e-6 {
			t.Errorf("%s: all of 20 devices keep to the clip, which becomes %v, want e^−0.1", strategy, got)
		}
	}
	plan.Noise = nil
	if got := NextClip(plan, m, aggregation.Choice{}.Sums(l.Length()), 20); got != 0 {
		t.Errorf("without noise a clip of %v", got)
	}
}
