package simulate

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/discreet-fl/discreet/coordinator/round"
	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/secagg"
)

// errVanished ends a device's part where the schedule says so.
var errVanished = status.Error(codes.Aborted, "the device vanished")

// direct is a device's transport without a network. It vanishes where the schedule
// says so.
type direct struct {
	*attempt
	member member
	id     secagg.ID
	sent   int64                // bytes of all requests
	steps  map[round.Step]int64 // of which in each step, a complaint among the shares
	packed []byte               // chunks of the masked vector so far
}

// call delivers one step's message and waits for the answer, or vanishes.
func (d *direct) call(ctx context.Context, step round.Step, request proto.Message, payload []byte, before, after Vanish) ([]byte, error) {
	if d.member.vanish == before && before != Stays {
		return nil, errVanished
	}
	d.count(step, request)
	if d.observe != nil {
		payload = d.observe(d.member.device, step, payload)
	}
	leaves := d.member.vanish == after && after != Stays
	return d.deliver(ctx, message{from: d.id, step: step, payload: payload, leaves: leaves})
}

// count adds up what is sent.
func (d *direct) count(step round.Step, request proto.Message) {
	n := int64(proto.Size(request))
	d.sent += n
	d.steps[step] += n
}

// deliver hands a message to the coordinator. Others work while this device waits.
func (d *direct) deliver(ctx context.Context, m message) ([]byte, error) {
	<-d.working
	defer func() { d.working <- struct{}{} }()
	m.answer = make(chan answer, 1)
	select {
	case d.events <- m:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if m.leaves {
		return nil, errVanished
	}
	select {
	case a := <-m.answer:
		return a.payload, a.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (d *direct) Advertise(ctx context.Context, q *pb.AdvertiseRequest) (*pb.AdvertiseResponse, error) {
	b, err := d.call(ctx, round.Advertise, q, q.Advert, BeforeAdvertise, AfterAdvertise)
	return &pb.AdvertiseResponse{Roster: b}, err
}

func (d *direct) Share(ctx context.Context, q *pb.ShareRequest) (*pb.ShareResponse, error) {
	b, err := d.call(ctx, round.Share, q, q.Shares, Stays, AfterShare)
	return &pb.ShareResponse{Inbox: b}, err
}

func (d *direct) Complain(ctx context.Context, q *pb.ComplainRequest) (*pb.ComplainResponse, error) {
	d.count(round.Share, q)
	_, err := d.deliver(ctx, message{from: d.id, complaint: true, payload: q.Complaint})
	return &pb.ComplainResponse{}, err
}

// Submit gathers the chunks, which come in order here, and delivers them at the last.
func (d *direct) Submit(ctx context.Context, q *pb.SubmitRequest) (*pb.SubmitResponse, error) {
	d.packed = append(d.packed, q.Data...)
	if q.Index+1 < q.Chunks {
		d.count(round.Submit, q)
		return &pb.SubmitResponse{}, nil
	}
	whole := d.packed
	d.packed = nil
	b, err := d.call(ctx, round.Submit, q, whole, Stays, AfterSubmit)
	return &pb.SubmitResponse{Survivors: b}, err
}

func (d *direct) Confirm(ctx context.Context, q *pb.ConfirmRequest) (*pb.ConfirmResponse, error) {
	b, err := d.call(ctx, round.Confirm, q, q.Confirm, Stays, AfterConfirm)
	return &pb.ConfirmResponse{Quorum: b}, err
}

func (d *direct) Reveal(ctx context.Context, q *pb.RevealRequest) (*pb.RevealResponse, error) {
	receipt := &pb.RevealResponse{}
	b, err := d.call(ctx, round.Reveal, q, q.Reveal, Stays, Stays)
	if err == nil {
		err = proto.Unmarshal(b, receipt)
	}
	return receipt, err
}

// A simulated device is handed its place and its checkpoint, and nobody is revoked.

func (d *direct) Tasks(context.Context, *pb.TasksRequest) (*pb.TasksResponse, error) {
	return nil, errors.ErrUnsupported
}

func (d *direct) CheckIn(context.Context, *pb.CheckInRequest) (*pb.CheckInResponse, error) {
	return nil, errors.ErrUnsupported
}

func (d *direct) GetRevocations(context.Context, *pb.GetRevocationsRequest) (*pb.GetRevocationsResponse, error) {
	return nil, errors.ErrUnsupported
}

func (d *direct) GetCheckpoint(context.Context, *pb.GetCheckpointRequest) (*pb.GetCheckpointResponse, error) {
	return nil, errors.ErrUnsupported
}

func (d *direct) GetLogProof(context.Context, *pb.GetLogProofRequest) (*pb.GetLogProofResponse, error) {
	return nil, errors.ErrUnsupported
}
