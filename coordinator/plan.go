package coordinator

import (
	"crypto/ed25519"
	"fmt"
	"math"
	"regexp"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/discreet-fl/discreet/aggregation"
	"github.com/discreet-fl/discreet/coordinator/round"
	"github.com/discreet-fl/discreet/model"
	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/secagg"
)

const (
	// MaxAttempts is how often a round is tried before it is left for the next one.
	MaxAttempts = 3

	// trainingShare is how many times the deadline of a step Advertise may take,
	// because the training happens in it.
	trainingShare = 4
)

// Codec returns how updates are encoded in every plan. A device with more examples
// than the largest weight counts like one that has just as many: so busy devices do
// not drown the others, and the weights stay within the ring. The clip is far above
// what a coordinate moves in a round.
func Codec() aggregation.Codec { return aggregation.Codec{Clip: 4, Bits: 16, MaxWeight: 32} }

// serverMomentum is the momentum of every task.
const serverMomentum = 0.7

// Strategy returns how the mean update of so many devices moves the model: with a
// rate at which a lasting update moves it by 1.5·√survivors times its size. What only
// a few of a cohort have seen is diluted in the mean, and the more so the larger the
// cohort; a fixed rate is too slow for large cohorts or unstable in small ones.
// docs/decisions.md has the figures.
func Strategy(survivors int) aggregation.FedAvg {
	lasting := 1.5 * math.Sqrt(float64(survivors))
	return aggregation.FedAvg{Rate: float32(lasting * (1 - serverMomentum)), Momentum: serverMomentum}
}

var (
	taskName    = regexp.MustCompile(`^[a-z0-9-]{1,64}$`)
	leastStep   = 100 * time.Millisecond
	longestStep = time.Hour
	longestWait = 366 * 24 * time.Hour
)

// CheckSpec returns an error, for the operator to read, unless a task can be run as
// the specification says.
func CheckSpec(spec *pb.TaskSpec) error {
	if !taskName.MatchString(spec.GetName()) {
		return fmt.Errorf("task name %q, want 1 to 64 of a-z, 0-9 and -", spec.GetName())
	}
	seen := make(map[string]int, len(spec.GetIntents()))
	for i, intent := range spec.GetIntents() {
		if n := len(intent); n < 1 || n > model.MaxLabelBytes {
			return fmt.Errorf("intent %d has %d bytes, want 1 to %d", i+1, n, model.MaxLabelBytes)
		}
		if first, ok := seen[intent]; ok {
			return fmt.Errorf("intent %q stands in the list twice, as %d and %d; remove one", intent, first, i+1)
		}
		seen[intent] = i + 1
	}
	if n := len(spec.GetIntents()); n < 2 || n > model.MaxLabels {
		return fmt.Errorf("%d intents, want 2 to %d", n, model.MaxLabels)
	}
	if _, err := model.NewLayout(spec.GetModel(), len(spec.GetIntents())); err != nil {
		return err
	}
	least, most := spec.GetMinSurvivors(), spec.GetPerRound()
	if most < secagg.MinCohort || most > secagg.MaxCohort {
		return fmt.Errorf("%d devices per round, want %d to %d", most, secagg.MinCohort, secagg.MaxCohort)
	}
	if least < secagg.MinCohort || least > most {
		return fmt.Errorf("a minimum of %d survivors, want %d to %d, the devices per round", least, secagg.MinCohort, most)
	}
	if d := milliseconds(spec.GetDeadlineMs()); d < leastStep || d > longestStep {
		return fmt.Errorf("a deadline of %d ms for each step, want %v to %v", spec.GetDeadlineMs(), leastStep, longestStep)
	}
	if milliseconds(spec.GetEveryMs()) > longestWait {
		return fmt.Errorf("a round every %d ms, want at most every %v", spec.GetEveryMs(), longestWait)
	}
	c := Codec()
	return c.Fits(int(most), c.RingBits(int(most)))
}

// milliseconds turns a field of the contract into a duration, the longest one where
// it does not fit.
func milliseconds(ms uint64) time.Duration {
	return time.Duration(min(ms, uint64(longestWait/time.Millisecond)+1)) * time.Millisecond
}

// NewPlan returns what the devices of one attempt are told, and its bytes, which
// are what everybody hashes. The checkpoint is named by the SHA-256 and the size in
// bytes of its file; the layout is its model's. The specification has passed
// CheckSpec.
func NewPlan(spec *pb.TaskSpec, round uint64, attempt uint32, checkpoint [32]byte, size uint64, layout model.Layout) (*pb.Plan, []byte, error) {
	training, err := model.DefaultTraining(spec.GetModel())
	if err != nil {
		return nil, nil, err
	}
	codec, cohort := Codec(), spec.GetPerRound()
	plan := &pb.Plan{
		Task: spec.GetName(), Round: round, Attempt: attempt,
		CheckpointSha256: checkpoint[:], CheckpointBytes: size,
		Training: &pb.Training{
			Epochs: uint32(training.Epochs), Batch: uint32(training.Batch), LearningRate: training.LearningRate,
			FeatureDropout: training.FeatureDropout, LabelSmoothing: training.LabelSmoothing,
		},
		Codec: &pb.Codec{
			Clip: codec.Clip, Bits: uint32(codec.Bits), RingBits: uint32(codec.RingBits(int(cohort))), MaxWeight: uint32(codec.MaxWeight),
		},
		SecureAggregation: &pb.SecureAggregation{
			Length: uint32(codec.Length(layout.Parameters())), Cohort: cohort, MinSurvivors: spec.GetMinSurvivors(),
		},
		AdvertiseMs: uint32(trainingShare * spec.GetDeadlineMs()), StepMs: uint32(spec.GetDeadlineMs()),
	}
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(plan)
	if err != nil {
		return nil, nil, fmt.Errorf("coordinator: encoding a plan: %w", err)
	}
	return plan, raw, nil
}

// RoundConfig returns the attempt that a plan describes, for these members.
func RoundConfig(plan *pb.Plan, raw []byte, ca ed25519.PublicKey, members []secagg.ID, grace time.Duration) round.Config {
	aggregate := plan.GetSecureAggregation()
	return round.Config{
		Params: secagg.Params{
			Task: plan.GetTask(), Round: plan.GetRound(), Attempt: plan.GetAttempt(), Plan: raw, CA: ca,
			Length: int(aggregate.GetLength()), RingBits: int(plan.GetCodec().GetRingBits()),
			Cohort: int(aggregate.GetCohort()), MinSurvivors: int(aggregate.GetMinSurvivors()),
		},
		Members:   members,
		Advertise: time.Duration(plan.GetAdvertiseMs()) * time.Millisecond,
		Step:      time.Duration(plan.GetStepMs()) * time.Millisecond,
		Grace:     grace,
	}
}

// Apply moves a model by an unmasked sum of so many devices' encoded updates: it
// decodes the sum, steps the strategy and returns the next checkpoint with the
// strategy's state that goes with it. The checkpoint and the velocity it starts from
// stay as they are. An update that would make a parameter NaN or infinite is an error.
func Apply(c *model.Checkpoint, velocity []float32, plan *pb.Plan, sum []uint32, survivors int) (*model.Checkpoint, []float32, error) {
	mean := make([]float32, len(c.Params))
	p := plan.GetCodec()
	codec := aggregation.Codec{Clip: p.GetClip(), Bits: int(p.GetBits()), MaxWeight: int(p.GetMaxWeight())}
	if _, err := codec.Decode(mean, sum, int(p.GetRingBits())); err != nil {
		return nil, nil, err
	}
	params, next := append([]float32(nil), c.Params...), append([]float32(nil), velocity...)
	if err := Strategy(survivors).Step(params, next, mean); err != nil {
		return nil, nil, err
	}
	m := &c.Manifest
	moved, err := model.NewCheckpoint(m.Task, m.Size, m.Round+1, m.Labels, params)
	if err != nil {
		return nil, nil, fmt.Errorf("coordinator: the new checkpoint: %w", err)
	}
	return moved, next, nil
}
