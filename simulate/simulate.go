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
	r, err := newRun(ctx, c)
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

// newRun makes the devices and the first checkpoint, unless ctx ends while that is trained.
func newRun(ctx context.Context, c Config) (*run, error) {
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
	if err := r.warmStart(ctx, labels); err != nil {
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
func (r *run) warmStart(ctx context.Context, labels map[string]int) error {
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
	if _, err = train.Warm(params, r.layout, r.pool.examples(r.WarmStart), settings, seed64(derive(r.Seed, "warm start")), ctx.Err); err != nil {
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
		if r.standing.Exhausted(r.spec) {
			result.StoppedEarly = n < r.Rounds
			break
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
