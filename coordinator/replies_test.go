package coordinator

import (
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/stats"
	"google.golang.org/protobuf/proto"

	"github.com/discreet-fl/discreet/coordinator/ca"
	"github.com/discreet-fl/discreet/coordinator/round"
	"github.com/discreet-fl/discreet/coordinator/store"
	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/proto/rpc"
)

// raw is HTTP/2 by hand, for what no client of gRPC does.
type raw struct {
	net.Conn
	stream uint32 // of the latest call
}

const (
	frameData, frameHeaders, frameReset, frameSettings, framePing, frameWindow = 0, 1, 3, 4, 6, 8

	flagEnd, flagAck, flagHeaders = 1, 1, 4
)

func frame(kind, flags byte, stream uint32, payload []byte) []byte {
	b := []byte{byte(len(payload) >> 16), byte(len(payload) >> 8), byte(len(payload)), kind, flags}
	return append(binary.BigEndian.AppendUint32(b, stream), payload...)
}

// speak begins HTTP/2 over a connection with some frames.
func speak(conn *tls.Conn, frames ...[]byte) (*raw, error) {
	r := &raw{Conn: conn}
	return r, r.send(append([][]byte{[]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")}, frames...)...)
}

func (r *raw) send(frames ...[]byte) error {
	_, err := r.Write(slices.Concat(frames...))
	return err
}

// fetch is a call for the first chunk of a checkpoint.
func (r *raw) fetch(sum []byte) [][]byte {
	var head []byte
	for _, field := range [][2]string{
		{":method", "POST"}, {":scheme", "https"}, {":authority", "localhost"}, {":path", rpc.CheckpointService_GetCheckpoint_FullMethodName},
		{"content-type", "application/grpc"}, {"te", "trailers"},
	} {
		for i, part := range field {
			if i == 0 {
				head = append(head, 0) // a literal that is not indexed
			}
			head = append(append(head, byte(len(part))), part...)
		}
	}
	message, err := proto.Marshal(&pb.GetCheckpointRequest{Sha256: sum})
	if err != nil {
		panic(err)
	}
	body := append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...)
	r.stream += 2
	return [][]byte{frame(frameHeaders, flagHeaders, r.stream-1, head), frame(frameData, flagEnd, r.stream-1, body)}
}

// answerPings reads, and answers nothing but pings and settings, until the connection ends.
func (r *raw) answerPings() (data int) {
	for {
		head := make([]byte, 9)
		if _, err := io.ReadFull(r, head); err != nil {
			return data
		}
		payload := make([]byte, int(head[0])<<16|int(head[1])<<8|int(head[2]))
		if _, err := io.ReadFull(r, payload); err != nil {
			return data
		}
		switch kind, flags := head[3], head[4]; {
		case kind == frameData:
			data += len(payload)
		case kind == frameSettings && flags&flagAck == 0:
			r.send(frame(frameSettings, flagAck, 0, nil))
		case kind == framePing && flags&flagAck == 0:
			r.send(frame(framePing, flagAck, 0, payload))
		}
	}
}

// unread is the memory of unread replies, in bytes.
func (w *world) unread(t testing.TB) int {
	n, err := strconv.ParseFloat(w.metric(t, "discreet_reply_bytes"), 64)
	if err != nil {
		t.Fatal(err)
	}
	return int(n)
}

// TestUnreadRepliesAreBounded has a device ask for more than it lets the coordinator send. It
// holds a mebibyte of its memory for some minutes, though it answers every ping, and another
// of its connections is served.
func TestUnreadRepliesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, t.TempDir(), Options{})
		w.create(t, spec(3, 3))
		d := w.join(t)
		sum := w.task("desk").view.Load().sum[:]
		r, err := speak(shake(t, w.call(t, "203.0.113.7"), d.config), frame(frameSettings, 0, 0, nil))
		if err != nil {
			t.Fatal(err)
		}
		start, ended, data := time.Now(), make(chan time.Time, 1), 0
		go func() {
			data = r.answerPings()
			ended <- time.Now()
		}()
		for range 2 * maxCalls {
			if err := r.send(r.fetch(sum)...); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if n := w.unread(t); n < mostUnread/2 || n > mostUnread {
			t.Errorf("%d bytes of unread replies are held, want up to %d", n, mostUnread)
		}
		d.checkpointOf(sum)
		select {
		case at := <-ended:
			if took, want := at.Sub(start), replyTime+store.ChunkSize/replyPace*time.Second; took < replyTime || took > want+2*time.Second {
				t.Errorf("the connection was closed after %v, want %v", took, want)
			}
		case <-time.After(time.Hour):
			t.Fatal("the connection stood for an hour")
		}
		if data != 1<<16-1 {
			t.Errorf("%d bytes came, want the window's", data)
		}
		synctest.Wait()
		if n := w.unread(t); n != 0 {
			t.Errorf("%d bytes of unread replies are held without a connection", n)
		}
		if got := w.metric(t, `discreet_connections_refused_total{reason="unread"}`); got != "1" || !strings.Contains(w.log.String(), "reason=unread device="+short(d.id)) {
			t.Errorf("%s refusals counted, want 1, and a record of the device", got)
		}
	})
}

// TestCallsTakenBack has a device take each call back, so that it may make more, without
// reading a byte: gRPC listens to it no more when too many of them wait for its writer, and
// their replies are counted as long as they do.
func TestCallsTakenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, t.TempDir(), Options{})
		w.create(t, spec(3, 3))
		d := w.join(t)
		sum := w.task("desk").view.Load().sum[:]
		window := binary.BigEndian.AppendUint32(nil, 1<<30)
		r, err := speak(shake(t, w.call(t, "203.0.113.7"), d.config), frame(frameSettings, 0, 0, append([]byte{0, 4}, window...)), frame(frameWindow, 0, 0, window))
		if err != nil {
			t.Fatal(err)
		}
		const most = 50_000 // calls; the connection has room for some 5,000 that are not listened to
		start, calls, held := time.Now(), 0, 0
		for ; calls < most; calls++ {
			if err := r.send(r.fetch(sum)...); err != nil {
				break
			}
			if calls < 100 {
				synctest.Wait() // its reply is on the way
				held = max(held, w.unread(t))
			}
			if err := r.send(frame(frameReset, 0, r.stream-1, []byte{0, 0, 0, 8})); err != nil {
				break
			}
		}
		if took := time.Since(start); calls == most || took > 31*time.Second {
			t.Errorf("%d calls were taken in %v, want fewer, and the connection closed in half a minute", calls, took)
		}
		if held < mostUnread/2 || held > mostUnread {
			t.Errorf("%d bytes of unread replies were held, want up to %d", held, mostUnread)
		}
		synctest.Wait()
		if n := w.unread(t); n != 0 {
			t.Errorf("%d bytes of unread replies are held without a connection", n)
		}
	})
}

// TestRepliesTakeTheirSize: what is counted is what is held.
func TestRepliesTakeTheirSize(t *testing.T) {
	reply := &pb.GetCheckpointResponse{Data: make([]byte, store.ChunkSize)}
	p := &parcel{reply, &count{bytes: int64(proto.Size(reply)), conn: &connection{unread: unread{all: new(atomic.Int64)}}}}
	defer p.count.conn.end()
	raw, err := newCodec().Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	if got := new(pb.GetCheckpointResponse); proto.Unmarshal(raw.Materialize(), got) != nil || !proto.Equal(got, reply) {
		t.Error("the reply is not what was sent")
	}
	if n := cap(raw[0].ReadOnlyData()); int64(n) != p.count.bytes {
		t.Errorf("a reply of %d bytes takes %d", p.count.bytes, n)
	}
	left := weak.Make(reply)
	reply, p = nil, nil
	if runtime.GC(); left.Value() != nil {
		t.Error("the message is held beside what it was encoded to")
	}
	runtime.KeepAlive(raw)
}

// TestCountedRepliesAreReclaimed: the memory of a roster serves the next one, though it was counted.
func TestCountedRepliesAreReclaimed(t *testing.T) {
	c := connections{new(Coordinator)}
	c.metrics = newMetrics(c.Coordinator)
	for range 100 { // the pool may lose what it is given, under the race detector on purpose
		c.HandleRPC(t.Context(), &stats.OutPayload{Payload: &parcel{message: &pb.AdvertiseResponse{Roster: []byte("roster")}}})
		if c.replies.take(round.Advertise) != nil {
			return
		}
	}
	t.Error("no memory comes back")
}

// closings counts how often a connection is closed.
type closings struct {
	silentFrom
	n int
}

func (c *closings) Close() error {
	c.n++
	return nil
}

// underway is a reply on its way to a connection, as gRPC has it.
func underway(t *testing.T, conn *connection, from *guest) mem.BufferSlice {
	t.Helper()
	reply := &pb.GetCheckpointResponse{Data: make([]byte, store.ChunkSize)}
	p := &parcel{reply, &count{bytes: int64(proto.Size(reply)), conn: conn, from: from}}
	if !conn.take(p.count.bytes) {
		t.Fatal("no room for one reply")
	}
	raw, err := newCodec().Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// TestRepliesThatAreNotGivenBack has gRPC keep a reply, lose one, and end its connection with
// one: only the first was not read in its time.
func TestRepliesThatAreNotGivenBack(t *testing.T) {
	for name, tc := range map[string]struct {
		do           func(*connection, *mem.BufferSlice)
		closed, held int
	}{
		"kept":              {func(*connection, *mem.BufferSlice) {}, 1, store.ChunkSize},
		"read":              {func(_ *connection, raw *mem.BufferSlice) { raw.Free() }, 0, 0},
		"lost":              {func(_ *connection, raw *mem.BufferSlice) { *raw = nil }, 0, 0},
		"of an end":         {func(c *connection, _ *mem.BufferSlice) { c.end() }, 0, 0},
		"read after an end": {func(c *connection, raw *mem.BufferSlice) { c.end(); raw.Free() }, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conn, g := &closings{silentFrom: silentFrom{addr: &net.TCPAddr{IP: net.ParseIP("203.0.113.7")}}}, gateOf(1, 1)
				from := g.admit(conn)
				from.known.Store(true)
				all := new(atomic.Int64)
				c := &connection{unread: unread{all: all}}
				raw := underway(t, c, from)
				tc.do(c, &raw)
				runtime.GC()
				<-time.After(time.Hour)
				synctest.Wait()
				if conn.n != tc.closed {
					t.Errorf("its connection was closed %d times, want %d", conn.n, tc.closed)
				}
				if n := int(all.Load()); n < tc.held || n > tc.held+64 {
					t.Errorf("%d bytes of replies are counted, want %d", n, tc.held)
				}
				runtime.KeepAlive(raw)
			})
		})
	}
}

// TestOperatorThatDoesNotRead: the record of it says whose connection was closed.
func TestOperatorThatDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, t.TempDir(), Options{})
		w.create(t, spec(3, 3))
		config, err := ca.LoadOperator(w.OperatorCredential())
		if err != nil {
			t.Fatal(err)
		}
		r, err := speak(shake(t, w.call(t, "203.0.113.7"), config), frame(frameSettings, 0, 0, nil))
		if err != nil {
			t.Fatal(err)
		}
		if err := r.send(r.fetch(w.task("desk").view.Load().sum[:])...); err != nil {
			t.Fatal(err)
		}
		r.answerPings()
		synctest.Wait()
		if want := "reason=unread address=203.0.113.7/32 role=operator refused=1"; !strings.Contains(w.log.String(), want) {
			t.Errorf("the log is\n%s\nwant %q in it", w.log, want)
		}
	})
}
