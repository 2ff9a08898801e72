package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/discreet-fl/discreet/model"
	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/secagg"
)

var errGone = status.Error(codes.FailedPrecondition, "this device has vanished")

// vanish makes a device leave before it sends the step.
func vanish(at pb.Step) func(pb.Step, bool, proto.Message) error {
	return func(step pb.Step, after bool, _ proto.Message) error {
		if step >= at && !after {
			return errGone
		}
		return nil
	}
}

// wantedWithout says how many of n answer each step when some leave before one.
func wantedWithout(n int, gone map[int]pb.Step) map[pb.Step]int {
	wanted := make(map[pb.Step]int)
	for _, step := range rigSteps {
		wanted[step] = n
		for _, left := range gone {
			if step >= left {
				wanted[step]--
			}
		}
	}
	return wanted
}

// TestRounds runs whole attempts and holds that the unmasked sum is exactly the
// sum of what the survivors alone would have sent without masks.
func TestRounds(t *testing.T) {
	const a, s, u, w, v = pb.Step_STEP_ADVERTISE, pb.Step_STEP_SHARE, pb.Step_STEP_SUBMIT, pb.Step_STEP_CONFIRM, pb.Step_STEP_REVEAL
	for _, c := range []struct {
		name    string
		devices int
		gone    map[int]pb.Step // who leaves before which step
	}{
		{"three", 3, nil},
		{"five", 5, nil},
		{"one never advertises", 4, map[int]pb.Step{0: a}},
		{"one leaves after Advertise", 4, map[int]pb.Step{1: s}},
		{"one leaves after Share", 4, map[int]pb.Step{2: u}},
		{"one leaves after Submit", 4, map[int]pb.Step{3: w}},
		{"one leaves after Confirm", 4, map[int]pb.Step{3: v}},
		{"one after Share, one after Submit", 6, map[int]pb.Step{0: u, 5: w}},
		{"one after Advertise, one after Confirm", 6, map[int]pb.Step{0: s, 5: v}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, c.devices, wantedWithout(c.devices, c.gone))
				want := make([]uint32, r.plan.SecureAggregation.Length)
				var group sync.WaitGroup
				for i, g := range r.guests(c.devices) {
					left, leaves := c.gone[i]
					if leaves {
						g.link.edit = vanish(left)
					}
					if !leaves || left > u {
						own, err := r.participant(i, i).Update(r.plan, r.model)
						if err != nil {
							t.Fatal(err)
						}
						for j, w := range own {
							want[j] += w
						}
					}
					group.Go(func() {
						result, err := g.takePart(t.Context())
						if leaves != (err != nil) || leaves && !errors.Is(err, ErrAttemptEnded) {
							t.Errorf("device %d: result %v, error %v; leaves: %v", i, result, err, leaves)
						}
						r.mu.Lock()
						defer r.mu.Unlock() // of the vectors
						if err == nil && (result.Round != 1 || result.Attempt != 1 || result.Task != "shop" || result.BytesUp < int64(len(r.vectors[g.id()]))) {
							t.Errorf("device %d: result %+v", i, result)
						}
					})
				}
				group.Wait()
				ring := uint32(1)<<r.plan.Codec.RingBits - 1
				for j := range want {
					if want[j]&ring != r.words[j]&ring {
						t.Fatalf("word %d of the sum is %d, want %d", j, r.words[j]&ring, want[j]&ring)
					}
				}
			})
		})
	}
}

// TestSameBytesAgain loses the connection before and after every message of one
// device, repeatedly, and holds that it goes on with the same bytes.
func TestSameBytesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3, nil)
		var mu sync.Mutex
		tries := make(map[string]int)
		sent := make(map[string][]byte)
		flaky := func(step pb.Step, after bool, request proto.Message) error {
			b, err := proto.MarshalOptions{Deterministic: true}.Marshal(request)
			if err != nil {
				return err
			}
			name := step.String()
			if q, ok := request.(*pb.SubmitRequest); ok {
				name = fmt.Sprint(name, q.Index)
			}
			mu.Lock()
			defer mu.Unlock()
			if before, again := sent[name]; again && !bytes.Equal(before, b) {
				t.Errorf("%s was sent again with other bytes", name)
			}
			sent[name] = b
			tries[name]++
			switch {
			case tries[name] < 4:
				return status.Error(codes.Unavailable, "connection lost before")
			case tries[name] == 5 && after:
				return status.Error(codes.ResourceExhausted, "no memory for the reply")
			}
			return nil
		}
		var log syncBuffer
		var group sync.WaitGroup
		for i, g := range r.guests(3) {
			if i == 0 {
				g.link.edit = flaky
				g.Logger = slog.New(slog.NewTextHandler(&log, nil))
			}
			group.Go(func() {
				if _, err := g.takePart(t.Context()); err != nil {
					t.Errorf("device %d: %v", i, err)
				}
			})
		}
		group.Wait()
		if len(sent) != 4+3 { // three chunks of about 590 kB
			t.Errorf("%d messages were sent, want 7", len(sent))
		}
		for name, n := range tries {
			if n < 6 {
				t.Errorf("%s was tried %d times, want it interrupted both ways", name, n)
			}
		}
		for _, record := range []string{"advertise sending", "advertise answered", "share sending", "share answered", "submit sending", "submit answered", "confirm sending", "confirm answered", "reveal sending", "reveal answered"} {
			if strings.Count(log.String(), `"`+record+`"`) != 1 {
				t.Errorf("the log has not just one %q:\n%s", record, log.String())
			}
		}
		if !strings.Contains(log.String(), "task=shop round=1 attempt=1") {
			t.Errorf("the log does not name the attempt:\n%s", log.String())
		}
	})
}

// TestSilence holds that no step hangs: a coordinator that stays silent, or always
// unreachable, costs the step's time and no more.
func TestSilence(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(context.Context) error
	}{
		{"silent", func(ctx context.Context) error { <-ctx.Done(); return status.FromContextError(ctx.Err()).Err() }},
		{"unreachable", func(context.Context) error { return status.Error(codes.Unavailable, "refused") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, 3, nil)
				began := time.Now()
				g := r.guests(3)[0]
				_, err := g.TakePart(t.Context(), &silent{member: g.link, edit: c.edit}, g.place, r.opened(t))
				if !errors.Is(err, ErrAttemptEnded) || !strings.Contains(err.Error(), "no answer in the plan's time") {
					t.Errorf("got %v", err)
				}
				if took, want := time.Since(began), milliseconds(r.plan.AdvertiseMs)+replySlack; took < want-2*time.Second || took > want {
					t.Errorf("gave up after %v, want %v", took, want)
				}
			})
		})
	}
}

type silent struct {
	*member
	edit func(context.Context) error
}

func (s *silent) Advertise(ctx context.Context, _ *pb.AdvertiseRequest) (*pb.AdvertiseResponse, error) {
	return nil, s.edit(ctx)
}

// TestRecordComesFirst holds that nothing leaves before it was noted, and that a
// note that fails ends the attempt.
func TestRecordComesFirst(t *testing.T) {
	for _, fails := range []pb.Step{pb.Step_STEP_ADVERTISE, pb.Step_STEP_CONFIRM, pb.Step_STEP_REVEAL} {
		t.Run(fails.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, 4, wantedWithout(4, map[int]pb.Step{0: fails}))
				full := errors.New("the disk is full")
				var group sync.WaitGroup
				for i, g := range r.guests(4) {
					if i == 0 {
						g.Record = func(step pb.Step) error {
							if step == fails {
								return full
							}
							return nil
						}
						g.link.edit = func(step pb.Step, _ bool, _ proto.Message) error {
							if step >= fails {
								t.Errorf("%v was sent although it could not be noted", step)
							}
							return nil
						}
					}
					group.Go(func() {
						_, err := g.takePart(t.Context())
						if i == 0 != errors.Is(err, full) {
							t.Errorf("device %d: %v", i, err)
						}
					})
				}
				group.Wait()
			})
		})
	}
}

// TestPlansRefused changes one thing of a good plan at a time. None may lead to
// training or to a message.
func TestPlansRefused(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(*pb.Plan)
		want string
	}{
		{"minimum below the device's", func(p *pb.Plan) { p.SecureAggregation.MinSurvivors = 2 }, "minimum of survivors is 2, this device's own is 3"},
		{"cohort below the minimum", func(p *pb.Plan) { p.SecureAggregation.Cohort = 2; p.SecureAggregation.MinSurvivors = 3 }, "cannot have the 3 survivors"},
		{"cohort too large", func(p *pb.Plan) { p.SecureAggregation.Cohort = 2001 }, "want at most 2000"},
		{"too few corrupt", func(p *pb.Plan) { p.SecureAggregation.Corrupt = 999 }, "withstands 999 corrupt members in 10,000, this device's own minimum is 1000"},
		{"too many corrupt", func(p *pb.Plan) { p.SecureAggregation.Corrupt = math.MaxUint32 }, "want at most 3333"},
		{"too many vanish", func(p *pb.Plan) { p.SecureAggregation.Dropout = 3334 }, "want at most 3333"},
		{"classical keys", func(p *pb.Plan) { p.SecureAggregation.Keys = pb.KeyExchange_KEY_EXCHANGE_CLASSICAL }, "classical, which this device does not allow"},
		{"no keys", func(p *pb.Plan) { p.SecureAggregation.Keys = pb.KeyExchange_KEY_EXCHANGE_UNSPECIFIED }, "not known"},
		{"unknown keys", func(p *pb.Plan) { p.SecureAggregation.Keys = 9 }, "not known"},
		{"no task", func(p *pb.Plan) { p.Task = "" }, "name has 0 bytes"},
		{"another task", func(p *pb.Plan) { p.Task = "other" }, `belongs to task "shop"`},
		{"round 0", func(p *pb.Plan) { p.Round = 0 }, "count from 1"},
		{"attempt 0", func(p *pb.Plan) { p.Attempt = 0 }, "count from 1"},
		{"short hash", func(p *pb.Plan) { p.CheckpointSha256 = p.CheckpointSha256[:31] }, "hash of 31 bytes"},
		{"another checkpoint", func(p *pb.Plan) { p.CheckpointSha256[0] ^= 1 }, "the plan names"},
		{"huge checkpoint", func(p *pb.Plan) { p.CheckpointBytes = math.MaxUint64 }, "want 1 to"},
		{"no training", func(p *pb.Plan) { p.Training = nil }, "epochs"},
		{"huge epochs", func(p *pb.Plan) { p.Training.Epochs = math.MaxUint32 }, "epochs"},
		{"many epochs", func(p *pb.Plan) { p.Training.Epochs = mostEpochs + 1 }, "epochs"},
		{"huge batch", func(p *pb.Plan) { p.Training.Batch = math.MaxUint32 }, "batches"},
		{"rate not a number", func(p *pb.Plan) { p.Training.LearningRate = float32(math.NaN()) }, "learning rate"},
		{"dropout of all", func(p *pb.Plan) { p.Training.FeatureDropout = 1 }, "dropout"},
		{"proximal term not a number", func(p *pb.Plan) { p.Training.Proximal = float32(math.NaN()) }, "proximal"},
		{"smoothing negative", func(p *pb.Plan) { p.Training.LabelSmoothing = -1 }, "smoothing"},
		{"no codec", func(p *pb.Plan) { p.Codec = nil }, "clip"},
		{"clip infinite", func(p *pb.Plan) { p.Codec.Clip = float32(math.Inf(1)) }, "clip"},
		{"huge bits", func(p *pb.Plan) { p.Codec.Bits = math.MaxUint32 }, "codec"},
		{"sum overflows", func(p *pb.Plan) { p.Codec.RingBits = 16 }, "overflow"},
		{"no aggregation", func(p *pb.Plan) { p.SecureAggregation = nil }, "minimum of survivors is 0"},
		{"length", func(p *pb.Plan) { p.SecureAggregation.Length-- }, "words"},
		{"compression by nothing", func(p *pb.Plan) { p.Compression = &pb.Compression{Ratio: 4} }, "method 0, want part or sketch"},
		{"unknown compression", func(p *pb.Plan) { p.Compression = &pb.Compression{Method: 9, Ratio: 4} }, "method 9, want part or sketch"},
		{"compression to all", func(p *pb.Plan) { p.Compression = &pb.Compression{Method: pb.Compression_METHOD_PART, Ratio: 1} }, "one row in 1, want 2 to 64"},
		{"compression to next to nothing", func(p *pb.Plan) {
			p.Compression = &pb.Compression{Method: pb.Compression_METHOD_SKETCH, Ratio: math.MaxUint32}
		}, "want 2 to 64"},
		{"bits beside the codec", func(p *pb.Plan) {
			p.Compression = &pb.Compression{Method: pb.Compression_METHOD_SKETCH, Ratio: 2, Bits: 8}
		}, "want them in its codec alone"},
		{"length not shortened", func(p *pb.Plan) { p.Compression = &pb.Compression{Method: pb.Compression_METHOD_PART, Ratio: 4} }, "words"},
		{"evaluation of nothing", func(p *pb.Plan) { p.Evaluation = new(pb.Evaluation) }, "0 chats in 10,000 held back, want 1 to 5000"},
		{"most chats held back", evaluates(func(e *pb.Evaluation) { e.HeldBack = 5001 }), "5001 chats in 10,000 held back"},
		{"no chat counted", evaluates(func(e *pb.Evaluation) { e.Chats = 0 }), "of 0 chats at most"},
		{"too many chats counted", evaluates(func(e *pb.Evaluation) { e.Chats = math.MaxUint32 }), "chats at most, want 1 to 1000"},
		{"one bin", evaluates(func(e *pb.Evaluation) { e.Bins = 1 }), "histograms of 1 bins"},
		{"too many bins", evaluates(func(e *pb.Evaluation) { e.Bins = math.MaxUint32 }), "bins, want 2 to 100"},
		{"a range from nowhere", evaluates(func(e *pb.Evaluation) { e.ScoreLow = float32(math.NaN()) }), "begins or ends at NaN"},
		{"an endless range", evaluates(func(e *pb.Evaluation) { e.MarginHigh = float32(math.Inf(1)) }), "begins or ends at +Inf"},
		{"a range without a part", evaluates(func(e *pb.Evaluation) { e.MarginHigh = e.MarginLow }), "range is empty"},
		{"a count that overflows", func(p *pb.Plan) {
			p.Codec = &pb.Codec{Clip: 1, Bits: 4, RingBits: 8, MaxWeight: 1}
			evaluates(func(e *pb.Evaluation) { e.Chats = 100 })(p)
		}, "3 devices that count 100 chats each overflow a ring of 8 bits"},
		{"length without the counts", evaluates(func(*pb.Evaluation) {}), "words"},
		{"no time", func(p *pb.Plan) { p.StepMs = 0 }, "a step of"},
		{"a year's time", func(p *pb.Plan) { p.AdvertiseMs = math.MaxUint32 }, "a step of"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, 3, nil)
			c.edit(r.plan)
			planBytes, err := proto.Marshal(r.plan)
			if err != nil {
				t.Fatal(err)
			}
			p := r.participant(0, 1)
			p.Train = func([]float32, model.Layout, []model.Example, model.Training, uint64) error {
				t.Error("trained")
				return nil
			}
			transport := &member{r: r, edit: func(pb.Step, bool, proto.Message) error { t.Error("sent something"); return errGone }}
			place := checkedIn(t, planBytes)
			_, err = p.TakePart(t.Context(), transport, place, r.opened(t))
			if !errors.Is(err, ErrPlanRefused) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want a refusal with %q", err, c.want)
			}
			if _, _, err := place.CheckedIn.Advertise(r.params(), p.Signer, nil, rand.Reader); !errors.Is(err, secagg.ErrSpent) {
				t.Errorf("the nonce of the refused plan: %v, want that it was wiped", err)
			}
		})
	}
	t.Run("not a plan", func(t *testing.T) {
		r := newRig(t, 3, nil)
		if _, err := r.participant(0, 1).TakePart(t.Context(), &member{r: r}, checkedIn(t, []byte("\xff\xff")), r.opened(t)); !errors.Is(err, ErrPlanRefused) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("own bounds", func(t *testing.T) {
		for _, c := range []struct {
			bounds Bounds
			want   string
		}{
			{Bounds{MinSurvivors: 2}, "minimum of 2 survivors, want 3 to 2000"},
			{Bounds{MinSurvivors: 2001}, "want 3 to 2000"},
			{Bounds{MinCohort: 2}, "minimum of 2 members"},
			{Bounds{MinCorrupt: -1}, "minimum of -1 corrupt"},
			{Bounds{MinCorrupt: 3334}, "want 1 to 3333"},
			{Bounds{MinSurvivors: 4}, "3, this device's own is 4"},
			{Bounds{MinCohort: 4}, "at most 3 devices, this device's own minimum is 4"},
			{Bounds{MinCorrupt: 1001}, "withstands 1000 corrupt members in 10,000, this device's own minimum is 1001"},
		} {
			r := newRig(t, 3, nil)
			p := r.participant(0, 1)
			p.Bounds = c.bounds
			_, err := p.TakePart(t.Context(), &member{r: r}, checkedIn(t, r.planBytes), r.opened(t))
			if !errors.Is(err, ErrPlanRefused) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%+v: got %v, want a refusal with %q", c.bounds, err, c.want)
			}
		}
	})
}

// TestOpenCheckpoint holds that no attempt gets to see a file that is damaged.
func TestOpenCheckpoint(t *testing.T) {
	r := newRig(t, 3, nil)
	for at := range r.checkpoint[:64] {
		r.checkpoint[len(r.checkpoint)-1-at] ^= 1
		if _, err := OpenCheckpoint(r.checkpoint); !errors.Is(err, ErrPlanRefused) {
			t.Fatalf("a byte changed at %d from the end: got %v", at, err)
		}
		r.checkpoint[len(r.checkpoint)-1-at] ^= 1
	}
	r.opened(t)
}

// evaluates adds a changed evaluation to a plan.
func evaluates(edit func(*pb.Evaluation)) func(*pb.Plan) {
	return func(p *pb.Plan) {
		p.Evaluation = &pb.Evaluation{HeldBack: 1000, Chats: 10, Bins: 20, ScoreHigh: 10, MarginLow: -5, MarginHigh: 5}
		edit(p.Evaluation)
	}
}

// TestDeviceWithoutExamples holds that it sends zeros and weight zero.
func TestDeviceWithoutExamples(t *testing.T) {
	r := newRig(t, 3, nil)
	p := r.participant(0, 0)
	p.Train = nil // not called
	words, err := p.Update(r.plan, r.model)
	if err != nil {
		t.Fatal(err)
	}
	for i, w := range words {
		if w != 0 {
			t.Fatalf("word %d is %d", i, w)
		}
	}
}

// TestTrainingThatDiverges holds that NaN never becomes a message.
func TestTrainingThatDiverges(t *testing.T) {
	r := newRig(t, 3, nil)
	p := r.participant(0, 1)
	p.Train = func(params []float32, _ model.Layout, _ []model.Example, _ model.Training, _ uint64) error {
		params[3] = float32(math.NaN())
		return nil
	}
	transport := &member{r: r, edit: func(pb.Step, bool, proto.Message) error { t.Error("sent something"); return errGone }}
	if _, err := p.TakePart(t.Context(), transport, checkedIn(t, r.planBytes), r.opened(t)); err == nil || !strings.Contains(err.Error(), "not a finite number") {
		t.Errorf("got %v", err)
	}
}

// syncBuffer is a log that several goroutines may write.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
