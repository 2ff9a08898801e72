package client

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/discreet-fl/discreet/checkpointlog"
	"github.com/discreet-fl/discreet/client/store"
	"github.com/discreet-fl/discreet/model"
	pb "github.com/discreet-fl/discreet/proto"
)

// ErrLog is returned where a coordinator's checkpoint log is not what it has to be: a
// head that the log key did not sign, a checkpoint that does not stand in it, a log
// that shrank or forked since this device last verified it. Nothing has been trained or
// sent, and the device goes on comparing with the head that it verified. The signed
// heads are in its log, for the operator to be asked about.
var ErrLog = errors.New("the coordinator's checkpoint log is not to be trusted")

// logRecord names what a device knows of a task's log: the task follows.
const logRecord = "log/"

// knownLog is a task's log as this device verified it last.
type knownLog struct {
	Note []byte `json:"note"` // the signed head: what the coordinator can be held to
	Size uint64 `json:"size"`
	Root []byte `json:"root"` // 32 bytes
	// Index is the place, from 0, of the checkpoint verified last.
	Index uint64 `json:"index"`
	// Offset is how many rounds more a checkpoint has been through than the log has
	// checkpoints before it, the same for all: 0, but where the task is older than its log.
	// It is nil before the first checkpoint was read.
	Offset *uint64 `json:"offset,omitempty"`
}

func (k *knownLog) head() checkpointlog.Head {
	if k.Size == 0 {
		return checkpointlog.Head{}
	}
	return checkpointlog.Head{Size: k.Size, Root: [32]byte(k.Root)}
}

// readLog returns what this device knows of a task's log; the zero value before the
// first time.
func (c *Client) readLog(task string) (*knownLog, error) {
	k := new(knownLog)
	if _, err := c.readRecord(logRecord+task, k); err != nil {
		return nil, err
	}
	if k.Size > 0 && (len(k.Root) != 32 || k.Index >= k.Size) {
		return nil, fmt.Errorf("record %q is %w", logRecord+task, store.ErrDamaged)
	}
	return k, nil
}

// writeLog keeps what this device knows of a task's log.
func (c *Client) writeLog(task string, k *knownLog) error {
	if err := c.writeRecord(logRecord+task, k); err != nil {
		return fmt.Errorf("keeping the head of the checkpoint log: %w", err)
	}
	return nil
}

// checkLog holds a plan against its task's log before anything is done for it: the
// plan's head is signed by the log key; the log has only grown since the head that this
// device verified last; and its newest entry is the plan's checkpoint, of an earlier
// round, so that no device trains on a checkpoint that others have left behind. The
// head is then the one to compare with. Errors: [ErrLog], the connection's, the folder's.
func (c *Client) checkLog(ctx context.Context, t Transport, plan *pb.Plan) error {
	s, err := c.sight(ctx, plan.GetTask())
	if err != nil {
		return err
	}
	err = s.show(plan.GetLogHead())
	if err == nil {
		err = s.prove(ctx, t, [32]byte(plan.GetCheckpointSha256()), s.shown.Size)
	}
	switch {
	case err != nil:
	case s.index != s.shown.Size-1:
		err = fmt.Errorf("%w: the plan's checkpoint %x is entry %d of %d, want the newest", ErrLog, s.entry.Checkpoint[:6], s.index, s.shown.Size)
	case s.entry.Round >= plan.GetRound():
		err = fmt.Errorf("%w: the plan of round %d is for a checkpoint of round %d, want one of an earlier round", ErrLog, plan.GetRound(), s.entry.Round)
	case s.entry.Bytes != plan.GetCheckpointBytes():
		err = fmt.Errorf("%w: the plan's checkpoint has %d bytes, its entry says %d", ErrLog, plan.GetCheckpointBytes(), s.entry.Bytes)
	}
	return s.settle(c, err)
}

// verifyCheckpoint holds a checkpoint that is to be adopted outside a round against the
// newest head of its task's log, as checkLog does. It may be any entry, but none before
// the one verified last.
func (c *Client) verifyCheckpoint(ctx context.Context, t Transport, task string, sum [32]byte) error {
	s, err := c.sight(ctx, task)
	if err != nil {
		return err
	}
	err = s.prove(ctx, t, sum, 0)
	if err == nil && s.index < s.known.Index {
		err = fmt.Errorf("%w: checkpoint %x is entry %d of the log, this device has had entry %d", ErrLog, sum[:6], s.index, s.known.Index)
	}
	return s.settle(c, err)
}

// checkManifest holds what a checkpoint says of itself against the place in its task's log
// that was verified last: it has been through as many rounds as the log has checkpoints
// before it, and as many more as every other that this device had of this log. By its
// rounds a device knows whether it has revealed for one like it.
func (c *Client) checkManifest(task string, m *model.Manifest) error {
	known, err := c.readLog(task)
	switch {
	case err != nil:
		return err
	case m.Task != task:
		return fmt.Errorf("%w: the checkpoint belongs to task %q, and stands in the log of %q", ErrLog, m.Task, task)
	case m.Round < known.Index:
		return fmt.Errorf("%w: the checkpoint says that it has been through %d rounds, and is entry %d of its log, want as many at least", ErrLog, m.Round, known.Index)
	}
	offset := m.Round - known.Index
	switch {
	case known.Offset == nil:
		known.Offset = &offset
		return c.writeLog(task, known)
	case *known.Offset != offset:
		return fmt.Errorf("%w: the checkpoint says that it has been through %d rounds, and is entry %d of its log, want %d, as earlier ones had it",
			ErrLog, m.Round, known.Index, known.Index+*known.Offset)
	}
	return nil
}

// sight is one look at a task's log.
type sight struct {
	task   string
	origin string
	key    ed25519.PublicKey
	known  *knownLog

	note  []byte // the head that is shown now
	shown checkpointlog.Head
	entry checkpointlog.Entry // of the checkpoint in question
	index uint64
}

// sight begins a look at a task's log.
func (c *Client) sight(ctx context.Context, task string) (*sight, error) {
	key, err := c.logKey(ctx, task)
	if err != nil {
		return nil, err
	}
	known, err := c.readLog(task)
	if err != nil {
		return nil, err
	}
	return &sight{task: task, origin: checkpointlog.Origin(c.enrolled().caKey, task), key: key, known: known}, nil
}

// show takes the head that the coordinator shows.
func (s *sight) show(note []byte) error {
	shown, err := checkpointlog.VerifyHead(s.key, s.origin, note)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrLog, err)
	}
	s.note, s.shown = note, shown
	if shown.Size < s.known.Size { // there is nothing to ask for
		return s.grown(nil)
	}
	return nil
}

// prove asks for the proof that a checkpoint stands in the log of so many entries, 0
// for the newest head, and that this log grew out of the known one, and checks it.
func (s *sight) prove(ctx context.Context, t Transport, sum [32]byte, size uint64) error {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	request := &pb.GetLogProofRequest{Task: s.task, CheckpointSha256: sum[:], OldSize: s.known.Size, Size: size}
	reply, err := persist(ctx, t.GetLogProof, request, func(error) {})
	if status.Code(err) == codes.NotFound {
		return fmt.Errorf("%w: it does not hold checkpoint %x: %s", ErrLog, sum[:6], status.Convert(err).Message())
	}
	if err != nil {
		return fmt.Errorf("asking for the checkpoint log's proof: %w", err)
	}
	if size == 0 {
		if err := s.show(reply.GetHead()); err != nil {
			return err
		}
	}
	if err := s.grown(reply.GetConsistency()); err != nil {
		return err
	}
	s.index = reply.GetIndex()
	if s.entry, err = checkpointlog.DecodeEntry(reply.GetEntry()); err != nil {
		return fmt.Errorf("%w: %w", ErrLog, err)
	}
	if s.entry.Task != s.task || s.entry.Checkpoint != sum {
		return fmt.Errorf("%w: got the entry of checkpoint %x of task %q, want that of %x of %q", ErrLog, s.entry.Checkpoint[:6], s.entry.Task, sum[:6], s.task)
	}
	if err := checkpointlog.VerifyInclusion(s.shown, s.index, reply.GetEntry(), reply.GetInclusion()); err != nil {
		return fmt.Errorf("%w: %w", ErrLog, err)
	}
	return nil
}

// grown checks that the shown log grew out of the known one.
func (s *sight) grown(proof [][]byte) error {
	if err := checkpointlog.VerifyConsistency(s.known.head(), s.shown, proof); err != nil {
		return fmt.Errorf("%w: %w", ErrLog, err)
	}
	return nil
}

// settle keeps what was seen, or tells the device's log why not.
func (s *sight) settle(c *Client, err error) error {
	if errors.Is(err, ErrLog) {
		c.log.Warn("checkpoint log refused", "task", s.task, "error", err, "head_verified", string(s.known.Note), "head_shown", string(s.note))
	}
	if err != nil {
		return err
	}
	return c.writeLog(s.task, &knownLog{Note: s.note, Size: s.shown.Size, Root: s.shown.Root[:], Index: s.index, Offset: s.known.Offset})
}
