// Package client is the device: it keeps chats in a folder, classifies new ones,
// learns from confirmed ones, and takes part in rounds of federated training
// without a chat ever leaving the folder.
//
// Begin with [Open] and [Client]: [Client.Enrol] once, [Client.Classify] and
// [Client.Learn] as chats come in, [Client.Run] in the background.
// [Participant] is the part that walks through one round; a program that brings
// its own storage and transport can use it alone.
//
// What leaves the device is described in docs/protocol.md: keys, sealed shares
// and a masked vector whose length depends on the model alone. Neither texts nor
// intents nor their number are among it.
package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"

	"github.com/discreet-fl/discreet/client/store"
	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/secagg"
)

// MaxChats is how many chats a folder keeps; the oldest leave first.
const MaxChats = 10_000

var (
	// ErrInUse is returned by Open for a folder that another process has open.
	ErrInUse = store.ErrInUse
	// ErrFull is returned when the disk is full; nothing that was stored is lost.
	ErrFull = store.ErrFull
	// ErrNotEnrolled is returned by what needs a coordinator before Enrol.
	ErrNotEnrolled = errors.New("this device is not enrolled: enrol it with a token (`discreet agent join HOST:PORT TOKEN`)")
	// ErrDeclined is returned by Participate while participation is switched off.
	ErrDeclined = errors.New("participation is switched off on this device")
	// ErrBusy is returned by Participate while another call of it, or Run, takes part.
	ErrBusy = errors.New("this device is already taking part")
	// ErrClosed is returned by calls after Close and by those that it interrupted.
	ErrClosed = store.ErrClosed
)

// Options configure a Client. The zero value is ready for use.
type Options struct {
	// Logger gets the device's records, which name tasks, rounds and errors, never
	// texts or intents. Nil logs nothing.
	Logger *slog.Logger
	// Bounds are the least that this device asks of a round.
	Bounds Bounds
	// Task is the only task to take part in; empty lets the coordinator choose. Set it
	// where a coordinator has several tasks.
	Task string
	// Waiting is called by Enrol, once, when an operator has to admit this device
	// first; it is told the device's id. Nil is told nothing.
	Waiting func(device string)
	// DialOptions are added to the connection's own.
	DialOptions []grpc.DialOption
}

// Client is a device's open folder with what it can do. Its methods may be called
// concurrently.
type Client struct {
	options Options
	log     *slog.Logger
	store   *store.Store
	model   atomic.Pointer[loadedModel] // nil before the first checkpoint

	life    context.Context // ends with Close
	end     context.CancelCauseFunc
	users   sync.WaitGroup // calls that Close waits for
	shaping sync.Mutex     // held while the personal part is made or dropped, and while chats are forgotten
	taking  sync.Mutex     // held while taking part or fetching a checkpoint
	joining chan struct{}  // has one in it while enrolling: a folder gets one key

	// The check-in whose nonce nobody was shown yet, nil for none. It is kept when a
	// reply is lost: the coordinator gives the place to this commitment. Both belong to
	// who holds taking.
	checkedIn  *secagg.CheckedIn
	commitment [32]byte

	mu        sync.Mutex              // guards what follows
	closed    bool                    // no new users
	enrolment *enrolment              // nil before Enrol
	link      *link                   // nil before it is first used
	leave     context.CancelCauseFunc // ends the attempt in progress, nil between attempts
	task      *pb.TaskState           // in use, as the coordinator last told of it; nil before
	later     string                  // why the coordinator told it to come back later; empty while it does not wait
	changed   chan struct{}           // closed and replaced when Run should look again
}

// Names of the folder's records.
const (
	identitySecret      = "identity"
	enrolmentRecord     = "enrolment"
	participationRecord = "participation"
	modelRecord         = "model"
	errorRecord         = "last error"
	ledgerRecord        = "ledger/" // and the task's name
)

// Open opens a device's folder, making it where there is none. A folder that
// another process has open gives [ErrInUse] at once.
func Open(dir string, o Options) (*Client, error) {
	var err error
	if o.Bounds, err = o.Bounds.filled(); err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s, err := store.Open(dir, store.Options{MaxChats: MaxChats, MaxCheckpoint: MaxCheckpointBytes})
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	c := &Client{options: o, log: o.Logger, store: s, joining: make(chan struct{}, 1), changed: make(chan struct{})}
	c.life, c.end = context.WithCancelCause(context.Background())
	if err := c.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("client: opening folder %s: %w", dir, err), s.Close())
	}
	c.log.Warn(keyWarning, "folder", dir)
	return c, nil
}

// load reads the enrolment and the current checkpoint.
func (c *Client) load() error {
	var e enrolment
	found, err := c.readRecord(enrolmentRecord, &e)
	if err != nil {
		return err
	}
	if found {
		if c.enrolment, err = e.parsed(); err != nil {
			return err
		}
	}
	if err := c.loadModel(); err != nil {
		return err
	}
	return c.loadPersonal()
}

// Close ends what is running, waits for it, and releases the folder. An attempt in
// progress is left, as if the device had lost its power.
func (c *Client) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	c.mu.Unlock()
	c.end(ErrClosed)
	c.users.Wait()
	return errors.Join(c.hangUp(), c.store.Close())
}

// enter counts a call that Close waits for and ends its context with Close.
func (c *Client) enter(ctx context.Context) (context.Context, func(), error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, nil, ErrClosed
	}
	c.users.Add(1)
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(c.life, func() { cancel(context.Cause(c.life)) })
	return ctx, func() { stop(); cancel(nil); c.users.Done() }, nil
}

// hangUp closes the connection; the next call makes a new one.
func (c *Client) hangUp() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.link == nil {
		return nil
	}
	err := c.link.conn.Close()
	c.link = nil
	return err
}

// wake makes Run look again at what it is waiting for.
func (c *Client) wake() {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.changed)
	c.changed = make(chan struct{})
}

// readRecord decodes a JSON record of the folder; false where there is none.
func (c *Client) readRecord(name string, into any) (bool, error) {
	b, err := c.store.Record(name)
	if err != nil || b == nil {
		return false, err
	}
	if err := json.Unmarshal(b, into); err != nil {
		return false, fmt.Errorf("record %q is %w: %w", name, store.ErrDamaged, err)
	}
	return true, nil
}

// writeRecord stores a JSON record in the folder.
func (c *Client) writeRecord(name string, from any) error {
	b, err := json.Marshal(from)
	if err != nil {
		return err
	}
	return c.store.PutRecord(name, b)
}
