package coordinator

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/discreet-fl/discreet/coordinator/ca"
	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/proto/rpc"
	"github.com/discreet-fl/discreet/proto/rpc/rpctest"
	"github.com/discreet-fl/discreet/secagg"
)

// call opens a connection from an address, without a word on it.
func (w *world) call(t testing.TB, from string) net.Conn {
	t.Helper()
	conn, err := w.listener.DialFrom(t.Context(), &net.TCPAddr{IP: net.ParseIP(from), Port: 50000})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	synctest.Wait()
	return conn
}

// shake makes a TLS handshake over a connection.
func shake(t testing.TB, conn net.Conn, config *tls.Config) *tls.Conn {
	t.Helper()
	config = config.Clone()
	config.ServerName, config.NextProtos = "localhost", []string{"h2"}
	c := tls.Client(conn, config)
	if err := c.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
	return c
}

// lasts reads until the other end closes the connection and returns how long that took,
// or the time limit.
func lasts(conn net.Conn, limit time.Duration) time.Duration {
	start := time.Now()
	conn.SetReadDeadline(start.Add(limit))
	io.Copy(io.Discard, conn)
	return time.Since(start)
}

// metric is the value of one line of /metrics.
func (w *world) metric(t testing.TB, name string) string {
	t.Helper()
	page := httptest.NewRecorder()
	w.StatusHandler().ServeHTTP(page, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for line := range strings.Lines(page.Body.String()) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	t.Errorf("no metric %s", name)
	return ""
}

func TestConnectionsOfOneAddressAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, t.TempDir(), Options{PerAddress: 3})
		for _, tc := range []struct{ same, last, other string }{
			{"203.0.113.7", "203.0.113.7", "203.0.113.8"},
			{"2001:db8::1", "2001:db8::ffff:1", "2001:db8:0:1::1"}, // a customer has a whole /64
			{"::ffff:198.51.100.1", "198.51.100.1", "198.51.100.2"},
		} {
			var in []net.Conn
			d := w.join(t)
			for range 3 {
				in = append(in, shake(t, w.call(t, tc.same), d.config))
			}
			if took := lasts(w.call(t, tc.last), time.Second); took > 0 {
				t.Errorf("%s: a fourth connection stood for %v", tc.last, took)
			}
			if took := lasts(w.call(t, tc.other), time.Second); took < time.Second {
				t.Errorf("%s: closed after %v for what %s did", tc.other, took, tc.same)
			}
			in[0].Close()
			synctest.Wait()
			if took := lasts(w.call(t, tc.last), time.Second); took < time.Second {
				t.Errorf("%s: closed after %v, when one of three had left", tc.last, took)
			}
		}
		if got := w.metric(t, `discreet_connections_refused_total{reason="address"}`); got != "3" || w.log.count("connections refused") != 1 {
			t.Errorf("%s refusals counted, want 3, and one record of them in a minute", got)
		}
		<-time.After(time.Minute) // the silent ones have been dropped
		if got := w.metric(t, "discreet_connections"); got != "0" {
			t.Errorf("%s connections, want 0", got)
		}
		d := w.join(t)
		for range 3 {
			shake(t, w.call(t, "203.0.113.9"), d.config)
		}
		w.call(t, "203.0.113.9")
		if w.log.count("connections refused") != 2 || !strings.Contains(w.log.String(), "reason=address address=203.0.113.9/32 refused=3") {
			t.Error("the next record does not tell of three refusals, the latest of 203.0.113.9")
		}
	})
}

func TestConnectionsAreBoundedInAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, t.TempDir(), Options{})
		w.gate.mu.Lock()
		w.gate.all = 5
		w.gate.mu.Unlock()
		for i := range 5 {
			w.call(t, fmt.Sprintf("203.0.113.%d", i))
		}
		if took := lasts(w.call(t, "198.51.100.1"), time.Second); took > 0 {
			t.Errorf("one of too many stood for %v", took)
		}
		if got := w.metric(t, `discreet_connections_refused_total{reason="all"}`); got != "1" || w.log.count("connections refused") != 1 {
			t.Errorf("%s refusals counted, want 1 and a record of it", got)
		}
		<-time.After(time.Minute)
		if w.join(t); w.metric(t, "discreet_connections") != "1" { // its enrolment is over
			t.Errorf("%s connections with one device", w.metric(t, "discreet_connections"))
		}
	})
	for files, want := range map[uint64]int{256: 192, 1024: 768, 8192: 6144, 524288: 65536, math.MaxUint64: 65536} {
		if got := connectionsWithin(files); got != want {
			t.Errorf("%d connections where %d files may be open, want %d", got, files, want)
		}
	}
}

// TestPeersThatSayNothingAreDropped goes from the first byte on: whoever stops is dropped
// within a minute, but for a device.
func TestPeersThatSayNothingAreDropped(t *testing.T) {
	for name, tc := range map[string]struct {
		say  func(t *testing.T, w *world, conn net.Conn) net.Conn
		want time.Duration
	}{
		"nothing": {func(_ *testing.T, _ *world, conn net.Conn) net.Conn { return conn }, 20 * time.Second},
		"half a hello": {func(t *testing.T, _ *world, conn net.Conn) net.Conn {
			conn.Write([]byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"))
			return conn
		}, 20 * time.Second},
		"a hello in drops": {func(t *testing.T, _ *world, conn net.Conn) net.Conn {
			go func() {
				drops := time.NewTicker(time.Second)
				defer drops.Stop()
				for _, b := range append([]byte("\x16\x03\x01\x02\x00"), make([]byte, 500)...) {
					if _, err := conn.Write([]byte{b}); err != nil {
						return
					}
					<-drops.C
				}
			}()
			return conn
		}, 20 * time.Second},
		"TLS and no more": {func(t *testing.T, w *world, conn net.Conn) net.Conn { return shake(t, conn, w.trust()) }, 20 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, t.TempDir(), Options{})
				if took := lasts(tc.say(t, w, w.call(t, "203.0.113.7")), time.Hour); took > tc.want {
					t.Errorf("dropped after %v, want %v at most", took, tc.want)
				}
				<-time.After(time.Second)
				if got := w.metric(t, "discreet_connections"); got != "0" {
					t.Errorf("%s connections afterwards, want 0", got)
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, t.TempDir(), Options{})
		d := w.join(t)
		if _, err := d.rounds.Tasks(t.Context(), &pb.TasksRequest{Version: pb.Current()}); err != nil {
			t.Fatal(err)
		}
		if _, err := healthpb.NewHealthClient(w.dial(t, w.trust())).Check(t.Context(), new(healthpb.HealthCheckRequest)); err != nil {
			t.Fatal(err)
		}
		stranger := w.metric(t, "discreet_connections")
		<-time.After(time.Minute + time.Second)                                              // of pings that are answered
		if device := w.metric(t, "discreet_connections"); stranger != "3" || device != "1" { // it has enrolled over one of its own
			t.Errorf("%s connections, and %s after a minute; want 3 and the device's", stranger, device)
		}
		<-time.After(time.Hour)
		if !w.presence.connected(d.id) {
			t.Error("a device that rested lost its connection")
		}
	})
}

// TestStatusPeersAreDropped is the same for the status page.
func TestStatusPeersAreDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, t.TempDir(), Options{})
		listener, ended := rpctest.Listen(1<<16), make(chan error, 1)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { ended <- w.ServeStatus(ctx, listener) }()
		for said, want := range map[string]time.Duration{
			"": 5 * time.Second, "GET /healthz HTTP/1.1\r\n": 5 * time.Second, "GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n": time.Minute,
		} {
			conn, err := listener.DialContext(ctx)
			if err != nil {
				t.Fatal(err)
			}
			conn.Write([]byte(said))
			if took := lasts(conn, time.Hour); took > want {
				t.Errorf("%q: dropped after %v, want %v at most", said, took, want)
			}
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// dialFrom connects from an address with a TLS configuration.
func (w *world) dialFrom(t testing.TB, from string, config *tls.Config) *grpc.ClientConn {
	t.Helper()
	config = config.Clone()
	config.ServerName = "localhost"
	conn, err := grpc.NewClient("passthrough:coordinator", grpc.WithTransportCredentials(credentials.NewTLS(config)), grpc.WithIdleTimeout(0),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return w.listener.DialFrom(ctx, &net.TCPAddr{IP: net.ParseIP(from), Port: 50000})
		}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// TestStrangersAreBounded: who has no certificate takes few places, and little of each, and
// keeps no device out.
func TestStrangersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, t.TempDir(), Options{PerAddress: 8})
		d, out := w.join(t), w.join(t)
		machine, err := ca.OpenMachine(w.dir, w.Coordinator.log, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		revoke(t, machine, w.dir, w.dir, out.id)
		const home = "203.0.113.7"
		shake(t, w.call(t, home), w.trust())
		shake(t, w.call(t, home), out.config) // a device that is out is none
		if took := lasts(shake(t, w.call(t, home), w.trust()), time.Second); took > 0 {
			t.Errorf("a third stranger of an address with eight connections stood for %v", took)
		}
		if got := w.metric(t, `discreet_connections_refused_total{reason="stranger"}`); got != "1" {
			t.Errorf("%s refusals counted, want 1", got)
		}
		device := rpc.NewRoundServiceClient(w.dialFrom(t, home, d.config))
		if _, err := device.Tasks(t.Context(), &pb.TasksRequest{Version: pb.Current()}); err != nil {
			t.Errorf("a device of the same address: %v", err)
		}

		// A megabyte is a request that a device may send.
		large := &pb.EnrolRequest{Version: pb.Current(), TokenSecret: bytes.Repeat([]byte{1}, 1<<20)}
		_, err = rpc.NewEnrolmentServiceClient(w.dialFrom(t, "198.51.100.1", d.config)).Enrol(t.Context(), large)
		wants(t, "a device's megabyte", err, codes.InvalidArgument, "a secret of 1048576 bytes")
		conn := &counted{Conn: shake(t, w.call(t, "198.51.100.2"), w.trust())}
		conn.Write([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"))
		go func() {
			for range 100 { // frames of a kind that is ignored
				if _, err := conn.Write(append([]byte("\x00\x04\x00\xee\x00\x00\x00\x00\x00"), make([]byte, 1024)...)); err != nil {
					return
				}
			}
		}()
		if took := lasts(conn, time.Hour); took > time.Second {
			t.Errorf("a stranger that sent %d bytes was dropped after %v only", conn.sent, took)
		}
	})
}

// TestSilentConnectionsGiveWay: who fills an address without a word keeps no device out that
// shares it, but a crowd of devices that come back is let in one after the other.
func TestSilentConnectionsGiveWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, t.TempDir(), Options{PerAddress: 8})
		const home = "203.0.113.7"
		var silent []net.Conn
		for range 8 {
			silent = append(silent, w.call(t, home))
		}
		kiosk := rpc.NewRoundServiceClient(w.dialFrom(t, home, w.join(t).config))
		if _, err := kiosk.Tasks(t.Context(), &pb.TasksRequest{Version: pb.Current()}); err != nil {
			t.Errorf("behind eight silent connections: %v", err)
		}
		for i, conn := range silent {
			if took := lasts(conn, time.Second); (took < time.Second) != (i == 0) {
				t.Errorf("silent connection %d stood for %v; want the oldest closed alone", i, took)
			}
		}
		if got := w.metric(t, `discreet_connections_refused_total{reason="stranger"}`); got != "1" {
			t.Errorf("%s refusals counted, want 1", got)
		}

		const firm = "203.0.113.8"
		first, second := w.join(t), w.join(t)
		for i := range 6 {
			shake(t, w.call(t, firm), []*device{first, second}[i%2].config)
		}
		coming := []net.Conn{w.call(t, firm), w.call(t, firm)}
		if took := lasts(w.call(t, firm), time.Second); took > 0 {
			t.Errorf("a ninth connection stood for %v", took)
		}
		for i, conn := range coming {
			conn.SetDeadline(time.Time{})
			shake(t, conn, []*device{first, second}[i].config)
		}
	})
}

// counted counts what is sent.
type counted struct {
	net.Conn
	sent int
}

func (c *counted) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.sent += n
	return n, err
}

// TestConnectionsOfOneDeviceAreBounded: the newest ones stand, since a device may have lost
// the older ones.
func TestConnectionsOfOneDeviceAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, t.TempDir(), Options{})
		d, other := w.join(t), w.join(t)
		var lines []net.Conn
		for i := range perDevice {
			lines = append(lines, shake(t, w.call(t, fmt.Sprintf("203.0.113.%d", i)), d.config))
		}
		shake(t, w.call(t, "203.0.113.0"), other.config)
		newest := rpc.NewRoundServiceClient(w.dialFrom(t, "203.0.113.99", d.config))
		if _, err := newest.Tasks(t.Context(), &pb.TasksRequest{Version: pb.Current()}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		for i, line := range lines {
			if took := lasts(line, time.Second); (took < time.Second) != (i == 0) {
				t.Errorf("connection %d stood for %v; want the oldest closed alone", i, took)
			}
		}
		if got := w.metric(t, `discreet_connections_refused_total{reason="device"}`); got != "1" || !strings.Contains(w.log.String(), "reason=device device="+short(d.id)) {
			t.Errorf("%s refusals counted, want 1, and a record of the device", got)
		}
		if !w.presence.connected(d.id) {
			t.Error("the device is taken for gone")
		}
	})
}

func TestNetworks(t *testing.T) {
	for _, tc := range []struct {
		addr net.Addr
		want string
	}{
		{&net.TCPAddr{IP: net.IPv4(203, 0, 113, 7), Port: 1}, "203.0.113.7/32"},
		{&net.TCPAddr{IP: net.ParseIP("2001:db8:1:2:3:4:5:6"), Port: 1}, "2001:db8:1:2::/64"},
		{&net.TCPAddr{IP: net.ParseIP("fe80::1"), Zone: "eth0"}, "fe80::/64"},
		{&net.TCPAddr{}, ""},
		{&net.UnixAddr{Name: "socket"}, ""},
	} {
		want := netip.Prefix{}
		if tc.want != "" {
			want = netip.MustParsePrefix(tc.want)
		}
		if got := networkOf(tc.addr); got != want {
			t.Errorf("%v: got %v, want %v", tc.addr, got, want)
		}
	}
}

// TestGateCloses holds that a connection gives its place free once, also when it is closed
// while its handshake ends.
func TestGateCloses(t *testing.T) {
	m := newMetrics(new(Coordinator))
	g := newGate(4, 10, slog.New(slog.DiscardHandler), m.refused, nil)
	a, b := net.Pipe()
	defer b.Close()
	c := g.admit(a)
	if err := errors.Join(c.Close(), c.Close()); err != nil || g.count() != 0 || len(g.addresses) != 0 {
		t.Errorf("%v; %d connections, %d addresses, want none", err, g.count(), len(g.addresses))
	}
	if !g.suffer(c) || g.seat(c, secagg.ID{1}) != nil || len(g.devices) != 0 {
		t.Error("a connection that was closed is counted")
	}
	var of []*guest
	for range perDevice + 2 {
		a, b := net.Pipe()
		defer b.Close()
		c := g.admit(a)
		defer c.Close()
		of = append(of, c)
		g.seat(c, secagg.ID{1})
	}
	if g.count() != perDevice || !of[0].closed || !of[1].closed || of[2].closed {
		t.Errorf("%d connections of one device, want the newest %d", g.count(), perDevice)
	}
}
