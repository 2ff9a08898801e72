package main

import (
	"cmp"
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	"github.com/discreet-fl/discreet/coordinator"
	"github.com/discreet-fl/discreet/dataset"
	"github.com/discreet-fl/discreet/model"
	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/simulate"
	"github.com/discreet-fl/discreet/simulate/fleet"
)

// What the demo runs: every customer of the embedded shop has a kiosk.
const (
	demoPerRound = 20
	demoRounds   = 40
	demoDrop     = 0.1
	demoSeed     = 1
	demoPhrase   = "wheres my parcel its been a week"

	// Then some of the same with a promise of differential privacy, in each kiosk's budget
	// a few rounds more than it is chosen for, as lost attempts cost, too.
	demoEpsilon       = 8
	demoNoisedRounds  = 8
	demoParticipation = 5
)

func newDemo() *cobra.Command {
	var export string
	c := &cobra.Command{
		Use: "demo", GroupID: "try",
		Short: "Watch sixty kiosks of a small shop learn together",
		Long: fmt.Sprintf(`Demo starts a coordinator and 60 kiosks in this process, with real folders, TLS and gRPC
over loopback. Each kiosk holds the chats of one customer of a small shop. They train
together for %d rounds of %d kiosks, of which a tenth vanishes in the middle of each; then
for %d more from the beginning, with noise in every sum that keeps a promise of privacy.
It needs no data, no network and leaves nothing behind.`, demoRounds, demoPerRound, demoNoisedRounds),
		Args: arguments(),
		RunE: func(c *cobra.Command, _ []string) error {
			if export != "" {
				return exportShop(export, c.OutOrStdout())
			}
			return runDemo(c.Context(), c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	c.Flags().StringVar(&export, "export", "", "write the shop's phrases and intents as files into this folder instead, to try the other commands with")
	return c
}

// runDemo runs the fleet, then the baselines, and prints the table.
func runDemo(ctx context.Context, out, errs io.Writer) (err error) {
	dir, err := os.MkdirTemp("", "discreet-demo-")
	if err != nil {
		return err
	}
	defer func() { err = cmp.Or(err, os.RemoveAll(dir)) }()
	set := dataset.Shop()
	chats := byUser(set)
	test := make([]model.Example, len(set.Test))
	for i, p := range set.Test {
		label, _ := set.Index(p.Intent)
		test[i] = model.Example{Features: model.LatestTokeniser.Featurise(p.Text), Label: label}
	}
	fmt.Fprintf(out, "%d kiosks of a small shop, %d to %d chats each, %d intents; one coordinator; TLS over loopback\n",
		len(chats), len(chats[len(chats)-1]), len(chats[0]), len(set.Intents))
	show := newProgress(errs, demoRounds)
	defer show.end()
	var before, after, early float64 // the last when as many rounds are done as will have noise
	config := fleet.Config{
		Dir: filepath.Join(dir, "exact"), Chats: chats, Drop: demoDrop, Grace: 100 * time.Millisecond, Seed: demoSeed, Logger: slog.New(slog.DiscardHandler),
		Spec: &pb.TaskSpec{
			Name: "support", Intents: set.Intents, Model: "small", PerRound: demoPerRound, MinSurvivors: minSurvivors,
			DeadlineMs: 10_000, Rounds: demoRounds, Seed: demoSeed,
		},
		Progress: func(r fleet.Round) {
			after = simulate.Evaluate(r.Checkpoint, test).Accuracy
			if r.Record == nil {
				before = after
				return
			}
			if r.Number == demoNoisedRounds {
				early = after
			}
			if r.Record.Survivors == 0 {
				show.line(int(r.Number), fmt.Sprintf("round %d of %d: lost when its kiosks had revealed; the checkpoint is held", r.Number, demoRounds))
				return
			}
			show.line(int(r.Number), fmt.Sprintf("round %d of %d: accuracy %.1f%%, %d of %d kiosks in the sum",
				r.Number, demoRounds, 100*after, r.Record.Survivors, r.Record.Cohort))
		},
	}
	err = fleet.Run(ctx, config, func(r *fleet.Result) error {
		show.end()
		answer, err := r.Classify(demoPhrase)
		if err != nil {
			return err
		}
		central, alone, err := simulate.Baselines(ctx, simulate.Config{
			Train: chats, Test: set.Test, Intents: set.Intents, PerRound: demoPerRound, Cohort: demoPerRound, MinSurvivors: minSurvivors,
			Keys: pb.KeyExchange_KEY_EXCHANGE_HYBRID, Rounds: demoRounds, Model: "small", Seed: demoSeed,
		})
		if err != nil {
			return err
		}
		printDemo(out, r, before, after, central, alone)
		fmt.Fprintf(out, "\na kiosk, asked %q, answers %s (%.0f%%)\n", demoPhrase, answer.Intents[0].Intent, 100*answer.Intents[0].Confidence)
		return nil
	})
	if err != nil {
		return err
	}
	return runPromised(ctx, config, filepath.Join(dir, "noised"), test, early, out)
}

// runPromised runs a few rounds of the demo's kiosks anew under differential privacy, and
// prints what it took beside the accuracy after as many rounds without.
func runPromised(ctx context.Context, config fleet.Config, dir string, test []model.Example, exact float64, out io.Writer) error {
	spec := proto.CloneOf(config.Spec)
	spec.Rounds, spec.MinSurvivors = demoNoisedRounds, survivorsFor(demoPerRound, demoPerRound)
	spec.Privacy = &pb.Privacy{Epsilon: demoEpsilon, Delta: defaultDelta, Participations: demoParticipation, Separation: defaultSeparation, Clip: defaultClip}
	config.Dir, config.Spec = dir, spec
	var after float64
	config.Progress = func(r fleet.Round) { after = simulate.Evaluate(r.Checkpoint, test).Accuracy }
	return fleet.Run(ctx, config, func(r *fleet.Result) error {
		long, err := noiseOfMean(spec, r.Last.Manifest.Layout)
		if err != nil {
			return err
		}
		ledgers, err := r.Given()
		if err != nil {
			return err
		}
		most, vectors := 0.0, 0
		for _, tasks := range ledgers {
			for _, task := range tasks {
				most, vectors = max(most, task.GivenEpsilon), max(vectors, len(task.Vectors))
			}
		}
		fmt.Fprintln(out)
		table(out, [][2]string{
			{fmt.Sprintf("accuracy after %d rounds, exact sums", demoNoisedRounds), percent(exact)},
			{fmt.Sprintf("under a promise of ε %d at δ %v", demoEpsilon, defaultDelta), percent(after)},
			{"noise in a round's mean", fmt.Sprintf("%.0f times as long as an update: %d kiosks are far too few, see \"discreet privacy plan\"", long, demoPerRound)},
			{"given away by a kiosk, at most", fmt.Sprintf("ε %.2f in %d vectors, by its own ledger", most, vectors)},
		})
		return nil
	})
}

// byUser is each customer's training chats, the most first.
func byUser(set *dataset.Set) [][]dataset.Phrase {
	users := map[string][]dataset.Phrase{}
	for _, p := range set.Train {
		users[p.User] = append(users[p.User], p)
	}
	var chats [][]dataset.Phrase
	for _, own := range users {
		chats = append(chats, own)
	}
	slices.SortFunc(chats, func(a, b []dataset.Phrase) int {
		return cmp.Or(cmp.Compare(len(b), len(a)), strings.Compare(a[0].User, b[0].User))
	})
	return chats
}

// roundsText is what became of rounds, by the records of their attempts.
func roundsText(of []*pb.RoundRecord) string {
	committed, withLoss, attempts, held := 0, 0, 0, 0
	for _, a := range of {
		attempts++
		switch {
		case a.Aborted != "":
		case a.Survivors == 0: // of no attempt: it stands for the one before
			attempts--
			held++
		default:
			committed++
			if a.Survivors < a.Cohort {
				withLoss++
			}
		}
	}
	text := fmt.Sprintf("%d committed in %d attempts; %d survived a loss", committed, attempts, withLoss)
	if held > 0 {
		text += fmt.Sprintf("; %d lost when too few revealed", held)
	}
	return text
}

// printDemo is the demo's table.
func printDemo(w io.Writer, r *fleet.Result, before, after, central, alone float64) {
	plain := int64(4 * len(r.Last.Params))
	fmt.Fprintln(w)
	table(w, [][2]string{
		{"accuracy before", percent(before)},
		{"accuracy after, together", percent(after)},
		{"accuracy of the mean kiosk alone", percent(alone)},
		{"accuracy trained centrally", percent(central)},
		{"bytes up, a kiosk and round", fmt.Sprintf("%d, %.2f of plain float32 (%d)", r.BytesUp, float64(r.BytesUp)/float64(plain), plain)},
		{"kiosks lost in the middle of a round", fmt.Sprint(r.Vanished)},
		{"rounds", roundsText(r.Attempts)},
		{"seconds of training together", fmt.Sprintf("%.1f", r.Seconds)},
		{"privacy", "none was asked for: these sums are exact"},
	})
}

// noiseOfMean is the length of the noise in the mean of a cohort that nobody leaves, in
// clips.
func noiseOfMean(spec *pb.TaskSpec, l model.Layout) (float64, error) {
	noise, err := coordinator.NoiseOf(spec, l)
	if err != nil {
		return 0, err
	}
	return noise.Sigma / noise.Scale / float64(spec.Privacy.Clip) * math.Sqrt(float64(l.Parameters())/float64(spec.PerRound)), nil
}

// exportShop writes the embedded set as files that the other commands read.
func exportShop(dir string, w io.Writer) error {
	set := dataset.Shop()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	files := map[string][]dataset.Phrase{"train.csv": set.Train, "test.csv": set.Test}
	for i, own := range byUser(set) {
		files[fmt.Sprintf("customer-%02d.csv", i+1)] = own
	}
	for name, phrases := range files {
		if err := writePhrases(filepath.Join(dir, name), phrases); err != nil {
			return err
		}
	}
	if _, err := writeFile(filepath.Join(dir, "intents.txt"), []byte(strings.Join(set.Intents, "\n")+"\n")); err != nil {
		return err
	}
	fmt.Fprintf(w, "wrote %d files to %s\n", len(files)+1, dir)
	return nil
}

// writePhrases writes phrases as CSV.
func writePhrases(path string, phrases []dataset.Phrase) error {
	var text strings.Builder
	c := csv.NewWriter(&text)
	rows := [][]string{{"text", "intent", "user"}}
	for _, p := range phrases {
		rows = append(rows, []string{p.Text, p.Intent, p.User})
	}
	if err := c.WriteAll(rows); err != nil {
		return err
	}
	_, err := writeFile(path, []byte(text.String()))
	return err
}
