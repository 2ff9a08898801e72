package simulate

import (
	"slices"
	"testing"

	pb "github.com/discreet-fl/discreet/proto"
)

// TestBufferHoldsNobodyUp has a quarter of the devices ten times slower. With a buffer the
// same checkpoints come in less time, some sums are late, and masks change nothing.
func TestBufferHoldsNobodyUp(t *testing.T) {
	if slow {
		t.Skip("left out with the race detector: much arithmetic, in eight rounds")
	}
	const cohorts, rounds = 2, 8
	digests := make(map[bool]string)
	var clock float64
	for _, secure := range []bool{true, false} {
		c := shop(t, 14, 3, rounds, 0.05, secure)
		c.Keys = pb.KeyExchange_KEY_EXCHANGE_CLASSICAL
		c.Buffer, c.Slow, c.HeldBack = &pb.Buffer{Cohorts: cohorts, Staleness: 10}, 0.25, 0.2
		digest, list := digestOf(t, c, nil)
		digests[secure] = digest
		var late []int
		for i, r := range list {
			late = append(late, r.Late...)
			if len(r.Late) > cohorts || r.Survivors == 0 || i > 0 && r.Clock < list[i-1].Clock {
				t.Errorf("seed %d: round %+v", seed, r)
			}
		}
		if slices.Max(late) == 0 {
			t.Errorf("seed %d: no sum was late", seed)
		}
		clock = list[rounds-1].Clock
	}
	if digests[true] != digests[false] {
		t.Errorf("seed %d: digest %s under masks, %s in clear", seed, digests[true], digests[false])
	}
	one := shop(t, 14, 3*cohorts, rounds, 0.05, false)
	one.Slow = 0.25
	if _, list := digestOf(t, one, nil); list[rounds-1].Clock < 2*clock {
		t.Errorf("seed %d: %d rounds one after another took %v, with a buffer %v", seed, rounds, list[rounds-1].Clock, clock)
	}
	few := shop(t, 4, 3, 2, 0, false) // the buffer never fills
	few.Buffer = &pb.Buffer{Cohorts: cohorts}
	if _, list := digestOf(t, few, nil); list[0].Survivors != 3 || list[1].Survivors != 3 {
		t.Errorf("seed %d: with few devices %+v", seed, list)
	}
}
