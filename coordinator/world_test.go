package coordinator

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/discreet-fl/discreet/coordinator/ca"
	"github.com/discreet-fl/discreet/model"
	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/proto/rpc"
	"github.com/discreet-fl/discreet/proto/rpc/rpctest"
	"github.com/discreet-fl/discreet/secagg"
)

// world is a coordinator behind a listener in memory, with its log.
type world struct {
	*Coordinator
	dir      string
	listener *rpctest.Listener
	log      *records
	shut     func()
}

// records is a log that tests read.
type records struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (r *records) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(b)
}

func (r *records) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

// count returns how many records have the message.
func (r *records) count(message string) int {
	return strings.Count(r.String(), fmt.Sprintf("msg=%q", message))
}

// newWorld opens a folder and serves it. Where a test uses synctest it is called in
// the bubble.
func newWorld(t testing.TB, dir string, o Options) *world {
	t.Helper()
	w := &world{dir: dir, listener: rpctest.Listen(1 << 20), log: new(records)}
	o.Logger = slog.New(slog.NewTextHandler(io.MultiWriter(w.log, testWriter{t}), &slog.HandlerOptions{Level: slog.LevelDebug}))
	c, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	w.Coordinator = c
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- c.Serve(ctx, w.listener) }()
	var once sync.Once
	w.shut = func() {
		once.Do(func() {
			cancel()
			if err := errors.Join(<-served, c.Close()); err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(w.shut)
	return w
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSuffix(string(b), "\n"))
	return len(b), nil
}

// dial connects with a TLS configuration.
func (w *world) dial(t testing.TB, config *tls.Config) *grpc.ClientConn {
	t.Helper()
	config = config.Clone()
	config.ServerName = "localhost"
	conn, err := grpc.NewClient("passthrough:coordinator", grpc.WithTransportCredentials(credentials.NewTLS(config)), grpc.WithIdleTimeout(0),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return w.listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil && status.Code(err) != codes.Canceled {
			t.Error(err)
		}
	})
	return conn
}

// trust is the TLS configuration of somebody who knows the CA and has no certificate.
func (w *world) trust() *tls.Config {
	roots := x509.NewCertPool()
	cert, err := x509.ParseCertificate(w.authority.Certificate())
	if err != nil {
		panic(err)
	}
	roots.AddCert(cert)
	return &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots}
}

// operator connects as the operator.
func (w *world) operator(t testing.TB) *grpc.ClientConn {
	t.Helper()
	config, err := ca.LoadOperator(w.OperatorCredential())
	if err != nil {
		t.Fatal(err)
	}
	return w.dial(t, config)
}

// spec is a task for so many devices a round.
func spec(perRound, minSurvivors uint32) *pb.TaskSpec {
	return &pb.TaskSpec{Name: "desk", Intents: []string{"greeting", "refund"}, Model: "small", PerRound: perRound,
		MinSurvivors: minSurvivors, DeadlineMs: 8000, Seed: 5, Keys: pb.KeyExchange_KEY_EXCHANGE_CLASSICAL}
}

func (w *world) create(t testing.TB, s *pb.TaskSpec) {
	t.Helper()
	if _, err := w.CreateTask(t.Context(), s); err != nil {
		t.Fatal(err)
	}
}

// device is a client written for tests: it can stop, lie or repeat itself at any step.
type device struct {
	t      testing.TB
	id     secagg.ID
	signer secagg.Signer
	ca     ed25519.PublicKey
	config *tls.Config
	value  float32 // its update, in every coordinate
	weight int
	right  int // of the hundred chats that it holds back

	conn   *grpc.ClientConn
	rounds rpc.RoundServiceClient

	checkedIn  *secagg.CheckedIn // serves one attempt
	commitment [32]byte
	revealed   map[string]string // by checkpoint: the attempt for which it did
}

// join enrols a new device with a new token.
func (w *world) join(t testing.TB) *device {
	t.Helper()
	line, err := w.CreateToken(t.Context(), 1, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	anonymous := w.dial(t, w.trust())
	admitted, err := rpc.NewEnrolmentServiceClient(anonymous).Enrol(t.Context(), enrolment(t, line, key))
	if err != nil {
		t.Fatal(err)
	}
	d := &device{t: t, id: secagg.DeviceID(public), value: 0.25, weight: 8, ca: w.authority.PublicKey(),
		signer: secagg.Signer{Key: key, Credential: admitted.GetCredential()}, config: w.trust()}
	if !bytes.Equal(admitted.GetDeviceId(), d.id[:]) || !bytes.Equal(admitted.GetCaCertificate(), w.authority.Certificate()) {
		t.Errorf("enrolled as %x", admitted.GetDeviceId())
	}
	d.config.Certificates = []tls.Certificate{{Certificate: [][]byte{admitted.GetCertificate()}, PrivateKey: key}}
	d.connect(w)
	return d
}

// enrolment is the request of a device that holds the key.
func enrolment(t testing.TB, line string, key ed25519.PrivateKey) *pb.EnrolRequest {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(line, "discreet1."))
	if err != nil || len(raw) != 48 {
		t.Fatalf("token %q: %v", line, err)
	}
	public := key.Public().(ed25519.PublicKey)
	message := slices.Concat([]byte("discreet/enrol/v1"), raw, public)
	return &pb.EnrolRequest{Version: pb.Current(), TokenSecret: raw[32:], PublicKey: public, Proof: ed25519.Sign(key, message)}
}

// connect gives the device a connection, in place of the one it has.
func (d *device) connect(w *world) {
	d.conn = w.dial(d.t, d.config)
	d.rounds = rpc.NewRoundServiceClient(d.conn)
}

// leave ends the device's connection.
func (d *device) leave() {
	if err := d.conn.Close(); err != nil {
		d.t.Error(err)
	}
}

// request is the device's check-in. It commits to one nonce until an attempt has used it.
func (d *device) request() *pb.CheckInRequest {
	if d.checkedIn == nil {
		var err error
		if d.checkedIn, d.commitment, err = secagg.CheckIn(rand.Reader); err != nil {
			panic(err)
		}
	}
	return &pb.CheckInRequest{Version: pb.Current(), Task: "desk", NonceCommitment: d.commitment[:]}
}

// anywhere is the device's check-in for that task, or for any where it is empty.
func (d *device) anywhere(task string) *pb.CheckInRequest {
	request := d.request()
	request.Task = task
	return request
}

// checkIn waits for a plan; one that says to come later is an error.
func (d *device) checkIn(ctx context.Context) (*walk, error) {
	reply, err := d.rounds.CheckIn(ctx, d.request())
	if err != nil {
		return nil, err
	}
	if len(reply.GetPlan()) == 0 {
		return nil, fmt.Errorf("come back in %d ms: %s", reply.GetRetryAfterMs(), reply.GetReason())
	}
	return d.walk(reply)
}

// walk begins the attempt of a plan that the device was given.
func (d *device) walk(reply *pb.CheckInResponse) (*walk, error) {
	k := &walk{device: d, raw: reply.GetPlan(), plan: new(pb.Plan), committed: reply.GetCommitted()}
	if err := proto.Unmarshal(k.raw, k.plan); err != nil {
		return nil, err
	}
	k.at = &pb.RoundStep{Task: k.plan.GetTask(), Round: k.plan.GetRound(), Attempt: k.plan.GetAttempt()}
	return k, nil
}

// gather lets all devices check in at once and returns their walks.
func gather(t testing.TB, devices ...*device) []*walk {
	t.Helper()
	walks := make([]*walk, len(devices))
	each(t, len(devices), func(i int) (err error) {
		walks[i], err = devices[i].checkIn(t.Context())
		return err
	})
	return walks
}

// each runs f for 0 to n-1 at once; an error fails the test.
func each(t testing.TB, n int, f func(int) error) {
	t.Helper()
	errs := make([]error, n)
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() { errs[i] = f(i) })
	}
	group.Wait()
	for i, err := range errs {
		if err != nil {
			t.Fatalf("device %d: %v", i, err)
		}
	}
}

// checkpointOf downloads a checkpoint as a device does.
func (d *device) checkpointOf(sum []byte) *model.Checkpoint {
	d.t.Helper()
	var raw []byte
	for {
		reply, err := rpc.NewCheckpointServiceClient(d.conn).GetCheckpoint(d.t.Context(), &pb.GetCheckpointRequest{Sha256: sum, Offset: uint64(len(raw))})
		if err != nil {
			d.t.Fatal(err)
		}
		if n := len(reply.GetData()); n > 256<<10 {
			d.t.Errorf("%d bytes of a checkpoint at once: a slow line that breaks has little to keep", n)
		}
		if raw = append(raw, reply.GetData()...); uint64(len(raw)) >= reply.GetTotalBytes() {
			break
		}
	}
	if got := sha256.Sum256(raw); !bytes.Equal(got[:], sum) {
		d.t.Fatalf("checkpoint has hash %x, want %x", got, sum)
	}
	c, err := model.DecodeCheckpoint(raw)
	if err != nil {
		d.t.Fatal(err)
	}
	return c
}
