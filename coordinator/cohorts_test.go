package coordinator

import (
	"bytes"
	"context"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/proto/rpc"
)

// inCohorts is a task for 24 devices in three cohorts.
func inCohorts() *pb.TaskSpec {
	s := spec(24, 3)
	s.Cohort = 8
	return s
}

// split are devices after Advertise, by the cohort that they were drawn into.
func split(t *testing.T, walks []*walk) (cohorts [][]*walk) {
	t.Helper()
	each(t, len(walks), func(i int) error { return walks[i].advertise(t.Context()) })
	for _, k := range walks {
		// A roster begins with how many members it has and where in the tree of check-ins
		// they are.
		same := func(other []*walk) bool { return bytes.Equal(other[0].roster[:4+3], k.roster[:4+3]) }
		at := -1
		for i := range cohorts {
			if same(cohorts[i]) {
				at = i
			}
		}
		if at < 0 {
			cohorts = append(cohorts, nil)
			at = len(cohorts) - 1
		}
		cohorts[at] = append(cohorts[at], k)
	}
	return cohorts
}

// rest goes through the steps behind Advertise.
func (k *walk) rest(ctx context.Context) error {
	for _, step := range []func(context.Context) error{k.share, k.submit, k.agree, k.finish} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func TestManyCohortsAreOneRound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, devices := fleet(t, 24, inCohorts(), Options{})
		var sum, weight float64
		for i, d := range devices {
			d.value, d.weight = float32(i%5)/4-0.5, 1+i%3
			sum, weight = sum+float64(d.value)*float64(d.weight), weight+float64(d.weight)
		}
		before := devices[0].checkpointOf(w.task("desk").view.Load().sum[:])
		walks := gather(t, devices...)
		if !bytes.Equal(walks[0].raw, walks[23].raw) {
			t.Error("the devices of one round have different plans")
		}
		cohorts := split(t, walks)
		if len(cohorts) != 3 || len(cohorts[0]) != 8 || len(cohorts[1]) != 8 || len(cohorts[2]) != 8 {
			t.Errorf("%d cohorts", len(cohorts))
		}
		each(t, 24, func(i int) error { return walks[i].rest(t.Context()) })
		after := devices[0].checkpointOf(walks[0].receipt.GetCheckpointSha256())
		if got, want := w.mean(t, "desk", 24, before, after), sum/weight; math.Abs(got-want) > 2e-4 {
			t.Fatalf("the mean is %v, want %v", got, want)
		}
		shown, err := rpc.NewOperatorServiceClient(w.operator(t)).GetTask(t.Context(), &pb.GetTaskRequest{Name: "desk"})
		if err != nil || len(shown.GetRounds()) != 1 {
			t.Fatalf("task %v, %v", shown, err)
		}
		if r := shown.GetRounds()[0]; r.GetCohorts() != 3 || r.GetCohortsLost() != 0 || r.GetCohort() != 24 || r.GetRoster() != 24 || r.GetSurvivors() != 24 {
			t.Errorf("record %v", r)
		}
		for message, n := range map[string]int{"cohort formed": 1, "advertise closed": 1, "share closed": 3, "confirm closed": 3, "sum unmasked": 3, "round committed": 1} {
			if got := w.log.count(message); got != n {
				t.Errorf("%q is in the log %d times, want %d", message, got, n)
			}
		}
	})
}

func TestLostCohortIsLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, devices := fleet(t, 24, inCohorts(), Options{Grace: time.Second})
		walks := gather(t, devices...)
		cohorts := split(t, walks)
		// The first loses three of its eight, of which six have to stay.
		next := make(chan *walk, 1)
		each(t, 24, func(i int) error {
			k := cohorts[i/8][i%8]
			switch {
			case i >= 8:
				return k.rest(t.Context())
			case i < 3:
				k.leave()
				return nil
			}
			wants(t, "a member of the lost cohort", k.rest(t.Context()), codes.Aborted, "cohort was given up", "5 devices left")
			if i == 3 { // it need not wait for the round to end
				go func() {
					again, err := k.checkIn(t.Context())
					if err != nil {
						t.Error(err)
					}
					next <- again
				}()
			}
			return nil
		})
		attempts, err := w.store.Attempts(t.Context(), "desk", 1)
		if err != nil || len(attempts) != 1 || attempts[0].Cohorts != 3 || attempts[0].CohortsLost != 1 || attempts[0].Survivors != 16 || attempts[0].Aborted != "" {
			t.Errorf("records %+v, %v", attempts, err)
		}
		if w.log.count("cohort lost") != 1 || w.log.count("round committed") != 1 {
			t.Error("the log does not say that a cohort was lost and the round committed")
		}
		// Nobody has the receipt of a round that left it out.
		for _, k := range cohorts[0][3:] {
			if k.receipt != nil {
				t.Error("a device of the lost cohort has a receipt")
			}
		}
		gather(t, cohorts[1][0].device, cohorts[1][1].device, cohorts[2][0].device)
		if k := <-next; k.at.GetRound() != 2 {
			t.Errorf("round %d, want 2", k.at.GetRound())
		}
	})
}

func TestMostCohortsLostIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, devices := fleet(t, 24, inCohorts(), Options{Grace: time.Second})
		walks := gather(t, devices...)
		cohorts := split(t, walks)
		start := time.Now()
		each(t, 24, func(i int) error {
			k := cohorts[i/8][i%8]
			if i < 16 && i%8 < 3 {
				k.leave()
				return nil
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			err := k.rest(ctx)
			if i < 16 {
				wants(t, "a member of a lost cohort", err, codes.Aborted)
			} else {
				wants(t, "a member of the last cohort", err, codes.Aborted, "2 of 3 cohorts are lost, the latest because: 5 devices left")
			}
			return nil
		})
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("aborted after %v, want it as soon as it is certain", took)
		}
		for i := range 16 {
			if i%8 < 3 {
				cohorts[i/8][i%8].connect(w)
			}
		}
		// The members of the last cohort were told to reveal or not, as it came.
		again := gather(t, devices...)[0]
		if held := uint64(w.log.count("checkpoint held")); again.at.GetRound() != 1+2*held || again.at.GetAttempt() != 2-uint32(held) {
			t.Errorf("round %d attempt %d with %d checkpoints held", again.at.GetRound(), again.at.GetAttempt(), held)
		}
	})
}

// TestNoteThatFailedAndWasKept has the store keep the note that an attempt reveals
// without its task knowing, as where a disk fails after it has written: the checkpoint is
// held, and the task goes on.
func TestNoteThatFailedAndWasKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, walks := atSubmit(t, 3, Options{})
		at := walks[0].at
		if err := w.store.Revealing(t.Context(), at.GetTask(), at.GetRound(), at.GetAttempt(), w.task("desk").view.Load().sum); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Minute) // nobody submits, so the attempt is aborted
		devices := []*device{walks[0].device, walks[1].device, walks[2].device}
		each(t, 3, func(i int) error {
			if k, err := devices[i].checkIn(t.Context()); err == nil {
				t.Errorf("device %d is in round %d attempt %d, on a checkpoint that may be spent", i, k.at.GetRound(), k.at.GetAttempt())
			}
			return nil
		})
		<-time.After(storePause)
		if got := gather(t, devices...)[0].at; got.GetRound() != at.GetRound()+1 || w.log.count("checkpoint held") != 1 {
			t.Errorf("round %d, %d checkpoints held; want round %d on the held one", got.GetRound(), w.log.count("checkpoint held"), at.GetRound()+1)
		}
	})
}
