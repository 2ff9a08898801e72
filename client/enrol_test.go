package client

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

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
