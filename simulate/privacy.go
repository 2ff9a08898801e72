package simulate

import (
	"math"

	"github.com/discreet-fl/discreet/aggregation"
	"github.com/discreet-fl/discreet/coordinator"
	"github.com/discreet-fl/discreet/privacy"
)

// Privacy is what a simulation promised its devices, and what they gave away.
type Privacy struct {
	// Epsilon and Delta are the promise to each device, over all rounds.
	Epsilon float64 `json:"epsilon"`
	Delta   float64 `json:"delta"`
	// Participations is how often a device takes part at most, and Separation how many
	// rounds after one it may take part in the next.
	Participations uint32 `json:"participations"`
	Separation     uint32 `json:"separation"`
	// Clip bounds the L2 norm of an update, of Parameters numbers once it is shortened. Where
	// ClipQuantile is above 0 it is that of the first round, moves so that as large a share of
	// updates keeps to it, and LastClip is what it came to.
	Clip         float32 `json:"clip"`
	ClipQuantile float64 `json:"clip_quantile,omitempty"`
	LastClip     float32 `json:"last_clip,omitempty"`
	Parameters   int     `json:"parameters"`
	// Honest is the fewest survivors of a cohort that keep their noise to themselves. With
	// so many a sum has noise of Multiplier times what one device can change it by.
	Honest     uint32  `json:"honest"`
	Multiplier float64 `json:"multiplier"`
	// Levels are the numbers of survivors of a cohort at which a part of the noise comes off
	// its sum, and Overshoot the most by which that of all survivors is then larger than was
	// asked for, 1.1 being 10% in standard deviation.
	Levels    []int   `json:"levels,omitempty"`
	Overshoot float64 `json:"overshoot"`
	// Scale is the whole numbers a unit of update, in the first round where the clip moves, and Sigma the standard deviation of a
	// device's noise in whole numbers.
	Scale    float64 `json:"scale"`
	Sigma    float64 `json:"sigma"`
	RingBits uint32  `json:"ring_bits"`
	// CentralRounds is over how many rounds the coordinator correlates noise of its own; 0
	// where devices add theirs. Sigma is then that of its fresh noise, in 1/256 of whole
	// numbers, and Honest is 0.
	CentralRounds uint32 `json:"central_rounds,omitempty"`
	// RhoRound is what a vector costs its device.
	RhoRound float64 `json:"rho_round"`
	// MostVectors is the most that a device sent, and GivenRho and GivenEpsilon what it gave
	// away with them.
	MostVectors  uint32  `json:"most_vectors"`
	GivenRho     float64 `json:"given_rho"`
	GivenEpsilon float64 `json:"given_epsilon"`
}

// account is how often a device took part, and when it last did.
type account struct {
	vectors uint32
	round   uint64
}

// mayTakePart tells whether a device's promise lets it take part in a round, as its own
// ledger would.
func (r *run) mayTakePart(device int, round uint64) bool {
	a := r.accounts[device]
	p := r.Config.Privacy
	return a.vectors == 0 || a.vectors < p.GetParticipations() && (round == a.round || round >= a.round+uint64(p.GetSeparation()))
}

// charge notes the members of an attempt that may send their vectors.
func (r *run) charge(round uint64, members []member) {
	for _, m := range members {
		if m.vanish == Stays || m.vanish >= AfterShare {
			r.accounts[m.device] = account{r.accounts[m.device].vectors + 1, round}
		}
	}
}

// given is what the result says of privacy; nil where sums are exact.
func (r *run) given() (*Privacy, error) {
	p := r.Config.Privacy
	if p == nil {
		return nil, nil
	}
	clip := r.clip
	r.clip = 0 // the first round's again
	plan, _, err := r.plan(1, 1)
	if err != nil {
		return nil, err
	}
	var most uint32
	for _, a := range r.accounts {
		most = max(most, a.vectors)
	}
	n := plan.GetNoise()
	l, charge := coordinator.LayoutOf(plan, r.layout), privacy.Charge(n.GetCharge())
	given := charge.Times(int(most))
	fit := coordinator.FitOf(r.spec, n)
	multiplier := fit.Sigma * math.Sqrt(float64(n.GetHonest())) / l.Noise.Norm(l.Parameters)
	if p.GetCentral() != nil {
		multiplier = n.GetSigma() / (l.Noise.Norm(l.Parameters) * (1 << aggregation.NoiseBits))
	}
	return &Privacy{
		CentralRounds: p.GetCentral().GetRounds(),
		Epsilon:       p.GetEpsilon(), Delta: p.GetDelta(), Participations: p.GetParticipations(), Separation: p.GetSeparation(),
		Clip: p.GetClip(), ClipQuantile: float64(p.GetClipQuantile()) / 10_000, LastClip: clip, Parameters: l.Parameters, Honest: n.GetHonest(),
		Multiplier: multiplier, Levels: fit.Levels, Overshoot: fit.Overshoot,
		Scale: n.GetScale(), Sigma: fit.Sigma, RingBits: plan.GetCodec().GetRingBits(),
		RhoRound: charge.Rho(), MostVectors: most, GivenRho: given.Rho(), GivenEpsilon: given.Epsilon(p.GetDelta()),
	}, nil
}

// checkPrivacy returns an error where the devices cannot take part as often as the rounds
// need, under what they are promised.
func (c *Config) checkPrivacy() error {
	p := c.Privacy
	if p == nil {
		return nil
	}
	return privacy.Schedule{
		Devices: len(c.Train), PerRound: c.PerRound, Rounds: c.Rounds, Participations: int(p.GetParticipations()), Separation: int(p.GetSeparation()),
	}.Check()
}
