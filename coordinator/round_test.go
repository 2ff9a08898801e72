package coordinator

import (
	"bytes"
	"context"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/discreet-fl/discreet/aggregation"
	"github.com/discreet-fl/discreet/model"
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
			each(t, 3, func(i int) error { return walks[i].steps(t.Context(), all) })
			sum = walks[2].receipt.GetCheckpointSha256()
		}
		after := devices[0].checkpointOf(sum)
		// The mean is (8·0.25 − 16·0.5)/24 = −0.25, twice.
		s, n := StrategyOf(nil, 1, 3).(aggregation.FedAdam), len(after.Params)
		params, state, mean := slices.Clone(before.Params), make([]float32, s.State(n)), make([]float32, n)
		for i := range mean {
			mean[i] = -0.25
		}
		for range 2 {
			if err := s.Step(params, state, mean); err != nil {
				t.Fatal(err)
			}
		}
		kept, err := w.store.StrategyState(t.Context(), "desk", s.State(n))
		if err != nil {
			t.Fatal(err)
		}
		for i, p := range after.Params {
			if math.Abs(float64(p-params[i])) > 1e-3 || math.Abs(float64(kept[i]-state[i])) > 1e-3 {
				t.Fatalf("parameter %d is %v with the state %v, want %v with %v", i, p, kept[i], params[i], state[i])
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

// mean is the mean update of a task's first round, as its strategy's state tells it, over
// all coordinates, which are alike but for rounding. It checks that the round moved the
// parameters by it.
func (w *world) mean(t *testing.T, task string, survivors int, before, after *model.Checkpoint) float64 {
	t.Helper()
	s, n := StrategyOf(nil, 1, survivors).(aggregation.FedAdam), len(before.Params)
	state, err := w.store.StrategyState(t.Context(), task, s.State(n))
	if err != nil {
		t.Fatal(err)
	}
	var sum float64
	for i, m := range state[:n] {
		sum += float64(m / (1 - s.Beta1))
		want := s.Rate * m / (float32(math.Sqrt(float64(state[n+i]))) + s.Epsilon)
		if moved := after.Params[i] - before.Params[i]; math.Abs(float64(moved-want)) > 1e-5 || math.Abs(float64(m-state[0])) > 1e-3 {
			t.Fatalf("parameter %d has moved by %v and the state %v, want %v and %v", i, moved, m, want, state[0])
		}
	}
	return sum / float64(n)
}

func TestDevicesVanishInEveryStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const grace = 2 * time.Second
		w, devices := fleet(t, 14, spec(14, 3), Options{Grace: grace})
		walks := gather(t, devices...)
		start := time.Now()
		each(t, 14, func(i int) error {
			if i >= 5 {
				return walks[i].steps(t.Context(), all)
			}
			// Device i leaves before step i; the others of its step wait for the grace.
			if err := walks[i].steps(t.Context(), i); err != nil {
				return err
			}
			devices[i].leave()
			return nil
		})
		if took := time.Since(start); took != 5*grace {
			t.Errorf("the round took %v, want five times the grace, %v", took, 5*grace)
		}
		attempts, err := w.store.Attempts(t.Context(), "desk", 1)
		if err != nil || len(attempts) != 1 || attempts[0].Cohort != 14 || attempts[0].Roster != 13 || attempts[0].Survivors != 11 {
			t.Errorf("records %+v, %v; want 14, 13 and 11 devices", attempts, err)
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

// A survivor that was told to reveal joins no other attempt on that checkpoint, so there
// must be none: a checkpoint with the same parameters takes its place.
func TestRoundLostInRevealHoldsTheCheckpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, devices := fleet(t, 3, spec(3, 3), Options{Grace: time.Second})
		first := w.task("desk").view.Load().sum
		walks := gather(t, devices...)
		each(t, 3, func(i int) error { return walks[i].steps(t.Context(), 4) })
		each(t, 3, func(i int) error {
			if i > 0 {
				devices[i].leave()
				return nil
			}
			err := walks[i].finish(t.Context())
			wants(t, "held reveal", err, codes.Aborted, "1 device left, too few to unmask their sum")
			return nil
		})
		devices[1].connect(w)
		devices[2].connect(w)
		next := gather(t, devices...)[0]
		if next.at.GetRound() != 3 || next.at.GetAttempt() != 1 || bytes.Equal(next.plan.GetCheckpointSha256(), first[:]) {
			t.Errorf("round %d attempt %d on checkpoint %x, want round 3 and another checkpoint", next.at.GetRound(), next.at.GetAttempt(), next.plan.GetCheckpointSha256())
		}
		before, held := devices[0].checkpointOf(first[:]), devices[0].checkpointOf(next.plan.GetCheckpointSha256())
		if !slices.Equal(before.Params, held.Params) || held.Manifest.Round != before.Manifest.Round+1 {
			t.Errorf("the held checkpoint is of round %d, or its parameters are others", held.Manifest.Round)
		}
		_, err := devices[0].rounds.Reveal(t.Context(), walks[0].reveal)
		wants(t, "a receipt for the lost round", err, codes.Aborted, "was aborted")
		attempts, err := w.store.Attempts(t.Context(), "desk", 10)
		if err != nil || len(attempts) != 2 || attempts[0].Round != 2 || attempts[0].Survivors != 0 || attempts[0].Aborted != "" || attempts[1].Aborted == "" {
			t.Errorf("records %+v, %v; want the lost round and the held checkpoint", attempts, err)
		}
		if w.log.count("checkpoint held") != 1 || w.log.count("round left") != 1 {
			t.Error("the log does not say that the round was left and its checkpoint held")
		}
	})
}

// Where it cannot be noted that a checkpoint is about to be spent, nobody is told to
// reveal.
func TestNobodyRevealsBeforeItIsNoted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, devices := fleet(t, 3, spec(3, 3), Options{})
		walks := gather(t, devices...)
		each(t, 3, func(i int) error { return walks[i].steps(t.Context(), 3) })
		w.refuse(t, `CREATE TRIGGER full BEFORE UPDATE OF revealing ON tasks BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END`)
		each(t, 3, func(i int) error {
			wants(t, "the quorum", walks[i].agree(t.Context()), codes.Aborted, "could not note")
			return nil
		})
		w.refuse(t, `DROP TRIGGER full`)
		if at := gather(t, devices...)[0].at; at.GetRound() != 1 || at.GetAttempt() != 2 || w.log.count("checkpoint held") != 0 {
			t.Errorf("round %d attempt %d, want round 1 tried again: nobody has revealed", at.GetRound(), at.GetAttempt())
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
				return k.steps(t.Context(), all)
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
			if err := k.agree(t.Context()); err != nil {
				return err
			}
			quorum, err := devices[0].rounds.Confirm(t.Context(), k.confirm)
			if err != nil || len(quorum.GetQuorum()) == 0 {
				t.Errorf("the repeated signature: %d bytes, %v", len(quorum.GetQuorum()), err)
			}
			_, err = devices[0].rounds.Share(t.Context(), k.shares)
			wants(t, "shares again, when the inbox is gone", err, codes.FailedPrecondition, "no longer there")
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
		stranger := &walk{device: outsider, raw: liar.raw, plan: liar.plan, at: liar.at, advert: &pb.AdvertiseRequest{Step: liar.at}}
		wants(t, "not in the cohort", call(stranger, stranger.advertise), codes.PermissionDenied, "not in the cohort")
		early := func(ctx context.Context) error {
			_, err := liar.rounds.Share(ctx, &pb.ShareRequest{Step: liar.at, Shares: []byte("x")})
			return err
		}
		wants(t, "too early", call(liar, early), codes.FailedPrecondition, "not open yet")
		wants(t, "held", call(liar, liar.advertise), codes.DeadlineExceeded)
		wants(t, "other bytes", call(liar, forged(liar.at, "")), codes.Aborted, "differs")
		synctest.Wait()
		if w.log.count("protocol broken") != 1 || !strings.Contains(w.log.String(), "device="+short(liar.id)+" step=advertise") {
			t.Error("the log does not say who broke the protocol, and in which step")
		}
		start := time.Now()
		each(t, 3, func(i int) error { return walks[i].steps(t.Context(), all) })
		if took := time.Since(start); took > time.Second {
			t.Errorf("the others waited %v for it", took)
		}
		if got := w.task("desk").view.Load().done; got != 1 {
			t.Errorf("%d rounds are done, want 1", got)
		}
	})
}

// TestRepeatsAreBounded has a device send what was accepted over and over: it is answered
// so many times in a second, told to wait then, and loses nothing by it.
func TestRepeatsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, devices := fleet(t, 3, spec(3, 3), Options{})
		walks := gather(t, devices...)
		each(t, 3, func(i int) error { return walks[i].steps(t.Context(), 3) })
		k := walks[0]
		last := k.chunks[len(k.chunks)-1]
		for name, call := range map[string]func() error{
			"advertise": func() error { _, err := k.rounds.Advertise(t.Context(), k.advert); return err },
			"submit":    func() error { _, err := k.rounds.Submit(t.Context(), last); return err },
		} {
			for i := range 20 {
				if err := call(); err != nil {
					t.Fatalf("%s, repeat %d: %v", name, i+1, err)
				}
			}
			wants(t, name, call(), codes.ResourceExhausted, "in a second")
			<-time.After(time.Second)
		}
		each(t, 3, func(i int) error {
			if err := walks[i].agree(t.Context()); err != nil {
				return err
			}
			return walks[i].finish(t.Context())
		})
	})
}
