package simulate

import (
	"errors"
	"fmt"
	"math"

	"github.com/discreet-fl/discreet/aggregation"
	"github.com/discreet-fl/discreet/coordinator"
	"github.com/discreet-fl/discreet/dataset"
	"github.com/discreet-fl/discreet/model"
	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/secagg"
)

// Config says what to simulate. Every field but Compression, Pool, Progress, Strategy, Training, Central,
// WarmStart, HeldBack, Unknown, EarlyStop, Outside, Privacy, Personal, Buffer, Slow and NoBaselines is set.
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
	// EarlyStop ends the run after so many evaluated rounds without a better accuracy on the
	// chats held back, once it has levelled, or three times as many; 0 is never.
	EarlyStop uint64
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
	case c.MinSurvivors < secagg.MinCohort:
		return fmt.Errorf("a minimum of %d survivors, want %d to %d, the devices of a cohort", c.MinSurvivors, secagg.MinCohort, min(c.PerRound, c.Cohort))
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
	case c.EarlyStop > 0 && c.HeldBack == 0:
		return errors.New("an early stop, and no chats held back to tell an accuracy by: raise --held-back, which does not go with --epsilon")
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

// spec is the task that is simulated.
func (c *Config) spec() *pb.TaskSpec {
	s := &pb.TaskSpec{
		Name: "simulation", Intents: c.Intents, Model: c.Model, PerRound: uint32(c.PerRound),
		MinSurvivors: uint32(c.MinSurvivors), Rounds: uint64(c.Rounds), Seed: c.Seed, DeadlineMs: 600_000,
		Cohort: uint32(c.Cohort), Keys: c.Keys, Compression: c.Compression, Strategy: coordinator.StrategyFor(c.Strategy), Privacy: c.Privacy, Buffer: c.Buffer,
	}
	if c.HeldBack > 0 {
		s.Evaluation = &pb.TaskEvaluation{HeldBack: uint32(math.Round(c.HeldBack * model.HeldBackOf)), Unknown: uint32(math.Round(c.Unknown * 10_000)), EarlyStop: c.EarlyStop}
	}
	return s
}
