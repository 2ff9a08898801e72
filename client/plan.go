package client

import (
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/discreet-fl/discreet/aggregation"
	"github.com/discreet-fl/discreet/model"
	pb "github.com/discreet-fl/discreet/proto"
)

// ErrPlanRefused is returned for a plan outside the device's own bounds. Nothing has
// been trained or sent for it, but where it is the cohort that turned out too small:
// then the device has advertised, and sent no more.
var ErrPlanRefused = errors.New("plan refused")

const (
	mostStep     = 24 * time.Hour // longest step that a plan may ask for
	mostEpochs   = 100            // passes over the examples: what a kiosk can spare
	mostRatio    = 64             // rows of the embedding that one takes the place of
	maxPlanBytes = 64 << 10
)

// MaxCheckpointBytes bounds a checkpoint file: the largest model's parameters and
// a manifest with the longest list of intents.
var MaxCheckpointBytes = func() int64 {
	largest, err := model.NewLayout("base", model.MaxLabels)
	if err != nil {
		panic(err) // both arguments are constants of package model
	}
	return 4*int64(largest.Parameters()) + 9<<20
}()

// readPlan decodes a plan and holds it against every bound that needs no
// checkpoint. The bounds are the device's own, filled.
func readPlan(b []byte, bounds Bounds) (*pb.Plan, error) {
	if len(b) > maxPlanBytes {
		return nil, fmt.Errorf("client: %w: a plan of %d bytes, want at most %d", ErrPlanRefused, len(b), maxPlanBytes)
	}
	plan := new(pb.Plan)
	if err := proto.Unmarshal(b, plan); err != nil {
		return nil, fmt.Errorf("client: %w: not a plan: %w", ErrPlanRefused, err)
	}
	for _, check := range []func() error{
		func() error { return checkNames(plan) },
		func() error { return bounds.check(plan.GetSecureAggregation()) },
		func() error { return bounds.checkPrivacy(plan.GetNoise().GetPrivacy()) },
		func() error { return checkTraining(plan) },
		func() error { return checkEvaluation(plan) },
		func() error { return checkCodec(plan) },
		func() error { return checkCompression(plan.GetCompression()) },
		func() error { return checkTimes(plan) },
	} {
		if err := check(); err != nil {
			return nil, fmt.Errorf("client: task %q, round %d, attempt %d: %w: %w", plan.GetTask(), plan.GetRound(), plan.GetAttempt(), ErrPlanRefused, err)
		}
	}
	return plan, nil
}

func checkNames(plan *pb.Plan) error {
	switch {
	case plan.GetTask() == "" || len(plan.GetTask()) > model.MaxTaskBytes:
		return fmt.Errorf("the task's name has %d bytes, want 1 to %d", len(plan.GetTask()), model.MaxTaskBytes)
	case plan.GetRound() < 1 || plan.GetAttempt() < 1:
		return errors.New("rounds and attempts count from 1")
	case len(plan.GetCheckpointSha256()) != 32:
		return fmt.Errorf("a checkpoint hash of %d bytes, want 32", len(plan.GetCheckpointSha256()))
	case plan.GetCheckpointBytes() < 1 || plan.GetCheckpointBytes() > uint64(MaxCheckpointBytes):
		return fmt.Errorf("a checkpoint of %d bytes, want 1 to %d", plan.GetCheckpointBytes(), MaxCheckpointBytes)
	}
	return nil
}

func checkTraining(plan *pb.Plan) error {
	if n := plan.GetTraining().GetEpochs(); n > mostEpochs {
		return fmt.Errorf("training of %d epochs, want at most %d", n, mostEpochs)
	}
	if err := checkScalar(plan.GetTraining()); err != nil {
		return err
	}
	return training(plan).Validate()
}

func checkCodec(plan *pb.Plan) error {
	const largest = 1 << 16 // above every bound of the codec, and an int everywhere
	if plan.GetNoise() != nil {
		return checkNoise(plan)
	}
	c := plan.GetCodec()
	if c.GetBits() > largest || c.GetRingBits() > largest || c.GetMaxWeight() > largest {
		return fmt.Errorf("a codec of %d bits, ring of %d bits and weight %d", c.GetBits(), c.GetRingBits(), c.GetMaxWeight())
	}
	return layout(plan, model.Layout{Rows: 1, Dim: 1, Labels: 1}).Fits(int(plan.GetSecureAggregation().GetCohort()), int(c.GetRingBits()))
}

func checkCompression(c *pb.Compression) error {
	if c == nil {
		return nil
	}
	if m := c.GetMethod(); m != pb.Compression_METHOD_PART && m != pb.Compression_METHOD_SKETCH {
		return fmt.Errorf("updates shortened by method %d, want part or sketch", m)
	}
	if n := c.GetRatio(); n < 2 || n > mostRatio {
		return fmt.Errorf("updates shortened to one row in %d, want 2 to %d", n, mostRatio)
	}
	if c.GetBits() != 0 {
		return errors.New("bits of a coordinate in the plan's compression, want them in its codec alone")
	}
	return nil
}

func checkTimes(plan *pb.Plan) error {
	for _, ms := range []uint32{plan.GetAdvertiseMs(), plan.GetStepMs()} {
		if d := milliseconds(ms); d <= 0 || d > mostStep {
			return fmt.Errorf("a step of %v, want more than 0 and at most %v", d, mostStep)
		}
	}
	return nil
}

// checkModel holds the plan against the checkpoint it trains.
func checkModel(plan *pb.Plan, c *model.Checkpoint) error {
	if err := c.Manifest.CheckTokeniser(); err != nil {
		return fmt.Errorf("client: %w: %w", ErrPlanRefused, err)
	}
	if c.Manifest.Task != plan.GetTask() {
		return fmt.Errorf("client: %w: the checkpoint belongs to task %q, the plan to %q", ErrPlanRefused, c.Manifest.Task, plan.GetTask())
	}
	got, want := plan.GetSecureAggregation().GetLength(), layout(plan, c.Manifest.Layout).Length()
	if got != uint32(want) {
		return fmt.Errorf("client: %w: vectors of %d words, want %d for this model", ErrPlanRefused, got, want)
	}
	return nil
}

func training(plan *pb.Plan) model.Training {
	t := plan.GetTraining()
	return model.Training{
		Epochs:         int(t.GetEpochs()), // bounded by checkTraining
		Batch:          int(min(t.GetBatch(), model.MaxBatch+1)),
		LearningRate:   t.GetLearningRate(),
		FeatureDropout: t.GetFeatureDropout(),
		LabelSmoothing: t.GetLabelSmoothing(),
		Proximal:       t.GetProximal(),
	}
}

func codec(plan *pb.Plan) aggregation.Codec {
	c := plan.GetCodec()
	return aggregation.Codec{Clip: c.GetClip(), Bits: int(c.GetBits()), MaxWeight: int(c.GetMaxWeight())}
}

// reduction is how updates of a model are shortened.
func reduction(plan *pb.Plan, l model.Layout) aggregation.Reduction {
	c := plan.GetCompression()
	return aggregation.NewReduction(l.Rows, l.Dim, int(c.GetRatio()), c.GetMethod() == pb.Compression_METHOD_SKETCH).
		Seeded(plan.GetRound(), plan.GetCheckpointSha256())
}

func milliseconds(ms uint32) time.Duration { return time.Duration(ms) * time.Millisecond }
