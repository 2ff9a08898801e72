package fleet

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/discreet-fl/discreet/client"
	"github.com/discreet-fl/discreet/dataset"
	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/simulate"
)

// parting is how long a kiosk that vanishes after a message leaves its connection
// up, so that the message is on its way.
const parting = 100 * time.Millisecond

// absence is how long a kiosk that vanished stays away.
const absence = 2 * time.Second

// kiosk is a device with a folder and a connection of its own, which it cuts where
// its fate says so.
type kiosk struct {
	*client.Client
	fate func(at *pb.RoundStep) simulate.Vanish
	tell *tally
	// options are added to those it dials with.
	options []grpc.DialOption

	mu    sync.Mutex // guards conns, to which gRPC adds
	conns []net.Conn // those it has opened and not cut

	up   int64 // bytes of the attempt it is in
	at   attempt
	back time.Time // when it comes back after it vanished
}

// attempt names an attempt at a round.
type attempt struct {
	round   uint64
	attempt uint32
}

// tally counts what all kiosks of a fleet did.
type tally struct {
	vanished  atomic.Int64 // times that a kiosk left in the middle of a round
	completed atomic.Int64 // times that one got its receipt
	bytesUp   atomic.Int64 // that those sent, all messages of the attempt counted
}

// join opens a folder, lets it learn its chats and enrols it.
func (k *kiosk) join(ctx context.Context, dir, address, token string, chats []dataset.Phrase) error {
	options := append([]grpc.DialOption{grpc.WithContextDialer(k.dial), grpc.WithChainUnaryInterceptor(k.intercept)}, k.options...)
	opened, err := client.Open(dir, client.Options{DialOptions: options})
	if err != nil {
		return err
	}
	k.Client = opened
	learned := make([]client.Chat, len(chats))
	for i, c := range chats {
		learned[i] = client.Chat{Text: c.Text, Intent: c.Intent}
	}
	if err := k.Learn(learned...); err != nil {
		return err
	}
	return k.Enrol(ctx, address, token)
}

// dial connects, and remembers the connection so that it can be cut.
func (k *kiosk) dial(ctx context.Context, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err == nil {
		k.mu.Lock()
		k.conns = append(k.conns, conn)
		k.mu.Unlock()
	}
	return conn, err
}

// cut ends the kiosk's connections as a lost network would.
func (k *kiosk) cut() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, conn := range k.conns {
		conn.Close()
	}
	k.conns = nil
}

// intercept lets a call through, or vanishes before or after it.
func (k *kiosk) intercept(ctx context.Context, method string, request, reply any, c *grpc.ClientConn, invoke grpc.UnaryInvoker, o ...grpc.CallOption) error {
	at, before, after := stepOf(request)
	if at == nil {
		select {
		case <-time.After(time.Until(k.back)):
			return invoke(ctx, method, request, reply, c, o...)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	k.count(at, request.(proto.Message))
	fate := k.fate(at)
	switch {
	case fate == simulate.Stays || fate != before && fate != after:
		err := invoke(ctx, method, request, reply, c, o...)
		if _, last := request.(*pb.RevealRequest); last && err == nil {
			k.tell.completed.Add(1)
			k.tell.bytesUp.Add(k.up)
		}
		return err
	case fate == after:
		short, cancel := context.WithTimeout(ctx, parting)
		defer cancel()
		// Whether an answer came no longer matters to a kiosk that is gone.
		_ = invoke(short, method, request, reply, c, o...)
	}
	k.cut()
	k.back = time.Now().Add(absence)
	k.tell.vanished.Add(1)
	return status.Error(codes.Aborted, "the kiosk vanished")
}

// count adds a message to the bytes of its attempt.
func (k *kiosk) count(at *pb.RoundStep, m proto.Message) {
	if now := (attempt{at.Round, at.Attempt}); now != k.at {
		k.at, k.up = now, 0
	}
	k.up += int64(proto.Size(m))
}

// stepOf says which attempt a request is of, and which fates strike before and after
// it. Of a vector's chunks only the last ends the step. at is nil for other calls.
func stepOf(request any) (at *pb.RoundStep, before, after simulate.Vanish) {
	switch q := request.(type) {
	case *pb.AdvertiseRequest:
		return q.Step, simulate.BeforeAdvertise, simulate.AfterAdvertise
	case *pb.ShareRequest:
		return q.Step, simulate.Stays, simulate.AfterShare
	case *pb.SubmitRequest:
		if q.Index+1 == q.Chunks {
			return q.Step, simulate.Stays, simulate.AfterSubmit
		}
		return q.Step, simulate.Stays, simulate.Stays
	case *pb.ComplainRequest:
		return q.Step, simulate.Stays, simulate.Stays
	case *pb.ConfirmRequest:
		return q.Step, simulate.Stays, simulate.AfterConfirm
	case *pb.RevealRequest:
		return q.Step, simulate.Stays, simulate.Stays
	}
	return nil, simulate.Stays, simulate.Stays
}
