package simulate

import (
	"context"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/discreet-fl/discreet/aggregation"
	"github.com/discreet-fl/discreet/coordinator"
	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/secagg"
)

// plain sums the survivors' vectors in clear, by the same schedule, cohorts, codec and
// retry rule as secure. It returns nil when too few are left.
func (r *run) plain(ctx context.Context, plan *pb.Plan, raw []byte, members []member) (*total, error) {
	cohorts, err := r.outcome(plan, raw, members)
	if cohorts == nil || err != nil {
		return nil, err
	}
	t := &total{sums: r.Strategy.Sums(int(plan.SecureAggregation.Length))}
	bits := int(plan.Codec.RingBits)
	for _, in := range cohorts {
		sum, err := r.clear(ctx, plan, in)
		if err != nil {
			return nil, err
		}
		t.sums.Add(sum, coordinator.LayoutOf(plan, r.layout).Signed(), bits)
		t.cohorts, t.survivors = t.cohorts+1, t.survivors+len(in)
	}
	t.bytesUp = int64(t.survivors) * int64(aggregation.PackedSize(int(plan.SecureAggregation.Length), bits))
	return t, r.step(plan, t)
}

// clear is the sum of a cohort's vectors.
func (r *run) clear(ctx context.Context, plan *pb.Plan, survivors []member) ([]uint32, error) {
	var mu sync.Mutex
	sum := make([]uint32, plan.SecureAggregation.Length)
	l := coordinator.LayoutOf(plan, r.layout)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(cap(r.working))
	for _, m := range survivors {
		d := r.device(m.device)
		group.Go(func() error {
			p := r.participant(ctx, d)
			vector, err := p.Update(plan, r.checkpoint)
			if err != nil {
				return err
			}
			// Under masks noise comes off again that is not even added here.
			seeds := secagg.LevelSeeds(p.Seed(plan, "levels"), len(l.Noise.Levels))
			if err := l.AddLevels(vector, seeds, l.Noise.Reached(len(survivors))); err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			for i, w := range vector {
				sum[i] += w
			}
			return nil
		})
	}
	return sum, group.Wait()
}
