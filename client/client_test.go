package client

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/discreet-fl/discreet/checkpointlog"
	"github.com/discreet-fl/discreet/model"
	pb "github.com/discreet-fl/discreet/proto"
)

// phrases are what the devices of a test learn: distinct words an intent.
func phrases(device int) []Chat {
	var chats []Chat
	for i, words := range [][]string{{"parcel", "tracking", "courier"}, {"refund", "return", "money"}, {"morning", "greetings", "hey"}} {
		for _, word := range words {
			chats = append(chats, Chat{Text: fmt.Sprintf("%s %s please", word, words[device%3]), Intent: rigLabels[i], Conversation: fmt.Sprint("person ", i)})
		}
	}
	return chats
}

func learn(t *testing.T, c *Client, chats []Chat) {
	t.Helper()
	for _, chat := range chats {
		if err := c.Learn(chat); err != nil {
			t.Fatal(err)
		}
	}
}

// TestOneRoundEndToEnd enrols three devices, lets them learn, and runs a round over
// gRPC and TLS with real training: the new checkpoint is on every device and knows
// better.
func TestOneRoundEndToEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDaemon(t, 3)
		var devices []*Client
		for i := range 3 {
			c := d.device(t, Options{})
			learn(t, c, phrases(i))
			devices = append(devices, c)
		}
		var group sync.WaitGroup
		for _, c := range devices {
			group.Go(func() {
				if _, err := c.Participate(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		before := model.NewClassifier(d.rig.model).Probabilities(model.LatestTokeniser.Featurise("tracking my parcel"))[0]
		for i, c := range devices {
			answer, err := c.Classify("tracking my parcel", 2)
			guesses := answer.Intents
			if err != nil || len(guesses) != 2 || guesses[0].Intent != rigLabels[0] || guesses[0].Confidence <= before {
				t.Errorf("device %d guesses %v, %v; want %q above %v", i, guesses, err, rigLabels[0], before)
			}
			s, err := c.Status()
			if err != nil || !s.Enrolled || s.Round != 1 || s.RoundsCounted != 1 || s.Chats != 9 || s.Task != "shop" || s.Intents != 3 ||
				!s.Participation || s.LastError != "" || s.Coordinator != testHost+":7443" || len(s.Device) != 32 || len(s.Checkpoint) != 64 {
				t.Errorf("device %d: status %+v, %v", i, s, err)
			}
		}
	})
}

// TestFolderHoldsNoText looks for learned words in every file, before and after a
// round, and opens the folder again.
func TestFolderHoldsNoText(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDaemon(t, 3)
		dir := t.TempDir()
		c := openClient(t, dir, d, Options{})
		learn(t, c, []Chat{{Text: "the zyxwvutsrqponmlk is late", Intent: rigLabels[0], Conversation: "qwertzuiopasdfgh"}})
		if err := c.Enrol(t.Context(), testHost+":7443", d.token()); err != nil {
			t.Fatal(err)
		}
		filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			data, err := os.ReadFile(path)
			for _, word := range []string{"zyxwvutsrqponmlk", "qwertzuiopasdfgh"} {
				if bytes.Contains(bytes.ToLower(data), []byte(word)) {
					t.Errorf("%s holds %s", path, word)
				}
			}
			return err
		})
		before, err := c.Status()
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		c = openClient(t, dir, d, Options{})
		after, err := c.Status()
		if err != nil || before != after || !after.Enrolled || after.Chats != 1 {
			t.Errorf("before closing %+v, after opening %+v, %v", before, after, err)
		}
		if n, err := c.Forget("qwertzuiopasdfgh"); n != 1 || err != nil {
			t.Errorf("forgot %d, %v", n, err)
		}
		if n, err := c.ForgetAll(); n != 0 || err != nil {
			t.Errorf("then forgot %d, %v", n, err)
		}
		if s, err := c.Status(); err != nil || !s.Enrolled {
			t.Errorf("forgetting lost the enrolment: %+v, %v", s, err)
		}
	})
}

func TestLearnAndClassifyRefuse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDaemon(t, 3)
		c := d.device(t, Options{})
		if _, err := c.Classify("hello", 1); !errors.Is(err, ErrNoModel) {
			t.Errorf("without a checkpoint: %v", err)
		}
		if _, err := c.Explain("hello"); !errors.Is(err, ErrNoModel) {
			t.Errorf("explaining without a checkpoint: %v", err)
		}
		learn(t, c, []Chat{{Text: "hello", Intent: "any, as none is known"}})
		l, err := c.connection()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.update(t.Context(), l); err != nil {
			t.Fatal(err)
		}
		for _, bad := range []struct {
			name string
			chat Chat
			err  error
			want string
		}{
			{"empty", Chat{Text: " \n", Intent: "hello"}, ErrText, "empty"},
			{"long", Chat{Text: strings.Repeat("x", model.MaxTextBytes+1), Intent: "hello"}, ErrText, "want at most 4096"},
			{"not UTF-8", Chat{Text: "\xff", Intent: "hello"}, ErrText, "UTF-8"},
			{"no intent", Chat{Text: "hi"}, ErrUnknownIntent, "unknown intent: none is named; name the one"},
			{"unknown intent", Chat{Text: "hi", Intent: "Where isit"}, ErrUnknownIntent, `the nearest is "where is it"; one that was added a moment ago comes with the next checkpoint`},
			{"long conversation", Chat{Text: "hi", Intent: "hello", Conversation: strings.Repeat("x", 257)}, nil, "257 bytes"},
		} {
			err := c.Learn(bad.chat)
			if err == nil || bad.err != nil && !errors.Is(err, bad.err) || !strings.Contains(err.Error(), bad.want) {
				t.Errorf("%s: got %v, want %v with %q", bad.name, err, bad.err, bad.want)
			}
		}
		if err := c.Learn(Chat{Text: "hi", Intent: "x"}); err == nil || !strings.HasPrefix(err.Error(), "unknown intent: ") {
			t.Errorf("one chat: %v, want an error without a count", err)
		}
		if err := c.Learn(Chat{Text: "hi", Intent: rigLabels[0]}, Chat{Text: "hi"}); err == nil || !strings.HasPrefix(err.Error(), "chat 2 of 2, of which none is kept: unknown intent: ") {
			t.Errorf("two chats, the last without an intent: %v", err)
		}
		if _, err := c.Classify("", 1); !errors.Is(err, ErrText) {
			t.Errorf("empty text: %v", err)
		}
		if _, err := c.Explain(" "); !errors.Is(err, ErrText) {
			t.Errorf("explaining an empty text: %v", err)
		}
		if _, err := c.Classify("hello", 0); err == nil {
			t.Error("no intents asked for: no error")
		}
		if answer, err := c.Classify(strings.Repeat("hello ", 10_000), 99); err != nil || len(answer.Intents) != 3 || answer.Model != Shared {
			t.Errorf("a long text: %v, %v", answer, err)
		}
		if s, err := c.Status(); err != nil || s.Chats != 1 {
			t.Errorf("%+v, %v: refused chats were kept", s, err)
		}
		// The chat whose intent the task does not have is no example.
		if examples, err := c.examples(&d.rig.model.Manifest); err != nil || len(examples) != 0 {
			t.Errorf("%d examples, %v", len(examples), err)
		}
	})
}

// TestUnknownTexts holds a text's score to the checkpoint's threshold; the next-best
// guesses come with either answer.
func TestUnknownTexts(t *testing.T) {
	r := newRig(t, 3, nil)
	score := model.NewClassifier(r.model).Top(model.LatestTokeniser.Featurise("hello"), 1)[0].Score
	for threshold, want := range map[float32]bool{score - 1: false, score: false, score + 1: true} {
		c := *r.model
		c.Manifest.Calibration = &model.Calibration{Slope: 1, Threshold: &threshold}
		if a := ClassifyWith(model.NewClassifier(&c), "hello", 2); a.Unknown != want || len(a.Intents) != 2 || a.Intents[0].Confidence < a.Intents[1].Confidence {
			t.Errorf("a score of %v with a threshold of %v gives %+v", score, threshold, a)
		}
		if e := ExplainWith(model.NewClassifier(&c), "hello"); e.Unknown != want {
			t.Errorf("a score of %v with a threshold of %v is explained as %+v", score, threshold, e)
		}
	}
}

func TestClassifyConcurrently(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newDaemon(t, 3).device(t, Options{})
		l, err := c.connection()
		if err == nil {
			_, err = c.update(t.Context(), l)
		}
		if err != nil {
			t.Fatal(err)
		}
		want, err := c.Classify("where is my parcel", 3)
		if err != nil {
			t.Fatal(err)
		}
		var group sync.WaitGroup
		for range 8 {
			group.Go(func() {
				for range 20 {
					if got, err := c.Classify("where is my parcel", 3); err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
						t.Errorf("got %v, %v, want %v", got, err, want)
					}
				}
			})
		}
		group.Wait()
	})
}

// TestReceiptOutsideTheLog has a coordinator name a checkpoint in its receipt that is
// not in its log. The device was counted, and does not take that checkpoint up.
func TestReceiptOutsideTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDaemon(t, 3)
		other, err := model.NewCheckpoint("shop", "small", 1, rigLabels, d.rig.model.Manifest.Layout.Init(9))
		if err != nil {
			t.Fatal(err)
		}
		file := other.Encode()
		sum := sha256.Sum256(file)
		d.rig.files[sum] = file
		d.set(func() {
			d.reply = func(_ string, reply any) {
				if r, ok := reply.(*pb.RevealResponse); ok {
					r.CheckpointSha256, r.CheckpointBytes = sum[:], uint64(len(file))
				}
			}
		})
		var group sync.WaitGroup
		for range 3 {
			c := d.device(t, Options{})
			group.Go(func() {
				if _, err := c.Participate(t.Context()); err != nil {
					t.Error(err)
				}
				if s, err := c.Status(); err != nil || s.Checkpoint == fmt.Sprintf("%x", sum) || s.RoundsCounted != 1 {
					t.Errorf("%+v, %v: want a round counted and the checkpoint before", s, err)
				}
			})
		}
		group.Wait()
	})
}

// TestCheckpointOfAnotherPlace has a log name a checkpoint that says that it is another
// task's, or that it has been through rounds that are not for its place: fewer than the log has
// checkpoints before it, or more by another number than one that the device had before.
func TestCheckpointOfAnotherPlace(t *testing.T) {
	three := uint64(3)
	for _, c := range []struct {
		name   string
		task   string
		round  uint64
		before int     // checkpoints in the log
		offset *uint64 // of the checkpoints that the device had; nil where it has had none
		want   string  // in the error; empty where the checkpoint is taken up
	}{
		{"as it is", "shop", 0, 0, nil, ""},
		{"as the log began", "shop", 2, 2, new(uint64), ""},
		{"of a task that is older than its log", "shop", 3, 0, nil, ""},
		{"of such a task, later", "shop", 5, 2, &three, ""},
		{"after fewer rounds", "shop", 1, 2, nil, "through 1 rounds, and is entry 2 of its log, want as many at least"},
		{"after more rounds than its place has", "shop", 6, 2, &three, "through 6 rounds, and is entry 2 of its log, want 5"},
		{"after more rounds in a log from the first on", "shop", 3, 2, new(uint64), "through 3 rounds, and is entry 2 of its log, want 2"},
		{"of another task", "desk", 0, 0, nil, `belongs to task "desk", and stands in the log of "shop"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDaemon(t, 3)
				other, err := model.NewCheckpoint(c.task, "small", c.round, rigLabels, d.rig.model.Manifest.Layout.Init(9))
				if err != nil {
					t.Fatal(err)
				}
				file := other.Encode()
				sum := sha256.Sum256(file)
				d.rig.files[sum] = file
				d.log = &logServer{t: t, ca: d.rig.ca, key: testLog}
				for range c.before {
					d.log.commit("")
				}
				device := d.device(t, Options{})
				if c.offset != nil {
					head, err := checkpointlog.HeadOf(uint64(c.before), d.log.tree())
					if err != nil {
						t.Fatal(err)
					}
					if err := device.writeLog("shop", &knownLog{Size: head.Size, Root: head.Root[:], Index: head.Size - 1, Offset: c.offset}); err != nil {
						t.Fatal(err)
					}
				}
				d.log.add(file)
				plan := proto.CloneOf(d.rig.plan)
				plan.CheckpointSha256, plan.CheckpointBytes, plan.LogHead = sum[:], uint64(len(file)), d.log.note(uint64(len(d.log.entries)))
				d.rig.setPlan(plan)
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // for the cohort that does not fill
				defer cancel()
				_, err = device.Participate(ctx)
				if s, _ := device.Status(); (s.Checkpoint == fmt.Sprintf("%x", sum)) != (c.want == "") {
					t.Errorf("status %+v", s)
				}
				if known, err := device.readLog("shop"); err != nil || c.want == "" && (known.Offset == nil || *known.Offset != c.round-known.Index) {
					t.Errorf("the device knows %+v, %v", known, err)
				}
				if errors.Is(err, ErrLog) != (c.want != "") || !strings.Contains(err.Error(), c.want) {
					t.Errorf("got %v, want %v with %q", err, ErrLog, c.want)
				}
			})
		})
	}
}

// TestCheckpointIsResumed loses the connection in the middle of the file, closes
// the folder, and holds that no byte is asked for twice.
func TestCheckpointIsResumed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDaemon(t, 3)
		dir := t.TempDir()
		c := openClient(t, dir, d, Options{})
		if err := c.Enrol(t.Context(), testHost+":7443", d.token()); err != nil {
			t.Fatal(err)
		}
		var offsets []uint64
		fail := codes.NotFound // ends the call, as a lost coordinator does in the end
		d.set(func() {
			d.edit = func(method string, request any) error {
				if q, ok := request.(*pb.GetCheckpointRequest); ok {
					if len(offsets) == 3 && fail != codes.OK {
						return status.Error(fail, "lost")
					}
					offsets = append(offsets, q.Offset)
				}
				return nil
			}
		})
		update := func() error {
			l, err := c.connection()
			if err != nil {
				return err
			}
			_, err = c.update(t.Context(), l)
			return err
		}
		if err := update(); err == nil || !strings.Contains(err.Error(), "at 614400 of") {
			t.Fatalf("got %v", err)
		}
		c.Close()
		c = openClient(t, dir, d, Options{})
		fail = codes.OK
		if err := update(); err != nil {
			t.Fatal(err)
		}
		for i, offset := range offsets {
			if offset != uint64(i*200<<10) {
				t.Errorf("chunk %d was asked for at %d", i, offset)
			}
		}
		if _, err := c.Classify("hello", 1); err != nil {
			t.Error(err)
		}
	})
}

func TestCheckpointInUseIsReadOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDaemon(t, 3)
		c := d.device(t, Options{})
		l, err := c.connection()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.update(t.Context(), l); err != nil {
			t.Fatal(err)
		}
		m := c.model.Load()
		if err := c.store.KeepCheckpoints([32]byte{}); err != nil { // which takes its file away
			t.Fatal(err)
		}
		again, err := c.adopt(t.Context(), nil, m.checkpoint.Manifest.Task, m.sum, m.bytes)
		if err != nil || again != m {
			t.Errorf("adopting what is in use: %v, %v, want what there is", again, err)
		}
		if _, err := c.adopt(t.Context(), nil, "desk", m.sum, m.bytes); !errors.Is(err, ErrLog) {
			t.Errorf("adopting it for another task: %v, want %v", err, ErrLog)
		}
		file, err := OpenCheckpoint(d.rig.checkpoint)
		if opened := m.opened(); err != nil || opened.sum != file.sum || opened.bytes != file.bytes {
			t.Errorf("in use are %d bytes with SHA-256 %x, %v, want %d with %x", opened.bytes, opened.sum, err, file.bytes, file.sum)
		}
	})
}

func TestCheckpointRefused(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(q *pb.TasksResponse)
		data func(q *pb.GetCheckpointResponse)
		want string
	}{
		{"another file", nil, func(q *pb.GetCheckpointResponse) { q.Data[0] ^= 1 }, "damaged"},
		{"empty chunk", nil, func(q *pb.GetCheckpointResponse) { q.Data = nil }, "got 0 bytes"},
		{"another size", nil, func(q *pb.GetCheckpointResponse) { q.TotalBytes++ }, "want some of"},
		{"too much", nil, func(q *pb.GetCheckpointResponse) { q.Data = make([]byte, 2<<20) }, "more bytes"},
		{"huge", func(q *pb.TasksResponse) { q.Tasks[0].CheckpointBytes = 1 << 62 }, nil, "want 1 to"},
		{"short hash", func(q *pb.TasksResponse) { q.Tasks[0].CheckpointSha256 = []byte{1} }, nil, "hash of 1 bytes"},
		{"other major version", func(q *pb.TasksResponse) { q.Version.Major = 9 }, nil, fmt.Sprintf("9.%d", pb.Minor)},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDaemon(t, 3)
				device := d.device(t, Options{})
				d.set(func() {
					d.reply = func(_ string, reply any) {
						switch r := reply.(type) {
						case *pb.TasksResponse:
							if c.edit != nil {
								c.edit(r)
							}
						case *pb.GetCheckpointResponse:
							if c.data != nil {
								r.Data = bytes.Clone(r.Data)
								c.data(r)
							}
						}
					}
				})
				if _, err := device.Participate(t.Context()); err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("got %v, want %q", err, c.want)
				}
				if _, err := device.Classify("hello", 1); !errors.Is(err, ErrNoModel) {
					t.Errorf("it was adopted: %v", err)
				}
			})
		})
	}
}

// line is a coordinator at the other end of a slow line, which sends chunks of a size.
type line struct {
	Transport
	file  []byte
	chunk int
}

// lineRate is that of EDGE, in bytes a second, and lineDelay what it takes to there and back.
const (
	lineRate  = 8 << 10
	lineDelay = 800 * time.Millisecond
)

func (l line) GetCheckpoint(ctx context.Context, q *pb.GetCheckpointRequest) (*pb.GetCheckpointResponse, error) {
	data := l.file[q.GetOffset():]
	data = data[:min(len(data), l.chunk)]
	const overhead = 1.06 // of TLS, HTTP/2, TCP and IP
	select {
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	case <-time.After(lineDelay + time.Duration(overhead*float64(len(data))/lineRate*float64(time.Second))):
		return &pb.GetCheckpointResponse{Data: data, TotalBytes: uint64(len(l.file))}, nil
	}
}

// TestCheckpointOverASlowLine fetches as much as a base model of 150 intents takes, by the
// chunks of this coordinator, and by the largest that one may send.
func TestCheckpointOverASlowLine(t *testing.T) {
	for _, chunk := range []int{256 << 10, 1 << 20} {
		synctest.Test(t, func(t *testing.T) {
			device := newDaemon(t, 3).device(t, Options{})
			file := bytes.Repeat([]byte("abc"), 4_300_000/3)
			got, err := device.fetch(t.Context(), line{file: file, chunk: chunk}, sha256.Sum256(file), uint64(len(file)))
			if err != nil || !bytes.Equal(got, file) {
				t.Errorf("chunks of %d bytes: got %d bytes of %d and error %v", chunk, len(got), len(file), err)
			}
		})
	}
}

// trickle is a coordinator that hands a checkpoint out a byte at a time, each just before
// the wait for it would end.
type trickle struct {
	Transport
	size uint64
}

func (s trickle) GetCheckpoint(ctx context.Context, q *pb.GetCheckpointRequest) (*pb.GetCheckpointResponse, error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(chunkTime - time.Second):
		return &pb.GetCheckpointResponse{Data: []byte{1}, TotalBytes: s.size}, nil
	}
}

func TestCheckpointThatTrickles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		device := newDaemon(t, 3).device(t, Options{})
		const size = 1 << 20
		start := time.Now()
		_, err := device.fetch(t.Context(), trickle{size: size}, [32]byte{1}, size)
		if want := "took longer than 5m50.666666666s"; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
		if took := time.Since(start); took > 10*time.Minute {
			t.Errorf("it took %v", took)
		}
	})
}
