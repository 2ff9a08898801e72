package coordinator

import (
	"bytes"
	"math"
	"testing"
	"testing/synctest"

	"github.com/discreet-fl/discreet/coordinator/store"
	"github.com/discreet-fl/discreet/model"
	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/proto/rpc"
)

// evaluated is an evaluation of the i-th checkpoint.
func evaluated(i byte, right, chats uint64) *pb.RoundEvaluation {
	return &pb.RoundEvaluation{CheckpointSha256: bytes.Repeat([]byte{i}, 32), Chats: chats, Accuracy: float64(right) / float64(chats)}
}

// TestBestIsThatOfThreeEvaluations follows a standing by hand.
func TestBestIsThatOfThreeEvaluations(t *testing.T) {
	var s Standing
	for i, c := range []struct {
		right, chats uint64
		best         byte
		accuracy     float64
		since        uint64
	}{
		{1, 10, 0, 0.1, 0},
		{9, 10, 1, 0.5, 0},
		{0, 0, 1, 0.5, 0}, // nobody counted a chat
		{20, 40, 3, 0.5, 1},
		{40, 40, 4, 69. / 90, 0},
		{10, 40, 5, 70. / 120, 1},
		{40, 40, 6, 90. / 120, 2},
	} {
		if c.chats == 0 {
			s = s.After(&pb.RoundEvaluation{})
		} else {
			s = s.After(evaluated(byte(i), c.right, c.chats))
		}
		if c.since > 0 { // the one before stays
			c.best, c.accuracy = s.best.SHA256[0], s.best.Accuracy
		}
		want := store.Best{SHA256: [32]byte(bytes.Repeat([]byte{c.best}, 32)), Accuracy: c.accuracy, Since: c.since}
		if *s.best != want {
			t.Errorf("after evaluation %d the best is %x with %v, %d since, want %x with %v, %d", i, s.best.SHA256[0], s.best.Accuracy, s.best.Since, c.best, c.accuracy, c.since)
		}
	}
	if s.best.SHA256[0] != 4 || !s.exhausted(&pb.TaskSpec{Evaluation: &pb.TaskEvaluation{EarlyStop: 2}}) ||
		s.exhausted(&pb.TaskSpec{Evaluation: &pb.TaskEvaluation{EarlyStop: 3}}) || s.exhausted(&pb.TaskSpec{Evaluation: &pb.TaskEvaluation{}}) {
		t.Errorf("the best is %x, %d since", s.best.SHA256[0], s.best.Since)
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
		for _, right := range []int{2, 8, 3, 1} {
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
		if e.GetChats() != 30 || e.GetDevices() != 3 || e.GetAccuracy() != 0.1 || !bytes.Equal(e.GetCheckpointSha256(), began[3]) || e.GetIntentCorrect()[0] != 3 {
			t.Errorf("the last round's evaluation is %v", e)
		}
		if !bytes.Equal(best.GetSha256(), began[1]) || best.GetAccuracy() != 0.5 || best.GetSince() != 2 {
			t.Errorf("the best is %v, want the second round's checkpoint with 0.5", best)
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
