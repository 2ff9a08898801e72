package client

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/discreet-fl/discreet/proto"
)

// run starts Run and returns a function that ends it and gives its error.
func run(t *testing.T, c *Client) (stop func() error) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	return func() error { cancel(); return <-done }
}

// TestBackoff lets a coordinator be down for six hours: the waits grow to at most five
// minutes, differ between devices, and the device returns when it is up again.
func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDaemon(t, 3)
		a, b := d.device(t, Options{}), d.device(t, Options{})
		d.set(func() {
			d.edit = func(string, any) error { return status.Error(codes.Unavailable, "down") }
			d.calls, d.times = nil, nil
		})
		stop := run(t, a)
		time.Sleep(6 * time.Hour)
		mine := d.when("Tasks")
		if n := len(mine); n < 6*60/5 || n > 4*6*60/5 {
			t.Errorf("%d calls in six hours, want about one in two and a half minutes", n)
		}
		for i := range mine[1:] {
			if gap := mine[i+1].Sub(mine[i]); gap > mostWait+time.Second {
				t.Errorf("a wait of %v, want at most %v", gap, mostWait)
			}
		}
		if err := stop(); !errors.Is(err, context.Canceled) {
			t.Errorf("Run ended with %v", err)
		}
		d.set(func() { d.calls, d.times = nil, nil })
		start, stop := time.Now(), run(t, b)
		time.Sleep(6 * time.Hour)
		stop()
		theirs := d.when("Tasks")
		if same := min(len(mine), len(theirs)); same > 9 {
			equal := 0
			for i := range 9 {
				if mine[i+1].Sub(mine[i]) == theirs[i+1].Sub(theirs[i]) {
					equal++
				}
			}
			if equal == 9 {
				t.Errorf("two devices wait the same since %v", start)
			}
		}
		if s, _ := b.Status(); !strings.Contains(s.LastError, "down") {
			t.Errorf("status has the error %q", s.LastError)
		}
	})
}

func TestRetryAfter(t *testing.T) {
	for _, c := range []struct {
		ms          uint32
		least, most time.Duration
	}{
		{ms: 90_000, least: 90 * time.Second, most: 100 * time.Second},
		{ms: 1, least: leastLater, most: 2 * leastLater},
		{ms: 4_000_000_000, least: mostLater, most: mostLater + mostLater/5},
		{ms: 0, least: time.Millisecond, most: time.Minute + 2*time.Millisecond},
	} {
		synctest.Test(t, func(t *testing.T) {
			d := newDaemon(t, 3)
			device := d.device(t, Options{})
			d.set(func() {
				d.reply = func(_ string, reply any) {
					if r, ok := reply.(*pb.CheckInResponse); ok {
						r.Plan, r.Committed, r.RetryAfterMs, r.Reason = nil, nil, c.ms, "not now"
					}
				}
				d.cohort = 1
			})
			stop := run(t, device)
			time.Sleep(c.least / 2)
			synctest.Wait()
			if s, err := device.Status(); err != nil || c.ms > 0 && !strings.Contains(s.Waiting, ": not now") || s.LastError != "" {
				t.Errorf("told %d ms: status %+v, %v: want why it waits", c.ms, s, err)
			}
			time.Sleep(10*c.most + time.Second)
			stop()
			if s, err := device.Status(); err != nil || s.Waiting != "" {
				t.Errorf("told %d ms: stopped, it waits for %q, %v", c.ms, s.Waiting, err)
			}
			if n, m := len(d.when("Tasks")), len(d.when("CheckIn")); n < m {
				t.Errorf("told %d ms: %d calls of Tasks for %d check-ins: a device that is not chosen gets no newer checkpoint", c.ms, n, m)
			}
			times := d.when("CheckIn")
			if len(times) < 5 {
				t.Fatalf("told %d ms: %d check-ins", c.ms, len(times))
			}
			for i := range times[1:] {
				if gap := times[i+1].Sub(times[i]); gap < c.least || gap > c.most {
					t.Fatalf("told %d ms: came back after %v, want %v to %v", c.ms, gap, c.least, c.most)
				}
			}
		})
	}
}

// TestCoordinatorRestarts cuts every connection again and again while three devices
// run a round, and holds that it succeeds without touching a device.
func TestCoordinatorRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDaemon(t, 3)
		var mu sync.Mutex
		cut := make(map[string]bool)
		d.set(func() {
			d.reply = func(method string, _ any) {
				mu.Lock()
				first := !cut[method]
				cut[method] = true
				mu.Unlock()
				if first && method != "Enrol" { // the reply is lost with the connection
					d.restart()
				}
			}
		})
		var devices []*Client
		for i := range 3 {
			c := d.device(t, Options{})
			learn(t, c, phrases(i))
			devices = append(devices, c)
		}
		for _, c := range devices {
			defer run(t, c)()
		}
		time.Sleep(time.Hour)
		for i, c := range devices {
			if s, err := c.Status(); err != nil || s.RoundsCounted != 1 || s.Round != 1 {
				t.Errorf("device %d: %+v, %v", i, s, err)
			}
		}
		for _, method := range []string{"Tasks", "CheckIn", "GetCheckpoint", "GetLogProof", "Advertise", "Share", "Submit", "Confirm", "Reveal"} {
			if !cut[method] {
				t.Errorf("no connection was cut in %s", method)
			}
		}
	})
}

// TestForgettingLeavesTheAttempt forgets chats while a check-in is held: no update that
// may hold them is made.
func TestForgettingLeavesTheAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDaemon(t, 3)
		c := openClient(t, t.TempDir(), d, Options{})
		if err := c.Enrol(t.Context(), testHost+":7443", d.token()); err != nil {
			t.Fatal(err)
		}
		learn(t, c, phrases(0))
		done := make(chan error, 1)
		go func() {
			_, err := c.Participate(t.Context())
			done <- err
		}()
		synctest.Wait()
		if n, err := c.ForgetAll(); err != nil || n == 0 {
			t.Fatalf("%d chats forgotten, %v", n, err)
		}
		if err := <-done; !errors.Is(err, errForgotten) {
			t.Errorf("got %v, want errForgotten", err)
		}
	})
}

// TestConsent switches participation off while a check-in is held.
func TestConsent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDaemon(t, 3)
		dir := t.TempDir()
		c := openClient(t, dir, d, Options{})
		if err := c.Enrol(t.Context(), testHost+":7443", d.token()); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() {
			_, err := c.Participate(t.Context())
			done <- err
		}()
		synctest.Wait()
		if _, err := c.Participate(t.Context()); !errors.Is(err, ErrBusy) {
			t.Errorf("a second call: %v", err)
		}
		if err := c.SetParticipation(false); err != nil {
			t.Fatal(err)
		}
		if err := <-done; !errors.Is(err, ErrDeclined) {
			t.Errorf("got %v, want ErrDeclined", err)
		}
		c.Close()
		c = openClient(t, dir, d, Options{})
		if s, err := c.Status(); s.Participation || s.LastError != "" || err != nil {
			t.Errorf("the choice was not kept, or as an error: %+v, %v", s, err)
		}
		before := len(d.when("CheckIn"))
		stop := run(t, c)
		time.Sleep(time.Hour)
		if n := len(d.when("CheckIn")); n != before {
			t.Errorf("%d check-ins while switched off", n-before)
		}
		if s, _ := c.Status(); s.Checkpoint == "" {
			t.Error("a device that does not take part got no checkpoint")
		}
		if err := c.SetParticipation(true); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if n := len(d.when("CheckIn")); n != before+1 {
			t.Errorf("%d check-ins after switching on, want 1 at once", n-before)
		}
		stop()
	})
}

// TestClose ends a held check-in and a running Run.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDaemon(t, 3)
		c := d.device(t, Options{})
		done := make(chan error, 1)
		go func() { done <- c.Run(context.Background()) }()
		time.Sleep(time.Minute)
		began := time.Now()
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if err := <-done; !errors.Is(err, ErrClosed) {
			t.Errorf("Run ended with %v", err)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("closing took %v", took)
		}
		if err := c.Close(); err != nil {
			t.Errorf("closing again: %v", err)
		}
		for name, call := range map[string]func() error{
			"Participate": func() error { _, err := c.Participate(t.Context()); return err },
			"Run":         func() error { return c.Run(t.Context()) },
			"Enrol":       func() error { return c.Enrol(t.Context(), testHost+":7443", d.token()) },
			"Learn":       func() error { return c.Learn(Chat{Text: "hi", Intent: "hello"}) },
			"Status":      func() error { _, err := c.Status(); return err },
		} {
			if err := call(); err == nil || !strings.Contains(err.Error(), "closed") {
				t.Errorf("%s after Close: %v", name, err)
			}
		}
	})
}

// TestRunWaitsForEnrolment starts Run first.
func TestRunWaitsForEnrolment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDaemon(t, 3)
		c := openClient(t, t.TempDir(), d, Options{})
		stop := run(t, c)
		time.Sleep(time.Minute)
		if err := c.Enrol(t.Context(), testHost+":7443", d.token()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if n := len(d.when("CheckIn")); n != 1 {
			t.Errorf("%d check-ins after enrolling, want 1 at once", n)
		}
		stop()
	})
}
