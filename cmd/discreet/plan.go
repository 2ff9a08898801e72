package main

import (
	"fmt"
	"io"
	"math"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/discreet-fl/discreet/aggregation"
	"github.com/discreet-fl/discreet/coordinator"
	"github.com/discreet-fl/discreet/model"
	"github.com/discreet-fl/discreet/privacy"
	pb "github.com/discreet-fl/discreet/proto"
)

// privacySettings are the flags of a plan.
type privacySettings struct {
	epsilon, delta float64
	schedule       privacy.Schedule
	cohort         int
	lost, corrupt  float64
	model          string
	intents, chats int
	compression    string
	clip           float32
	quantile       float64
	central        bool
}

func (s *privacySettings) flags(f *pflag.FlagSet) {
	f.Float64Var(&s.epsilon, "epsilon", 0, "ε that a device may have spent after all rounds")
	f.Float64Var(&s.delta, "delta", defaultDelta, "δ of that ε: well below one in the number of devices")
	f.IntVar(&s.schedule.Devices, "devices", 0, "devices that there are")
	f.IntVar(&s.schedule.PerRound, "per-round", 0, "devices in a round; 0 is all, up to a thousand")
	f.IntVar(&s.schedule.Rounds, "rounds", 0, "rounds to run")
	f.IntVar(&s.schedule.Participations, "participations", 0, "rounds that a device takes part in at most; 0 is the fewest that fill all rounds")
	f.IntVar(&s.schedule.Separation, "separation", defaultSeparation, "rounds from one that a device takes part in to the next, at least; 1 is the very next")
	f.IntVar(&s.cohort, "cohort", largestCohort, "devices in a cohort at most, 3 to 2,000")
	f.Float64Var(&s.lost, "dropout", 1-survivingShare, "share of a cohort that may vanish before the cohort is given up, 0.0001 to 0.3333")
	f.Float64Var(&s.corrupt, "corrupt", 0.1, "share of a cohort that may work with the coordinator and leave its noise out, 0.0001 to 0.3333")
	f.StringVar(&s.model, "model", "small", "model size: small (1 MB) or base (4 MB)")
	f.IntVar(&s.intents, "intents", 20, "number of intents")
	f.IntVar(&s.chats, "chats", measuredChats, "chats that a device has, by which the expected loss of accuracy goes")
	compressionFlag(f, &s.compression)
	f.Float32Var(&s.clip, "clip", defaultClip, "L2 norm that a device's update is clipped to")
	clipQuantileFlag(f, &s.quantile)
	f.BoolVar(&s.central, "central-noise", false, "let the coordinator add the noise, correlated over the rounds, to sums that it is trusted with")
}

// privacyPlan is what a plan comes to. Its JSON is the command's.
type privacyPlan struct {
	Epsilon        float64 `json:"epsilon"` // that was asked for
	Delta          float64 `json:"delta"`
	Rounds         int     `json:"rounds"`
	Participations int     `json:"participations"` // of one device, at most
	Separation     int     `json:"separation"`
	Cohort         int     `json:"cohort"` // devices in the smallest one
	Cohorts        int     `json:"cohorts"`
	MinSurvivors   int     `json:"min_survivors"` // of the cohort
	Honest         int     `json:"honest"`        // of those survivors, at least

	Rho          float64 `json:"rho"`        // of all of a device's rounds
	RhoRound     float64 `json:"rho_round"`  // of one of them
	RhoBudget    float64 `json:"rho_budget"` // that ε and δ allow
	EpsilonAtEnd float64 `json:"epsilon_at_end"`
	Guess        float64 `json:"guess"` // how often a guess whether a device took part is right, at most

	Central    bool    `json:"central_noise"`    // the coordinator adds the noise, in units of 1/256 of whole numbers
	Multiplier float64 `json:"noise_multiplier"` // fresh noise of the honest, or the coordinator, in a sum, in norms
	Norm       float64 `json:"norm"`             // Δ̃₂, in whole numbers
	Scale      float64 `json:"scale"`            // whole numbers a unit of update
	Sigma      float64 `json:"sigma"`            // of one device's noise in whole numbers, or of the coordinator's fresh noise in its units
	Parameters int     `json:"parameters"`       // that are sent
	RingBits   int     `json:"ring_bits"`
	Bytes      int     `json:"bytes"` // of one device's masked vector

	Levels    []int   `json:"levels"`    // numbers of survivors of a cohort at which noise comes off its sum
	Overshoot float64 `json:"overshoot"` // the most by which noise of all survivors is larger than was asked for

	Clip        float64 `json:"clip"`                // of the first round, where it moves
	Quantile    float64 `json:"clip_quantile"`       // of updates that a clip which moves lets be as they are; 0 where it stays
	Below       int     `json:"vote_below"`          // in whole numbers, of a device whose update keeps to the clip; 0 where it stays
	Above       int     `json:"vote_above"`          // taken off by one whose update does not
	VoteNoise   float64 `json:"vote_noise"`          // of the honest in the sum of a cohort's votes, where one is below + above
	NoiseSigma  float64 `json:"noise_in_mean"`       // standard deviation of a coordinate, nobody lost
	NoiseNorm   float64 `json:"noise_norm_in_mean"`  // in clips
	NoiseRounds float64 `json:"noise_in_all_rounds"` // in the sum of all their means, in clips, divided by their number

	// LossNoise is what the expected loss goes by: the noise that is left in a coordinate over
	// all rounds, in clips, as if devices had 15 chats. Loss is the share of answers that would
	// be right without noise and are not with it, as in simulations, of which none was further
	// off than LossOff; nil where none was like this plan, for the reason in LossUnknown.
	LossNoise   float64  `json:"loss_noise"`
	Loss        *float64 `json:"expected_loss,omitempty"`
	LossOff     float64  `json:"expected_loss_off,omitempty"`
	LossUnknown string   `json:"expected_loss_unknown,omitempty"`

	create string // the flags of a task with this promise
}

func newPrivacyPlan() *cobra.Command {
	var (
		s      privacySettings
		asJSON bool
	)
	c := &cobra.Command{
		Use:   "plan --epsilon E --devices N --rounds R",
		Short: "Show what an ε costs in noise and bytes, and what it promises",
		Long: `Plan computes the noise that devices have to add to their updates so that, after all
rounds, none has given away more than ε at δ. It counts as the worst case does: the device
takes part as often as it may, as few others survive as are allowed to, and as many of them
as --corrupt says leave their noise out. The coordinator knows who takes part in which
round, so that nothing is taken off for the chance of not being drawn.

docs/privacy.md has the formula of every number. Plan needs no coordinator and writes nothing.`,
		Example: `  discreet privacy plan --epsilon 4 --devices 1000 --rounds 50
  discreet privacy plan --epsilon 8 --devices 10000 --per-round 1000 --rounds 50 --separation 10 --compression sketch:6`,
		Args: arguments(),
		RunE: func(c *cobra.Command, _ []string) error {
			p, err := s.plan()
			if err != nil {
				return usageError{err}
			}
			if asJSON {
				return writeJSON(c.OutOrStdout(), p)
			}
			p.print(c.OutOrStdout())
			return nil
		},
	}
	s.flags(c.Flags())
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// plan computes what the flags ask for, as a task's own plans tell it to devices.
func (s privacySettings) plan() (p privacyPlan, err error) {
	if err := s.complete(); err != nil {
		return p, err
	}
	spec, err := s.spec()
	if err != nil {
		return p, err
	}
	if err := coordinator.CheckSpec(spec); err != nil {
		return p, err
	}
	layout, err := model.NewLayout(s.model, s.intents)
	if err != nil {
		return p, err
	}
	plan, _, err := coordinator.NewPlan(spec, 1, 1, coordinator.Basis{Layout: layout})
	if err != nil {
		return p, err
	}
	n, l := plan.GetNoise(), coordinator.LayoutOf(plan, layout)
	fit := coordinator.FitOf(spec, n)
	p = privacyPlan{
		Epsilon: s.epsilon, Delta: s.delta, Rounds: s.schedule.Rounds, Clip: float64(s.clip), Central: s.central,
		Participations: s.schedule.Most(), Separation: s.schedule.Separation,
		Cohorts: s.cohorts(), Cohort: s.schedule.PerRound / s.cohorts(), MinSurvivors: int(spec.MinSurvivors), Honest: int(n.GetHonest()),
		Norm: l.Noise.Norm(l.Parameters), Scale: n.GetScale(), Sigma: fit.Sigma, Levels: fit.Levels, Overshoot: fit.Overshoot,
		Parameters: l.Parameters, RingBits: int(plan.GetCodec().GetRingBits()),
	}
	p.Bytes = aggregation.PackedSize(l.Length(), p.RingBits)
	if l.Noise.Votes() {
		p.Quantile, p.Below, p.Above = s.quantile, l.Noise.Below, l.Noise.Above
		p.VoteNoise = p.Sigma * math.Sqrt(float64(p.Honest)) / float64(p.Below+p.Above)
	}
	p.cost(privacy.Charge(n.GetCharge()), l.Noise.Left(p.Cohort), n.GetPrivacy().GetCentral())
	s.loss(&p)
	p.create = fmt.Sprintf("--epsilon %v --delta %v --participations %d --separation %d --clip %v --rounds %d --per-round %d --cohort %d --min-survivors %d --corrupt %v --dropout %v --compression %s --model %s",
		s.epsilon, s.delta, p.Participations, p.Separation, s.clip, p.Rounds, s.schedule.PerRound, spec.Cohort, p.MinSurvivors, s.corrupt, s.lost, s.compression, s.model)
	if s.central {
		p.create += " --central-noise"
	}
	if s.quantile > 0 {
		p.create += fmt.Sprintf(" --clip-quantile %v", s.quantile)
	}
	return p, nil
}

// cohorts is how many a round is dealt into: as few as hold it, of sizes that differ by one
// at most.
func (s privacySettings) cohorts() int { return (s.schedule.PerRound + s.cohort - 1) / s.cohort }

// spec is the task that the flags describe, with intents that stand for others. Its
// largest cohort is as large as they get, its minimum one that the smallest one can keep.
func (s privacySettings) spec() (*pb.TaskSpec, error) {
	n := s.cohorts()
	least, most := s.schedule.PerRound/n, (s.schedule.PerRound+n-1)/n
	spec := &pb.TaskSpec{
		Name: "plan", Model: s.model, PerRound: uint32(s.schedule.PerRound), Cohort: uint32(most), Rounds: uint64(s.schedule.Rounds), DeadlineMs: 30_000,
		MinSurvivors: uint32(max(minSurvivors, least-int(float64(least)*s.lost))),
		Privacy:      &pb.Privacy{Epsilon: s.epsilon, Delta: s.delta, Participations: uint32(s.schedule.Most()), Separation: uint32(s.schedule.Separation), Clip: s.clip},
	}
	for i := range min(s.intents, model.MaxLabels+1) {
		spec.Intents = append(spec.Intents, fmt.Sprint("intent ", i))
	}
	var err error
	if spec.Privacy.ClipQuantile, err = clipQuantileOf(s.quantile); err != nil {
		return nil, err
	}
	if spec.Corrupt, err = partOf("corrupt", s.corrupt); err != nil {
		return nil, err
	}
	if spec.Dropout, err = partOf("dropout", s.lost); err != nil {
		return nil, err
	}
	if spec.Compression, err = coordinator.ParseCompression(s.compression); err != nil {
		return nil, err
	}
	if s.central {
		spec.Privacy.Central, err = coordinator.CentralNoise(spec.Rounds, spec.Privacy)
	}
	return spec, err
}

// cost fills in what the noise comes to, of which so much is left in the sum of a cohort that
// nobody vanishes from.
func (p *privacyPlan) cost(charge privacy.Charge, left float64, central *pb.CentralNoise) {
	all := charge.Times(p.Participations)
	p.RhoBudget, p.RhoRound, p.Rho = privacy.Rho(p.Epsilon, p.Delta), charge.Rho(), all.Rho()
	p.EpsilonAtEnd, p.Guess = all.Epsilon(p.Delta), all.Guess()
	devices, rounds := float64(p.Cohort*p.Cohorts), float64(p.Rounds)
	p.Multiplier = p.Sigma * math.Sqrt(float64(p.Honest)) / p.Norm
	p.NoiseSigma = left / float64(p.Cohort) / p.Scale / math.Sqrt(float64(p.Cohorts))
	grown := math.Sqrt(rounds)
	if central != nil {
		const unit = 1 << aggregation.NoiseBits
		p.Multiplier = p.Sigma / unit / p.Norm
		p.NoiseSigma = p.Sigma / unit / p.Scale / devices
		grown = privacy.BLT{Scale: central.GetScale(), Decay: central.GetDecay()}.Spread(p.Rounds)
	}
	p.NoiseNorm = p.NoiseSigma * math.Sqrt(float64(p.Parameters)) / p.Clip
	p.NoiseRounds = p.NoiseNorm * grown / rounds
}

// complete fills in defaults that depend on other flags, and checks them all.
func (s *privacySettings) complete() error {
	for _, missing := range []struct {
		flag string
		none bool
	}{{"epsilon", s.epsilon == 0}, {"devices", s.schedule.Devices == 0}, {"rounds", s.schedule.Rounds == 0}} {
		if missing.none {
			return fmt.Errorf("--%s is missing", missing.flag)
		}
	}
	if s.schedule.Devices > 0 && !(s.delta > 0 && s.delta < 1/float64(s.schedule.Devices)) {
		return fmt.Errorf("--delta %v with %d devices, want above 0 and below 1/%d: a mechanism that hands out one device's chats has that", s.delta, s.schedule.Devices, s.schedule.Devices)
	}
	if s.chats < 1 || s.chats > 1_000_000 {
		return fmt.Errorf("--chats %d, want 1 to 1,000,000", s.chats)
	}
	if s.cohort < minSurvivors || s.cohort > 2000 {
		return fmt.Errorf("--cohort %d, want %d to 2000", s.cohort, minSurvivors)
	}
	if s.schedule.PerRound == 0 {
		s.schedule.PerRound = min(s.schedule.Devices, largestCohort)
	}
	if s.schedule.PerRound < minSurvivors || s.schedule.PerRound > 20_000 {
		return fmt.Errorf("--per-round %d, want %d to 20,000", s.schedule.PerRound, minSurvivors)
	}
	if s.schedule.Participations == 0 && s.schedule.Devices > 0 {
		s.schedule.Participations = s.schedule.Needed()
	}
	return s.schedule.Check()
}

func (p privacyPlan) print(w io.Writer) {
	cohort := fmt.Sprintf("%d devices; %d must survive, and %d of them be honest", p.Cohort, p.MinSurvivors, p.Honest)
	multiplier, noise := "the honest devices' noise in a sum", fmt.Sprintf("σ %.6g in whole numbers, of each device", p.Sigma)
	seen, against := "the sums", "the coordinator and as many devices as may be corrupt, together"
	if p.Central {
		cohort = fmt.Sprintf("%d devices; %d must survive", p.Cohort, p.MinSurvivors)
		multiplier, noise = "a round's fresh noise", fmt.Sprintf("σ %.6g in 1/256 of whole numbers, of the coordinator", p.Sigma)
		seen, against = "the checkpoints", "whoever sees the checkpoints, but not against the coordinator, which sees sums without noise"
	}
	rows := [][2]string{
		{"asked for", fmt.Sprintf("ε %.4g at δ %.4g", p.Epsilon, p.Delta)},
		{"a device takes part", fmt.Sprintf("%d times at most in %s", p.Participations, count(p.Rounds, "round"))},
		{"cohort", cohort},
		{"cost of a round", fmt.Sprintf("ρ %.6g", p.RhoRound)},
		{"cost of all", fmt.Sprintf("ρ %.6g of %.6g", p.Rho, p.RhoBudget)},
		{"at the end", fmt.Sprintf("ε %.4f at δ %.4g, at worst", p.EpsilonAtEnd, p.Delta)},
		{"noise multiplier", fmt.Sprintf("%.6g: %s, over what one device can change it by", p.Multiplier, multiplier)},
		{"whole numbers", fmt.Sprintf("%.6g a unit of update; an update's norm is at most %.6g", p.Scale, p.Norm)},
		{"noise", noise},
		{"ring", fmt.Sprintf("%d bits for each of %d numbers, %.0f kB a device and round", p.RingBits, p.words(), float64(p.Bytes)/1000)},
		{"noise in the mean", fmt.Sprintf("σ %.4g a coordinate, where nobody vanishes and the clip is %.4g", p.NoiseSigma, p.Clip)},
	}
	if !p.Central {
		rows = append(rows, [2]string{"noise in a sum", coordinator.Fit{Sigma: p.Sigma, Levels: p.Levels, Overshoot: p.Overshoot}.String()})
	}
	if p.Quantile > 0 {
		rows = append(rows, [2]string{"a vote on the clip", fmt.Sprintf("+%d or −%d, with noise of σ %.4g devices in a cohort's sum; it moves until %.4g%% of updates keep to it", p.Below, p.Above, p.VoteNoise, 100*p.Quantile)})
	}
	table(w, rows)
	fmt.Fprintf(w, `
Noise against signal: in one round's mean the noise is %.3g times as long as the mean of
updates that all agree and reach the clip; over all %d rounds, %.3g times, as noise adds
up more slowly. Updates agree less than that, so that real figures are higher.

%s

What ε means: somebody who knows everything but whether one device took part with its
chats or with none, and sees %s of all rounds, and bets on it. Odds of 1 to 1 become
%s, and odds of 1 to 1000 become %s, but for a probability of about %.4g.
Where a coin is tossed for it, the bet is won %.1f%% of the time at most, rather than 50%%.
This holds against %s.
It is for all of a device's chats at once, as long as it is one device a person.

A task that keeps this promise: discreet task create NAME --intents FILE %s
An attempt at a round that fails counts as one of a device's times, so that a few more than needed are of use.
`, p.NoiseNorm, p.Rounds, p.NoiseRounds, p.lossText(), seen, odds(1, p.EpsilonAtEnd), odds(1000, p.EpsilonAtEnd), p.Delta, 100*p.Guess, against, p.create)
}

// words is the length of a device's vector.
func (p privacyPlan) words() int {
	if p.Quantile > 0 {
		return p.Parameters + 2
	}
	return p.Parameters + 1
}

// odds is what odds of one to against become at most, at ε.
func odds(against, epsilon float64) string {
	switch x := math.Exp(epsilon); {
	case epsilon > 20:
		return "anything"
	case x < against:
		return fmt.Sprintf("%.3g to %.4g at most", x, against)
	case x < 1000*against:
		return fmt.Sprintf("%.3g to 1 at most", x/against)
	default:
		return fmt.Sprintf("%.0f to 1 at most", x/against)
	}
}
