// Package simulate runs many devices and a coordinator in one process, with the
// same code as the real ones and no network: client.Participant takes part through
// direct calls in rounds of coordinator/round.
//
// Begin with [Run]. A round, walked:
//
//  1. The schedule names the members and who will vanish where (schedule.go).
//  2. Each member trains on its own examples and encodes its update.
//  3. With Secure, the members and the round exchange the protocol's messages
//     (secure.go, direct.go); without, the vectors of those who would survive
//     (outcome.go) are added in clear (plain.go). Either way the sum is the same
//     integers, also where a round is split into cohorts of which some are lost.
//  4. The sum is decoded, the strategy steps, a checkpoint is made and measured.
//  5. An attempt with too few left is tried again with new members.
package simulate

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	"github.com/discreet-fl/discreet/aggregation"
	"github.com/discreet-fl/discreet/coordinator"
	"github.com/discreet-fl/discreet/coordinator/round"
	"github.com/discreet-fl/discreet/dataset"
	"github.com/discreet-fl/discreet/model"
	"github.com/discreet-fl/discreet/model/train"
	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/secagg"
)

// Config says what to simulate. Every field but Compression, Pool, Progress, Strategy, Training, Central,
// WarmStart, HeldBack, Unknown, Outside, Privacy, Personal, Buffer, Slow and NoBaselines is set.
type Config struct {
	Train [][]dataset.Phrase // each device's chats; a device may have none
	// Pool is what Train was dealt from, where devices have chats in common; the model in
	// one place is trained on it. nil where each chat is one device's alone.
	Pool         []dataset.Phrase
	Test         []dataset.Phrase
	Intents      []string
	PerRound     int             // devices in a round
	Cohort       int             // devices in a cohort at most; a round of more has several
	MinSurvivors int             // survivors below which a cohort is given up
	Keys         pb.KeyExchange  // how devices agree on masks
	Compression  *pb.Compression // how updates are shortened; nil does not
	Rounds       int             // rounds to run
	Model        string          // "small" or "base"
	Drop         float64         // probability that a selected device vanishes, 0 to 1
	Secure       bool            // whether sums are taken under masks
	Seed         uint64          // of everything but the keys under which is masked
	// Strategy is what is done with a round's mean update; the zero Choice is the default.
	Strategy aggregation.Choice
	Progress func(Round) // is told of each round
	// Training takes the place of the model size's own settings, for an experiment; nil
	// leaves them.
	Training *model.Training
	// Central changes what the model in one place is trained with, for an experiment; nil
	// leaves it.
	Central func(*model.Training)
	// WarmStart are phrases that the first checkpoint is trained on in one place, none to
	// begin with one that knows nothing.
	WarmStart []dataset.Phrase
	// HeldBack is the share of its chats, up to a half, that each device does not train
	// on but evaluates every round's checkpoint with; 0 holds none back.
	HeldBack float64
	// Unknown is the share of chats in scope, up to a half, that the checkpoints' threshold
	// gives up to answer fewer that are not; with 0, or none held back, there is no threshold.
	Unknown float64
	// Outside are texts of none of the intents, to test with.
	Outside []string
	// Privacy is what each device is promised, with noise in the sums; nil leaves them exact.
	Privacy *pb.Privacy
	// Personal measures personal parts after the last round, on a fifth of each device's
	// chats that are taken from it at first; it needs chats that are held back.
	Personal bool
	// Buffer lets cohorts of PerRound devices work side by side, and each round is a
	// checkpoint made from some of their sums; nil runs one round after another.
	Buffer *pb.Buffer
	// Slow is the share of devices that are ten times slower than the others, 0 to 1.
	Slow float64
	// NoBaselines leaves out the training in one place and alone, whose accuracies are
	// then 0.
	NoBaselines bool
	// Wrong says which of the devices' chats have a wrong intent, for an experiment; by zero
	// none has. The baselines train on the right ones.
	Wrong Wrong
}

// settings is how devices train.
func (c *Config) settings() (model.Training, error) {
	if c.Training != nil {
		return *c.Training, c.Training.Validate()
	}
	return model.DefaultTraining(c.Model)
}

// Result is what a simulation found.
type Result struct {
	// Accuracy and MacroF1 are the last checkpoint's on the test phrases.
	Accuracy float64 `json:"accuracy"`
	MacroF1  float64 `json:"macro_f1"`
	// CentralisedAccuracy is that of one model trained to convergence on all chats and the
	// warm start in one place; LocalOnlyAccuracy the mean of models each trained to convergence on
	// one device's chats alone, over LocalOnlyDevices drawn ones, and LocalOnlyError its
	// standard error: devices are drawn until it is at most 0.005, or there are fifty.
	CentralisedAccuracy float64 `json:"centralised_accuracy"`
	LocalOnlyAccuracy   float64 `json:"local_only_accuracy"`
	LocalOnlyError      float64 `json:"local_only_error"`
	LocalOnlyDevices    int     `json:"local_only_devices"`
	// CalibrationError is the last checkpoint's expected calibration error on the test
	// phrases, and OutOfScope how it does on texts outside; nil where there are none.
	CalibrationError float64     `json:"calibration_error"`
	OutOfScope       *OutOfScope `json:"out_of_scope,omitempty"`
	Parameters       int         `json:"parameters"`
	// BytesUpPerDevice is the mean that a device in a round's sum sent in it, all
	// messages counted.
	BytesUpPerDevice int64   `json:"bytes_up_per_device"`
	Seconds          float64 `json:"seconds"`
	// Digest is the SHA-256 of the last checkpoint file, in hex.
	Digest  string `json:"digest"`
	Secure  bool   `json:"secure"`
	Seed    uint64 `json:"seed"`
	Devices int    `json:"devices"`
	// Chats is how many the devices have together, and UsesPerPhrase on how many devices
	// a training phrase is in the mean.
	Chats         int     `json:"chats"`
	UsesPerPhrase float64 `json:"uses_per_phrase"`
	Model         string  `json:"model"`
	Rounds        []Round `json:"rounds"`
	// Privacy is what the devices were promised and gave away; nil where sums are exact.
	Privacy *Privacy `json:"privacy,omitempty"`
	// Checkpoint is the last checkpoint file.
	Checkpoint []byte `json:"-"`
	// BytesByStep is what all devices in the sums sent in each step, where sums are taken
	// under masks.
	BytesByStep map[round.Step]int64 `json:"-"`
	Personal    *PersonalScore       `json:"personal,omitempty"` // nil where they were not measured
	Detail      *Detail              `json:"-"`
}

// Round is one round of a simulation.
type Round struct {
	Round    int     `json:"round"`
	Accuracy float64 `json:"accuracy"`
	// Participants were selected; Survivors are in the sum, 0 where every attempt failed.
	Participants int   `json:"participants"`
	Survivors    int   `json:"survivors"`
	Drops        Drops `json:"drops"`
	Attempts     int   `json:"attempts"`
	// Cohorts is how many the round was split into, and CohortsLost how many of them are
	// not in the sum.
	Cohorts     int `json:"cohorts"`
	CohortsLost int `json:"cohorts_lost"`
	// MasksExpanded is how many mask streams the coordinator expanded to unmask the sum.
	MasksExpanded int `json:"masks_expanded"`
	// Clip is the bound on the norm of updates, where sums have noise.
	Clip float32 `json:"clip,omitempty"`
	// Evaluation is what the devices found, on the chats that they hold back, of the
	// checkpoint that the round began with; nil where they hold none back.
	Evaluation *Evaluation `json:"evaluation,omitempty"`
	// Clock is the simulated time at the round's end, in what a device of the usual pace
	// takes for one, and Late how many checkpoints late each sum was, with a buffer.
	Clock   float64 `json:"clock"`
	Late    []int   `json:"late,omitempty"`
	BytesUp int64   `json:"bytes_up"` // by the devices in the sum together
	Seconds float64 `json:"seconds"`
}

// Evaluation is a federated evaluation.
type Evaluation struct {
	Devices          uint64  `json:"devices"` // that counted chats
	Chats            uint64  `json:"chats"`
	Accuracy         float64 `json:"accuracy"`
	MacroF1          float64 `json:"macro_f1"`
	CalibrationError float64 `json:"calibration_error"`
	// Recall is the share of each intent's chats that were named rightly, in the order of
	// Config.Intents, and Counted how many of its chats there were.
	Recall  []float64 `json:"-"`
	Counted []uint64  `json:"-"`
}

// evaluationOf is what the coordinator made of the counts.
func evaluationOf(e *pb.RoundEvaluation) *Evaluation {
	out := &Evaluation{
		Devices: e.Devices, Chats: e.Chats, Accuracy: e.Accuracy, MacroF1: e.MacroF1, CalibrationError: e.CalibrationError,
		Recall: make([]float64, len(e.IntentChats)), Counted: e.IntentChats,
	}
	for i, n := range e.IntentChats {
		if n > 0 {
			out.Recall[i] = float64(e.IntentCorrect[i]) / float64(n)
		}
	}
	return out
}

// Drops counts the devices that vanished in the last attempt of a round, by place.
type Drops struct {
	BeforeAdvertise int `json:"before_advertise"`
	AfterAdvertise  int `json:"after_advertise"`
	AfterShare      int `json:"after_share"`
	AfterSubmit     int `json:"after_submit"`
	AfterConfirm    int `json:"after_confirm"`
}

// Total is the number of devices that vanished at any place.
func (d Drops) Total() int {
	return d.BeforeAdvertise + d.AfterAdvertise + d.AfterShare + d.AfterSubmit + d.AfterConfirm
}

// Check returns an error for a configuration that cannot run.
func (c *Config) Check() error {
	if n := len(c.Intents); n < 2 || n > model.MaxLabels {
		return fmt.Errorf("the training phrases have %d intents, want 2 to %d: give --data with as many", n, model.MaxLabels)
	}
	if _, err := model.NewLayout(c.Model, len(c.Intents)); err != nil {
		return err
	}
	switch {
	case len(c.Train) < c.PerRound:
		return fmt.Errorf("%d devices a round of %d devices: lower --per-round or raise --devices", c.PerRound, len(c.Train))
	case c.PerRound < c.MinSurvivors:
		return fmt.Errorf("%d devices a round, want at least the %d that must survive it", c.PerRound, c.MinSurvivors)
	case c.PerRound > secagg.MaxDevices:
		return fmt.Errorf("%d devices a round, want at most %d", c.PerRound, secagg.MaxDevices)
	case c.Cohort < c.MinSurvivors || c.Cohort > secagg.MaxCohort:
		return fmt.Errorf("cohorts of at most %d devices, want %d, which must survive, to %d", c.Cohort, c.MinSurvivors, secagg.MaxCohort)
	case c.Keys != pb.KeyExchange_KEY_EXCHANGE_HYBRID && c.Keys != pb.KeyExchange_KEY_EXCHANGE_CLASSICAL:
		return fmt.Errorf("key exchange %v, want hybrid or classical", c.Keys)
	case c.Strategy.Check() != nil:
		return c.Strategy.Check()
	case c.Rounds < 1:
		return fmt.Errorf("%d rounds, want at least 1", c.Rounds)
	case !(c.Drop >= 0 && c.Drop <= 1):
		return fmt.Errorf("drop is %v, want a probability from 0 to 1", c.Drop)
	case !(c.Slow >= 0 && c.Slow <= 1):
		return fmt.Errorf("a share of %v slow devices, want 0 to 1", c.Slow)
	case c.HeldBack != 0 && !(c.HeldBack >= 0.0001 && c.HeldBack <= 0.5):
		return fmt.Errorf("a share of %v held back, want 0, or 0.0001 to 0.5", c.HeldBack)
	case !(c.Unknown >= 0 && c.Unknown <= 0.5):
		return fmt.Errorf("a share of %v unknown, want 0 to 0.5", c.Unknown)
	case c.Personal && c.HeldBack == 0:
		return errors.New("personal models, and no chats held back to judge them by: raise --held-back")
	case len(c.Test) == 0:
		return errors.New("no test phrases: name a file with --test")
	}
	if err := coordinator.CheckSpec(c.spec()); err != nil { // what no task may be
		return err
	}
	return errors.Join(c.Wrong.check(), c.checkPrivacy())
}

// chats is how many chats the devices have, and how many times each is dealt in the mean.
func (c *Config) chats() (n int, uses float64) {
	for _, phrases := range c.Train {
		n += len(phrases)
	}
	if c.Pool == nil {
		return n, 1
	}
	return n, float64(n) / float64(len(c.Pool))
}

// run is a simulation on its way.
type run struct {
	Config
	schedule schedule
	accounts []account // of the devices, where they are promised privacy
	spec     *pb.TaskSpec
	layout   model.Layout
	ca       ed25519.PrivateKey
	trainers *trainers
	working  chan struct{} // as many as there are cores: a device that works, and holds its memory, puts one in
	pool     pool
	devices  map[int]*device // of the round on its way, by number
	test     []model.Example
	aside    [][]dataset.Phrase // each device's chats that are set aside, where personal parts are measured

	checkpoint *model.Checkpoint
	encoded    []byte    // the checkpoint's file
	state      []float32 // the strategy's
	noise      []byte    // what goes on of noise that the coordinator adds
	clip       float32   // of the next round, where it moves; 0 is that of the first
	standing   coordinator.Standing
	// observe, in tests, sees and may change what the coordinator is sent; nil withholds it.
	observe func(device int, step round.Step, payload []byte) []byte
	bytesUp int64
	bytesBy map[round.Step]int64 // of bytesUp, where sums are taken under masks
	alone   []aloneScore         // by the baselines
	sent    int64                // device rounds that bytesUp is over
	clock   float64
	flights []*flight // cohorts at work, with a buffer
}

// Run simulates and returns what it found. It is repeatable: with the same
// configuration the checkpoints have the same bits, with Secure or without.
func Run(ctx context.Context, c Config) (*Result, error) {
	start := time.Now()
	r, err := newRun(c)
	if err != nil {
		return nil, err
	}
	result := &Result{Parameters: r.layout.Parameters(), Secure: c.Secure, Seed: c.Seed, Devices: len(c.Train), Model: c.Model}
	result.Chats, result.UsesPerPhrase = c.chats()
	group, ctx := errgroup.WithContext(ctx)
	if !c.NoBaselines {
		group.Go(func() error {
			var err error
			result.CentralisedAccuracy, result.LocalOnlyAccuracy, err = r.baselines(ctx)
			return err
		})
	}
	group.Go(func() error {
		err := r.rounds(ctx, result)
		if err == nil && c.Personal {
			result.Personal, err = r.personal(ctx)
		}
		return err
	})
	if err := errors.Join(group.Wait(), r.trainers.close()); err != nil {
		return nil, err
	}
	result.LocalOnlyDevices = len(r.alone)
	_, result.LocalOnlyError = aloneMean(r.alone, len(c.Train))
	result.Digest, result.Checkpoint = r.digest(), r.encoded
	result.Detail, result.BytesByStep = r.detail(r.alone, result.Rounds), r.bytesBy
	result.CalibrationError, result.OutOfScope = result.Detail.CalibrationError, r.outOfScope()
	if result.Privacy, err = r.given(); err != nil {
		return nil, err
	}
	if r.sent > 0 {
		result.BytesUpPerDevice = r.bytesUp / r.sent
	}
	result.Seconds = time.Since(start).Seconds()
	return result, nil
}

// digest names the current checkpoint.
func (r *run) digest() string {
	sum := sha256.Sum256(r.encoded)
	return hex.EncodeToString(sum[:])
}

// newRun makes the devices and the first checkpoint.
func newRun(c Config) (*run, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	layout, err := model.NewLayout(c.Model, len(c.Intents))
	if err != nil {
		return nil, err
	}
	r := &run{
		Config: c, layout: layout, working: make(chan struct{}, runtime.GOMAXPROCS(0)),
		pool: make(pool), devices: make(map[int]*device), bytesBy: make(map[round.Step]int64),
	}
	r.schedule = schedule{seed: c.Seed, devices: len(c.Train), perRound: c.PerRound, drop: c.Drop}
	if c.Privacy != nil {
		r.accounts, r.schedule.may = make([]account, len(c.Train)), r.mayTakePart
	}
	r.spec = c.spec()
	r.state = make([]float32, coordinator.StateLength(r.spec, layout.Parameters()))
	r.checkpoint, err = model.NewCheckpoint(r.spec.Name, c.Model, 0, c.Intents, layout.Init(c.Seed))
	if err != nil {
		return nil, err
	}
	labels := make(map[string]int, len(c.Intents))
	for i, intent := range c.Intents {
		labels[intent] = i
	}
	if err := r.warmStart(labels); err != nil {
		return nil, err
	}
	r.encoded = r.checkpoint.Encode()
	for _, phrases := range slices.Concat([][]dataset.Phrase{c.Test, c.Pool}, c.Train) {
		if err := r.pool.add(phrases, labels); err != nil {
			return nil, err
		}
	}
	r.test = r.pool.examples(c.Test)
	if c.Personal {
		r.setAside()
	}
	if _, r.ca, err = ed25519.GenerateKey(rand.Reader); err != nil {
		return nil, err
	}
	settings, err := c.settings()
	if err != nil {
		return nil, err
	}
	r.trainers, err = newTrainers(layout, settings.Batch, runtime.GOMAXPROCS(0))
	return r, err
}

// warmStart trains the first checkpoint on what the operator has.
func (r *run) warmStart(labels map[string]int) error {
	if len(r.WarmStart) == 0 {
		return nil
	}
	if err := r.pool.add(r.WarmStart, labels); err != nil {
		return fmt.Errorf("--warm-start: %w", err)
	}
	settings, err := r.settings()
	if err != nil {
		return err
	}
	params := r.checkpoint.Params
	if _, err = train.Warm(params, r.layout, r.pool.examples(r.WarmStart), settings, seed64(derive(r.Seed, "warm start"))); err != nil {
		return fmt.Errorf("--warm-start: %w", err)
	}
	r.checkpoint, err = model.NewCheckpoint(r.spec.Name, r.Model, 0, r.Intents, params)
	return err
}

// rounds runs every round and measures each checkpoint.
func (r *run) rounds(ctx context.Context, result *Result) error {
	for n := 1; n <= r.Rounds; n++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		start := time.Now()
		round, err := r.round(ctx, uint64(n))
		if err != nil {
			return fmt.Errorf("round %d: %w", n, err)
		}
		score := Evaluate(r.checkpoint, r.test)
		round.Accuracy, round.Seconds = score.Accuracy, time.Since(start).Seconds()
		result.Accuracy, result.MacroF1 = score.Accuracy, score.MacroF1
		result.Rounds = append(result.Rounds, *round)
		if r.Progress != nil {
			r.Progress(*round)
		}
	}
	return nil
}

// round runs one round: attempts until one succeeds or they are used up, in which
// case the checkpoint stays as it was.
func (r *run) round(ctx context.Context, number uint64) (*Round, error) {
	if r.Buffer != nil {
		return r.next(ctx, number)
	}
	clear(r.devices)
	cohorts := secagg.Cohorts(r.PerRound, r.Cohort)
	result := &Round{Round: int(number), Participants: r.PerRound, Cohorts: cohorts, CohortsLost: cohorts} // all, until an attempt succeeds
	for attempt := uint32(1); attempt <= coordinator.MaxAttempts; attempt++ {
		members := r.schedule.members(number, attempt)
		if len(members) < r.PerRound {
			break // too few may take part: the checkpoint stays
		}
		result.Drops, result.Attempts = dropsOf(members), int(attempt)
		plan, raw, err := r.plan(number, attempt)
		if err != nil {
			return nil, err
		}
		r.clock += r.takes(plan, members)
		result.Clock = r.clock
		if r.Config.Privacy != nil {
			result.Clip = coordinator.ClipOf(plan.GetNoise())
			r.charge(number, members)
		}
		sum := r.plain
		if r.Secure {
			sum = r.secure
		}
		total, err := sum(ctx, plan, raw, members)
		if err != nil {
			return nil, err
		}
		if total == nil {
			continue
		}
		result.Survivors, result.MasksExpanded, result.CohortsLost = total.survivors, total.expansions, result.Cohorts-total.cohorts
		result.Evaluation = total.evaluation
		r.bytesUp += total.bytesUp
		result.BytesUp = total.bytesUp
		r.sent += int64(total.survivors)
		return result, nil
	}
	return result, nil
}

// plan is what the devices of an attempt are told, and its bytes.
func (r *run) plan(number uint64, attempt uint32) (*pb.Plan, []byte, error) {
	plan, raw, err := coordinator.NewPlan(r.spec, number, attempt, r.basis())
	if err != nil || r.Training == nil {
		return plan, raw, err
	}
	training := *r.Training
	if mu := r.Strategy.Proximal(); mu > 0 {
		training.Proximal = mu
	}
	plan.Training = coordinator.TrainingOf(training, number, r.spec.GetRounds())
	coordinator.Tell(plan.Training, r.spec, r.layout)
	raw, err = proto.MarshalOptions{Deterministic: true}.Marshal(plan)
	return plan, raw, err
}

// basis is what the next round starts from.
func (r *run) basis() coordinator.Basis {
	return coordinator.Basis{Checkpoint: sha256.Sum256(r.encoded), Bytes: uint64(len(r.encoded)), Layout: r.layout, Clip: r.clip}
}

// total is the sum over a round's cohorts, free of masks.
type total struct {
	sums                           *aggregation.Sums
	cohorts, survivors, expansions int
	ids                            []secagg.ID // of the survivors, ascending, where the sum was taken under masks
	bytesUp                        int64       // by all survivors together
	evaluation                     *Evaluation
}

// step turns a sum into the next checkpoint, as the coordinator does.
func (r *run) step(plan *pb.Plan, t *total) error {
	if r.Buffer != nil {
		return nil // the sum lands later
	}
	drawn := uint64(0)
	noise, err := coordinator.AddNoise(plan, r.layout, r.noise, t.sums, func() [32]byte {
		drawn++
		return derive(r.Seed, "central noise", plan.GetRound(), drawn)
	})
	if err != nil {
		return err
	}
	next, state, err := coordinator.Apply(r.spec, r.checkpoint, r.state, plan, t.sums, t.survivors)
	if err != nil {
		return err
	}
	e, err := coordinator.Evaluate(r.checkpoint, plan, t.sums.Whole())
	if err != nil {
		return err
	}
	if e != nil {
		t.evaluation = evaluationOf(e)
		r.standing = r.standing.After(e)
		r.standing.Calibrate(next, r.spec)
	}
	r.checkpoint, r.state, r.noise, r.encoded = next, state, noise, next.Encode()
	r.clip = coordinator.NextClip(plan, r.layout, t.sums, t.survivors)
	return nil
}
