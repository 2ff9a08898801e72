package coordinator

import (
	"bytes"
	"database/sql"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/discreet-fl/discreet/coordinator/store"
	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/proto/rpc"
)

func TestCheckSpec(t *testing.T) {
	many := make([]string, 4097)
	for i := range many {
		many[i] = fmt.Sprint(i)
	}
	for _, tc := range []struct {
		name, want string // part of the error, or empty
		change     func(*pb.TaskSpec)
	}{
		{"as it is", "", func(*pb.TaskSpec) {}},
		{"longest", "", func(s *pb.TaskSpec) { s.Name, s.DeadlineMs, s.PerRound = strings.Repeat("a", 64), 3_600_000, 100 }},
		{"shortest deadline", "", func(s *pb.TaskSpec) { s.DeadlineMs = 100 }},
		{"most intents", "", func(s *pb.TaskSpec) { s.Intents, s.Model = many[:4096], "base" }},
		{"no name", "want 1 to 64", func(s *pb.TaskSpec) { s.Name = "" }},
		{"long name", "want 1 to 64", func(s *pb.TaskSpec) { s.Name = strings.Repeat("a", 65) }},
		{"capitals", `task name "Desk"`, func(s *pb.TaskSpec) { s.Name = "Desk" }},
		{"line end", "task name", func(s *pb.TaskSpec) { s.Name = "desk\n" }},
		{"one intent", "1 intents, want 2 to 4096", func(s *pb.TaskSpec) { s.Intents = s.Intents[:1] }},
		{"too many intents", "4097 intents", func(s *pb.TaskSpec) { s.Intents = many }},
		{"intent twice", `intent "a" stands in the list twice, as 1 and 3`, func(s *pb.TaskSpec) { s.Intents = []string{"a", "b", "a"} }},
		{"empty intent", "intent 2 has 0 bytes", func(s *pb.TaskSpec) { s.Intents = []string{"a", ""} }},
		{"long intent", "intent 1 has 129 bytes", func(s *pb.TaskSpec) { s.Intents[0] = strings.Repeat("x", 129) }},
		{"unknown model", `"huge"`, func(s *pb.TaskSpec) { s.Model = "huge" }},
		{"largest", "", func(s *pb.TaskSpec) { s.PerRound, s.Cohort, s.Corrupt, s.Dropout = 20_000, 2000, 3333, 3333 }},
		{"cohorts of three", "", func(s *pb.TaskSpec) { s.PerRound, s.Cohort = 20_000, 3 }},
		{"nobody corrupt among a hundred", "", func(s *pb.TaskSpec) { s.PerRound, s.Corrupt = 100, 1 }},
		{"pair", "2 devices per round, want 3 to 20000", func(s *pb.TaskSpec) { s.PerRound = 2 }},
		{"crowd", "20001 devices per round", func(s *pb.TaskSpec) { s.PerRound = 20_001 }},
		{"small cohort", "cohorts of 2 devices, want 3 to 2000", func(s *pb.TaskSpec) { s.Cohort = 2 }},
		{"large cohort", "cohorts of 2001 devices", func(s *pb.TaskSpec) { s.PerRound, s.Cohort = 5000, 2001 }},
		{"minimum above the cohort", "minimum of 5 survivors, want 3 to 4", func(s *pb.TaskSpec) { s.MinSurvivors, s.Cohort = 5, 4 }},
		{"corrupt", "3334 corrupt and 1000 vanishing", func(s *pb.TaskSpec) { s.Corrupt = 3334 }},
		{"dropout", "1000 corrupt and 3334 vanishing", func(s *pb.TaskSpec) { s.Dropout = 3334 }},
		{"no sparse graph", "101 devices in a cohort, 99 in 10,000", func(s *pb.TaskSpec) { s.PerRound, s.Corrupt = 200, 99 }},
		{"strategy", "", func(s *pb.TaskSpec) { s.Strategy = strategy("fedyogi", "rate", 0.01, "beta2", 0.9) }},
		{"median over five cohorts", "", func(s *pb.TaskSpec) { s.Strategy, s.PerRound, s.Cohort = strategy("median"), 15, 3 }},
		{"median over one cohort", "has 1 cohort, want 5 to 100: lower --cohort or raise --per-round", func(s *pb.TaskSpec) { s.Strategy = strategy("median") }},
		{"median over cohorts too small", "want at least 15", func(s *pb.TaskSpec) { s.Strategy, s.PerRound, s.Cohort = strategy("median"), 13, 3 }},
		{"trimmed over many cohorts", "has 101 cohorts", func(s *pb.TaskSpec) { s.Strategy, s.PerRound, s.Cohort = strategy("trimmed"), 303, 3 }},
		{"strategy by name", "", func(s *pb.TaskSpec) { s.Strategy = strategy("fedavg") }},
		{"strategy of clients", "secure aggregation keeps", func(s *pb.TaskSpec) { s.Strategy = strategy("krum") }},
		{"unknown strategy", `"sgd" is not known`, func(s *pb.TaskSpec) { s.Strategy = strategy("sgd") }},
		{"another strategy's number", `no setting "beta2"`, func(s *pb.TaskSpec) { s.Strategy = strategy("fedavgm", "beta2", 0.9) }},
		{"number out of order", "out of order", func(s *pb.TaskSpec) { s.Strategy = strategy("fedavgm", "momentum", 0.9, "rate", 1.0) }},
		{"number out of bounds", "rate is NaN", func(s *pb.TaskSpec) { s.Strategy = strategy("fedavg", "rate", math.NaN()) }},
		{"keys", "key exchange 3 is not known", func(s *pb.TaskSpec) { s.Keys = 3 }},
		{"minimum of two", "minimum of 2 survivors, want 3 to 5", func(s *pb.TaskSpec) { s.MinSurvivors = 2 }},
		{"minimum above", "minimum of 6 survivors", func(s *pb.TaskSpec) { s.MinSurvivors = 6 }},
		{"personal models", "", func(s *pb.TaskSpec) { s.Personal, s.Evaluation = true, &pb.TaskEvaluation{HeldBack: 1000} }},
		{"personal models without judges", "hold some back", func(s *pb.TaskSpec) { s.Personal = true }},
		{"no deadline", "deadline of 0 ms", func(s *pb.TaskSpec) { s.DeadlineMs = 0 }},
		{"short deadline", "deadline of 99 ms", func(s *pb.TaskSpec) { s.DeadlineMs = 99 }},
		{"long deadline", "deadline of 3600001 ms", func(s *pb.TaskSpec) { s.DeadlineMs = 3_600_001 }},
		{"longest deadline of all", "deadline of", func(s *pb.TaskSpec) { s.DeadlineMs = 1<<64 - 1 }},
		{"rare rounds", "at most every", func(s *pb.TaskSpec) { s.EveryMs = 1 << 63 }},
	} {
		s := spec(5, 3)
		tc.change(s)
		err := CheckSpec(s)
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		}
	}
	if CheckSpec(nil) == nil {
		t.Error("no specification at all passed")
	}
}

// strategy is one by its name and pairs of a number's name and the number.
func strategy(name string, pairs ...any) *pb.Strategy {
	s := &pb.Strategy{Name: name}
	for i := 0; i < len(pairs); i += 2 {
		s.Numbers = append(s.Numbers, &pb.StrategyNumber{Name: pairs[i].(string), Value: pairs[i+1].(float64)})
	}
	return s
}

func TestOperatorCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, devices := fleet(t, 3, spec(3, 3), Options{MemoryBytes: 2 << 20})
		op := rpc.NewOperatorServiceClient(w.operator(t))
		created, err := op.CreateTask(t.Context(), &pb.CreateTaskRequest{Spec: spec(3, 3)})
		if err != nil || created.GetTask().GetCheckpointBytes() == 0 || !proto.Equal(created.GetTask().GetSpec(), spec(3, 3)) {
			t.Errorf("the same task again: %v, %v", created, err)
		}
		_, err = op.CreateTask(t.Context(), &pb.CreateTaskRequest{Spec: spec(4, 3)})
		wants(t, "other settings", err, codes.AlreadyExists, "desk", "other settings (--per-round), and keeps those")
		for want, set := range map[string]func(*pb.TaskSpec){
			"(--every, --deadline)":                    func(s *pb.TaskSpec) { s.EveryMs++; s.DeadlineMs++ },
			"(--held-back, --unknown or --early-stop)": func(s *pb.TaskSpec) { s.Evaluation = &pb.TaskEvaluation{HeldBack: 1234} },
			"too old to know":                          func(s *pb.TaskSpec) { s.ProtoReflect().SetUnknown([]byte{0xf8, 0x06, 1}) },
		} {
			other := spec(3, 3)
			set(other)
			_, err = op.CreateTask(t.Context(), &pb.CreateTaskRequest{Spec: other})
			wants(t, "other settings", err, codes.AlreadyExists, want)
		}
		_, err = op.CreateTask(t.Context(), &pb.CreateTaskRequest{})
		wants(t, "no specification", err, codes.InvalidArgument)
		large := spec(3, 3)
		large.Name, large.Model = "large", "base"
		_, err = op.CreateTask(t.Context(), &pb.CreateTaskRequest{Spec: large})
		wants(t, "a vector above the memory", err, codes.InvalidArgument, "--memory")
		padded := spec(3, 3)
		padded.Name, padded.Intents = "padded", []string{"balance", " transfer"}
		_, err = op.CreateTask(t.Context(), &pb.CreateTaskRequest{Spec: padded})
		wants(t, "an intent with a space before it", err, codes.InvalidArgument, "transfer")
		walks := gather(t, devices...)
		each(t, 3, func(i int) error { return walks[i].steps(t.Context(), all) })
		list, err := op.ListTasks(t.Context(), &pb.ListTasksRequest{})
		if err != nil || len(list.GetTasks()) != 1 || list.GetTasks()[0].GetState() != "waiting for devices (0 of 3)" || list.GetTasks()[0].GetRoundsDone() != 1 {
			t.Errorf("tasks %v, %v", list, err)
		}
		shown, err := op.GetTask(t.Context(), &pb.GetTaskRequest{Name: "desk"})
		if err != nil || len(shown.GetRounds()) != 1 || shown.GetRounds()[0].GetSurvivors() != 3 ||
			!bytes.Equal(shown.GetRounds()[0].GetCheckpointSha256(), shown.GetTask().GetCheckpointSha256()) {
			t.Errorf("task %v, %v", shown, err)
		}
		_, err = op.GetTask(t.Context(), &pb.GetTaskRequest{Name: "none"})
		wants(t, "unknown task", err, codes.NotFound, `"none"`)
		kept, err := op.ListCheckpoints(t.Context(), &pb.ListCheckpointsRequest{Task: "desk"})
		if err != nil || len(kept.GetCheckpoints()) != 2 || kept.GetCheckpoints()[0].GetRound() != 1 || kept.GetCheckpoints()[1].GetRound() != 0 {
			t.Errorf("checkpoints %v, %v", kept, err)
		}
		_, err = op.ListCheckpoints(t.Context(), &pb.ListCheckpointsRequest{})
		wants(t, "checkpoints of no task", err, codes.NotFound)
		page, err := op.ListDevices(t.Context(), &pb.ListDevicesRequest{Limit: 2})
		if err != nil || len(page.GetDevices()) != 2 || page.GetDevices()[0].GetRounds() != 1 || page.GetDevices()[0].GetSeenMs() == 0 {
			t.Errorf("devices %v, %v", page, err)
		}
		page, err = op.ListDevices(t.Context(), &pb.ListDevicesRequest{Limit: 2, After: page.GetDevices()[1].GetId()})
		if err != nil || len(page.GetDevices()) != 1 {
			t.Errorf("the last page: %v, %v", page, err)
		}
		for _, bad := range []*pb.ListDevicesRequest{{}, {Limit: 1001}, {Limit: 1, After: []byte("short")}} {
			_, err := op.ListDevices(t.Context(), bad)
			wants(t, "bad page", err, codes.InvalidArgument)
		}
		for _, bad := range []*pb.CreateTokenRequest{{ExpiresMs: 1}, {Uses: 1}, {Uses: 1_000_001, ExpiresMs: 1}, {Uses: 1, ExpiresMs: 1 << 63}} {
			_, err := op.CreateToken(t.Context(), bad)
			wants(t, "bad token", err, codes.InvalidArgument)
		}
		tasks, err := devices[0].rounds.Tasks(t.Context(), &pb.TasksRequest{Version: pb.Current()})
		if err != nil || len(tasks.GetTasks()) != 1 || tasks.GetTasks()[0].GetRoundsDone() != 1 || tasks.GetTasks()[0].GetCheckpointBytes() == 0 ||
			!proto.Equal(tasks.GetTasks()[0].GetSecureAggregation(), walks[0].plan.GetSecureAggregation()) {
			t.Errorf("tasks for devices: %v, %v", tasks, err)
		}
		files := rpc.NewCheckpointServiceClient(devices[0].conn)
		for name, tc := range map[string]struct {
			request *pb.GetCheckpointRequest
			code    codes.Code
		}{
			"short hash":     {&pb.GetCheckpointRequest{Sha256: []byte{1}}, codes.InvalidArgument},
			"unknown hash":   {&pb.GetCheckpointRequest{Sha256: make([]byte, 32)}, codes.NotFound},
			"behind the end": {&pb.GetCheckpointRequest{Sha256: tasks.GetTasks()[0].GetCheckpointSha256(), Offset: 1 << 63}, codes.InvalidArgument},
		} {
			_, err := files.GetCheckpoint(t.Context(), tc.request)
			wants(t, name, err, tc.code)
		}
	})
}

// refuse lets the disk refuse what a trigger names, as a full one does, or drops it.
func (w *world) refuse(t *testing.T, statement string) {
	t.Helper()
	database, err := sql.Open("sqlite", filepath.Join(w.dir, "discreet.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer database.Close()
	if _, err := database.Exec(statement); err != nil {
		t.Fatal(err)
	}
}

// TestFailedCommitLosesOneRound lets the disk refuse the transaction that ends a
// round. Its devices have revealed, so that the checkpoint is spent.
func TestFailedCommitLosesOneRound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, devices := fleet(t, 3, spec(3, 3), Options{})
		before := w.task("desk").view.Load().sum
		w.refuse(t, `CREATE TRIGGER full BEFORE INSERT ON checkpoint_chunks BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END`)
		walks := gather(t, devices...)
		each(t, 3, func(i int) error {
			wants(t, "receipt", walks[i].steps(t.Context(), all), codes.Aborted, "could not become a checkpoint")
			return nil
		})
		if w.log.count("commit failed") != 1 || !strings.Contains(w.log.String(), "disk is full") {
			t.Error("the log does not say that the disk is full")
		}
		synctest.Wait()
		if v := w.task("desk").view.Load(); v.sum != before || v.done != 0 {
			t.Error("the checkpoint changed")
		}
		// Nothing begins before another checkpoint has taken its place.
		<-time.After(storePause + time.Second)
		if n := w.log.count("checkpoint could not be held"); n != 2 || w.log.count("checkpoint held") != 0 {
			t.Errorf("%d times the checkpoint could not be held, want twice", n)
		}
		w.refuse(t, `DROP TRIGGER full`)
		<-time.After(storePause)
		synctest.Wait()
		if v := w.task("desk").view.Load(); v.sum == before || v.done != 1 || w.log.count("checkpoint held") != 1 {
			t.Error("no checkpoint was held when there was room again")
		}
		// The next attempt cannot begin while the disk is full.
		w.refuse(t, `CREATE TRIGGER full BEFORE UPDATE OF attempt ON tasks BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END`)
		each(t, 3, func(i int) error {
			if _, err := devices[i].checkIn(t.Context()); err == nil || !strings.Contains(err.Error(), "cannot begin a round") {
				t.Errorf("device %d: %v", i, err)
			}
			return nil
		})
		w.refuse(t, `DROP TRIGGER full`)
		started := time.Now()
		walks = gather(t, devices...)
		if took := time.Since(started); took != storePause {
			t.Errorf("tried again after %v, want %v", took, storePause)
		}
		each(t, 3, func(i int) error { return walks[i].steps(t.Context(), all) })
		attempts, err := w.store.Attempts(t.Context(), "desk", 10)
		if err != nil || len(attempts) != 3 || attempts[0].Round != 3 || attempts[0].Checkpoint == [32]byte{} || attempts[2].Aborted == "" {
			t.Errorf("records %+v, %v", attempts, err)
		}
	})
}

func TestOpenRefusesDamage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := fleet(t, 0, spec(3, 3), Options{})
		if _, err := Open(w.dir, Options{}); err == nil || !strings.Contains(err.Error(), store.ErrLocked.Error()) {
			t.Errorf("a second coordinator: %v", err)
		}
		w.shut()
		database, err := sql.Open("sqlite", filepath.Join(w.dir, "discreet.db"))
		if err != nil {
			t.Fatal(err)
		}
		defer database.Close()
		if _, err := database.Exec(`UPDATE checkpoint_chunks SET data = zeroblob(100) WHERE seq = 0`); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(w.dir, Options{}); err == nil || !strings.Contains(err.Error(), "restore a back-up") {
			t.Errorf("a damaged checkpoint: %v", err)
		}
		if _, err := Open(w.dir, Options{Hosts: []string{"a:b:c"}}); err == nil {
			t.Error("a bad host was taken")
		}
	})
}

func TestStatusPages(t *testing.T) {
	w := newWorld(t, t.TempDir(), Options{})
	w.create(t, spec(3, 3))
	devices := []*device{w.join(t), w.join(t), w.join(t)}
	walks := gather(t, devices...)
	each(t, 3, func(i int) error { return walks[i].steps(t.Context(), all) })
	get := func(path string) (int, string) {
		recorder := httptest.NewRecorder()
		w.StatusHandler().ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, path, nil))
		return recorder.Code, recorder.Body.String()
	}
	if code, body := get("/healthz"); code != http.StatusOK || body != "ok\n" {
		t.Errorf("/healthz: %d %q", code, body)
	}
	_, body := get("/metrics")
	for _, line := range []string{
		`discreet_attempts_total{outcome="committed"} 1`, `discreet_attempts_total{outcome="aborted"} 0`, "discreet_devices 3",
		"discreet_upload_bytes 0", "discreet_checkins_waiting 0", "discreet_cohort_devices_sum 3", `discreet_step_seconds_count{step="confirm"} 1`, `discreet_step_seconds_count{step="reveal"} 1`,
		`discreet_cohorts_total{outcome="summed"} 1`, `discreet_cohorts_total{outcome="lost"} 0`,
		`discreet_message_bytes_total{direction="in"} `, "go_goroutines ",
	} {
		if !strings.Contains(body, "\n"+line) {
			t.Errorf("/metrics lacks %q", line)
		}
	}
	for _, d := range devices {
		if strings.Contains(body, short(d.id)) {
			t.Error("/metrics names a device")
		}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go w.shut()
	served := make(chan error, 1)
	go func() { served <- w.ServeStatus(w.run, listener) }()
	if err := <-served; err != nil {
		t.Errorf("ServeStatus: %v", err)
	}
	if code, body := get("/healthz"); code != http.StatusServiceUnavailable {
		t.Errorf("/healthz of a stopped coordinator: %d %q", code, body)
	}
}
