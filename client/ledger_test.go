package client

import (
	"context"
	"crypto/sha256"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc"

	"github.com/discreet-fl/discreet/model"
	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/secagg"
)

// planAt is the little of a plan that the ledger looks at. The checkpoint is named by
// its first byte.
func planAt(round uint64, attempt uint32, checkpoint byte) *pb.Plan {
	sum := [32]byte{checkpoint}
	return &pb.Plan{Task: "shop", Round: round, Attempt: attempt, CheckpointSha256: sum[:]}
}

// TestNeverTwice holds what a device's folder remembers: no attempt is joined
// again, one set of survivors is confirmed in an attempt, and a round in which it
// revealed is over for it, with that round's checkpoint, whatever a restart forgot.
func TestNeverTwice(t *testing.T) {
	dir := t.TempDir()
	c, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { c.Close() }()
	const advertise, confirm, reveal = pb.Step_STEP_ADVERTISE, pb.Step_STEP_CONFIRM, pb.Step_STEP_REVEAL
	for i, s := range []struct {
		plan *pb.Plan
		step pb.Step
		err  error
	}{
		{planAt(3, 1, 2), confirm, errAnswered}, // never joined
		{planAt(3, 1, 2), advertise, nil},
		{planAt(3, 1, 2), advertise, ErrPlanRefused}, // the same again
		{planAt(2, 9, 1), advertise, ErrPlanRefused}, // an earlier round
		{planAt(3, 1, 2), confirm, nil},
		{planAt(3, 1, 2), confirm, errAnswered}, // a second set in this attempt
		{planAt(3, 2, 2), confirm, errAnswered}, // an attempt that was not joined
		{planAt(3, 2, 2), reveal, errAnswered},
		{planAt(3, 2, 2), advertise, nil}, // a later attempt: nothing was revealed
		{planAt(3, 1, 2), advertise, ErrPlanRefused},
		{planAt(3, 1, 2), confirm, errAnswered}, // of the attempt that was left
		{planAt(3, 2, 2), confirm, nil},
		{planAt(3, 2, 2), reveal, nil},
		{planAt(3, 2, 2), reveal, errAnswered},
		{planAt(3, 3, 2), advertise, ErrPlanRefused}, // revealed: no further attempt
		{planAt(3, 3, 9), advertise, ErrPlanRefused}, // not on another checkpoint either
		{planAt(4, 1, 2), advertise, ErrPlanRefused}, // nor another round on this one
		{planAt(4, 1, 3), advertise, nil},
	} {
		if err := c.record(s.plan, &model.Manifest{Round: uint64(s.plan.CheckpointSha256[0])}, s.step); !errors.Is(err, s.err) {
			t.Errorf("step %d, %v: %v, want %v", i, s.step, err, s.err)
		}
		c.Close()
		if c, err = Open(dir, Options{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.mayJoin(&pb.Plan{Task: "other", Round: 1, Attempt: 1}); err != nil {
		t.Errorf("another task: %v", err)
	}
	if err := c.mayJoin(planAt(4, 1, 3)); !errors.Is(err, ErrPlanRefused) {
		t.Errorf("the same plan again: %v", err)
	}
	// A coordinator may come back to a checkpoint that is older than the last.
	for rounds, ok := range map[uint64]bool{0: false, 1: false, 2: false, 3: true} {
		if err := c.mayTrain(planAt(5, 1, 7), &model.Manifest{Round: rounds}); (err == nil) != ok || !ok && !errors.Is(err, ErrPlanRefused) {
			t.Errorf("a checkpoint that has been through %d rounds: %v", rounds, err)
		}
	}
}

// TestRestartAfterConfirm ends a device between its Confirm and the answer, and starts it
// again. It is given the same attempt and must not join it, so that it never confirms a
// second set of survivors there; the others go on without it.
func TestRestartAfterConfirm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDaemon(t, 4)
		d.rig.wanted[pb.Step_STEP_CONFIRM], d.rig.wanted[pb.Step_STEP_REVEAL] = 3, 3
		confirming := make(chan struct{})
		hold := func(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, o ...grpc.CallOption) error {
			if _, ok := request.(*pb.ConfirmRequest); ok {
				close(confirming)
				<-ctx.Done()
				return ctx.Err()
			}
			return invoke(ctx, method, request, reply, conn, o...)
		}
		dir := t.TempDir()
		first := openClient(t, dir, d, Options{DialOptions: []grpc.DialOption{grpc.WithChainUnaryInterceptor(hold)}})
		if err := first.Enrol(t.Context(), testHost+":7443", d.token()); err != nil {
			t.Fatal(err)
		}
		var group sync.WaitGroup
		group.Go(func() {
			if _, err := first.Participate(t.Context()); !errors.Is(err, ErrClosed) {
				t.Errorf("the device that is stopped: %v", err)
			}
		})
		for range 3 {
			c := d.device(t, Options{})
			group.Go(func() {
				if _, err := c.Participate(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		<-confirming
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}
		group.Wait()
		d.set(func() {
			d.edit = func(method string, _ any) error {
				if method == "Advertise" || method == "Confirm" {
					t.Errorf("it called %s again", method)
				}
				return nil
			}
			d.cohort = 1
		})
		again := openClient(t, dir, d, Options{})
		if _, err := again.Participate(t.Context()); !errors.Is(err, ErrPlanRefused) || !strings.Contains(err.Error(), "already joined round 1, attempt 1") {
			t.Errorf("after the restart: %v", err)
		}
		if l, err := again.readLedger("shop"); err != nil || !l.Confirmed || l.Revealed != 0 {
			t.Errorf("%+v, %v: want that it confirmed and has not revealed", l, err)
		}
	})
}

// TestEarlierLedger opens what a version before wrote: the rounds count, and no
// checkpoint has been revealed for as far as is known.
func TestEarlierLedger(t *testing.T) {
	c, err := Open(t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.store.PutRecord(ledgerRecord+"shop", []byte(`{"round":7,"attempt":2,"revealed":6,"counted":5}`)); err != nil {
		t.Fatal(err)
	}
	for _, s := range []struct {
		plan *pb.Plan
		ok   bool
	}{{planAt(6, 3, 5), false}, {planAt(7, 2, 6), false}, {planAt(7, 3, 6), true}, {planAt(8, 1, 6), true}} {
		err := errors.Join(c.mayJoin(s.plan), c.mayTrain(s.plan, &model.Manifest{Round: 6}))
		if (err == nil) != s.ok {
			t.Errorf("round %d, attempt %d: %v", s.plan.Round, s.plan.Attempt, err)
		}
	}
	l, err := c.readLedger("shop")
	if err != nil || l.Counted != 5 {
		t.Errorf("%+v, %v: want the 5 rounds it was counted in", l, err)
	}
}

// TestSamePlanTwice gives a device the plan of an attempt it has been through. It
// must refuse before it trains.
func TestSamePlanTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDaemon(t, 3)
		var group sync.WaitGroup
		var first *Client
		for range 3 {
			first = d.device(t, Options{})
			c := first
			group.Go(func() {
				if _, err := c.Participate(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		d.set(func() {
			d.edit = func(method string, _ any) error {
				if method == "Advertise" {
					t.Error("advertised again")
				}
				return nil
			}
			d.cohort = 1
		})
		_, err := first.Participate(t.Context())
		if !errors.Is(err, ErrPlanRefused) || !strings.Contains(err.Error(), "already revealed in round 1") {
			t.Errorf("got %v", err)
		}
		if s, _ := first.Status(); s.LastError != err.Error() {
			t.Errorf("status has the error %q", s.LastError)
		}
	})
}

// TestPlanOutsideTheLog gives a device a plan whose checkpoint no signed head is shown
// for. It must refuse before it trains, though the task's own checkpoint is in the log.
func TestPlanOutsideTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDaemon(t, 3)
		d.cohort = 1
		d.rig.plan.LogHead = nil
		d.rig.setPlan(d.rig.plan)
		c := d.device(t, Options{})
		if _, err := c.Participate(t.Context()); !errors.Is(err, ErrLog) {
			t.Errorf("got %v, want ErrLog", err)
		}
		if s, err := c.Status(); err != nil || s.Checkpoint == "" || !strings.Contains(s.LastError, "log is not to be trusted") {
			t.Errorf("%+v, %v: want the task's checkpoint and the reason", s, err)
		}
		if n := len(d.when("Advertise")); n != 0 {
			t.Errorf("%d adverts were sent", n)
		}
	})
}

// TestRevokedMember has a revoked device that does not care, and a coordinator that lets
// it in. The others refuse the roster that it is in and say who it is.
func TestRevokedMember(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDaemon(t, 3)
		var devices []*Client
		for range 3 {
			devices = append(devices, d.device(t, Options{}))
		}
		out := devices[0].enrolment.device
		list := revokedList(t, d.rig.ca, 1, out)
		d.publish(list)
		sum := sha256.Sum256(list)
		d.rig.plan.RevocationsSha256 = sum[:]
		d.rig.setPlan(d.rig.plan)
		devices[0].enrolment.device = secagg.ID{}
		var group sync.WaitGroup
		for i, c := range devices[1:] {
			group.Go(func() {
				_, err := c.Participate(t.Context())
				if !errors.Is(err, secagg.ErrRevoked) || !errors.Is(err, ErrBroken) || !strings.Contains(err.Error(), short(out)) {
					t.Errorf("device %d: got %v, want that %s is revoked", i+1, err, short(out))
				}
			})
		}
		group.Go(func() {
			if _, err := devices[0].Participate(t.Context()); err == nil {
				t.Error("the revoked device was counted")
			}
		})
		group.Wait()
	})
}
