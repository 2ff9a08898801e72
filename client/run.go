package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	firstWait = time.Second
	mostWait  = 5 * time.Minute

	// refreshTime is how often a device that does not take part asks for a newer
	// checkpoint.
	refreshTime = 15 * time.Minute
)

// Run takes part in one round after another until ctx ends or the client is
// closed, and returns the reason. Every other trouble is waited out: after a failure
// it waits with exponential back-off and full jitter, at most five minutes; after an
// attempt that ended without this device, at most a second. While the device is not
// enrolled, participation is switched off, or its privacy budget is spent, it waits for
// that to change; in the latter cases it still fetches newer checkpoints.
func (c *Client) Run(ctx context.Context) error {
	ctx, leave, err := c.enter(ctx)
	if err != nil {
		return fmt.Errorf("client: %w", err)
	}
	defer leave()
	wait := backoff{base: firstWait, limit: mostWait}
	for {
		changed := c.watch()
		result, err := c.Participate(ctx)
		if ctx.Err() != nil || errors.Is(err, ErrClosed) {
			return cmp.Or(context.Cause(ctx), ErrClosed)
		}
		pause := time.Duration(0)
		switch {
		case err == nil:
			wait.reset()
			c.log.Info("round counted", "task", result.Task, "round", result.Round, "attempt", result.Attempt)
		case errors.Is(err, ErrDeclined), errors.Is(err, ErrNotEnrolled), errors.Is(err, ErrSpent):
			wait.reset()
			pause = refreshTime
		case errors.Is(err, ErrAttemptEnded):
			wait.reset()
			pause = wait.next()
		default:
			pause = wait.next()
		}
		if err != nil {
			c.log.Info("not taking part", "again_in", pause, "error", err)
		}
		if !c.pause(ctx, changed, pause) {
			return context.Cause(ctx)
		}
	}
}

// watch returns a channel that is closed when Run should look again.
func (c *Client) watch() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changed
}

// pause waits until the time is over or something changed; false when ctx ended.
func (c *Client) pause(ctx context.Context, changed <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-changed:
		return true
	case <-ctx.Done():
		return false
	}
}
