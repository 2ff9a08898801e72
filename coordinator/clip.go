package coordinator

import (
	"fmt"

	"github.com/discreet-fl/discreet/aggregation"
	"github.com/discreet-fl/discreet/model"
	pb "github.com/discreet-fl/discreet/proto"
)

// A task's clip may move from round to round towards a quantile of the norms of its devices'
// updates, which they vote on under masks and noise; package aggregation has the formulas.
// What a vector costs does not depend on the clip: its scale moves against it, so that the
// whole numbers, their noise and the ring stay what they were. The clip is told in every plan
// and kept with the checkpoint.

const (
	// quantileStep is the step of a task's clip quantile, in 10,000.
	quantileStep = 500
	// leastClip and mostClip bound the first clip of one that moves.
	leastClip = 1e-6
	mostClip  = 1e6
)

// checkClip is what CheckSpec says of a clip that moves.
func checkClip(p *pb.Privacy) error {
	switch q := p.GetClipQuantile(); {
	case q == 0:
		return nil
	case q >= 10_000 || q%quantileStep != 0:
		return fmt.Errorf("a clip for %d updates in 10,000 to keep to, want 500 to 9,500 in steps of %d; 0 lets it stay", q, quantileStep)
	case p.GetCentral() != nil:
		return fmt.Errorf("a clip that moves beside noise by the coordinator, which takes back noise of earlier rounds in units of their clip; leave one of them out")
	case p.GetClip() < leastClip || p.GetClip() > mostClip:
		return fmt.Errorf("a clip that moves from %v, want it to begin at %v to %v", p.GetClip(), leastClip, mostClip)
	}
	return nil
}

// newMechanism is how devices of a task noise vectors of so many parameters in its first
// round.
func newMechanism(spec *pb.TaskSpec, multiplier float64, parameters int) (aggregation.DiscreteGaussian, error) {
	p := spec.GetPrivacy()
	g, err := aggregation.NewDiscreteGaussian(p.GetClip(), multiplier, honestOf(spec), parameters)
	if q := p.GetClipQuantile(); q > 0 {
		g, err = aggregation.NewAdaptiveGaussian(p.GetClip(), multiplier, honestOf(spec), int(cohortOf(spec)), parameters, int(q/quantileStep))
	}
	if err != nil {
		return g, err
	}
	return g.Levelled(multiplier, int(spec.GetMinSurvivors()), largest(spec), knownOf(spec), parameters)
}

// moveClip gives a plan's noise, as the first round has it, the clip of a later one; 0 is
// that of the first.
func moveClip(n *pb.Noise, clip float32) {
	if clip > 0 && n.GetBelow() > 0 {
		n.Clip, n.Scale = clip, float64(n.GetScale()*float64(n.GetClip()))/float64(clip)
	}
}

// ClipOf is the bound on the norm of an update that a plan's noise tells.
func ClipOf(n *pb.Noise) float32 {
	if n.GetClip() > 0 {
		return n.GetClip()
	}
	return n.GetPrivacy().GetClip()
}

// NextClip is the clip of the round after that of a plan, given the total of so many
// devices' vectors; 0 where the task's clip does not move.
func NextClip(plan *pb.Plan, m model.Layout, total *aggregation.Sums, survivors int) float32 {
	l := LayoutOf(plan, m)
	if !l.Noise.Votes() {
		return 0
	}
	return l.Noise.NextClip(plan.GetNoise().GetPrivacy().GetClip(), l.Votes(total.Whole()), survivors)
}
