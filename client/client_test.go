package client

import (
	"bytes"
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

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

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
		before := model.NewClassifier(d.rig.model).Probabilities(model.Featurise("tracking my parcel"))[0]
		for i, c := range devices {
			guesses, err := c.Classify("tracking my parcel", 2)
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
			{"no intent", Chat{Text: "hi"}, ErrUnknownIntent, "0 bytes"},
			{"unknown intent", Chat{Text: "hi", Intent: "Where isit"}, ErrUnknownIntent, `the nearest is "where is it"`},
			{"long conversation", Chat{Text: "hi", Intent: "hello", Conversation: strings.Repeat("x", 257)}, nil, "257 bytes"},
		} {
			err := c.Learn(bad.chat)
			if err == nil || bad.err != nil && !errors.Is(err, bad.err) || !strings.Contains(err.Error(), bad.want) {
				t.Errorf("%s: got %v, want %v with %q", bad.name, err, bad.err, bad.want)
			}
		}
		if _, err := c.Classify("", 1); !errors.Is(err, ErrText) {
			t.Errorf("empty text: %v", err)
		}
		if _, err := c.Classify("hello", 0); err == nil {
			t.Error("no intents asked for: no error")
		}
		if guesses, err := c.Classify(strings.Repeat("hello ", 10_000), 99); err != nil || len(guesses) != 3 {
			t.Errorf("a long text: %v, %v", guesses, err)
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

// planAt is the little of a plan that the ledger looks at. The checkpoint is named by
// its first byte.
func planAt(round uint64, attempt uint32, checkpoint byte) *pb.Plan {
	sum := [32]byte{checkpoint}
	return &pb.Plan{Task: "shop", Round: round, Attempt: attempt, CheckpointSha256: sum[:]}
}

// TestNeverTwice holds what a device's folder remembers: no attempt is joined
// again, one set of survivors is confirmed in an attempt, and a round in which it
// revealed is over for it, with that round's checkpoint, whatever a restart forgot.
func TestNeverTwice(t *testing.T) {
	dir := t.TempDir()
	c, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { c.Close() }()
	const advertise, confirm, reveal = pb.Step_STEP_ADVERTISE, pb.Step_STEP_CONFIRM, pb.Step_STEP_REVEAL
	for i, s := range []struct {
		plan *pb.Plan
		step pb.Step
		err  error
	}{
		{planAt(3, 1, 2), confirm, errAnswered}, // never joined
		{planAt(3, 1, 2), advertise, nil},
		{planAt(3, 1, 2), advertise, ErrPlanRefused}, // the same again
		{planAt(2, 9, 1), advertise, ErrPlanRefused}, // an earlier round
		{planAt(3, 1, 2), confirm, nil},
		{planAt(3, 1, 2), confirm, errAnswered}, // a second set in this attempt
		{planAt(3, 2, 2), confirm, errAnswered}, // an attempt that was not joined
		{planAt(3, 2, 2), reveal, errAnswered},
		{planAt(3, 2, 2), advertise, nil}, // a later attempt: nothing was revealed
		{planAt(3, 1, 2), advertise, ErrPlanRefused},
		{planAt(3, 1, 2), confirm, errAnswered}, // of the attempt that was left
		{planAt(3, 2, 2), confirm, nil},
		{planAt(3, 2, 2), reveal, nil},
		{planAt(3, 2, 2), reveal, errAnswered},
		{planAt(3, 3, 2), advertise, ErrPlanRefused}, // revealed: no further attempt
		{planAt(3, 3, 9), advertise, ErrPlanRefused}, // not on another checkpoint either
		{planAt(4, 1, 2), advertise, ErrPlanRefused}, // nor another round on this one
		{planAt(4, 1, 3), advertise, nil},
	} {
		if err := c.record(s.plan, &model.Manifest{Round: uint64(s.plan.CheckpointSha256[0])}, s.step); !errors.Is(err, s.err) {
			t.Errorf("step %d, %v: %v, want %v", i, s.step, err, s.err)
		}
		c.Close()
		if c, err = Open(dir, Options{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.mayJoin(&pb.Plan{Task: "other", Round: 1, Attempt: 1}); err != nil {
		t.Errorf("another task: %v", err)
	}
	if err := c.mayJoin(planAt(4, 1, 3)); !errors.Is(err, ErrPlanRefused) {
		t.Errorf("the same plan again: %v", err)
	}
	// A coordinator may come back to a checkpoint that is older than the last.
	for rounds, ok := range map[uint64]bool{0: false, 1: false, 2: false, 3: true} {
		if err := c.mayTrain(planAt(5, 1, 7), &model.Manifest{Round: rounds}); (err == nil) != ok || !ok && !errors.Is(err, ErrPlanRefused) {
			t.Errorf("a checkpoint that has been through %d rounds: %v", rounds, err)
		}
	}
}

// TestEarlierLedger opens what a version before wrote: the rounds count, and no
// checkpoint has been revealed for as far as is known.
func TestEarlierLedger(t *testing.T) {
	c, err := Open(t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.store.PutRecord(ledgerRecord+"shop", []byte(`{"round":7,"attempt":2,"revealed":6,"counted":5}`)); err != nil {
		t.Fatal(err)
	}
	for _, s := range []struct {
		plan *pb.Plan
		ok   bool
	}{{planAt(6, 3, 5), false}, {planAt(7, 2, 6), false}, {planAt(7, 3, 6), true}, {planAt(8, 1, 6), true}} {
		err := errors.Join(c.mayJoin(s.plan), c.mayTrain(s.plan, &model.Manifest{Round: 6}))
		if (err == nil) != s.ok {
			t.Errorf("round %d, attempt %d: %v", s.plan.Round, s.plan.Attempt, err)
		}
	}
	l, err := c.readLedger("shop")
	if err != nil || l.Counted != 5 {
		t.Errorf("%+v, %v: want the 5 rounds it was counted in", l, err)
	}
}

// TestSamePlanTwice gives a device the plan of an attempt it has been through. It
// must refuse before it trains.
func TestSamePlanTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDaemon(t, 3)
		var group sync.WaitGroup
		var first *Client
		for range 3 {
			first = d.device(t, Options{})
			c := first
			group.Go(func() {
				if _, err := c.Participate(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		d.set(func() {
			d.edit = func(method string, _ any) error {
				if method == "Advertise" {
					t.Error("advertised again")
				}
				return nil
			}
			d.cohort = 1
		})
		_, err := first.Participate(t.Context())
		if !errors.Is(err, ErrPlanRefused) || !strings.Contains(err.Error(), "already revealed in round 1") {
			t.Errorf("got %v", err)
		}
		if s, _ := first.Status(); s.LastError != err.Error() {
			t.Errorf("status has the error %q", s.LastError)
		}
	})
}

// TestOwnBounds holds that bounds that protect nobody are refused, and that a device
// does not check in to a task that asks less of its rounds than it does.
func TestOwnBounds(t *testing.T) {
	for _, b := range []Bounds{
		{MinSurvivors: -1}, {MinSurvivors: 1}, {MinSurvivors: 2}, {MinSurvivors: 2001}, {MinCohort: 2}, {MinCorrupt: -1}, {MinCorrupt: 3334},
	} {
		if _, err := Open(t.TempDir(), Options{Bounds: b}); err == nil {
			t.Errorf("%+v was accepted", b)
		}
	}
	for _, c := range []struct {
		name   string
		bounds Bounds
		edit   func(*pb.SecureAggregation)
		want   string
	}{
		{"survivors", Bounds{MinSurvivors: 5}, nil, "3, this device's own is 5"},
		{"cohort", Bounds{MinCohort: 5}, nil, "at most 3 devices, this device's own minimum is 5"},
		{"corrupt", Bounds{MinCorrupt: 2000}, nil, "withstands 1000 corrupt members in 10,000, this device's own minimum is 2000"},
		{"classical", Bounds{}, func(s *pb.SecureAggregation) { s.Keys = pb.KeyExchange_KEY_EXCHANGE_CLASSICAL }, "classical"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDaemon(t, 3)
				d.cohort = 1
				if c.edit != nil {
					c.edit(d.rig.plan.SecureAggregation)
				}
				device := d.device(t, Options{Bounds: c.bounds})
				_, err := device.Participate(t.Context())
				if !errors.Is(err, ErrPlanRefused) || !strings.Contains(err.Error(), c.want) {
					t.Errorf("got %v, want a refusal with %q", err, c.want)
				}
				if n := len(d.when("CheckIn")); n != 0 {
					t.Errorf("%d check-ins: the device takes places that it does not use", n)
				}
				s, err := device.Status()
				if err != nil || !strings.Contains(s.LastError, c.want) || s.Checkpoint == "" {
					t.Errorf("status %+v, %v: want the reason, and the checkpoint all the same", s, err)
				}
			})
		})
	}
}

// TestPlanOutsideBounds has a coordinator say one thing of a task and another in its
// plan.
func TestPlanOutsideBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDaemon(t, 3)
		d.cohort = 1
		d.set(func() {
			d.reply = func(_ string, reply any) {
				if r, ok := reply.(*pb.TasksResponse); ok {
					r.Tasks[0].SecureAggregation.Corrupt = 3000
				}
			}
		})
		c := d.device(t, Options{Bounds: Bounds{MinCorrupt: 2000}})
		_, err := c.Participate(t.Context())
		if !errors.Is(err, ErrPlanRefused) || !strings.Contains(err.Error(), "minimum is 2000") {
			t.Errorf("got %v, want both numbers", err)
		}
		// It has a place in a cohort that it will not use: it must not be waited for.
		if c.link != nil {
			t.Error("the device refused the plan and kept its connection")
		}
	})
}

// TestEligible holds which task a device checks in to where it may not join all.
func TestEligible(t *testing.T) {
	good := &pb.SecureAggregation{Cohort: 20, MinSurvivors: 5, Corrupt: 1000, Keys: pb.KeyExchange_KEY_EXCHANGE_HYBRID}
	weak := &pb.SecureAggregation{Cohort: 20, MinSurvivors: 3, Corrupt: 1000, Keys: pb.KeyExchange_KEY_EXCHANGE_HYBRID}
	state := func(name string, s *pb.SecureAggregation) *pb.TaskState {
		return &pb.TaskState{Task: name, SecureAggregation: s}
	}
	for _, c := range []struct {
		name  string
		own   string
		tasks []*pb.TaskState
		want  string
		ok    bool
	}{
		{"none yet", "", nil, "", true},
		{"none yet of its own", "shop", []*pb.TaskState{state("other", weak)}, "shop", true},
		{"all", "", []*pb.TaskState{state("a", good), state("b", good)}, "", true},
		{"one of two", "", []*pb.TaskState{state("a", weak), state("b", good)}, "b", true},
		{"its own", "b", []*pb.TaskState{state("a", weak), state("b", good)}, "b", true},
		{"not its own", "a", []*pb.TaskState{state("a", weak), state("b", good)}, "", false},
		{"no task says what it asks", "", []*pb.TaskState{state("a", nil)}, "", false},
	} {
		bounds, err := Bounds{MinSurvivors: 5}.filled()
		if err != nil {
			t.Fatal(err)
		}
		device := &Client{options: Options{Task: c.own, Bounds: bounds}}
		got, err := device.eligible(c.tasks)
		if got != c.want || (err == nil) != c.ok || !c.ok && !errors.Is(err, ErrPlanRefused) {
			t.Errorf("%s: %q, %v; want %q, ok: %v", c.name, got, err, c.want, c.ok)
		}
	}
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
