package simulate

import (
	"context"

	"golang.org/x/sync/errgroup"

	"github.com/discreet-fl/discreet/aggregation"
	pb "github.com/discreet-fl/discreet/proto"
)

// plain sums the survivors' vectors in clear, by the same schedule, codec and
// retry rule as secure. It returns nil when too few are left.
func (r *run) plain(ctx context.Context, plan *pb.Plan, _ []byte, members []member) (*total, error) {
	if !survives(members, r.MinSurvivors) {
		return nil, nil
	}
	var survivors []*device
	for _, m := range members {
		if m.vanish == Stays || m.vanish == AfterSubmit {
			survivors = append(survivors, r.devices[m.device])
		}
	}
	vectors := make([][]uint32, len(survivors))
	group, ctx := errgroup.WithContext(ctx)
	for i, d := range survivors {
		group.Go(func() error {
			var err error
			vectors[i], err = r.participant(ctx, d).Update(plan, r.checkpoint)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	words := make([]uint32, plan.SecureAggregation.Length)
	for _, vector := range vectors {
		for i, w := range vector {
			words[i] += w
		}
	}
	packed := aggregation.PackedSize(len(words), int(plan.Codec.RingBits))
	t := &total{words: words, survivors: len(survivors), bytesUp: int64(len(survivors)) * int64(packed)}
	return t, r.step(plan, t)
}
