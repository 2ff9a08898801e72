package client

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/discreet-fl/discreet/checkpointlog"
	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/proto/rpc"
	"github.com/discreet-fl/discreet/proto/rpc/rpctest"
	"github.com/discreet-fl/discreet/secagg"
)

const testHost = "coordinator.test"

// daemon serves a rig over gRPC and TLS 1.3 in memory, as a coordinator does. A
// test may restart it, and look at or fail every call.
type daemon struct {
	rpc.UnimplementedEnrolmentServiceServer
	rpc.UnimplementedRoundServiceServer
	rpc.UnimplementedCheckpointServiceServer
	t      *testing.T
	rig    *rig
	caCert *x509.Certificate
	config *tls.Config
	secret [16]byte

	mu       sync.Mutex
	listener *rpctest.Listener
	server   *grpc.Server
	waiting  map[secagg.ID]*waiting
	enrolled [][]byte // every key that was certified, in order
	edit     func(method string, request any) error
	reply    func(method string, reply any)
	calls    []string           // methods, in order
	times    []time.Time        // and when
	cohort   int                // check-ins that make a cohort
	planned  map[secagg.ID]bool // who is in it; its reply may have been lost

	log *logServer // of the rig's checkpoints; belongs to who holds rig.mu
}

// waiting is a held check-in.
type waiting struct {
	commitment [32]byte
	reply      chan *pb.CheckInResponse // takes one
}

func newDaemon(t *testing.T, n int) *daemon {
	t.Helper()
	d := &daemon{t: t, cohort: n, rig: newRig(t, n, nil), waiting: make(map[secagg.ID]*waiting), planned: make(map[secagg.ID]bool), secret: [16]byte{1, 2, 3}}
	d.caCert = d.issue(&x509.Certificate{
		Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil, d.rig.authority())
	d.config = &tls.Config{
		MinVersion: tls.VersionTLS13, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: x509.NewCertPool(), NextProtos: []string{"h2"},
		Certificates: []tls.Certificate{d.serverCertificate(testHost, x509.ExtKeyUsageServerAuth)},
	}
	d.config.ClientCAs.AddCert(d.caCert)
	d.log = &logServer{t: t, ca: d.rig.ca, key: testLog}
	d.log.add(d.rig.checkpoint)
	d.rig.plan.LogHead = d.log.note(1)
	d.rig.setPlan(d.rig.plan)
	d.start()
	t.Cleanup(d.stop)
	return d
}

// issue makes a certificate under the rig's CA, itself when parent is nil.
func (d *daemon) issue(template, parent *x509.Certificate, public ed25519.PublicKey) *x509.Certificate {
	d.t.Helper()
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().AddDate(1, 0, 0)
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, d.rig.ca)
	if err != nil {
		d.t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		d.t.Fatal(err)
	}
	return certificate
}

func (d *daemon) serverCertificate(host string, usage x509.ExtKeyUsage) tls.Certificate {
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		d.t.Fatal(err)
	}
	leaf := d.issue(&x509.Certificate{Subject: pkix.Name{CommonName: "server"}, DNSNames: []string{host}, ExtKeyUsage: []x509.ExtKeyUsage{usage}}, d.caCert, public)
	return tls.Certificate{Certificate: [][]byte{leaf.Raw, d.caCert.Raw}, PrivateKey: key}
}

func (d *daemon) token() string {
	sum := sha256.Sum256(d.caCert.Raw)
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(append(sum[:], d.secret[:]...))
}

func (d *daemon) start() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.listener = rpctest.Listen(1 << 16)
	d.server = grpc.NewServer(grpc.Creds(credentials.NewTLS(d.config)), grpc.UnaryInterceptor(d.intercept),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}))
	rpc.RegisterEnrolmentServiceServer(d.server, d)
	rpc.RegisterRoundServiceServer(d.server, d)
	rpc.RegisterCheckpointServiceServer(d.server, d)
	go d.server.Serve(d.listener)
}

// stop cuts every connection, as a killed process does.
func (d *daemon) stop() {
	d.mu.Lock()
	server := d.server
	d.mu.Unlock()
	server.Stop()
}

// restart cuts every connection and listens again. It is called by a handler, which
// then never gives its reply.
func (d *daemon) restart() {
	old := d.server
	d.start()
	go old.Stop() // waits for the handlers
	<-d.t.Context().Done()
}

func (d *daemon) intercept(ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	method := info.FullMethod[bytes.LastIndexByte([]byte(info.FullMethod), '/')+1:]
	d.mu.Lock()
	edit, change := d.edit, d.reply
	d.calls, d.times = append(d.calls, method), append(d.times, time.Now())
	d.mu.Unlock()
	if edit != nil {
		if err := edit(method, request); err != nil {
			return nil, err
		}
	}
	reply, err := handle(ctx, request)
	if err == nil && change != nil {
		change(method, reply)
	}
	return reply, err
}

// options make a client reach the daemon, whatever the address.
func (d *daemon) options() []grpc.DialOption {
	return []grpc.DialOption{grpc.WithIdleTimeout(0), grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
		d.mu.Lock()
		listener := d.listener
		d.mu.Unlock()
		return listener.DialContext(ctx)
	})}
}

// device opens a client on a new folder and enrols it.
func (d *daemon) device(t *testing.T, o Options) *Client {
	t.Helper()
	c := openClient(t, t.TempDir(), d, o)
	if err := c.Enrol(t.Context(), testHost+":7443", d.token()); err != nil {
		t.Fatal(err)
	}
	return c
}

func openClient(t *testing.T, dir string, d *daemon, o Options) *Client {
	t.Helper()
	o.DialOptions = append(d.options(), o.DialOptions...)
	c, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func (d *daemon) Enrol(_ context.Context, q *pb.EnrolRequest) (*pb.EnrolResponse, error) {
	public := ed25519.PublicKey(q.PublicKey)
	sum := sha256.Sum256(d.caCert.Raw)
	proof := bytes.Join([][]byte{[]byte("discreet/enrol/v1"), sum[:], q.TokenSecret, q.PublicKey}, nil)
	if !bytes.Equal(q.TokenSecret, d.secret[:]) || !ed25519.Verify(public, proof, q.Proof) {
		return nil, status.Error(codes.PermissionDenied, "the token is unknown; ask the operator for a new one")
	}
	leaf := d.issue(&x509.Certificate{Subject: pkix.Name{CommonName: "device"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, d.caCert, public)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.enrolled = append(d.enrolled, public)
	id := secagg.DeviceID(public)
	return &pb.EnrolResponse{
		Version: pb.Current(), DeviceId: id[:], Certificate: leaf.Raw, CaCertificate: d.caCert.Raw, Credential: secagg.Certify(d.rig.ca, public),
		LogKey: testLog.Public().(ed25519.PublicKey), LogCredential: checkpointlog.CertifyKey(d.rig.ca, testLog.Public().(ed25519.PublicKey)),
	}, nil
}

// caller is the rig's member that makes a call.
func (d *daemon) caller(ctx context.Context) (*member, error) {
	p, _ := peer.FromContext(ctx)
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 {
		return nil, status.Error(codes.Unauthenticated, "no client certificate")
	}
	return &member{r: d.rig, id: secagg.DeviceID(info.State.PeerCertificates[0].PublicKey.(ed25519.PublicKey))}, nil
}

func (d *daemon) Tasks(ctx context.Context, q *pb.TasksRequest) (*pb.TasksResponse, error) {
	if _, err := d.caller(ctx); err != nil {
		return nil, err
	}
	d.rig.mu.Lock()
	defer d.rig.mu.Unlock()
	state := &pb.TaskState{
		Task: d.rig.plan.Task, CheckpointSha256: d.rig.plan.CheckpointSha256, CheckpointBytes: d.rig.plan.CheckpointBytes,
		SecureAggregation: proto.CloneOf(d.rig.plan.SecureAggregation),
	}
	if next := d.rig.next; next != nil {
		sum := sha256.Sum256(next)
		state.CheckpointSha256, state.CheckpointBytes = sum[:], uint64(len(next))
	}
	return &pb.TasksResponse{Version: pb.Current(), Tasks: []*pb.TaskState{state}}, nil
}

// CheckIn holds the call until the whole cohort waits. Strangers who never speak fill
// one that is too small for a round.
func (d *daemon) CheckIn(ctx context.Context, q *pb.CheckInRequest) (*pb.CheckInResponse, error) {
	m, err := d.caller(ctx)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	w := &waiting{[32]byte(q.NonceCommitment), make(chan *pb.CheckInResponse, 1)}
	if d.planned[m.id] && !d.rig.over() {
		w.reply <- d.invitation(m.id)
	} else {
		d.waiting[m.id] = w
	}
	if len(d.waiting) == d.cohort {
		checkIns := make(map[secagg.ID][32]byte)
		for id, w := range d.waiting {
			checkIns[id] = w.commitment
		}
		for i := byte(0); len(checkIns) < secagg.MinCohort; i++ {
			checkIns[secagg.ID{i}] = [32]byte{}
		}
		d.rig.begin(d.rig.params(), checkIns)
		for id, w := range d.waiting {
			w.reply <- d.invitation(id)
			d.planned[id] = true
			delete(d.waiting, id)
		}
	}
	d.mu.Unlock()
	select {
	case reply := <-w.reply:
		return reply, nil
	case <-ctx.Done():
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.waiting[m.id] == w {
			delete(d.waiting, m.id)
		}
		return nil, status.FromContextError(ctx.Err()).Err()
	}
}

// invitation is the answer to a member's check-in.
func (d *daemon) invitation(id secagg.ID) *pb.CheckInResponse {
	committed, err := d.rig.adverts.Committed(id)
	if err != nil {
		d.t.Error(err)
	}
	return &pb.CheckInResponse{Version: pb.Current(), Plan: d.rig.planBytes, Committed: committed}
}

func (d *daemon) GetCheckpoint(ctx context.Context, q *pb.GetCheckpointRequest) (*pb.GetCheckpointResponse, error) {
	if _, err := d.caller(ctx); err != nil {
		return nil, err
	}
	d.rig.mu.Lock()
	file := d.rig.files[[32]byte(q.Sha256)]
	d.rig.mu.Unlock()
	if uint64(len(file)) <= q.Offset {
		return nil, status.Error(codes.NotFound, "no such checkpoint")
	}
	end := min(int(q.Offset)+200<<10, len(file))
	return &pb.GetCheckpointResponse{Data: file[q.Offset:end], TotalBytes: uint64(len(file))}, nil
}

func (d *daemon) GetLogProof(ctx context.Context, q *pb.GetLogProofRequest) (*pb.GetLogProofResponse, error) {
	if _, err := d.caller(ctx); err != nil {
		return nil, err
	}
	d.rig.mu.Lock()
	defer d.rig.mu.Unlock()
	if d.rig.next != nil && len(d.log.entries) == 1 {
		d.log.add(d.rig.next)
	}
	return d.log.GetLogProof(ctx, q)
}

func (d *daemon) Advertise(ctx context.Context, q *pb.AdvertiseRequest) (*pb.AdvertiseResponse, error) {
	m, err := d.member(ctx, q.Step)
	if err != nil {
		return nil, err
	}
	return m.Advertise(ctx, q)
}

func (d *daemon) Share(ctx context.Context, q *pb.ShareRequest) (*pb.ShareResponse, error) {
	m, err := d.member(ctx, q.Step)
	if err != nil {
		return nil, err
	}
	return m.Share(ctx, q)
}

func (d *daemon) Complain(ctx context.Context, q *pb.ComplainRequest) (*pb.ComplainResponse, error) {
	m, err := d.member(ctx, q.Step)
	if err != nil {
		return nil, err
	}
	return m.Complain(ctx, q)
}

func (d *daemon) Submit(ctx context.Context, q *pb.SubmitRequest) (*pb.SubmitResponse, error) {
	m, err := d.member(ctx, q.Step)
	if err != nil {
		return nil, err
	}
	return m.Submit(ctx, q)
}

func (d *daemon) Confirm(ctx context.Context, q *pb.ConfirmRequest) (*pb.ConfirmResponse, error) {
	m, err := d.member(ctx, q.Step)
	if err != nil {
		return nil, err
	}
	return m.Confirm(ctx, q)
}

func (d *daemon) Reveal(ctx context.Context, q *pb.RevealRequest) (*pb.RevealResponse, error) {
	m, err := d.member(ctx, q.Step)
	if err != nil {
		return nil, err
	}
	return m.Reveal(ctx, q)
}

func (d *daemon) member(ctx context.Context, at *pb.RoundStep) (*member, error) {
	if at.GetRound() != d.rig.plan.Round || at.GetAttempt() != d.rig.plan.Attempt {
		return nil, status.Error(codes.FailedPrecondition, "that attempt is not running")
	}
	return d.caller(ctx)
}

// set changes what the daemon does, between calls.
func (d *daemon) set(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f()
}

// when returns the times of a method's calls.
func (d *daemon) when(method string) (times []time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, m := range d.calls {
		if m == method {
			times = append(times, d.times[i])
		}
	}
	return times
}

// down is an address where nobody listens.
func down() grpc.DialOption {
	return grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return nil, errors.New("connection refused") })
}
