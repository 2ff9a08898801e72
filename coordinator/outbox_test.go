package coordinator

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	pb "github.com/discreet-fl/discreet/proto"
)

// TestRepliesInFlightAreBounded closes Advertise for devices whose rosters together take
// more memory than there is: those who are answered make room for the others by their
// next call, or after a while.
func TestRepliesInFlightAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := spec(24, 3)
		s.Keys = pb.KeyExchange_KEY_EXCHANGE_HYBRID
		_, devices := fleet(t, 24, s, Options{MemoryBytes: 1 << 20})
		walks := gather(t, devices...)
		var answered atomic.Int64
		errs := make(chan error, 24)
		for _, k := range walks {
			go func() {
				err := k.advertise(t.Context())
				answered.Add(1)
				errs <- err
			}()
		}
		synctest.Wait()
		first := answered.Load()
		if first < 12 || first > 20 {
			t.Fatalf("%d of 24 rosters of %d bytes were sent at once, with room for 1 MiB", first, len(walks[0].roster))
		}
		next := 0
		for _, k := range walks {
			if k.shares != nil && next < 2 { // one that calls and one that leaves
				if next++; next == 1 {
					go func() { _, _ = k.rounds.Share(t.Context(), k.shares) }()
				} else {
					k.leave()
				}
				synctest.Wait()
				if got := answered.Load(); got != first+int64(next) {
					t.Errorf("%d devices have read their rosters and %d are answered, want %d", next, got, first+int64(next))
				}
			}
		}
		start := time.Now()
		for range 24 {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("the last roster was sent after %v, want at most a quarter of the deadline, 2s", took)
		}
	})
}
