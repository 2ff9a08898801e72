package client

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/discreet-fl/discreet/checkpointlog"
	"github.com/discreet-fl/discreet/client/store"
	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/proto/rpc"
	"github.com/discreet-fl/discreet/secagg"
)

var (
	// ErrToken is returned by Enrol for a token that cannot be read or that the
	// coordinator does not accept.
	ErrToken = errors.New("enrolment token refused")
	// ErrAuthority is returned where the server is not certified by the authority
	// that the token names or that this device is enrolled with.
	ErrAuthority = errors.New("the server is not the expected coordinator")
	// ErrUnreachable is returned where no coordinator answers.
	ErrUnreachable = errors.New("the coordinator cannot be reached")
	// ErrEnrolled is returned for a folder that belongs to another federation.
	ErrEnrolled = errors.New("this folder is enrolled with another coordinator; use another folder for a second one")
)

const (
	tokenPrefix = "discreet1."
	secretSize  = 16
	enrolTime   = 30 * time.Second // for one call
	oldestMinor = 4                // of the protocol's major version, that this device works with

	// mostUnanswered is how long a waiting device leaves a coordinator that does not answer,
	// and firstUnanswered how long a device tries to reach it that has not been answered yet:
	// where many join at once, there may be no room for a moment.
	mostUnanswered  = 30 * time.Second
	firstUnanswered = 5 * time.Second
)

// token is what an operator hands out.
type token struct {
	fingerprint [32]byte // SHA-256 of the CA's certificate
	secret      [secretSize]byte
}

func parseToken(line string) (token, error) {
	var t token
	encoded, ok := strings.CutPrefix(strings.TrimSpace(line), tokenPrefix)
	if !ok {
		return t, fmt.Errorf("%w: it does not begin with %q; copy the whole line that `discreet token create` printed", ErrToken, tokenPrefix)
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if err != nil || len(b) != len(t.fingerprint)+len(t.secret) || strings.ContainsAny(encoded, "\r\n") { // base64 skips line ends
		return t, fmt.Errorf("%w: it is not %d bytes of base64; copy the whole line that `discreet token create` printed", ErrToken, len(t.fingerprint)+len(t.secret))
	}
	copy(t.fingerprint[:], b)
	copy(t.secret[:], b[len(t.fingerprint):])
	return t, nil
}

// enrolment is what a device got when it enrolled. All of it is public.
type enrolment struct {
	Address     string `json:"address"`     // HOST:PORT
	Authority   []byte `json:"authority"`   // the CA's certificate, DER
	Certificate []byte `json:"certificate"` // the device's, DER
	Credential  []byte `json:"credential"`  // the CA's signature over the device's key
	// The key of the coordinator's checkpoint log, and the CA's signature over it. A
	// device that enrolled before there was such a log has neither until it first needs
	// them; see logKey.
	LogKey        []byte `json:"log_key,omitempty"`
	LogCredential []byte `json:"log_credential,omitempty"`

	ca     *x509.Certificate
	caKey  ed25519.PublicKey
	device secagg.ID
}

// parsed fills in what is read out of the certificates.
func (e *enrolment) parsed() (*enrolment, error) {
	var err error
	if e.ca, err = x509.ParseCertificate(e.Authority); err != nil {
		return nil, fmt.Errorf("the CA's certificate is %w: %w", store.ErrDamaged, err)
	}
	leaf, err := x509.ParseCertificate(e.Certificate)
	if err != nil {
		return nil, fmt.Errorf("this device's certificate is %w: %w", store.ErrDamaged, err)
	}
	caKey, ok := e.ca.PublicKey.(ed25519.PublicKey)
	key, both := leaf.PublicKey.(ed25519.PublicKey)
	if !ok || !both {
		return nil, errors.New("a certificate without an Ed25519 key; the coordinator does not speak this protocol")
	}
	e.caKey, e.device = caKey, secagg.DeviceID(key)
	if len(e.LogKey) == 0 && len(e.LogCredential) == 0 {
		return e, nil
	}
	return e, checkpointlog.VerifyKey(e.caKey, e.LogKey, e.LogCredential)
}

// Enrol makes this device a member of a federation. addr is the coordinator's
// HOST:PORT, tokenLine what `discreet token create` printed.
//
// The device's key is made here and is on disk before it is first used, so that
// enrolling again after a crash or a lost reply sends the same key and uses up no
// second place of the token. The server is trusted only if it is certified by the
// authority whose fingerprint the token carries; that authority is pinned.
// Enrolling again with the same authority only takes over the address, unless the
// coordinator has forgotten the device.
//
// Where the authority's key is kept away from the coordinator, an operator has to
// admit the device first: Enrol then tells [Options.Waiting], and asks again at the
// coordinator's pace until ctx ends. It may be called again later with the same token.
// Errors: [ErrToken], [ErrAuthority], [ErrUnreachable], [ErrEnrolled].
func (c *Client) Enrol(ctx context.Context, addr, tokenLine string) error {
	ctx, leave, err := c.enter(ctx)
	if err != nil {
		return fmt.Errorf("client: enrolling: %w", err)
	}
	defer leave()
	select {
	case c.joining <- struct{}{}:
		defer func() { <-c.joining }()
	case <-ctx.Done():
		return fmt.Errorf("client: enrolling at %s: an earlier call to enrol has not ended: %w", addr, context.Cause(ctx))
	}
	if err := c.enrol(ctx, addr, tokenLine); err != nil {
		return fmt.Errorf("client: enrolling at %s: %w", addr, err)
	}
	c.wake()
	return nil
}

func (c *Client) enrol(ctx context.Context, addr, tokenLine string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || host == "" || port == "" {
		return fmt.Errorf("address %q, want HOST:PORT", addr)
	}
	t, err := parseToken(tokenLine)
	if err != nil {
		return err
	}
	key, err := c.identity()
	if err != nil {
		return err
	}
	if known := c.enrolled(); known != nil {
		if sha256.Sum256(known.Authority) != t.fingerprint {
			return fmt.Errorf("%w (%s)", ErrEnrolled, known.Address)
		}
		if done, err := c.move(ctx, *known, addr); done || err != nil {
			return err
		}
	}
	e, err := c.askToEnrol(ctx, addr, host, t, key)
	if err != nil {
		return err
	}
	return c.keepEnrolment(e)
}

// identity returns the device's key, made and stored where there is none.
func (c *Client) identity() (ed25519.PrivateKey, error) {
	seed, err := c.store.Secret(identitySecret)
	if err != nil {
		return nil, err
	}
	if seed == nil {
		seed = make([]byte, ed25519.SeedSize)
		rand.Read(seed)
		if err := c.store.PutSecret(identitySecret, seed); err != nil {
			return nil, err
		}
	}
	if len(seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("this device's key is %w: %d bytes, want %d", store.ErrDamaged, len(seed), ed25519.SeedSize)
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

// move tries a device's present enrolment at an address. It reports whether the
// coordinator there still knows the device; the new address is then kept.
func (c *Client) move(ctx context.Context, e enrolment, addr string) (bool, error) {
	e.Address = addr
	l, err := c.dial(&e)
	if err != nil {
		return false, err
	}
	defer l.conn.Close()
	ctx, cancel := context.WithTimeout(ctx, enrolTime)
	defer cancel()
	_, err = c.tasks(ctx, l)
	switch code := status.Code(err); {
	case err == nil:
		return true, c.keepEnrolment(&e)
	case code == codes.Unauthenticated || code == codes.PermissionDenied:
		return false, nil
	default:
		return false, err
	}
}

// askToEnrol makes the one call that needs no client certificate, again and again
// while the device waits to be admitted.
func (c *Client) askToEnrol(ctx context.Context, addr, host string, t token, key ed25519.PrivateKey) (*enrolment, error) {
	public := key.Public().(ed25519.PublicKey)
	request := &pb.EnrolRequest{
		Version: pb.Current(), TokenSecret: t.secret[:], PublicKey: public,
		Proof: ed25519.Sign(key, pb.EnrolProof(t.fingerprint, t.secret[:], public)),
	}
	ask := func(ctx context.Context, request *pb.EnrolRequest) (*pb.EnrolResponse, error) {
		return c.askOnce(ctx, addr, host, t, request)
	}
	reply, err := askFirst(ctx, ask, request)
	if err != nil && ctx.Err() != nil {
		return nil, fmt.Errorf("%w: %w", context.Cause(ctx), err)
	} else if err != nil {
		return nil, err
	}
	for waits := false; ; waits = true {
		pause := mostUnanswered
		if err == nil {
			e, err := checkEnrolment(reply, addr, t, public)
			if e != nil || err != nil {
				return e, err
			}
			pause = later(milliseconds(reply.GetRetryAfterMs()))
		}
		if !waits {
			c.awaitOperator(secagg.DeviceID(public).String())
		}
		if err := sleep(ctx, pause); err != nil {
			return nil, fmt.Errorf("the operator has not admitted this device yet; enrol again later with the same token: %w", context.Cause(ctx))
		}
		reply, err = ask(ctx, request)
		// A coordinator that is being started anew does not end the wait, and the end of the
		// context does so above.
		if err != nil && ctx.Err() == nil && !passing(err) && status.Code(err) != codes.DeadlineExceeded {
			return nil, err
		}
	}
}

// awaitOperator says that the device waits for a person.
func (c *Client) awaitOperator(device string) {
	c.log.Info("waiting for the operator to admit this device", "device", device)
	if c.options.Waiting != nil {
		c.options.Waiting(device)
	}
}

// askFirst asks until the coordinator has been reached, or does not seem to be there.
func askFirst(ctx context.Context, ask func(context.Context, *pb.EnrolRequest) (*pb.EnrolResponse, error), request *pb.EnrolRequest) (*pb.EnrolResponse, error) {
	wait, ends := backoff{base: 200 * time.Millisecond, limit: time.Second}, time.Now().Add(firstUnanswered)
	for {
		reply, err := ask(ctx, request)
		if err == nil || !passing(err) || errors.Is(err, ErrAuthority) || !time.Now().Before(ends) {
			return reply, err
		}
		if sleep(ctx, wait.next()) != nil {
			return nil, err
		}
	}
}

// askOnce makes one call to enrol, over a connection of its own: there are few places for
// those who have no certificate, and a device that waits leaves its own to others.
func (c *Client) askOnce(ctx context.Context, addr, host string, t token, request *pb.EnrolRequest) (*pb.EnrolResponse, error) {
	check := &serverCheck{address: addr, host: host, fingerprint: t.fingerprint}
	conn, err := c.connect(addr, check, nil)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, enrolTime)
	defer cancel()
	reply, err := rpc.NewEnrolmentServiceClient(conn).Enrol(ctx, request)
	if status.Code(err) == codes.PermissionDenied {
		return nil, fmt.Errorf("%w: %s", ErrToken, status.Convert(err).Message())
	}
	return reply, check.explain(err)
}

// checkEnrolment believes nothing of the reply that the token and the device's own
// key do not confirm. It returns nil for a device that is to ask again.
func checkEnrolment(reply *pb.EnrolResponse, addr string, t token, public ed25519.PublicKey) (*enrolment, error) {
	if err := pb.Check(reply.GetVersion(), oldestMinor); err != nil {
		return nil, err
	}
	if sha256.Sum256(reply.GetCaCertificate()) != t.fingerprint {
		return nil, fmt.Errorf("%w: its reply holds another CA's certificate than the token names", ErrAuthority)
	}
	if reply.GetRetryAfterMs() > 0 {
		return nil, nil
	}
	e, err := (&enrolment{
		Address: addr, Authority: reply.GetCaCertificate(), Certificate: reply.GetCertificate(), Credential: reply.GetCredential(),
	}).parsed()
	if err != nil {
		return nil, err
	}
	if id := secagg.DeviceID(public); e.device != id || !bytes.Equal(reply.GetDeviceId(), id[:]) {
		return nil, fmt.Errorf("%w: it certified another device's key", ErrAuthority)
	}
	if err := secagg.VerifyCredential(e.caKey, public, e.Credential); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAuthority, err)
	}
	return e, e.takeLogKey(reply.GetLogKey(), reply.GetLogCredential())
}

// takeLogKey puts the log's key into the enrolment if the authority certified it.
func (e *enrolment) takeLogKey(key, credential []byte) error {
	if err := checkpointlog.VerifyKey(e.caKey, key, credential); err != nil {
		return fmt.Errorf("%w: the key of its checkpoint log: %w", ErrAuthority, err)
	}
	e.LogKey, e.LogCredential = key, credential
	return nil
}

// logKey returns the key of the coordinator's checkpoint log. A device that enrolled
// before there was one asks for it, with a task's log; it is kept if the pinned
// authority certified it.
func (c *Client) logKey(ctx context.Context, task string) (ed25519.PublicKey, error) {
	e := c.enrolled()
	if e == nil {
		return nil, ErrNotEnrolled
	}
	if len(e.LogKey) > 0 {
		return e.LogKey, nil
	}
	l, err := c.connection()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	reply, err := call(ctx, l, l.checkpoints.ListLog, &pb.ListLogRequest{Task: task, Limit: 1})
	if err != nil {
		return nil, fmt.Errorf("asking for the key of the checkpoint log: %w", err)
	}
	whole := *e // readers of the present one go on with it
	if err := whole.takeLogKey(reply.GetLogKey(), reply.GetLogCredential()); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.enrolment != e { // it has moved meanwhile; the next call sees to it
		return whole.LogKey, nil
	}
	if err := c.writeRecord(enrolmentRecord, &whole); err != nil {
		return nil, fmt.Errorf("keeping the key of the checkpoint log: %w", err)
	}
	c.enrolment = &whole
	return whole.LogKey, nil
}

// keepEnrolment stores an enrolment and drops the connection of the one before.
func (c *Client) keepEnrolment(e *enrolment) error {
	if err := c.writeRecord(enrolmentRecord, e); err != nil {
		return err
	}
	c.mu.Lock()
	c.enrolment = e
	c.mu.Unlock()
	c.log.Info("enrolled", "coordinator", e.Address, "device", e.device.String())
	return c.hangUp()
}

// enrolled returns the present enrolment, nil before there is one.
func (c *Client) enrolled() *enrolment {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.enrolment
}

// credentials returns the enrolment and the device's key.
func (c *Client) credentials() (*enrolment, ed25519.PrivateKey, error) {
	e := c.enrolled()
	if e == nil {
		return nil, nil, fmt.Errorf("client: %w", ErrNotEnrolled)
	}
	key, err := c.identity()
	if err != nil {
		return nil, nil, fmt.Errorf("client: %w", err)
	}
	return e, key, nil
}
