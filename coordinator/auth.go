package coordinator

import (
	"context"
	"errors"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/discreet-fl/discreet/coordinator/ca"
	"github.com/discreet-fl/discreet/coordinator/store"
	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/proto/rpc"
)

const (
	// The largest request is the shares for 510 neighbours, the most that CheckSpec lets
	// a member have, under hybrid keys and with eight levels of noise. Larger ones are refused
	// before they are read, so a device holds at most maxCalls of these on a connection.
	maxRequest = 5 << 18
	// Headers say no more than the method and a deadline; gRPC itself would take 16 MiB of them.
	maxHeaders = 16 << 10
	// A device makes one call at a time, and another while it reconnects.
	maxCalls = 4
)

// roles says who may call what. A method that does not stand here is refused.
var roles = map[string][]ca.Role{
	healthpb.Health_Check_FullMethodName: {ca.Anonymous, ca.Device, ca.Operator},

	rpc.EnrolmentService_Enrol_FullMethodName: {ca.Anonymous, ca.Device, ca.Operator},

	rpc.CheckpointService_GetCheckpoint_FullMethodName: {ca.Device, ca.Operator},
	rpc.CheckpointService_GetLogProof_FullMethodName:   {ca.Device, ca.Operator},
	rpc.CheckpointService_ListLog_FullMethodName:       {ca.Device, ca.Operator},

	rpc.RoundService_Tasks_FullMethodName:     {ca.Device},
	rpc.RoundService_CheckIn_FullMethodName:   {ca.Device},
	rpc.RoundService_Advertise_FullMethodName: {ca.Device},
	rpc.RoundService_Share_FullMethodName:     {ca.Device},
	rpc.RoundService_Submit_FullMethodName:    {ca.Device},
	rpc.RoundService_Complain_FullMethodName:  {ca.Device},
	rpc.RoundService_Confirm_FullMethodName:   {ca.Device},
	rpc.RoundService_Reveal_FullMethodName:    {ca.Device},

	rpc.RoundService_GetRevocations_FullMethodName: {ca.Device},

	rpc.OperatorService_CreateTask_FullMethodName:      {ca.Operator},
	rpc.OperatorService_ListTasks_FullMethodName:       {ca.Operator},
	rpc.OperatorService_GetTask_FullMethodName:         {ca.Operator},
	rpc.OperatorService_ListDevices_FullMethodName:     {ca.Operator},
	rpc.OperatorService_CreateToken_FullMethodName:     {ca.Operator},
	rpc.OperatorService_ListCheckpoints_FullMethodName: {ca.Operator},
	rpc.OperatorService_ListWaiting_FullMethodName:     {ca.Operator},
	rpc.OperatorService_Admit_FullMethodName:           {ca.Operator},

	rpc.OperatorService_UploadCheckpoint_FullMethodName: {ca.Operator},
	rpc.OperatorService_ChangeIntents_FullMethodName:    {ca.Operator},
	rpc.OperatorService_GetIntents_FullMethodName:       {ca.Operator},
}

// newServer returns the gRPC server with every service.
func (c *Coordinator) newServer() *grpc.Server {
	server := grpc.NewServer(
		grpc.Creds(gatedTLS{credentials.NewTLS(c.authority.ServerTLS()), c.gate}),
		grpc.StatsHandler(connections{c}),
		grpc.UnaryInterceptor(c.authorise),
		grpc.StreamInterceptor(func(any, grpc.ServerStream, *grpc.StreamServerInfo, grpc.StreamHandler) error {
			return status.Error(codes.Unimplemented, "this coordinator offers no streams")
		}),
		grpc.ForceServerCodecV2(newCodec()),
		grpc.MaxRecvMsgSize(maxRequest),
		grpc.MaxHeaderListSize(maxHeaders),
		grpc.MaxConcurrentStreams(maxCalls),
		grpc.ConnectionTimeout(20*time.Second),
		// A device that lost power is noticed within half a minute.
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 20 * time.Second, Timeout: 10 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
	)
	rpc.RegisterEnrolmentServiceServer(server, enrolmentService{Coordinator: c})
	rpc.RegisterCheckpointServiceServer(server, checkpointService{Coordinator: c})
	rpc.RegisterRoundServiceServer(server, roundService{Coordinator: c})
	rpc.RegisterOperatorServiceServer(server, operatorService{Coordinator: c})
	healthpb.RegisterHealthServer(server, health.NewServer())
	return server
}

type peerKey struct{}

// caller returns who makes a call that authorise has let through.
func caller(ctx context.Context) ca.Peer {
	p, _ := ctx.Value(peerKey{}).(ca.Peer)
	return p
}

// sees tells whether the caller may see a task.
func sees(ctx context.Context, task string) bool {
	bound := caller(ctx).Task
	return bound == "" || bound == task
}

// taskOf is the task that a request names, or empty.
func taskOf(request any) string {
	switch r := request.(type) {
	case interface{ GetStep() *pb.RoundStep }:
		return r.GetStep().GetTask()
	case interface{ GetTask() string }:
		return r.GetTask()
	}
	return ""
}

// authorise lets a call through if its sender's role may make it.
func (c *Coordinator) authorise(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	allowed, ok := roles[info.FullMethod]
	if !ok {
		return nil, status.Errorf(codes.Unimplemented, "this coordinator does not offer %s", info.FullMethod)
	}
	who, err := c.identify(ctx)
	if err != nil {
		return nil, err
	}
	if who.Role == ca.Device && c.revoked(who.ID) { // also on a connection from before
		return nil, errRevoked(who.ID)
	}
	if name := taskOf(request); who.Task != "" && name != "" && name != who.Task {
		return nil, unknownTask(name) // as if there were no other
	}
	for _, role := range allowed {
		if role == who.Role {
			reply, err := handler(context.WithValue(ctx, peerKey{}, who), request)
			if err != nil {
				return nil, c.public(info.FullMethod, err)
			}
			return c.send(ctx, reply)
		}
	}
	if who.Role == ca.Anonymous {
		return nil, status.Error(codes.Unauthenticated, "this call needs a certificate of this coordinator; enrol first")
	}
	names := make([]string, len(allowed))
	for i, role := range allowed {
		names[i] = role.String()
	}
	return nil, status.Errorf(codes.PermissionDenied, "the certificate is that of the role %v; this call is for %s", who.Role, strings.Join(names, " and "))
}

// identify says who is at the other end of a call's connection. A device has to be
// enrolled here still.
func (c *Coordinator) identify(ctx context.Context) (ca.Peer, error) {
	conn := connectionOf(ctx)
	conn.mu.Lock()
	who, known := conn.peer, conn.known
	conn.mu.Unlock()
	if known {
		return who, nil
	}
	remote, _ := peer.FromContext(ctx)
	info, ok := remote.AuthInfo.(guestInfo)
	if !ok {
		return ca.Peer{}, status.Error(codes.Unauthenticated, "the connection is not over TLS")
	}
	who, err := ca.Identify(info.State)
	if err != nil {
		return ca.Peer{}, status.Error(codes.Unauthenticated, err.Error())
	}
	if who.Role == ca.Device {
		if d, err := c.store.Device(ctx, who.ID); err == nil {
			who.Task = d.Task
		} else if errors.Is(err, store.ErrNotFound) {
			return ca.Peer{}, status.Error(codes.PermissionDenied, "this device is not enrolled here; enrol again with a new token")
		} else {
			return ca.Peer{}, c.public("identify", err)
		}
	}
	c.learn(conn, who)
	return who, nil
}

// public turns an error of our own into what a caller may see of it: the details
// are in the log.
func (c *Coordinator) public(what string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return status.FromContextError(err).Err()
	}
	c.log.Error("call failed", "call", what, "error", err)
	return status.Error(codes.Internal, "the coordinator could not do this; its operator finds the reason in its log")
}
