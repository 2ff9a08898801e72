package coordinator

import (
	"errors"
	"fmt"
	"math"

	"github.com/discreet-fl/discreet/aggregation"
	"github.com/discreet-fl/discreet/model"
	"github.com/discreet-fl/discreet/privacy"
	pb "github.com/discreet-fl/discreet/proto"
)

// mostCentralRounds bounds the rounds of a task to whose sums the coordinator adds noise.
const mostCentralRounds = 1 << 13

// mostCentralBuffers bounds those of the matrix that correlates such noise.
const mostCentralBuffers = 16

// CentralNoise chooses how a coordinator's noise is correlated over a task's rounds: with
// two buffers, which come close to more of them.
func CentralNoise(rounds uint64, p *pb.Privacy) (*pb.CentralNoise, error) {
	if rounds < 1 || rounds > mostCentralRounds {
		return nil, fmt.Errorf("noise by the coordinator over %d rounds, want 1 to %d", rounds, mostCentralRounds)
	}
	m, err := privacy.OptimiseBLT(2, int(rounds), int(p.GetSeparation()), int(p.GetParticipations()))
	if err != nil {
		return nil, err
	}
	return &pb.CentralNoise{Rounds: uint32(rounds), Scale: m.Scale, Decay: m.Decay}, nil
}

// checkCentral is what CheckSpec says of noise that the coordinator adds.
func checkCentral(spec *pb.TaskSpec) error {
	c := spec.GetPrivacy().GetCentral()
	if c == nil {
		return nil
	}
	if err := ChoiceOf(spec).Check(); err != nil {
		return err
	}
	switch {
	case c.GetRounds() < 1 || c.GetRounds() > mostCentralRounds || uint64(c.GetRounds()) != spec.GetRounds():
		return fmt.Errorf("noise by the coordinator over %d rounds of a task of %d, want those of the task, 1 to %d", c.GetRounds(), spec.GetRounds(), mostCentralRounds)
	case len(c.GetScale()) > mostCentralBuffers:
		return fmt.Errorf("noise by the coordinator with %d buffers, want at most %d", len(c.GetScale()), mostCentralBuffers)
	case ChoiceOf(spec).Apart():
		return fmt.Errorf("noise by the coordinator with strategy %s, which looks at the cohorts' sums before they are added; choose another strategy, or noise by devices", ChoiceOf(spec).Name)
	case spec.GetCompression() != nil:
		return fmt.Errorf("noise by the coordinator with compression %s: each round shortens in another way, so that later rounds cannot take back the noise of earlier ones; choose none, or noise by devices", CompressionText(spec.GetCompression()))
	}
	return bltOf(c).Check()
}

func bltOf(c *pb.CentralNoise) privacy.BLT {
	return privacy.BLT{Scale: c.GetScale(), Decay: c.GetDecay()}
}

// centralNoise is NoiseOf where the coordinator adds the noise, for vectors of d parameters.
func centralNoise(p *pb.Privacy, charge privacy.Charge, d int) (*pb.Noise, error) {
	g, err := aggregation.NewCentral(p.GetClip(), d)
	if err != nil {
		return nil, err
	}
	if err := g.Finer().Fits(1, d, 32); err != nil { // as its totals will be
		return nil, err
	}
	const one = 1 << 20 // any σ will do: what a vector costs falls with its square
	cost := centralRho(p, g, one, d)
	sigma := one * math.Sqrt(cost/(charge.Rho()*(1-slack)))
	if !(sigma <= aggregation.MaxCentralSigma) {
		return nil, fmt.Errorf("noise by the coordinator of σ %.4g, want at most %d; promise a larger ε, or let devices take part in fewer rounds", sigma, aggregation.MaxCentralSigma)
	}
	if costs, err := privacy.NewCharge(centralRho(p, g, sigma, d)); err != nil {
		return nil, err
	} else if costs > charge {
		return nil, fmt.Errorf("coordinator: noise of σ %v costs ρ %v a vector, more than the %v that there are", sigma, costs.Rho(), charge.Rho())
	}
	return &pb.Noise{Privacy: p, Scale: g.Scale, Sigma: sigma, Charge: uint64(charge)}, nil
}

// centralRho is what a vector costs where the coordinator adds noise of σ.
func centralRho(p *pb.Privacy, g aggregation.DiscreteGaussian, sigma float64, d int) float64 {
	c := p.GetCentral()
	return bltOf(c).VectorRho(float64(g.Norm(d)*(1<<aggregation.NoiseBits)), sigma, d, int(c.GetRounds()), int(p.GetSeparation()), int(p.GetParticipations()))
}

// errOtherNoise is returned for noise that was kept and is not of the plan's.
var errOtherNoise = errors.New("the noise that is kept of earlier rounds is not of this plan's")

// AddNoise adds a coordinator's own noise to a total, in place, where a plan says so, and
// returns the noise's state that goes with the checkpoint that is made of it. State is
// what came with the checkpoint before; empty where there was none, or where it was not
// carried over a stop: then nothing is taken back of what came before this round, and no
// round costs more for it. Rounds that were lost in between have noise of their own, so that
// a round's number is its place among them. Fresh returns a new secret seed each time.
func AddNoise(plan *pb.Plan, m model.Layout, state []byte, total *aggregation.Sums, fresh func() [32]byte) (next []byte, err error) {
	n := plan.GetNoise()
	if n.GetPrivacy().GetCentral() == nil {
		return nil, nil
	}
	d := LayoutOf(plan, m).Parameters
	c, err := centralState(plan, state, d)
	if err != nil {
		return nil, err
	}
	if c.Rounds() >= plan.GetRound() || plan.GetRound() > uint64(n.GetPrivacy().GetCentral().GetRounds()) {
		return nil, fmt.Errorf("coordinator: noise for round %d after %d rounds of %d", plan.GetRound(), c.Rounds(), n.GetPrivacy().GetCentral().GetRounds())
	}
	for c.Rounds() < plan.GetRound()-1 {
		if err := c.Next(make([]int64, d), fresh()); err != nil {
			return nil, err
		}
	}
	if err := c.Next(total.Whole()[:d], fresh()); err != nil {
		return nil, err
	}
	return c.Encode(), nil
}

// centralState is the noise as the last round left it, or without what came before the
// plan's. A state that is not of the plan's noise is refused.
func centralState(plan *pb.Plan, state []byte, d int) (*aggregation.Correlated, error) {
	n := plan.GetNoise()
	var memory []aggregation.Memory
	for i, scale := range n.GetPrivacy().GetCentral().GetScale() {
		memory = append(memory, aggregation.Memory{Scale: scale, Decay: n.GetPrivacy().GetCentral().GetDecay()[i]})
	}
	if len(state) == 0 {
		return aggregation.NewCorrelated(d, n.GetSigma(), plan.GetRound()-1, memory)
	}
	c, err := aggregation.DecodeCorrelated(state)
	if err != nil {
		return nil, fmt.Errorf("coordinator: %w: %w", errOtherNoise, err)
	}
	if !c.Is(d, n.GetSigma(), memory) {
		return nil, fmt.Errorf("coordinator: %w: it is not of σ %v for %d words with the memory that round %d tells", errOtherNoise, n.GetSigma(), d, plan.GetRound())
	}
	return c, nil
}
