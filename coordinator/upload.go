package coordinator

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/discreet-fl/discreet/coordinator/round"
	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/secagg"
)

// chunkSize is the length of every chunk of a masked vector but the last.
const chunkSize = pb.SubmitChunkBytes

// longestChunk is how long a chunk may take where others wait for the memory: 32 seconds on
// a line of 8 KiB a second, and some. In a short step it is a third of that.
const longestChunk = 40 * time.Second

// budget bounds the memory that incomplete vectors take, over all tasks.
type budget struct {
	limit int64
	used  atomic.Int64
}

// take reserves n bytes or returns false.
func (b *budget) take(n int) bool {
	if b.used.Add(int64(n)) > b.limit {
		b.used.Add(-int64(n))
		return false
	}
	return true
}

func (b *budget) give(n int) { b.used.Add(-int64(n)) }

// upload is one device's masked vector on its way in. Its task's goroutine owns it.
type upload struct {
	sum     [sha256.Size]byte // of the whole vector, as its sender says
	buffer  []byte
	got     []bool // by chunk
	missing int
	latest  time.Time // when a chunk came that was missing, or its sender came back; at first, when it began
}

func newUpload(now time.Time, sum []byte, size int) *upload {
	chunks := chunksOf(size)
	return &upload{sum: [sha256.Size]byte(sum), buffer: make([]byte, size), got: make([]bool, chunks), missing: chunks, latest: now}
}

// chunksOf is the number of chunks that a vector of that many bytes comes in.
func chunksOf(size int) int { return (size + chunkSize - 1) / chunkSize }

// checkChunk refuses a chunk that is no part of a vector of that many bytes.
func checkChunk(request *pb.SubmitRequest, size int) error {
	chunks, index, n := chunksOf(size), request.GetIndex(), len(request.GetData())
	if len(request.GetSha256()) != sha256.Size {
		return status.Errorf(codes.InvalidArgument, "a hash of %d bytes, want %d", len(request.GetSha256()), sha256.Size)
	}
	if request.GetChunks() != uint32(chunks) || index >= uint32(chunks) {
		return status.Errorf(codes.InvalidArgument, "chunk %d of %d, want 0 to %d of %d: by the plan a vector has %d bytes",
			index, request.GetChunks(), chunks-1, chunks, size)
	}
	if want := min(size-int(index)*chunkSize, chunkSize); n != want {
		return status.Errorf(codes.InvalidArgument, "chunk %d has %d bytes, want %d: by the plan a vector has %d bytes", index, n, want, size)
	}
	return nil
}

// put keeps a chunk that checkChunk has passed; a repeated one counts once. It
// returns true when it was the last one missing.
func (u *upload) put(now time.Time, index uint32, data []byte) (complete bool) {
	if u.got[index] {
		return false
	}
	copy(u.buffer[int(index)*chunkSize:], data)
	u.got[index] = true
	u.missing--
	u.latest = now
	return u.missing == 0
}

// lacks says for its sender which chunks have not come.
func (u *upload) lacks() string {
	if u.missing == 0 { // the hash was still being computed
		return "its last chunk came too late"
	}
	first := 0
	for u.got[first] {
		first++
	}
	return fmt.Sprintf("%d of %d chunks are missing, the first of them %d", u.missing, len(u.got), first)
}

// chunk is the event of one piece of a masked vector. Its call is answered at once
// unless the piece is the last, or completes the vector, which is then hashed
// outside this goroutine and comes back to add. A piece that is no part of the vector
// that its sender began costs the sender its place: it holds one buffer at most.
func (t *task) chunk(now time.Time, c *stepCall, request *pb.SubmitRequest) {
	r, err := t.admit(c.from, request.GetStep())
	if err != nil {
		c.done <- reply{err: err}
		return
	}
	if err := checkChunk(request, r.size); err != nil {
		t.expel(now, r, c, fmt.Errorf("round: %w: %s", round.ErrMalformed, status.Convert(err).Message()))
		return
	}
	sum, added := r.added[c.from]
	u := r.uploads[c.from]
	if !added && u == nil {
		if r.dropped[c.from] && request.GetIndex() > 0 {
			t.sendOff(now, r, c)
			return
		}
		if u, err = t.openUpload(now, r, c.from, request.GetSha256()); err != nil {
			c.done <- reply{err: err}
			return
		}
	}
	if !added {
		sum = u.sum
	}
	switch {
	case !bytes.Equal(sum[:], request.GetSha256()):
		t.expel(now, r, c, fmt.Errorf("round: the vector's hash %w; only the same bytes may be sent again", round.ErrDiffers))
	case added:
		if err := r.round.Repeats(now, c.from, round.Submit); err != nil {
			c.done <- reply{err: t.refuse(round.Submit, err)}
			return
		}
		t.acknowledge(r, c, request)
	case u.put(now, request.GetIndex(), request.GetData()):
		go func() {
			match := sha256.Sum256(u.buffer) == u.sum
			if !t.mail.post(func(now time.Time) { t.add(now, c, request, u, match) }) {
				c.done <- reply{err: errStopping}
			}
		}()
	default:
		t.acknowledge(r, c, request)
	}
}

// expel refuses a piece of a vector, and its sender for the rest of the attempt. By the
// time that the sender hears of it, the memory of what it sent is free.
func (t *task) expel(now time.Time, r *attempt, c *stepCall, err error) {
	refused := t.refuse(round.Submit, err)
	r.answer(round.Submit, c.from, reply{err: refused})
	t.apply(now, r, r.round.Expel(now, c.from, round.Submit, err))
	if r.aborted == "" {
		t.sweepUploads(r)
	}
	c.done <- reply{err: refused}
}

// errGaveWay is told to a device whose vector was dropped.
var errGaveWay = fmt.Errorf("round: %w: this device's vector gave way to others while memory was short; check in for the next attempt", round.ErrOut)

// sendOff tells a device that goes on with a vector that was dropped, and waits for it no
// more. That is no fault of the device's, which may begin the vector again.
func (t *task) sendOff(now time.Time, r *attempt, c *stepCall) {
	err := r.round.Admit(c.from, round.Submit)
	if err == nil {
		err = errGaveWay
	}
	c.done <- reply{err: t.refuse(round.Submit, err)}
	t.apply(now, r, r.round.GiveUp(now, c.from))
}

// openUpload reserves the memory for a vector. Where all is taken, those whose connection
// ended, and who are not waited for, do not keep others out, nor do those from whom no further chunk has come for a while; they lose
// what they have sent. Those of other tasks have gone when the device calls again.
func (t *task) openUpload(now time.Time, r *attempt, from secagg.ID, sum []byte) (*upload, error) {
	if err := r.round.Admit(from, round.Submit); err != nil {
		return nil, t.refuse(round.Submit, err)
	}
	if !t.memory.take(r.size) {
		t.dropStalled(now)
		if !t.memory.take(r.size) {
			for _, other := range t.all() {
				if other != t {
					other.makeRoom()
				}
			}
			return nil, status.Errorf(codes.ResourceExhausted, "the coordinator's memory for vectors, %d bytes, is taken; send this chunk again in a moment", t.memory.limit)
		}
	}
	u := newUpload(now, sum, r.size)
	r.uploads[from] = u
	delete(r.dropped, from)
	return u, nil
}

// dropStalled gives up the vectors that take memory for nothing.
func (t *task) dropStalled(now time.Time) {
	for _, r := range t.open {
		stalls := min(milliseconds(uint64(r.plan.GetStepMs()))/3, longestChunk)
		for id, u := range r.uploads {
			idle := !now.Before(u.latest.Add(stalls)) || r.round.Left(id)
			if idle && u.missing > 0 { // else it is being hashed
				t.memory.give(len(u.buffer))
				delete(r.uploads, id)
				r.dropped[id] = true
				r.answer(round.Submit, id, reply{err: t.refuse(round.Submit, errGaveWay)})
			}
		}
	}
}

// makeRoom has a task drop what has stalled, for another that has no memory left. It may be
// called from any goroutine.
func (t *task) makeRoom() {
	if t.crowded.CompareAndSwap(false, true) { // one such event waits at a time
		t.mail.post(func(now time.Time) {
			t.crowded.Store(false)
			t.dropStalled(now)
		})
	}
}

// sweepUploads gives up the vectors that will not be in a sum any more, and answers
// their devices.
func (t *task) sweepUploads(r *attempt) {
	for id, u := range r.uploads {
		err := r.round.Admit(id, round.Submit)
		if err == nil {
			continue
		}
		if errors.Is(err, round.ErrLate) {
			err = fmt.Errorf("round: %v: %w without this device: %s", round.Submit, round.ErrLate, u.lacks())
		}
		r.answer(round.Submit, id, reply{err: t.refuse(round.Submit, err)})
		t.memory.give(len(u.buffer))
		delete(r.uploads, id)
	}
}

// dropUploads forgets incomplete vectors and returns their bytes.
func (r *attempt) dropUploads() (freed int) {
	for _, u := range r.uploads {
		freed += len(u.buffer)
	}
	clear(r.uploads)
	return freed
}

// acknowledge answers a chunk, or holds its call where it is the last.
func (t *task) acknowledge(r *attempt, c *stepCall, request *pb.SubmitRequest) {
	if request.GetIndex() != request.GetChunks()-1 {
		c.done <- reply{}
		return
	}
	if survivors := r.round.Reply(c.from, round.Submit); survivors != nil {
		c.done <- reply{payload: survivors}
		return
	}
	r.hold(round.Submit, c)
}

// add is the event of a vector that is complete and was hashed; match says whether
// the hash is the one its sender named.
func (t *task) add(now time.Time, c *stepCall, request *pb.SubmitRequest, u *upload, match bool) {
	r, err := t.admit(c.from, request.GetStep())
	if err != nil {
		c.done <- reply{err: err}
		return
	}
	if r.uploads[c.from] != u { // the step has closed meanwhile, and its memory was given back
		c.done <- reply{err: t.refuse(round.Submit, fmt.Errorf("round: submit: %w without this device; check in for the next attempt", round.ErrLate))}
		return
	}
	if !match {
		t.expel(now, r, c, fmt.Errorf("round: %w: the vector's hash is not the one named with its chunks", round.ErrMalformed))
		return
	}
	effects, err := r.round.ReceiveVector(now, c.from, u.buffer, u.sum)
	t.memory.give(len(u.buffer))
	delete(r.uploads, c.from)
	last := request.GetIndex() == request.GetChunks()-1
	switch {
	case err != nil:
		err = t.refuse(round.Submit, err)
		c.done <- reply{err: err}
		r.answer(round.Submit, c.from, reply{err: err})
	case last && r.held[round.Submit][c.from] != nil:
		r.added[c.from] = u.sum
		c.done <- reply{err: errReplaced} // its device has called again while the vector was hashed
	default:
		r.added[c.from] = u.sum
		t.acknowledge(r, c, request)
	}
	t.apply(now, r, effects)
}
