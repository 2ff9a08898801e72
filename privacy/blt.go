package privacy

import (
	"fmt"
	"math"
)

// BLT is noise that is correlated over rounds, for a coordinator that adds it itself: a
// buffered linear Toeplitz mechanism (Dvijotham et al. 2024, "Efficient and near-optimal
// noise generation for streaming differential privacy"; McMahan et al. 2024, "A hassle-free
// algorithm for private learning in practice: don't use tree aggregation, use BLTs"). Its
// matrix C has on and below its diagonal the coefficients
//
//	1, Σ_i Scale_i, Σ_i Scale_i·Decay_i, Σ_i Scale_i·Decay_i², …
//
// and the noise of the rounds is C⁻¹z for independent z, so that later rounds take back
// part of the noise of earlier ones: sums over many rounds, such as a model is, have less
// of it. What is protected is Cx for the sums x, whose sensitivity is [BLT.Sensitivity].
// The zero value is independent noise.
type BLT struct {
	Scale, Decay []float64 // of each buffer; as many of one as of the other
}

// Check returns an error unless the coefficients do not increase and are not negative:
// decays from 0 to below 1, scales from 0 on, of a sum of at most 1.
func (m BLT) Check() error {
	if len(m.Scale) != len(m.Decay) {
		return fmt.Errorf("privacy: %d scales for %d decays, want one each", len(m.Scale), len(m.Decay))
	}
	sum := 0.0
	for i, scale := range m.Scale {
		sum += scale
		if !(m.Decay[i] >= 0 && m.Decay[i] < 1) || !(scale >= 0) || !(sum <= 1) {
			return fmt.Errorf("privacy: scales %v and decays %v, want decays from 0 to below 1, and scales from 0 on with a sum of at most 1", m.Scale, m.Decay)
		}
	}
	return nil
}

// Coefficients are the first column of C over so many rounds.
func (m BLT) Coefficients(rounds int) []float64 {
	c := make([]float64, max(rounds, 0))
	for i, scale := range m.Scale {
		for t := 1; t < len(c); t++ {
			c[t] += scale
			scale *= m.Decay[i]
		}
	}
	if len(c) > 0 {
		c[0] = 1
	}
	return c
}

// Sensitivity is [ParticipationSensitivity] of the mechanism.
func (m BLT) Sensitivity(rounds, separation, participations int) float64 {
	if m.Check() != nil {
		return math.Inf(1)
	}
	return ParticipationSensitivity(m.Coefficients(rounds), separation, participations)
}

// Spread is the standard deviation of the noise in the sum of all rounds, where that of
// the independent z is 1; sums of fewer rounds have less.
func (m BLT) Spread(rounds int) float64 {
	buffers := make([]float64, len(m.Scale))
	squared, sum := 0.0, 0.0 // sum is a coefficient of the matrix of all ones below the diagonal, times C⁻¹
	for t := range rounds {
		n := 0.0 // a coefficient of C⁻¹
		if t == 0 {
			n = 1
		}
		for i, b := range buffers {
			n -= m.Scale[i] * b
		}
		for i, b := range buffers {
			buffers[i] = m.Decay[i]*b + n
		}
		sum += n
		squared += sum * sum
	}
	return math.Sqrt(squared)
}

// Noise is the standard deviation of the noise in the sum of all rounds at ρ of ½, in
// terms of what one device can change one round's sum by: Sensitivity times Spread.
// Independent noise has √participations·√rounds.
func (m BLT) Noise(rounds, separation, participations int) float64 {
	return m.Sensitivity(rounds, separation, participations) * m.Spread(rounds)
}

// CorrelatedRho is ρ of all rounds of a mechanism of that sensitivity in which the noise
// z is discrete Gaussian of standard deviation sigma, and everything is whole: each
// device's vectors of dimension d, of an L2 norm of at most norm, and what is taken back
// of earlier rounds' noise, which is rounded. All lengths are in units of the noise.
//
//	(norm·sensitivity + 1.25·√(d·rounds))²/(2·sigma²)
//
// For take two neighbours with the same outcomes. The noises z that lead there differ, in
// round t, by row t of C times the difference of their sums, and by what rounding adds,
// which is at most 1.25 in every coordinate: for each of the two a half where it is made
// whole, and an eighth before (aggregation.Correlated sees to it); both are whole, so that the discrete Gaussian costs no more than the squared difference
// over 2·sigma² in each coordinate (Canonne, Kamath, Steinke 2020, Theorem 4). The squares
// add up to the above whatever the devices' vectors depend on, and ρ with them (Feldman,
// Zrnic 2021, "Individual privacy accounting via a Rényi filter").
func CorrelatedRho(norm, sensitivity, sigma float64, rounds, d int) float64 {
	if rounds < 0 || d < 0 || sigma < MinLocalSigma {
		return math.Inf(1)
	}
	return GaussianRho(norm*sensitivity+1.25*math.Sqrt(float64(d)*float64(rounds)), sigma)
}

// VectorRho is what a device is charged for each of its vectors, all of that norm and
// dimension, in a schedule of rounds: the most, over every number of participations up to
// the largest, of their [CorrelatedRho] divided by their number. So after each of them
// the sum of the charges is no less than what was given away.
func (m BLT) VectorRho(norm, sigma float64, d, rounds, separation, participations int) float64 {
	if rounds < 1 || separation < 1 || participations < 1 || m.Check() != nil {
		return math.Inf(1)
	}
	// The sums of Sensitivity's rows, and their squares, go on from one j to the next.
	c, sums := m.Coefficients(rounds), make([]float64, rounds)
	worst, squared := 0.0, 0.0
	for j := 1; j <= min(participations, (rounds-1)/separation+1); j++ {
		rows := sums[(j-1)*separation:]
		for t := range rows {
			squared += c[t] * (2*rows[t] + c[t])
			rows[t] += c[t]
		}
		worst = max(worst, CorrelatedRho(norm, math.Sqrt(squared), sigma, rounds, d)/float64(j))
	}
	return worst
}
