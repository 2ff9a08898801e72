package client

import (
	"fmt"
	"math"

	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/secagg"
)

const (
	defaultCorrupt = 1000 // a tenth of a cohort
	mostTolerated  = 3333 // corrupt or vanishing members in 10,000, at most
)

// Bounds are the least that a device asks of a round, whatever its coordinator
// says. A zero field has its default.
type Bounds struct {
	// MinCohort is the fewest members of its cohort; 0 means 3, the least there is.
	MinCohort int
	// MinSurvivors is the fewest vectors in its cohort's sum; 0 means 3, the least
	// there is.
	MinSurvivors int
	// MinCorrupt is the share of its cohort's members, in 10,000, that may work for the
	// coordinator without learning anything, at most 3,333; 0 means 1,000, a tenth.
	MinCorrupt int
	// AllowClassical lets it take part with keys of X25519 alone. What it sends then
	// may be read by whoever records it and one day has a quantum computer.
	AllowClassical bool
	// MaxEpsilon is the most that a task's promise of differential privacy may let this
	// device give away, as ε; with it, sums without noise are refused, too. 0 takes part in
	// any.
	MaxEpsilon float64
	// TrustCoordinator lets it take part, with a bound of MaxEpsilon, where the coordinator
	// adds the noise: to sums that it sees first.
	TrustCoordinator bool
}

// filled returns the bounds with their defaults, or an error for bounds that protect
// nobody or that no plan can meet.
func (b Bounds) filled() (Bounds, error) {
	if !(b.MaxEpsilon >= 0) || math.IsInf(b.MaxEpsilon, 0) {
		return b, fmt.Errorf("a bound of ε %v, want a positive number, or 0 for none", b.MaxEpsilon)
	}
	for _, field := range []struct {
		value          *int
		preset         int
		least, most    int
		what, whyLeast string
	}{
		{&b.MinCohort, secagg.MinCohort, secagg.MinCohort, secagg.MaxCohort, "minimum of %d members of a cohort", ": among fewer, each could read the others' updates"},
		{&b.MinSurvivors, secagg.MinCohort, secagg.MinCohort, secagg.MaxCohort, "minimum of %d survivors", ": from a sum over fewer, each could read the others' updates"},
		{&b.MinCorrupt, defaultCorrupt, 1, mostTolerated, "minimum of %d corrupt members in 10,000", ""},
	} {
		if *field.value == 0 {
			*field.value = field.preset
		}
		if *field.value < field.least || *field.value > field.most {
			return b, fmt.Errorf("a "+field.what+", want %d to %d%s", *field.value, field.least, field.most, field.whyLeast)
		}
	}
	return b, nil
}

// check refuses rounds that protect their devices less than these bounds ask for. The
// bounds are filled. It is asked of a task before checking in, and of every plan.
func (b Bounds) check(s *pb.SecureAggregation) error {
	cohort, least := int64(s.GetCohort()), int64(s.GetMinSurvivors())
	switch {
	case least < int64(b.MinSurvivors):
		return fmt.Errorf("the task's minimum of survivors is %d, this device's own is %d; create the task with a higher one or lower the device's", least, b.MinSurvivors)
	case cohort > secagg.MaxCohort:
		return fmt.Errorf("a cohort of up to %d devices, want at most %d", cohort, secagg.MaxCohort)
	case cohort < least:
		return fmt.Errorf("a cohort of up to %d devices cannot have the %d survivors it needs", cohort, least)
	case cohort < int64(b.MinCohort):
		return fmt.Errorf("the task's cohorts have at most %d devices, this device's own minimum is %d; create the task with larger ones or lower the device's", cohort, b.MinCohort)
	case s.GetCorrupt() > mostTolerated || s.GetDropout() > mostTolerated:
		return fmt.Errorf("%d corrupt and %d vanishing members in 10,000, want at most %d of each", s.GetCorrupt(), s.GetDropout(), mostTolerated)
	case int64(s.GetCorrupt()) < int64(b.MinCorrupt):
		return fmt.Errorf("the task withstands %d corrupt members in 10,000, this device's own minimum is %d; create the task for more or lower the device's", s.GetCorrupt(), b.MinCorrupt)
	case s.GetKeys() == pb.KeyExchange_KEY_EXCHANGE_CLASSICAL && !b.AllowClassical:
		return fmt.Errorf("its keys are classical, which this device does not allow: recorded messages would fall to a quantum computer; create the task with hybrid keys or allow classical ones on the device")
	case s.GetKeys() != pb.KeyExchange_KEY_EXCHANGE_CLASSICAL && s.GetKeys() != pb.KeyExchange_KEY_EXCHANGE_HYBRID:
		return fmt.Errorf("key exchange %d is not known, want hybrid or classical; upgrade this device", s.GetKeys())
	}
	return nil
}

// keyExchange is a plan's key exchange; the plan has passed check.
func keyExchange(plan *pb.Plan) secagg.KeyExchange {
	if plan.GetSecureAggregation().GetKeys() == pb.KeyExchange_KEY_EXCHANGE_CLASSICAL {
		return secagg.Classical
	}
	return secagg.Hybrid
}
