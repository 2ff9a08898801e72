package coordinator

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/discreet-fl/discreet/aggregation"
	"github.com/discreet-fl/discreet/coordinator/ca"
	"github.com/discreet-fl/discreet/coordinator/store"
	"github.com/discreet-fl/discreet/model"
	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/proto/rpc"
)

const (
	shownAttempts = 50        // of a task, in GetTask
	mostDevices   = 1000      // in a page
	mostUses      = 1_000_000 // of a token
)

// operatorService is what an operator's commands call.
type operatorService struct {
	rpc.UnimplementedOperatorServiceServer
	*Coordinator
}

// message returns the task as operators see it.
func (t *task) message() *pb.Task {
	v := t.view.Load()
	return &pb.Task{
		Spec: t.spec, CreatedMs: t.created.UnixMilli(), RoundsDone: v.done,
		CheckpointSha256: v.sum[:], CheckpointBytes: v.size, State: v.state,
		IntentsVersion: v.version, Intents: uint32(v.intents), Best: v.best, Privacy: privacyMessage(t.spec, v),
	}
}

// CreateTask is Coordinator.CreateTask.
func (s operatorService) CreateTask(ctx context.Context, request *pb.CreateTaskRequest) (*pb.CreateTaskResponse, error) {
	task, err := s.Coordinator.CreateTask(ctx, request.GetSpec())
	return &pb.CreateTaskResponse{Task: task}, err
}

// CreateTask starts a task, or returns the one that the same specification has
// started before. Its errors carry gRPC codes.
func (c *Coordinator) CreateTask(ctx context.Context, spec *pb.TaskSpec) (*pb.Task, error) {
	if err := CheckSpec(spec); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	c.creating.Lock()
	defer c.creating.Unlock()
	t := c.task(spec.GetName())
	if t == nil {
		var err error
		if t, err = c.newTask(ctx, spec); err != nil {
			return nil, err
		}
	}
	if !proto.Equal(t.spec, spec) {
		return nil, status.Errorf(codes.AlreadyExists, "task %s exists with other settings (%s), and keeps those; choose another name", t.name, differences(t.spec, spec))
	}
	return t.message(), nil
}

// settings are the flags of the fields of a specification that have other names.
var settings = map[protoreflect.Name]string{
	"every_ms":    "--every",
	"deadline_ms": "--deadline",
	"evaluation":  "--held-back, --unknown or --early-stop",
	"warm_start":  "--warm-start or --from",
	"privacy":     "--epsilon and its companions",
	"strategy":    "--strategy and its numbers",
	"buffer":      "--buffer or --staleness",
}

// differences names the flags of the settings in which two specifications differ.
func differences(a, b *pb.TaskSpec) string {
	var names []string
	fields := a.ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if x, y := a.ProtoReflect(), b.ProtoReflect(); x.Has(f) != y.Has(f) || !x.Get(f).Equal(y.Get(f)) {
			names = append(names, cmp.Or(settings[f.Name()], "--"+strings.ReplaceAll(string(f.Name()), "_", "-")))
		}
	}
	return cmp.Or(strings.Join(names, ", "), "one that this coordinator is too old to know")
}

// newTask stores a task and starts its goroutine. One that is stored, but was never
// started because its creator was cut off, is taken as it is.
func (c *Coordinator) newTask(ctx context.Context, spec *pb.TaskSpec) (*task, error) {
	first, err := c.beginning(spec)
	if _, told := status.FromError(err); err != nil && told {
		return nil, err
	}
	if err != nil { // the model knows more than CheckSpec of what a name may hold
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	if err := c.hasMemoryFor(spec, first.Manifest.Layout); err != nil {
		return nil, err
	}
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(spec)
	if err != nil {
		return nil, err
	}
	if err := c.store.CreateTask(ctx, spec.GetName(), raw, first.Encode(), time.Now()); err != nil && !errors.Is(err, store.ErrExists) {
		return nil, err
	}
	row, err := c.store.Task(ctx, spec.GetName())
	if err != nil {
		return nil, err
	}
	t, err := c.loadTask(ctx, row)
	if err != nil {
		return nil, err
	}
	c.own(t)
	c.log.Info("task created", "task", t.name, "intents", len(spec.GetIntents()), "model", spec.GetModel())
	return t, nil
}

// hasMemoryFor refuses a task of which one device's vector, for a model of this layout,
// is more than the memory that there is for all.
func (c *Coordinator) hasMemoryFor(spec *pb.TaskSpec, l model.Layout) error {
	layout, err := noisedLayout(spec, l)
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	need := aggregation.PackedSize(layout.Length(), layout.RingBits(int(cohortOf(spec))))
	if int64(need) > c.memory.limit {
		return status.Errorf(codes.InvalidArgument,
			"one device's vector has %d bytes, the coordinator's memory for vectors is %d; start it with more (--memory)", need, c.memory.limit)
	}
	return nil
}

// beginning is the checkpoint that a task begins with: an operator's own, or drawn.
func (c *Coordinator) beginning(spec *pb.TaskSpec) (*model.Checkpoint, error) {
	if len(spec.GetWarmStart()) > 0 {
		return c.warmCheckpoint(spec)
	}
	return firstCheckpoint(spec)
}

// firstCheckpoint draws the parameters that a task begins with.
func firstCheckpoint(spec *pb.TaskSpec) (*model.Checkpoint, error) {
	layout, err := model.NewLayout(spec.GetModel(), len(spec.GetIntents()))
	if err != nil {
		return nil, err
	}
	seed := spec.GetSeed()
	if seed == 0 {
		var b [8]byte
		rand.Read(b[:]) // never fails
		seed = binary.LittleEndian.Uint64(b[:])
	}
	return model.NewCheckpoint(spec.GetName(), spec.GetModel(), 0, spec.GetIntents(), layout.Init(seed))
}

// ListTasks returns all tasks by name.
func (s operatorService) ListTasks(context.Context, *pb.ListTasksRequest) (*pb.ListTasksResponse, error) {
	reply := new(pb.ListTasksResponse)
	for _, t := range s.all() {
		reply.Tasks = append(reply.Tasks, t.message())
	}
	return reply, nil
}

// GetTask returns a task and its latest attempts.
func (s operatorService) GetTask(ctx context.Context, request *pb.GetTaskRequest) (*pb.GetTaskResponse, error) {
	t := s.task(request.GetName())
	if t == nil {
		return nil, unknownTask(request.GetName())
	}
	// The task first: a round that it counts then stands among the attempts.
	reply := &pb.GetTaskResponse{Task: t.message()}
	attempts, err := s.store.Attempts(ctx, t.name, shownAttempts)
	if err != nil {
		return nil, err
	}
	for _, a := range attempts {
		record := &pb.RoundRecord{
			Round: a.Round, Attempt: a.Attempt, Cohort: uint32(a.Cohort), Roster: uint32(a.Roster), Survivors: uint32(a.Survivors),
			Cohorts: uint32(a.Cohorts), CohortsLost: uint32(a.CohortsLost),
			StartedMs: a.Started.UnixMilli(), EndedMs: a.Ended.UnixMilli(), Aborted: a.Aborted, IntentsVersion: a.IntentsVersion, Staleness: uint32(a.Staleness),
		}
		if a.Charge > 0 {
			record.Privacy = &pb.RoundPrivacy{Devices: uint32(a.ChargedDevices), Charge: a.Charge, Clip: a.Clip}
		}
		if record.Evaluation, err = evaluationIn(a); err != nil {
			return nil, err
		}
		if a.Aborted == "" {
			record.CheckpointSha256 = a.Checkpoint[:]
		}
		reply.Rounds = append(reply.Rounds, record)
	}
	return reply, nil
}

// ListDevices returns a page of the devices by id.
func (s operatorService) ListDevices(ctx context.Context, request *pb.ListDevicesRequest) (*pb.ListDevicesResponse, error) {
	after, limit := request.GetAfter(), request.GetLimit()
	if limit < 1 || limit > mostDevices || len(after) != 0 && len(after) != 16 {
		return nil, status.Errorf(codes.InvalidArgument, "%d devices after an id of %d bytes, want 1 to %d after one of 16 bytes or none", limit, len(after), mostDevices)
	}
	page, err := s.store.Devices(ctx, after, int(limit))
	if err != nil {
		return nil, err
	}
	reply := new(pb.ListDevicesResponse)
	for _, d := range page {
		m := &pb.Device{Id: d.ID[:], EnrolledMs: d.Enrolled.UnixMilli(), Rounds: d.Rounds, Task: d.Task}
		if !d.Seen.IsZero() {
			m.SeenMs = d.Seen.UnixMilli()
		}
		reply.Devices = append(reply.Devices, m)
	}
	return reply, nil
}

// CreateToken is Coordinator.CreateToken.
func (s operatorService) CreateToken(ctx context.Context, request *pb.CreateTokenRequest) (*pb.CreateTokenResponse, error) {
	token, err := s.CreateTaskToken(ctx, request.GetTask(), request.GetUses(), milliseconds(request.GetExpiresMs()))
	return &pb.CreateTokenResponse{Token: token}, err
}

// CreateToken returns the line with which so many devices may join for so long. Its
// errors carry gRPC codes.
func (c *Coordinator) CreateToken(ctx context.Context, uses uint32, life time.Duration) (string, error) {
	return c.CreateTaskToken(ctx, "", uses, life)
}

// CreateTaskToken is CreateToken for devices that are bound to a task: they see no
// other. An empty name binds them to none.
func (c *Coordinator) CreateTaskToken(ctx context.Context, task string, uses uint32, life time.Duration) (string, error) {
	if task != "" && c.task(task) == nil {
		return "", unknownTask(task)
	}
	if uses < 1 || uses > mostUses || life <= 0 || life > longestWait {
		return "", status.Errorf(codes.InvalidArgument, "a token for %d devices and %v, want 1 to %d devices and more than 0 up to %v",
			uses, life, mostUses, longestWait)
	}
	var secret [ca.SecretSize]byte
	if _, err := rand.Read(secret[:]); err != nil {
		return "", fmt.Errorf("coordinator: drawing a secret: %w", err)
	}
	now := time.Now()
	if err := c.store.CreateTaskToken(ctx, task, secret[:], uses, now.Add(life), now); err != nil {
		return "", err
	}
	return c.authority.Token(secret), nil
}

// ListCheckpoints returns the kept checkpoints of a task, newest first.
func (s operatorService) ListCheckpoints(ctx context.Context, request *pb.ListCheckpointsRequest) (*pb.ListCheckpointsResponse, error) {
	if s.task(request.GetTask()) == nil {
		return nil, unknownTask(request.GetTask())
	}
	kept, err := s.store.Checkpoints(ctx, request.GetTask())
	if err != nil {
		return nil, err
	}
	reply := new(pb.ListCheckpointsResponse)
	for _, k := range kept {
		reply.Checkpoints = append(reply.Checkpoints, &pb.CheckpointRecord{
			Round: k.Round, Sha256: k.SHA256[:], Bytes: k.Bytes, CommittedMs: k.Committed.UnixMilli(),
		})
	}
	return reply, nil
}
