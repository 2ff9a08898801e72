package rpctest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// pair connects over a listener of the size.
func pair(t *testing.T, size int) (client, server net.Conn) {
	t.Helper()
	l := Listen(size)
	defer l.Close()
	accepted := make(chan net.Conn, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			t.Error(err)
		}
		accepted <- c
	}()
	client, err := l.DialContext(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return client, <-accepted
}

func TestBytesComeInOrderBothWays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := pair(t, 7)
		sent := bytes.Repeat([]byte("what people say stays on the device. "), 20)
		var wg sync.WaitGroup
		for _, ends := range [][2]net.Conn{{client, server}, {server, client}} {
			wg.Go(func() {
				if _, err := ends[0].Write(sent); err != nil {
					t.Error(err)
				}
			})
			wg.Go(func() {
				got := make([]byte, len(sent))
				if _, err := io.ReadFull(ends[1], got); err != nil || !bytes.Equal(got, sent) {
					t.Errorf("read %q, %v", got, err)
				}
			})
		}
		wg.Wait()
	})
}

func TestClosedConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := pair(t, 100)
		client.Write([]byte("left"))
		waiting := make(chan error, 1)
		go func() {
			_, err := client.Read(make([]byte, 1))
			waiting <- err
		}()
		synctest.Wait()
		client.Close()
		if err := <-waiting; !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("a read that was waiting ended with %v", err)
		}
		if got, err := io.ReadAll(server); string(got) != "left" || err != nil {
			t.Errorf("the peer read %q, %v", got, err)
		}
		if _, err := server.Write([]byte{1}); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("the peer's write ended with %v", err)
		}
	})
}

func TestDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := pair(t, 1)
		start := time.Now()
		expect := func(after time.Duration, f func([]byte) (int, error)) {
			t.Helper()
			if _, err := f(make([]byte, 2)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("ended with %v", err)
			}
			if d := time.Since(start); d != after {
				t.Errorf("ended after %v, not %v", d, after)
			}
		}
		client.SetDeadline(start.Add(time.Hour))
		client.SetReadDeadline(start.Add(time.Second)) // takes the place of the other
		expect(time.Second, client.Read)
		expect(time.Hour, client.Write) // of two bytes one has room
		client.SetDeadline(time.Now())
		expect(time.Hour, client.Read)
		expect(time.Hour, client.Write)
		client.SetDeadline(time.Time{})
		server.Write([]byte{3})
		b := make([]byte, 1)
		if _, err := client.Read(b); err != nil || b[0] != 3 {
			t.Errorf("read %v, %v without a deadline", b, err)
		}
	})
}

func TestListenerEnds(t *testing.T) {
	l := Listen(1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.DialContext(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("dialled with %v", err)
	}
	l.Close()
	if _, err := l.DialContext(t.Context()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("dialled with %v", err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accepted with %v", err)
	}
}

// Many connections made, given deadlines that have passed, and closed in parallel in
// one bubble: with bufconn this ends the process under -race.
func TestParallelConnectionsInABubble(t *testing.T) {
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			var wg sync.WaitGroup
			for range 8 {
				wg.Go(func() {
					for range 50 {
						client, server := pair(t, 10)
						client.SetDeadline(time.Now())
						server.SetDeadline(time.Now())
						client.Close()
						server.Close()
					}
				})
			}
			wg.Wait()
		})
	}
}
