package coordinator

import (
	"context"
	"sync/atomic"
	"time"
	"weak"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	grpcproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/discreet-fl/discreet/coordinator/ca"
)

// gRPC takes a reply from its handler at once and keeps it until the peer has granted the
// window to send it, which a peer may never do, while it goes on answering pings; those of
// some fifty calls that were taken back wait, too, where the peer does not read at all. So the
// replies of a connection are counted until they are written to it, and it is closed when
// one of them is not within replyTime, and a second for each replyPace bytes of it: a device
// waits no longer, and the slowest lines are as fast.
const (
	// mostUnread bounds what a connection has unread, where that is more than one reply.
	mostUnread = 1 << 20
	replyTime  = 3 * time.Minute
	replyPace  = 6 << 10
)

// unread is the memory of replies that wait to be written, of a connection or of all.
type unread struct {
	of   int64               // guarded by the connection's mutex, as late is
	late map[*count]struct{} // the encoded ones, each of which has its time to be read
	all  *atomic.Int64       // of all connections
}

// take counts a reply of so many bytes against the connection, where there is room for it.
func (c *connection) take(n int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended || c.unread.of > 0 && c.unread.of+n > mostUnread {
		return false
	}
	c.unread.of += n
	c.unread.all.Add(n)
	return true
}

// wait gives an encoded reply its time to be read.
func (c *connection) wait(r *count) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return
	}
	if c.unread.late == nil {
		c.unread.late = make(map[*count]struct{})
	}
	c.unread.late[r] = struct{}{}
	r.late = time.AfterFunc(replyTime+time.Duration(r.bytes)*time.Second/replyPace, r.overdue)
}

// give ends the count of a reply: it was written, or will not be.
func (c *connection) give(r *count) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended || r.given {
		return
	}
	if r.given = true; r.late != nil {
		r.late.Stop()
	}
	delete(c.unread.late, r)
	c.unread.of -= r.bytes
	c.unread.all.Add(-r.bytes)
}

// end notes that the connection has ended, and with it what it had not read, and returns who
// was at its other end. gRPC lets go of most of these replies without giving them back.
func (c *connection) end() ca.Peer {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	for r := range c.unread.late {
		r.late.Stop() // which would keep the connection
	}
	c.unread.late = nil
	c.unread.all.Add(-c.unread.of)
	return c.peer
}

// parcel is a reply that is counted, until it is encoded.
type parcel struct {
	message proto.Message
	count   *count
}

// count is that of one encoded reply. It is the pool to which gRPC gives the reply's memory
// back when it is written, or when its call or connection has ended. A reply that comes to
// gRPC's queue behind the end of its call, which its peer took back at that moment, is not
// given back, but is garbage: the end of the call does not tell which they are, as it comes
// before any reply is written.
type count struct {
	bytes int64
	conn  *connection
	from  *guest
	held  weak.Pointer[[]byte] // the memory

	// Guarded by the connection's mutex.
	late  *time.Timer
	given bool
}

// Get returns memory of that length; nobody asks for it.
func (c *count) Get(length int) *[]byte {
	b := make([]byte, length)
	return &b
}

// Put takes the reply's memory back.
func (c *count) Put(*[]byte) { c.conn.give(c) }

// overdue closes the connection of a reply that has had its time to be read, unless gRPC has
// lost the reply: the garbage collector, which comes every two minutes, has taken it then.
func (c *count) overdue() {
	if c.held.Value() == nil {
		c.conn.give(c)
		return
	}
	c.from.neglect()
}

// send counts a reply against the connection of its call, or refuses it where too much of
// earlier ones is unread. What is as small as a call's own bookkeeping is not counted.
func (c *Coordinator) send(ctx context.Context, reply any) (any, error) {
	m, ok := reply.(proto.Message)
	if !ok {
		return reply, nil
	}
	n := proto.Size(m)
	if mem.IsBelowBufferPoolingThreshold(n) {
		return reply, nil
	}
	remote, _ := peer.FromContext(ctx)
	p := &parcel{m, &count{bytes: int64(n), conn: connectionOf(ctx), from: remote.AuthInfo.(guestInfo).guest}}
	if !p.count.conn.take(p.count.bytes) {
		return nil, status.Errorf(codes.ResourceExhausted, "replies of up to %d bytes wait on this connection to be read; read them, or connect anew, and call again", mostUnread)
	}
	return p, nil
}

// codec encodes messages as gRPC does, and counted replies into memory of just their size;
// gRPC's own pool has none between 32 KiB and 1 MiB.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2(grpcproto.Name)} }

// Marshal encodes a message.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	p, ok := v.(*parcel)
	if !ok {
		return c.CodecV2.Marshal(v)
	}
	raw, err := proto.MarshalOptions{UseCachedSize: true}.MarshalAppend(make([]byte, 0, p.count.bytes), p.message)
	if err != nil {
		p.count.Put(nil)
		return nil, err
	}
	p.count.held = weak.Make(&raw)
	p.count.conn.wait(p.count)
	return mem.BufferSlice{mem.NewBuffer(&raw, p.count)}, nil
}
