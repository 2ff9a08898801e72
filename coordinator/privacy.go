package coordinator

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/discreet-fl/discreet/aggregation"
	"github.com/discreet-fl/discreet/coordinator/round"
	"github.com/discreet-fl/discreet/coordinator/store"
	"github.com/discreet-fl/discreet/model"
	"github.com/discreet-fl/discreet/privacy"
	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/secagg"
)

const (
	// MaxDelta is the largest δ that a task may promise.
	MaxDelta = 1e-3

	mostEpsilon        = 1000 // above it nothing is promised
	mostParticipations = 10_000
	mostSeparation     = 1_000_000
	// slack is what a task's rounds are kept below the ε that is promised, so that a device
	// whose processor rounds otherwise comes to no other conclusion.
	slack = 1e-9
)

// checkPrivacy is what CheckSpec says of a task's privacy, once it has found everything
// else to be right.
func checkPrivacy(spec *pb.TaskSpec) error {
	p := spec.GetPrivacy()
	switch {
	case p == nil:
		return nil
	case !(p.GetEpsilon() > 0 && p.GetEpsilon() <= mostEpsilon):
		return fmt.Errorf("privacy of ε %v, want above 0 and at most %d", p.GetEpsilon(), mostEpsilon)
	case !(p.GetDelta() > 0 && p.GetDelta() <= MaxDelta):
		return fmt.Errorf("privacy of δ %v, want above 0 and at most %v, better below one in the number of devices", p.GetDelta(), MaxDelta)
	case p.GetParticipations() < 1 || p.GetParticipations() > mostParticipations:
		return fmt.Errorf("%d participations of a device, want 1 to %d", p.GetParticipations(), mostParticipations)
	case p.GetSeparation() < 1 || p.GetSeparation() > mostSeparation:
		return fmt.Errorf("%d rounds between a device's participations, want 1 to %d", p.GetSeparation(), mostSeparation)
	case !(p.GetClip() > 0) || math.IsInf(float64(p.GetClip()), 0):
		return fmt.Errorf("a clip of %v, want a positive number", p.GetClip())
	case spec.GetEvaluation() != nil:
		return fmt.Errorf("privacy of ε %v beside an evaluation on chats held back: its counts would be summed without noise; leave one of them out", p.GetEpsilon())
	case spec.GetBuffer() != nil:
		return fmt.Errorf("privacy of ε %v beside a buffer: rounds that run side by side are not counted apart; leave one of them out", p.GetEpsilon())
	case specLayout(spec, model.Layout{}).Scalar != nil:
		return fmt.Errorf("privacy of ε %v beside the strategy %s: what devices send for it would be summed without noise; choose another strategy", p.GetEpsilon(), ChoiceOf(spec).Name)
	case spec.GetCompression().GetBits() != 0:
		return fmt.Errorf("privacy of ε %v with %d bits a coordinate: the noise decides on the bits; shorten updates by part or sketch alone", p.GetEpsilon(), spec.GetCompression().GetBits())
	case p.GetCentral() == nil && honestOf(spec) < 1:
		return fmt.Errorf("a minimum of %d survivors, of whose noise the coordinator may know that of %d: none is sure to be left; want a minimum of at least %d, and much more for little noise",
			spec.GetMinSurvivors(), knownOf(spec), knownOf(spec)+1)
	}
	if err := checkClip(p); err != nil {
		return err
	}
	return checkCentral(spec)
}

// knownOf is how many of a cohort's members may tell the coordinator their noise.
func knownOf(spec *pb.TaskSpec) int {
	return int(uint64(cohortOf(spec)) * uint64(corruptOf(spec)) / 10_000)
}

// honestOf is how many survivors of a cohort keep their noise to themselves, at the least.
func honestOf(spec *pb.TaskSpec) int { return int(spec.GetMinSurvivors()) - knownOf(spec) }

// ChargeOf is what a device is charged for a vector in a task that promises privacy: an
// equal share of what the promise allows.
func ChargeOf(p *pb.Privacy) (privacy.Charge, error) {
	return privacy.PerRound(p.GetEpsilon()*(1-slack), p.GetDelta(), int(p.GetParticipations()))
}

// NoiseOf is what plans of a task tell devices about noise, for a model of this layout; nil
// where sums are exact. A clip that moves, and the scale with it, are those of the first round.
func NoiseOf(spec *pb.TaskSpec, m model.Layout) (*pb.Noise, error) {
	p := spec.GetPrivacy()
	if p == nil {
		return nil, nil
	}
	charge, err := ChargeOf(p)
	if err != nil {
		return nil, err
	}
	d, honest := specLayout(spec, m).Parameters, honestOf(spec)
	if p.GetCentral() != nil {
		return centralNoise(p, charge, d)
	}
	g, err := newMechanism(spec, charge.Multiplier(), d)
	if err != nil {
		return nil, err
	}
	left := []int{honest} // honest devices' noise, by level
	for _, l := range g.Levels {
		left = append(left, l.Survivors-knownOf(spec))
	}
	if costs, err := privacy.NewCharge(privacy.LevelledRho(g.Norm(d), left, g.Sigmas(), g.Noised(d))); err != nil {
		return nil, err
	} else if costs > charge {
		return nil, fmt.Errorf("coordinator: noise of σ %v costs ρ %v a round, more than the %v that there are", g.Sigma, costs.Rho(), charge.Rho())
	}
	n := &pb.Noise{Privacy: p, Scale: g.Scale, Sigma: g.Sigma, Honest: uint32(honest), Charge: uint64(charge)}
	for _, l := range g.Levels {
		n.Levels = append(n.Levels, &pb.NoiseLevel{Survivors: uint32(l.Survivors), Sigma: l.Sigma})
	}
	if g.Votes() {
		n.Clip, n.Below, n.Above = g.Clip, uint32(g.Below), uint32(g.Above)
	}
	return n, nil
}

// noisedLayout is specLayout with the noise that the task's plans tell.
func noisedLayout(spec *pb.TaskSpec, m model.Layout) (aggregation.Layout, error) {
	l := specLayout(spec, m)
	noise, err := NoiseOf(spec, m)
	if err == nil {
		l.Noise = mechanism(noise)
	}
	return l, err
}

// mechanism is how devices noise their updates, zero where they do not.
func mechanism(n *pb.Noise) aggregation.DiscreteGaussian {
	if n.GetPrivacy().GetCentral() != nil {
		return aggregation.DiscreteGaussian{Clip: n.GetPrivacy().GetClip(), Scale: n.GetScale()}
	}
	g := aggregation.DiscreteGaussian{Clip: ClipOf(n), Scale: n.GetScale(), Sigma: n.GetSigma(), Below: int(n.GetBelow()), Above: int(n.GetAbove())}
	for _, l := range n.GetLevels() {
		g.Levels = append(g.Levels, aggregation.Level{Survivors: int(l.GetSurvivors()), Sigma: l.GetSigma()})
	}
	return g
}

// levelsOf are the numbers of survivors at which noise comes off a plan's sums.
func levelsOf(plan *pb.Plan) []int {
	var at []int
	for _, l := range plan.GetNoise().GetLevels() {
		at = append(at, int(l.GetSurvivors()))
	}
	return at
}

// Fit is how the noise in a task's sums keeps to what was asked for, however many survive.
type Fit struct {
	// Sigma is the standard deviation of all noise of a device, or of the coordinator's.
	Sigma float64
	// Levels are the numbers of survivors of a cohort at which a part of it comes off.
	Levels []int
	// Overshoot is the most by which the noise of all survivors is larger than was asked for
	// of the honest: 1.1 is 10% in standard deviation. 1 where the coordinator adds it.
	Overshoot float64
}

// FitOf reads it from what a task's plans tell of noise.
func FitOf(spec *pb.TaskSpec, n *pb.Noise) Fit {
	if n.GetPrivacy().GetCentral() != nil || n.GetHonest() == 0 {
		return Fit{Sigma: n.GetSigma(), Overshoot: 1}
	}
	g := mechanism(n)
	f := Fit{Sigma: g.Whole(), Overshoot: g.Overshoot(int(n.GetHonest()), int(spec.GetMinSurvivors()), largest(spec))}
	for _, l := range g.Levels {
		f.Levels = append(f.Levels, l.Survivors)
	}
	return f
}

// String tells people.
func (f Fit) String() string {
	if len(f.Levels) == 0 {
		return fmt.Sprintf("up to %.1f%% more than was asked for, where nobody vanishes and all are honest; none comes off", 100*(f.Overshoot-1))
	}
	at := make([]string, len(f.Levels))
	for i, n := range f.Levels {
		at[i] = strconv.Itoa(n)
	}
	return fmt.Sprintf("up to %.1f%% more than was asked for, however many survive and where all are honest; parts come off at %s survivors of a cohort", 100*(f.Overshoot-1), strings.Join(at, ", "))
}

// largest is how many survivors a cohort of a task has at most.
func largest(spec *pb.TaskSpec) int { return int(min(cohortOf(spec), spec.GetPerRound())) }

// Unmask takes the masks off a cohort's sum, and the noise that comes off with so many in it,
// and forgets what they follow from.
func Unmask(l aggregation.Layout, e round.CohortSummed) error {
	err := l.RemoveLevels(e.Sum, e.Unmasking.Seeds())
	e.Unmask()
	return err
}

// accounts are what a task's devices may have given away. Those that were told of an
// attempt's shares may send a vector; they are charged before they are told.
type accounts struct {
	of    map[secagg.ID]store.Account
	worst store.Account // the most of each number
}

// loadAccounts reads them from the store.
func (c *Coordinator) loadAccounts(ctx context.Context, task string) (accounts, error) {
	rows, err := c.store.Accounts(ctx, task)
	a := accounts{of: make(map[secagg.ID]store.Account, len(rows))}
	for _, row := range rows {
		a.put(row)
	}
	return a, err
}

func (a *accounts) put(one store.Account) {
	a.of[one.Device] = one
	a.worst.Vectors, a.worst.Charged = max(a.worst.Vectors, one.Vectors), max(a.worst.Charged, one.Charged)
}

// mayUpload charges the devices that an event's effects let send their vectors, and tells
// whether they may be let. Each is charged once an attempt.
func (t *task) mayUpload(now time.Time, r *attempt, effects []round.Effect) bool {
	noise := r.plan.GetNoise()
	if noise == nil {
		return true
	}
	var ids []secagg.ID
	for _, e := range effects {
		if reply, ok := e.(round.Reply); ok && reply.Step == round.Share && !r.charged[reply.To] {
			ids = append(ids, reply.To)
		}
	}
	if len(ids) == 0 {
		return true
	}
	if err := t.store.Charge(context.Background(), t.name, r.plan.GetRound(), noise.GetCharge(), ids); err != nil {
		t.logOf(r).Error("devices cannot be charged", "error", err)
		t.abort(now, r, "the coordinator could not note what its devices give away; its operator finds the reason in its log")
		t.pause(now)
		return false
	}
	for _, id := range ids {
		a := t.accounts.of[id]
		t.accounts.put(store.Account{Device: id, Vectors: a.Vectors + 1, Charged: a.Charged + noise.GetCharge(), Round: r.plan.GetRound()})
		r.charged[id] = true
	}
	return true
}

// spentOut returns for how long a device is asked to stay away from a task that it may
// not send another vector in, or not yet, and why; zero where it may.
func (t *task) spentOut(id secagg.ID) (time.Duration, string) {
	p, a := t.spec.GetPrivacy(), t.accounts.of[id]
	switch {
	case p == nil || a.Vectors == 0:
		return 0, ""
	case a.Vectors >= p.GetParticipations():
		return time.Hour, fmt.Sprintf("this device has taken part %d times, which is all that the task's privacy of ε %v allows", a.Vectors, p.GetEpsilon())
	case t.round > a.Round && t.round-a.Round < uint64(p.GetSeparation()):
		return min(max(comeBack, milliseconds(t.spec.GetEveryMs())), time.Minute),
			fmt.Sprintf("this device took part in round %d, and may again in round %d", a.Round, a.Round+uint64(p.GetSeparation()))
	}
	return 0, ""
}

// privacyMessage is what operators are told of a task's accounts; nil where sums are exact.
func privacyMessage(spec *pb.TaskSpec, v *view) *pb.TaskPrivacy {
	if spec.GetPrivacy() == nil {
		return nil
	}
	noise, err := NoiseOf(spec, v.layout)
	if err != nil { // rounds cannot begin either, and the log says why
		noise = &pb.Noise{Privacy: spec.GetPrivacy()}
	}
	moveClip(noise, v.clip)
	return &pb.TaskPrivacy{Noise: noise, Devices: uint32(v.devices), Participations: v.worst.Vectors, Charged: v.worst.Charged}
}
