package coordinator

import (
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/stats"

	"github.com/discreet-fl/discreet/coordinator/round"
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

// TestReplyMemoryServesAgain sends responses as gRPC does: what a roster or an inbox took serves
// the next ones, and what is kept for other members stays as it is.
func TestReplyMemoryServesAgain(t *testing.T) {
	c := connections{new(Coordinator)}
	c.metrics = newMetrics(c.Coordinator)
	quorum, receipt := &pb.ConfirmResponse{Quorum: []byte("quorum")}, &pb.SubmitResponse{Survivors: []byte("survivors")}
	for _, kept := range []any{quorum, receipt} {
		c.HandleRPC(t.Context(), &stats.OutPayload{Payload: kept})
	}
	if got := c.replies.take(round.Share); got != nil || string(quorum.Quorum) != "quorum" || string(receipt.Survivors) != "survivors" {
		t.Errorf("memory %q, %v and %v after replies that are kept", got, quorum, receipt)
	}
	for _, m := range []any{&pb.AdvertiseResponse{Roster: []byte("roster")}, &pb.ShareResponse{Inbox: []byte("inbox")}} {
		// The pool may lose what it is given, under the race detector on purpose.
		var got []byte
		for i := 0; i < 100 && got == nil; i++ {
			switch m := m.(type) {
			case *pb.AdvertiseResponse:
				m.Roster = []byte("roster")
			case *pb.ShareResponse:
				m.Inbox = []byte("inbox")
			}
			c.HandleRPC(t.Context(), &stats.OutPayload{Payload: m})
			if a, ok := m.(*pb.AdvertiseResponse); ok && a.Roster != nil {
				t.Fatal("the response still has what serves others now")
			}
			if late := c.replies.take(round.Confirm); late != nil {
				t.Fatal("memory for a reply that is kept")
			}
			got = c.replies.take(round.Advertise)
		}
		if cap(got) < len("inbox") {
			t.Errorf("%T: memory of %d bytes comes back", m, cap(got))
		}
	}
}
