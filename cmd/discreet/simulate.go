package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/discreet-fl/discreet/coordinator"
	"github.com/discreet-fl/discreet/dataset"
	"github.com/discreet-fl/discreet/secagg"
	"github.com/discreet-fl/discreet/simulate"
	"github.com/discreet-fl/discreet/simulate/report"
)

// minSurvivors is the fewest devices whose sum may be looked at, unless an operator
// asks for more.
const minSurvivors = secagg.MinCohort

// heldBack is the share of its chats that a device does not train on, unless told otherwise.
const heldBack = 0.1

// unknown is the share of chats with an intent that devices may answer with unknown.
const unknown = 0.05

// simulation are the flags of a simulation.
type simulation struct {
	data, test, split, compression string
	devices, chats                 int
	warm                           warmSource
	to                             outputs
	promise                        promise
	buffer                         bufferSettings
	config                         simulate.Config
}

func newSimulate() *cobra.Command {
	s := simulation{config: simulate.Config{MinSurvivors: minSurvivors}}
	c := &cobra.Command{
		Use: "simulate", GroupID: "try",
		Short: "Run a federation in one process on your own phrases",
		Long: `Simulate deals the training phrases to devices and runs the rounds of a federation
in one process: the same code as on real devices, without a network. One seed fixes
everything but the masks' keys, so that a run repeats to the bit, under masks or
without. Rounds of more devices than a cohort holds are split into cohorts by lot.

PATH is a CSV file with a header, JSON lines, Rasa's nlu.yml, CLINC150's JSON, or a
folder with train.csv and test.csv. Without a test part, a seeded fifth is held back.
Without --chats each training phrase is dealt to one device. With it every device has so
many, and a phrase is on as few devices as that allows.
Without --data the embedded phrases of a small shop are used.`,
		Example: `  discreet simulate --devices 60 --per-round 20 --rounds 20
  discreet simulate --data data_full.json --devices 100 --per-round 20 --rounds 50 --split dirichlet:0.5 --drop 0.1 --json out.json`,
		Args: arguments(),
		RunE: func(c *cobra.Command, _ []string) error {
			start := time.Now()
			if err := s.fill(c.Flags()); err != nil {
				return err
			}
			return runSimulation(c.Context(), s.config, start, s.to, c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	s.flags(c.Flags())
	return c
}

func (s *simulation) flags(f *pflag.FlagSet) {
	f.StringVar(&s.data, "data", "", "file or folder of phrases (default: the embedded shop)")
	f.StringVar(&s.test, "test", "", "file of test phrases")
	f.IntVar(&s.devices, "devices", 60, "devices that the training phrases are dealt to")
	f.IntVar(&s.chats, "chats", 0, "chats that each device has, dealt to more than one device where there are not enough (default: each phrase is dealt once)")
	f.IntVar(&s.config.PerRound, "per-round", 20, "devices selected for each round, 3 to 20,000 and at most all of them")
	f.IntVar(&s.config.Cohort, "cohort", 1000, "devices in a cohort at most, 3 to 2,000; by default all of a round, up to a thousand")
	keysFlag(f, &s.config.Keys)
	strategyFlag(f, &s.config.Strategy)
	s.buffer.flags(f)
	f.Float64Var(&s.config.Slow, "slow", 0, "share of devices that are ten times slower than the others, to compare rounds one after another with --buffer")
	compressionFlag(f, &s.compression)
	s.promise.flags(f)
	f.IntVar(&s.config.MinSurvivors, "min-survivors", minSurvivors, "devices below which a cohort is given up, at least 3; with --epsilon, unless given, four fifths of a cohort")
	f.IntVar(&s.config.Rounds, "rounds", 50, "rounds to run")
	f.StringVar(&s.split, "split", "iid", "how phrases are dealt: iid, dirichlet:ALPHA or user")
	f.StringVar(&s.config.Model, "model", "small", "model size: small or base")
	f.Float64Var(&s.config.Drop, "drop", 0, "chance of a selected device to vanish at some step")
	f.Float64Var(&s.config.HeldBack, "held-back", heldBack, "share of its chats that a device evaluates with instead of training on them, 0 to 0.5; none with --epsilon")
	f.Float64Var(&s.config.Unknown, "unknown", unknown, "share of chats with an intent that may be answered with unknown, so as not to answer others, 0 to 0.5; 0 answers all")
	f.Uint64Var(&s.config.EarlyStop, "early-stop", 0, "stop after so many evaluated rounds without a better accuracy on the chats held back, once it rises by less than a point in as many, or after three times as many; 200 chats have to be counted within 40 rounds; 0 is never")
	f.BoolVar(&s.config.Personal, "personal", false, "measure the devices' personal models, too, on a fifth of each one's chats that is kept from all training")
	f.BoolVar(&s.config.Secure, "secure", true, "sum under masks; false adds the same integers in clear")
	f.Uint64Var(&s.config.Seed, "seed", 1, "seed of everything but the masks' keys")
	f.StringVar(&s.warm.file, "warm-start", "", "file of phrases that the first checkpoint is trained on")
	f.IntVar(&s.warm.phrases, "warm-phrases", 0, "training phrases of each intent that it is trained on, and that no device has")
	f.StringVar(&s.to.page, "report", "", "write a page of HTML about the result to this file, which needs no network to be read")
	f.StringVar(&s.to.json, "json", "", "write the result to this file; - is standard output")
}

// fill reads the phrases, deals them and completes the configuration.
func (s *simulation) fill(given *pflag.FlagSet) error {
	config := &s.config
	set, err := openSet(s.data, s.test, config.Seed)
	if err != nil {
		return err
	}
	if config.WarmStart, set, err = s.warm.take(set, config.Seed); err != nil {
		return err
	}
	how, err := dataset.ParseSplit(s.split)
	if err != nil {
		return usageError{err}
	}
	if given.Changed("chats") {
		config.Train, err = set.Deal(how, s.devices, s.chats, config.Seed)
		if s.devices*s.chats > len(set.Train) {
			config.Pool = set.Train
		}
	} else {
		config.Train, err = set.Split(how, s.devices, config.Seed)
	}
	if err != nil {
		return usageError{err}
	}
	config.Test, config.Intents, config.Outside = set.Test, set.Intents, set.Outside
	if !given.Changed("per-round") {
		config.PerRound = min(config.PerRound, s.devices)
	}
	if !given.Changed("cohort") {
		config.Cohort = min(config.Cohort, max(config.PerRound, minSurvivors))
	}
	if config.Compression, err = coordinator.ParseCompression(s.compression); err != nil {
		return usageError{err}
	}
	if config.Buffer, err = s.buffer.read(given); err != nil {
		return err
	}
	if config.Privacy, err = s.promise.asked(given, uint64(config.Rounds)); err != nil {
		return err
	}
	if config.Privacy != nil && config.Personal {
		return errPersonalNoise
	}
	if config.Privacy != nil && !given.Changed("held-back") {
		config.HeldBack = 0 // counts would be summed without noise
	}
	if config.HeldBack == 0 && config.Unknown > 0 && given.Changed("unknown") {
		return errUnknown(config.Unknown)
	}
	if config.Privacy != nil && config.Privacy.Central == nil && !given.Changed("min-survivors") {
		config.MinSurvivors = int(survivorsFor(uint32(config.PerRound), uint32(config.Cohort)))
	}
	if err := config.Check(); err != nil {
		return usageError{err}
	}
	return nil
}

// openSet reads the named data, or gives the embedded set where none is named.
func openSet(data, test string, seed uint64) (*dataset.Set, error) {
	if data == "" {
		if test != "" {
			return nil, usagef("--test %s needs --data", test)
		}
		return dataset.Shop(), nil
	}
	set, err := dataset.Open(data, test, seed)
	if at := (*os.PathError)(nil); errors.As(err, &at) && errors.Is(err, os.ErrNotExist) {
		flag := "--data"
		if at.Path == test {
			flag = "--test"
		}
		return nil, fmt.Errorf("%s: %w; %q writes files to try it with", flag, err, "discreet demo --export FOLDER")
	}
	return set, err
}

// warmSource says where the phrases of a warm start come from.
type warmSource struct {
	file    string
	phrases int
}

// take returns the phrases to begin with, and the set without those that were in it.
func (w warmSource) take(set *dataset.Set, seed uint64) ([]dataset.Phrase, *dataset.Set, error) {
	switch {
	case w.file != "" && w.phrases != 0:
		return nil, nil, usagef("--warm-start %s and --warm-phrases %d: choose one", w.file, w.phrases)
	case w.file != "":
		phrases, err := readPhrases(w.file)
		return phrases, set, err
	case w.phrases != 0:
		phrases, rest, err := set.Take(w.phrases, seed)
		if err != nil {
			return nil, nil, usagef("--warm-phrases: %w", err)
		}
		return phrases, rest, nil
	}
	return nil, set, nil
}

// readPhrases reads a file of phrases with their intents.
func readPhrases(path string) ([]dataset.Phrase, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return dataset.Read(path, file)
}

// runSimulation runs it, shows progress on errs and writes the result.
func runSimulation(ctx context.Context, config simulate.Config, start time.Time, to outputs, out, errs io.Writer) error {
	if to.page == "-" {
		return usagef("--report -, want the path of a file")
	}
	file, err := openOutput(to.json)
	if err != nil {
		return err
	}
	defer file.abandon()
	page, err := openOutput(to.page)
	if err != nil {
		return err
	}
	defer page.abandon()
	if page.same(file) {
		return usagef("--json %s and --report %s are the same file, want two: the one would be written over the other", to.json, to.page)
	}
	show := newProgress(errs, config.Rounds)
	config.Progress = func(r simulate.Round) {
		show.line(r.Round, fmt.Sprintf("round %d of %d: accuracy %.1f%%, %d of %d devices in the sum",
			r.Round, config.Rounds, 100*r.Accuracy, r.Survivors, r.Participants))
	}
	result, err := simulate.Run(ctx, config)
	show.end()
	if err != nil {
		return err
	}
	result.Seconds = time.Since(start).Seconds() // reading the data included
	err = errors.Join(
		page.replace(func(w io.Writer) error { return report.Write(w, result, commandLine(os.Args)) }),
		file.replace(func(w io.Writer) error { return writeJSON(w, result) }))
	if to.json == "-" {
		return errors.Join(err, writeJSON(out, result))
	}
	printSimulation(out, result) // also where it is all that is left of the run
	return err
}

// commandLine is a command as one types it, words with spaces in quotes.
func commandLine(args []string) string {
	words := []string{"discreet"}
	for _, a := range args[1:] {
		if a == "" || strings.ContainsAny(a, " \t\n\"'") {
			a = strconv.Quote(a)
		}
		words = append(words, a)
	}
	return strings.Join(words, " ")
}

// heldBackAccuracy is what the devices of the last evaluated round found, of so many that
// were committed.
func heldBackAccuracy(r *simulate.Result, committed int) string {
	for i := len(r.Rounds) - 1; i >= 0; i-- {
		if e := r.Rounds[i].Evaluation; e != nil && e.Chats > 0 {
			return fmt.Sprintf("%s of the checkpoint that round %d began with (%d chats of %d devices)", percent(e.Accuracy), r.Rounds[i].Round, e.Chats, e.Devices)
		}
	}
	if committed == 0 {
		return "not known: no round was committed"
	}
	return "none were held back"
}

// aloneText is the accuracy of devices that train alone, and how well it is known.
func aloneText(r *simulate.Result) string {
	if r.LocalOnlyError == 0 && r.LocalOnlyDevices < r.Devices {
		return fmt.Sprintf("%s, the same on each of %d drawn of %d devices", percent(r.LocalOnlyAccuracy), r.LocalOnlyDevices, r.Devices)
	}
	return fmt.Sprintf("%s, with a standard error of %s (%d of %d devices)",
		percent(r.LocalOnlyAccuracy), percent(r.LocalOnlyError), r.LocalOnlyDevices, r.Devices)
}

// writeJSON writes v indented.
func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false) // no page reads it, and people do: < and > mark where a word begins and ends
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// personalScore is how the devices' personal models did, one row or none.
func personalScore(p *simulate.PersonalScore) [][2]string {
	if p == nil {
		return nil
	}
	return [][2]string{{"accuracy, on a device's own", fmt.Sprintf("%s shared, %s with personal models (which answer on %d of %d devices)",
		percent(p.Shared), percent(p.Better), p.Answering, p.Devices)}}
}

// printSimulation is the result as a person reads it.
func printSimulation(w io.Writer, r *simulate.Result) {
	lost, survived, attempts, cohorts, cohortsLost := 0, 0, 0, 0, 0
	for _, round := range r.Rounds {
		lost += round.Drops.Total()
		attempts += round.Attempts
		cohorts += round.Cohorts
		cohortsLost += round.CohortsLost
		if round.Survivors > 0 {
			survived++
		}
	}
	stopped := ""
	if r.StoppedEarly {
		stopped = "; stopped early, as the accuracy on chats held back rose no more"
	}
	lostText := fmt.Sprint(lost)
	if attempts > len(r.Rounds) {
		lostText += ", in the last attempt of each"
	}
	rows := [][2]string{
		{"accuracy, trained together", percent(r.Accuracy)},
		{"macro F1, trained together", percent(r.MacroF1)},
		{"accuracy, trained centrally", percent(r.CentralisedAccuracy)},
		{"accuracy, mean device alone", aloneText(r)},
		{"accuracy, on chats held back", heldBackAccuracy(r, survived)},
		{"calibration error", percent(r.CalibrationError)},
		{"chats of the devices", fmt.Sprintf("%d, a phrase on %.3g devices", r.Chats, r.UsesPerPhrase)},
		{"bytes up, a device and round", fmt.Sprintf("%d (%.2f of plain float32)", r.BytesUpPerDevice, float64(r.BytesUpPerDevice)/float64(4*r.Parameters))},
		{"devices lost in rounds", lostText},
		{"rounds committed", fmt.Sprintf("%d of %d in %d attempts%s", survived, len(r.Rounds), attempts, stopped)},
		{"cohorts in the sums", fmt.Sprintf("%d of %d", cohorts-cohortsLost, cohorts)},
		{"simulated time", fmt.Sprintf("%.1f, in rounds of a usual device", r.Rounds[len(r.Rounds)-1].Clock)},
		{"seconds", fmt.Sprintf("%.1f", r.Seconds)},
		{"digest of the last checkpoint", r.Digest},
	}
	if o := r.OutOfScope; o != nil {
		rows = slices.Insert(rows, 6, [][2]string{
			{"texts of no intent", fmt.Sprintf("%d, told from test phrases with AUROC %.3f", o.Texts, o.AUROC)},
			{"answered unknown", fmt.Sprintf("%s of them, and %s of the test phrases, of which %s are answered rightly", percent(o.Recall), percent(o.TurnedAway), percent(o.Accuracy))},
		}...)
	}
	rows = slices.Insert(rows, 5, personalScore(r.Personal)...)
	table(w, append(rows, simulatedPrivacy(r.Privacy)...))
}
