package coordinator

import (
	"bytes"
	"context"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/discreet-fl/discreet/proto"
)

// fleet is a world with devices and the task "desk".
func fleet(t *testing.T, n int, s *pb.TaskSpec, o Options) (*world, []*device) {
	t.Helper()
	w := newWorld(t, t.TempDir(), o)
	w.create(t, s)
	devices := make([]*device, n)
	for i := range devices {
		devices[i] = w.join(t)
	}
	return w, devices
}

// wants fails the test unless err has the code and its text the words.
func wants(t *testing.T, what string, err error, code codes.Code, words ...string) {
	t.Helper()
	if status.Code(err) != code {
		t.Errorf("%s: %v, want code %v", what, err, code)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%s: %v, want a text with %q", what, err, w)
		}
	}
}

func TestRoundsMoveTheModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, devices := fleet(t, 3, spec(3, 3), Options{})
		devices[1].value, devices[1].weight = -0.5, 16
		devices[2].value, devices[2].weight = 1, 0 // has no examples
		before := devices[0].checkpointOf(w.task("desk").view.Load().sum[:])
		var sum []byte
		for range 2 { // the momentum survives a restart in between
			w.shut()
			w = newWorld(t, w.dir, Options{})
			for _, d := range devices {
				d.connect(w)
			}
			walks := gather(t, devices...)
			each(t, 3, func(i int) error { return walks[i].steps(t.Context(), 4) })
			sum = walks[2].receipt.GetCheckpointSha256()
		}
		after := devices[0].checkpointOf(sum)
		// The mean is (8·0.25 − 16·0.5)/24 = −0.25, twice.
		s := Strategy(3)
		want := -0.25 * float64(s.Rate*(1+(1+s.Momentum)))
		for i, p := range after.Params {
			if moved := float64(p - before.Params[i]); math.Abs(moved-want) > 2e-3 {
				t.Fatalf("parameter %d moved by %v, want %v", i, moved, want)
			}
		}
		if after.Manifest.Round != 2 || after.Manifest.Task != "desk" || len(after.Manifest.Labels) != 2 {
			t.Errorf("manifest %+v", after.Manifest)
		}
		d, err := w.store.Device(t.Context(), devices[0].id)
		if err != nil || d.Rounds != 2 {
			t.Errorf("the device took part in %d rounds, %v; want 2", d.Rounds, err)
		}
		attempts, err := w.store.Attempts(t.Context(), "desk", 10)
		if err != nil || len(attempts) != 2 || attempts[0].Survivors != 3 || attempts[0].Roster != 3 || !bytes.Equal(attempts[0].Checkpoint[:], sum) {
			t.Errorf("records %+v, %v", attempts, err)
		}
	})
}

func TestDevicesVanishInEveryStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const grace = 2 * time.Second
		w, devices := fleet(t, 10, spec(10, 3), Options{Grace: grace})
		walks := gather(t, devices...)
		start := time.Now()
		each(t, 10, func(i int) error {
			if i >= 4 {
				return walks[i].steps(t.Context(), 4)
			}
			// Device i leaves before step i; the others of its step wait for the grace.
			if err := walks[i].steps(t.Context(), i); err != nil {
				return err
			}
			devices[i].leave()
			return nil
		})
		if took := time.Since(start); took != 4*grace {
			t.Errorf("the round took %v, want four times the grace, %v", took, 4*grace)
		}
		attempts, err := w.store.Attempts(t.Context(), "desk", 1)
		if err != nil || len(attempts) != 1 || attempts[0].Cohort != 10 || attempts[0].Roster != 9 || attempts[0].Survivors != 7 {
			t.Errorf("records %+v, %v; want 10, 9 and 7 devices", attempts, err)
		}
	})
}

func TestSilentDevicesCostTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, devices := fleet(t, 5, spec(5, 3), Options{})
		walks := gather(t, devices...)
		start := time.Now()
		each(t, 4, func(i int) error { return walks[i].steps(t.Context(), 1) })
		if took := time.Since(start); took != 32*time.Second {
			t.Errorf("advertise closed after %v, want four deadlines of 8 s", took)
		}
		err := walks[4].steps(t.Context(), 1)
		wants(t, "the late one", err, codes.FailedPrecondition, "has closed", "next attempt")
		start = time.Now()
		each(t, 4, func(i int) error {
			if i == 3 {
				return nil
			}
			return walks[i].share(t.Context())
		})
		if took := time.Since(start); took != 8*time.Second {
			t.Errorf("share closed after %v, want 8s", took)
		}
	})
}

func TestTooFewDevicesAbortAndTheRoundIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, devices := fleet(t, 3, spec(3, 3), Options{Grace: time.Second})
		for attempt := uint32(1); attempt <= MaxAttempts; attempt++ {
			walks := gather(t, devices...)
			if at := walks[0].at; at.GetRound() != 1 || at.GetAttempt() != attempt {
				t.Fatalf("round %d attempt %d, want round 1 attempt %d", at.GetRound(), at.GetAttempt(), attempt)
			}
			each(t, 3, func(i int) error {
				if i == 2 {
					devices[2].leave()
					return nil
				}
				err := walks[i].advertise(t.Context())
				wants(t, "held advert", err, codes.Aborted, "2 devices left, 3 are the minimum of this task")
				return nil
			})
			_, err := devices[0].rounds.Advertise(t.Context(), walks[0].advert)
			wants(t, "a call just after", err, codes.Aborted, "2 devices left")
			devices[2].connect(w)
		}
		walks := gather(t, devices...)
		if at := walks[0].at; at.GetRound() != 2 || at.GetAttempt() != 1 {
			t.Errorf("round %d attempt %d, want the next round", at.GetRound(), at.GetAttempt())
		}
		if w.log.count("attempt aborted") != 3 || w.log.count("round left") != 1 {
			t.Errorf("%d aborted, %d left; want 3 and 1", w.log.count("attempt aborted"), w.log.count("round left"))
		}
	})
}

// A survivor that was told to reveal joins no other attempt of the round, so there
// must be none.
func TestRoundLostInRevealIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, devices := fleet(t, 3, spec(3, 3), Options{Grace: time.Second})
		walks := gather(t, devices...)
		each(t, 3, func(i int) error { return walks[i].steps(t.Context(), 3) })
		each(t, 3, func(i int) error {
			if i > 0 {
				devices[i].leave()
				return nil
			}
			err := walks[i].finish(t.Context())
			wants(t, "held reveal", err, codes.Aborted, "1 device left, 2 of the 3")
			return nil
		})
		devices[1].connect(w)
		devices[2].connect(w)
		if at := gather(t, devices...)[0].at; at.GetRound() != 2 || at.GetAttempt() != 1 {
			t.Errorf("round %d attempt %d, want round 2", at.GetRound(), at.GetAttempt())
		}
	})
}

func TestReconnectionInsideARound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, devices := fleet(t, 3, spec(3, 3), Options{Grace: 5 * time.Second})
		walks := gather(t, devices...)
		each(t, 3, func(i int) error {
			k := walks[i]
			if i > 0 {
				return k.steps(t.Context(), 4)
			}
			if err := k.advertise(t.Context()); err != nil {
				return err
			}
			// The reply is lost with the connection; the same bytes bring it again.
			devices[0].leave()
			<-time.After(4 * time.Second)
			devices[0].connect(w)
			again, err := devices[0].rounds.Advertise(t.Context(), k.advert)
			if err != nil || len(again.GetRoster()) == 0 {
				t.Errorf("the repeated advert: %d bytes, %v", len(again.GetRoster()), err)
			}
			if err := k.share(t.Context()); err != nil {
				return err
			}
			if err := k.submit(t.Context()); err != nil {
				return err
			}
			for _, c := range []int{0, len(k.chunks) - 1} {
				if _, err := devices[0].rounds.Submit(t.Context(), k.chunks[c]); err != nil {
					t.Errorf("chunk %d repeated after the step closed: %v", c, err)
				}
			}
			return k.finish(t.Context())
		})
		// The receipt comes again, too: now, and from a coordinator that was started anew.
		w.shut()
		w = newWorld(t, w.dir, Options{})
		devices[0].connect(w)
		receipt, err := devices[0].rounds.Reveal(t.Context(), walks[0].reveal)
		if err != nil || !bytes.Equal(receipt.GetCheckpointSha256(), walks[0].receipt.GetCheckpointSha256()) || receipt.GetCheckpointBytes() == 0 {
			t.Errorf("receipt after the restart: %v, %v", receipt, err)
		}
		_, err = devices[0].rounds.Share(t.Context(), walks[0].shares)
		wants(t, "share of an attempt that is over", err, codes.FailedPrecondition, "is not running", "check in again")
	})
}

func TestLiesCostTheirSenderOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, devices := fleet(t, 4, spec(4, 3), Options{Grace: time.Second})
		outsider := w.join(t)
		walks := gather(t, devices...)
		liar := walks[3]
		call := func(k *walk, f func(context.Context) error) error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			return f(ctx)
		}
		forged := func(at *pb.RoundStep, advert string) func(context.Context) error {
			return func(ctx context.Context) error {
				_, err := liar.rounds.Advertise(ctx, &pb.AdvertiseRequest{Step: at, Advert: []byte(advert)})
				return err
			}
		}
		other := &pb.RoundStep{Task: "desk", Round: 1, Attempt: 2}
		wants(t, "another attempt", call(liar, forged(other, "x")), codes.FailedPrecondition, "is not running")
		wants(t, "another round", call(liar, forged(&pb.RoundStep{Task: "desk", Round: 2, Attempt: 1}, "x")), codes.FailedPrecondition)
		wants(t, "no step", call(liar, forged(nil, "x")), codes.NotFound)
		wants(t, "another task", call(liar, forged(&pb.RoundStep{Task: "none"}, "x")), codes.NotFound, `"none"`)
		wants(t, "garbage", call(liar, forged(liar.at, "x")), codes.InvalidArgument)
		wants(t, "empty", call(liar, forged(liar.at, "")), codes.InvalidArgument)
		stranger := &walk{device: outsider, raw: liar.raw, plan: liar.plan, at: liar.at}
		wants(t, "not in the cohort", call(stranger, stranger.advertise), codes.PermissionDenied, "not in the cohort")
		early := func(ctx context.Context) error {
			_, err := liar.rounds.Share(ctx, &pb.ShareRequest{Step: liar.at, Shares: []byte("x")})
			return err
		}
		wants(t, "too early", call(liar, early), codes.FailedPrecondition, "not open yet")
		wants(t, "held", call(liar, liar.advertise), codes.DeadlineExceeded)
		wants(t, "other bytes", call(liar, liar.advertise), codes.Aborted, "differs")
		each(t, 4, func(i int) error {
			if i == 3 {
				<-time.After(time.Second)
				devices[3].leave()
				return nil
			}
			return walks[i].steps(t.Context(), 4)
		})
		if got := w.task("desk").view.Load().done; got != 1 {
			t.Errorf("%d rounds are done, want 1", got)
		}
	})
}
