package rpc

import (
	"bytes"
	"context"
	"crypto/sha256"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/discreet-fl/discreet/proto"
)

// files serves one file in chunks of ten bytes; change, where set, lies about a chunk.
type files struct {
	CheckpointServiceClient // nil: nothing else is called

	file   []byte
	change func(*pb.GetCheckpointResponse)
}

func (f files) GetCheckpoint(_ context.Context, q *pb.GetCheckpointRequest, _ ...grpc.CallOption) (*pb.GetCheckpointResponse, error) {
	if sum := sha256.Sum256(f.file); !bytes.Equal(q.Sha256, sum[:]) {
		return nil, status.Error(codes.NotFound, "not kept here")
	}
	rest := f.file[q.Offset:]
	reply := &pb.GetCheckpointResponse{Data: bytes.Clone(rest[:min(10, len(rest))]), TotalBytes: uint64(len(f.file))}
	if f.change != nil {
		f.change(reply)
	}
	return reply, nil
}

func TestFetchCheckpoint(t *testing.T) {
	for _, size := range []int{1, 9, 10, 11, 40, 45} {
		file := bytes.Repeat([]byte{7}, size)
		sum := sha256.Sum256(file)
		got, err := FetchCheckpoint(t.Context(), files{file: file}, sum[:], uint64(size))
		if err != nil || !bytes.Equal(got, file) {
			t.Errorf("%d bytes: got %d and error %v", size, len(got), err)
		}
	}
}

func TestFetchCheckpointRefuses(t *testing.T) {
	file := bytes.Repeat([]byte{7}, 45)
	sum := sha256.Sum256(file)
	for _, tc := range []struct {
		name   string
		sum    []byte
		most   uint64
		change func(*pb.GetCheckpointResponse)
		want   string
	}{
		{"not kept", make([]byte, 32), 45, nil, "not kept here"},
		{"too large", sum[:], 44, nil, "45 bytes, want at most 44"},
		{"no bytes", sum[:], 45, func(r *pb.GetCheckpointResponse) { r.Data = nil }, "got 0 bytes at 0"},
		{"too many bytes", sum[:], 45, func(r *pb.GetCheckpointResponse) { r.Data = make([]byte, 46) }, "got 46 bytes at 0"},
		{"a size that shrinks", sum[:], 45, func(r *pb.GetCheckpointResponse) { r.TotalBytes = 15 }, "got 10 bytes at 10 of the checkpoint's 15"},
		{"other bytes", sum[:], 45, func(r *pb.GetCheckpointResponse) { r.Data[0]++ }, "fetch it again"},
	} {
		_, err := FetchCheckpoint(t.Context(), files{file: file, change: tc.change}, tc.sum, tc.most)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got error %v, want one with %q", tc.name, err, tc.want)
		}
	}
}
