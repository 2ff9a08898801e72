package client

import (
	"context"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// backoff is exponential with full jitter: the n-th wait is uniform between 0 and
// base·2^n, bounded by limit, so that many devices that lost the same coordinator
// do not return together.
type backoff struct {
	base, limit time.Duration
	failures    int
}

// next returns how long to wait after one more failure.
func (b *backoff) next() time.Duration {
	most := b.limit
	if b.failures < 30 && b.base<<b.failures < b.limit {
		most = b.base << b.failures
	}
	b.failures++
	return rand.N(most) + time.Millisecond
}

// reset is called after a success.
func (b *backoff) reset() { b.failures = 0 }

// passing tells errors that a repeated call may not meet again: a lost connection
// and a coordinator that is out of memory for the moment.
func passing(err error) bool {
	code := status.Code(err)
	return code == codes.Unavailable || code == codes.ResourceExhausted
}

// persist makes a call again with the same request for as long as it fails with a
// passing error and the context lives. interrupted is told of each such error.
func persist[Request, Reply any](ctx context.Context, call func(context.Context, Request) (Reply, error), request Request, interrupted func(error)) (Reply, error) {
	wait := backoff{base: 50 * time.Millisecond, limit: time.Second}
	for {
		reply, err := call(ctx, request)
		if err == nil || ctx.Err() != nil || !passing(err) {
			return reply, err
		}
		interrupted(err)
		if sleep(ctx, wait.next()) != nil {
			return reply, err
		}
	}
}

// sleep waits, or returns the context's error.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// jitter is uniform between 0 and most.
func jitter(most time.Duration) time.Duration { return rand.N(most + 1) }
