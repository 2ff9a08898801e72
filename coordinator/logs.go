package coordinator

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/discreet-fl/discreet/checkpointlog"
	"github.com/discreet-fl/discreet/coordinator/store"
	pb "github.com/discreet-fl/discreet/proto"
)

const mostEntries = 1000 // in a page of a log

// logHead returns the newest signed head of a task's log. The log grows in the
// transaction that gives a task its checkpoint, so it ends with the current one.
func (c *Coordinator) logHead(ctx context.Context, task string) ([]byte, error) {
	size, err := c.store.LogSize(ctx, task)
	if err != nil {
		return nil, fmt.Errorf("coordinator: the head of a log: %w", err)
	}
	return c.signHead(ctx, task, size)
}

// signHead signs what a task's log was when it had so many entries. The same size is
// signed with the same bytes every time.
func (c *Coordinator) signHead(ctx context.Context, task string, size uint64) ([]byte, error) {
	head, err := checkpointlog.HeadOf(size, c.store.LogHashes(ctx, task))
	if err != nil {
		return nil, fmt.Errorf("coordinator: the head of the log of task %s: %w", task, err)
	}
	return checkpointlog.SignHead(c.authority.LogKey(), checkpointlog.Origin(c.authority.PublicKey(), task), head), nil
}

// logSize returns how many entries the log of a task has. Its errors are for callers.
func (c *Coordinator) logSize(ctx context.Context, task string) (uint64, error) {
	size, err := c.store.LogSize(ctx, task)
	if errors.Is(err, store.ErrNotFound) {
		return 0, unknownTask(task)
	}
	return size, err
}

// GetLogProof proves that a checkpoint stands in its task's log and, where the caller
// has seen no more than that log, that it grew out of what the caller has seen.
func (s checkpointService) GetLogProof(ctx context.Context, request *pb.GetLogProofRequest) (*pb.GetLogProofResponse, error) {
	task, sum := request.GetTask(), request.GetCheckpointSha256()
	if len(sum) != sha256.Size {
		return nil, status.Errorf(codes.InvalidArgument, "a hash of %d bytes, want %d", len(sum), sha256.Size)
	}
	newest, err := s.logSize(ctx, task)
	if err != nil {
		return nil, err
	}
	size := request.GetSize()
	if size == 0 {
		size = newest
	}
	if size > newest {
		return nil, status.Errorf(codes.InvalidArgument, "a proof for %d entries, want at most the log's %d", size, newest)
	}
	index, entry, err := s.store.LogEntry(ctx, task, [32]byte(sum))
	if errors.Is(err, store.ErrNotFound) || err == nil && index >= size {
		return nil, status.Errorf(codes.NotFound, "checkpoint %x is not among the first %d entries of the log of task %s", sum[:6], size, task)
	}
	if err != nil {
		return nil, err
	}
	reply := &pb.GetLogProofResponse{Entry: entry, Index: index}
	if reply.Head, err = s.signHead(ctx, task, size); err != nil {
		return nil, err
	}
	hashes := s.store.LogHashes(ctx, task)
	if reply.Inclusion, err = checkpointlog.ProveInclusion(index, size, hashes); err != nil {
		return nil, err
	}
	if old := request.GetOldSize(); old <= size { // one who has seen more reads in the head that it shrank
		if reply.Consistency, err = checkpointlog.ProveConsistency(old, size, hashes); err != nil {
			return nil, err
		}
	}
	return reply, nil
}

// ListLog returns a page of a task's log. The head is over at least its entries.
func (s checkpointService) ListLog(ctx context.Context, request *pb.ListLogRequest) (*pb.ListLogResponse, error) {
	task, limit := request.GetTask(), request.GetLimit()
	if limit < 1 || limit > mostEntries {
		return nil, status.Errorf(codes.InvalidArgument, "a page of %d entries, want 1 to %d", limit, mostEntries)
	}
	entries, err := s.store.LogEntries(ctx, task, request.GetStart(), int(limit))
	if err != nil {
		return nil, err
	}
	size, err := s.logSize(ctx, task) // read behind the entries
	if err != nil {
		return nil, err
	}
	head, err := s.signHead(ctx, task, size)
	if err != nil {
		return nil, err
	}
	return &pb.ListLogResponse{Head: head, Entries: entries, LogKey: s.authority.LogPublicKey(), LogCredential: s.authority.LogCredential()}, nil
}
