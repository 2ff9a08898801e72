package coordinator

import (
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
		type answer struct {
			*walk
			err error
		}
		answers := make(chan answer, 24)
		for _, k := range walks {
			go func() { answers <- answer{k, k.advertise(t.Context())} }()
		}
		synctest.Wait()
		first := len(answers)
		if first < 12 || first > 20 {
			t.Fatalf("%d of 24 rosters were sent at once, with room for 1 MiB", first)
		}
		one, other := <-answers, <-answers
		if one.err != nil || other.err != nil {
			t.Fatal(one.err, other.err)
		}
		for i, goOn := range []func(){
			func() { go func() { _, _ = one.rounds.Share(t.Context(), one.shares) }() },
			other.leave,
		} {
			goOn()
			synctest.Wait()
			if got, want := 2+len(answers), first+i+1; got != want {
				t.Errorf("%d devices have read their rosters and %d are answered, want %d", i+1, got, want)
			}
		}
		start := time.Now()
		for range 22 {
			if a := <-answers; a.err != nil {
				t.Error(a.err)
			}
		}
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("the last roster was sent after %v, want at most a quarter of the deadline, 2s", took)
		}
	})
}
