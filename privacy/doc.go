// Package privacy counts what devices give away: it is the accountant of differential
// privacy, in formulas alone. It draws no noise, keeps no file and reads no clock.
//
// The unit of every ledger is ρ of zero-concentrated differential privacy (Bun, Steinke
// 2016, "Concentrated differential privacy", Definition 1.1), which adds up: a device
// that takes part in several rounds has given away the sum of their ρ. Begin with
// [Charge], the ledger's number, with [SummedRho], what a round costs, and with
// [Epsilon], what a sum of ρ means as (ε, δ). Two data sets are neighbours where one has
// all zeros in place of one device's whole contribution.
//
// The rest is for comparisons and for other mechanisms: the exact privacy of a Gaussian
// ([GaussianDelta], [GaussianEpsilon]), Rényi differential privacy by order
// ([SampledGaussianRDP]) and its conversion ([RDPEpsilon]), and noise that
// is correlated over rounds ([ParticipationSensitivity]).
//
// No function fails: what makes no sense (a number that is not one, noise or δ that is
// not positive, a sensitivity below 0) costs infinitely much, so that a mistake never
// passes for privacy. [Vectors] recomputes published values.
package privacy
