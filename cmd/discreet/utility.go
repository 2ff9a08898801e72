package main

import (
	"fmt"
	"math"
)

// A plan's expected loss of accuracy is read off a curve through simulations that were run
// with noise and without: benchmarks/README.md has them, and docs/privacy.md the formula. It
// goes by one number, the noise that is left in a coordinate of the mean over all rounds, in
// clips, times the root of 15 over a device's chats: what more chats have learned agrees
// more. Outside of what was measured nothing is said.
const (
	// halfLost is where half of what would be right without noise is lost, and steepness how
	// fast.
	halfLost  = 0.00127
	steepness = 1.9
	// lossOff is how far off a measured share is from the curve at the most, and lossOffPart
	// in parts of it.
	lossOff, lossOffPart = 0.07, 1. / 3
	// leastNoise and mostNoise are between which it was measured.
	leastNoise = 0.00023
	mostNoise  = 0.0024
	// measuredChats is what a device had in most of the simulations.
	measuredChats = 15
)

// lossAt is the share of the answers that would be right without noise which noise turns
// wrong.
func lossAt(noise float64) float64 {
	return 1 / (1 + math.Pow(halfLost/noise, steepness))
}

// loss fills in what a plan is expected to lose.
func (s privacySettings) loss(p *privacyPlan) {
	p.LossNoise = p.NoiseSigma / p.Clip / math.Sqrt(float64(p.Rounds)) * math.Sqrt(measuredChats/float64(s.chats))
	if p.LossUnknown = s.unlikeMeasured(p); p.LossUnknown == "" {
		loss := lossAt(p.LossNoise)
		p.Loss, p.LossOff = &loss, min(lossOff, lossOffPart*loss)
	}
}

// unlikeMeasured says what sets a plan apart from all that was measured; empty where nothing
// does.
func (s privacySettings) unlikeMeasured(p *privacyPlan) string {
	switch {
	case p.Central:
		return "noise by the coordinator, with which as much depends on the strategy"
	case s.model != "small":
		return fmt.Sprintf("model %s; small was measured", s.model)
	case s.clip != 1:
		return fmt.Sprintf("a clip of %v; 1 was measured", s.clip)
	case s.quantile > 0:
		return "a clip that moves; one that stays at 1 was measured"
	case p.Rounds < 20 || p.Rounds > 100:
		return fmt.Sprintf("%d rounds; 20 to 100 were measured", p.Rounds)
	case s.chats < 15 || s.chats > 150:
		return fmt.Sprintf("%d chats a device; 15 to 150 were measured", s.chats)
	case p.Parameters < 16_000:
		return fmt.Sprintf("%d numbers a device; 21,334 to 267,094 were measured, with --compression sketch:16 to none", p.Parameters)
	case p.LossNoise > mostNoise:
		return fmt.Sprintf("noise of %.2g; up to %v was measured, where three in four right answers are lost, and this is more", p.LossNoise, mostNoise)
	case p.LossNoise < leastNoise:
		return fmt.Sprintf("noise of %.2g; from %v on was measured, where one in twenty right answers is lost, and this is less", p.LossNoise, leastNoise)
	}
	return ""
}

// lossText is the expected loss in words.
func (p privacyPlan) lossText() string {
	if p.Loss == nil {
		return fmt.Sprintf("Expected loss of accuracy: not known for %s. \"discreet simulate\" measures it.", p.LossUnknown)
	}
	return fmt.Sprintf(`Expected loss of accuracy: of 100 answers that would be right without noise, %.0f. So it was, give or
take %.0f, in simulations of this much noise (CLINC150 with 150 intents dealt evenly, from nothing): other
data differ, and a warm start loses less. "discreet simulate" measures yours.`, 100**p.Loss, 100*p.LossOff)
}
