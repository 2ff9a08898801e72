package coordinator

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/discreet-fl/discreet/model"
	pb "github.com/discreet-fl/discreet/proto"
)

const (
	keptUploads    = 2
	mostUploadData = 512 << 10 // in a chunk
)

// mostUpload bounds a checkpoint file: the largest model and the longest manifest.
var mostUpload = func() uint64 {
	largest, err := model.NewLayout("base", model.MaxLabels)
	if err != nil {
		panic(err) // both arguments are constants of package model
	}
	return uint64(4*largest.Parameters() + 9<<20)
}()

// uploads are first checkpoints that operators have brought, for tasks that are to be
// created. They are kept in memory: who is cut off brings them again.
type uploads struct {
	mu   sync.Mutex
	list []*warmFile // the newest last
}

// warmFile is one of them, or as much of it as has come.
type warmFile struct {
	sum   [32]byte
	total uint64
	data  []byte
}

// add takes one chunk and returns how much of its file is there.
func (u *uploads) add(sum [32]byte, total, offset uint64, data []byte) (uint64, error) {
	if total < 1 || total > mostUpload || len(data) < 1 || len(data) > mostUploadData {
		return 0, status.Errorf(codes.InvalidArgument, "%d bytes of a file of %d, want 1 to %d of at most %d", len(data), total, mostUploadData, mostUpload)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	at := slices.IndexFunc(u.list, func(f *warmFile) bool { return f.sum == sum })
	if at < 0 || offset == 0 && !u.list[at].whole() {
		if at >= 0 {
			u.list = slices.Delete(u.list, at, at+1)
		} else if len(u.list) == keptUploads {
			u.list = slices.Delete(u.list, 0, 1)
		}
		u.list = append(u.list, &warmFile{sum: sum, total: total})
		at = len(u.list) - 1
	}
	f := u.list[at]
	if f.whole() || offset < uint64(len(f.data)) && f.total == total {
		return uint64(len(f.data)), nil // a chunk that came before
	}
	if f.total != total || offset != uint64(len(f.data)) || uint64(len(data)) > total-offset {
		return 0, status.Errorf(codes.InvalidArgument, "%d bytes at %d of a file of %d, want them to go on at %d of %d", len(data), offset, total, len(f.data), f.total)
	}
	f.data = append(f.data, data...)
	if f.whole() {
		if err := f.check(); err != nil {
			u.list = slices.Delete(u.list, at, at+1)
			return 0, status.Error(codes.InvalidArgument, err.Error())
		}
	}
	return uint64(len(f.data)), nil
}

func (f *warmFile) whole() bool { return uint64(len(f.data)) == f.total }

// check tells whether the file is what it was said to be.
func (f *warmFile) check() error {
	if got := sha256.Sum256(f.data); got != f.sum {
		return fmt.Errorf("the file has SHA-256 %x, want %x; upload it again", got, f.sum)
	}
	_, err := model.DecodeCheckpoint(f.data)
	return err
}

// take returns a whole file, and keeps it for whoever asks again.
func (u *uploads) take(sum []byte) ([]byte, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, f := range u.list {
		if f.whole() && bytes.Equal(f.sum[:], sum) {
			return f.data, true
		}
	}
	return nil, false
}

// UploadCheckpoint takes one chunk of a first checkpoint.
func (s operatorService) UploadCheckpoint(_ context.Context, request *pb.UploadCheckpointRequest) (*pb.UploadCheckpointResponse, error) {
	if n := len(request.GetSha256()); n != sha256.Size {
		return nil, status.Errorf(codes.InvalidArgument, "a hash of %d bytes, want %d", n, sha256.Size)
	}
	received, err := s.uploads.add([32]byte(request.GetSha256()), request.GetTotalBytes(), request.GetOffset(), request.GetData())
	return &pb.UploadCheckpointResponse{Received: received}, err
}

// warmCheckpoint returns the first checkpoint that a specification names.
func (c *Coordinator) warmCheckpoint(spec *pb.TaskSpec) (*model.Checkpoint, error) {
	raw, ok := c.uploads.take(spec.GetWarmStart())
	if !ok {
		return nil, status.Errorf(codes.FailedPrecondition, "the first checkpoint %x has not been uploaded, or not since the coordinator started; upload it, then create the task", spec.GetWarmStart())
	}
	first, err := model.DecodeCheckpoint(raw)
	if err != nil {
		return nil, err
	}
	m := &first.Manifest
	if m.Task != spec.GetName() || m.Round != 0 || m.Size != spec.GetModel() || !slices.Equal(m.Labels, spec.GetIntents()) {
		return nil, status.Errorf(codes.InvalidArgument, "the first checkpoint is of task %q, round %d, model %q and %d intents, want the specification's: task %q, round 0, model %q and the same %d intents in the same order",
			m.Task, m.Round, m.Size, len(m.Labels), spec.GetName(), spec.GetModel(), len(spec.GetIntents()))
	}
	if err := m.CheckTokeniser(); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	return first, nil
}
