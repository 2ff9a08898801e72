package coordinator

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc/stats"

	"github.com/discreet-fl/discreet/coordinator/ca"
	"github.com/discreet-fl/discreet/secagg"
)

// presence knows which devices have a connection. A connection belongs to a device
// from its first authenticated call on.
type presence struct {
	mu    sync.Mutex
	count map[secagg.ID]int // connections
}

func newPresence() *presence { return &presence{count: make(map[secagg.ID]int)} }

func (p *presence) connected(id secagg.ID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count[id] > 0
}

// change counts connections and tells whether the device came or left with it.
func (p *presence) change(id secagg.ID, by int) (turned bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := p.count[id]
	if p.count[id] += by; p.count[id] == 0 {
		delete(p.count, id)
	}
	return before == 0 || before+by == 0
}

// connection is one transport connection and who is at its other end.
type connection struct {
	mu     sync.Mutex
	peer   ca.Peer
	known  bool // peer was verified
	ended  bool
	unread unread
}

type connectionKey struct{}

// connectionOf returns the connection of a call.
func connectionOf(ctx context.Context) *connection {
	c, _ := ctx.Value(connectionKey{}).(*connection)
	return c
}

// connections is the server's view of transport connections: it tells the tasks
// when a device loses its last one, and counts bytes.
type connections struct{ *Coordinator }

var _ stats.Handler = connections{}

func (c connections) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context {
	return context.WithValue(ctx, connectionKey{}, &connection{unread: unread{all: &c.unread}})
}

func (c connections) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

func (c connections) HandleRPC(_ context.Context, s stats.RPCStats) {
	switch s := s.(type) {
	case *stats.InPayload:
		c.metrics.bytes.WithLabelValues("in").Add(float64(s.WireLength))
	case *stats.OutPayload:
		c.metrics.bytes.WithLabelValues("out").Add(float64(s.WireLength))
		if p, ok := s.Payload.(*parcel); ok { // encoded by now, as all are
			c.replies.reclaim(p.message)
		} else {
			c.replies.reclaim(s.Payload)
		}
	}
}

func (c connections) HandleConn(ctx context.Context, s stats.ConnStats) {
	if _, ended := s.(*stats.ConnEnd); !ended {
		return
	}
	peer := connectionOf(ctx).end()
	if peer.Role == ca.Device && c.presence.change(peer.ID, -1) {
		for _, t := range c.all() {
			t.mail.post(func(now time.Time) { t.moved(now, peer.ID) })
		}
	}
}

// learn notes who is at the other end of a connection.
func (c *Coordinator) learn(conn *connection, peer ca.Peer) {
	conn.mu.Lock()
	first := !conn.known && !conn.ended
	if first {
		conn.peer, conn.known = peer, true
	}
	conn.mu.Unlock()
	if first && peer.Role == ca.Device && c.presence.change(peer.ID, 1) {
		for _, t := range c.all() {
			t.mail.post(func(now time.Time) { t.moved(now, peer.ID) })
		}
	}
}
