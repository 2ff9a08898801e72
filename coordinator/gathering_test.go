package coordinator

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/discreet-fl/discreet/coordinator/store"
	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/proto/rpc"
	"github.com/discreet-fl/discreet/secagg"
)

// TestGathering plays scripts of seconds and devices against a task of 3 to 5
// devices whose window is 2 s. A device in lower case comes, one in upper case hangs
// up; what form then says stands behind the colon.
func TestGathering(t *testing.T) {
	for _, script := range []string{
		"0a: 0b: 0c: 0d: 0e:abcde",           // full at once
		"0a: 1b: 2c: 3-: 4-:abc",             // enough, and the window passes
		"0a: 0b: 0c: 1C: 3-: 4d: 5-: 6-:abd", // the window starts anew where there were too few between
		"0a: 0b: 9-: 99-:",                   // never enough
		"0a: 0b: 0c: 0B: 0b: 2-:acb",         // who comes again goes to the end
		"0a: 0b: 0a: 0c: 1-: 2-:bac",         // a device has one place
		"0a: 0b: 0c: 0d: 1C: 2-:abd",
	} {
		g := newGathering(spec(5, 3))
		cancels := map[byte]context.CancelFunc{}
		for i, word := range strings.Fields(script) {
			command, want, _ := strings.Cut(word, ":")
			var seconds int
			who := command[len(command)-1]
			for _, digit := range command[:len(command)-1] {
				seconds = 10*seconds + int(digit-'0')
			}
			now := time.Unix(int64(seconds), 0)
			switch {
			case who >= 'a':
				ctx, cancel := context.WithCancel(t.Context())
				cancels[who] = cancel
				g.add(&checkIn{id: secagg.ID{who}, ctx: ctx, since: now})
			case who >= 'A':
				cancels[who-'A'+'a']()
			}
			var got string
			for _, c := range g.form(now, func(*checkIn) bool { return true }) {
				got += string(rune(c.id[0]))
			}
			if got != want {
				t.Errorf("%q, step %d: formed %q, want %q", script, i, got, want)
			}
		}
		for _, cancel := range cancels {
			cancel()
		}
	}
}

// A round is of no more devices than can be split into cohorts of at least the minimum;
// the others wait for the next.
func TestGatheringLeavesNoSmallCohort(t *testing.T) {
	for _, tc := range []struct{ most, cohort, least, waiting, want int }{
		{100, 100, 3, 60, 60}, {100, 3, 3, 4, 3}, {100, 3, 3, 6, 6}, {100, 3, 3, 8, 6}, {100, 8, 5, 9, 8}, {100, 8, 5, 10, 10}, {100, 8, 5, 17, 17},
		{20_000, 1000, 600, 1001, 1000}, {20_000, 1000, 600, 1200, 1200}, {20_000, 1000, 3, 20_500, 20_000},
	} {
		s := spec(uint32(tc.most), uint32(tc.least))
		s.Cohort = uint32(tc.cohort)
		g := newGathering(s)
		now := time.Unix(0, 0)
		for i := range tc.waiting {
			g.add(&checkIn{id: secagg.ID{byte(i), byte(i >> 8)}, ctx: t.Context(), since: now})
		}
		formed := g.form(now.Add(time.Minute), func(*checkIn) bool { return true })
		if len(formed) != tc.want || len(g.waiting) != tc.waiting-tc.want || formed[1].id != (secagg.ID{1}) {
			t.Errorf("%+v: a round of %d, %d wait", tc, len(formed), len(g.waiting))
		}
		if left := g.drain(); len(left) != tc.waiting-tc.want || len(g.waiting) != 0 {
			t.Errorf("%+v: %d were left", tc, len(left))
		}
	}
}

func TestFewDevicesWaitForTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, devices := fleet(t, 4, spec(10, 3), Options{})
		start := time.Now()
		walks := gather(t, devices[:3]...)
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("three of up to ten devices waited %v, want a quarter of the deadline, 2s", took)
		}
		// While a round runs a device is held, and joins the next one.
		next := make(chan *walk, 1)
		go func() {
			k, err := devices[3].checkIn(t.Context())
			if err != nil {
				t.Error(err)
			}
			next <- k
		}()
		synctest.Wait()
		each(t, 3, func(i int) error { return walks[i].steps(t.Context(), all) })
		gather(t, devices[:2]...)
		if k := <-next; k.at.GetRound() != 2 {
			t.Errorf("the held device is in round %d, want 2", k.at.GetRound())
		}
	})
}

func TestHeldCheckInIsToldToComeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, devices := fleet(t, 1, spec(3, 3), Options{})
		request := devices[0].request()
		start := time.Now()
		reply, err := devices[0].rounds.CheckIn(t.Context(), request)
		if err != nil || len(reply.GetPlan()) != 0 || reply.GetRetryAfterMs() != 1000 || reply.GetReason() != "waiting for devices (1 of 3)" {
			t.Errorf("reply %v, %v", reply, err)
		}
		if took := time.Since(start); took != holdTime {
			t.Errorf("held for %v, want %v", took, holdTime)
		}
		// A newer check-in of the same device takes the place of the older.
		older := make(chan *pb.CheckInResponse, 1)
		go func() {
			reply, err := devices[0].rounds.CheckIn(t.Context(), request)
			if err != nil {
				t.Error(err)
			}
			older <- reply
		}()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = devices[0].rounds.CheckIn(ctx, request)
		wants(t, "given up", err, codes.DeadlineExceeded)
		if reply := <-older; !strings.Contains(reply.GetReason(), "newer check-in") {
			t.Errorf("the older check-in was answered with %v", reply)
		}
		synctest.Wait()
		if got := w.task("desk").view.Load().waiting; got != 0 {
			t.Errorf("%d devices wait, want 0", got)
		}
	})
}

func TestDisconnectedDeviceIsInNoCohort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, devices := fleet(t, 4, spec(3, 3), Options{})
		gone := make(chan error, 1)
		go func() {
			_, err := devices[3].checkIn(t.Context())
			gone <- err
		}()
		synctest.Wait()
		if got := w.task("desk").view.Load().waiting; got != 1 {
			t.Fatalf("%d devices wait, want 1", got)
		}
		devices[3].leave()
		wants(t, "its own call", <-gone, codes.Canceled)
		walks := gather(t, devices[:3]...)
		each(t, 3, func(i int) error { return walks[i].steps(t.Context(), all) })
	})
}

// A device may leave between the look at its call and the start of the attempt.
func TestDeviceThatLeavesAtTheStartIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, devices := fleet(t, 3, spec(3, 3), Options{Grace: time.Second})
		desk := w.task("desk")
		var cohort []*checkIn
		for _, d := range devices {
			cohort = append(cohort, &checkIn{id: d.id, ctx: t.Context(), done: make(chan *pb.CheckInResponse, 1)})
		}
		start := time.Now()
		desk.mail.post(func(now time.Time) { desk.start(now, cohort) })
		<-time.After(time.Second)
		synctest.Wait()
		if w.log.count("attempt aborted") != 1 {
			t.Errorf("no abort after %v, although none of the cohort has a connection", time.Since(start))
		}
	})
}

func TestLostInvitationComesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, devices := fleet(t, 3, spec(3, 3), Options{Grace: time.Second})
		walks := gather(t, devices...)
		again, err := devices[0].checkIn(t.Context())
		if err != nil || string(again.raw) != string(walks[0].raw) {
			t.Fatalf("checked in again: %v, want the same plan", err)
		}
		// One that checks in again with another nonce cannot begin: the others have been
		// told that it committed to the first.
		before := *devices[0]
		devices[0].checkedIn = nil
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := devices[0].checkIn(ctx); status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("checked in again with another nonce: %v, want it to wait for the next round", err)
		}
		*devices[0] = before
		// One that has advertised and checks in again has lost its secrets.
		ctx, cancel = context.WithCancel(t.Context())
		sent := make(chan error, 1)
		go func() { sent <- again.advertise(ctx) }()
		synctest.Wait()
		cancel()
		<-sent
		started := time.Now()
		next := make(chan *walk, 1)
		go func() {
			k, err := devices[0].checkIn(t.Context())
			if err != nil {
				t.Error(err)
			}
			next <- k
		}()
		each(t, 2, func(i int) error {
			err := walks[i+1].steps(t.Context(), all)
			wants(t, "the others", err, codes.Aborted, "2 devices left")
			return nil
		})
		if took := time.Since(started); took != time.Second {
			t.Errorf("the others waited %v, want the grace", took)
		}
		gather(t, devices[1:]...)
		if k := <-next; k.at.GetAttempt() != 2 {
			t.Errorf("attempt %d, want 2", k.at.GetAttempt())
		}
	})
}

func TestRoundsKeepTheirDistance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := spec(3, 3)
		s.EveryMs, s.Rounds = 60_000, 2
		w, devices := fleet(t, 3, s, Options{})
		start := time.Now()
		walks := gather(t, devices...)
		each(t, 3, func(i int) error { return walks[i].steps(t.Context(), all) })
		reply, err := devices[0].rounds.CheckIn(t.Context(), devices[0].anywhere(""))
		if err != nil || reply.GetRetryAfterMs() != 60_000 || !strings.HasPrefix(reply.GetReason(), "round 2 starts at 2000-01-01T00:01:00Z") {
			t.Errorf("before its time: %v, %v", reply, err)
		}
		<-time.After(50 * time.Second)
		walks = gather(t, devices...) // held for the rest
		if took := time.Since(start); took != time.Minute {
			t.Errorf("the second round began after %v, want 1m", took)
		}
		waiting := make(chan *pb.CheckInResponse, 1)
		outsider := w.join(t)
		go func() {
			reply, err := outsider.rounds.CheckIn(t.Context(), outsider.anywhere(""))
			if err != nil {
				t.Error(err)
			}
			waiting <- reply
		}()
		synctest.Wait()
		each(t, 3, func(i int) error { return walks[i].steps(t.Context(), all) })
		if reply := <-waiting; reply.GetReason() != "all 2 rounds are done" || reply.GetRetryAfterMs() != 60_000 {
			t.Errorf("held when the task was done: %v", reply)
		}
		for task, want := range map[string]string{"desk": "all 2 rounds are done", "": "no task is open"} {
			reply, err := devices[0].rounds.CheckIn(t.Context(), devices[0].anywhere(task))
			if err != nil || reply.GetReason() != want {
				t.Errorf("task %q: %v, %v; want the reason %q", task, reply, err, want)
			}
		}
		_, err = devices[0].rounds.CheckIn(t.Context(), devices[0].anywhere("other"))
		wants(t, "unknown task", err, codes.NotFound, `"other"`)
	})
}

// What an operator is shown when the time of a round has come and nobody is there for it.
func TestStateLeavesAStartThatHasPassed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := spec(3, 3)
		s.EveryMs = 60_000
		w, devices := fleet(t, 3, s, Options{})
		walks := gather(t, devices...)
		each(t, 3, func(i int) error { return walks[i].steps(t.Context(), all) })
		op := rpc.NewOperatorServiceClient(w.operator(t))
		for _, want := range []string{"round 2 starts at 2000-01-01T00:01:00Z", "waiting for devices (0 of 3)"} {
			reply, err := op.ListTasks(t.Context(), &pb.ListTasksRequest{})
			if err != nil || len(reply.GetTasks()) != 1 || reply.GetTasks()[0].GetState() != want {
				t.Errorf("tasks %v, %v; want the state %q", reply, err, want)
			}
			<-time.After(61 * time.Second)
		}
	})
}

func TestHeldDeviceIsToldWhenTheNextRoundIsFar(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := spec(3, 3)
		s.EveryMs = 300_000
		_, devices := fleet(t, 4, s, Options{})
		walks := gather(t, devices[:3]...)
		told := make(chan *pb.CheckInResponse, 1)
		go func() {
			reply, err := devices[3].rounds.CheckIn(t.Context(), devices[3].anywhere(""))
			if err != nil {
				t.Error(err)
			}
			told <- reply
		}()
		synctest.Wait()
		each(t, 3, func(i int) error { return walks[i].steps(t.Context(), all) })
		if reply := <-told; reply.GetRetryAfterMs() != 270_000 {
			t.Errorf("held for 30 s, then told %v; want to come when the next round starts", reply)
		}
	})
}

// A device that names no task goes where the latest round is longest ago.
func TestDevicesAreSpreadOverTasks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, devices := fleet(t, 3, spec(3, 3), Options{})
		second := spec(3, 3)
		second.Name = "shop"
		w.create(t, second)
		walks := gather(t, devices...) // names "desk"
		each(t, 3, func(i int) error { return walks[i].steps(t.Context(), all) })
		replies := make([]*pb.CheckInResponse, 3)
		each(t, 3, func(i int) (err error) {
			replies[i], err = devices[i].rounds.CheckIn(t.Context(), devices[i].anywhere(""))
			return err
		})
		if !strings.Contains(string(replies[0].GetPlan()), "shop") {
			t.Error("devices that chose no task went to the one that had just run")
		}
	})
}

// Three devices that name no task go on with the one of two that they can fill and that is due, whatever else there is.
func TestTaskThatCannotRunStarvesNoOther(t *testing.T) {
	for name, change := range map[string]func(*pb.TaskSpec){
		"too few devices for it": func(s *pb.TaskSpec) { s.PerRound, s.MinSurvivors = 40, 40 },
		"not due for an hour":    func(s *pb.TaskSpec) { s.EveryMs = 3_600_000 },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := spec(3, 3)
				s.EveryMs = 1000
				w, devices := fleet(t, 3, s, Options{})
				other := spec(3, 3)
				other.Name = "shop"
				change(other)
				w.create(t, other)
				start := time.Now()
				for rounds := 0; rounds < 6; {
					replies := make([]*pb.CheckInResponse, 3)
					each(t, 3, func(i int) (err error) {
						replies[i], err = devices[i].rounds.CheckIn(t.Context(), devices[i].anywhere(""))
						return err
					})
					var pause time.Duration
					for _, r := range replies {
						pause = max(pause, milliseconds(uint64(r.GetRetryAfterMs())))
					}
					if pause > 0 {
						<-time.After(pause)
					} else {
						walks := make([]*walk, 3)
						each(t, 3, func(i int) (err error) {
							walks[i], err = devices[i].walk(replies[i])
							return err
						})
						each(t, 3, func(i int) error { return walks[i].steps(t.Context(), all) })
						rounds++
					}
					if took := time.Since(start); took > 5*time.Minute {
						t.Fatalf("%d rounds after %v, want six in less than five minutes", rounds, took)
					}
				}
			})
		})
	}
}

// Devices that their best task turns away, since they have given it all they may, or are
// kept out of it, go on with the next, and are told the shorter time where there is none.
func TestDeviceTurnedAwayGoesToTheNextTask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := spec(4, 4)
		s.Privacy = &pb.Privacy{Epsilon: 4, Delta: 1e-6, Participations: 1, Separation: 1, Clip: 1}
		w, devices := fleet(t, 4, s, Options{})
		walks := gather(t, devices...) // names "desk"
		each(t, 4, func(i int) error { return walks[i].steps(t.Context(), all) })
		anywhere := func() []*pb.CheckInResponse {
			t.Helper()
			replies := make([]*pb.CheckInResponse, 4)
			each(t, 4, func(i int) (err error) {
				replies[i], err = devices[i].rounds.CheckIn(t.Context(), devices[i].anywhere(""))
				return err
			})
			return replies
		}
		if r := anywhere()[0]; len(r.GetPlan()) > 0 || r.GetRetryAfterMs() != 3_600_000 || !strings.Contains(r.GetReason(), "privacy") {
			t.Errorf("with one task, which they have nothing left for, devices were told %v", r)
		}
		other := spec(4, 4)
		other.Name, other.EveryMs = "shop", 600_000
		w.create(t, other)
		for range 2 { // in the second round the first task's is longest ago
			replies, walks := anywhere(), make([]*walk, 4)
			each(t, 4, func(i int) (err error) {
				if !strings.Contains(string(replies[i].GetPlan()), "shop") {
					return fmt.Errorf("told %v, want a plan of the other task", replies[i])
				}
				walks[i], err = devices[i].walk(replies[i])
				return err
			})
			each(t, 4, func(i int) error { return walks[i].steps(t.Context(), all) })
			if r := anywhere()[0]; r.GetRetryAfterMs() == 0 || r.GetRetryAfterMs() > 600_000 || !strings.Contains(r.GetReason(), "starts at") {
				t.Errorf("told %v, want to come back when the other task is due", r)
			}
			<-time.After(10 * time.Minute)
		}
	})
}

func TestRestsStayBounded(t *testing.T) {
	for unfilled := range 200 {
		want := 16 * time.Minute
		if unfilled < 5 {
			want = time.Duration(30<<unfilled) * time.Second
		}
		if got := restAfter(unfilled); got != want {
			t.Errorf("after %d times a rest of %v, want %v", unfilled, got, want)
		}
	}
}

// A task goes on after a stop as it would have without.
func TestResumed(t *testing.T) {
	start := time.UnixMilli(1_000_000_000)
	attempt := func(number uint32, aborted string) store.Attempt {
		return store.Attempt{Round: 3, Attempt: number, Started: start.Add(time.Duration(number) * time.Minute), Aborted: aborted}
	}
	for _, c := range []struct {
		name     string
		attempts []store.Attempt
		now      time.Duration // after the start
		want     time.Duration // to wait
	}{
		{"nothing ran", nil, time.Hour, 0},
		{"committed", []store.Attempt{attempt(1, "")}, 11 * time.Minute, 50 * time.Minute},
		{"committed by its second attempt", []store.Attempt{attempt(1, "too few"), attempt(2, "")}, 11 * time.Minute, 50 * time.Minute},
		{"long ago", []store.Attempt{attempt(1, "")}, 3 * time.Hour, 0},
		{"aborted, to be tried again", []store.Attempt{attempt(1, "too few")}, 11 * time.Minute, 0},
		{"intents changed since", []store.Attempt{attempt(1, ""), {Round: 4, Attempt: 1, Started: start.Add(9 * time.Minute), IntentsVersion: 2}}, 11 * time.Minute, 50 * time.Minute},
		{"a clock set back", []store.Attempt{attempt(1, "")}, -24 * time.Hour, 0},
	} {
		now := start.Add(c.now)
		task := &task{spec: &pb.TaskSpec{EveryMs: 3_600_000}}
		task.resumed(c.attempts, now)
		if got := max(0, task.notBefore.Sub(now)); got != c.want {
			t.Errorf("%s: waits %v, want %v", c.name, got, c.want)
		}
	}
}

// A round starts as long after the one before as the task says, whether the coordinator stopped meanwhile or not.
func TestRoundsKeepTheirDistanceOverARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := spec(3, 3)
		s.EveryMs = 3_600_000
		w, devices := fleet(t, 3, s, Options{})
		walks := gather(t, devices...)
		each(t, 3, func(i int) error { return walks[i].steps(t.Context(), all) })
		<-time.After(10 * time.Minute)
		w.shut()
		w = newWorld(t, w.dir, Options{})
		reply, err := rpc.NewOperatorServiceClient(w.operator(t)).ListTasks(t.Context(), &pb.ListTasksRequest{})
		if want := "round 2 starts at 2000-01-01T01:00:00Z"; err != nil || len(reply.GetTasks()) != 1 || reply.GetTasks()[0].GetState() != want {
			t.Errorf("tasks %v, %v; want the state %q", reply, err, want)
		}
	})
}

func TestStopIsGraceful(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, devices := fleet(t, 4, spec(3, 3), Options{})
		walks := gather(t, devices[:3]...)
		errs := make(chan error, 2)
		go func() { errs <- walks[0].advertise(t.Context()) }()
		go func() {
			_, err := devices[3].checkIn(t.Context())
			errs <- err
		}()
		synctest.Wait()
		start := time.Now()
		w.shut()
		for range 2 {
			wants(t, "held call", <-errs, codes.Unavailable, "is stopping")
		}
		if took := time.Since(start); took > stopTime {
			t.Errorf("stopping took %v", took)
		}
		if _, err := devices[0].checkIn(t.Context()); status.Code(err) != codes.Unavailable {
			t.Errorf("after the stop: %v", err)
		}
		// The attempt that was cut short is not repeated under its number.
		w = newWorld(t, w.dir, Options{})
		for _, d := range devices[:3] {
			d.connect(w)
		}
		if at := gather(t, devices[:3]...)[0].at; at.GetRound() != 2 || at.GetAttempt() != 1 {
			t.Errorf("round %d attempt %d after the restart, want round 2", at.GetRound(), at.GetAttempt())
		}
	})
}
