package client

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/discreet-fl/discreet/aggregation"
	"github.com/discreet-fl/discreet/privacy"
	pb "github.com/discreet-fl/discreet/proto"
)

// Bounds of a promise of privacy, whatever a device's own are.
const (
	mostDelta          = 1e-3
	mostParticipations = 10_000
	mostSeparation     = 1_000_000
	mostWords          = 1 << 28 // of a vector, far above the largest model's
	mostBuffers        = 16      // of noise that the coordinator adds
)

// checkPrivacy refuses tasks that promise less privacy than these bounds ask for; p is nil
// where sums are exact. It is asked of a task before checking in, and of every plan.
func (b Bounds) checkPrivacy(p *pb.Privacy) error {
	switch {
	case p == nil && b.MaxEpsilon == 0:
		return nil
	case p == nil:
		return fmt.Errorf("the task's sums are exact, this device asks for noise, ε %v at most; create the task with --epsilon or lift the device's bound", b.MaxEpsilon)
	case !(p.GetEpsilon() > 0) || p.GetEpsilon() > b.MaxEpsilon && b.MaxEpsilon > 0:
		return fmt.Errorf("the task promises privacy of ε %v, want above 0 and at most this device's own bound (%v; 0 is none)", p.GetEpsilon(), b.MaxEpsilon)
	case p.GetCentral() != nil && b.MaxEpsilon > 0 && !b.TrustCoordinator:
		return fmt.Errorf("the coordinator adds the task's noise and sees its sums without, this device asks for noise of its own (ε %v at most); let it trust the coordinator, or create the task without --central-noise", b.MaxEpsilon)
	case !(p.GetDelta() > 0 && p.GetDelta() <= mostDelta):
		return fmt.Errorf("the task promises privacy with δ %v, want above 0 and at most %v", p.GetDelta(), mostDelta)
	case p.GetParticipations() < 1 || p.GetParticipations() > mostParticipations:
		return fmt.Errorf("the task lets a device take part %d times, want 1 to %d", p.GetParticipations(), mostParticipations)
	case p.GetSeparation() < 1 || p.GetSeparation() > mostSeparation:
		return fmt.Errorf("the task lets %d rounds pass between a device's participations, want 1 to %d", p.GetSeparation(), mostSeparation)
	case p.GetClipQuantile() >= 10_000:
		return fmt.Errorf("the task's clip is for %d updates in 10,000 to keep to, want fewer than all", p.GetClipQuantile())
	}
	return nil
}

// checkNoise holds what a plan says of noise against what it promises: it recomputes what
// one vector gives away, of the numbers that the device itself will use, and refuses noise
// that is less than the promise needs.
func checkNoise(plan *pb.Plan) error {
	n, s, c := plan.GetNoise(), plan.GetSecureAggregation(), plan.GetCodec()
	central := n.GetPrivacy().GetCentral()
	known := int64(uint64(s.GetCohort()) * uint64(s.GetCorrupt()) / 10_000)
	switch honest := int64(s.GetMinSurvivors()) - known; {
	case n.GetPrivacy() == nil:
		return errors.New("noise without a promise of privacy")
	case central == nil && (honest < 1 || int64(n.GetHonest()) != honest):
		return fmt.Errorf("noise for %d honest survivors, want %d, at least 1: the minimum of %d without the %d that may be corrupt", n.GetHonest(), honest, s.GetMinSurvivors(), known)
	case c.GetClip() != 0 || c.GetBits() != 0 || c.GetMaxWeight() != 0:
		return errors.New("a codec's clip, bits or weight beside noise, want the noise alone")
	case plan.GetEvaluation() != nil:
		return errors.New("counts on chats held back, which would be summed without noise, beside noise")
	case scalar(plan) != nil:
		return errors.New("a strategy's scalar, which would be summed without noise, beside noise")
	case s.GetLength() < 2 || s.GetLength() > mostWords:
		return fmt.Errorf("vectors of %d words, want 2 to %d", s.GetLength(), mostWords)
	}
	if err := checkClip(n); err != nil {
		return err
	}
	g := mechanism(n)
	d := int(s.GetLength()) - g.Length(0)
	if err := g.Fits(int(s.GetCohort()), d, int(min(c.GetRingBits(), 64))); err != nil {
		return err
	}
	left, err := leftOf(plan, known)
	if err != nil {
		return err
	}
	rho := privacy.LevelledRho(g.Norm(d), left, g.Sigmas(), g.Noised(d))
	if central != nil {
		if rho, err = centralRho(plan, g, d); err != nil {
			return err
		}
	}
	cost, err := privacy.NewCharge(rho)
	if err != nil {
		return err
	}
	told, p := privacy.Charge(n.GetCharge()), n.GetPrivacy()
	if told < cost {
		return fmt.Errorf("noise of σ %v with %d honest survivors costs ρ %v a vector, more than the %v that the plan tells; there is too little noise", n.GetSigma(), n.GetHonest(), cost.Rho(), told.Rho())
	}
	budget, err := budgetOf(p.GetEpsilon(), p.GetDelta())
	if err != nil {
		return err
	}
	if told.Times(int(p.GetParticipations())) > budget {
		return fmt.Errorf("%d vectors of ρ %v each, more than the ρ %v of the ε %v that the task promises", p.GetParticipations(), told.Rho(), budget.Rho(), p.GetEpsilon())
	}
	return nil
}

// asListed refuses a plan that promises anything else than its task did when it was listed,
// which is what this device decided on, and what Status says. The task is nil where it was
// not listed at all.
func asListed(plan *pb.Plan, task *pb.TaskState) error {
	got := plan.GetNoise().GetPrivacy()
	switch want := task.GetPrivacy(); {
	case task == nil:
		return fmt.Errorf("client: %w: it is for task %q, which the coordinator did not list; check in again", ErrPlanRefused, plan.GetTask())
	case !proto.Equal(got, want):
		return fmt.Errorf("client: task %q, round %d, attempt %d: %w: its plan promises %s, and the task was listed with %s",
			plan.GetTask(), plan.GetRound(), plan.GetAttempt(), ErrPlanRefused, promiseText(got), promiseText(want))
	}
	return nil
}

// promiseText is a promise in an error.
func promiseText(p *pb.Privacy) string {
	if p == nil {
		return "exact sums"
	}
	by := "devices"
	if p.GetCentral() != nil {
		by = "the coordinator"
	}
	return fmt.Sprintf("ε %v at δ %v in %d vectors %d rounds apart, noised by %s, from a clip of %v", p.GetEpsilon(), p.GetDelta(), p.GetParticipations(), p.GetSeparation(), by, p.GetClip())
}

// budgetOf is what may be given away where (ε, δ) is promised.
func budgetOf(epsilon, delta float64) (privacy.Charge, error) {
	return privacy.NewBudget(privacy.Rho(epsilon, delta))
}

// mostCentralRounds bounds the rounds of a task to whose sums the coordinator adds noise.
const mostCentralRounds = 1 << 13

// centralRho is what a vector of d parameters costs where the coordinator adds the noise.
func centralRho(plan *pb.Plan, g aggregation.DiscreteGaussian, d int) (float64, error) {
	n := plan.GetNoise()
	p, c := n.GetPrivacy(), n.GetPrivacy().GetCentral()
	m := privacy.BLT{Scale: c.GetScale(), Decay: c.GetDecay()}
	switch {
	case n.GetHonest() != 0:
		return 0, fmt.Errorf("noise for %d honest survivors beside noise by the coordinator, want 0", n.GetHonest())
	case len(n.GetLevels()) > 0:
		return 0, fmt.Errorf("%d levels of noise by devices beside noise by the coordinator, want none", len(n.GetLevels()))
	case c.GetRounds() < 1 || c.GetRounds() > mostCentralRounds || plan.GetRound() > uint64(c.GetRounds()):
		return 0, fmt.Errorf("round %d of %d with noise by the coordinator, want no later one, of 1 to %d", plan.GetRound(), c.GetRounds(), mostCentralRounds)
	case len(m.Scale) > mostBuffers:
		return 0, fmt.Errorf("noise by the coordinator with %d buffers, want at most %d", len(m.Scale), mostBuffers)
	case plan.GetCompression() != nil:
		return 0, errors.New("noise by the coordinator beside a compression, which would keep it from being taken back")
	}
	if err := m.Check(); err != nil {
		return 0, err
	}
	return m.VectorRho(float64(g.Norm(d)*(1<<aggregation.NoiseBits)), n.GetSigma(), d, int(c.GetRounds()), int(p.GetSeparation()), int(p.GetParticipations())), nil
}

// mechanism is how an update is noised, zero where it is not.
func mechanism(n *pb.Noise) aggregation.DiscreteGaussian {
	if n.GetPrivacy().GetCentral() != nil {
		return aggregation.DiscreteGaussian{Clip: n.GetPrivacy().GetClip(), Scale: n.GetScale()}
	}
	clip := n.GetPrivacy().GetClip()
	if n.GetClip() > 0 {
		clip = n.GetClip()
	}
	g := aggregation.DiscreteGaussian{Clip: clip, Scale: n.GetScale(), Sigma: n.GetSigma(), Below: int(n.GetBelow()), Above: int(n.GetAbove())}
	for _, l := range n.GetLevels() {
		g.Levels = append(g.Levels, aggregation.Level{Survivors: int(min(l.GetSurvivors(), mostWords)), Sigma: l.GetSigma()})
	}
	return g
}

// leftOf is, by the levels of a plan's noise, how many honest devices are sure to be in a sum
// that no more than that comes off of. It refuses levels that no sum of a cohort reaches, or
// every one does.
func leftOf(plan *pb.Plan, known int64) ([]int, error) {
	s, left := plan.GetSecureAggregation(), []int{int(plan.GetNoise().GetHonest())}
	for _, l := range plan.GetNoise().GetLevels() {
		if n := l.GetSurvivors(); n <= s.GetMinSurvivors() || n > s.GetCohort() {
			return nil, fmt.Errorf("noise that comes off at %d survivors, want more than the minimum of %d and at most the cohort of %d", n, s.GetMinSurvivors(), s.GetCohort())
		}
		left = append(left, int(int64(l.GetSurvivors())-known))
	}
	return left, nil
}

// checkClip holds what a plan says of a clip that moves against what it promises. What the
// vote costs is in what a vector costs.
func checkClip(n *pb.Noise) error {
	const largest = 1 << 22 // of a vote, as of everything in whole numbers
	p, below, above := n.GetPrivacy(), uint64(n.GetBelow()), uint64(n.GetAbove())
	first, clip, quantile := float64(p.GetClip()), float64(n.GetClip()), uint64(p.GetClipQuantile())
	switch {
	case quantile == 0 && (below != 0 || above != 0 || clip != 0):
		return fmt.Errorf("a clip of %v with votes of %d and −%d in a task whose clip stays at %v", clip, below, above, first)
	case quantile == 0:
		return nil
	case p.GetCentral() != nil:
		return errors.New("a clip that moves beside noise by the coordinator, which takes back noise in units of other clips")
	case below < 1 || above < 1 || below > largest || above > largest:
		return fmt.Errorf("votes of %d and −%d on the clip, want 1 to %d", below, above, largest)
	case above*10_000 != quantile*(below+above):
		return fmt.Errorf("votes of %d and −%d on a clip that %d updates in 10,000 are to keep to", below, above, quantile)
	case !(clip >= first/aggregation.ClipRange && clip <= first*aggregation.ClipRange):
		return fmt.Errorf("a clip of %v in a task that began at %v, want at most %d times more or less", clip, first, aggregation.ClipRange)
	}
	return nil
}
