package coordinator

import (
	"cmp"
	"crypto/ed25519"
	"errors"
	"fmt"
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

	// defaultCohort bounds a cohort where the specification does not, and
	// defaultTolerated is the tenth of its devices, in 10,000, that may be corrupt and
	// that may vanish.
	defaultCohort    = 1000
	defaultTolerated = 1000
	mostTolerated    = 3333

	// trainingShare is how many times the deadline of a step Advertise may take,
	// because the training happens in it.
	trainingShare = 4
)

// Codec returns how updates are encoded in the plans of a task that asks for nothing else,
// for a round that so many devices come to, in cohorts of so many at most: a coordinate has the
// bits that [aggregation.CoordinateBits] gives the smallest of its cohorts. A device with more
// examples than the largest weight counts like one that has just as many: so busy devices do
// not drown the others, and the weights stay within the ring. The clip is far above
// what a coordinate moves in a round.
func Codec(devices, cohort int) aggregation.Codec {
	smallest := devices / max(secagg.Cohorts(devices, max(cohort, 1)), 1)
	return aggregation.Codec{Clip: 4, Bits: aggregation.CoordinateBits(smallest), MaxWeight: 32}
}

// lastRate is the share of the learning rate that is left in a task's last round.
const lastRate = 0.1

// steadyRounds are the first of a task, in which the server's rate is all of it.
const steadyRounds = 50

// left is the share of the server's rate in a round, the first being 1, of so many: all of it in the first steadyRounds,
// then less, linearly, down to lastRate in the last. It stays where rounds are 0 and without end.
func left(round, rounds uint64) float64 {
	if rounds <= steadyRounds || round <= steadyRounds {
		return 1
	}
	done := float64(min(round, rounds)-steadyRounds) / float64(rounds-steadyRounds)
	return 1 - float64((1-lastRate)*done)
}

// TrainingOf is how the plan of a round, the first being 1, tells training settings: the
// learning rate falls linearly over the rounds of the task. It stays where they are 0 and
// without end.
func TrainingOf(s model.Training, round, rounds uint64) *pb.Training {
	rate := float64(s.LearningRate)
	if rounds > 1 {
		done := float64(min(max(round, 1), rounds)-1) / float64(rounds-1)
		rate *= 1 - float64((1-lastRate)*done)
	}
	return &pb.Training{
		Epochs: uint32(s.Epochs), Batch: uint32(s.Batch), LearningRate: float32(rate),
		FeatureDropout: s.FeatureDropout, LabelSmoothing: s.LabelSmoothing, Proximal: s.Proximal,
	}
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
	if err := checkCompression(spec.GetCompression()); err != nil {
		return err
	}
	if err := ChoiceOf(spec).Check(); err != nil {
		return err
	}
	if err := checkRounds(spec); err != nil {
		return err
	}
	if err := checkStrategy(spec); err != nil {
		return err
	}
	if err := checkBuffer(spec); err != nil {
		return err
	}
	if d := milliseconds(spec.GetDeadlineMs()); d < leastStep || d > longestStep {
		return fmt.Errorf("a deadline of %d ms for each step, want %v to %v", spec.GetDeadlineMs(), leastStep, longestStep)
	}
	if n := len(spec.GetWarmStart()); n != 0 && n != 32 {
		return fmt.Errorf("a first checkpoint's hash of %d bytes, want 32 or none", n)
	}
	if milliseconds(spec.GetEveryMs()) > longestWait {
		return fmt.Errorf("a round every %d ms, want at most every %v", spec.GetEveryMs(), longestWait)
	}
	return nil
}

// checkRounds is what CheckSpec says of a round's devices and how they are kept from
// learning anything.
func checkRounds(spec *pb.TaskSpec) error {
	least, most, cohort := spec.GetMinSurvivors(), spec.GetPerRound(), cohortOf(spec)
	if most < secagg.MinCohort || most > secagg.MaxDevices {
		return fmt.Errorf("%d devices per round, want %d to %d", most, secagg.MinCohort, secagg.MaxDevices)
	}
	if cohort < secagg.MinCohort || cohort > secagg.MaxCohort {
		return fmt.Errorf("cohorts of %d devices, want %d to %d", cohort, secagg.MinCohort, secagg.MaxCohort)
	}
	if least < secagg.MinCohort || least > min(most, cohort) {
		return fmt.Errorf("a minimum of %d survivors, want %d to %d, the devices of a cohort", least, secagg.MinCohort, min(most, cohort))
	}
	corrupt, dropout := corruptOf(spec), dropoutOf(spec)
	if corrupt > mostTolerated || dropout > mostTolerated {
		return fmt.Errorf("%d corrupt and %d vanishing devices in 10,000, want at most %d of each", corrupt, dropout, mostTolerated)
	}
	if _, ok := pb.KeyExchange_name[int32(spec.GetKeys())]; !ok {
		return fmt.Errorf("key exchange %d is not known, want hybrid or classical", spec.GetKeys())
	}
	// Where a large roster had no sparse graph its members would all mask with each
	// other, and their messages outgrow what a call may carry.
	if cohort > secagg.CompleteGraph {
		for _, n := range []uint32{secagg.CompleteGraph + 1, cohort} {
			if _, _, ok := secagg.Search(int(n), int(corrupt), int(dropout), 80, 30); !ok || n*corrupt < 10_000 {
				return fmt.Errorf("%d devices in a cohort, %d in 10,000 of them corrupt and %d vanishing: no sparse graph is safe for them; want at least 100 corrupt, or cohorts of at most %d",
					n, corrupt, dropout, secagg.CompleteGraph)
			}
		}
	}
	if err := checkEvaluation(spec.GetEvaluation()); err != nil {
		return err
	}
	if spec.GetPersonal() && spec.GetEvaluation() == nil {
		return errors.New("personal parts without chats that are held back to judge them by: hold some back, or leave the personal parts out")
	}
	if err := checkPrivacy(spec); err != nil {
		return err
	}
	m, err := model.NewLayout(spec.GetModel(), len(spec.GetIntents()))
	if err != nil {
		return err
	}
	l, err := noisedLayout(spec, m)
	if err != nil {
		return err
	}
	return l.Fits(int(cohort), l.RingBits(int(cohort)))
}

// What a specification leaves to the coordinator.

// cohortOf is the most devices of a cohort.
func cohortOf(spec *pb.TaskSpec) uint32 {
	if n := spec.GetCohort(); n != 0 {
		return n
	}
	return min(spec.GetPerRound(), defaultCohort)
}

// corruptOf is the devices in 10,000 that may work for the coordinator.
func corruptOf(spec *pb.TaskSpec) uint32 {
	if n := spec.GetCorrupt(); n != 0 {
		return n
	}
	return defaultTolerated
}

// dropoutOf is the devices in 10,000 that may vanish.
func dropoutOf(spec *pb.TaskSpec) uint32 {
	if n := spec.GetDropout(); n != 0 {
		return n
	}
	return defaultTolerated
}

// keysOf is how keys are agreed on.
func keysOf(spec *pb.TaskSpec) pb.KeyExchange {
	if k := spec.GetKeys(); k != pb.KeyExchange_KEY_EXCHANGE_UNSPECIFIED {
		return k
	}
	return pb.KeyExchange_KEY_EXCHANGE_HYBRID
}

// milliseconds turns a field of the contract into a duration, the longest one where
// it does not fit.
func milliseconds(ms uint64) time.Duration {
	return time.Duration(min(ms, uint64(longestWait/time.Millisecond)+1)) * time.Millisecond
}

// Basis is what the rounds of a task start from: the model as it stands, and what the
// devices hold the coordinator to.
type Basis struct {
	// Checkpoint is the SHA-256 of the checkpoint's file and Bytes its size.
	Checkpoint [32]byte
	Bytes      uint64
	// Layout is its model's.
	Layout model.Layout
	// LogHead is the newest signed head of the task's log, in which the checkpoint
	// stands, and Revocations the SHA-256 of the list of revoked devices, empty where
	// there is none. A simulation has neither.
	LogHead, Revocations []byte
	// Clip is the bound on the norm of an update, where the task's moves; 0 is that of the
	// first round.
	Clip float32
	// Devices is how many have come for the attempt, which may be fewer than a round holds; 0
	// is a full round. The bits of a coordinate follow it.
	Devices int
}

// NewPlan returns what the devices of one attempt are told, and its bytes, which
// are what everybody hashes. The specification has passed CheckSpec.
func NewPlan(spec *pb.TaskSpec, round uint64, attempt uint32, from Basis) (*pb.Plan, []byte, error) {
	training, err := model.DefaultTraining(spec.GetModel())
	if err != nil {
		return nil, nil, err
	}
	training.Proximal = ChoiceOf(spec).Proximal()
	layout := specLayout(spec, from.Layout)
	codec := codecOf(spec, cmp.Or(from.Devices, int(spec.GetPerRound())))
	layout.Codec = codec
	noise, err := NoiseOf(spec, from.Layout)
	if err != nil {
		return nil, nil, err
	}
	moveClip(noise, from.Clip)
	if noise != nil {
		layout.Noise, codec = mechanism(noise), aggregation.Codec{}
	}
	plan := &pb.Plan{
		Task: spec.GetName(), Round: round, Attempt: attempt,
		CheckpointSha256: from.Checkpoint[:], CheckpointBytes: from.Bytes,
		Training: TrainingOf(training, round, spec.GetRounds()),
		Codec: &pb.Codec{
			Clip: codec.Clip, Bits: uint32(codec.Bits), RingBits: uint32(layout.RingBits(int(cohortOf(spec)))), MaxWeight: uint32(codec.MaxWeight),
		},
		SecureAggregation: aggregationOf(spec, from.Layout),
		AdvertiseMs:       uint32(trainingShare * spec.GetDeadlineMs()), StepMs: uint32(spec.GetDeadlineMs()),
		LogHead: from.LogHead, RevocationsSha256: from.Revocations,
		Evaluation: evaluationOf(spec), Noise: noise,
	}
	Tell(plan.Training, spec, from.Layout)
	if c := spec.GetCompression(); c.GetMethod() != pb.Compression_METHOD_UNSPECIFIED {
		plan.Compression = &pb.Compression{Method: c.GetMethod(), Ratio: c.GetRatio()}
	}
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(plan)
	if err != nil {
		return nil, nil, fmt.Errorf("coordinator: encoding a plan: %w", err)
	}
	return plan, raw, nil
}

// aggregationOf is what every round of a task asks of its devices.
func aggregationOf(spec *pb.TaskSpec, layout model.Layout) *pb.SecureAggregation {
	length := specLayout(spec, layout).Length()
	if spec.GetPrivacy().GetClipQuantile() > 0 {
		length++ // a vote on the clip
	}
	return &pb.SecureAggregation{
		Length: uint32(length), Cohort: cohortOf(spec), MinSurvivors: spec.GetMinSurvivors(),
		Corrupt: corruptOf(spec), Dropout: dropoutOf(spec), Keys: keysOf(spec),
	}
}

// RoundConfig returns the attempt that a plan describes, for devices with these
// check-ins. Its Params.Revoked and Params.Rolls are the caller's to set.
func RoundConfig(plan *pb.Plan, raw []byte, ca ed25519.PublicKey, checkIns map[secagg.ID][32]byte, grace time.Duration) round.Config {
	aggregate := plan.GetSecureAggregation()
	keys := secagg.Hybrid
	if aggregate.GetKeys() == pb.KeyExchange_KEY_EXCHANGE_CLASSICAL {
		keys = secagg.Classical
	}
	return round.Config{
		Params: secagg.Params{
			Task: plan.GetTask(), Round: plan.GetRound(), Attempt: plan.GetAttempt(), Plan: raw, CA: ca,
			Length: int(aggregate.GetLength()), RingBits: int(plan.GetCodec().GetRingBits()),
			Cohort: int(aggregate.GetCohort()), MinSurvivors: int(aggregate.GetMinSurvivors()),
			Corrupt: int(aggregate.GetCorrupt()), Dropout: int(aggregate.GetDropout()), Keys: keys,
			Levels: levelsOf(plan),
		},
		CheckIns:  checkIns,
		Advertise: time.Duration(plan.GetAdvertiseMs()) * time.Millisecond,
		Step:      time.Duration(plan.GetStepMs()) * time.Millisecond,
		Grace:     grace,
	}
}

// Apply moves a model by the total of so many devices' encoded updates, over all
// cohorts: it decodes the total, steps the strategy and returns the next checkpoint
// with the strategy's state that goes with it. The checkpoint and the state it starts
// from, of StateLength, stay as they are. A total that the coordinator adds noise to has been
// through AddNoise. An update that would make a parameter NaN or infinite
// is an error.
func Apply(spec *pb.TaskSpec, c *model.Checkpoint, state []float32, plan *pb.Plan, total *aggregation.Sums, survivors int) (*model.Checkpoint, []float32, error) {
	mean, _, err := meanOf(spec, c, plan, total)
	if err != nil {
		return nil, nil, err
	}
	return step(spec, c, state, mean, survivors)
}

// meanOf is the mean update of a total, as long as the parameters, and the sum of the
// weights where cohorts are added up.
func meanOf(spec *pb.TaskSpec, c *model.Checkpoint, plan *pb.Plan, total *aggregation.Sums) (mean []float32, weight int, err error) {
	l := c.Manifest.Layout
	short := reductionOf(plan.GetCompression(), l).Seeded(plan.GetRound(), plan.GetCheckpointSha256())
	mean = make([]float32, short.Length(len(c.Params)))
	layout := LayoutOf(plan, l)
	if plan.GetNoise().GetPrivacy().GetCentral() != nil {
		layout.Noise = layout.Noise.Finer() // AddNoise has made the total finer
	}
	if err := ChoiceOf(spec).Mean(mean, layout, total); err != nil {
		return nil, 0, err
	}
	weight = int(layout.Weight(total.Totals[0]))
	if len(mean) != len(c.Params) {
		whole := make([]float32, len(c.Params))
		short.Expand(whole, mean)
		mean = whole
	}
	return mean, weight, nil
}

// step moves a model by a mean update.
func step(spec *pb.TaskSpec, c *model.Checkpoint, state, mean []float32, survivors int) (*model.Checkpoint, []float32, error) {
	params, next := append([]float32(nil), c.Params...), append([]float32(nil), state...)
	if err := StrategyOf(spec, c.Manifest.Round+1, survivors).Step(params, next, mean); err != nil {
		return nil, nil, err
	}
	moved, err := successor(c, params)
	return moved, next, err
}

// successor is the next checkpoint of a model with these parameters.
func successor(c *model.Checkpoint, params []float32) (*model.Checkpoint, error) {
	next, err := c.Next(params)
	if err != nil {
		return nil, fmt.Errorf("coordinator: the new checkpoint: %w", err)
	}
	return next, nil
}
