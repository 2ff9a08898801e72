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
	if s.best.SHA256[0] != 6 || !s.Exhausted(&pb.TaskSpec{Evaluation: &pb.TaskEvaluation{EarlyStop: 2}}) ||
		s.Exhausted(&pb.TaskSpec{Evaluation: &pb.TaskEvaluation{EarlyStop: 3}}) || s.Exhausted(&pb.TaskSpec{Evaluation: &pb.TaskEvaluation{}}) {
		t.Errorf("the best is %x, %d since", s.best.SHA256[0], s.best.Since)
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
	if !s.Exhausted(&pb.TaskSpec{Evaluation: &pb.TaskEvaluation{EarlyStop: 2 * remembered}}) {
		t.Errorf("the task goes on, %d evaluations after its best", s.best.Since)
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

// TestFewChatsStopNoTask lets a task learn from 3% to 85%, and its rounds count few chats
// by chance, so that some early ones have them all right. It must neither stop before it
// has learned nearly all, nor take a checkpoint for the best that has not.
func TestFewChatsStopNoTask(t *testing.T) {
	const seeds, rounds, patience = 100, 100, 10
	learned := func(round int) float64 { return 0.85 - 0.82*math.Exp(-float64(round)/8) }
	for _, chats := range []int{1, 3, 10, 30} {
		var stopped, none int
		var lost float64
		for seed := range uint64(seeds) {
			draw := rand.New(rand.NewPCG(seed, uint64(chats)))
			var s Standing
			ended := rounds
			for r := range rounds {
				var n, right uint64
				for range 2 * chats { // a coin for each, and whether it is named rightly
					if draw.Float64() < 0.5 {
						n++
						if draw.Float64() < learned(r) {
							right++
						}
					}
				}
				if n > 0 {
					s = s.After(evaluated(byte(r), right, n))
				}
				if s.Exhausted(&pb.TaskSpec{Evaluation: &pb.TaskEvaluation{EarlyStop: patience}}) {
					ended = r
					break
				}
			}
			if ended < rounds {
				stopped++
			}
			if learned(ended) < learned(rounds)-0.02 {
				t.Errorf("%d chats a round, seed %d: stopped in round %d, at an accuracy of %.3f", chats, seed, ended, learned(ended))
			}
			if s.best == nil {
				none++
				continue
			}
			lost += learned(rounds) - learned(int(s.best.SHA256[0]))
		}
		t.Logf("%d chats a round: %d of %d tasks stopped, %d had no best; the best is %.2f points below the last in the mean", chats, stopped, seeds, none, 100*lost/float64(max(seeds-none, 1)))
		if lost > 0.02*float64(seeds-none) {
			t.Errorf("%d chats a round: the best checkpoint is %.1f points below the last in the mean, want 2 at most", chats, 100*lost/float64(seeds-none))
		}
	}
}

// TestTaskStopsEarly runs rounds that get worse, over a restart, until the task stops by
// itself and keeps its best checkpoint. New intents let it go on.
func TestTaskStopsEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := spec(3, 3)
		s.Evaluation = &pb.TaskEvaluation{HeldBack: 1000, EarlyStop: 2}
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
		for _, right := range []int{20, 80, 30, 10, 40} {
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
		if e.GetChats() != 300 || e.GetDevices() != 3 || e.GetAccuracy() != 0.4 || !bytes.Equal(e.GetCheckpointSha256(), began[4]) || e.GetIntentCorrect()[0] != 120 {
			t.Errorf("the last round's evaluation is %v", e)
		}
		if !bytes.Equal(best.GetSha256(), began[2]) || best.GetAccuracy() != 130./300 || best.GetSince() != 2 {
			t.Errorf("the best is %v, want the third round's checkpoint with 0.433", best)
		}
		_, err := devices[0].checkIn(t.Context())
		if got := shown.Task.State; got != "stopped early: no better accuracy in 2 rounds" || err == nil {
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
