package coordinator

import (
	"context"
	"crypto/ed25519"
	"errors"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/discreet-fl/discreet/coordinator/ca"
	"github.com/discreet-fl/discreet/coordinator/store"
	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/proto/rpc"
	"github.com/discreet-fl/discreet/secagg"
)

const (
	mostAdmitted = 1000 // in one call
	// askAgain is the pace of a device that waits for a person: short for somebody who
	// stands beside it, long enough for thousands.
	askAgain = 10 * time.Second
)

// enrolmentService admits devices.
type enrolmentService struct {
	rpc.UnimplementedEnrolmentServiceServer
	*Coordinator
}

// Enrol checks that the sender holds the key and a valid token, and certifies it. Where
// the CA's key is kept elsewhere the device is told to ask again until it was admitted.
func (s enrolmentService) Enrol(ctx context.Context, request *pb.EnrolRequest) (*pb.EnrolResponse, error) {
	if err := checkVersion(request.GetVersion()); err != nil {
		return nil, err
	}
	secret, public := request.GetTokenSecret(), ed25519.PublicKey(request.GetPublicKey())
	if len(secret) != ca.SecretSize || len(public) != ed25519.PublicKeySize || len(request.GetProof()) != ed25519.SignatureSize {
		return nil, status.Errorf(codes.InvalidArgument, "a secret of %d bytes, a key of %d and a proof of %d, want %d, %d and %d",
			len(secret), len(public), len(request.GetProof()), ca.SecretSize, ed25519.PublicKeySize, ed25519.SignatureSize)
	}
	if !ed25519.Verify(public, pb.EnrolProof(s.authority.Fingerprint(), secret, public), request.GetProof()) {
		return nil, status.Error(codes.InvalidArgument, "the proof is not the key's signature over this coordinator's fingerprint, the secret and the key")
	}
	id := secagg.DeviceID(public)
	if s.revoked(id) {
		return nil, errRevoked(id)
	}
	reply := &pb.EnrolResponse{
		Version: pb.Current(), DeviceId: id[:], CaCertificate: s.authority.Certificate(),
		LogKey: s.authority.LogPublicKey(), LogCredential: s.authority.LogCredential(),
	}
	certify := s.certify
	if s.authority.Offline() {
		certify = s.await
	}
	if err := certify(ctx, secret, public, reply); errors.Is(err, store.ErrToken) {
		return nil, status.Error(codes.PermissionDenied, store.ErrToken.Error()+"; ask the operator for a new one")
	} else if err != nil {
		return nil, err
	}
	return reply, nil
}

// certify enrols a device with the CA's key.
func (c *Coordinator) certify(ctx context.Context, secret []byte, public ed25519.PublicKey, reply *pb.EnrolResponse) error {
	now := time.Now()
	if err := c.store.Enrol(ctx, secret, secagg.DeviceID(public), public, now); err != nil {
		return err
	}
	issued, err := c.authority.Issue(public, now)
	if err != nil {
		return err
	}
	reply.Certificate, reply.Credential = issued.Certificate, issued.Credential
	c.log.Info("device enrolled")
	return nil
}

// await gives a device what a CA elsewhere has issued for it, or lets it wait for that.
func (c *Coordinator) await(ctx context.Context, secret []byte, public ed25519.PublicKey, reply *pb.EnrolResponse) error {
	issued, err := c.store.Await(ctx, secret, public, time.Now())
	if err != nil {
		return err
	}
	if issued == nil {
		reply.RetryAfterMs = uint32(askAgain.Milliseconds())
		c.log.Debug("device waits to be admitted", "device", short(secagg.DeviceID(public)))
		return nil
	}
	reply.Certificate, reply.Credential = issued.Certificate, issued.Credential
	c.log.Info("device enrolled")
	return nil
}

// ListWaiting returns the devices that wait for a CA that is kept elsewhere.
func (s operatorService) ListWaiting(ctx context.Context, _ *pb.ListWaitingRequest) (*pb.ListWaitingResponse, error) {
	keys, err := s.store.Waiting(ctx, ca.MaxRequests)
	if err != nil {
		return nil, err
	}
	reply := new(pb.ListWaitingResponse)
	for _, key := range keys {
		if !s.revoked(secagg.DeviceID(key)) { // the CA would refuse the whole list for it
			reply.PublicKeys = append(reply.PublicKeys, key)
		}
	}
	return reply, nil
}

// Admit enrols devices with what that CA has issued for them, all that are named or
// none, but for those that it has revoked since, and keeps its roll, which may name these,
// too. Nothing is stored that the CA did not sign.
func (s operatorService) Admit(ctx context.Context, request *pb.AdmitRequest) (*pb.AdmitResponse, error) {
	if n := len(request.GetIssued()); n > mostAdmitted {
		return nil, status.Errorf(codes.InvalidArgument, "%d devices at once, want at most %d", n, mostAdmitted)
	}
	now := time.Now()
	var list []store.Issued
	for _, one := range request.GetIssued() {
		issued := ca.Issued{PublicKey: one.GetPublicKey(), Certificate: one.GetCertificate(), Credential: one.GetCredential()}
		if err := s.authority.CheckIssued(issued, now); err != nil {
			return nil, status.Error(codes.InvalidArgument, err.Error())
		}
		if !s.revoked(secagg.DeviceID(issued.PublicKey)) {
			list = append(list, store.Issued(issued))
		}
	}
	revoked := len(request.GetIssued()) - len(list)
	roll := &secagg.Roll{Signature: request.GetRoll().GetSignature()}
	for _, key := range request.GetRoll().GetPublicKeys() {
		roll.Keys = append(roll.Keys, key)
	}
	if request.GetRoll() != nil {
		if err := roll.Verify(s.authority.PublicKey()); err != nil {
			return nil, status.Errorf(codes.InvalidArgument, "the roll of %d devices: %v; bring the whole file that `discreet ca issue devices` wrote", len(roll.Keys), err)
		}
	}
	admitted, err := s.store.Admit(ctx, list, now)
	if err != nil {
		return nil, err
	}
	if request.GetRoll() != nil {
		if err := s.takeRoll(ctx, roll); err != nil {
			return nil, err
		}
	}
	s.log.Info("devices admitted", "devices", admitted, "not_waiting", len(list)-admitted, "revoked", revoked)
	return &pb.AdmitResponse{Admitted: uint32(admitted), Revoked: uint32(revoked)}, nil
}

// GetRevocations returns the CA's list of devices that are out, empty before the first.
func (s roundService) GetRevocations(context.Context, *pb.GetRevocationsRequest) (*pb.GetRevocationsResponse, error) {
	raw, _ := s.authority.Revocations()
	return &pb.GetRevocationsResponse{List: raw}, nil
}

// revoked tells whether the CA has put a device out.
func (c *Coordinator) revoked(id secagg.ID) bool {
	_, list := c.authority.Revocations()
	return list.Has(id)
}

// errRevoked is what a device that is out is told.
func errRevoked(id secagg.ID) error {
	return status.Errorf(codes.PermissionDenied, "device %v was revoked by the enrolment authority; it takes part no more", id)
}
