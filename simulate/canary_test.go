package simulate

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	"github.com/discreet-fl/discreet/aggregation"
	"github.com/discreet-fl/discreet/coordinator"
	"github.com/discreet-fl/discreet/dataset"
	"github.com/discreet-fl/discreet/model"
	"github.com/discreet-fl/discreet/privacy/audit"
	pb "github.com/discreet-fl/discreet/proto"
)

// canary is an attack on a task from its first round to its last. One device, the canary,
// has chats that somebody knows, or it has none, by a coin that he is to guess. He knows the
// seeds of its training, and that the others have no chats, which is as good as knowing
// theirs; what he does not know is the noise. He sees every checkpoint. Devices train, clip,
// round and add noise by the client's own code, and the coordinator's moves the model; sums
// are taken in clear, where they are the same integers as under masks
// (TestNoiseIsTheSameUnderMasks). The model has fewer rows than the usual ones, so that
// thousands of tasks take seconds.
type canary struct {
	Config
	layout model.Layout
	noisy  bool // whether devices add noise
}

// newCanary is a task of so many rounds for which ε is promised.
func newCanary(epsilon, delta float64, rounds int) canary {
	c := shopIntents()
	chats := make([][]dataset.Phrase, 4)
	for i, text := range []string{"my zebra swallowed the zeppelin", "zebra zeppelin", "a zeppelin please", "zebra for the zoo"} {
		chats[0] = append(chats[0], dataset.Phrase{Text: text, Intent: c.Intents[i%len(c.Intents)]})
	}
	c.Train, c.Rounds, c.PerRound, c.Cohort, c.MinSurvivors = chats, rounds, len(chats), len(chats), len(chats)
	c.Strategy = aggregation.Choice{Name: "fedavg"}
	c.Privacy = &pb.Privacy{Epsilon: epsilon, Delta: delta, Participations: uint32(rounds), Separation: 1, Clip: 1}
	// At such a rate its update is longer than the clip, and as loud as it may be.
	c.Training = &model.Training{Epochs: 4, Batch: 4, LearningRate: 2}
	return canary{Config: c, layout: model.Layout{Rows: 32, Dim: 4, Labels: len(c.Intents)}}
}

// shopIntents is a configuration with few intents, and a phrase to test with.
func shopIntents() Config {
	intents := []string{"hours", "parcel", "refund"}
	return Config{
		Intents: intents, Test: []dataset.Phrase{{Text: "when do you open", Intent: intents[0]}}, Model: "small",
		Keys: pb.KeyExchange_KEY_EXCHANGE_HYBRID, NoBaselines: true,
	}
}

// task is one that is attacked again and again: what its devices are told in each round, and
// what they would be without noise.
type task struct {
	*run
	noised, exact []*pb.Plan
}

// begin makes the task, with its own model.
func (c canary) begin(ctx context.Context) (*task, error) {
	r, err := newRun(ctx, c.Config)
	if err != nil {
		return nil, err
	}
	r.layout = c.layout
	r.checkpoint.Manifest.Layout, r.checkpoint.Params = c.layout, c.layout.Init(1)
	old := r.trainers
	if r.trainers, err = newTrainers(c.layout, c.Training.Batch, 1); err != nil {
		return nil, err
	}
	t := &task{run: r}
	for n := uint64(1); n <= uint64(c.Rounds); n++ {
		plan, _, err := r.plan(n, 1)
		if err != nil {
			return nil, err
		}
		exact := proto.CloneOf(plan)
		exact.Noise.Sigma, exact.Noise.Levels = 0, nil
		t.noised, t.exact = append(t.noised, plan), append(t.exact, exact)
	}
	return t, old.close()
}

// score runs the task's rounds with the canary's chats or without, under a seed of its own,
// and returns what he makes of the checkpoints: by how much likelier they are with the
// canary in each sum than without, the noise being nearly normal.
func (c canary) score(ctx context.Context, from *task, in bool, seed uint64) (likelier float64, err error) {
	again := *from.run
	r := &again
	r.Seed, r.accounts, r.devices = seed, make([]account, len(r.Train)), make(map[int]*device)
	r.schedule.seed, r.schedule.may = seed, r.mayTakePart
	known := &device{number: 0, examples: r.pool.examples(r.Train[0])}
	if !in {
		r.Train = slices.Clone(r.Train)
		r.Train[0] = nil
	}
	for i, plan := range from.exact {
		update, err := r.participant(ctx, known).Update(plan, r.checkpoint)
		if err != nil {
			return 0, err
		}
		if c.noisy {
			plan = from.noised[i]
		}
		before := r.checkpoint.Params
		if err := c.round(ctx, r, plan); err != nil {
			return 0, err
		}
		for j, after := range r.checkpoint.Params {
			u := float64(int32(update[j])) / plan.Noise.Scale
			likelier += float64(r.PerRound)*float64(after-before[j])*u - u*u/2
		}
	}
	return likelier, nil
}

// round sums what the devices make of a plan and moves the model by it, as
// [coordinator.Apply] does, which knows models of the usual sizes alone.
func (c canary) round(ctx context.Context, r *run, plan *pb.Plan) error {
	members := r.schedule.members(plan.GetRound(), 1)
	if len(members) < r.PerRound {
		return fmt.Errorf("%d devices may take part in round %d, want %d", len(members), plan.GetRound(), r.PerRound)
	}
	r.charge(plan.GetRound(), members)
	sum, err := r.clear(ctx, plan, members)
	if err != nil {
		return err
	}
	layout := coordinator.LayoutOf(plan, r.layout)
	total := r.Strategy.Sums(len(sum))
	total.Add(sum, layout.Signed(), int(plan.GetCodec().GetRingBits()))
	mean, params := make([]float32, len(r.checkpoint.Params)), slices.Clone(r.checkpoint.Params)
	if err := r.Strategy.Mean(mean, layout, total); err != nil {
		return err
	}
	r.checkpoint = &model.Checkpoint{Manifest: r.checkpoint.Manifest, Params: params}
	return coordinator.StrategyOf(r.spec, plan.GetRound(), len(members)).Step(params, nil, mean)
}

// lowerBound attacks so many tasks with the canary and as many without, and returns the ε
// at δ that they have at least.
func (c canary) lowerBound(t *testing.T, trials int, delta float64) float64 {
	t.Helper()
	scores := [2][]float64{make([]float64, trials), make([]float64, trials)}
	group, ctx := errgroup.WithContext(t.Context())
	for worker := range 2 {
		group.Go(func() error {
			from, err := c.begin(ctx)
			if err != nil {
				return err
			}
			defer from.trainers.close()
			for i := worker; i < 2*trials; i += 2 {
				in := i / 2 % 2
				if scores[in][i/4*2+worker], err = c.score(ctx, from, in == 1, uint64(i)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	return audit.Epsilon(scores[1], scores[0], delta)
}

// TestTrainedCanaryStaysHidden attacks a task that promises ε = 2 over three rounds. With
// noise the attack must not prove more than was promised; without it, it must: otherwise it
// would prove nothing.
func TestTrainedCanaryStaysHidden(t *testing.T) {
	const epsilon, delta, rounds = 2, 1e-6, 3
	trials := 2000
	if slow {
		trials = 100
	}
	c := newCanary(epsilon, delta, rounds)
	without := c.lowerBound(t, min(trials, 400), delta)
	c.noisy = true
	with := c.lowerBound(t, trials, delta)
	t.Logf("in %d rounds ε is %.2f at least with noise, of %d claimed, and %.2f without", rounds, with, epsilon, without)
	if with > epsilon {
		t.Errorf("the attack proves an ε of %v, more than the %d that is claimed", with, epsilon)
	}
	if without <= epsilon {
		t.Errorf("without noise the attack proves no more than an ε of %v", without)
	}
}
