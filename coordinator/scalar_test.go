package coordinator

import (
	"strings"
	"testing"

	"github.com/discreet-fl/discreet/aggregation"
	"github.com/discreet-fl/discreet/model"
	pb "github.com/discreet-fl/discreet/proto"
)

// TestStrategiesWithAScalar holds what a task of theirs may ask for, and what its plans say.
func TestStrategiesWithAScalar(t *testing.T) {
	layout := model.Layout{Rows: 8, Dim: 2, Labels: 2}
	for _, tc := range []struct {
		strategy string
		change   func(*pb.TaskSpec)
		want     string // empty where the task may be created
	}{
		{"fednova", func(*pb.TaskSpec) {}, ""},
		{"qfedavg", func(*pb.TaskSpec) {}, ""},
		{"qfedavg", func(s *pb.TaskSpec) { s.Compression = &pb.Compression{Method: pb.Compression_METHOD_SKETCH, Ratio: 6} }, ""},
		{"fednova", func(s *pb.TaskSpec) { s.Compression = &pb.Compression{Bits: 8} }, "leave the bits out"},
		{"qfedavg", func(s *pb.TaskSpec) { s.Buffer = &pb.Buffer{Cohorts: 2} }, "of one round"},
		{"fednova", func(s *pb.TaskSpec) { s.Buffer = &pb.Buffer{Cohorts: 2} }, "of one round"},
		{"fednova", func(s *pb.TaskSpec) {
			s.Privacy = &pb.Privacy{Epsilon: 8, Delta: 1e-6, Participations: 5, Separation: 2, Clip: 1}
		}, "without noise"},
		{"fednova", func(s *pb.TaskSpec) { s.Strategy.Name = "nothing" }, "not known"},
	} {
		s := spec(20, 3)
		s.Strategy = StrategyFor(aggregation.Choice{Name: tc.strategy})
		tc.change(s)
		if err := CheckSpec(s); (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", tc.strategy, err, tc.want)
		}
		if tc.want != "" {
			continue
		}
		plan, _, err := NewPlan(s, 1, 1, Basis{Layout: layout})
		if err != nil {
			t.Fatal(err)
		}
		fair, normalised := plan.GetTraining().GetFairness() != nil, plan.GetTraining().GetNormalise() != 0
		if fair != (tc.strategy == "qfedavg") || normalised == fair || int(plan.GetSecureAggregation().GetLength()) != LayoutOf(plan, layout).Length() {
			t.Errorf("%s: plan %v", tc.strategy, plan)
		}
		if fair && (plan.GetCodec().GetMaxWeight() != aggregation.FairWeight || plan.GetCodec().GetRingBits() != 21) {
			t.Errorf("%s: codec %v, want weights of 16 bits in the ring of 16-bit coordinates", tc.strategy, plan.GetCodec())
		}
	}
}
