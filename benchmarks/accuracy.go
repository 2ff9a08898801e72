package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/discreet-fl/discreet/aggregation"
	"github.com/discreet-fl/discreet/client"
	"github.com/discreet-fl/discreet/coordinator"
	"github.com/discreet-fl/discreet/dataset"
	"github.com/discreet-fl/discreet/model"
	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/secagg"
	"github.com/discreet-fl/discreet/simulate"
)

// accuracySettings are what accuracy is measured with.
type accuracySettings struct {
	Data     string         `json:"data"`
	Test     string         `json:"test,omitempty"`
	Validate bool           `json:"validate"`
	Unlike   bool           `json:"unlike,omitempty"`
	Model    string         `json:"model"`
	Devices  int            `json:"devices"`
	PerRound int            `json:"per_round"`
	Split    string         `json:"split"`
	Rounds   int            `json:"rounds"`
	Drop     float64        `json:"drop"`
	Training model.Training `json:"training"`
	// Consistency, HiddenDropout, Averaged and Passes are of training in one place; nil and 0 keep the
	// defaults.
	Consistency   *float32 `json:"consistency,omitempty"`
	HiddenDropout *float32 `json:"hidden_dropout,omitempty"`
	Averaged      *int     `json:"averaged,omitempty"`
	Passes        int      `json:"passes,omitempty"`
	// Wrong is the share of the devices' chats whose intent is wrong, and Known how they know.
	Wrong       float64       `json:"wrong_labels,omitempty"`
	Known       client.Signal `json:"wrong_known,omitempty"`
	Doubt       *float32      `json:"wrong_weight,omitempty"`
	Machine     string        `json:"machine"`
	Compression string        `json:"compression"`
	HeldBack    float64       `json:"held_back,omitempty"`
	Strategy    string        `json:"strategy,omitempty"` // empty is the default
	Cohort      int           `json:"cohort,omitempty"`   // 0 is all of a round
	Buffer      uint          `json:"buffer,omitempty"`   // cohorts whose sums make a checkpoint; 0 is one round after another
	Slow        float64       `json:"slow,omitempty"`     // share of the devices
	// Chats is what each device has, where the phrases are dealt more than once; 0 deals each
	// once.
	Chats int `json:"chats,omitempty"`
	// Privacy is what devices are promised, with noise in the sums; nil leaves them exact.
	Privacy      *pb.Privacy `json:"privacy,omitempty"`
	MinSurvivors int         `json:"min_survivors"`
}

// unknown is the share of chats with an intent that may be answered unknown, where chats
// are held back to tell.
const unknown = 0.05

// accuracyFigures is what the accuracy benchmark measured, a seed after the other.
type accuracyFigures struct {
	accuracySettings
	Seeds []seedAccuracy `json:"seeds"`
}

// seedAccuracy is one seed's. A seed fixes the split over devices, who takes part and
// who vanishes, the first parameters and the training, and where nothing else says so
// what is held back.
type seedAccuracy struct {
	Seed        uint64             `json:"seed"`
	Centralised float64            `json:"centralised,omitempty"`
	After       map[string]float64 `json:"after_rounds,omitempty"`
	MacroF1     float64            `json:"macro_f1"`
	Time        float64            `json:"simulated_time,omitempty"` // in rounds of a usual device
	// CalibrationError and OutOfScope are of the last checkpoint.
	CalibrationError float64              `json:"calibration_error"`
	OutOfScope       *simulate.OutOfScope `json:"out_of_scope,omitempty"`
	Spread           *spread              `json:"spread,omitempty"` // of the last checkpoint, too
	Seconds          float64              `json:"seconds"`
}

// milestones are the rounds after which accuracy is reported, beside the last.
var milestones = []int{10, 20, 50, 100}

// runAccuracy measures accuracy on the test part of a data set or, with --validate, on a
// fifth of its training part, which is what defaults are chosen on. Sums are taken in
// clear: the parameters are those of a run under masks, to the bit.
func runAccuracy(args []string) error {
	set := flag.NewFlagSet("accuracy", flag.ContinueOnError)
	s := &accuracySettings{Machine: machine()}
	set.StringVar(&s.Data, "data", "", "file or folder of phrases; empty is the embedded shop")
	set.StringVar(&s.Test, "test", "", "file of test phrases")
	set.BoolVar(&s.Validate, "validate", false, "train on four fifths of the training part and measure on the fifth, never on the test part")
	set.BoolVar(&s.Unlike, "unlike", false, "with --validate, phrases of an intent that share more than 0.6 of their words are held back together: what is measured on is less like what is trained on")
	set.StringVar(&s.Model, "model", "small", "small or base")
	set.IntVar(&s.Devices, "devices", 100, "devices that the training phrases are dealt to")
	set.IntVar(&s.PerRound, "per-round", 20, "devices in a round")
	set.StringVar(&s.Split, "split", "dirichlet:0.5", "how phrases are dealt: iid, dirichlet:ALPHA or user")
	set.IntVar(&s.Rounds, "rounds", 50, "rounds to run; 0 trains centrally only")
	set.Float64Var(&s.Drop, "drop", 0.1, "chance of a selected device to vanish at some step")
	set.Float64Var(&s.Wrong, "wrong-labels", 0, "share of the devices' chats whose intent is wrong")
	known := set.String("wrong-known", "confirmed", "how devices know that: confirmed (not at all), rephrased or rejected")
	doubt := set.Float64("wrong-weight", -1, "what chats known to be in doubt count in place of their signal's weight; 0 leaves them out, -1 keeps it")
	set.StringVar(&s.Compression, "compression", "none", "as for discreet simulate")
	set.Float64Var(&s.HeldBack, "held-back", 0, "share of the devices' chats that they evaluate with instead of training on them; a twentieth of them may be answered unknown")
	set.StringVar(&s.Strategy, "strategy", "", "as for discreet simulate; empty is the default")
	set.IntVar(&s.Cohort, "cohort", 0, "devices in a cohort at most; 0 is all of a round")
	set.IntVar(&s.Chats, "chats", 0, "chats of each device, dealt to more than one where there are not enough; 0 deals each once")
	set.IntVar(&s.MinSurvivors, "min-survivors", secagg.MinCohort, "devices below which a cohort is given up")
	promise := promiseFlags(set)
	set.UintVar(&s.Buffer, "buffer", 0, "as for discreet simulate")
	set.Float64Var(&s.Slow, "slow", 0, "share of devices that are ten times slower")
	central := set.Bool("central", true, "train in one place, too")
	override := s.trainingFlags(set)
	seeds := set.String("seeds", "1", "seeds, with commas between them")
	out := set.String("json", "", "file for the figures in place of a table; - is standard output")
	if err := set.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}
	var err error
	if s.Privacy, err = promise(uint64(s.Rounds)); err != nil {
		return fmt.Errorf("accuracy: %w", err)
	}
	if s.Training, err = model.DefaultTraining(s.Model); err != nil {
		return err
	}
	override()
	*central = *central || s.Rounds == 0
	switch {
	case s.Unlike && !s.Validate:
		return errors.New("accuracy: --unlike without --validate: it says which training phrases are held back; add --validate")
	case (s.Consistency != nil || s.HiddenDropout != nil || s.Averaged != nil || s.Passes != 0) && !*central:
		return errors.New("accuracy: --consistency, --hidden-dropout, --averaged or --passes without training in one place, which they are for; leave out --central=false")
	}
	if s.Wrong > 0 {
		s.Known = client.Signal(*known)
		if weight := float32(*doubt); weight >= 0 {
			s.Doubt = &weight
		}
	}
	figures := &accuracyFigures{accuracySettings: *s}
	for _, text := range strings.Split(*seeds, ",") {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return fmt.Errorf("accuracy: seed %q, want whole numbers with commas between them", text)
		}
		one, err := s.measure(seed, *central)
		if err != nil {
			return fmt.Errorf("accuracy: %w", err)
		}
		figures.Seeds = append(figures.Seeds, *one)
	}
	if *out != "" {
		return writeJSON(*out, figures)
	}
	figures.print()
	return nil
}

// trainingFlags defines what is trained with in place of the defaults. The function that it
// returns, called when the flags are read and the defaults known, puts that into the settings.
func (s *accuracySettings) trainingFlags(set *flag.FlagSet) (override func()) {
	consistency := set.Float64("consistency", -1, "α of R-Drop in one place in place of the default; -1 keeps it")
	hidden := set.Float64("hidden-dropout", -1, "share of the hidden layer left out in one place in place of the default; -1 keeps it")
	averaged := set.Int("averaged", -1, "last passes whose parameters are averaged in one place in place of the default; 0 averages none, -1 keeps it")
	set.IntVar(&s.Passes, "passes", 0, "passes in one place in place of the default; 0 keeps it")
	epochs := set.Int("epochs", 0, "passes on a device in place of the default; 0 keeps it (as below)")
	rate := set.Float64("rate", 0, "learning rate in place of the default")
	dropout := set.Float64("dropout", -1, "feature dropout in place of the default; -1 keeps it (as below)")
	smoothing := set.Float64("smoothing", -1, "label smoothing in place of the default")
	return func() {
		if *epochs != 0 {
			s.Training.Epochs = *epochs
		}
		if *rate != 0 {
			s.Training.LearningRate = float32(*rate)
		}
		if *dropout >= 0 {
			s.Training.FeatureDropout = float32(*dropout)
		}
		if *smoothing >= 0 {
			s.Training.LabelSmoothing = float32(*smoothing)
		}
		if alpha := float32(*consistency); alpha >= 0 {
			s.Consistency = &alpha
		}
		if share := float32(*hidden); share >= 0 {
			s.HiddenDropout = &share
		}
		if *averaged >= 0 {
			s.Averaged = averaged
		}
	}
}

// measure runs one seed.
func (s *accuracySettings) measure(seed uint64, central bool) (*seedAccuracy, error) {
	start := time.Now()
	config, err := s.config(seed)
	if err != nil {
		return nil, err
	}
	one := &seedAccuracy{Seed: seed, After: make(map[string]float64)}
	if central {
		score, err := simulate.Central(context.Background(), *config)
		if err != nil {
			return nil, err
		}
		one.Centralised, one.MacroF1 = score.Accuracy, score.MacroF1
	}
	if s.Rounds > 0 {
		result, err := simulate.Run(context.Background(), *config)
		if err != nil {
			return nil, err
		}
		for _, r := range result.Rounds {
			if r.Round == s.Rounds || slices.Contains(milestones, r.Round) {
				one.After[strconv.Itoa(r.Round)] = r.Accuracy
			}
		}
		one.Time = result.Rounds[len(result.Rounds)-1].Clock
		one.MacroF1, one.CalibrationError, one.OutOfScope = result.MacroF1, result.CalibrationError, result.OutOfScope
		if one.Spread, err = spreadOf(config, result.Checkpoint); err != nil {
			return nil, err
		}
	}
	one.Seconds = time.Since(start).Seconds()
	return one, nil
}

// config is the simulation of a seed, without baselines.
func (s *accuracySettings) config(seed uint64) (*simulate.Config, error) {
	phrases := dataset.Shop()
	var err error
	if s.Data != "" {
		if phrases, err = dataset.Open(s.Data, s.Test, seed); err != nil {
			return nil, err
		}
	}
	switch {
	case s.Unlike:
		phrases, err = phrases.ValidationUnlike(seed)
	case s.Validate:
		phrases, err = phrases.Validation(seed)
	}
	if err != nil {
		return nil, err
	}
	how, err := dataset.ParseSplit(s.Split)
	if err != nil {
		return nil, err
	}
	dealt, err := s.deal(phrases, how, seed)
	if err != nil {
		return nil, err
	}
	compression, err := coordinator.ParseCompression(s.Compression)
	if err != nil {
		return nil, err
	}
	strategy, err := aggregation.ParseChoice(s.Strategy)
	if err != nil {
		return nil, err
	}
	cohort := s.Cohort
	if cohort == 0 {
		cohort = min(s.PerRound, 1000)
	}
	var buffer *pb.Buffer
	if s.Buffer > 0 {
		buffer = &pb.Buffer{Cohorts: uint32(s.Buffer), Staleness: 10}
	}
	return &simulate.Config{
		Buffer: buffer, Slow: s.Slow,
		Compression: compression, Strategy: strategy,
		Train: dealt, Test: phrases.Test, Intents: phrases.Intents,
		PerRound: s.PerRound, Cohort: cohort, MinSurvivors: s.MinSurvivors, Keys: pb.KeyExchange_KEY_EXCHANGE_HYBRID,
		Rounds: max(s.Rounds, 1), Model: s.Model, Drop: s.Drop, Seed: seed, Training: &s.Training, Central: s.central, NoBaselines: true,
		Wrong: simulate.Wrong{Share: s.Wrong, Signal: s.Known, Weight: s.Doubt}, HeldBack: s.HeldBack, Unknown: unknown, Outside: phrases.Outside,
		Privacy: s.Privacy,
	}, nil
}

// central changes how the model in one place is trained.
func (s *accuracySettings) central(t *model.Training) {
	if s.Passes != 0 {
		t.Epochs, t.Averaged = s.Passes, t.Averaged*s.Passes/t.Epochs // of the same share
	}
	if s.Averaged != nil {
		t.Averaged = *s.Averaged
	}
	if s.Consistency != nil {
		t.Consistency = *s.Consistency
	}
	if s.HiddenDropout != nil {
		t.HiddenDropout = *s.HiddenDropout
	}
}

// deal gives each device its chats.
func (s *accuracySettings) deal(phrases *dataset.Set, how dataset.Split, seed uint64) ([][]dataset.Phrase, error) {
	if s.Chats > 0 {
		return phrases.Deal(how, s.Devices, s.Chats, seed)
	}
	return phrases.Split(how, s.Devices, seed)
}

// promiseFlags are those of what devices are promised. What it returns reads them, for so
// many rounds: nil where nothing is.
func promiseFlags(set *flag.FlagSet) func(rounds uint64) (*pb.Privacy, error) {
	epsilon := set.Float64("epsilon", 0, "promise each device differential privacy of this ε; 0 leaves sums exact")
	delta := set.Float64("delta", 1e-6, "δ of that promise")
	participations := set.Uint("participations", 5, "times that a device takes part at most")
	separation := set.Uint("separation", 1, "rounds from one that a device took part in to the next")
	clip := set.Float64("clip", 1, "bound on the L2 norm of a device's update")
	quantile := set.Uint("clip-quantile", 0, "updates in 20 that a clip which moves lets be as they are; 0 lets it stay")
	central := set.Bool("central-noise", false, "the coordinator adds the noise, correlated over the rounds")
	return func(rounds uint64) (*pb.Privacy, error) {
		if *epsilon == 0 {
			return nil, nil
		}
		p := &pb.Privacy{
			Epsilon: *epsilon, Delta: *delta, Participations: uint32(*participations), Separation: uint32(*separation),
			Clip: float32(*clip), ClipQuantile: uint32(*quantile) * 500,
		}
		var err error
		if *central {
			p.Central, err = coordinator.CentralNoise(rounds, p)
		}
		return p, err
	}
}

// print writes a row of Markdown for each seed.
func (f *accuracyFigures) print() {
	rounds := slices.DeleteFunc(slices.Clone(milestones), func(n int) bool { return n >= f.Rounds })
	if f.Rounds > 0 {
		rounds = append(rounds, f.Rounds)
	}
	fmt.Print("| seed | centrally |")
	for _, n := range rounds {
		fmt.Printf(" %d rounds |", n)
	}
	fmt.Printf(" simulated time | seconds |\n|---|---|%s---|---|\n", strings.Repeat("---|", len(rounds)))
	for _, s := range f.Seeds {
		centrally := "–"
		if s.Centralised > 0 {
			centrally = fmt.Sprintf("%.2f%%", 100*s.Centralised)
		}
		fmt.Printf("| %d | %s |", s.Seed, centrally)
		for _, n := range rounds {
			fmt.Printf(" %.2f%% |", 100*s.After[strconv.Itoa(n)])
		}
		fmt.Printf(" %.1f | %.0f |\n", s.Time, s.Seconds)
	}
	for _, s := range f.Seeds {
		if s.Spread != nil {
			fmt.Printf("\nseed %d: %v\n", s.Seed, s.Spread)
		}
		if o := s.OutOfScope; o != nil && f.HeldBack > 0 {
			fmt.Printf("\nseed %d: calibration error %.2f%%; %d texts of no intent: AUROC %.3f, %.1f%% of them and %.1f%% of the test phrases answered unknown, %.2f%% of the phrases answered rightly; %.1f%% unknown were it just 5%% of the phrases\n",
				s.Seed, 100*s.CalibrationError, o.Texts, o.AUROC, 100*o.Recall, 100*o.TurnedAway, 100*o.Accuracy, 100*o.RecallAtTwentieth)
		}
	}
}
