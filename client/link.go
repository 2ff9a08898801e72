package client

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	grpcbackoff "google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/proto/rpc"
)

// link is the gRPC Transport: one connection to the coordinator, with the device's
// certificate.
type link struct {
	conn        *grpc.ClientConn
	check       *serverCheck
	rounds      rpc.RoundServiceClient
	checkpoints rpc.CheckpointServiceClient
}

// connection returns the link to the coordinator, which connects when first used
// and again by itself.
func (c *Client) connection() (*link, error) {
	e := c.enrolled()
	if e == nil {
		return nil, ErrNotEnrolled
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.link != nil {
		return c.link, nil
	}
	l, err := c.dial(e)
	if err != nil {
		return nil, err
	}
	c.link = l
	return l, nil
}

// dial makes a link to an enrolment's coordinator.
func (c *Client) dial(e *enrolment) (*link, error) {
	host, _, err := net.SplitHostPort(e.Address)
	if err != nil {
		return nil, fmt.Errorf("address %q, want HOST:PORT", e.Address)
	}
	key, err := c.identity()
	if err != nil {
		return nil, err
	}
	check := &serverCheck{address: e.Address, host: host, fingerprint: sha256.Sum256(e.Authority), ca: e.ca}
	conn, err := c.connect(e.Address, check, &tls.Certificate{Certificate: [][]byte{e.Certificate}, PrivateKey: key})
	if err != nil {
		return nil, err
	}
	return &link{conn: conn, check: check, rounds: rpc.NewRoundServiceClient(conn), checkpoints: rpc.NewCheckpointServiceClient(conn)}, nil
}

// connect prepares a connection over TLS 1.3. Pings notice a coordinator that lost
// its power while a call is held.
func (c *Client) connect(addr string, check *serverCheck, own *tls.Certificate) (*grpc.ClientConn, error) {
	config := &tls.Config{
		MinVersion:         tls.VersionTLS13,
		ServerName:         check.host,
		InsecureSkipVerify: true, // replaced by VerifyConnection, which knows this CA alone and keeps the reason
		VerifyConnection:   check.verify,
	}
	if own != nil {
		config.Certificates = []tls.Certificate{*own}
	}
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(credentials.NewTLS(config)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           grpcbackoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.5, MaxDelay: 10 * time.Second},
			MinConnectTimeout: 10 * time.Second,
		}),
	}
	conn, err := grpc.NewClient("passthrough:///"+addr, append(options, c.options.DialOptions...)...)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", addr, err)
	}
	return conn, nil
}

// serverCheck says whether a server is the coordinator of a certain CA, and keeps
// why it is not: gRPC hands on only a text.
type serverCheck struct {
	address, host string
	fingerprint   [32]byte          // SHA-256 of the CA's certificate
	ca            *x509.Certificate // nil before enrolment: the server presents it then
	failure       atomic.Pointer[error]
}

func (s *serverCheck) verify(state tls.ConnectionState) error {
	err := s.verifyChain(state.PeerCertificates)
	if err == nil {
		s.failure.Store(nil)
		return nil
	}
	s.failure.Store(&err)
	return err
}

func (s *serverCheck) verifyChain(chain []*x509.Certificate) error {
	ca := s.ca
	for _, certificate := range chain {
		if ca == nil && sha256.Sum256(certificate.Raw) == s.fingerprint {
			ca = certificate
		}
	}
	if ca == nil {
		return fmt.Errorf("%w: %s presents no CA with the fingerprint %x…; compare the token's coordinator with the address", ErrAuthority, s.address, s.fingerprint[:8])
	}
	if _, ok := ca.PublicKey.(ed25519.PublicKey); !ok || !ca.IsCA {
		return fmt.Errorf("%w: what %s presents is no CA with an Ed25519 key", ErrAuthority, s.address)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	_, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, DNSName: s.host, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	if name := (x509.HostnameError{}); errors.As(err, &name) {
		return fmt.Errorf("%w: its certificate is not for %q (%w); start the coordinator with --host %s", ErrAuthority, s.host, err, s.host)
	}
	if err != nil {
		return fmt.Errorf("%w: %s presents a certificate that the enrolment CA did not issue, or whose time it is not: %w", ErrAuthority, s.address, err)
	}
	return nil
}

// explain says why a call did not reach the coordinator. The status stays in the
// chain, so that the call counts as one to be made again.
func (s *serverCheck) explain(err error) error {
	if err == nil || status.Code(err) != codes.Unavailable {
		return err
	}
	if failure := s.failure.Load(); failure != nil {
		return &unreached{reason: *failure, status: err}
	}
	return &unreached{reason: fmt.Errorf("%w: %s", ErrUnreachable, status.Convert(err).Message()), status: err}
}

// unreached is a call's failure before the coordinator saw it. Only the reason is
// shown: the status says the same again in gRPC's words.
type unreached struct{ reason, status error }

func (u *unreached) Error() string   { return u.reason.Error() }
func (u *unreached) Unwrap() []error { return []error{u.reason, u.status} }

// call makes one call and explains its failure.
func call[Request, Reply any](ctx context.Context, l *link, method func(context.Context, Request, ...grpc.CallOption) (Reply, error), request Request) (Reply, error) {
	reply, err := method(ctx, request)
	return reply, l.check.explain(err)
}

func (l *link) Tasks(ctx context.Context, q *pb.TasksRequest) (*pb.TasksResponse, error) {
	return call(ctx, l, l.rounds.Tasks, q)
}

func (l *link) CheckIn(ctx context.Context, q *pb.CheckInRequest) (*pb.CheckInResponse, error) {
	return call(ctx, l, l.rounds.CheckIn, q)
}

func (l *link) GetRevocations(ctx context.Context, q *pb.GetRevocationsRequest) (*pb.GetRevocationsResponse, error) {
	return call(ctx, l, l.rounds.GetRevocations, q)
}

func (l *link) GetCheckpoint(ctx context.Context, q *pb.GetCheckpointRequest) (*pb.GetCheckpointResponse, error) {
	return call(ctx, l, l.checkpoints.GetCheckpoint, q)
}

func (l *link) GetLogProof(ctx context.Context, q *pb.GetLogProofRequest) (*pb.GetLogProofResponse, error) {
	return call(ctx, l, l.checkpoints.GetLogProof, q)
}

func (l *link) Advertise(ctx context.Context, q *pb.AdvertiseRequest) (*pb.AdvertiseResponse, error) {
	return call(ctx, l, l.rounds.Advertise, q)
}

func (l *link) Share(ctx context.Context, q *pb.ShareRequest) (*pb.ShareResponse, error) {
	return call(ctx, l, l.rounds.Share, q)
}

func (l *link) Complain(ctx context.Context, q *pb.ComplainRequest) (*pb.ComplainResponse, error) {
	return call(ctx, l, l.rounds.Complain, q)
}

func (l *link) Submit(ctx context.Context, q *pb.SubmitRequest) (*pb.SubmitResponse, error) {
	return call(ctx, l, l.rounds.Submit, q)
}

func (l *link) Confirm(ctx context.Context, q *pb.ConfirmRequest) (*pb.ConfirmResponse, error) {
	return call(ctx, l, l.rounds.Confirm, q)
}

func (l *link) Reveal(ctx context.Context, q *pb.RevealRequest) (*pb.RevealResponse, error) {
	return call(ctx, l, l.rounds.Reveal, q)
}
