package simulate

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"slices"

	"github.com/discreet-fl/discreet/coordinator"
	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/secagg"
)

// cohort is one cohort of an attempt, as the coordinator forms it, and what the
// protocol asks of it.
type cohort struct {
	members   []member // who advertised, in the order of the circle
	degree    int      // neighbours of each, half of them on either side; 0 on the complete graph
	threshold int      // shares that give a secret back
	quorum    int      // signatures
	needed    int      // fewest who must share, and fewest who must submit
}

// newCohort is what the protocol makes of a roster without a sparse graph.
func newCohort(members []member, minSurvivors, corrupt int) *cohort {
	n := len(members)
	c := &cohort{members: members, threshold: secagg.Threshold(n), quorum: secagg.Quorum(n, corrupt)}
	c.needed = max(minSurvivors, c.quorum, c.threshold)
	return c
}

// with marks who does not vanish before a place is past.
func (c *cohort) with(last Vanish) []bool {
	out := make([]bool, len(c.members))
	for i, m := range c.members {
		out[i] = m.vanish == Stays || m.vanish > last
	}
	return out
}

// holders is how many of some members hold a share of a member's secrets. On the
// complete graph a member is among its own.
func (c *cohort) holders(of int, among []bool) int {
	if c.degree == 0 {
		return count(among)
	}
	n, half := 0, c.degree/2
	for d := 1; d <= half; d++ {
		for _, i := range []int{of + d, of - d} {
			if among[(i+len(among))%len(among)] {
				n++
			}
		}
	}
	return n
}

// joined tells whether some members hang together: any two runs of half a
// neighbourhood, with others on either side, hold as many of them as the threshold.
func (c *cohort) joined(are []bool) bool {
	n, half := len(are), c.degree/2
	run := func(from int) (sum int) {
		for d := range half {
			if are[(from+d)%n] {
				sum++
			}
		}
		return sum
	}
	for p := range n {
		for q := p + half + 1; c.degree > 0 && q < min(n, p+n-half); q++ {
			if run(p)+run(q) < c.threshold {
				return false
			}
		}
	}
	return true
}

// survivors tells, by the protocol's rules alone, whose vectors are in a cohort's sum;
// nil when the cohort is lost. That too few share, or that too few shares reach a member,
// needs no rule of its own: too few submit then, or they do not hang together.
func (c *cohort) survivors() []member {
	sharers, submit, confirm, reveal := c.with(AfterAdvertise), c.with(AfterShare), c.with(AfterSubmit), c.with(AfterConfirm)
	if count(submit) < c.needed || !c.joined(submit) || count(confirm) < c.quorum {
		return nil
	}
	var in []member
	for i, m := range c.members {
		if submit[i] {
			in = append(in, m)
		}
		// A survivor's own mask comes off by shares that are revealed. A mask with a member
		// that vanished comes off by its key, from such shares, or by the seeds that all its
		// neighbours in the sum reveal, which are no fewer than the threshold.
		if sharers[i] && c.holders(i, reveal) < c.threshold {
			return nil
		}
	}
	return in
}

func count(of []bool) (n int) {
	for _, is := range of {
		if is {
			n++
		}
	}
	return n
}

// outcome tells who is in each of an attempt's sums, by the schedule and the
// protocol's rules; nil where the attempt is aborted.
func (r *run) outcome(plan *pb.Plan, raw []byte, members []member) ([][]member, error) {
	all := secagg.Cohorts(len(members), int(plan.SecureAggregation.Cohort))
	if here := len(members) - dropsOf(members).BeforeAdvertise; here < r.MinSurvivors || all == 1 && 2*here <= len(members) {
		return nil, nil
	}
	cohorts, err := r.cohorts(plan, raw, members)
	if errors.Is(err, secagg.ErrTooFew) { // for every cohort
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var sums [][]member
	for _, c := range cohorts {
		if in := c.survivors(); in != nil {
			sums = append(sums, in)
		}
	}
	if lost := all - len(sums); 2*lost > all {
		return nil, nil
	}
	return sums, nil
}

// cohorts are the rosters of those who advertise. Who comes into which, and who is
// whose neighbour on a sparse graph, is drawn from the members' identities and nonces;
// where that matters they advertise to a coordinator that does nothing else.
func (r *run) cohorts(plan *pb.Plan, raw []byte, members []member) ([]*cohort, error) {
	corrupt := int(plan.SecureAggregation.Corrupt)
	present := slices.DeleteFunc(slices.Clone(members), func(m member) bool { return m.vanish == BeforeAdvertise })
	if len(members) <= int(plan.SecureAggregation.Cohort) && len(present) <= secagg.CompleteGraph {
		return []*cohort{newCohort(present, r.MinSurvivors, corrupt)}, nil
	}
	rosters, byID, err := r.advertise(plan, raw, members)
	if err != nil {
		return nil, err
	}
	var out []*cohort
	for _, roster := range rosters {
		order, k := roster.Circle()
		var in []member
		for _, id := range order {
			in = append(in, byID[id])
		}
		c := newCohort(in, r.MinSurvivors, corrupt)
		if c.threshold, c.needed = roster.Threshold(), roster.Needed(); k < len(in)-1 {
			c.degree = k
		}
		out = append(out, c)
	}
	return out, nil
}

// advertise makes the rosters of an attempt.
func (r *run) advertise(plan *pb.Plan, raw []byte, members []member) ([]*secagg.Shares, map[secagg.ID]member, error) {
	in, err := r.checkIn(plan, members)
	if err != nil {
		return nil, nil, err
	}
	params := coordinator.RoundConfig(plan, raw, r.ca.Public().(ed25519.PublicKey), in.commitments, 0).Params
	params.Rolls = secagg.SignRolls(r.ca)
	adverts, err := secagg.NewServer(params, in.commitments)
	if err != nil {
		return nil, nil, err
	}
	byID := make(map[secagg.ID]member)
	for i, m := range members {
		id := in.ids[i]
		byID[id] = m
		if m.vanish == BeforeAdvertise {
			continue
		}
		committed, err := adverts.Committed(id)
		if err != nil {
			return nil, nil, err
		}
		advertised, advert, err := in.nonces[i].Advertise(params, r.device(m.device).signer, committed, rand.Reader)
		if err != nil {
			return nil, nil, err
		}
		advertised.Wipe()
		if err := adverts.Add(id, advert); err != nil {
			return nil, nil, err
		}
	}
	rosters, err := adverts.Close()
	return rosters, byID, err
}
