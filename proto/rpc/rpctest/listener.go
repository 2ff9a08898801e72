// Package rpctest is a network in memory for tests that run a server and its peers in
// one synctest bubble.
//
// It stands in for grpc's bufconn, which starts a timer of length zero for each new
// connection and for each deadline that has passed already. In a bubble such a timer
// runs at once on the goroutine that set it, and all of a bubble's timers share one
// context of the race detector, which is not made for two at a time (runtime/time.go,
// timer.modify and unlockAndRun, Go 1.26): connections made or closed in parallel end
// the process by a SIGSEGV in the detector's own code. Here a deadline that has passed
// takes no timer.
package rpctest

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// Listener hands both ends of a new connection out, one by Accept and one by DialContext.
type Listener struct {
	accept chan net.Conn
	closed chan struct{}
	once   sync.Once
	size   int
}

// Listen returns a listener whose connections hold at most size bytes each way before
// a write waits for a read.
func Listen(size int) *Listener {
	return &Listener{accept: make(chan net.Conn), closed: make(chan struct{}), size: size}
}

// Accept waits for the next DialContext. After Close the error is net.ErrClosed.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.accept:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// DialContext connects. The error is the context's, or net.ErrClosed after Close.
func (l *Listener) DialContext(ctx context.Context) (net.Conn, error) {
	return l.DialFrom(ctx, address{})
}

// DialFrom is DialContext for a peer with an address.
func (l *Listener) DialFrom(ctx context.Context, from net.Addr) (net.Conn, error) {
	up, down := newStream(l.size), newStream(l.size)
	select {
	case l.accept <- &conn{in: up, out: down, remote: from}:
		return &conn{in: down, out: up, remote: address{}}, nil
	case <-l.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Close ends Accept and DialContext; connections that stand are left alone.
func (l *Listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr is a name without meaning.
func (*Listener) Addr() net.Addr { return address{} }

type address struct{}

func (address) Network() string { return "rpctest" }
func (address) String() string  { return "rpctest" }

// conn is one end of a connection.
type conn struct {
	in, out *stream
	remote  net.Addr
}

func (c *conn) Read(b []byte) (int, error)  { return c.in.read(b) }
func (c *conn) Write(b []byte) (int, error) { return c.out.write(b) }

// Close lets the peer read what was written, and fails everything else.
func (c *conn) Close() error {
	c.in.end(&c.in.readerGone)
	c.out.end(&c.out.writerGone)
	return nil
}

func (*conn) LocalAddr() net.Addr    { return address{} }
func (c *conn) RemoteAddr() net.Addr { return c.remote }

func (c *conn) SetReadDeadline(t time.Time) error {
	c.in.setDeadline(&c.in.reading, t)
	return nil
}

func (c *conn) SetWriteDeadline(t time.Time) error {
	c.out.setDeadline(&c.out.writing, t)
	return nil
}

func (c *conn) SetDeadline(t time.Time) error {
	c.SetReadDeadline(t)
	return c.SetWriteDeadline(t)
}

// stream is one direction: bytes that were written and not yet read.
type stream struct {
	mu               sync.Mutex
	changed          sync.Cond
	bytes            bytes.Buffer
	size             int
	reading, writing deadline
	// readerGone and writerGone tell which ends have closed.
	readerGone, writerGone bool
}

// deadline is that of reads, or of writes. A timer that is no longer this one's, but
// had begun to run, finds another number.
type deadline struct {
	timer  *time.Timer
	number int
	passed bool
}

func newStream(size int) *stream {
	s := &stream{size: size}
	s.changed.L = &s.mu
	return s
}

func (s *stream) read(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.readerGone:
			return 0, io.ErrClosedPipe
		case s.reading.passed:
			return 0, os.ErrDeadlineExceeded
		case s.bytes.Len() > 0:
			s.changed.Broadcast()
			return s.bytes.Read(b)
		case s.writerGone:
			return 0, io.EOF
		}
		s.changed.Wait()
	}
}

func (s *stream) write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n := 0; ; {
		switch room := s.size - s.bytes.Len(); {
		case s.readerGone || s.writerGone:
			return n, io.ErrClosedPipe
		case s.writing.passed:
			return n, os.ErrDeadlineExceeded
		case n == len(b):
			return n, nil
		case room > 0:
			k, _ := s.bytes.Write(b[n:min(len(b), n+room)])
			n += k
			s.changed.Broadcast()
			continue
		}
		s.changed.Wait()
	}
}

func (s *stream) end(gone *bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*gone = true
	s.changed.Broadcast()
}

func (s *stream) setDeadline(d *deadline, t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
	}
	d.timer, d.passed = nil, false
	d.number++
	if t.IsZero() {
		return
	}
	if left := time.Until(t); left > 0 {
		number := d.number
		d.timer = time.AfterFunc(left, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			if d.number == number {
				d.passed = true
				s.changed.Broadcast()
			}
		})
		return
	}
	d.passed = true
	s.changed.Broadcast()
}
