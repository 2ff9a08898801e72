package coordinator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	pb "github.com/discreet-fl/discreet/proto"
)

// atSubmit brings n devices to the step Submit, which three at least have to answer.
func atSubmit(t *testing.T, n int, o Options) (*world, []*walk) {
	t.Helper()
	w, devices := fleet(t, n, spec(uint32(n), 3), o)
	walks := gather(t, devices...)
	each(t, n, func(i int) error { return walks[i].steps(t.Context(), 2) })
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
		w, walks := atSubmit(t, 3, Options{})
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
		each(t, 3, func(i int) error {
			if err := walks[i].agree(t.Context()); err != nil {
				return err
			}
			return walks[i].finish(t.Context())
		})
	})
}

func TestChunksOfOtherVectorsAreRefused(t *testing.T) {
	const size = 2*chunkSize + 100
	packed := make([]byte, size)
	k := new(walk)
	k.cut(packed)
	for i, c := range k.chunks {
		if err := checkChunk(c, size); err != nil {
			t.Errorf("chunk %d: %v", i, err)
		}
	}
	for name, change := range map[string]func(*pb.SubmitRequest){
		"too many chunks": func(r *pb.SubmitRequest) { r.Chunks++ },
		"too few chunks":  func(r *pb.SubmitRequest) { r.Chunks-- },
		"index too high":  func(r *pb.SubmitRequest) { r.Index = 3 },
		"short chunk":     func(r *pb.SubmitRequest) { r.Data = r.Data[1:] },
		"long chunk":      func(r *pb.SubmitRequest) { r.Data = append(r.Data, 0) },
		"short last":      func(r *pb.SubmitRequest) { r.Index = 2; r.Data = k.chunks[2].Data[1:] },
		"no data":         func(r *pb.SubmitRequest) { r.Data = nil },
		"short hash":      func(r *pb.SubmitRequest) { r.Sha256 = r.Sha256[1:] },
	} {
		request := proto.CloneOf(k.chunks[0])
		change(request)
		wants(t, name, checkChunk(request, size), codes.InvalidArgument, "want")
	}
}

// A vector that is not what its sender said costs its sender its place, and nobody else
// anything.
func TestBadVectorCostsItsSenderItsPlace(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(chunks []*pb.SubmitRequest)
		code   codes.Code
		want   string
	}{
		"chunk of no such vector": {func(c []*pb.SubmitRequest) { c[1].Chunks++ }, codes.InvalidArgument, "by the plan a vector has"},
		"bytes of another vector": {func(c []*pb.SubmitRequest) { c[1].Data = bytes.Repeat([]byte{1}, len(c[1].Data)) }, codes.InvalidArgument, "hash is not the one named"},
		"two vectors":             {func(c []*pb.SubmitRequest) { c[1].Sha256 = bytes.Repeat([]byte{9}, 32) }, codes.Aborted, "differs"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, devices := fleet(t, 4, spec(4, 3), Options{})
				walks := gather(t, devices...)
				each(t, 4, func(i int) error { return walks[i].steps(t.Context(), 2) })
				liar, honest := walks[3], proto.CloneOf(walks[3].chunks[0])
				tc.change(liar.chunks)
				start := time.Now()
				each(t, 4, func(i int) error {
					if i == 3 {
						wants(t, "the liar", liar.submit(t.Context()), tc.code, tc.want)
						if used := w.memory.used.Load(); used > 3*int64(w.task("desk").open[0].size) {
							t.Errorf("%d bytes in flight", used)
						}
						_, err := liar.brief(honest)
						if status.Code(err) != codes.FailedPrecondition {
							t.Errorf("after it: %v, want it refused", err)
						}
						return nil
					}
					if err := walks[i].submit(t.Context()); err != nil {
						return err
					}
					return errors.Join(walks[i].agree(t.Context()), walks[i].finish(t.Context()))
				})
				if took := time.Since(start); took > time.Second {
					t.Errorf("the others waited %v for it", took)
				}
				if used := w.memory.used.Load(); used != 0 || w.log.count("protocol broken") != 1 || !strings.Contains(w.log.String(), "device="+short(liar.id)) {
					t.Errorf("%d bytes in flight, want 0; and the log names the liar once", used)
				}
			})
		})
	}
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
			wants(t, "held last chunk", err, codes.FailedPrecondition, "step has closed", "1 of 3 chunks are missing, the first of them 1")
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
		_, walks := atSubmit(t, 4, Options{MemoryBytes: 1_000_000, Grace: time.Second}) // one vector and a half
		if _, err := walks[0].brief(walks[0].chunks[0]); err != nil {
			t.Fatal(err)
		}
		_, err := walks[1].brief(walks[1].chunks[0])
		wants(t, "the second vector", err, codes.ResourceExhausted, "1000000 bytes", "again in a moment")
		// One that lost its connection gives its place to others when the grace is over.
		walks[0].leave()
		synctest.Wait()
		_, err = walks[1].brief(walks[1].chunks[0])
		wants(t, "when the first has just left", err, codes.ResourceExhausted)
		<-time.After(time.Second)
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

// TestStalledVectorsGiveWay has a device begin a vector, keep its connection and send no
// more: it holds up the others for a moment only, not until the step is over.
func TestStalledVectorsGiveWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, walks := atSubmit(t, 3, Options{MemoryBytes: 1_000_000}) // one vector and a half
		if _, err := walks[0].brief(walks[0].chunks[0]); err != nil {
			t.Fatal(err)
		}
		const enough = 8 * time.Second / 3 // a third of the step's 8
		<-time.After(enough - 100*time.Millisecond)
		if _, err := walks[0].brief(walks[0].chunks[1]); err != nil { // it is slow, but it comes
			t.Fatal(err)
		}
		<-time.After(enough - 100*time.Millisecond)
		_, err := walks[1].brief(walks[1].chunks[0])
		wants(t, "while the first goes on", err, codes.ResourceExhausted)
		if _, err := walks[0].brief(walks[0].chunks[1]); err != nil { // again: it brings nothing
			t.Fatal(err)
		}
		<-time.After(100 * time.Millisecond)
		if _, err := walks[1].brief(walks[1].chunks[0]); err != nil {
			t.Errorf("once the first has stalled: %v", err)
		}
		if used, size := w.memory.used.Load(), int64(w.task(walks[0].at.GetTask()).open[0].size); used != size {
			t.Errorf("%d bytes in flight, want one vector, %d", used, size)
		}
	})
}

// TestSendersOfDroppedVectorsAreTold: whose vector gave way hears of it with the next chunk,
// without blame, and nobody waits for it; it may begin again.
func TestSendersOfDroppedVectorsAreTold(t *testing.T) {
	for _, again := range []bool{false, true} {
		t.Run(fmt.Sprintf("again=%v", again), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, walks := atSubmit(t, 4, Options{MemoryBytes: 1_000_000}) // one vector and a half
				whole := func(i int) {
					last := len(walks[i].chunks) - 1
					for _, c := range walks[i].chunks[:last] {
						if _, err := walks[i].brief(c); err != nil {
							t.Fatal(err)
						}
					}
					go walks[i].rounds.Submit(t.Context(), walks[i].chunks[last]) // held
					synctest.Wait()
				}
				slow := walks[3]
				if _, err := slow.brief(slow.chunks[0]); err != nil {
					t.Fatal(err)
				}
				<-time.After(8 * time.Second / 3) // a third of the step's 8
				whole(0)
				_, err := slow.brief(slow.chunks[1])
				wants(t, "the next chunk", err, codes.FailedPrecondition, "gave way", "check in")
				answered := 3
				if again {
					whole(3)
					answered = 4
				}
				whole(1)
				if w.log.count("submit closed") != 0 {
					t.Error("Submit has closed without the last vector")
				}
				whole(2)
				if w.log.count("submit closed") != 1 || !strings.Contains(w.log.String(), fmt.Sprintf("answered=%d expected=4", answered)) {
					t.Error("Submit waits for a vector that was dropped")
				}
				if w.log.count("protocol broken") != 0 || w.memory.used.Load() != 0 {
					t.Errorf("a device is blamed for what gave way, or %d bytes are in flight, want 0", w.memory.used.Load())
				}
			})
		})
	}
}

// TestVectorsOfAnotherTaskGiveWay is the same for the devices of two tasks, which share the
// memory: those that have stalled, or left, keep out nobody's.
func TestVectorsOfAnotherTaskGiveWay(t *testing.T) {
	for _, left := range []bool{false, true} {
		t.Run(fmt.Sprintf("left=%v", left), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, walks := atSubmit(t, 4, Options{MemoryBytes: 1_000_000, Grace: time.Second}) // one vector and a half
				front := spec(3, 3)
				front.Name = "front"
				w.create(t, front)
				others := make([]*walk, 3)
				each(t, 3, func(i int) error {
					d := w.join(t)
					reply, err := d.rounds.CheckIn(t.Context(), d.anywhere("front"))
					if err != nil {
						return err
					}
					if others[i], err = d.walk(reply); err != nil {
						return err
					}
					return others[i].steps(t.Context(), 2)
				})
				if _, err := walks[0].brief(walks[0].chunks[0]); err != nil {
					t.Fatal(err)
				}
				k := others[0]
				for range 2 {
					_, err := k.brief(k.chunks[0])
					wants(t, "while the first goes on", err, codes.ResourceExhausted)
				}
				if left {
					walks[0].leave()
					<-time.After(time.Second)
				} else {
					<-time.After(8 * time.Second / 3)
				}
				synctest.Wait()
				_, err := k.brief(k.chunks[0])
				wants(t, "at first", err, codes.ResourceExhausted, "again in a moment")
				synctest.Wait()
				if _, err := k.brief(k.chunks[0]); err != nil {
					t.Errorf("a moment later: %v", err)
				}
				if used, size := w.memory.used.Load(), int64(w.task("front").open[0].size); used != size {
					t.Errorf("%d bytes in flight, want one vector, %d", used, size)
				}
			})
		})
	}
}

func TestMemoryReturnsWithAnAbort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, walks := atSubmit(t, 3, Options{})
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
		w, walks := atSubmit(t, 3, Options{})
		k := walks[0]
		last := len(k.chunks) - 1
		for _, c := range k.chunks[:last] {
			if _, err := k.brief(c); err != nil {
				t.Fatal(err)
			}
		}
		task := w.task(k.at.GetTask())
		task.mail.post(func(time.Time) { task.open[0].uploads[k.id].put(time.Now(), uint32(last), k.chunks[last].GetData()) })
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
		w, walks := atSubmit(t, 3, Options{})
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
			u := task.open[0].uploads[k.id]
			u.put(time.Now(), uint32(last), k.chunks[last].GetData())
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
