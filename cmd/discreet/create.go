package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"google.golang.org/grpc"

	"github.com/discreet-fl/discreet/aggregation"
	"github.com/discreet-fl/discreet/coordinator"
	"github.com/discreet-fl/discreet/dataset"
	"github.com/discreet-fl/discreet/model"
	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/proto/rpc"
)

// largestCohort bounds the devices of a cohort unless --cohort says otherwise.
const largestCohort = 1000

// taskSettings are the flags of a new task.
type taskSettings struct {
	intents         string
	compression     string
	every, deadline time.Duration
	corrupt, lost   float64
	strategy        aggregation.Choice
	buffer          bufferSettings
	beginning       beginning
	heldBack        float64
	unknown         float64
	earlyStop       uint64
	promise         promise
	spec            pb.TaskSpec
}

func newTaskCreate() *cobra.Command {
	var (
		o operator
		s taskSettings
	)
	c := &cobra.Command{
		Use:   "create NAME --intents FILE",
		Short: "Create a task: what the devices are to learn, and when",
		Long: `Create starts a task. FILE lists the intents, one a line, or is any file of phrases
that "discreet simulate" reads, of which the intents are taken.

A round of more devices than a cohort holds is split into cohorts by lot. The devices of
a cohort mask with each other, and a share of them, --corrupt, may work for whoever runs
the coordinator without learning more than the sum.

With --buffer K cohorts work side by side, and the sums of any K of them make the next
checkpoint: a slow cohort holds nobody up, and its sum counts for less, the more
checkpoints came before it. Each cohort is then a round of its own.

With --warm-start the first checkpoint is trained on phrases of your own, on this machine,
and only the checkpoint is sent; with --from it goes on from a checkpoint file, of this
task or another. Without --intents the intents are theirs.

With --epsilon each device is promised that all it ever gives away in the task is
(ε, δ)-differentially private: every device adds its share of noise before its update is
masked, takes part --participations times at most, and checks all of that itself. Without
it sums are exact.

Creating a task again with the same settings changes nothing.`,
		Example: `  discreet task create support --intents intents.txt --per-round 10 --every 1h
  discreet task create support --intents intents.txt --per-round 5000 --cohort 500 --dropout 0.2
  discreet task create support --intents intents.txt --per-round 1000 --compression sketch:6 --epsilon 8 --delta 1e-6 --participations 5
  discreet task create support --warm-start nlu.yml`,
		Args: arguments("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := s.fill(args[0], c.Flags()); err != nil {
				return err
			}
			var first []byte
			if s.beginning.asked() {
				if _, err := o.identity(); err != nil { // before it trains, not after
					return err
				}
				checkpoint, err := s.beginning.first(c.Context(), c.OutOrStdout(), &s.spec)
				if err != nil {
					return err
				}
				first = checkpoint.Encode()
				sum := sha256.Sum256(first)
				s.spec.WarmStart = sum[:]
			}
			return o.run(c, func(ctx context.Context, connection *grpc.ClientConn) error {
				service := rpc.NewOperatorServiceClient(connection)
				if err := upload(ctx, service, first); err != nil {
					return err
				}
				reply, err := service.CreateTask(ctx, &pb.CreateTaskRequest{Spec: &s.spec})
				if err != nil {
					return err
				}
				printTask(c.OutOrStdout(), reply.Task)
				warnOfExactSums(c.OutOrStdout(), reply.Task.Spec)
				return nil
			})
		},
	}
	o.flags(c)
	s.flags(c.Flags())
	return c
}

func (s *taskSettings) flags(f *pflag.FlagSet) {
	f.StringVar(&s.intents, "intents", "", "file that names the intents")
	f.StringVar(&s.spec.Model, "model", "small", "model size: small (1 MB) or base (4 MB)")
	f.Uint32Var(&s.spec.PerRound, "per-round", 20, "devices in a round at most, 3 to 20,000")
	f.Uint32Var(&s.spec.Cohort, "cohort", 0, "devices in a cohort at most, 3 to 2,000; 0 is all of a round, up to a thousand")
	f.Uint32Var(&s.spec.MinSurvivors, "min-survivors", minSurvivors, "devices below which a cohort is given up, at least 3; with --epsilon, unless given, four fifths of a cohort")
	f.Float64Var(&s.corrupt, "corrupt", 0.1, "share of a cohort that may be corrupt, 0.0001 to 0.3333")
	f.Float64Var(&s.lost, "dropout", 0.1, "share of a cohort of more than 100 that may vanish, 0.0001 to 0.3333")
	keysFlag(f, &s.spec.Keys)
	strategyFlag(f, &s.strategy)
	s.buffer.flags(f)
	compressionFlag(f, &s.compression)
	f.DurationVar(&s.every, "every", time.Hour, "time from the start of one round to the next; 0 is as soon as possible")
	f.DurationVar(&s.deadline, "deadline", 30*time.Second, "time for each step of a round; training has four times as long")
	f.Uint64Var(&s.spec.Rounds, "rounds", 0, "rounds to run; 0 is without end")
	f.Float64Var(&s.heldBack, "held-back", heldBack, "share of its chats that a device evaluates with instead of training on them, 0 to 0.5; none with --epsilon")
	f.Float64Var(&s.unknown, "unknown", unknown, "share of chats with an intent that devices may answer with unknown, so as not to answer others, 0 to 0.5; 0 answers all")
	f.BoolVar(&s.spec.Personal, "personal", false, "let each device train an output layer of its own, which it keeps, and answer by it where that is better on the chats held back")
	f.Uint64Var(&s.earlyStop, "early-stop", 0, "stop after so many evaluated rounds without a better accuracy on the chats held back, once it rises by less than a point in as many, or after three times as many; 200 chats have to be counted within 40 rounds; 0 is never")
	f.Uint64Var(&s.spec.Seed, "seed", 0, "seed of the first checkpoint; 0 draws one, but for a warm start")
	s.promise.flags(f)
	s.beginning.flags(f)
}

// fill reads the intents and completes the specification.
func (s *taskSettings) fill(name string, given *pflag.FlagSet) (err error) {
	spec := &s.spec
	if spec.Intents, err = s.readIntents(); err != nil {
		return err
	}
	if n := len(spec.Intents); n < 2 || n > model.MaxLabels {
		return usagef("%s: it has %s, want 2 to %d", s.source(), count(n, "intent"), model.MaxLabels)
	}
	if s.every < 0 || s.deadline <= 0 {
		return usagef("--every %v and --deadline %v, want a duration that is not negative, and a positive one", s.every, s.deadline)
	}
	if spec.Compression, err = coordinator.ParseCompression(s.compression); err != nil {
		return usageError{err}
	}
	if spec.Corrupt, err = partOf("corrupt", s.corrupt); err != nil {
		return err
	}
	if spec.Dropout, err = partOf("dropout", s.lost); err != nil {
		return err
	}
	if spec.Privacy, err = s.promise.asked(given, spec.Rounds); err != nil {
		return err
	}
	if spec.Privacy != nil && s.earlyStop > 0 {
		return usagef("--early-stop does not go with --epsilon: counts on chats held back would be summed without noise")
	}
	if spec.Privacy != nil && spec.Personal {
		return errPersonalNoise
	}
	if spec.Privacy != nil && !given.Changed("held-back") {
		s.heldBack = 0 // counts would be summed without noise
	}
	if s.heldBack == 0 && s.unknown > 0 && given.Changed("unknown") {
		return errUnknown(s.unknown)
	}
	if spec.Evaluation, err = evaluationOf(s.heldBack, s.unknown, s.earlyStop); err != nil {
		return err
	}
	if spec.Personal && spec.Evaluation == nil {
		return usagef("--personal needs chats that are held back, by which a device judges its own model: raise --held-back")
	}
	if s.strategy.Name != "" {
		spec.Strategy = coordinator.StrategyFor(s.strategy)
	}
	if spec.Buffer, err = s.buffer.read(given); err != nil {
		return err
	}
	if spec.Cohort == 0 {
		spec.Cohort = min(spec.PerRound, largestCohort)
	}
	if spec.Privacy != nil && spec.Privacy.Central == nil && !given.Changed("min-survivors") {
		spec.MinSurvivors = survivorsFor(spec.PerRound, spec.Cohort)
	}
	spec.Name, spec.EveryMs, spec.DeadlineMs = name, uint64(s.every.Milliseconds()), uint64(s.deadline.Milliseconds())
	if err := coordinator.CheckSpec(spec); err != nil { // as the coordinator will, before anything is sent
		return usageError{err}
	}
	return nil
}

// readIntents reads them from the file that lists them, or else from what the task
// begins with.
func (s *taskSettings) readIntents() ([]string, error) {
	intents, err := s.beginning.read()
	if s.intents == "" && err == nil && len(intents) == 0 {
		return nil, usagef("--intents is missing: name the file that lists the intents")
	}
	if s.intents == "" || err != nil {
		return intents, err
	}
	file, err := os.Open(s.intents)
	if err != nil {
		return nil, fmt.Errorf("--intents: %w", err)
	}
	defer file.Close()
	return dataset.ReadIntents(s.intents, file)
}

// source is where the intents are read from, in flags.
func (s *taskSettings) source() string {
	switch {
	case s.intents != "":
		return "--intents " + s.intents
	case s.beginning.from == "":
		return "--warm-start " + s.beginning.file
	case s.beginning.file == "":
		return "--from " + s.beginning.from
	}
	return "--from " + s.beginning.from + " with --warm-start " + s.beginning.file
}

// compressionFlag is the flag of how updates are shortened.
func compressionFlag(f *pflag.FlagSet, into *string) {
	f.StringVar(into, "compression", "none", "bytes that devices send: none, 2x, 4x, 8x or 16x fewer, or part:N, sketch:N and bits:N")
}

// partOf is a share that a flag names, in 10,000.
func partOf(flag string, share float64) (uint32, error) {
	if !(share >= 0.0001 && share <= 0.3333) {
		return 0, usagef("--%s %v, want 0.0001 to 0.3333", flag, share)
	}
	return uint32(math.Round(share * 10_000)), nil
}
