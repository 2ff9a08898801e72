package client

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/discreet-fl/discreet/checkpointlog"
	pb "github.com/discreet-fl/discreet/proto"
)

func TestEnrolErrors(t *testing.T) {
	other := func(t *testing.T, d *daemon) string { return newDaemon(t, 3).token() }
	edited := func(f func(b []byte)) func(*testing.T, *daemon) string {
		return func(t *testing.T, d *daemon) string {
			b, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(d.token(), tokenPrefix))
			if err != nil {
				t.Fatal(err)
			}
			f(b)
			return tokenPrefix + base64.RawURLEncoding.EncodeToString(b)
		}
	}
	fixed := func(token string) func(*testing.T, *daemon) string {
		return func(*testing.T, *daemon) string { return token }
	}
	right := func(_ *testing.T, d *daemon) string { return d.token() }
	const address = testHost + ":7443"
	for _, c := range []struct {
		name    string
		address string
		token   func(*testing.T, *daemon) string
		prepare func(t *testing.T, d *daemon)
		dial    grpc.DialOption
		err     error
		want    string
	}{
		{name: "no port", address: testHost, token: right, want: "want HOST:PORT"},
		{name: "not a token", address: address, token: fixed("hello"), err: ErrToken, want: "copy the whole line"},
		{name: "half a token", address: address, token: fixed("discreet1.AAAA"), err: ErrToken, want: "48 bytes"},
		{name: "wrong secret", address: address, token: edited(func(b []byte) { b[47] ^= 1 }), err: ErrToken, want: "ask the operator"},
		{name: "wrong fingerprint", address: address, token: edited(func(b []byte) { b[0] ^= 1 }), err: ErrAuthority, want: "fingerprint"},
		{name: "another coordinator's token", address: address, token: other, err: ErrAuthority, want: "fingerprint"},
		{name: "another host", address: "elsewhere.test:7443", token: right, err: ErrAuthority, want: "--host elsewhere.test"},
		{name: "unreachable", address: address, token: right, dial: down(), err: ErrUnreachable, want: "connection refused"},
		{
			name: "a device's certificate in the server's place", address: address, token: right, err: ErrAuthority, want: "did not issue",
			prepare: func(t *testing.T, d *daemon) {
				d.config.Certificates = []tls.Certificate{d.serverCertificate(testHost, x509.ExtKeyUsageClientAuth)}
			},
		},
		{
			name: "old TLS", address: address, token: right, err: ErrUnreachable, want: "protocol version",
			prepare: func(t *testing.T, d *daemon) {
				d.config.MaxVersion, d.config.MinVersion = tls.VersionTLS12, tls.VersionTLS12
			},
		},
		{
			name: "other version", address: address, token: right, want: "both versions",
			prepare: func(t *testing.T, d *daemon) {
				d.edit = func(string, any) error { return status.Error(codes.FailedPrecondition, "both versions") }
			},
		},
		{
			name: "another device's certificate", address: address, token: right, err: ErrAuthority, want: "another device's key",
			prepare: func(t *testing.T, d *daemon) {
				d.reply = func(_ string, reply any) { reply.(*pb.EnrolResponse).DeviceId[0] ^= 1 }
			},
		},
		{
			name: "a credential of nobody", address: address, token: right, err: ErrAuthority,
			prepare: func(t *testing.T, d *daemon) {
				d.reply = func(_ string, reply any) { reply.(*pb.EnrolResponse).Credential[0] ^= 1 }
			},
		},
		{
			name: "a log key of another CA", address: address, token: right, err: ErrAuthority, want: "checkpoint log",
			prepare: func(t *testing.T, d *daemon) {
				d.reply = func(_ string, reply any) { reply.(*pb.EnrolResponse).LogCredential[0] ^= 1 }
			},
		},
		{
			name: "no log key", address: address, token: right, err: ErrAuthority, want: "checkpoint log",
			prepare: func(t *testing.T, d *daemon) {
				d.reply = func(_ string, reply any) {
					reply.(*pb.EnrolResponse).LogKey, reply.(*pb.EnrolResponse).LogCredential = nil, nil
				}
			},
		},
		{
			name: "another CA in the reply to one that waits", address: address, token: right, err: ErrAuthority,
			prepare: func(t *testing.T, d *daemon) {
				stranger := newDaemon(t, 3).caCert.Raw
				d.reply = func(_ string, reply any) {
					r := reply.(*pb.EnrolResponse)
					*r = pb.EnrolResponse{Version: r.Version, CaCertificate: stranger, RetryAfterMs: 1000}
				}
			},
		},
		{
			name: "an older coordinator", address: address, token: right, want: "the peer speaks discreet protocol 1.3; this side speaks 1.4",
			prepare: func(t *testing.T, d *daemon) {
				d.reply = func(_ string, reply any) { reply.(*pb.EnrolResponse).Version = &pb.Version{Major: 1, Minor: 3} }
			},
		},
		{
			name: "another CA in the reply", address: address, token: right, err: ErrAuthority,
			prepare: func(t *testing.T, d *daemon) {
				stranger := newDaemon(t, 3).caCert.Raw
				d.reply = func(_ string, reply any) { reply.(*pb.EnrolResponse).CaCertificate = stranger }
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDaemon(t, 3)
				if c.prepare != nil {
					d.stop()
					d.set(func() { c.prepare(t, d) })
					d.start()
				}
				o := Options{}
				if c.dial != nil {
					o.DialOptions = append(o.DialOptions, c.dial)
				}
				device := openClient(t, t.TempDir(), d, o)
				err := device.Enrol(t.Context(), c.address, c.token(t, d))
				if err == nil || c.err != nil && !errors.Is(err, c.err) || !strings.Contains(err.Error(), c.want) {
					t.Errorf("got %v, want %v with %q", err, c.err, c.want)
				}
				if s, _ := device.Status(); s.Enrolled {
					t.Error("it is enrolled")
				}
				if _, err := device.Participate(t.Context()); !errors.Is(err, ErrNotEnrolled) {
					t.Errorf("taking part: %v", err)
				}
			})
		})
	}
}

// TestEnrolAgain loses the reply to the first enrolment, closes the folder, and
// holds that the same key is sent again; then that enrolling a third time makes no
// call that uses up a token, and that another federation is refused.
func TestEnrolAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDaemon(t, 3)
		dir := t.TempDir()
		const address = testHost + ":7443"
		d.set(func() {
			d.reply = func(string, any) { go d.stop(); <-t.Context().Done() }
		})
		c := openClient(t, dir, d, Options{})
		if err := c.Enrol(t.Context(), address, d.token()); err == nil {
			t.Fatal("enrolled without a reply")
		}
		c.Close()
		d.set(func() { d.reply = nil })
		d.start()
		c = openClient(t, dir, d, Options{})
		if err := c.Enrol(t.Context(), address, d.token()); err != nil {
			t.Fatal(err)
		}
		if len(d.enrolled) != 2 || !bytes.Equal(d.enrolled[0], d.enrolled[1]) {
			t.Fatalf("keys %x, want one key twice", d.enrolled)
		}
		if err := c.Enrol(t.Context(), testHost+":8443", d.token()); err != nil {
			t.Fatal(err)
		}
		if s, _ := c.Status(); s.Coordinator != testHost+":8443" || len(d.enrolled) != 2 {
			t.Errorf("moved to %s with %d enrolments, want 2", s.Coordinator, len(d.enrolled))
		}
		if err := c.Enrol(t.Context(), address, newDaemon(t, 3).token()); !errors.Is(err, ErrEnrolled) {
			t.Errorf("another federation: %v", err)
		}
		// A coordinator that has forgotten the device takes it in again.
		d.set(func() {
			d.edit = func(method string, _ any) error {
				if method == "Tasks" {
					return status.Error(codes.PermissionDenied, "unknown device")
				}
				return nil
			}
		})
		if err := c.Enrol(t.Context(), address, d.token()); err != nil || len(d.enrolled) != 3 {
			t.Errorf("%v with %d enrolments, want 3", err, len(d.enrolled))
		}
	})
}

// TestEnrolConcurrently holds that calls that overlap make one key between them.
func TestEnrolConcurrently(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDaemon(t, 3)
		c := openClient(t, t.TempDir(), d, Options{})
		errs := make(chan error)
		for range 4 {
			go func() { errs <- c.Enrol(t.Context(), testHost+":7443", d.token()) }()
		}
		for range 4 {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		if len(d.enrolled) != 1 {
			t.Errorf("%d enrolments, want 1: %x", len(d.enrolled), d.enrolled)
		}
	})
}

// testLog is the key of every daemon's checkpoint log.
var testLog = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{3}, ed25519.SeedSize))

// waits makes a daemon answer so many enrolments as one whose CA is elsewhere, and
// returns how many have come.
func waits(d *daemon, n int) *atomic.Int32 {
	asked := new(atomic.Int32)
	d.set(func() {
		d.reply = func(method string, reply any) {
			if r, ok := reply.(*pb.EnrolResponse); ok && int(asked.Add(1)) <= n {
				r.Certificate, r.Credential, r.RetryAfterMs = nil, nil, 10_000
			}
		}
	})
	return asked
}

// TestEnrolWaitsForTheOperator: the device asks at the pace it is told, tells who
// waits beside it once, and outlives a coordinator that is started anew.
func TestEnrolWaitsForTheOperator(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDaemon(t, 3)
		asked := waits(d, 20)
		var told []string
		c := openClient(t, t.TempDir(), d, Options{Waiting: func(device string) { told = append(told, device) }})
		go func() {
			<-time.After(35 * time.Second)
			d.stop()
			<-time.After(time.Minute)
			d.start()
		}()
		began := time.Now()
		if err := c.Enrol(t.Context(), testHost+":7443", d.token()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took < 200*time.Second || took > 6*time.Minute {
			t.Errorf("enrolled after %v, want 20 times 10 s and the coordinator's absence", took)
		}
		s, err := c.Status()
		if err != nil || !s.Enrolled || asked.Load() != 21 || len(told) != 1 || told[0] != s.Device {
			t.Errorf("%+v, %v after %d calls; told %v", s, err, asked.Load(), told)
		}
	})
}

// held counts the connections that a device has open.
type held struct {
	net.Conn
	open *atomic.Int32
	once sync.Once
}

func (h *held) Close() error {
	h.once.Do(func() { h.open.Add(-1) })
	return h.Conn.Close()
}

// TestEnrolTakesNoPlaceForLong: a device that waits for its operator keeps no connection
// meanwhile, and one that finds no place when it first asks tries again for a moment.
func TestEnrolTakesNoPlaceForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDaemon(t, 3)
		waits(d, 3)
		var open, tried atomic.Int32
		c := openClient(t, t.TempDir(), d, Options{DialOptions: []grpc.DialOption{
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
				if tried.Add(1) <= 4 {
					return nil, io.EOF
				}
				conn, err := d.listener.DialContext(ctx)
				if err == nil {
					open.Add(1)
				}
				return &held{Conn: conn, open: &open}, err
			}),
		}})
		done := make(chan error, 1)
		go func() { done <- c.Enrol(t.Context(), testHost+":7443", d.token()) }()
		for _, after := range []time.Duration{6 * time.Second, 10 * time.Second} {
			<-time.After(after)
			synctest.Wait()
			if tried.Load() < 5 || open.Load() != 0 {
				t.Errorf("%d connections of a device that waits, after %d were tried; want none, after five or more", open.Load(), tried.Load())
			}
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestEnrolStopsWaiting: who gives up may come back with the same token, and a token
// that is refused while the device waits ends the wait.
func TestEnrolStopsWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDaemon(t, 3)
		waits(d, 4)
		dir := t.TempDir()
		c := openClient(t, dir, d, Options{})
		ctx, cancel := context.WithTimeout(t.Context(), 25*time.Second)
		defer cancel()
		if err := c.Enrol(ctx, testHost+":7443", d.token()); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "same token") {
			t.Errorf("giving up: %v", err)
		}
		go c.Enrol(t.Context(), testHost+":7443", d.token()) // waits until the folder is closed
		synctest.Wait()
		second, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		if err := c.Enrol(second, testHost+":7443", d.token()); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "earlier call") {
			t.Errorf("enrolling while another call waits: %v", err)
		}
		closed := make(chan error)
		go func() { closed <- c.Enrol(t.Context(), testHost+":7443", d.token()) }()
		synctest.Wait()
		c.Close()
		if err := <-closed; !errors.Is(err, ErrClosed) {
			t.Errorf("closing the folder: %v", err)
		}
		c = openClient(t, dir, d, Options{})
		if err := c.Enrol(t.Context(), testHost+":7443", d.token()); err != nil {
			t.Fatal(err)
		}
		for _, key := range d.enrolled[1:] {
			if !bytes.Equal(key, d.enrolled[0]) {
				t.Errorf("keys %x, want one", d.enrolled)
			}
		}

		other := newDaemon(t, 3)
		asked := waits(other, 100)
		other.set(func() {
			other.edit = func(method string, _ any) error {
				if asked.Load() == 2 {
					return status.Error(codes.PermissionDenied, "device was revoked")
				}
				return nil
			}
		})
		c = openClient(t, t.TempDir(), other, Options{})
		if err := c.Enrol(t.Context(), testHost+":7443", other.token()); !errors.Is(err, ErrToken) || !strings.Contains(err.Error(), "was revoked") {
			t.Errorf("revoked while it waits: %v", err)
		}
	})
}

func (d *daemon) ListLog(ctx context.Context, _ *pb.ListLogRequest) (*pb.ListLogResponse, error) {
	if _, err := d.caller(ctx); err != nil {
		return nil, err
	}
	key := testLog.Public().(ed25519.PublicKey)
	return &pb.ListLogResponse{LogKey: key, LogCredential: checkpointlog.CertifyKey(d.rig.ca, key)}, nil
}

// TestLogKeyOfAnOlderEnrolment opens a folder that was enrolled before there was a
// log, whose key is asked for once, and believed only under the pinned authority.
func TestLogKeyOfAnOlderEnrolment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDaemon(t, 3)
		dir := t.TempDir()
		c := openClient(t, dir, d, Options{})
		if err := c.Enrol(t.Context(), testHost+":7443", d.token()); err != nil {
			t.Fatal(err)
		}
		var record map[string]any
		if _, err := c.readRecord(enrolmentRecord, &record); err != nil || record["log_key"] == nil {
			t.Fatalf("record %v, %v", record, err)
		}
		delete(record, "log_key")
		delete(record, "log_credential")
		if err := c.writeRecord(enrolmentRecord, record); err != nil {
			t.Fatal(err)
		}
		c.Close()
		c = openClient(t, dir, d, Options{})
		d.set(func() { d.reply = func(_ string, reply any) { reply.(*pb.ListLogResponse).LogCredential[5] ^= 1 } })
		if _, err := c.logKey(t.Context(), "desk"); !errors.Is(err, ErrAuthority) {
			t.Errorf("a log key that the authority did not certify: %v", err)
		}
		d.set(func() { d.reply = nil })
		for range 2 {
			for range 2 {
				if key, err := c.logKey(t.Context(), "desk"); err != nil || !key.Equal(testLog.Public()) {
					t.Errorf("%x, %v", key, err)
				}
			}
			c.Close()
			c = openClient(t, dir, d, Options{})
		}
		if n := len(d.when("ListLog")); n != 2 {
			t.Errorf("asked %d times, want twice", n)
		}
		if _, err := openClient(t, t.TempDir(), d, Options{}).logKey(t.Context(), "desk"); !errors.Is(err, ErrNotEnrolled) {
			t.Errorf("before it is enrolled: %v", err)
		}
	})
}

// TestAnotherCoordinatorLater puts another federation's coordinator at the address
// of an enrolled device. It must not be spoken to, and the reason must be readable.
func TestAnotherCoordinatorLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, stranger := newDaemon(t, 3), newDaemon(t, 3)
		c := d.device(t, Options{})
		d.stop()
		stranger.cohort = 1
		d.set(func() { d.listener = stranger.listener })
		if _, err := c.Participate(t.Context()); !errors.Is(err, ErrAuthority) {
			t.Errorf("got %v, want ErrAuthority", err)
		}
		if s, _ := c.Status(); !strings.Contains(s.LastError, "not the expected coordinator") {
			t.Errorf("status has the error %q", s.LastError)
		}
		if len(stranger.calls) != 0 {
			t.Errorf("the stranger got the calls %v", stranger.calls)
		}
	})
}
