package client

import (
	"context"

	pb "github.com/discreet-fl/discreet/proto"
)

// Transport carries a device's calls to a coordinator. Errors are gRPC statuses:
// UNAVAILABLE and RESOURCE_EXHAUSTED are tried again with the same bytes, every
// other one ends the attempt. [Client] speaks gRPC; package simulate calls the
// coordinator's round directly.
type Transport interface {
	Tasks(context.Context, *pb.TasksRequest) (*pb.TasksResponse, error)
	CheckIn(context.Context, *pb.CheckInRequest) (*pb.CheckInResponse, error)
	GetRevocations(context.Context, *pb.GetRevocationsRequest) (*pb.GetRevocationsResponse, error)
	GetCheckpoint(context.Context, *pb.GetCheckpointRequest) (*pb.GetCheckpointResponse, error)
	GetLogProof(context.Context, *pb.GetLogProofRequest) (*pb.GetLogProofResponse, error)
	Advertise(context.Context, *pb.AdvertiseRequest) (*pb.AdvertiseResponse, error)
	Share(context.Context, *pb.ShareRequest) (*pb.ShareResponse, error)
	Complain(context.Context, *pb.ComplainRequest) (*pb.ComplainResponse, error)
	Submit(context.Context, *pb.SubmitRequest) (*pb.SubmitResponse, error)
	Confirm(context.Context, *pb.ConfirmRequest) (*pb.ConfirmResponse, error)
	Reveal(context.Context, *pb.RevealRequest) (*pb.RevealResponse, error)
}
