package coordinator

import (
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/discreet-fl/discreet/coordinator/round"
	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/secagg"
)

// longestRead bounds how long a reply may be on its way before it is taken for read: a
// quarter of the time that a step has, so that the others have theirs in time.
const longestRead = 10 * time.Second

// outbox bounds the memory of an attempt's replies. When a step closes for thousands of
// devices their replies are built one by one, as there is room for them: each takes its
// place until its device calls again, loses its connection or is silent for too long,
// for until then its bytes may be waiting for a slow line. The task's goroutine owns it.
type outbox struct {
	limit   int64
	bytes   int64
	read    time.Duration        // may take so long
	waiting []round.Reply        // to be built, in order
	unread  map[secagg.ID]letter // one for each device at most
	sent    []letter             // in order; some were read
}

// letter is a reply on its way.
type letter struct {
	to    secagg.ID
	bytes int64
	at    time.Time
}

func newOutbox(limit int64, step time.Duration) outbox {
	return outbox{limit: limit, read: min(step/4, longestRead), unread: make(map[secagg.ID]letter)}
}

// put notes a reply that is to be sent.
func (o *outbox) put(r round.Reply) { o.waiting = append(o.waiting, r) }

// next takes out the reply that is to be built now, if there is room for one.
func (o *outbox) next() (r round.Reply, ok bool) {
	if len(o.waiting) == 0 || o.bytes >= o.limit {
		return r, false
	}
	r, o.waiting = o.waiting[0], o.waiting[1:]
	return r, true
}

// send notes that a reply of so many bytes was handed over.
func (o *outbox) send(now time.Time, to secagg.ID, bytes int) {
	o.forget(to)
	l := letter{to, int64(bytes), now}
	o.unread[to] = l
	o.sent = append(o.sent, l)
	o.bytes += l.bytes
}

// forget notes that a device has what it was sent, or will not read it any more.
func (o *outbox) forget(id secagg.ID) {
	o.bytes -= o.unread[id].bytes
	delete(o.unread, id)
}

// expire takes old replies for read.
func (o *outbox) expire(now time.Time) {
	for len(o.sent) > 0 && !now.Before(o.sent[0].at.Add(o.read)) {
		if l := o.sent[0]; o.unread[l.to] == l {
			o.forget(l.to)
		}
		o.sent = o.sent[1:]
	}
}

// due is when expire may make room for a reply that waits, zero where none does.
func (o *outbox) due() time.Time {
	if len(o.waiting) == 0 || len(o.sent) == 0 {
		return time.Time{}
	}
	return o.sent[0].at.Add(o.read)
}

// replyMemory is the memory of rosters and inboxes that gRPC has encoded, for the next ones:
// hundreds of kilobytes that are new take as long as writing them. What does not come back, as
// a call has ended, is garbage like all else.
type replyMemory struct{ pool sync.Pool } // of *[]byte

// take returns memory for the reply of a step, nil where that is not built anew.
func (m *replyMemory) take(step round.Step) []byte {
	if step > round.Share {
		return nil
	}
	if b, ok := m.pool.Get().(*[]byte); ok {
		return *b
	}
	return nil
}

// reclaim takes back what a response holds that was encoded, and is not read any more.
func (m *replyMemory) reclaim(response any) {
	var payload *[]byte
	switch r := response.(type) {
	case *pb.AdvertiseResponse:
		payload = &r.Roster
	case *pb.ShareResponse:
		payload = &r.Inbox
	default: // survivors and a quorum are kept, and the same for all
		return
	}
	b := *payload
	*payload = nil
	m.pool.Put(&b)
}

// sendReplies sends what there is room for. A reply is built for a call that waits for it; a
// device whose call has ended asks again.
func (t *task) sendReplies(now time.Time, r *attempt) {
	r.outbox.expire(now)
	for e, ok := r.outbox.next(); ok; e, ok = r.outbox.next() {
		if r.held[e.Step][e.To] == nil {
			continue
		}
		payload := e.Payload(t.replies.take(e.Step))
		if payload == nil {
			r.answer(e.Step, e.To, reply{err: status.Errorf(codes.FailedPrecondition, "%v: the attempt went on before this device had its reply; check in for the next", e.Step)})
			continue
		}
		r.answer(e.Step, e.To, reply{payload: payload})
		r.outbox.send(now, e.To, len(payload))
	}
}
