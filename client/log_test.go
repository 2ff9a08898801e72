package client

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/discreet-fl/discreet/checkpointlog"
	pb "github.com/discreet-fl/discreet/proto"
)

// logServer is a coordinator that has nothing but the log of the task "shop".
type logServer struct {
	Transport // every other call is a panic
	t         *testing.T
	ca, key   ed25519.PrivateKey
	entries   [][]byte
	last      checkpointlog.Entry
	asked     int
	// lie changes an answer, where it is set.
	lie func(*pb.GetLogProofResponse)
}

func newLogServer(t *testing.T, entries int) *logServer {
	s := &logServer{t: t, ca: ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32)), key: ed25519.NewKeyFromSeed(bytes.Repeat([]byte{2}, 32))}
	for range entries {
		s.commit("")
	}
	return s
}

// commit adds the checkpoint of the next round. Another salt makes it another one.
func (s *logServer) commit(salt string) {
	round := uint64(len(s.entries))
	s.append(sha256.Sum256(fmt.Appendf(nil, "%s%d", salt, round)), 100+round)
}

// add adds a checkpoint that there is.
func (s *logServer) add(file []byte) { s.append(sha256.Sum256(file), uint64(len(file))) }

func (s *logServer) append(checkpoint [32]byte, size uint64) {
	s.last = checkpointlog.Entry{Task: "shop", Round: uint64(len(s.entries)), Checkpoint: checkpoint, Bytes: size,
		Previous: s.last.Checkpoint, Survivors: 5, Committed: 1}
	s.entries = append(s.entries, s.last.Encode())
}

// cut forgets all entries but the first n, as a restored back-up does.
func (s *logServer) cut(n int) {
	s.entries = s.entries[:n]
	var err error
	if s.last, err = checkpointlog.DecodeEntry(s.entries[n-1]); err != nil {
		s.t.Fatal(err)
	}
}

func (s *logServer) tree() *checkpointlog.Tree {
	tree := new(checkpointlog.Tree)
	for _, e := range s.entries {
		tree.Add(e)
	}
	return tree
}

// note is the signed head over the first size entries.
func (s *logServer) note(size uint64) []byte {
	h, err := checkpointlog.HeadOf(size, s.tree())
	if err != nil {
		s.t.Fatal(err)
	}
	return checkpointlog.SignHead(s.key, checkpointlog.Origin(s.ca.Public().(ed25519.PublicKey), "shop"), h)
}

// plan is that of the round after the newest checkpoint's.
func (s *logServer) plan() *pb.Plan {
	return &pb.Plan{Task: "shop", Round: s.last.Round + 1, Attempt: 1, CheckpointSha256: s.last.Checkpoint[:], CheckpointBytes: s.last.Bytes,
		LogHead: s.note(uint64(len(s.entries)))}
}

func (s *logServer) GetLogProof(_ context.Context, q *pb.GetLogProofRequest) (*pb.GetLogProofResponse, error) {
	s.asked++
	size := q.GetSize()
	if size == 0 {
		size = uint64(len(s.entries))
	}
	tree := s.tree()
	index := slices.IndexFunc(s.entries, func(raw []byte) bool {
		e, err := checkpointlog.DecodeEntry(raw)
		return err == nil && bytes.Equal(e.Checkpoint[:], q.GetCheckpointSha256())
	})
	if index < 0 || uint64(index) >= size {
		return nil, status.Error(codes.NotFound, "no such checkpoint")
	}
	reply := &pb.GetLogProofResponse{Head: s.note(size), Entry: s.entries[index], Index: uint64(index)}
	var err error
	if reply.Inclusion, err = checkpointlog.ProveInclusion(uint64(index), size, tree); err != nil {
		s.t.Error(err)
	}
	if q.GetOldSize() <= size {
		if reply.Consistency, err = checkpointlog.ProveConsistency(q.GetOldSize(), size, tree); err != nil {
			s.t.Error(err)
		}
	}
	if s.lie != nil {
		s.lie(reply)
	}
	return reply, nil
}

// logDevice is a device in dir that is enrolled with the server's authority, and its log.
func logDevice(t *testing.T, s *logServer, dir string) (*Client, *bytes.Buffer) {
	t.Helper()
	records := new(bytes.Buffer)
	c, err := Open(dir, Options{Logger: slog.New(slog.NewTextHandler(records, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	c.enrolment = &enrolment{caKey: s.ca.Public().(ed25519.PublicKey), LogKey: s.key.Public().(ed25519.PublicKey)}
	return c, records
}

func TestDeviceFollowsAGrowingLog(t *testing.T) {
	s, dir := newLogServer(t, 1), t.TempDir()
	c, records := logDevice(t, s, dir)
	for range 9 {
		if err := c.checkLog(t.Context(), s, s.plan()); err != nil {
			t.Fatal(err)
		}
		if err := c.checkLog(t.Context(), s, s.plan()); err != nil {
			t.Fatalf("the same plan again: %v", err)
		}
		s.commit("")
		if err := c.verifyCheckpoint(t.Context(), s, "shop", s.last.Checkpoint); err != nil {
			t.Fatal(err)
		}
		s.commit("") // a round without this device
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	c, more := logDevice(t, s, dir)
	if known, err := c.readLog("shop"); err != nil || known.Size != uint64(len(s.entries))-1 || known.Index != known.Size-1 ||
		!bytes.Equal(known.Note, s.note(known.Size)) {
		t.Errorf("after a restart the device knows %+v, %v", known, err)
	}
	if err := c.checkLog(t.Context(), s, s.plan()); err != nil {
		t.Error(err)
	}
	if text := records.String() + more.String(); strings.Contains(text, "checkpoint log refused") {
		t.Errorf("the device's log says %s", text)
	}
}

// TestDeviceRefusesALog lets a coordinator change what it has shown, in a plan and
// beside one. The device names both heads, keeps its own, and goes on when the log is
// right again.
func TestDeviceRefusesALog(t *testing.T) {
	const had = 5
	for _, tc := range []struct {
		name, want string
		turn       func(s *logServer)
		plan       func(s *logServer, p *pb.Plan) // changes a plan, where it is set
	}{
		{"shrunk", "the log shrank: it had 5 entries with the root", func(s *logServer) { s.cut(3) }, nil},
		{"shrunk and grown on", "the log shrank: it had 5 entries", func(s *logServer) { s.cut(3); s.commit("other") }, nil},
		{"forked at the same size", "the log forked: it had 5 entries with the root", func(s *logServer) { s.cut(4); s.commit("other") }, nil},
		{"forked and longer", "the log forked: it had 5 entries", func(s *logServer) { s.cut(4); s.commit("other"); s.commit("") }, nil},
		{"signed by another key", "malformed", func(s *logServer) { s.key = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32)) }, nil},
		{"entry of another checkpoint", "got the entry of checkpoint", func(s *logServer) {
			s.lie = func(r *pb.GetLogProofResponse) { r.Entry = s.entries[0] }
		}, nil},
		{"entry changed", "is not in the log of 6 entries", func(s *logServer) {
			s.commit("")
			s.lie = func(r *pb.GetLogProofResponse) {
				r.Entry = bytes.Replace(r.Entry, []byte("survivors 5"), []byte("survivors 6"), 1)
			}
		}, nil},
		{"entry malformed", "malformed", func(s *logServer) { s.lie = func(r *pb.GetLogProofResponse) { r.Entry = nil } }, nil},
		{"no proof of growth", "the log forked", func(s *logServer) {
			s.commit("")
			s.lie = func(r *pb.GetLogProofResponse) { r.Consistency = nil }
		}, nil},
		{"very long proof", "want at most 64", func(s *logServer) {
			s.lie = func(r *pb.GetLogProofResponse) { r.Consistency = make([][]byte, 65) }
		}, nil},
		{"no proof of the entry", "is not in the log", func(s *logServer) { s.lie = func(r *pb.GetLogProofResponse) { r.Inclusion = nil } }, nil},
		{"plan without a head", "malformed", func(*logServer) {}, func(_ *logServer, p *pb.Plan) { p.LogHead = nil }},
		{"plan with the head of less", "the log shrank", func(*logServer) {}, func(s *logServer, p *pb.Plan) { p.LogHead = s.note(had - 1) }},
		{"plan for an older checkpoint", "entry 4 of 6, want the newest", func(s *logServer) { s.commit("") }, func(s *logServer, p *pb.Plan) {
			e, err := checkpointlog.DecodeEntry(s.entries[had-1])
			if err != nil {
				t.Fatal(err)
			}
			p.CheckpointSha256, p.CheckpointBytes = e.Checkpoint[:], e.Bytes
		}},
		{"plan for a checkpoint nobody logged", "it does not hold checkpoint", func(*logServer) {}, func(_ *logServer, p *pb.Plan) { p.CheckpointSha256 = make([]byte, 32) }},
		{"plan of the checkpoint's own round", "want one of an earlier round", func(*logServer) {}, func(s *logServer, p *pb.Plan) { p.Round = s.last.Round }},
		{"plan with another size", "its entry says 104", func(*logServer) {}, func(_ *logServer, p *pb.Plan) { p.CheckpointBytes++ }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newLogServer(t, had)
			c, records := logDevice(t, s, t.TempDir())
			if err := c.checkLog(t.Context(), s, s.plan()); err != nil {
				t.Fatal(err)
			}
			right, before := *s, s.note(had)
			s.entries = slices.Clone(s.entries)
			tc.turn(s)
			plan := s.plan()
			if tc.plan != nil {
				tc.plan(s, plan)
			}
			refused := func(err error) {
				t.Helper()
				if !errors.Is(err, ErrLog) || !strings.Contains(err.Error(), tc.want) {
					t.Errorf("%v, want ErrLog with %q", err, tc.want)
				}
			}
			refused(c.checkLog(t.Context(), s, plan))
			if tc.plan == nil { // the coordinator's turn shows outside a round as well
				refused(c.verifyCheckpoint(t.Context(), s, "shop", s.last.Checkpoint))
			}
			if text := records.String(); !strings.Contains(text, "level=WARN") || !strings.Contains(text, "checkpoint log refused") ||
				!strings.Contains(text, strings.ReplaceAll(string(before), "\n", `\n`)) {
				t.Errorf("the device's log does not show the head it verified: %s", text)
			}
			if known, err := c.readLog("shop"); err != nil || !bytes.Equal(known.Note, before) {
				t.Errorf("the device now goes by %q, %v", known.Note, err)
			}
			if err := c.checkLog(t.Context(), &right, right.plan()); err != nil {
				t.Errorf("the log that it knows: %v", err)
			}
		})
	}
}

func TestDeviceDoesNotAdoptWhatItLeftBehind(t *testing.T) {
	s := newLogServer(t, 3)
	c, _ := logDevice(t, s, t.TempDir())
	first := s.last.Checkpoint
	if err := c.verifyCheckpoint(t.Context(), s, "shop", first); err != nil {
		t.Fatal(err)
	}
	s.commit("")
	if err := c.verifyCheckpoint(t.Context(), s, "shop", first); err != nil { // committed meanwhile
		t.Errorf("the checkpoint before the newest: %v", err)
	}
	if err := c.verifyCheckpoint(t.Context(), s, "shop", s.last.Checkpoint); err != nil {
		t.Fatal(err)
	}
	if err := c.verifyCheckpoint(t.Context(), s, "shop", first); !errors.Is(err, ErrLog) || !strings.Contains(err.Error(), "entry 2 of the log, this device has had entry 3") {
		t.Errorf("an older one than it has had: %v", err)
	}
}

// TestLogTroubleIsNoAccusation holds that a lost connection or a damaged folder is not
// taken for a wrong log.
func TestLogTroubleIsNoAccusation(t *testing.T) {
	s := newLogServer(t, 3)
	c, records := logDevice(t, s, t.TempDir())
	away := failingLog{s, status.Error(codes.Internal, "no disk")}
	if err := c.checkLog(t.Context(), away, s.plan()); err == nil || errors.Is(err, ErrLog) {
		t.Errorf("a call that failed: %v", err)
	}
	if err := c.writeRecord(logRecord+"shop", &knownLog{Size: 3, Root: []byte{1}}); err != nil {
		t.Fatal(err)
	}
	if err := c.checkLog(t.Context(), s, s.plan()); err == nil || errors.Is(err, ErrLog) {
		t.Errorf("a record that is damaged: %v", err)
	}
	if s.asked > 0 || strings.Contains(records.String(), "refused") {
		t.Errorf("%d calls; the device's log says %s", s.asked, records)
	}
}

// failingLog answers no question about its log.
type failingLog struct {
	*logServer
	err error
}

func (f failingLog) GetLogProof(context.Context, *pb.GetLogProofRequest) (*pb.GetLogProofResponse, error) {
	return nil, f.err
}
