// Package coordinator runs federated rounds: it enrols devices, gathers them into
// rounds, sums their masked updates without seeing one, and keeps the model.
//
// Begin with [Open] and [Coordinator.Serve]. Below it, package round is one attempt
// as a pure state machine, package store what must not be lost, and package ca the
// certificates.
//
// # How a round goes
//
// Each task has one goroutine, which owns its rounds; the handlers of calls parse,
// check who calls, hand it an event and wait.
//
//  1. CheckIn is held. When enough devices wait, they are a round and get the plan,
//     with the checkpoint log's head, and a proof that their nonces are committed to.
//  2. Advertise, Share, Submit, Confirm and Reveal go to the round, which splits its
//     devices into cohorts after the first of them. A call is held until its step
//     closes for its cohort, and may be repeated with the same bytes.
//  3. The masks come off each cohort's sum as it is complete. When all cohorts have
//     ended, and at least half of them with a sum, the strategy makes the next
//     checkpoint from their total, and one transaction stores it with its entry in the
//     log and the record of the round.
//  4. Only then is Reveal answered, with the new checkpoint's hash.
//
// Nothing of an unfinished round is written down but its number, and that it reveals.
// After a crash at any moment the last committed checkpoint is current, and the next
// round begins. An attempt that loses too many devices is tried again, [MaxAttempts]
// times in all, unless its survivors have been told to reveal: then the round is left,
// and a checkpoint with the same parameters takes the place of the one that was
// revealed for, which no device trains on twice.
//
// In a task with a buffer ([CheckSpec] says which) several attempts, of a cohort each, run
// side by side, and the sums of some of them make a checkpoint together; see buffer.go.
//
// # Logs
//
// Each phase leaves one record with a message that does not change, all with task,
// round and attempt: "device checked in" (debug; the first 8 hexadecimal digits of
// its id are all that identifies a device in any record), "cohort formed",
// "advertise closed", then for each cohort, which it names, "share closed", "submit
// closed", "confirm closed", "reveal closed", "sum unmasked" (before the commit), or
// "cohort lost"; at the end "round committed" (before the devices are told), or
// "attempt aborted" and "round left"; "checkpoint held" in the place of a round that was
// left after it revealed; "sum buffered" where it waits for others; "intents queued" and "intents changed"; "task done". Beside them "protocol broken" says which device
// did, in which step and how, whether that is proven, and who says so where it is not;
// "device kept out" says for how many rounds.
package coordinator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/discreet-fl/discreet/coordinator/ca"
	"github.com/discreet-fl/discreet/coordinator/store"
)

const (
	// DefaultAddress and DefaultStatusAddress are where a coordinator listens for
	// devices and operators, and for /healthz and /metrics.
	DefaultAddress       = ":7443"
	DefaultStatusAddress = "127.0.0.1:7444"
	// DefaultMemoryBytes bounds the memory of vectors that are being received, and that
	// of each round's replies on their way.
	DefaultMemoryBytes = 256 << 20
	// DefaultGrace is how long a device that lost its connection is waited for.
	DefaultGrace = 5 * time.Second

	// stopTime bounds a graceful stop, after the held calls were answered.
	stopTime = 3 * time.Second
)

// Options are what an operator may choose when starting a coordinator.
type Options struct {
	// Hosts are the DNS names and IP addresses that devices reach it by, besides
	// those of the machine itself.
	Hosts []string
	// MemoryBytes bounds the memory that incomplete masked vectors take, and apart from
	// that the memory of the replies that a round's devices have not read; zero is
	// DefaultMemoryBytes.
	MemoryBytes int64
	// PerAddress bounds the connections of one IPv4 address, or of a /64 of IPv6; zero is
	// DefaultPerAddress. A quarter of them may be without a certificate.
	PerAddress int
	// Grace is how long a device whose connection ended is still waited for; zero is
	// DefaultGrace.
	Grace time.Duration
	// Logger takes the records; nil is slog.Default.
	Logger *slog.Logger
}

// Coordinator is an opened data folder and the tasks in it. It is safe for
// concurrent use.
type Coordinator struct {
	log       *slog.Logger
	grace     time.Duration
	store     *store.Store
	authority *ca.Authority
	memory    budget
	unread    atomic.Int64 // bytes of replies that no peer has read yet
	presence  *presence
	gate      *gate
	metrics   *metrics
	uploads   uploads
	replies   replyMemory
	rolls     rolls

	run    context.Context // ends when the tasks are to stop
	stop   context.CancelFunc
	owners sync.WaitGroup

	creating sync.Mutex // lets one task be created at a time

	mu    sync.RWMutex // guards tasks and the start of their goroutines
	tasks map[string]*task
}

// Open opens the data folder, makes it at the first start, and takes up its tasks.
func Open(dir string, o Options) (_ *Coordinator, err error) {
	c := &Coordinator{
		log: o.Logger, grace: o.Grace, memory: budget{limit: o.MemoryBytes}, presence: newPresence(), tasks: make(map[string]*task),
	}
	if c.log == nil {
		c.log = slog.Default()
	}
	if c.grace == 0 {
		c.grace = DefaultGrace
	}
	if c.memory.limit == 0 {
		c.memory.limit = DefaultMemoryBytes
	}
	c.run, c.stop = context.WithCancel(context.Background())
	if c.store, err = store.Open(dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
		}
	}()
	if c.authority, err = ca.Open(dir, o.Hosts, c.log, time.Now()); err != nil {
		return nil, err
	}
	if err := c.loadRolls(c.run); err != nil {
		return nil, err
	}
	c.metrics = newMetrics(c)
	c.gate = newGate(cmp.Or(o.PerAddress, DefaultPerAddress), connectionsWithin(openFiles()), c.log, c.metrics.refused, c.revoked)
	rows, err := c.store.Tasks(c.run)
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		t, err := c.loadTask(c.run, row)
		if err != nil {
			return nil, err
		}
		c.own(t)
	}
	return c, nil
}

// own starts a task's goroutine, unless the coordinator is stopping.
func (c *Coordinator) own(t *task) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.run.Err() == nil {
		c.tasks[t.name] = t
		c.owners.Go(func() { t.run(c.run) })
	}
}

// task returns the task of that name, or nil.
func (c *Coordinator) task(name string) *task {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.tasks[name]
}

// all returns the tasks by name.
func (c *Coordinator) all() []*task {
	c.mu.RLock()
	defer c.mu.RUnlock()
	var list []*task
	for _, name := range slices.Sorted(maps.Keys(c.tasks)) {
		list = append(list, c.tasks[name])
	}
	return list
}

// Fingerprint returns the SHA-256 of the CA's certificate in DER, by which a device
// that joins knows its coordinator.
func (c *Coordinator) Fingerprint() [32]byte { return c.authority.Fingerprint() }

// OperatorCredential returns the file that an operator's commands authenticate with;
// see [ca.LoadOperator].
func (c *Coordinator) OperatorCredential() string { return c.authority.OperatorPath() }

// Serve answers devices and operators on a listener until the context ends, then
// stops: a round that is being committed is committed, held calls are told to call
// again, and within seconds Serve returns nil. It closes the listener. The
// coordinator is then to be closed.
func (c *Coordinator) Serve(ctx context.Context, listener net.Listener) error {
	server := c.newServer()
	stopped := make(chan struct{})
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer close(stopped)
		<-ctx.Done()
		c.stopTasks()
		timer := time.AfterFunc(stopTime, server.Stop)
		server.GracefulStop()
		timer.Stop()
	}()
	err := server.Serve(gatedListener{listener, c.gate})
	cancel()
	<-stopped
	if err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("coordinator: serving: %w", err)
	}
	return nil
}

// stopTasks ends the tasks' goroutines and waits for them.
func (c *Coordinator) stopTasks() {
	c.mu.Lock()
	c.stop()
	c.mu.Unlock()
	c.owners.Wait()
}

// Close stops the tasks and closes the data folder.
func (c *Coordinator) Close() error {
	c.stopTasks()
	return c.store.Close()
}

// hexHead is how a hash appears in logs.
func hexHead(sum [32]byte) string { return fmt.Sprintf("%x", sum[:6]) }
