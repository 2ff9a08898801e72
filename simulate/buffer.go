package simulate

import (
	"context"
	"slices"

	"github.com/discreet-fl/discreet/coordinator"
	pb "github.com/discreet-fl/discreet/proto"
)

// Time is counted in what a device of the usual pace takes for a round; a slow one takes
// slowness times as long. Either takes half as long to half as long again, drawn anew for
// each round. A cohort takes as long as its slowest member.
const slowness = 10

// takes is how long the members of an attempt take together.
func (r *run) takes(plan *pb.Plan, members []member) (longest float64) {
	for _, m := range members {
		if m.vanish != Stays {
			continue
		}
		t := 0.5 + stream(r.Seed, "pace", plan.Round, uint64(plan.Attempt), uint64(m.device)).Float64()
		if stream(r.Seed, "slow", uint64(m.device)).Float64() < r.Slow {
			t *= slowness
		}
		longest = max(longest, t)
	}
	return longest
}

// flight is a cohort at work, with the sum that it will have.
type flight struct {
	part    coordinator.Part
	total   *total // nil where too few are left
	members []member
	base    uint64 // the round that made the checkpoint it trains
	ends    float64
}

// next makes one checkpoint from a buffer of cohorts' sums, as a coordinator does: cohorts
// begin as long as there are devices that are free and have not worked on the checkpoint,
// up to coordinator.Working of them at a time. Where too few devices are free the buffer makes the checkpoint with what it has.
func (r *run) next(ctx context.Context, number uint64) (*Round, error) {
	result := &Round{Round: int(number)}
	full, base := int(r.Buffer.Cohorts), number-1
	given := make(map[int]bool) // who has worked on the current checkpoint
	r.schedule.may = func(device int, _ uint64) bool { return !given[device] && !r.flies(device) }
	var landed []*flight
	working := coordinator.Working(r.Buffer)
	for attempt := uint32(1); len(landed) < full; {
		for len(r.flights) < working && attempt <= uint32(working*coordinator.MaxAttempts) {
			f, err := r.launch(ctx, number, attempt)
			if err != nil {
				return nil, err
			}
			if f == nil {
				break
			}
			for _, m := range f.members {
				given[m.device] = true
			}
			r.flights = append(r.flights, f)
			attempt++
			result.Attempts++
		}
		if len(r.flights) == 0 {
			break
		}
		f := slices.MinFunc(r.flights, func(a, b *flight) int {
			if a.ends < b.ends {
				return -1
			}
			return 1
		})
		r.flights = slices.DeleteFunc(r.flights, func(other *flight) bool { return other == f })
		r.clock = max(r.clock, f.ends)
		result.Cohorts++
		if f.total == nil || base-f.base > uint64(r.Buffer.Staleness) {
			result.CohortsLost++
			continue
		}
		f.part.Late = int(base - f.base)
		landed = append(landed, f)
	}
	result.Clock = r.clock
	return result, r.land(landed, result)
}

// flies tells whether a device is at work.
func (r *run) flies(device int) bool {
	return slices.ContainsFunc(r.flights, func(f *flight) bool {
		return slices.ContainsFunc(f.members, func(m member) bool { return m.device == device })
	})
}

// launch lets a cohort begin on the current checkpoint, nil where too few are free.
func (r *run) launch(ctx context.Context, number uint64, attempt uint32) (*flight, error) {
	clear(r.devices)
	members := r.schedule.members(number, attempt)
	if len(members) < r.PerRound {
		return nil, nil
	}
	plan, raw, err := r.plan(number, attempt)
	if err != nil {
		return nil, err
	}
	sum := r.plain
	if r.Secure {
		sum = r.secure
	}
	f := &flight{members: members, base: number - 1, ends: r.clock + r.takes(plan, members)}
	if f.total, err = sum(ctx, plan, raw, members); f.total != nil {
		f.part = coordinator.Part{Plan: plan, Total: f.total.sums, Survivors: f.total.survivors}
	}
	return f, err
}

// land makes a checkpoint of sums; none leave it as it is.
func (r *run) land(landed []*flight, result *Round) error {
	if len(landed) == 0 {
		return nil
	}
	var parts []coordinator.Part
	for _, f := range landed {
		parts = append(parts, f.part)
		result.Late = append(result.Late, f.part.Late)
		result.Participants += len(f.members)
		result.Survivors += f.total.survivors
		result.MasksExpanded += f.total.expansions
		result.BytesUp += f.total.bytesUp
		result.Drops.add(dropsOf(f.members))
	}
	r.bytesUp += result.BytesUp
	r.sent += int64(result.Survivors)
	next, state, err := coordinator.ApplyBuffer(r.spec, r.checkpoint, r.state, parts)
	if err != nil {
		return err
	}
	if plan, counts := coordinator.FreshCounts(parts); plan != nil {
		e, err := coordinator.Evaluate(r.checkpoint, plan, counts)
		if err != nil {
			return err
		}
		if e != nil {
			result.Evaluation = evaluationOf(e)
			r.standing = r.standing.After(e)
		}
	}
	r.standing.Calibrate(next, r.spec)
	r.checkpoint, r.state, r.encoded = next, state, next.Encode()
	return nil
}

// add adds another attempt's drops.
func (d *Drops) add(other Drops) {
	d.BeforeAdvertise += other.BeforeAdvertise
	d.AfterAdvertise += other.AfterAdvertise
	d.AfterShare += other.AfterShare
	d.AfterSubmit += other.AfterSubmit
	d.AfterConfirm += other.AfterConfirm
}
