package main

import (
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/spf13/pflag"

	"github.com/discreet-fl/discreet/client"
	"github.com/discreet-fl/discreet/coordinator"
	"github.com/discreet-fl/discreet/privacy"
	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/simulate"
)

// What a task promises unless it is told otherwise.
const (
	defaultDelta          = 1e-6
	defaultParticipations = 5
	defaultSeparation     = 1
	defaultClip           = 1
	// survivingShare is the minimum of survivors of a cohort whose sums have noise in them.
	survivingShare = 0.8
)

// promise are the flags of what a task promises its devices.
type promise struct {
	epsilon, delta             float64
	participations, separation uint32
	clip                       float32
	quantile                   float64
	central                    bool
}

func (p *promise) flags(f *pflag.FlagSet) {
	f.Float64Var(&p.epsilon, "epsilon", 0, "promise each device differential privacy of this ε over all rounds, with noise in every sum; 0 leaves sums exact")
	f.Float64Var(&p.delta, "delta", defaultDelta, "δ of that promise, below one in the number of devices")
	f.Uint32Var(&p.participations, "participations", defaultParticipations, "times that a device takes part at most, with --epsilon; fewer need less noise")
	f.Uint32Var(&p.separation, "separation", defaultSeparation, "rounds from one that a device took part in to the next, with --epsilon")
	f.BoolVar(&p.central, "central-noise", false, "with --epsilon and --rounds, let the coordinator add the noise, correlated over the rounds: far less of it, for devices that trust the coordinator with exact sums")
	f.Float32Var(&p.clip, "clip", defaultClip, "bound on the L2 norm of a device's update, with --epsilon")
	clipQuantileFlag(f, &p.quantile)
}

// clipQuantileFlag is the flag of a clip that moves.
func clipQuantileFlag(f *pflag.FlagSet, into *float64) {
	f.Float64Var(into, "clip-quantile", 0, "with --epsilon, let --clip move from round to round until this share of updates keeps to it, 0.05 to 0.95 in steps of 0.05; 0 lets it stay")
}

// clipQuantileOf is a share as specifications have it, in 10,000.
func clipQuantileOf(share float64) (uint32, error) {
	q := math.Round(share * 10_000)
	if !(share == 0 || share >= 0.05 && share <= 0.95 && math.Abs(share*10_000-q) < 1e-6 && math.Mod(q, 500) == 0) {
		return 0, usagef("--clip-quantile %v, want 0, or 0.05 to 0.95 in steps of 0.05", share)
	}
	return uint32(q), nil
}

// asked returns the promise over so many rounds, nil where none was asked for.
func (p *promise) asked(given *pflag.FlagSet, rounds uint64) (*pb.Privacy, error) {
	if p.epsilon == 0 {
		for _, name := range []string{"delta", "participations", "separation", "clip", "clip-quantile", "central-noise"} {
			if given.Changed(name) {
				return nil, usagef("--%s without --epsilon, which says how much privacy is promised", name)
			}
		}
		return nil, nil
	}
	asked := &pb.Privacy{Epsilon: p.epsilon, Delta: p.delta, Participations: p.participations, Separation: p.separation, Clip: p.clip}
	var err error
	if asked.ClipQuantile, err = clipQuantileOf(p.quantile); err != nil || !p.central {
		return asked, err
	}
	if asked.Central, err = coordinator.CentralNoise(rounds, asked); err != nil {
		return nil, usagef("--central-noise: %w", err)
	}
	return asked, nil
}

// errPersonalNoise is said of a promise to devices that are to have models of their own.
var errPersonalNoise = usagef("--personal does not go with --epsilon: a device judges its own model on chats held back, and counts of those would be summed without noise; leave one of the two out")

// survivorsFor is the minimum of survivors where sums have noise in them and no other was
// asked for: the more are sure to add theirs, the less has each to add.
func survivorsFor(perRound, cohort uint32) uint32 {
	return max(minSurvivors, uint32(math.Ceil(survivingShare*float64(min(perRound, cohort)))))
}

// exactWarning is said of every task without noise.
const exactWarning = "NONE: sums are exact. Sums, and models made from them, may tell what single devices added; --epsilon adds noise with a guarantee"

// privacyRows are what a task promises and what its devices have given away.
func privacyRows(t *pb.Task) [][2]string {
	p := t.Spec.Privacy
	if p == nil {
		return [][2]string{{"privacy", exactWarning}}
	}
	n, charged := t.Privacy.GetNoise(), privacy.Charge(t.Privacy.GetCharged())
	fit := coordinator.FitOf(t.Spec, n)
	rows := [][2]string{
		{"privacy", fmt.Sprintf("ε at most %v at δ %v for each device, over all rounds", p.Epsilon, p.Delta)},
		{"a device takes part", takesPart(p)},
		{"noise", noiseText(fit.Sigma, n.GetScale(), n.GetHonest(), p.GetCentral().GetRounds())},
		{"clip", clipText(p.Clip, coordinator.ClipOf(n), float64(p.ClipQuantile)/10_000)},
		{"a vector costs", fmt.Sprintf("ρ %v", privacy.Charge(n.GetCharge()).Rho())},
	}
	if p.Central == nil {
		rows = slices.Insert(rows, 3, [2]string{"noise in a sum", fit.String()})
	}
	if t.Privacy.GetDevices() > 0 {
		rows = append(rows, [2]string{"given away, at most", fmt.Sprintf("ε %.3g (ρ %v) by one device, in %d vectors; %d devices have sent some",
			charged.Epsilon(p.Delta), charged.Rho(), t.Privacy.GetParticipations(), t.Privacy.GetDevices())})
	}
	return rows
}

func takesPart(p *pb.Privacy) string {
	if p.Separation == 1 {
		return fmt.Sprintf("%d times at most", p.Participations)
	}
	return fmt.Sprintf("%d times at most, %d rounds apart", p.Participations, p.Separation)
}

func noiseText(sigma, scale float64, honest, central uint32) string {
	if central > 0 {
		return fmt.Sprintf("σ %.4g of 1/256 of whole numbers by the coordinator, which sees sums without, %.4g a unit; correlated over %d rounds", sigma, scale, central)
	}
	return fmt.Sprintf("σ %.4g of whole numbers by each device, %.4g a unit; at least %d honest devices' in a sum", sigma, scale, honest)
}

// clipText is the bound on the norm of updates, which began at first.
func clipText(first, now float32, quantile float64) string {
	if quantile == 0 {
		return fmt.Sprintf("%v, the most that an update's norm is let be", first)
	}
	return fmt.Sprintf("%.4g, the most that an update's norm is let be; it began at %v and moves until %.4g%% of updates keep to it", now, first, 100*quantile)
}

// simulatedPrivacy is what the devices of a simulation were promised and gave away.
func simulatedPrivacy(p *simulate.Privacy) [][2]string {
	if p == nil {
		return [][2]string{{"privacy", "none: sums are exact"}}
	}
	rows := [][2]string{
		{"privacy", fmt.Sprintf("ε at most %v at δ %v for each device, over all rounds", p.Epsilon, p.Delta)},
		{"a device takes part", takesPart(&pb.Privacy{Participations: p.Participations, Separation: p.Separation})},
		{"noise", noiseText(p.Sigma, p.Scale, p.Honest, p.CentralRounds)},
		{"clip", clipText(p.Clip, p.LastClip, p.ClipQuantile)},
		{"noise multiplier", fmt.Sprintf("%.4g; a vector of %d numbers costs ρ %.6g, in a ring of %d bits", p.Multiplier, p.Parameters, p.RhoRound, p.RingBits)},
		{"given away, at most", fmt.Sprintf("ε %.3g (ρ %.6g), in %d vectors of a device", p.GivenEpsilon, p.GivenRho, p.MostVectors)},
	}
	if p.CentralRounds == 0 {
		rows = slices.Insert(rows, 3, [2]string{"noise in a sum", coordinator.Fit{Sigma: p.Sigma, Levels: p.Levels, Overshoot: p.Overshoot}.String()})
	}
	return rows
}

// warnOfExactSums says so where a new task has no noise.
func warnOfExactSums(w io.Writer, spec *pb.TaskSpec) {
	if spec.Privacy == nil {
		fmt.Fprintf(w, "\nWARNING: %s has no privacy budget. No noise is added to its sums: they are exact, and what is learned from them\nmay tell what a single device added. Every device's status says so. Create the task with --epsilon for a guarantee.\n", spec.Name)
	}
}

// printGiven shows what a device has given away.
func printGiven(w io.Writer, tasks []client.Given) {
	if len(tasks) == 0 {
		fmt.Fprintln(w, "this device has taken part in no task")
	}
	for i, g := range tasks {
		if i > 0 {
			fmt.Fprintln(w)
		}
		rows := [][2]string{{"task", g.Task}}
		if g.Exact > 0 {
			rows = append(rows, [2]string{"vectors without noise", fmt.Sprintf("%d, to exact sums: nothing is promised of them", g.Exact)})
		}
		if g.Epsilon > 0 {
			rows = append(rows,
				[2]string{"promised", fmt.Sprintf("ε at most %v at δ %v", g.Epsilon, g.Delta)},
				[2]string{"vectors with noise", fmt.Sprintf("%d of %d at most, %d rounds apart", len(g.Vectors), g.Participations, g.Separation)},
				[2]string{"given away", fmt.Sprintf("ε %.4g (ρ %v of %v)", g.GivenEpsilon, g.GivenRho, g.BudgetRho)})
		}
		table(w, rows)
	}
}
