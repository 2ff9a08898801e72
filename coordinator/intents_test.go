package coordinator

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/discreet-fl/discreet/model"
	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/proto/rpc"
	"github.com/discreet-fl/discreet/secagg"
)

func addIntents(names ...string) []*pb.IntentChange {
	var list []*pb.IntentChange
	for _, name := range names {
		list = append(list, &pb.IntentChange{Kind: pb.IntentChangeKind_INTENT_CHANGE_KIND_ADD, Name: name})
	}
	return list
}

// TestIntentsChangeBetweenRounds changes intents while nothing runs, while a round
// does, and before the coordinator is killed in one.
func TestIntentsChangeBetweenRounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, devices := fleet(t, 3, spec(3, 3), Options{})
		op := rpc.NewOperatorServiceClient(w.operator(t))
		change := func(changes ...*pb.IntentChange) (*pb.IntentList, error) {
			reply, err := op.ChangeIntents(t.Context(), &pb.ChangeIntentsRequest{Task: "desk", Changes: changes})
			return reply.GetList(), err
		}
		before := spec(3, 3).GetIntents()
		list, err := change(addIntents("payback")...)
		if err != nil || list.GetVersion() != 1 || !slices.Equal(list.GetIntents(), append(slices.Clone(before), "payback")) || len(list.GetQueued()) != 0 {
			t.Fatalf("adding while nothing runs: %v, %v", list, err)
		}
		if list, err = change(addIntents("payback")...); err != nil || list.GetVersion() != 1 {
			t.Errorf("adding it again: %v, %v", list, err)
		}
		_, err = change(addIntents("x", "x")...)
		wants(t, "twice", err, codes.InvalidArgument, "changed twice")
		_, err = change(&pb.IntentChange{Kind: pb.IntentChangeKind_INTENT_CHANGE_KIND_RETIRE, Name: "nothing"})
		wants(t, "unknown", err, codes.InvalidArgument, `"nothing"`)
		_, err = change()
		wants(t, "no change", err, codes.InvalidArgument, "want 1 to")
		_, err = op.GetIntents(t.Context(), &pb.GetIntentsRequest{Task: "none"})
		wants(t, "no task", err, codes.NotFound)

		walks := gather(t, devices...)
		rename := &pb.IntentChange{Kind: pb.IntentChangeKind_INTENT_CHANGE_KIND_RENAME, Name: "payback", Into: "money_back"}
		if list, err = change(rename); err != nil || list.GetVersion() != 1 || len(list.GetQueued()) != 1 {
			t.Fatalf("renaming while a round runs: %v, %v", list, err)
		}
		_, err = change(&pb.IntentChange{Kind: pb.IntentChangeKind_INTENT_CHANGE_KIND_RETIRE, Name: "payback"})
		wants(t, "what is about to be renamed", err, codes.InvalidArgument, "old name")
		each(t, 3, func(i int) error { return walks[i].steps(t.Context(), all) })
		synctest.Wait()
		shown, err := op.GetTask(t.Context(), &pb.GetTaskRequest{Name: "desk"})
		if err != nil || shown.GetTask().GetRoundsDone() != 1 || shown.GetTask().GetIntentsVersion() != 2 || len(shown.GetRounds()) != 3 ||
			shown.GetRounds()[0].GetIntentsVersion() != 2 || shown.GetRounds()[1].GetSurvivors() != 3 {
			t.Fatalf("after the round: %v, %v", shown, err)
		}
		c := devices[0].checkpointOf(shown.GetTask().GetCheckpointSha256())
		if at, ok := c.Manifest.Index()["payback"]; !ok || c.Manifest.Labels[at] != "money_back" {
			t.Errorf("the checkpoint knows %v, once %v", c.Manifest.Labels, c.Manifest.FormerIntents)
		}

		gather(t, devices...) // a round that the coordinator's end cuts short
		if list, err = change(addIntents("late")...); err != nil || len(list.GetQueued()) != 1 {
			t.Fatalf("adding while a round runs: %v, %v", list, err)
		}
	})
}

// TestQueuedIntentsOutliveTheCoordinator closes it with a change in the queue.
func TestQueuedIntentsOutliveTheCoordinator(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, dir, Options{})
		w.create(t, spec(3, 3))
		raw := []byte{0x0a, 4, 'd', 'e', 's', 'k', 0x12, 8, 8, 1, 0x12, 4, 'l', 'a', 't', 'e'}
		if err := w.store.QueueIntents(t.Context(), "desk", raw); err != nil {
			t.Fatal(err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, dir, Options{})
		synctest.Wait()
		reply, err := rpc.NewOperatorServiceClient(w.operator(t)).GetIntents(t.Context(), &pb.GetIntentsRequest{Task: "desk"})
		if list := reply.GetList(); err != nil || !slices.Contains(list.GetIntents(), "late") || list.GetVersion() != 1 || len(list.GetQueued()) != 0 {
			t.Errorf("after the start: %v, %v", list, err)
		}
		if left, err := w.store.QueuedIntents(t.Context(), "desk"); err != nil || len(left) != 0 {
			t.Errorf("%d changes still wait, %v", len(left), err)
		}
	})
}

// TestRoundsGoOnWithOtherIntents runs a round on a checkpoint that has more of them.
func TestRoundsGoOnWithOtherIntents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, devices := fleet(t, 3, spec(3, 3), Options{})
		op := rpc.NewOperatorServiceClient(w.operator(t))
		for round := range 3 {
			if _, err := op.ChangeIntents(t.Context(), &pb.ChangeIntentsRequest{Task: "desk", Changes: addIntents(string(rune('a'+round)) + "_new")}); err != nil {
				t.Fatal(err)
			}
			walks := gather(t, devices...)
			each(t, 3, func(i int) error { return walks[i].steps(t.Context(), all) })
		}
		state, err := w.store.StrategyState(t.Context(), "desk", StateLength(spec(3, 3), len(devices[0].checkpointOf(w.task("desk").view.Load().sum[:]).Params)))
		if err != nil || len(state) == 0 {
			t.Errorf("the strategy's state: %v", err)
		}
		if v := w.task("desk").view.Load(); v.done != 3 || v.version != 3 || v.intents != len(spec(3, 3).GetIntents())+3 {
			t.Errorf("%d rounds done with %d intents at version %d", v.done, v.intents, v.version)
		}
	})
}

// joinTask enrols a new device that is bound to a task.
func (w *world) joinTask(t testing.TB, task string) *device {
	t.Helper()
	line, err := w.CreateTaskToken(t.Context(), task, 1, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	admitted, err := rpc.NewEnrolmentServiceClient(w.dial(t, w.trust())).Enrol(t.Context(), enrolment(t, line, key))
	if err != nil {
		t.Fatal(err)
	}
	d := &device{t: t, id: secagg.DeviceID(public), ca: w.authority.PublicKey(), config: w.trust()}
	d.config.Certificates = []tls.Certificate{{Certificate: [][]byte{admitted.GetCertificate()}, PrivateKey: key}}
	d.connect(w)
	return d
}

// TestTenantsSeeTheirOwnTask: a device that is bound to a task finds no other, in any call.
func TestTenantsSeeTheirOwnTask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, t.TempDir(), Options{})
		other := spec(3, 3)
		other.Name, other.Intents = "other", []string{"theirs", "only"}
		w.create(t, spec(3, 3))
		w.create(t, other)
		_, err := w.CreateTaskToken(t.Context(), "none", 1, time.Hour)
		wants(t, "a token of no task", err, codes.NotFound)
		d := w.joinTask(t, "desk")
		tasks, err := d.rounds.Tasks(t.Context(), &pb.TasksRequest{Version: pb.Current()})
		if err != nil || len(tasks.GetTasks()) != 1 || tasks.GetTasks()[0].GetTask() != "desk" {
			t.Errorf("it sees %v, %v", tasks, err)
		}
		own, theirs := w.task("desk").view.Load().sum, w.task("other").view.Load().sum
		files := rpc.NewCheckpointServiceClient(d.conn)
		at := &pb.RoundStep{Task: "other", Round: 1, Attempt: 1}
		for name, call := range map[string]func() error{
			"CheckIn":   func() error { _, err := d.rounds.CheckIn(t.Context(), d.anywhere("other")); return err },
			"Advertise": func() error { _, err := d.rounds.Advertise(t.Context(), &pb.AdvertiseRequest{Step: at}); return err },
			"Share":     func() error { _, err := d.rounds.Share(t.Context(), &pb.ShareRequest{Step: at}); return err },
			"Complain":  func() error { _, err := d.rounds.Complain(t.Context(), &pb.ComplainRequest{Step: at}); return err },
			"Submit":    func() error { _, err := d.rounds.Submit(t.Context(), &pb.SubmitRequest{Step: at}); return err },
			"Confirm":   func() error { _, err := d.rounds.Confirm(t.Context(), &pb.ConfirmRequest{Step: at}); return err },
			"Reveal":    func() error { _, err := d.rounds.Reveal(t.Context(), &pb.RevealRequest{Step: at}); return err },
			"GetCheckpoint": func() error {
				_, err := files.GetCheckpoint(t.Context(), &pb.GetCheckpointRequest{Sha256: theirs[:]})
				return err
			},
			"GetLogProof": func() error {
				_, err := files.GetLogProof(t.Context(), &pb.GetLogProofRequest{Task: "other", CheckpointSha256: theirs[:]})
				return err
			},
			"ListLog": func() error {
				_, err := files.ListLog(t.Context(), &pb.ListLogRequest{Task: "other", Limit: 1})
				return err
			},
		} {
			wants(t, name, call(), codes.NotFound)
		}
		if _, err := files.GetCheckpoint(t.Context(), &pb.GetCheckpointRequest{Sha256: own[:]}); err != nil {
			t.Errorf("its own checkpoint: %v", err)
		}
		if _, err := files.GetLogProof(t.Context(), &pb.GetLogProofRequest{Task: "desk", CheckpointSha256: own[:]}); err != nil {
			t.Errorf("its own log: %v", err)
		}
		if tasks, err = w.join(t).rounds.Tasks(t.Context(), &pb.TasksRequest{Version: pb.Current()}); err != nil || len(tasks.GetTasks()) != 2 {
			t.Errorf("a device that is not bound sees %v, %v", tasks, err)
		}
		page, err := rpc.NewOperatorServiceClient(w.operator(t)).ListDevices(t.Context(), &pb.ListDevicesRequest{Limit: 9})
		if err != nil || !slices.ContainsFunc(page.GetDevices(), func(m *pb.Device) bool { return bytes.Equal(m.GetId(), d.id[:]) && m.GetTask() == "desk" }) {
			t.Errorf("devices %v, %v", page, err)
		}
	})
}

// TestWarmStart brings a first checkpoint in chunks and creates a task with it.
func TestWarmStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, t.TempDir(), Options{})
		op := rpc.NewOperatorServiceClient(w.operator(t))
		s := spec(3, 3)
		layout, err := model.NewLayout(s.GetModel(), len(s.GetIntents()))
		if err != nil {
			t.Fatal(err)
		}
		first, err := model.NewCheckpoint(s.GetName(), s.GetModel(), 0, s.GetIntents(), layout.Init(77))
		if err != nil {
			t.Fatal(err)
		}
		raw := first.Encode()
		sum := sha256.Sum256(raw)
		s.WarmStart = sum[:]
		_, err = op.CreateTask(t.Context(), &pb.CreateTaskRequest{Spec: s})
		wants(t, "before the upload", err, codes.FailedPrecondition, "upload it")
		send := func(sum [32]byte, raw []byte, offset int) (uint64, error) {
			reply, err := op.UploadCheckpoint(t.Context(), &pb.UploadCheckpointRequest{
				Sha256: sum[:], TotalBytes: uint64(len(raw)), Offset: uint64(offset), Data: raw[offset:min(len(raw), offset+mostUploadData)],
			})
			return reply.GetReceived(), err
		}
		_, err = send(sum, raw, mostUploadData)
		wants(t, "the second chunk first", err, codes.InvalidArgument, "go on at 0")
		for offset := 0; offset < len(raw); {
			received, err := send(sum, raw, offset)
			if again, second := send(sum, raw, offset); err != nil || second != nil || again < received && offset > 0 {
				t.Fatalf("at %d: %d, %v, then %d, %v", offset, received, err, again, second)
			}
			offset = int(received)
		}
		created, err := op.CreateTask(t.Context(), &pb.CreateTaskRequest{Spec: s})
		if err != nil || !bytes.Equal(created.GetTask().GetCheckpointSha256(), sum[:]) {
			t.Fatalf("created %v, %v", created, err)
		}
		if _, err := op.CreateTask(t.Context(), &pb.CreateTaskRequest{Spec: s}); err != nil {
			t.Errorf("created again: %v", err)
		}
		s.Name = "another"
		_, err = op.CreateTask(t.Context(), &pb.CreateTaskRequest{Spec: s})
		wants(t, "of another task", err, codes.InvalidArgument, `task "desk"`)
		bad := append([]byte(nil), raw[:mostUploadData]...)
		_, err = send(sha256.Sum256(bad), bad, 0)
		wants(t, "no checkpoint", err, codes.InvalidArgument, "checkpoint")
		_, err = send([32]byte{1}, bad, 0)
		wants(t, "another hash", err, codes.InvalidArgument, "SHA-256")
		_, err = op.UploadCheckpoint(t.Context(), &pb.UploadCheckpointRequest{Sha256: sum[:], TotalBytes: mostUpload + 1, Data: []byte{1}})
		wants(t, "too large", err, codes.InvalidArgument, "at most")
	})
}

// TestFinishedTaskTakesNoNewIntents adds an intent that no device would learn any more, while
// the last round is at work and after it.
func TestFinishedTaskTakesNoNewIntents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := spec(3, 3)
		s.Rounds = 1
		w, devices := fleet(t, 3, s, Options{})
		op := rpc.NewOperatorServiceClient(w.operator(t))
		walks := gather(t, devices...)
		_, err := op.ChangeIntents(t.Context(), &pb.ChangeIntentsRequest{Task: "desk", Changes: addIntents("payback")})
		wants(t, "adding in the last round", err, codes.FailedPrecondition, "the last of the 1 rounds of task desk may be at work", "--from")
		each(t, 3, func(i int) error { return walks[i].steps(t.Context(), all) })
		synctest.Wait()
		_, err = op.ChangeIntents(t.Context(), &pb.ChangeIntentsRequest{Task: "desk", Changes: addIntents("payback")})
		wants(t, "adding after the last round", err, codes.FailedPrecondition, "all 1 rounds of task desk are done", "--from")
		if _, err := op.ChangeIntents(t.Context(), &pb.ChangeIntentsRequest{Task: "desk", Changes: addIntents(s.GetIntents()[0])}); err != nil {
			t.Errorf("adding what there is: %v", err)
		}
		rename := &pb.IntentChange{Kind: pb.IntentChangeKind_INTENT_CHANGE_KIND_RENAME, Name: s.GetIntents()[0], Into: "another"}
		if _, err := op.ChangeIntents(t.Context(), &pb.ChangeIntentsRequest{Task: "desk", Changes: []*pb.IntentChange{rename}}); err != nil {
			t.Errorf("renaming after the last round: %v", err)
		}
	})
}

// TestIntentsOfACompressedTaskNeedItsOwnMemory changes intents of a task whose vectors fit
// a coordinator that has no room for whole ones.
func TestIntentsOfACompressedTaskNeedItsOwnMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := spec(3, 3)
		s.Compression = ladder["8x"]
		w, _ := fleet(t, 3, s, Options{MemoryBytes: 200_000})
		op := rpc.NewOperatorServiceClient(w.operator(t))
		reply, err := op.ChangeIntents(t.Context(), &pb.ChangeIntentsRequest{Task: "desk", Changes: addIntents("payback")})
		if err != nil || reply.GetList().GetVersion() != 1 {
			t.Errorf("adding an intent: %v, %v", reply, err)
		}
		var many []string
		for i := range 4000 {
			many = append(many, fmt.Sprint("intent ", i))
		}
		_, err = op.ChangeIntents(t.Context(), &pb.ChangeIntentsRequest{Task: "desk", Changes: addIntents(many...)})
		wants(t, "intents above the memory", err, codes.InvalidArgument, "--memory")
	})
}
