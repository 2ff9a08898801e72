package coordinator

import (
	"bytes"
	"testing"
	"testing/synctest"

	"github.com/discreet-fl/discreet/coordinator/store"
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
