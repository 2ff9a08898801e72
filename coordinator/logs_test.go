package coordinator

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/discreet-fl/discreet/checkpointlog"
	"github.com/discreet-fl/discreet/coordinator/store"
	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/proto/rpc"
	"github.com/discreet-fl/discreet/secagg"
)

// logWorld is a coordinator whose task "desk" has been through so many rounds, by way
// of its store alone.
func logWorld(t *testing.T, rounds uint64) *world {
	t.Helper()
	w := newWorld(t, t.TempDir(), Options{})
	w.create(t, spec(3, 3))
	for r := range rounds {
		w.pass(t, r+1)
	}
	return w
}

// pass commits a round of the task "desk" and returns the hash of its checkpoint.
func (w *world) pass(t *testing.T, round uint64) [32]byte {
	t.Helper()
	task, err := w.store.Task(t.Context(), "desk")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.store.Begin(t.Context(), "desk", round, 1); err != nil {
		t.Fatal(err)
	}
	if err := w.store.Revealing(t.Context(), "desk", round, 1, task.Checkpoint); err != nil {
		t.Fatal(err)
	}
	sum, err := w.store.Commit(t.Context(), store.Commit{Task: "desk", Attempt: store.Attempt{Round: round, Attempt: 1, Ended: time.Now()},
		Previous: task.Checkpoint, Checkpoint: fmt.Appendf(nil, "checkpoint %d", round), Survivors: make([]secagg.ID, 5)})
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

// verified is the head of a proof that a checkpoint stands in the log at index.
func (w *world) verified(t *testing.T, reply *pb.GetLogProofResponse, sum [32]byte, index uint64) checkpointlog.Head {
	t.Helper()
	head, err := checkpointlog.VerifyHead(w.authority.LogPublicKey(), checkpointlog.Origin(w.authority.PublicKey(), "desk"), reply.GetHead())
	if err != nil {
		t.Fatal(err)
	}
	if err := checkpointlog.VerifyInclusion(head, reply.GetIndex(), reply.GetEntry(), reply.GetInclusion()); err != nil {
		t.Error(err)
	}
	entry, err := checkpointlog.DecodeEntry(reply.GetEntry())
	if err != nil || entry.Checkpoint != sum || reply.GetIndex() != index {
		t.Errorf("entry %d is %+v, %v; want %x at %d", reply.GetIndex(), entry, err, sum[:6], index)
	}
	return head
}

func TestLogProofs(t *testing.T) {
	w := logWorld(t, 6)
	d := w.join(t)
	files := rpc.NewCheckpointServiceClient(d.conn)
	third := sha256.Sum256([]byte("checkpoint 3"))
	prove := func(old, size uint64) *pb.GetLogProofResponse {
		t.Helper()
		reply, err := files.GetLogProof(t.Context(), &pb.GetLogProofRequest{Task: "desk", CheckpointSha256: third[:], OldSize: old, Size: size})
		if err != nil {
			t.Fatal(err)
		}
		return reply
	}
	five := w.verified(t, prove(0, 5), third, 3)
	reply := prove(5, 0)
	newest := w.verified(t, reply, third, 3)
	if err := checkpointlog.VerifyConsistency(five, newest, reply.GetConsistency()); err != nil || five.Size != 5 || newest.Size != 7 {
		t.Errorf("from %v to %v: %v", five, newest, err)
	}
	if again := prove(5, 7); !bytes.Equal(again.GetHead(), reply.GetHead()) {
		t.Error("the same size has another head")
	}
	if reply := prove(6, 5); len(reply.GetConsistency()) != 0 {
		t.Error("a proof of growth from more to less")
	}
	sum := w.pass(t, 7)
	if head, err := w.logHead(t.Context(), "desk"); err != nil {
		t.Error(err)
	} else if grown := prove(7, 0); !bytes.Equal(head, grown.GetHead()) {
		t.Error("a plan's head is not the newest")
	} else if err := checkpointlog.VerifyConsistency(newest, w.verified(t, grown, third, 3), grown.GetConsistency()); err != nil {
		t.Error(err)
	}
	for name, tc := range map[string]struct {
		request *pb.GetLogProofRequest
		code    codes.Code
		word    string
	}{
		"another task":         {&pb.GetLogProofRequest{Task: "nobody", CheckpointSha256: third[:]}, codes.NotFound, `task "nobody"`},
		"another checkpoint":   {&pb.GetLogProofRequest{Task: "desk", CheckpointSha256: make([]byte, 32)}, codes.NotFound, "not among the first 8 entries"},
		"a checkpoint to come": {&pb.GetLogProofRequest{Task: "desk", CheckpointSha256: sum[:], Size: 7}, codes.NotFound, "not among the first 7 entries"},
		"a log to come":        {&pb.GetLogProofRequest{Task: "desk", CheckpointSha256: third[:], Size: 9}, codes.InvalidArgument, "at most the log's 8"},
		"a short hash":         {&pb.GetLogProofRequest{Task: "desk", CheckpointSha256: third[:31]}, codes.InvalidArgument, "31 bytes"},
	} {
		_, err := files.GetLogProof(t.Context(), tc.request)
		wants(t, name, err, tc.code, tc.word)
	}
	if _, err := w.logHead(t.Context(), "nobody"); err == nil {
		t.Error("the head of no task's log")
	}
}

func TestLogIsListed(t *testing.T) {
	w := logWorld(t, 6)
	files := rpc.NewCheckpointServiceClient(w.operator(t))
	var entries [][]byte
	for {
		reply, err := files.ListLog(t.Context(), &pb.ListLogRequest{Task: "desk", Start: uint64(len(entries)), Limit: 3})
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, reply.GetEntries()...)
		if len(reply.GetEntries()) == 3 {
			continue
		}
		head, err := checkpointlog.VerifyAll(w.authority.PublicKey(), reply.GetLogKey(), reply.GetLogCredential(), "desk", reply.GetHead(), entries)
		if err != nil || head.Size != 7 {
			t.Errorf("%v, %v", head, err)
		}
		break
	}
	for name, tc := range map[string]struct {
		request *pb.ListLogRequest
		code    codes.Code
		word    string
	}{
		"another task": {&pb.ListLogRequest{Task: "nobody", Limit: 1}, codes.NotFound, `task "nobody"`},
		"no limit":     {&pb.ListLogRequest{Task: "desk"}, codes.InvalidArgument, "a page of 0 entries"},
		"a long page":  {&pb.ListLogRequest{Task: "desk", Limit: 1001}, codes.InvalidArgument, "want 1 to 1000"},
	} {
		_, err := files.ListLog(t.Context(), tc.request)
		wants(t, name, err, tc.code, tc.word)
	}
	stranger := rpc.NewCheckpointServiceClient(w.dial(t, w.trust()))
	_, err := stranger.ListLog(t.Context(), &pb.ListLogRequest{Task: "desk", Limit: 1})
	wants(t, "a stranger", err, codes.Unauthenticated)
}

// TestLogHeadsDoNotForget holds that a coordinator started anew signs the same head.
func TestLogHeadsDoNotForget(t *testing.T) {
	w := logWorld(t, 0)
	before, err := w.logHead(context.Background(), "desk")
	if err != nil {
		t.Fatal(err)
	}
	w.shut()
	w = newWorld(t, w.dir, Options{})
	if after, err := w.logHead(context.Background(), "desk"); err != nil || !bytes.Equal(before, after) {
		t.Errorf("%q, before the restart %q, %v", after, before, err)
	}
}
