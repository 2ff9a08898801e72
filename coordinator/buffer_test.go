package coordinator

import (
	"context"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/discreet-fl/discreet/aggregation"
	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/proto/rpc"
)

// buffered is a task for cohorts of three devices, so many of whose sums make a checkpoint.
func buffered(cohorts, staleness uint32) *pb.TaskSpec {
	s := spec(3, 3)
	s.Strategy = StrategyFor(aggregation.Choice{Name: "fedavg"})
	s.Buffer = &pb.Buffer{Cohorts: cohorts, Staleness: staleness}
	return s
}

// wholly takes devices through all steps at once.
func wholly(t *testing.T, walks ...*walk) {
	t.Helper()
	each(t, len(walks), func(i int) error { return walks[i].steps(t.Context(), all) })
}

// first is the first parameter of a checkpoint.
func first(d *device, sum []byte) float64 { return float64(d.checkpointOf(sum).Params[0]) }

// TestSlowCohortHoldsNobodyUp lets a cohort begin and fall behind while others make two
// checkpoints. Its sum is in the third, for less, by the formula and by hand.
func TestSlowCohortHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, devices := fleet(t, 9, buffered(2, 2), Options{})
		for i, d := range devices {
			d.value, d.weight = []float32{0.5, 0.25, -0.25}[i/3], []int{4, 8, 16}[i/3]
		}
		start := time.Now()
		at := []float64{first(devices[0], w.task("desk").view.Load().sum[:])}
		slow := gather(t, devices[:3]...)
		var latest []*walk
		for round := uint64(1); round <= 2; round++ {
			one, other := gather(t, devices[3:6]...), gather(t, devices[6:]...)
			if got := other[0].at; got.GetRound() != round || one[0].at.GetRound() != round || one[0].at.GetAttempt()+1 != got.GetAttempt() {
				t.Errorf("attempts %v and %v side by side, want two of round %d", one[0].at, got, round)
			}
			latest = append(one, other...)
			wholly(t, latest...)
			at = append(at, first(devices[0], latest[0].receipt.GetCheckpointSha256()))
			// (8·0.25 − 16·0.25) / 24, with the weights of three devices each.
			if moved, want := at[round]-at[round-1], -1./12; math.Abs(moved-want) > 2e-4 {
				t.Errorf("round %d moved by %v, want %v", round, moved, want)
			}
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("two checkpoints took %v beside a slow cohort", took)
		}
		// In the third the slow cohort is two checkpoints late.
		go wholly(t, slow...)
		synctest.Wait()
		if got := w.task("desk").view.Load(); got.buffered != 1 || !strings.Contains(got.state, "1 of 2 sums") {
			t.Errorf("%d sums in the buffer, state %q", got.buffered, got.state)
		}
		latest = gather(t, devices[3:6]...)
		wholly(t, latest...)
		synctest.Wait()
		moved := first(devices[0], latest[0].receipt.GetCheckpointSha256()) - at[2]
		if want := (4*0.5/math.Sqrt(3) + 8*0.25) / 12; math.Abs(moved-want) > 2e-4 {
			t.Errorf("the third moved by %v, want %v", moved, want)
		}
		if slow[0].receipt.String() != latest[0].receipt.String() {
			t.Errorf("receipts %v and %v for one checkpoint", slow[0].receipt, latest[0].receipt)
		}
		shown, err := rpc.NewOperatorServiceClient(w.operator(t)).GetTask(t.Context(), &pb.GetTaskRequest{Name: "desk"})
		if err != nil || len(shown.GetRounds()) != 6 || shown.GetTask().GetRoundsDone() != 3 {
			t.Fatalf("task %v, %v", shown, err)
		}
		late := make(map[uint32]int)
		for _, r := range shown.GetRounds() {
			late[r.GetStaleness()]++
		}
		if late[0] != 5 || late[2] != 1 {
			t.Errorf("records by staleness: %v", late)
		}
		w.shut()
		again := newWorld(t, w.dir, Options{})
		if n := again.log.count("round left"); n != 0 {
			t.Errorf("%d rounds left at a restart after a checkpoint", n)
		}
		devices[0].connect(again)
		receipt, err := devices[0].rounds.Reveal(t.Context(), slow[0].reveal)
		if err != nil || receipt.String() != slow[0].receipt.String() {
			t.Errorf("the late cohort's receipt after a restart: %v, %v", receipt, err)
		}
	})
}

// TestBufferOfOtherBits adds sums of attempts to which other numbers of devices came, and
// whose coordinates so have other bits: each is read by its own plan.
func TestBufferOfOtherBits(t *testing.T) {
	s := spec(1000, 3)
	s.Strategy, s.Buffer = StrategyFor(aggregation.Choice{Name: "fedavg"}), &pb.Buffer{Cohorts: 3, Staleness: 2}
	if err := CheckSpec(s); err != nil {
		t.Fatal(err)
	}
	c, err := firstCheckpoint(s)
	if err != nil {
		t.Fatal(err)
	}
	var parts []Part
	var want, weights float64
	for i, tc := range []struct {
		devices int
		bits    uint32
		value   float32
		weight  int
		late    int
	}{{1000, 14, 0.25, 4, 0}, {30, 16, -0.5, 32, 2}, {100, 15, 1, 8, 1}} {
		plan, _, err := NewPlan(s, 1, uint32(i+1), Basis{Layout: c.Manifest.Layout, Devices: tc.devices})
		if err != nil {
			t.Fatal(err)
		}
		if got := plan.GetCodec().GetBits(); got != tc.bits {
			t.Errorf("%d devices: %d bits, want %d", tc.devices, got, tc.bits)
		}
		sum := (&walk{device: &device{value: tc.value, weight: tc.weight}, plan: plan}).encode(nil)
		for j := range sum { // of devices that are all alike
			sum[j] *= uint32(tc.devices)
		}
		total := ChoiceOf(s).Sums(len(sum))
		total.Add(sum, LayoutOf(plan, c.Manifest.Layout).Signed(), int(plan.GetCodec().GetRingBits()))
		parts = append(parts, Part{Plan: plan, Total: total, Survivors: tc.devices, Late: tc.late})
		weight := float64(tc.devices * tc.weight)
		want, weights = want+weight*float64(tc.value)/math.Sqrt(1+float64(tc.late)), weights+weight
	}
	want /= weights
	next, _, err := ApplyBuffer(s, c, nil, parts)
	if err != nil {
		t.Fatal(err)
	}
	// Devices that are all alike round alike: a sum is off by no more than one of them.
	for j, p := range next.Params {
		if moved := float64(p - c.Params[j]); math.Abs(moved-want) > 4./(1<<13-1)*32/4 {
			t.Fatalf("parameter %d moved by %v, want %v", j, moved, want)
		}
	}
}

// TestTooLateSumIsThrownAway lets a cohort come two checkpoints late where one is allowed.
func TestTooLateSumIsThrownAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, devices := fleet(t, 6, buffered(1, 1), Options{})
		slow := gather(t, devices[:3]...)
		for range 2 {
			wholly(t, gather(t, devices[3:]...)...)
		}
		before := w.task("desk").view.Load().sum
		each(t, 3, func(i int) error { return slow[i].steps(t.Context(), 4) })
		wants(t, "a device of the late cohort", func() error {
			each(t, 2, func(i int) error { go slow[i].finish(t.Context()); return nil })
			return slow[2].finish(t.Context())
		}(),
			codes.Aborted, "2 checkpoints late", "at most 1")
		if w.task("desk").view.Load().sum != before {
			t.Error("its sum made a checkpoint")
		}
	})
}

// TestBufferThatDoesNotFillIsCommitted has fewer devices than a full buffer takes: they
// wait for a step's deadline and no longer. A crash loses what the buffer holds, and no
// device reveals twice for a checkpoint.
func TestBufferThatDoesNotFillIsCommitted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, devices := fleet(t, 3, buffered(3, 2), Options{})
		start := time.Now()
		wholly(t, gather(t, devices...)...)
		if took := time.Since(start); took != 8*time.Second {
			t.Errorf("committed after %v, want a step's deadline of 8s", took)
		}
		lost := gather(t, devices...)
		each(t, 3, func(i int) error { return lost[i].steps(t.Context(), 4) })
		for _, k := range lost {
			go k.finish(context.Background())
		}
		synctest.Wait()
		if n := w.task("desk").view.Load().buffered; n != 1 {
			t.Fatalf("%d sums in the buffer", n)
		}
		w.shut()
		w = newWorld(t, w.dir, Options{})
		for _, d := range devices {
			d.connect(w)
		}
		wholly(t, gather(t, devices...)...)
		if got := w.log.count("checkpoint held"); got != 1 {
			t.Errorf("%d checkpoints held", got)
		}
		if done := w.task("desk").view.Load().done; done != 3 {
			t.Errorf("%d checkpoints, want two and a held one", done)
		}
	})
}

// TestDeviceIsInOneSumOnACheckpoint lets a device come anew when its vector has been added
// and it has not been told to reveal.
func TestDeviceIsInOneSumOnACheckpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, devices := fleet(t, 6, buffered(2, 2), Options{})
		walks := gather(t, devices[:3]...)
		each(t, 3, func(i int) error { return walks[i].steps(t.Context(), 3) })
		if _, err := devices[0].checkIn(t.Context()); err == nil || !strings.Contains(err.Error(), "in a sum for the current checkpoint") {
			t.Errorf("checking in beside its own vector: %v, want to be asked to come back", err)
		}
	})
}

// TestLostRevealMakesACheckpoint loses an attempt after its devices were told to reveal.
// They need another checkpoint, which the buffer makes although it is not full.
func TestLostRevealMakesACheckpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, devices := fleet(t, 6, buffered(3, 2), Options{Grace: time.Second})
		good, bad := gather(t, devices[:3]...), gather(t, devices[3:]...)
		each(t, 3, func(i int) error { return bad[i].steps(t.Context(), 4) })
		go wholly(t, good...)
		synctest.Wait()
		for _, d := range devices[3:] {
			d.leave()
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if v := w.task("desk").view.Load(); v.done != 1 || v.buffered != 0 {
			t.Errorf("%d checkpoints, %d sums in the buffer, want the buffer's own: %s", v.done, v.buffered, v.state)
		}
		for _, d := range devices[3:] {
			d.connect(w)
		}
		wholly(t, gather(t, devices[3:]...)...)
	})
}

// TestHeldCheckpointBeforeIntents loses an attempt after its devices were told to reveal,
// while a change of intents waits and nobody comes: the held checkpoint, and then the
// change, are made when the next attempt might have started.
func TestHeldCheckpointBeforeIntents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := buffered(3, 2)
		s.EveryMs = 60_000
		w, devices := fleet(t, 3, s, Options{Grace: time.Second})
		walks := gather(t, devices...)
		each(t, 3, func(i int) error { return walks[i].steps(t.Context(), 4) })
		if _, err := rpc.NewOperatorServiceClient(w.operator(t)).ChangeIntents(t.Context(), &pb.ChangeIntentsRequest{Task: "desk", Changes: addIntents("payback")}); err != nil {
			t.Fatal(err)
		}
		for _, d := range devices {
			d.leave()
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if v := w.task("desk").view.Load(); v.version != 1 || v.done != 1 {
			t.Errorf("version %d after %d checkpoints: %s", v.version, v.done, v.state)
		}
	})
}

// TestLateSumsMeetAReveal makes a checkpoint of a sum that came late while the first device
// on the one before is told to reveal, in an attempt that is lost then: nobody has revealed
// for the new one, and intents change.
func TestLateSumsMeetAReveal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, devices := fleet(t, 9, buffered(2, 2), Options{Grace: time.Second})
		slow := gather(t, devices[:3]...)
		wholly(t, append(gather(t, devices[3:6]...), gather(t, devices[6:]...)...)...)
		go wholly(t, slow...)
		synctest.Wait()
		fresh := gather(t, devices[3:6]...)
		each(t, 3, func(i int) error { return fresh[i].steps(t.Context(), 3) })
		met, task := make(chan bool), w.task("desk")
		task.mail.post(func(now time.Time) {
			task.flush(now.Add(time.Minute)) // the sum has waited for long enough
			o := <-task.finished             // and is in a checkpoint, as the store has it
			met <- task.mayReveal(now, task.open[len(task.open)-1])
			task.finish(now, o)
		})
		if !<-met {
			t.Error("the attempt was aborted")
		}
		for _, k := range fresh {
			k.leave()
		}
		time.Sleep(time.Minute)
		list, err := rpc.NewOperatorServiceClient(w.operator(t)).ChangeIntents(t.Context(), &pb.ChangeIntentsRequest{Task: "desk", Changes: addIntents("payback")})
		if err != nil || list.GetList().GetVersion() != 1 || task.view.Load().done != 2 {
			t.Errorf("%v, %v after %d checkpoints, want the change made after two", list, err, task.view.Load().done)
		}
	})
}

// TestIntentsWaitForTheBuffer changes intents while one cohort's sum is in the buffer and
// another is at work: no sum is over two lists.
func TestIntentsWaitForTheBuffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, devices := fleet(t, 6, buffered(3, 2), Options{})
		one, other := gather(t, devices[:3]...), gather(t, devices[3:]...)
		go wholly(t, one...)
		synctest.Wait()
		start := time.Now()
		list, err := rpc.NewOperatorServiceClient(w.operator(t)).ChangeIntents(t.Context(), &pb.ChangeIntentsRequest{Task: "desk", Changes: addIntents("payback")})
		if err != nil || len(list.GetList().GetQueued()) != 1 {
			t.Fatalf("%v, %v", list, err)
		}
		wholly(t, other...)
		synctest.Wait()
		if v := w.task("desk").view.Load(); v.version != 1 || v.done != 1 || time.Since(start) > time.Second {
			t.Errorf("version %d after %d checkpoints and %v: %s", v.version, v.done, time.Since(start), v.state)
		}
	})
}

func TestBufferIsChecked(t *testing.T) {
	for want, change := range map[string]func(*pb.TaskSpec){
		"":                 func(*pb.TaskSpec) {},
		"want 1 to 16":     func(s *pb.TaskSpec) { s.Buffer.Cohorts = 0 },
		"of 17 cohorts":    func(s *pb.TaskSpec) { s.Buffer.Cohorts = 17 },
		"at most 100":      func(s *pb.TaskSpec) { s.Buffer.Staleness = 101 },
		"round of its own": func(s *pb.TaskSpec) { s.PerRound, s.Cohort = 6, 3 },
		"holds sums of several": func(s *pb.TaskSpec) {
			s.Strategy = StrategyFor(aggregation.Choice{Name: "median"})
			s.PerRound, s.Cohort = 15, 15
		},
	} {
		s := buffered(2, 2)
		change(s)
		if err := checkBuffer(s); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
