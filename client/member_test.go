package client

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/secagg"
)

// member is the Transport of one member of the rig's cohort. Where edit is set it
// may look at a request, fail it, or fail its reply: it is called once before and
// once after every call. Where lie is set it may put another answer in the place of
// the rig's, as a hostile coordinator does.
type member struct {
	r    *rig
	id   secagg.ID
	edit func(step pb.Step, after bool, request proto.Message) error
	lie  func(step pb.Step, answer []byte, err error) ([]byte, error)
}

func (m *member) hook(step pb.Step, after bool, request proto.Message) error {
	if m.edit == nil {
		return nil
	}
	return m.edit(step, after, request)
}

func (m *member) step(ctx context.Context, step pb.Step, request proto.Message, message []byte) ([]byte, error) {
	if err := m.hook(step, false, request); err != nil {
		return nil, err
	}
	answer, err := m.r.call(ctx, step, m.id, message)
	if m.lie != nil {
		answer, err = m.lie(step, bytes.Clone(answer), err)
	}
	if err == nil {
		err = m.hook(step, true, request)
	}
	return answer, err
}

func (m *member) Tasks(context.Context, *pb.TasksRequest) (*pb.TasksResponse, error) {
	return nil, status.Error(codes.Unimplemented, "the rig has one task")
}

func (m *member) CheckIn(context.Context, *pb.CheckInRequest) (*pb.CheckInResponse, error) {
	return nil, status.Error(codes.Unimplemented, "the rig's guests have checked in")
}

func (m *member) GetRevocations(context.Context, *pb.GetRevocationsRequest) (*pb.GetRevocationsResponse, error) {
	return nil, status.Error(codes.Unimplemented, "the rig has no store")
}

func (m *member) GetLogProof(context.Context, *pb.GetLogProofRequest) (*pb.GetLogProofResponse, error) {
	return nil, status.Error(codes.Unimplemented, "the rig has no store")
}

func (m *member) GetCheckpoint(context.Context, *pb.GetCheckpointRequest) (*pb.GetCheckpointResponse, error) {
	return &pb.GetCheckpointResponse{Data: m.r.checkpoint, TotalBytes: uint64(len(m.r.checkpoint))}, nil
}

func (m *member) Advertise(ctx context.Context, q *pb.AdvertiseRequest) (*pb.AdvertiseResponse, error) {
	roster, err := m.step(ctx, pb.Step_STEP_ADVERTISE, q, q.Advert)
	return &pb.AdvertiseResponse{Roster: roster}, err
}

func (m *member) Share(ctx context.Context, q *pb.ShareRequest) (*pb.ShareResponse, error) {
	inbox, err := m.step(ctx, pb.Step_STEP_SHARE, q, q.Shares)
	return &pb.ShareResponse{Inbox: inbox}, err
}

func (m *member) Complain(_ context.Context, q *pb.ComplainRequest) (*pb.ComplainResponse, error) {
	m.r.mu.Lock()
	defer m.r.mu.Unlock()
	m.r.complaints = append(m.r.complaints, q.Complaint)
	_, err := m.r.submits.Complain(m.id, q.Complaint)
	return &pb.ComplainResponse{}, err
}

func (m *member) Submit(ctx context.Context, q *pb.SubmitRequest) (*pb.SubmitResponse, error) {
	m.r.mu.Lock()
	whole := m.r.vectors[m.id]
	if at := int(q.Index) * chunkSize; at == len(whole) {
		whole = append(whole, q.Data...)
		m.r.vectors[m.id] = whole
	}
	m.r.mu.Unlock()
	if q.Index < q.Chunks-1 {
		return &pb.SubmitResponse{}, errors.Join(m.hook(pb.Step_STEP_SUBMIT, false, q), m.hook(pb.Step_STEP_SUBMIT, true, q))
	}
	if got := sha256.Sum256(whole); !bytes.Equal(got[:], q.Sha256) {
		return nil, status.Errorf(codes.InvalidArgument, "%d bytes with another hash", len(whole))
	}
	survivors, err := m.step(ctx, pb.Step_STEP_SUBMIT, q, whole)
	return &pb.SubmitResponse{Survivors: survivors}, err
}

func (m *member) Confirm(ctx context.Context, q *pb.ConfirmRequest) (*pb.ConfirmResponse, error) {
	quorum, err := m.step(ctx, pb.Step_STEP_CONFIRM, q, q.Confirm)
	return &pb.ConfirmResponse{Quorum: quorum}, err
}

func (m *member) Reveal(ctx context.Context, q *pb.RevealRequest) (*pb.RevealResponse, error) {
	sum, err := m.step(ctx, pb.Step_STEP_REVEAL, q, q.Reveal)
	m.r.mu.Lock()
	defer m.r.mu.Unlock()
	return &pb.RevealResponse{CheckpointSha256: sum, CheckpointBytes: uint64(len(m.r.next))}, err
}
