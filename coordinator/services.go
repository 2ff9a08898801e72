package coordinator

import (
	"context"
	"crypto/sha256"
	"errors"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/discreet-fl/discreet/coordinator/round"
	"github.com/discreet-fl/discreet/coordinator/store"
	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/proto/rpc"
)

// oldestMinor is the oldest minor version of the contract that is still served.
const oldestMinor = 4

// checkVersion refuses a peer of a version that cannot be served.
func checkVersion(v *pb.Version) error {
	if err := pb.Check(v, oldestMinor); err != nil {
		return status.Error(codes.FailedPrecondition, err.Error())
	}
	return nil
}

// checkpointService serves checkpoint files.
type checkpointService struct {
	rpc.UnimplementedCheckpointServiceServer
	*Coordinator
}

// GetCheckpoint returns the next bytes from the offset on, a stored piece at most. A device
// keeps whole ones, so that a slow line, which may break at any time, gets on by small ones.
func (s checkpointService) GetCheckpoint(ctx context.Context, request *pb.GetCheckpointRequest) (*pb.GetCheckpointResponse, error) {
	if n := len(request.GetSha256()); n != sha256.Size {
		return nil, status.Errorf(codes.InvalidArgument, "a hash of %d bytes, want %d", n, sha256.Size)
	}
	if err := s.mayFetch(ctx, request.GetSha256()); err != nil {
		return nil, err
	}
	data, total, err := s.store.Chunk(ctx, request.GetSha256(), request.GetOffset())
	if errors.Is(err, store.ErrNotFound) {
		return nil, unknownCheckpoint(request.GetSha256())
	}
	if err != nil {
		return nil, err
	}
	if len(data) == 0 {
		return nil, status.Errorf(codes.InvalidArgument, "offset %d, want less than the checkpoint's %d bytes", request.GetOffset(), total)
	}
	return &pb.GetCheckpointResponse{Data: data, TotalBytes: total}, nil
}

func unknownCheckpoint(sum []byte) error {
	return status.Errorf(codes.NotFound, "checkpoint %x is not kept here; the task's current one is", sum)
}

// mayFetch refuses a checkpoint of a task that the caller does not see.
func (c *Coordinator) mayFetch(ctx context.Context, sum []byte) error {
	if caller(ctx).Task == "" {
		return nil
	}
	task, err := c.store.CheckpointTask(ctx, sum)
	if errors.Is(err, store.ErrNotFound) || err == nil && !sees(ctx, task) {
		return unknownCheckpoint(sum)
	}
	return err
}

// roundService is what devices call.
type roundService struct {
	rpc.UnimplementedRoundServiceServer
	*Coordinator
}

// Tasks lists the tasks that the device may see.
func (s roundService) Tasks(ctx context.Context, request *pb.TasksRequest) (*pb.TasksResponse, error) {
	if err := checkVersion(request.GetVersion()); err != nil {
		return nil, err
	}
	reply := &pb.TasksResponse{Version: pb.Current()}
	for _, t := range s.all() {
		if !sees(ctx, t.name) {
			continue
		}
		v := t.view.Load()
		reply.Tasks = append(reply.Tasks, &pb.TaskState{
			Task: t.name, RoundsDone: v.done, CheckpointSha256: v.sum[:], CheckpointBytes: v.size, SecureAggregation: v.aggregation,
			PersonalHeldBack: personalOf(t.spec), Privacy: t.spec.GetPrivacy(),
		})
	}
	return reply, nil
}

// CheckIn holds the call until a round forms or the device is to come again.
func (s roundService) CheckIn(ctx context.Context, request *pb.CheckInRequest) (*pb.CheckInResponse, error) {
	if err := checkVersion(request.GetVersion()); err != nil {
		return nil, err
	}
	if n := len(request.GetNonceCommitment()); n != sha256.Size {
		return nil, status.Errorf(codes.InvalidArgument, "a commitment to a nonce of %d bytes, want %d", n, sha256.Size)
	}
	if request.GetTask() == "" {
		return s.checkInAnywhere(ctx, request)
	}
	t := s.task(request.GetTask())
	if t == nil {
		return nil, unknownTask(request.GetTask())
	}
	reply, _, err := s.checkInTo(ctx, t, request)
	return reply, err
}

// checkInAnywhere is the check-in of a device that names no task: one that turns this
// device away, whoever else comes, leaves it to the next. Where all do, it is to come
// again when the first of them may take it.
func (s roundService) checkInAnywhere(ctx context.Context, request *pb.CheckInRequest) (*pb.CheckInResponse, error) {
	var asked []*task
	var soonest *pb.CheckInResponse
	for {
		t := s.pick(ctx, asked)
		if t == nil {
			break
		}
		reply, away, err := s.checkInTo(ctx, t, request)
		if err != nil || len(reply.GetPlan()) > 0 {
			return reply, err
		}
		if soonest == nil || reply.GetRetryAfterMs() < soonest.GetRetryAfterMs() {
			soonest = reply
		}
		if !away {
			break
		}
		asked = append(asked, t)
	}
	if soonest == nil {
		soonest = later(time.Minute, "no task is open")
	}
	return soonest, nil
}

// checkInTo is a check-in to a task. away says that it turned this very device away.
func (s roundService) checkInTo(ctx context.Context, t *task, request *pb.CheckInRequest) (reply *pb.CheckInResponse, away bool, err error) {
	c := &checkIn{id: caller(ctx).ID, commitment: [32]byte(request.GetNonceCommitment()), ctx: ctx, since: time.Now(), done: make(chan *pb.CheckInResponse, 1)}
	if !t.mail.post(func(now time.Time) { t.checkIn(now, c) }) {
		return nil, false, errStopping
	}
	select {
	case reply := <-c.done:
		if reply == nil {
			return nil, false, errStopping
		}
		return reply, c.away, nil
	case <-ctx.Done():
		t.mail.post(func(now time.Time) { t.gathering.remove(c, now) })
		return nil, false, status.FromContextError(ctx.Err()).Err()
	}
}

// pick chooses the task for a device that names none, of the open ones that it may see but those that it has asked, nil
// where none is open: one for which it need not wait long, and of several such the one whose latest round is longest ago.
func (c *Coordinator) pick(ctx context.Context, asked []*task) (best *task) {
	now := time.Now()
	for _, t := range c.all() {
		if t.view.Load().over || !sees(ctx, t.name) || slices.Contains(asked, t) {
			continue
		}
		if best == nil || t.view.Load().before(best.view.Load(), now) {
			best = t
		}
	}
	return best
}

// before tells whether a device that may take part in either task is rather sent to v's than to other's.
func (v *view) before(other *view, now time.Time) bool {
	a, b := v.wait(now), other.wait(now)
	if a == b && a == waitsLong && !v.ready.Equal(other.ready) {
		return v.ready.Before(other.ready)
	}
	return a < b || a == b && v.began.Before(other.began)
}

// What a device that comes to a task now can expect, best first.
const (
	waitsForOthers = iota // a round starts as soon as enough have come
	waitsForRound         // an attempt runs, after which one may start
	waitsInVain           // too few came the last time, not long ago
	waitsLong             // no round starts while a check-in is held
)

func (v *view) wait(now time.Time) int {
	switch {
	case v.ready.After(now.Add(holdTime)):
		return waitsLong
	case v.rests.After(now):
		return waitsInVain
	case !v.roomy:
		return waitsForRound
	}
	return waitsForOthers
}

func unknownTask(name string) error {
	return status.Errorf(codes.NotFound, `task %q is not known here; "discreet task list" lists those that are`, name)
}

// Advertise is step 0.
func (s roundService) Advertise(ctx context.Context, request *pb.AdvertiseRequest) (*pb.AdvertiseResponse, error) {
	a, err := s.step(ctx, request.GetStep(), round.Advertise, request.GetAdvert())
	return &pb.AdvertiseResponse{Roster: a.payload}, err
}

// Share is step 1.
func (s roundService) Share(ctx context.Context, request *pb.ShareRequest) (*pb.ShareResponse, error) {
	a, err := s.step(ctx, request.GetStep(), round.Share, request.GetShares())
	return &pb.ShareResponse{Inbox: a.payload}, err
}

// Complain comes between Share and Submit, and is answered at once.
func (s roundService) Complain(ctx context.Context, request *pb.ComplainRequest) (*pb.ComplainResponse, error) {
	at := request.GetStep()
	t := s.task(at.GetTask())
	if t == nil {
		return nil, unknownTask(at.GetTask())
	}
	call := &stepCall{from: caller(ctx).ID, done: make(chan reply, 1)}
	if !t.mail.post(func(now time.Time) { t.complain(now, call, at, request.GetComplaint()) }) {
		return nil, errStopping
	}
	_, err := call.wait(ctx)
	return &pb.ComplainResponse{}, err
}

// Confirm is step 3.
func (s roundService) Confirm(ctx context.Context, request *pb.ConfirmRequest) (*pb.ConfirmResponse, error) {
	a, err := s.step(ctx, request.GetStep(), round.Confirm, request.GetConfirm())
	return &pb.ConfirmResponse{Quorum: a.payload}, err
}

// Reveal is step 4. The receipt of a round that was committed is given again, also
// after the coordinator was started anew.
func (s roundService) Reveal(ctx context.Context, request *pb.RevealRequest) (*pb.RevealResponse, error) {
	at := request.GetStep()
	a, err := s.step(ctx, at, round.Reveal, request.GetReveal())
	if status.Code(err) == codes.FailedPrecondition {
		if sum, size, found := s.store.Committed(ctx, at.GetTask(), at.GetRound(), at.GetAttempt()); found == nil {
			return &pb.RevealResponse{CheckpointSha256: sum[:], CheckpointBytes: size}, nil
		}
	}
	return &pb.RevealResponse{CheckpointSha256: a.sum[:], CheckpointBytes: a.size}, err
}

// step hands a message to the task's goroutine and waits for its answer.
func (c *Coordinator) step(ctx context.Context, at *pb.RoundStep, step round.Step, payload []byte) (reply, error) {
	t := c.task(at.GetTask())
	if t == nil {
		return reply{}, unknownTask(at.GetTask())
	}
	call := &stepCall{from: caller(ctx).ID, done: make(chan reply, 1)}
	if !t.mail.post(func(now time.Time) { t.receive(now, call, at, step, payload) }) {
		return reply{}, errStopping
	}
	return call.wait(ctx)
}

// wait returns the answer to a held call.
func (c *stepCall) wait(ctx context.Context) (reply, error) {
	select {
	case a := <-c.done:
		return a, a.err
	case <-ctx.Done():
		return reply{}, status.FromContextError(ctx.Err()).Err()
	}
}

// Submit is step 2, in chunks.
func (s roundService) Submit(ctx context.Context, request *pb.SubmitRequest) (*pb.SubmitResponse, error) {
	t := s.task(request.GetStep().GetTask())
	if t == nil {
		return nil, unknownTask(request.GetStep().GetTask())
	}
	call := &stepCall{from: caller(ctx).ID, done: make(chan reply, 1)}
	if !t.mail.post(func(now time.Time) { t.chunk(now, call, request) }) {
		return nil, errStopping
	}
	a, err := call.wait(ctx)
	return &pb.SubmitResponse{Survivors: a.payload}, err
}
