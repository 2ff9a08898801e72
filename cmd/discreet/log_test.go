package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/discreet-fl/discreet/coordinator/store"
	"github.com/discreet-fl/discreet/model"
	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/proto/rpc"
	"github.com/discreet-fl/discreet/secagg"
)

// grow commits rounds of the task "support" in a stopped coordinator's folder, by way of
// its store alone. Nothing was learned in them.
func (b *bench) grow(from, to uint64) {
	b.t.Helper()
	s, err := store.Open(filepath.Join(b.dir, "server"))
	if err != nil {
		b.t.Fatal(err)
	}
	defer s.Close()
	ctx := b.t.Context()
	for round := from; round <= to; round++ {
		task, err := s.Task(ctx, "support")
		if err != nil {
			b.t.Fatal(err)
		}
		raw, err := s.Checkpoint(ctx, task.Checkpoint)
		if err != nil {
			b.t.Fatal(err)
		}
		now, err := model.DecodeCheckpoint(raw)
		if err != nil {
			b.t.Fatal(err)
		}
		m := &now.Manifest
		next, err := model.NewCheckpoint(m.Task, m.Size, round+2, m.Labels, now.Params) // in a task that is older than its log
		if err != nil {
			b.t.Fatal(err)
		}
		if err := s.Begin(ctx, "support", round, 1); err != nil {
			b.t.Fatal(err)
		}
		if err := s.Revealing(ctx, "support", round, 1, task.Checkpoint); err != nil {
			b.t.Fatal(err)
		}
		if _, err := s.Commit(ctx, store.Commit{Task: "support", Attempt: store.Attempt{Round: round, Attempt: 1, Ended: time.Now()},
			Previous: task.Checkpoint, Checkpoint: next.Encode(), Survivors: make([]secagg.ID, 4)}); err != nil {
			b.t.Fatal(err)
		}
	}
}

// change runs a statement on a coordinator's database behind its back.
func (b *bench) change(statement string) {
	b.t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(b.dir, "server", "discreet.db"))
	if err != nil {
		b.t.Fatal(err)
	}
	defer db.Close()
	if done, err := db.Exec(statement); err != nil {
		b.t.Fatal(err)
	} else if n, err := done.RowsAffected(); err != nil || n == 0 {
		b.t.Fatalf("%s changed %d rows, %v", statement, n, err)
	}
}

// loggedFederation starts a coordinator with the tasks "support", at round 6, and
// "other", and returns it with the export of the first one's log at round 3.
func loggedFederation(t *testing.T) (f *federation, early string) {
	t.Helper()
	f = &federation{bench: newBench(t)}
	f.write("intents.txt", "greet\nleave\n")
	f.serve()
	for _, task := range []string{"support", "other"} {
		f.operate("task", "create", task, "--intents", "intents.txt", "--per-round", "3")
	}
	f.server.kill()
	f.grow(1, 3)
	f.serve()
	early = f.operate("log", "export", "support")
	f.server.kill()
	f.grow(4, 6)
	f.serve()
	return f, early
}

func TestLogIsVerified(t *testing.T) {
	f, early := loggedFederation(t)
	out := f.operate("log", "verify")
	lines := regexp.MustCompile(`^other: 1 entry, newest round 0, root [0-9a-f]{64}\nsupport: 7 entries, newest round 6, root ([0-9a-f]{64})\n$`).FindStringSubmatch(out)
	if lines == nil {
		t.Fatalf("log verify prints %q", out)
	}
	whole := f.operate("log", "export", "support")
	f.write("whole.txt", whole)
	f.write("early.txt", early)
	head := strings.SplitAfter(early, "\n")[4:9]
	f.write("head.txt", strings.Join(head, ""))
	ca := filepath.Join("server", "ca.pem")
	for _, args := range [][]string{
		{"log", "verify", "--task", "support", "--server", f.address},
		{"log", "verify", "whole.txt", "--ca", ca},
		{"log", "verify", "whole.txt", "--ca", ca, "--task", "support"},
	} {
		if got := f.must(args...); got != fmt.Sprintf("support: 7 entries, newest round 6, root %s\n", lines[1]) {
			t.Errorf("%v prints %q", args, got)
		}
	}
	for _, args := range [][]string{
		{"log", "verify", "--head", "early.txt", "--server", f.address},
		{"log", "verify", "--head", "head.txt", "--task", "support", "--server", f.address},
		{"log", "verify", "whole.txt", "--ca", ca, "--head", "early.txt"},
		{"log", "verify", "early.txt", "--ca", ca, "--head", "head.txt"},
	} {
		if got := f.must(args...); !regexp.MustCompile(`(?m)^support: .*, grown from the 4 entries of (early|head)\.txt$`).MatchString(got) {
			t.Errorf("%v prints %q", args, got)
		}
	}
}

// TestCheckpointIsFoundInItsLog changes a checkpoint's manifest, which the file by itself
// does not tell, and has verify find it by the log.
func TestCheckpointIsFoundInItsLog(t *testing.T) {
	f, early := loggedFederation(t)
	f.write("log.txt", f.operate("log", "export", "support"))
	f.write("other.txt", f.operate("log", "export", "other"))
	f.write("early.txt", early)
	f.operate("checkpoint", "export", "support", "model.ckpt", "--round", "4")
	ca := filepath.Join("server", "ca.pem")
	if out := f.must("checkpoint", "verify", "model.ckpt", "--log", "log.txt", "--ca", ca); !strings.Contains(out, "all of the file is as its coordinator logged it") || !strings.Contains(out, "4 devices") {
		t.Errorf("verify prints %q", out)
	}
	raw, err := os.ReadFile(filepath.Join(f.dir, "model.ckpt"))
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*model.Manifest){
		"labels":      func(m *model.Manifest) { m.Labels[0], m.Labels[1] = m.Labels[1], m.Labels[0] },
		"task":        func(m *model.Manifest) { m.Task = "other" },
		"calibration": func(m *model.Manifest) { m.Calibration = &model.Calibration{Slope: 1} },
		"far round":   func(m *model.Manifest) { m.Round = 1 << 60 },
	} {
		c, err := model.DecodeCheckpoint(raw)
		if err != nil {
			t.Fatal(err)
		}
		change(&c.Manifest)
		f.write("changed.ckpt", string(c.Encode()))
		if out := f.must("checkpoint", "verify", "changed.ckpt"); !strings.Contains(out, "only the task's log tells: --log") {
			t.Errorf("%s: without the log, verify prints %q", name, out)
		}
		log := "log.txt"
		if c.Manifest.Task == "other" {
			log = "other.txt"
		}
		if _, message, code := f.run("checkpoint", "verify", "changed.ckpt", "--log", log, "--ca", ca); code != exitFailed || !strings.Contains(message, "changed") {
			t.Errorf("%s: with the log, verify ends with %d and %q", name, code, message)
		}
	}
	for _, c := range []struct{ log, ca, want string }{
		{"early.txt", ca, "export a newer log"},
		{"other.txt", ca, "support"},
		{"log.txt", filepath.Join("server", "missing.pem"), "missing.pem"},
		{"missing.txt", ca, "missing.txt"},
	} {
		if _, message, code := f.run("checkpoint", "verify", "model.ckpt", "--log", c.log, "--ca", c.ca); code != exitFailed || !strings.Contains(message, c.want) {
			t.Errorf("by %s and %s verify ends with %d and %q, want %q", c.log, c.ca, code, message, c.want)
		}
	}
}

func TestWrongLogIsNamed(t *testing.T) {
	f, early := loggedFederation(t)
	whole := f.operate("log", "export", "support")
	other := f.operate("log", "export", "other")
	ca := filepath.Join("server", "ca.pem")
	must := func(old, new string) string {
		t.Helper()
		if !strings.Contains(whole, old) {
			t.Fatalf("%q is not in the log", old)
		}
		return strings.Replace(whole, old, new, 1)
	}
	entries := strings.SplitAfter(whole, "\n\n")
	f.write("whole.txt", whole)
	f.write("early.txt", early)
	f.write("other.txt", other)
	f.write("changed.txt", must("\nround 2\n", "\nround 1\n"))
	f.write("removed.txt", strings.Replace(whole, entries[4], "", 1))
	f.write("short.txt", whole[:strings.LastIndex(whole, "\n\n")+1])
	f.write("swapped.txt", strings.Replace(whole, entries[4]+entries[5], entries[5]+entries[4], 1))
	f.must("ca", "init", "elsewhere")
	for _, tc := range []struct {
		args string
		code int
		want string
	}{
		{"whole.txt", exitUsage, "--ca is missing"},
		{"missing.txt --ca " + ca, exitFailed, "missing.txt"},
		{"whole.txt --ca whole.txt", exitFailed, "holds no certificate of a CA"},
		{"whole.txt --ca elsewhere/ca.pem", exitFailed, "has not certified the log key"},
		{"whole.txt --ca " + ca + " --task other", exitFailed, "the log of task other"},
		{"changed.txt --ca " + ca, exitFailed, "entry 2: malformed: its hash is"},
		{"removed.txt --ca " + ca, exitFailed, "entry 1, of round 2: not what the log's head says: it follows checkpoint"},
		{"swapped.txt --ca " + ca, exitFailed, "entry 1, of round 2: not what the log's head says"},
		{"short.txt --ca " + ca, exitFailed, "6 entries, the head is over 7"},
		{"early.txt --head whole.txt --ca " + ca, exitFailed, "it shrank: whole.txt has 7 entries"},
		{"whole.txt --head other.txt --ca " + ca, exitFailed, "holds the head of another log than was verified"},
		{"--task nobody --server " + f.address, exitFailed, `no task "nobody"`},
	} {
		_, errs, code := f.run(append([]string{"log", "verify"}, strings.Fields(tc.args)...)...)
		if code != tc.code || !strings.Contains(errs, tc.want) {
			t.Errorf("log verify %s: exit %d with %q, want exit %d with %q", tc.args, code, errs, tc.code, tc.want)
		}
	}
}

// TestChangedLogOfACoordinator changes a coordinator's database: the command names the
// first entry that is wrong, and what was exported before tells a whole log that was put
// in the place of the right one.
func TestChangedLogOfACoordinator(t *testing.T) {
	f, early := loggedFederation(t)
	f.write("early.txt", early)
	verify := func(want string, args ...string) {
		t.Helper()
		_, errs, code := f.run(append([]string{"log", "verify", "--server", f.address}, args...)...)
		if code != exitFailed || !strings.Contains(errs, want) {
			t.Errorf("exit %d with %q, want exit %d with %q", code, errs, exitFailed, want)
		}
	}
	replace := func(index int, old, new string) string {
		return fmt.Sprintf(`UPDATE log_entries SET entry = CAST(REPLACE(CAST(entry AS TEXT), '%s', '%s') AS BLOB) WHERE task = 'support' AND idx = %d`, old, new, index)
	}
	for _, index := range []int{0, 2, 5, 6} {
		survivors := 4
		if index == 0 {
			survivors = 0
		}
		right, wrong := fmt.Sprintf("survivors %d", survivors), fmt.Sprintf("survivors %d", survivors+5)
		f.change(replace(index, right, wrong))
		verify(fmt.Sprintf("entry %d, of round %d, is not the one that was signed", index, index))
		f.change(replace(index, wrong, right))
	}
	f.change(replace(3, "previous ", "previous 0"))
	verify("entry 3: checkpointlog: malformed")
	out, errs, code := f.run("log", "export", "support", "--server", f.address)
	if code != exitFailed || !strings.Contains(errs, "entry 3") || !strings.Contains(out, "previous 0") {
		t.Errorf("export of a wrong log: exit %d with %q, %.100q", code, errs, out)
	}
	f.change(replace(3, "previous 0", "previous "))

	// Another history, whole in itself.
	f.server.kill()
	key, err := os.ReadFile(filepath.Join(f.dir, "server", "log.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if files, err := filepath.Glob(filepath.Join(f.dir, "server", "discreet.db*")); err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	} else {
		for _, name := range files {
			if err := os.Remove(name); err != nil {
				t.Fatal(err)
			}
		}
	}
	f.serve()
	f.operate("task", "create", "support", "--intents", "intents.txt", "--per-round", "3")
	f.server.kill()
	f.grow(1, 5)
	f.serve()
	if again, err := os.ReadFile(filepath.Join(f.dir, "server", "log.pem")); err != nil || !bytes.Equal(key, again) {
		t.Fatalf("the log has another key, %v", err)
	}
	if out := f.operate("log", "verify"); !strings.HasPrefix(out, "support: 6 entries") {
		t.Errorf("a whole log: %q", out)
	}
	verify("entry 0 is another than in early.txt", "--head", "early.txt")
	f.write("head.txt", strings.Join(strings.SplitAfter(early, "\n")[4:9], ""))
	verify("it forked: head.txt has 4 entries with the root", "--head", "head.txt")
}

// pages answers with pages of empty entries, more than were asked for.
type pages struct {
	rpc.CheckpointServiceClient
	asked int
}

func (p *pages) ListLog(_ context.Context, request *pb.ListLogRequest, _ ...grpc.CallOption) (*pb.ListLogResponse, error) {
	if p.asked++; p.asked > 3 {
		return nil, errors.New("it went on asking")
	}
	return &pb.ListLogResponse{Entries: make([][]byte, request.GetLimit()+1)}, nil
}

func TestLogPagesAreBounded(t *testing.T) {
	if _, err := fetchLog(t.Context(), new(pages), "support"); err == nil || !strings.Contains(err.Error(), "a page of 1001 entries") {
		t.Errorf("error %v, want one about the page", err)
	}
}
