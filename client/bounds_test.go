package client

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/discreet-fl/discreet/model"
	pb "github.com/discreet-fl/discreet/proto"
)

// TestOwnBounds holds that bounds that protect nobody are refused, and that a device
// does not check in to a task that asks less of its rounds than it does.
func TestOwnBounds(t *testing.T) {
	for _, b := range []Bounds{
		{MinSurvivors: -1}, {MinSurvivors: 1}, {MinSurvivors: 2}, {MinSurvivors: 2001}, {MinCohort: 2}, {MinCorrupt: -1}, {MinCorrupt: 3334},
	} {
		if _, err := Open(t.TempDir(), Options{Bounds: b}); err == nil {
			t.Errorf("%+v was accepted", b)
		}
	}
	for _, c := range []struct {
		name   string
		bounds Bounds
		edit   func(*pb.SecureAggregation)
		want   string
	}{
		{"survivors", Bounds{MinSurvivors: 5}, nil, "3, this device's own is 5"},
		{"cohort", Bounds{MinCohort: 5}, nil, "at most 3 devices, this device's own minimum is 5"},
		{"corrupt", Bounds{MinCorrupt: 2000}, nil, "withstands 1000 corrupt members in 10,000, this device's own minimum is 2000"},
		{"classical", Bounds{}, func(s *pb.SecureAggregation) { s.Keys = pb.KeyExchange_KEY_EXCHANGE_CLASSICAL }, "classical"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDaemon(t, 3)
				d.cohort = 1
				if c.edit != nil {
					c.edit(d.rig.plan.SecureAggregation)
				}
				device := d.device(t, Options{Bounds: c.bounds})
				_, err := device.Participate(t.Context())
				if !errors.Is(err, ErrPlanRefused) || !strings.Contains(err.Error(), c.want) {
					t.Errorf("got %v, want a refusal with %q", err, c.want)
				}
				if n := len(d.when("CheckIn")); n != 0 {
					t.Errorf("%d check-ins: the device takes places that it does not use", n)
				}
				s, err := device.Status()
				if err != nil || !strings.Contains(s.LastError, c.want) || s.Checkpoint == "" {
					t.Errorf("status %+v, %v: want the reason, and the checkpoint all the same", s, err)
				}
			})
		})
	}
}

// TestPlanOutsideBounds has a coordinator say one thing of a task and another in its
// plan.
func TestPlanOutsideBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDaemon(t, 3)
		d.cohort = 1
		d.set(func() {
			d.reply = func(_ string, reply any) {
				if r, ok := reply.(*pb.TasksResponse); ok {
					r.Tasks[0].SecureAggregation.Corrupt = 3000
				}
			}
		})
		c := d.device(t, Options{Bounds: Bounds{MinCorrupt: 2000}})
		_, err := c.Participate(t.Context())
		if !errors.Is(err, ErrPlanRefused) || !strings.Contains(err.Error(), "minimum is 2000") {
			t.Errorf("got %v, want both numbers", err)
		}
		// It has a place in a cohort that it will not use: it must not be waited for.
		if c.link != nil {
			t.Error("the device refused the plan and kept its connection")
		}
	})
}

// TestEligible holds which task a device checks in to where it may not join all.
func TestEligible(t *testing.T) {
	good := &pb.SecureAggregation{Cohort: 20, MinSurvivors: 5, Corrupt: 1000, Keys: pb.KeyExchange_KEY_EXCHANGE_HYBRID}
	weak := &pb.SecureAggregation{Cohort: 20, MinSurvivors: 3, Corrupt: 1000, Keys: pb.KeyExchange_KEY_EXCHANGE_HYBRID}
	state := func(name string, s *pb.SecureAggregation) *pb.TaskState {
		return &pb.TaskState{Task: name, SecureAggregation: s}
	}
	for _, c := range []struct {
		name  string
		own   string
		tasks []*pb.TaskState
		want  string
		ok    bool
	}{
		{"none yet", "", nil, "", true},
		{"none yet of its own", "shop", []*pb.TaskState{state("other", weak)}, "shop", true},
		{"all", "", []*pb.TaskState{state("a", good), state("b", good)}, "", true},
		{"one of two", "", []*pb.TaskState{state("a", weak), state("b", good)}, "b", true},
		{"two of three", "", []*pb.TaskState{state("a", weak), state("b", good), state("c", good)}, "b c", true},
		{"its own", "b", []*pb.TaskState{state("a", weak), state("b", good)}, "b", true},
		{"not its own", "a", []*pb.TaskState{state("a", weak), state("b", good)}, "", false},
		{"no task says what it asks", "", []*pb.TaskState{state("a", nil)}, "", false},
	} {
		device, err := Open(t.TempDir(), Options{Task: c.own, Bounds: Bounds{MinSurvivors: 5}})
		if err != nil {
			t.Fatal(err)
		}
		defer device.Close()
		got, err := device.eligible(c.tasks)
		if strings.Join(got, " ") != c.want || (err == nil) != c.ok || !c.ok && !errors.Is(err, ErrPlanRefused) {
			t.Errorf("%s: %q, %v; want %q, ok: %v", c.name, got, err, c.want, c.ok)
		}
	}
}

// desks tells a device that checks in when to come back, by task, and keeps the names.
type desks struct {
	Transport
	told  map[string]uint32
	asked []string
	tasks []*pb.TaskState
	takes string // the task that has a place for it
}

func (d *desks) Tasks(context.Context, *pb.TasksRequest) (*pb.TasksResponse, error) {
	return &pb.TasksResponse{Version: pb.Current(), Tasks: d.tasks}, nil
}

func (d *desks) CheckIn(_ context.Context, q *pb.CheckInRequest) (*pb.CheckInResponse, error) {
	d.asked = append(d.asked, q.GetTask())
	if q.GetTask() == d.takes {
		return &pb.CheckInResponse{Version: pb.Current(), Plan: []byte("plan")}, nil
	}
	return &pb.CheckInResponse{Version: pb.Current(), RetryAfterMs: d.told[q.GetTask()], Reason: q.GetTask()}, nil
}

// TestDeviceAsksTheNextTask has a device check in that refuses one of several tasks: it goes
// on to the next where a round is far, and comes back when the first may take it. The pass that
// follows begins with the next.
func TestDeviceAsksTheNextTask(t *testing.T) {
	state := func(name string, survivors uint32) *pb.TaskState {
		return &pb.TaskState{Task: name, SecureAggregation: &pb.SecureAggregation{Cohort: 20, MinSurvivors: survivors, Corrupt: 1000, Keys: pb.KeyExchange_KEY_EXCHANGE_HYBRID}}
	}
	tasks := []*pb.TaskState{state("a", 3), state("b", 5), state("c", 5), state("d", 5)}
	for _, c := range []struct {
		told        map[string]uint32
		pass        int
		asked       string
		least, most time.Duration
		reason      string
	}{
		{map[string]uint32{"b": 1000, "c": 1000, "d": 1000}, 0, "b", time.Second, 2 * time.Second, "b"},
		{map[string]uint32{"b": 3_600_000, "c": 1000, "d": 1000}, 0, "b c", time.Second, 2 * time.Second, "c"},
		{map[string]uint32{"b": 3_600_000, "c": 60_000, "d": 600_000}, 0, "b c d", time.Minute, 2 * time.Minute, "c"},
		{map[string]uint32{"b": 1000, "c": 1000, "d": 1000}, 1, "c", time.Second, 2 * time.Second, "c"},
		{map[string]uint32{"b": 1000, "c": 1000, "d": 3_600_000}, 2, "d b", time.Second, 2 * time.Second, "b"},
		{map[string]uint32{"b": 1000, "c": 1000, "d": 1000}, 3, "b", time.Second, 2 * time.Second, "b"},
		{map[string]uint32{"b": 3_600_000}, 0, "b c", 0, 0, "c"}, // which names no time
	} {
		device, err := Open(t.TempDir(), Options{Bounds: Bounds{MinSurvivors: 5}})
		if err != nil {
			t.Fatal(err)
		}
		defer device.Close()
		d := &desks{told: c.told}
		place, pause, reason, err := device.checkInToEach(t.Context(), d, tasks, c.pass)
		if err != nil || place != nil || strings.Join(d.asked, " ") != c.asked || pause < c.least || pause > c.most || reason != c.reason {
			t.Errorf("told %v in pass %d: asked %v, comes back after %v since %q, %v; want %q asked, %v to %v and %q", c.told, c.pass, d.asked, pause, reason, err, c.asked, c.least, c.most, c.reason)
		}
	}
}

// TestDeviceWaitsForNoTaskAlone has a task in use that goes on asking for a second, one that
// the device refuses, and one that has a place for it.
func TestDeviceWaitsForNoTaskAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &desks{told: map[string]uint32{"used": 1000}, takes: "well"}
		for name, survivors := range map[string]uint32{"used": 5, "weak": 3, "well": 5} {
			d.tasks = append(d.tasks, &pb.TaskState{Task: name, CheckpointSha256: make([]byte, 32),
				SecureAggregation: &pb.SecureAggregation{Cohort: 20, MinSurvivors: survivors, Corrupt: 1000, Keys: pb.KeyExchange_KEY_EXCHANGE_HYBRID}})
		}
		device, err := Open(t.TempDir(), Options{Bounds: Bounds{MinSurvivors: 5}})
		if err != nil {
			t.Fatal(err)
		}
		defer device.Close()
		device.model.Store(&loadedModel{checkpoint: &model.Checkpoint{Manifest: model.Manifest{Task: "used"}}})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if place, _, err := device.checkIn(ctx, d, d.tasks); err != nil || string(place.Plan) != "plan" || strings.Join(d.asked, " ") != "used well" {
			t.Errorf("asked %v, got %+v, %v; want a place in the other task at the second time", d.asked, place, err)
		}
	})
}

// TestClassicalKeys runs a round without X-Wing, on devices that allow it.
func TestClassicalKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3, nil)
		r.plan.SecureAggregation.Keys = pb.KeyExchange_KEY_EXCHANGE_CLASSICAL
		r.setPlan(r.plan)
		var group sync.WaitGroup
		for i, g := range r.guests(3) {
			g.Bounds.AllowClassical = true
			group.Go(func() {
				if _, err := g.takePart(t.Context()); err != nil {
					t.Errorf("device %d: %v", i, err)
				}
			})
		}
		group.Wait()
	})
}
