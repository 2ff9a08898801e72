package coordinator

import (
	"bytes"
	"context"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	pb "github.com/discreet-fl/discreet/proto"
)

// atSubmit brings three devices to the step Submit.
func atSubmit(t *testing.T, o Options) (*world, []*walk) {
	t.Helper()
	w, devices := fleet(t, 3, spec(3, 3), o)
	walks := gather(t, devices...)
	each(t, 3, func(i int) error { return walks[i].steps(t.Context(), 2) })
	if len(walks[0].chunks) < 3 {
		t.Fatalf("a vector of %d chunks, the test wants 3 or more", len(walks[0].chunks))
	}
	return w, walks
}

// brief makes a call that is given up after a second.
func (k *walk) brief(request *pb.SubmitRequest) ([]byte, error) {
	ctx, cancel := context.WithTimeout(k.t.Context(), time.Second)
	defer cancel()
	reply, err := k.rounds.Submit(ctx, request)
	return reply.GetSurvivors(), err
}

func TestChunksComeInAnyOrderAndAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, walks := atSubmit(t, Options{})
		k := walks[0]
		last := len(k.chunks) - 1
		done := make(chan error, 1)
		go func() { // the last chunk first: it is held
			reply, err := k.rounds.Submit(t.Context(), k.chunks[last])
			if err == nil {
				err = k.survive(reply.GetSurvivors())
			}
			done <- err
		}()
		synctest.Wait()
		for i := last - 1; i >= 0; i-- {
			for range 2 {
				if survivors, err := k.brief(k.chunks[i]); err != nil || survivors != nil {
					t.Errorf("chunk %d: %x, %v; want it acknowledged at once", i, survivors, err)
				}
			}
		}
		synctest.Wait()
		if used := w.memory.used.Load(); used != 0 {
			t.Errorf("%d bytes in flight with one vector in the sum, want 0", used)
		}
		each(t, 2, func(i int) error { return walks[i+1].submit(t.Context()) })
		if err := <-done; err != nil {
			t.Error(err)
		}
		each(t, 3, func(i int) error { return walks[i].finish(t.Context()) })
	})
}

func TestBadChunksAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, walks := atSubmit(t, Options{})
		k := walks[0]
		n := uint32(len(k.chunks))
		for name, change := range map[string]func(*pb.SubmitRequest){
			"too many chunks": func(r *pb.SubmitRequest) { r.Chunks++ },
			"too few chunks":  func(r *pb.SubmitRequest) { r.Chunks-- },
			"index too high":  func(r *pb.SubmitRequest) { r.Index = n },
			"short chunk":     func(r *pb.SubmitRequest) { r.Data = r.Data[1:] },
			"long chunk":      func(r *pb.SubmitRequest) { r.Data = append(r.Data, 0) },
			"short last":      func(r *pb.SubmitRequest) { r.Index = n - 1; r.Data = k.chunks[n-1].Data[1:] },
			"no data":         func(r *pb.SubmitRequest) { r.Data = nil },
			"short hash":      func(r *pb.SubmitRequest) { r.Sha256 = r.Sha256[1:] },
		} {
			request := proto.CloneOf(k.chunks[0])
			change(request)
			_, err := k.brief(request)
			wants(t, name, err, codes.InvalidArgument, "want")
		}
		if used := w.memory.used.Load(); used != 0 {
			t.Errorf("refused chunks hold %d bytes", used)
		}
		// A vector whose bytes are not those of its hash is refused, and can be sent again.
		spoilt := proto.CloneOf(k.chunks[0])
		spoilt.Data = bytes.Repeat([]byte{1}, len(spoilt.Data))
		for i, c := range append([]*pb.SubmitRequest{spoilt}, k.chunks[1:]...) {
			_, err := k.brief(c)
			if uint32(i) == n-1 {
				wants(t, "wrong hash", err, codes.InvalidArgument, "hash", "send all of it again")
			} else if err != nil {
				t.Errorf("chunk %d: %v", i, err)
			}
		}
		// Another vector than the one begun is refused while that one is there.
		if _, err := k.brief(k.chunks[0]); err != nil {
			t.Error(err)
		}
		other := proto.CloneOf(k.chunks[1])
		other.Sha256 = bytes.Repeat([]byte{9}, 32)
		_, err := k.brief(other)
		wants(t, "other hash", err, codes.Aborted, "differs")
		each(t, 3, func(i int) error {
			if err := walks[i].submit(t.Context()); err != nil {
				return err
			}
			return walks[i].finish(t.Context())
		})
	})
}

func TestMissingChunksAreNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := spec(5, 3)
		w, devices := fleet(t, 5, s, Options{})
		walks := gather(t, devices...)
		each(t, 5, func(i int) error { return walks[i].steps(t.Context(), 2) })
		each(t, 5, func(i int) error {
			k := walks[i]
			if i < 4 {
				return k.submit(t.Context())
			}
			k.chunks = append(k.chunks[:1:1], k.chunks[2:]...)
			err := k.submit(t.Context())
			wants(t, "held last chunk", err, codes.FailedPrecondition, "submit has closed", "1 of 3 chunks are missing, the first of them 1")
			return nil
		})
		if used := w.memory.used.Load(); used != 0 {
			t.Errorf("%d bytes in flight after the step, want 0", used)
		}
		_, err := walks[4].brief(walks[4].chunks[0])
		wants(t, "a chunk after the step", err, codes.FailedPrecondition, "has closed")
	})
}

func TestMemoryInFlightIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, walks := atSubmit(t, Options{MemoryBytes: 1_000_000}) // one vector and a half
		if _, err := walks[0].brief(walks[0].chunks[0]); err != nil {
			t.Fatal(err)
		}
		_, err := walks[1].brief(walks[1].chunks[0])
		wants(t, "the second vector", err, codes.ResourceExhausted, "1000000 bytes", "again in a moment")
		// One that lost its connection gives its place to others.
		walks[0].leave()
		synctest.Wait()
		if _, err := walks[1].brief(walks[1].chunks[0]); err != nil {
			t.Errorf("after the first left: %v", err)
		}
		// What is complete takes no place.
		for _, c := range walks[1].chunks[1 : len(walks[1].chunks)-1] {
			if _, err := walks[1].brief(c); err != nil {
				t.Error(err)
			}
		}
		_, err = walks[1].brief(walks[1].chunks[len(walks[1].chunks)-1])
		wants(t, "held last chunk", err, codes.DeadlineExceeded)
		if _, err := walks[2].brief(walks[2].chunks[0]); err != nil {
			t.Errorf("after the second was complete: %v", err)
		}
	})
}

func TestMemoryReturnsWithAnAbort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, walks := atSubmit(t, Options{})
		for _, k := range walks {
			if _, err := k.brief(k.chunks[0]); err != nil {
				t.Fatal(err)
			}
		}
		if used := w.memory.used.Load(); used == 0 {
			t.Error("no memory in flight")
		}
		<-time.After(time.Minute)
		if used := w.memory.used.Load(); used != 0 || w.log.count("attempt aborted") != 1 {
			t.Errorf("%d bytes in flight after the abort, want 0", used)
		}
		// Nobody was told to reveal, so the round is tried again.
		if at := gather(t, walks[0].device, walks[1].device, walks[2].device)[0].at; at.GetRound() != 1 || at.GetAttempt() != 2 {
			t.Errorf("round %d attempt %d after an abort in submit, want round 1 attempt 2", at.GetRound(), at.GetAttempt())
		}
	})
}

// TestStepClosesWhileAVectorIsHashed closes Submit in the moment between a vector's
// last chunk and its hash, which is computed beside the task's goroutine.
func TestStepClosesWhileAVectorIsHashed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, walks := atSubmit(t, Options{})
		k := walks[0]
		last := len(k.chunks) - 1
		for _, c := range k.chunks[:last] {
			if _, err := k.brief(c); err != nil {
				t.Fatal(err)
			}
		}
		task := w.task(k.at.GetTask())
		task.mail.post(func(time.Time) { task.running.uploads[k.id].put(uint32(last), k.chunks[last].GetData()) })
		<-time.After(time.Minute)
		if used := w.memory.used.Load(); used != 0 || w.log.count("attempt aborted") != 1 {
			t.Errorf("%d bytes in flight after the step, want 0 and an abort", used)
		}
	})
}

// TestCallRepeatedWhileAVectorIsHashed lets a device send its last chunk again, over
// a new connection, before the vector it completed is in the sum: the newer call is
// the one that waits.
func TestCallRepeatedWhileAVectorIsHashed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, walks := atSubmit(t, Options{})
		k := walks[0]
		last := len(k.chunks) - 1
		for _, c := range k.chunks[:last] {
			if _, err := k.brief(c); err != nil {
				t.Fatal(err)
			}
		}
		task := w.task(k.at.GetTask())
		older := &stepCall{from: k.id, done: make(chan reply, 1)}
		newer := &stepCall{from: k.id, done: make(chan reply, 1)}
		task.mail.post(func(now time.Time) {
			u := task.running.uploads[k.id]
			u.put(uint32(last), k.chunks[last].GetData())
			task.chunk(now, newer, k.chunks[last])
			task.add(now, older, k.chunks[last], u, true)
		})
		wants(t, "the older call", (<-older.done).err, codes.Aborted, "newer call")
		each(t, 2, func(i int) error { return walks[i+1].submit(t.Context()) })
		if a := <-newer.done; a.err != nil || len(a.payload) == 0 {
			t.Errorf("the newer call: %d bytes, %v", len(a.payload), a.err)
		}
	})
}
