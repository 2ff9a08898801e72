package simulate

import (
	"crypto/ed25519"
	"crypto/rand"
	"slices"

	"github.com/discreet-fl/discreet/coordinator"
	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/secagg"
)

// cohort is one cohort of an attempt, as the coordinator forms it, and what the
// protocol asks of it.
type cohort struct {
	members    []member // who advertised
	neighbours [][]int  // by place in members; nil on the complete graph
	threshold  int      // shares that give a secret back
	quorum     int      // signatures
	needed     int      // fewest who must share, and fewest who must submit
}

// newCohort is what the protocol makes of a roster without a sparse graph.
func newCohort(members []member, minSurvivors, corrupt int) *cohort {
	n := len(members)
	c := &cohort{members: members, threshold: secagg.Threshold(n), quorum: secagg.Quorum(n, corrupt)}
	c.needed = max(minSurvivors, c.quorum, c.threshold)
	return c
}

// holders is how many of some members, by place, hold a share of a member's secrets.
// On the complete graph a member is among its own.
func (c *cohort) holders(of int, among []bool) (n int) {
	if c.neighbours == nil {
		return count(among)
	}
	for _, i := range c.neighbours[of] {
		if among[i] {
			n++
		}
	}
	return n
}

// with marks who does not vanish before a place is past.
func (c *cohort) with(last Vanish, before []bool) []bool {
	out := make([]bool, len(c.members))
	for i, m := range c.members {
		out[i] = (before == nil || before[i]) && (m.vanish == Stays || m.vanish > last)
	}
	return out
}

// survivors tells, by the protocol's rules alone, whose vectors are in a cohort's sum;
// nil when the cohort is lost.
func (c *cohort) survivors() []member {
	sharers := c.with(AfterAdvertise, nil)
	submit := c.with(AfterShare, sharers)
	for i := range submit {
		// Whom too few shares reach does not go on.
		submit[i] = submit[i] && c.holders(i, sharers) >= c.threshold
	}
	if count(submit) < c.needed {
		return nil
	}
	confirm := c.with(AfterSubmit, submit)
	if count(confirm) < c.quorum {
		return nil
	}
	reveal := c.with(AfterConfirm, confirm)
	var in []member
	for i, m := range c.members {
		if submit[i] {
			in = append(in, m)
		}
		// A survivor's own mask comes off by shares that are revealed. A mask with a
		// member that vanished comes off by the seeds that its neighbours reveal, or by
		// its own key.
		if sharers[i] && c.holders(i, reveal) < c.threshold && (submit[i] || c.holders(i, reveal) < c.holders(i, submit)) {
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
	if len(members)-dropsOf(members).BeforeAdvertise < r.MinSurvivors {
		return nil, nil
	}
	cohorts, err := r.cohorts(plan, raw, members)
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
		ids, place := roster.Members(), make(map[secagg.ID]int)
		var in []member
		for i, id := range ids {
			place[id] = i
			in = append(in, byID[id])
		}
		c := newCohort(in, r.MinSurvivors, corrupt)
		c.threshold, c.needed = roster.Threshold(), roster.Needed()
		if len(roster.Neighbours(ids[0])) < len(ids)-1 {
			for _, id := range ids {
				var own []int
				for _, neighbour := range roster.Neighbours(id) {
					own = append(own, place[neighbour])
				}
				c.neighbours = append(c.neighbours, own)
			}
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
		advertised, advert, err := in.nonces[i].Advertise(params, r.devices[m.device].signer, committed, rand.Reader)
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
