package coordinator

import (
	"bytes"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/discreet-fl/discreet/coordinator/store"
	"github.com/discreet-fl/discreet/model"
	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/proto/rpc"
)

// evaluated is an evaluation of the i-th checkpoint.
func evaluated(i byte, right, chats uint64) *pb.RoundEvaluation {
	return &pb.RoundEvaluation{CheckpointSha256: bytes.Repeat([]byte{i}, 32), Chats: chats, Accuracy: float64(right) / float64(chats)}
}

// TestBestIsOfEnoughChats follows a standing by hand.
func TestBestIsOfEnoughChats(t *testing.T) {
	var s Standing
	for i, c := range []struct {
		right, chats uint64
		none         bool // no best yet
		accuracy     float64
		since        uint64
	}{
		{10, 10, true, 0, 0}, // all of a few
		{0, 0, true, 0, 0},   // nobody counted a chat
		{100, 300, true, 0, 0},
		{90, 190, false, 200. / 500, 0},
		{1, 2, false, 0, 1},
		{60, 60, false, 151. / 252, 0},
		{5, 5, false, 156. / 257, 0}, // with those before, until there are enough
		{1, 5, false, 0, 1},
		{99, 190, false, 0, 2},
	} {
		if c.chats == 0 {
			s = s.After(&pb.RoundEvaluation{})
		} else {
			s = s.After(evaluated(byte(i), c.right, c.chats))
		}
		if c.none {
			if s.best != nil {
				t.Errorf("after evaluation %d the best is %x with %v, want none", i, s.best.SHA256[0], s.best.Accuracy)
			}
			continue
		}
		want := store.Best{SHA256: [32]byte(bytes.Repeat([]byte{byte(i)}, 32)), Accuracy: c.accuracy, Since: c.since}
		if c.since > 0 { // an earlier one stays
			want.SHA256, want.Accuracy = s.best.SHA256, s.best.Accuracy
		}
		if *s.best != want {
			t.Errorf("after evaluation %d the best is %x with %v, %d since, want %x with %v, %d", i, s.best.SHA256[0], s.best.Accuracy, s.best.Since, want.SHA256[0], want.Accuracy, c.since)
		}
	}
	if s.best.SHA256[0] != 6 {
		t.Errorf("the best is %x", s.best.SHA256[0])
	}
}

// TestFewChatsAfterTheBestStopATask has a task count so few chats after its best that all
// evaluations at hand have too few together: they count as ones that brought nothing better.
func TestFewChatsAfterTheBestStopATask(t *testing.T) {
	var s Standing
	for i := range byte(smoothed) {
		s = s.After(evaluated(i, 100, leastPooled))
	}
	best := *s.best
	for i := range byte(2 * remembered) {
		before := *s.best
		next := s.After(evaluated(100+i, 0, 1))
		if want := (store.Best{SHA256: best.SHA256, Accuracy: best.Accuracy, Since: before.Since + 1}); *next.best != want || *s.best != before {
			t.Fatalf("after %d evaluations of a chat each the best is %+v, %+v before, want %+v", i+1, *next.best, *s.best, want)
		}
		s = next
	}
	if !s.Exhausted(patient(2*remembered/mostPatience)) || s.Exhausted(patient(2*remembered/mostPatience+1)) {
		t.Errorf("%d evaluations after its best the task goes on, or stops when it should not", s.best.Since)
	}
}

// TestRestartKeepsTheEvaluations holds that a standing is read from the store as it was in
// memory, however many aborted attempts, and evaluations of no chat, came between.
func TestRestartKeepsTheEvaluations(t *testing.T) {
	s, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c := &Coordinator{store: s}
	if err := s.CreateTask(t.Context(), "desk", []byte("spec"), []byte("checkpoint"), time.Now()); err != nil {
		t.Fatal(err)
	}
	record := func(a store.Attempt) {
		t.Helper()
		if err := s.Abort(t.Context(), "desk", a); err != nil {
			t.Fatal(err)
		}
	}
	load := func() []*pb.RoundEvaluation {
		t.Helper()
		standing, err := c.loadStanding(t.Context(), store.Task{Name: "desk"})
		if err != nil {
			t.Fatal(err)
		}
		return standing.recent
	}
	var want Standing
	for i := range byte(remembered + 5) {
		for _, e := range []*pb.RoundEvaluation{evaluated(i, 5, 10), {CheckpointSha256: make([]byte, 32)}} {
			raw, err := proto.Marshal(e)
			if err != nil {
				t.Fatal(err)
			}
			record(store.Attempt{Round: uint64(i), Evaluation: raw})
			want = want.After(e)
		}
		for range 3 {
			record(store.Attempt{Round: uint64(i), Aborted: "too few"})
		}
		if i%10 == 0 || i >= remembered {
			if got := load(); !slices.EqualFunc(got, want.recent, func(a, b *pb.RoundEvaluation) bool { return proto.Equal(a, b) }) {
				t.Errorf("after %d evaluations %d are read, want the latest %d", i+1, len(got), len(want.recent))
			}
		}
	}
	record(store.Attempt{Round: 100, IntentsVersion: 2})
	if got := load(); len(got) != 0 {
		t.Errorf("with other intents %d evaluations are read", len(got))
	}
	record(store.Attempt{Round: 101, Evaluation: []byte("x")})
	if _, err := c.loadStanding(t.Context(), store.Task{Name: "desk"}); err == nil || !strings.Contains(err.Error(), "task desk: a stored evaluation is damaged") {
		t.Errorf("a damaged evaluation: %v", err)
	}
}

// patient is a task that stops after so many evaluations without a better.
func patient(evaluations uint64) *pb.TaskSpec {
	return &pb.TaskSpec{Evaluation: &pb.TaskEvaluation{EarlyStop: evaluations}}
}

// TestTaskStopsOnceLevelled has tasks wait for a better accuracy with so many chats that what is
// still to gain is known, and with too few.
func TestTaskStopsOnceLevelled(t *testing.T) {
	const limit, many = 5, 1_000_000
	for _, c := range []struct {
		name  string
		chats uint64
		step  int // of 1,000 chats how many more are named rightly in each evaluation
		want  uint64
	}{
		{"level, many chats", many, 0, limit},
		{"falling, many chats", many, -5, limit},
		{"rising by half a point in five, many chats", many, 1, limit},
		{"rising by a point and a half in five, many chats", many, 3, mostPatience * limit},
		{"level, few chats", 500, 0, mostPatience * limit},
	} {
		var s Standing
		for i := range byte(smoothed) {
			s = s.After(evaluated(i, c.chats, c.chats)) // all: the best
		}
		var stopped uint64
		for i := 1; stopped == 0 && i <= 2*mostPatience*limit; i++ {
			s = s.After(evaluated(byte(10+i), uint64(500+c.step*i)*c.chats/1000, c.chats))
			if s.Exhausted(patient(limit)) {
				stopped = s.best.Since
			}
		}
		if stopped != c.want {
			t.Errorf("%s: stopped after %d evaluations without a better, want %d", c.name, stopped, c.want)
		}
		if s.Exhausted(patient(0)) {
			t.Errorf("%s: it stops, and was never to", c.name)
		}
	}
}

// namedRightly draws what a round counts: a coin for each chat that is held back, and whether it is
// named rightly.
func namedRightly(draw *rand.Rand, heldBack int, accuracy float64) (right, chats uint64) {
	if heldBack > 400 { // as many as make no difference
		chats = uint64(heldBack / 2)
		n := float64(chats)
		return uint64(math.Round(min(n, n*accuracy+math.Sqrt(n*accuracy*(1-accuracy))*draw.NormFloat64()))), chats
	}
	for range heldBack {
		if draw.Float64() < 0.5 {
			chats++
			if draw.Float64() < accuracy {
				right++
			}
		}
	}
	return right, chats
}

// TestFewChatsStopNoTask simulates tasks that stop early after ten evaluations without a better
// accuracy, and whose rounds count few chats or many. One in twenty at most may stop more than two
// points below what it knows after a hundred rounds, and the best checkpoint may be two below the
// one that is best in truth, in the mean. Where nothing is to gain, nine in ten stop in a hundred.
func TestFewChatsStopNoTask(t *testing.T) {
	const seeds, rounds, most, patience = 200, 100, 250, 10
	quick := func(r float64) float64 { return 0.85 - 0.82*math.Exp(-r/8) }
	slow := func(r float64) float64 { return 0.85 - 0.15*math.Exp(-r/30) } // from a warm start
	level := func(float64) float64 { return 0.85 }
	falling := func(r float64) float64 { return max(0.85-r/1000, 0.75) }
	for _, c := range []struct {
		name    string
		learned func(round float64) float64
		chats   int // counted in a round
		stops   bool
	}{
		{"quick", quick, 1, false}, {"quick", quick, 3, false}, {"quick", quick, 10, false}, {"quick", quick, 30, false}, {"quick", quick, 200, false}, {"quick", quick, 2000, false},
		{"slow", slow, 30, false}, {"slow", slow, 200, false}, {"slow", slow, 2000, false},
		{"level", level, 30, true}, {"level", level, 200, true}, {"level", level, 2000, true},
		{"falling", falling, 30, true}, {"falling", falling, 200, true}, {"falling", falling, 2000, true},
	} {
		var early, none int
		var lost float64
		var ends []int
		for seed := range uint64(seeds) {
			draw := rand.New(rand.NewPCG(seed, uint64(c.chats)))
			var s Standing
			ended := most
			for r := range most {
				if right, chats := namedRightly(draw, 2*c.chats, c.learned(float64(r))); chats > 0 {
					s = s.After(evaluated(byte(r), right, chats))
				}
				if s.Exhausted(patient(patience)) {
					ended = r
					break
				}
			}
			ends = append(ends, ended)
			if c.learned(float64(ended)) < c.learned(rounds)-0.02 {
				early++
				t.Logf("%s, %d chats a round, seed %d: stopped in round %d, at an accuracy of %.3f", c.name, c.chats, seed, ended, c.learned(float64(ended)))
			}
			if s.best == nil {
				none++
				continue
			}
			lost += max(c.learned(0), c.learned(float64(ended))) - c.learned(float64(s.best.SHA256[0]))
		}
		slices.Sort(ends)
		t.Logf("%s, %d chats a round: %d of %d tasks stopped too early; half had stopped in round %d, nine in ten in %d; %d had no best, which is %.2f points below the best there was in the mean",
			c.name, c.chats, early, seeds, ends[seeds/2], ends[seeds*9/10], none, 100*lost/float64(max(seeds-none, 1)))
		if early > seeds/20 {
			t.Errorf("%s, %d chats a round: %d of %d tasks stopped too early", c.name, c.chats, early, seeds)
		}
		if lost > 0.02*float64(seeds-none) {
			t.Errorf("%s, %d chats a round: the best checkpoint is %.1f points below the best there was in the mean, want 2 at most", c.name, c.chats, 100*lost/float64(seeds-none))
		}
		if c.stops && ends[seeds*9/10] > rounds {
			t.Errorf("%s, %d chats a round: nine in ten tasks had stopped in round %d, want %d at most", c.name, c.chats, ends[seeds*9/10], rounds)
		}
	}
}

// TestTaskStopsEarly runs rounds that get worse, over a restart, until the task stops by
// itself and keeps its best checkpoint. New intents let it go on.
func TestTaskStopsEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := spec(3, 3)
		s.Evaluation = &pb.TaskEvaluation{HeldBack: 1000, EarlyStop: 1}
		w, devices := fleet(t, 3, s, Options{})
		show := func() *pb.GetTaskResponse {
			t.Helper()
			reply, err := rpc.NewOperatorServiceClient(w.operator(t)).GetTask(t.Context(), &pb.GetTaskRequest{Name: "desk"})
			if err != nil {
				t.Fatal(err)
			}
			return reply
		}
		if show().Task.Best != nil {
			t.Error("a best checkpoint before the first round")
		}
		var began [][]byte
		for _, right := range []int{20, 80, 30, 10, 40, 20} {
			w.shut()
			w = newWorld(t, w.dir, Options{})
			for _, d := range devices {
				d.connect(w)
				d.right = right
			}
			walks := gather(t, devices...)
			began = append(began, walks[0].plan.GetCheckpointSha256())
			each(t, 3, func(i int) error { return walks[i].steps(t.Context(), all) })
		}
		synctest.Wait()
		shown := show()
		e, best := shown.Rounds[0].Evaluation, shown.Task.Best
		if e.GetChats() != 300 || e.GetDevices() != 3 || e.GetAccuracy() != 0.2 || !bytes.Equal(e.GetCheckpointSha256(), began[5]) || e.GetIntentCorrect()[0] != 60 {
			t.Errorf("the last round's evaluation is %v", e)
		}
		if !bytes.Equal(best.GetSha256(), began[2]) || best.GetAccuracy() != 130./300 || best.GetSince() != 3 {
			t.Errorf("the best is %v, want the third round's checkpoint with 0.433", best)
		}
		_, err := devices[0].checkIn(t.Context())
		if got := shown.Task.State; got != "stopped early: no better accuracy in 3 rounds" || err == nil {
			t.Errorf("the state is %q; checking in: %v", got, err)
		}
		op := rpc.NewOperatorServiceClient(w.operator(t))
		if _, err := op.ChangeIntents(t.Context(), &pb.ChangeIntentsRequest{Task: "desk", Changes: addIntents("payback")}); err != nil {
			t.Fatal(err)
		}
		for range 2 { // also when it is read anew
			if now := show().Task; now.Best != nil || now.State == shown.Task.State {
				t.Errorf("with another intent the task is %q with the best %v", now.State, now.Best)
			}
			w.shut()
			w = newWorld(t, w.dir, Options{})
		}
	})
}

// TestCalibrationIsOfTheLatestEvaluations calibrates by hand-made counts.
func TestCalibrationIsOfTheLatestEvaluations(t *testing.T) {
	s := spec(3, 3)
	s.Evaluation = &pb.TaskEvaluation{HeldBack: 1000, Unknown: 500}
	layout := layoutFor(t, s)
	calibrate := func(st Standing) *model.Calibration {
		t.Helper()
		c, err := model.NewCheckpoint("desk", "small", 1, s.Intents, make([]float32, layout.Parameters()))
		if err != nil {
			t.Fatal(err)
		}
		c.Manifest.Calibration = &model.Calibration{Slope: 7}
		st.Calibrate(c, s)
		return c.Manifest.Calibration
	}
	// A tenth of the chats in the lower of two bins is named rightly, nine tenths in the upper.
	counted := func(chats uint64, high float32) *pb.RoundEvaluation {
		return &pb.RoundEvaluation{CheckpointSha256: make([]byte, 32), Chats: 2 * chats, InScope: []uint64{chats, chats},
			Margins: []uint64{chats, chats}, Right: []uint64{chats / 10, chats - chats/10}, Bins: &pb.Evaluation{Bins: 2, ScoreHigh: high, MarginLow: -2, MarginHigh: 2}}
	}
	few := Standing{}.After(counted(leastCalibrated/2-10, 10))
	if c := calibrate(few); c.Slope != 7 {
		t.Errorf("too few chats gave %+v", c)
	}
	enough := few.After(counted(10, 10))
	c := calibrate(enough)
	// The share in the middle of each bin, at a margin of ±1, is its own; a tenth of the lower half is a twentieth.
	if math.Abs(float64(c.Slope)-math.Log(9)) > 0.05 || c.Offset != 0 || *c.Threshold != 0.5 {
		t.Errorf("enough chats gave %+v with threshold %v", c, *c.Threshold)
	}
	if c := calibrate(enough.After(counted(calibratedBy/2, 20))); *c.Threshold != 1 {
		t.Errorf("with enough chats the threshold is %v, want that of the latest evaluation alone", *c.Threshold)
	}
	if c := calibrate(enough.After(counted(10, 20))); c.Slope != 7 {
		t.Errorf("counts of other bins gave %+v", c)
	}
	s.Evaluation.Unknown = 0
	if c := calibrate(enough); c.Slope == 7 || c.Threshold != nil {
		t.Errorf("a task that answers all got %+v", c)
	}
}

// TestDevicesHearOfPersonalParts: a task that wants them tells the share of its
// evaluation, another none.
func TestDevicesHearOfPersonalParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, personal := range []bool{false, true} {
			s, want := spec(3, 3), uint32(0)
			s.Evaluation, s.Personal = &pb.TaskEvaluation{HeldBack: 1500}, personal
			if personal {
				want = 1500
			}
			w, devices := fleet(t, 1, s, Options{})
			reply, err := devices[0].rounds.Tasks(t.Context(), &pb.TasksRequest{Version: pb.Current()})
			if err != nil || len(reply.GetTasks()) != 1 || reply.GetTasks()[0].GetPersonalHeldBack() != want {
				t.Errorf("personal %v: %v, %v, want a share of %d", personal, reply, err, want)
			}
			w.shut()
		}
	})
}
