package coordinator

import (
	"context"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/discreet-fl/discreet/coordinator/store"
	"github.com/discreet-fl/discreet/privacy"
	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/proto/rpc"
)

// promised is a task of short vectors that promises privacy.
func promised(perRound, minSurvivors, participations, separation uint32) *pb.TaskSpec {
	s := spec(perRound, minSurvivors)
	s.Compression = &pb.Compression{Method: pb.Compression_METHOD_SKETCH, Ratio: 64}
	s.Privacy = &pb.Privacy{Epsilon: 8, Delta: 1e-6, Participations: participations, Separation: separation, Clip: 1}
	return s
}

func TestPlansKeepWhatWasPromised(t *testing.T) {
	for _, s := range []*pb.TaskSpec{promised(3, 3, 1, 1), promised(20, 15, 5, 3), promised(1000, 900, 50, 1), promised(1000, 1000, 50, 1), promised(1000, 700, 5, 1), promised(1000, 101, 10_000, 1)} {
		if err := CheckSpec(s); err != nil {
			t.Errorf("%v: %v", s.Privacy, err)
			continue
		}
		plan, _, err := NewPlan(s, 1, 1, Basis{Layout: layoutFor(t, s)})
		if err != nil {
			t.Fatal(err)
		}
		l := LayoutOf(plan, layoutFor(t, s))
		n, d := plan.GetNoise(), l.Parameters
		honest := []int{int(n.GetHonest())}
		for _, level := range n.GetLevels() {
			honest = append(honest, int(level.Survivors-s.PerRound/10))
		}
		rho := privacy.LevelledRho(l.Noise.Norm(d), honest, l.Noise.Sigmas(), d) * float64(s.Privacy.Participations)
		if epsilon := privacy.Epsilon(rho, 1e-6); epsilon > 8 || epsilon < 7.99 {
			t.Errorf("%d vectors with noise of σ %v give away ε %v, want no more than 8 and little less", s.Privacy.Participations, l.Noise.Sigma, epsilon)
		}
		if want := uint32(s.MinSurvivors) - s.PerRound/10; n.GetHonest() != want {
			t.Errorf("noise for %d honest survivors, want %d", n.GetHonest(), want)
		}
		if err := l.Fits(int(cohortOf(s)), int(plan.Codec.RingBits)); err != nil {
			t.Error(err)
		}
		if plan.Codec.Clip != 0 || plan.Codec.Bits != 0 || plan.Codec.MaxWeight != 0 {
			t.Errorf("a codec of %v beside noise", plan.Codec)
		}
	}
}

func TestSpecsThatCannotPromise(t *testing.T) {
	for _, tc := range []struct {
		name, want string
		edit       func(*pb.TaskSpec)
	}{
		{"no ε", "ε 0", func(s *pb.TaskSpec) { s.Privacy.Epsilon = 0 }},
		{"ε that is no number", "ε NaN", func(s *pb.TaskSpec) { s.Privacy.Epsilon = math.NaN() }},
		{"no δ", "δ 0", func(s *pb.TaskSpec) { s.Privacy.Delta = 0 }},
		{"large δ", "at most 0.001", func(s *pb.TaskSpec) { s.Privacy.Delta = 0.01 }},
		{"no participation", "0 participations", func(s *pb.TaskSpec) { s.Privacy.Participations = 0 }},
		{"no separation", "0 rounds between", func(s *pb.TaskSpec) { s.Privacy.Separation = 0 }},
		{"no clip", "clip of 0", func(s *pb.TaskSpec) { s.Privacy.Clip = 0 }},
		{"counts in clear sums", "without noise", func(s *pb.TaskSpec) { s.Evaluation = &pb.TaskEvaluation{HeldBack: 1000} }},
		{"a buffer", "side by side", func(s *pb.TaskSpec) { s.Buffer = &pb.Buffer{Cohorts: 2, Staleness: 1} }},
		{"bits", "the noise decides on the bits", func(s *pb.TaskSpec) { s.Compression.Bits = 8 }},
		{"nobody honest", "want a minimum of at least 4", func(s *pb.TaskSpec) { s.PerRound, s.MinSurvivors, s.Corrupt = 10, 3, 3333 }},
		{"too much noise", "survivors", func(s *pb.TaskSpec) { s.Privacy.Epsilon = 1e-5 }},
	} {
		s := promised(20, 15, 5, 1)
		tc.edit(s)
		err := CheckSpec(s)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want an error with %q", tc.name, err, tc.want)
		}
	}
}

// TestNoiseComesOffASum walks five devices, and four of five, through a round whose noise has
// levels at four and five survivors: the checkpoint is that of a sum which the noise of
// those levels was never in that they reach.
func TestNoiseComesOffASum(t *testing.T) {
	for survivors, reached := range map[int]int{5: 2, 4: 1} {
		synctest.Test(t, func(t *testing.T) {
			s := promised(5, 3, 2, 1)
			w, devices := fleet(t, 5, s, Options{Grace: time.Second})
			v := w.task("desk").view.Load()
			before := devices[0].checkpointOf(v.sum[:])
			walks := gather(t, devices...)
			if got := levelsOf(walks[0].plan); !slices.Equal(got, []int{4, 5}) {
				t.Fatalf("levels at %v survivors, want 4 and 5", got)
			}
			each(t, 5, func(i int) error {
				if i >= survivors {
					if err := walks[i].advertise(t.Context()); err != nil {
						return err
					}
					devices[i].leave()
					return nil
				}
				return walks[i].steps(t.Context(), all)
			})
			l := LayoutOf(walks[0].plan, before.Manifest.Layout)
			total, sum := ChoiceOf(s).Sums(l.Length()), make([]uint32, l.Length())
			for _, k := range walks[:survivors] {
				vector := k.encode(nil)
				if err := l.AddLevels(vector, k.seeds, reached); err != nil {
					t.Fatal(err)
				}
				for i, word := range vector {
					sum[i] += word
				}
			}
			total.Add(sum, l.Signed(), int(walks[0].plan.Codec.RingBits))
			want, _, err := Apply(s, before, make([]float32, StateLength(s, len(before.Params))), walks[0].plan, total, survivors)
			if err != nil {
				t.Fatal(err)
			}
			after := devices[0].checkpointOf(walks[0].receipt.GetCheckpointSha256())
			if !slices.Equal(after.Params, want.Params) {
				t.Errorf("%d survivors: other parameters than without the noise of %d levels", survivors, reached)
			}
		})
	}
}

// TestDevicesAreChargedBeforeTheyMayUpload holds what the coordinator publishes: a device
// counts from when it may send its vector, once an attempt, also where it then does not and
// where the coordinator starts again; and one that has nothing left gets no place.
func TestDevicesAreChargedBeforeTheyMayUpload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := promised(3, 3, 2, 2)
		w, devices := fleet(t, 4, s, Options{})
		charge, err := ChargeOf(s.Privacy)
		if err != nil {
			t.Fatal(err)
		}
		published := func(devices, vectors uint32) {
			t.Helper()
			reply, err := rpc.NewOperatorServiceClient(w.operator(t)).GetTask(t.Context(), &pb.GetTaskRequest{Name: s.Name})
			if err != nil {
				t.Fatal(err)
			}
			want := &pb.TaskPrivacy{Noise: reply.Task.Privacy.GetNoise(), Devices: devices, Participations: vectors, Charged: uint64(charge.Times(int(vectors)))}
			if got := reply.Task.Privacy; !proto.Equal(got, want) || got.Noise.GetCharge() != uint64(charge) {
				t.Errorf("published %v, want %v", got, want)
			}
			if len(reply.Rounds) > 0 {
				if got := reply.Rounds[0].Privacy; got.GetDevices() != 3 || got.GetCharge() != uint64(charge) {
					t.Errorf("the latest attempt cost %v, want %d for 3 devices", got, charge)
				}
			}
		}
		published(0, 0)
		walks := gather(t, devices[:3]...)
		each(t, 3, func(i int) error { return walks[i].steps(t.Context(), 1) })
		published(0, 0) // nobody may send a vector yet
		each(t, 3, func(i int) error { return walks[i].share(t.Context()) })
		published(3, 1)
		each(t, 3, func(i int) error {
			_, err := walks[i].rounds.Share(t.Context(), walks[i].shares) // the reply was lost
			return err
		})
		published(3, 1)

		// It starts again; the round is lost, and paid for.
		w.shut()
		w = newWorld(t, w.dir, Options{})
		for _, d := range devices {
			d.connect(w)
		}
		published(3, 1)
		if _, err := devices[0].checkIn(t.Context()); err == nil || !strings.Contains(err.Error(), "took part in round 1, and may again in round 3") {
			t.Errorf("a device that took part in the round before: %v", err)
		}
		// Two rounds on, each may once more, and no more after that.
		w.task("desk").mail.post(func(time.Time) { w.task("desk").next() })
		walks = gather(t, devices[:3]...)
		each(t, 3, func(i int) error { return walks[i].steps(t.Context(), 2) })
		published(3, 2)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		for _, d := range devices[:3] {
			d.leave()
			d.connect(w)
			if _, err := d.checkIn(ctx); err == nil || !strings.Contains(err.Error(), "has taken part 2 times, which is all") {
				t.Errorf("a device at the end of its budget: %v", err)
			}
		}
	})
}

// TestDevicesThatSpendWhileTheyWaitAreTold charges a device that waits for a place, as for a
// vector in the attempt that it left: it gets none, hears why, and the others go on.
func TestDevicesThatSpendWhileTheyWaitAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := promised(3, 3, 1, 1)
		w, devices := fleet(t, 4, s, Options{})
		waits := make(chan error, 1)
		go func() {
			_, err := devices[0].checkIn(t.Context())
			waits <- err
		}()
		synctest.Wait()
		task, charged := w.task("desk"), make(chan struct{})
		task.mail.post(func(time.Time) {
			task.accounts.put(store.Account{Device: devices[0].id, Vectors: 1, Charged: 1, Round: 1})
			close(charged)
		})
		<-charged
		walks := gather(t, devices[1:]...)
		if err := <-waits; err == nil || !strings.Contains(err.Error(), "has taken part 1 times, which is all that the task's privacy of ε 8 allows") {
			t.Errorf("a device that was charged while it waited: %v", err)
		}
		each(t, 3, func(i int) error { return walks[i].steps(t.Context(), all) })
	})
}
