package coordinator

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/discreet-fl/discreet/aggregation"
	"github.com/discreet-fl/discreet/coordinator/ca"
	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/proto/rpc"
	"github.com/discreet-fl/discreet/secagg"
)

// TestWhoMayCallWhat goes through every method and every kind of caller.
func TestWhoMayCallWhat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, t.TempDir(), Options{})
		other := newWorld(t, t.TempDir(), Options{})
		known, foreign := w.join(t), other.join(t)
		stranger := w.trust()
		foreign.config.RootCAs = stranger.RootCAs
		foreign.config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &foreign.config.Certificates[0], nil
		}
		callers := []struct {
			name string
			conn *grpc.ClientConn
		}{{"nobody", w.dial(t, stranger)}, {"device", known.conn}, {"operator", w.operator(t)}, {"foreign", w.dial(t, foreign.config)}}
		public := map[string]bool{rpc.EnrolmentService_Enrol_FullMethodName: true, healthpb.Health_Check_FullMethodName: true}
		methods := 0
		for _, service := range []grpc.ServiceDesc{rpc.EnrolmentService_ServiceDesc, rpc.CheckpointService_ServiceDesc,
			rpc.RoundService_ServiceDesc, rpc.OperatorService_ServiceDesc, healthpb.Health_ServiceDesc} {
			for _, m := range service.Methods {
				methods++
				method := "/" + service.ServiceName + "/" + m.MethodName
				for _, c := range callers {
					forDevice := strings.Contains(method, "RoundService") || strings.Contains(method, "CheckpointService")
					forOperator := strings.Contains(method, "OperatorService") || strings.Contains(method, "CheckpointService")
					allowed := public[method] || c.name == "device" && forDevice || c.name == "operator" && forOperator
					// An empty request is a valid message of every method, and an invalid request of most.
					got := status.Code(c.conn.Invoke(t.Context(), method, &pb.ListTasksRequest{}, &pb.ListTasksResponse{}))
					if method == healthpb.Health_List_FullMethodName {
						if got != codes.Unimplemented && c.name != "foreign" {
							t.Errorf("%s calls %s: %v, want Unimplemented", c.name, method, got)
						}
						continue
					}
					want := map[string]codes.Code{"nobody": codes.Unauthenticated, "device": codes.PermissionDenied,
						"operator": codes.PermissionDenied, "foreign": codes.Unavailable}[c.name]
					refused := got == codes.Unauthenticated || got == codes.PermissionDenied || got == codes.Unavailable
					if c.name == "foreign" && got != want || c.name != "foreign" && (allowed == refused || !allowed && got != want) {
						t.Errorf("%s calls %s: %v, allowed should be %v", c.name, method, got, allowed)
					}
				}
			}
		}
		if methods != len(roles)+1 {
			t.Errorf("%d methods, %d of them in the table of roles", methods, len(roles))
		}
	})
}

func TestDeviceThatIsNotEnrolledIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, t.TempDir(), Options{})
		public, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		issued, err := w.authority.Issue(public, time.Now()) // as from a back-up that is older than the device
		if err != nil {
			t.Fatal(err)
		}
		config := w.trust()
		config.Certificates = []tls.Certificate{{Certificate: [][]byte{issued.Certificate}, PrivateKey: key}}
		_, err = rpc.NewRoundServiceClient(w.dial(t, config)).Tasks(t.Context(), &pb.TasksRequest{Version: pb.Current()})
		wants(t, "unknown device", err, codes.PermissionDenied, "not enrolled here", "new token")
	})
}

// TestLongHeadersAreRefused: nothing that a device sends may be large but messages, which are
// refused by their length.
func TestLongHeadersAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newWorld(t, t.TempDir(), Options{}).join(t)
		ask := func(header int) error {
			ctx := metadata.AppendToOutgoingContext(t.Context(), "long", strings.Repeat("x", header))
			_, err := d.rounds.Tasks(ctx, &pb.TasksRequest{Version: pb.Current()})
			return err
		}
		if err := ask(8 << 10); err != nil {
			t.Fatal(err)
		}
		wants(t, "headers of 20 KiB", ask(20<<10), codes.Internal, "16384 bytes")
		if err := ask(1); err != nil {
			t.Error(err)
		}
	})
}

func TestStreamsAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, t.TempDir(), Options{})
		stream, err := healthpb.NewHealthClient(w.operator(t)).Watch(t.Context(), &healthpb.HealthCheckRequest{})
		if err != nil {
			t.Fatal(err)
		}
		_, err = stream.Recv()
		wants(t, "a stream", err, codes.Unimplemented)
	})
}

func TestEnrolment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, t.TempDir(), Options{})
		line, err := w.CreateToken(t.Context(), 2, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		client := rpc.NewEnrolmentServiceClient(w.dial(t, w.trust()))
		keys := make([]ed25519.PrivateKey, 4)
		for i := range keys {
			if _, keys[i], err = ed25519.GenerateKey(rand.Reader); err != nil {
				t.Fatal(err)
			}
		}
		enrol := func(i int, change func(*pb.EnrolRequest)) error {
			request := enrolment(t, line, keys[i])
			if change != nil {
				change(request)
			}
			reply, err := client.Enrol(t.Context(), request)
			if err == nil && len(reply.GetCredential()) != ed25519.SignatureSize {
				t.Errorf("reply %v", reply)
			}
			return err
		}
		for name, change := range map[string]func(*pb.EnrolRequest){
			"bad proof":       func(r *pb.EnrolRequest) { r.Proof[0] ^= 1 },
			"another's proof": func(r *pb.EnrolRequest) { r.Proof = enrolment(t, line, keys[1]).Proof },
			"no proof":        func(r *pb.EnrolRequest) { r.Proof = nil },
			"short key":       func(r *pb.EnrolRequest) { r.PublicKey = r.PublicKey[1:] },
			"long secret":     func(r *pb.EnrolRequest) { r.TokenSecret = append(r.TokenSecret, 0) },
		} {
			wants(t, name, enrol(0, change), codes.InvalidArgument)
		}
		unknown := func(r *pb.EnrolRequest) {
			secret := [ca.SecretSize]byte{1}
			with := enrolment(t, w.authority.Token(secret), keys[0])
			r.TokenSecret, r.Proof = with.TokenSecret, with.Proof
		}
		wants(t, "unknown token", enrol(0, unknown), codes.PermissionDenied, "unknown, used up or expired")
		for range 3 {
			if err := enrol(0, nil); err != nil {
				t.Errorf("first device: %v", err)
			}
		}
		if err := enrol(1, nil); err != nil {
			t.Errorf("second device: %v", err)
		}
		wants(t, "used up", enrol(2, nil), codes.PermissionDenied, "ask the operator")
		if line, err = w.CreateToken(t.Context(), 1, time.Hour); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Hour)
		wants(t, "expired", enrol(3, nil), codes.PermissionDenied)
		if n, err := w.store.CountDevices(t.Context()); err != nil || n != 2 {
			t.Errorf("%d devices, %v; want 2", n, err)
		}
	})
}

// TestVersions: every call that names a version is refused with a text that names
// both where they cannot work together.
func TestVersions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, t.TempDir(), Options{})
		d := w.join(t)
		calls := map[string]func(ctx context.Context, v *pb.Version) error{
			"tasks": func(ctx context.Context, v *pb.Version) error {
				_, err := d.rounds.Tasks(ctx, &pb.TasksRequest{Version: v})
				return err
			},
			"check-in": func(ctx context.Context, v *pb.Version) error {
				request := d.anywhere("")
				request.Version = v
				_, err := d.rounds.CheckIn(ctx, request)
				return err
			},
			"enrol": func(ctx context.Context, v *pb.Version) error {
				line, err := w.CreateToken(ctx, 1, time.Hour)
				if err != nil {
					return err
				}
				request := enrolment(t, line, d.signer.Key)
				request.Version = v
				_, err = rpc.NewEnrolmentServiceClient(d.conn).Enrol(ctx, request)
				return err
			},
		}
		newer := proto.CloneOf(pb.Current())
		newer.Minor += 7
		for name, call := range calls {
			if err := call(t.Context(), newer); err != nil {
				t.Errorf("%s of a newer minor: %v", name, err)
			}
			wants(t, name+" without a version", call(t.Context(), nil), codes.FailedPrecondition, "named no version")
			wants(t, name+" of another major", call(t.Context(), &pb.Version{Major: 2, Minor: 3}), codes.FailedPrecondition, "2.3", "1.4", "upgrade this side")
			wants(t, name+" of an older minor", call(t.Context(), &pb.Version{Major: 1, Minor: 3}), codes.FailedPrecondition,
				"the peer speaks discreet protocol 1.3", "works with 1.4 and later", "upgrade the peer")
		}
	})
}

// TestLargestSharesFitARequest: those of docs/protocol.md for the most neighbours that a task
// may have, with hybrid keys and as many levels of noise as there may be.
func TestLargestSharesFitARequest(t *testing.T) {
	k, _, ok := secagg.Search(secagg.MaxCohort, mostTolerated, mostTolerated, 80, 30)
	if !ok {
		t.Fatal("no graph")
	}
	const l, sealed, ciphertext = aggregation.MostLevels, 1200 + 32*aggregation.MostLevels, 1120
	shares := 2 + 96 + 32*l + k*(sealed+64+32*l) + k/2*(ciphertext+32)
	request := &pb.ShareRequest{Step: &pb.RoundStep{Task: strings.Repeat("a", 64), Round: 1 << 60, Attempt: 1 << 30}, Shares: make([]byte, shares)}
	if n := proto.Size(request); n > maxRequest || n < maxRequest*9/10 {
		t.Errorf("shares for %d neighbours make a request of %d bytes, and the largest has %d", k, n, maxRequest)
	}
}
