package coordinator

import (
	"sync"
	"time"
)

// event is something that a task's goroutine is to do.
type event func(now time.Time)

// mailbox hands events to the goroutine that owns a task. To post never blocks, so
// that what tells of lost connections cannot be held up; the queue is bounded by the
// calls that are running, each of which posts a few events.
type mailbox struct {
	mu     sync.Mutex
	queue  []event
	closed bool
	wake   chan struct{} // takes one
}

func newMailbox() *mailbox { return &mailbox{wake: make(chan struct{}, 1)} }

// post queues an event, or returns false when the owner has stopped.
func (m *mailbox) post(e event) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return false
	}
	m.queue = append(m.queue, e)
	select {
	case m.wake <- struct{}{}:
	default: // woken already
	}
	return true
}

// take returns what was posted, in order.
func (m *mailbox) take() []event {
	m.mu.Lock()
	defer m.mu.Unlock()
	queue := m.queue
	m.queue = nil
	return queue
}

// close lets no more events in and returns the last ones.
func (m *mailbox) close() []event {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	return m.take()
}
