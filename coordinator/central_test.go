package coordinator

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/discreet-fl/discreet/aggregation"
	"github.com/discreet-fl/discreet/model"
	"github.com/discreet-fl/discreet/privacy"
	pb "github.com/discreet-fl/discreet/proto"
)

// central is a task to whose sums the coordinator adds noise, over so many rounds.
func central(t *testing.T, perRound, participations, separation uint32, rounds uint64) *pb.TaskSpec {
	t.Helper()
	s := spec(perRound, 3)
	s.Rounds = rounds
	s.Privacy = &pb.Privacy{Epsilon: 8, Delta: 1e-6, Participations: participations, Separation: separation, Clip: 1}
	var err error
	if s.Privacy.Central, err = CentralNoise(rounds, s.Privacy); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestCentralNoiseKeepsWhatWasPromised(t *testing.T) {
	for _, s := range []*pb.TaskSpec{central(t, 3, 1, 1, 1), central(t, 20, 5, 20, 100), central(t, 20, 3, 1, 7), central(t, 20, 100, 30, 100)} {
		if err := CheckSpec(s); err != nil {
			t.Errorf("%v: %v", s.Privacy, err)
			continue
		}
		plan, _, err := NewPlan(s, 1, 1, Basis{Layout: layoutFor(t, s)})
		if err != nil {
			t.Fatal(err)
		}
		l, n, p := LayoutOf(plan, layoutFor(t, s)), plan.GetNoise(), s.Privacy
		if l.Noise.Sigma != 0 || n.GetHonest() != 0 {
			t.Errorf("devices add noise of σ %v, %d of them honest; want none", l.Noise.Sigma, n.GetHonest())
		}
		m := privacy.BLT{Scale: p.Central.Scale, Decay: p.Central.Decay}
		sensitivity := m.Sensitivity(int(s.Rounds), int(p.Separation), int(p.Participations))
		rho := privacy.CorrelatedRho(256*l.Noise.Norm(l.Parameters), sensitivity, n.GetSigma(), int(s.Rounds), l.Parameters)
		if epsilon := privacy.Epsilon(rho, 1e-6); epsilon > 8 {
			t.Errorf("%d rounds, %d of a device: all of them give away ε %v, want at most 8", s.Rounds, p.Participations, epsilon)
		}
		if charge := privacy.Charge(n.GetCharge()); charge.Times(int(p.Participations)).Epsilon(1e-6) > 8 || rho > charge.Times(int(p.Participations)).Rho() {
			t.Errorf("%d rounds, %d of a device: charged ρ %v each, all give away %v", s.Rounds, p.Participations, charge.Rho(), rho)
		}
	}
}

func TestSpecsThatCannotHaveCentralNoise(t *testing.T) {
	for _, tc := range []struct {
		name, want string
		edit       func(*pb.TaskSpec)
	}{
		{"other rounds", "over 10 rounds of a task of 11", func(s *pb.TaskSpec) { s.Rounds = 11 }},
		{"without end", "of a task of 0", func(s *pb.TaskSpec) { s.Rounds = 0 }},
		{"too many rounds", "1 to 8192", func(s *pb.TaskSpec) { s.Rounds, s.Privacy.Central.Rounds = 9000, 9000 }},
		{"a compression", "later rounds cannot take back", func(s *pb.TaskSpec) { s.Compression = &pb.Compression{Method: pb.Compression_METHOD_SKETCH, Ratio: 4} }},
		{"cohorts apart", "strategy median", func(s *pb.TaskSpec) { s.Strategy = &pb.Strategy{Name: "median"} }},
		{"an unknown strategy", "best", func(s *pb.TaskSpec) { s.Strategy = &pb.Strategy{Name: "best"} }},
		{"a growing memory", "a sum of at most 1", func(s *pb.TaskSpec) { s.Privacy.Central.Scale[0] = 1.5 }},
		{"a decay too few", "want one each", func(s *pb.TaskSpec) { s.Privacy.Central.Decay = s.Privacy.Central.Decay[:1] }},
		{"too much noise", "noise by the coordinator of σ", func(s *pb.TaskSpec) { s.Privacy.Epsilon = 0.001 }},
	} {
		s := central(t, 20, 2, 5, 10)
		tc.edit(s)
		if err := CheckSpec(s); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want an error with %q", tc.name, err, tc.want)
		}
	}
	for _, rounds := range []uint64{0, 9000} {
		if _, err := CentralNoise(rounds, &pb.Privacy{Participations: 1, Separation: 1}); err == nil {
			t.Errorf("noise over %d rounds is chosen", rounds)
		}
	}
}

// TestCentralNoiseHasThePlacesOfRounds adds noise to rounds of which one was lost, and
// measures that of the first.
func TestCentralNoiseHasThePlacesOfRounds(t *testing.T) {
	s := central(t, 3, 2, 2, 4)
	m := model.Layout{Rows: 4096, Dim: 8, Labels: 2}
	seeds := byte(0)
	fresh := func() [32]byte { seeds++; return [32]byte{seeds} }
	add := func(round uint64, state []byte) ([]int64, []byte, error) {
		plan, _, err := NewPlan(s, round, 1, Basis{Layout: m})
		if err != nil {
			t.Fatal(err)
		}
		l := LayoutOf(plan, m)
		total := ChoiceOf(s).Sums(l.Length())
		total.Add(make([]uint32, l.Length()), l.Signed(), int(plan.GetCodec().GetRingBits()))
		next, err := AddNoise(plan, m, state, total, fresh)
		return total.Whole(), next, err
	}
	noise, state, err := add(1, nil)
	if err != nil {
		t.Fatal(err)
	}
	n, err := NoiseOf(s, m)
	if err != nil {
		t.Fatal(err)
	}
	square, d := 0.0, len(noise)-1
	for _, x := range noise[:d] {
		square += float64(x) * float64(x) / float64(d)
	}
	if got := math.Sqrt(square); math.Abs(got/n.GetSigma()-1) > 0.015 || noise[d] != 0 {
		t.Errorf("noise of σ %v, and %d on the number of devices; want %v and 0", got, noise[d], n.GetSigma())
	}
	if _, state, err = add(3, state); err != nil || seeds != 3 {
		t.Fatalf("%d seeds after rounds 1 and 3, %v; want 3", seeds, err)
	}
	c, err := aggregation.DecodeCorrelated(state)
	if err != nil || c.Rounds() != 3 {
		t.Fatalf("%d rounds have noise, %v; want 3", c.Rounds(), err)
	}
	for _, round := range []uint64{2, 3, 5} {
		if _, _, err := add(round, state); err == nil || !strings.Contains(err.Error(), "after 3 rounds of 4") {
			t.Errorf("round %d after round 3 of 4: %v", round, err)
		}
	}
	if _, _, err := add(4, []byte("damaged")); err == nil {
		t.Error("a damaged state is taken")
	}
	// Without a state a round takes nothing back: it has the noise of its seed alone.
	seeds = 0
	if anew, next, err := add(3, nil); err != nil || seeds != 1 || !slices.Equal(anew, noise) || len(next) != len(state) {
		t.Errorf("round 3 without a state: %d seeds, %v; want the noise of the first round's seed", seeds, err)
	}
	// A state of other noise is refused.
	memory := []aggregation.Memory{{Scale: 0.1, Decay: 0.1}}
	for what, of := range map[string]func() (*aggregation.Correlated, error){
		"memory": func() (*aggregation.Correlated, error) { return aggregation.NewCorrelated(d, n.GetSigma(), 0, memory) },
		"σ":      func() (*aggregation.Correlated, error) { return aggregation.NewCorrelated(d, 2*n.GetSigma(), 0, nil) },
		"words":  func() (*aggregation.Correlated, error) { return aggregation.NewCorrelated(d-1, n.GetSigma(), 0, nil) },
	} {
		c, err := of()
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := add(4, c.Encode()); err == nil || !strings.Contains(err.Error(), "is not of σ") {
			t.Errorf("noise of another %s: %v", what, err)
		}
	}
}

// TestMeanUnderCentralNoise decodes a round of three devices with one update, under so
// little noise that it can be seen.
func TestMeanUnderCentralNoise(t *testing.T) {
	s := central(t, 3, 1, 1, 2)
	s.Privacy.Epsilon = 900
	m := model.Layout{Rows: 64, Dim: 8, Labels: 2}
	plan, _, err := NewPlan(s, 1, 1, Basis{Layout: m})
	if err != nil {
		t.Fatal(err)
	}
	l := LayoutOf(plan, m)
	update, words, total := make([]float32, l.Parameters), make([]uint32, l.Length()), ChoiceOf(s).Sums(l.Length())
	update[0], update[1] = 0.6, -0.8 // of norm 1, which is the clip
	for device := range byte(3) {
		if err := l.Noise.Encode(words, update, [32]byte{device}, [32]byte{}); err != nil {
			t.Fatal(err)
		}
		total.Add(words, l.Signed(), int(plan.GetCodec().GetRingBits()))
	}
	if _, err := AddNoise(plan, m, nil, total, func() [32]byte { return [32]byte{9} }); err != nil {
		t.Fatal(err)
	}
	mean, devices, err := meanOf(s, &model.Checkpoint{Manifest: model.Manifest{Layout: m}, Params: make([]float32, m.Parameters())}, plan, total)
	if err != nil || devices != 3 {
		t.Fatalf("%d devices, %v; want 3", devices, err)
	}
	sigma := plan.GetNoise().GetSigma() / 256 / plan.GetNoise().GetScale() / 3
	for i, x := range mean {
		if far := math.Abs(float64(x - update[i])); far > 5*sigma+1/plan.GetNoise().GetScale() || sigma > 0.05 {
			t.Errorf("coordinate %d of the mean is %v, want %v with noise of σ %v", i, x, update[i], sigma)
		}
	}
}

// TestCentralNoiseIsKept walks two rounds with a restart between them: the noise goes on,
// and the task ends with its rounds.
func TestCentralNoiseIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, devices := fleet(t, 3, central(t, 3, 2, 1, 2), Options{})
		for round := range uint64(2) {
			walks := gather(t, devices...)
			each(t, 3, func(i int) error { return walks[i].steps(t.Context(), all) })
			synctest.Wait()
			state := w.task("desk").current.noise
			c, err := aggregation.DecodeCorrelated(state)
			if err != nil || c.Rounds() != round+1 {
				t.Fatalf("after round %d: %v", round+1, err)
			}
			if round == 1 {
				break
			}
			w.shut()
			w = newWorld(t, w.dir, Options{})
			for _, d := range devices {
				d.connect(w)
			}
			if !bytes.Equal(w.task("desk").current.noise, state) {
				t.Error("the noise is another after a restart")
			}
		}
		if task := w.task("desk"); !task.over() || task.done != 2 {
			t.Errorf("the task has done %d rounds and is over: %v", task.done, task.over())
		}
	})
}

// TestRestoredCoordinatorBeginsNoiseAnew holds that nothing is taken back of noise that the
// rounds which a restored folder has forgotten may have taken back, too: neither where it was
// copied in use, as a kill would leave it, nor where it was copied at a stop.
func TestRestoredCoordinatorBeginsNoiseAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, devices := fleet(t, 3, central(t, 3, 3, 1, 3), Options{})
		walks := gather(t, devices...)
		each(t, 3, func(i int) error { return walks[i].steps(t.Context(), all) })
		synctest.Wait()
		copied := func() string {
			t.Helper()
			dir := t.TempDir()
			if err := os.CopyFS(filepath.Join(dir, "copy"), os.DirFS(w.dir)); err != nil {
				t.Fatal(err)
			}
			return filepath.Join(dir, "copy")
		}
		inUse := copied()
		w.shut()
		stopped, later := copied(), copied()
		for _, tc := range []struct {
			what, dir string
			after     time.Duration
			kept      bool
		}{
			{"a folder that was copied in use", inUse, 0, false},
			{"a folder that was copied at a stop, at once", stopped, 14 * time.Minute, true},
			{"the same folder again", stopped, 0, true}, // it was stopped in good order, too
			{"a folder that was copied at a stop, later", later, time.Hour, false},
		} {
			time.Sleep(tc.after) // synctest's
			w := newWorld(t, tc.dir, Options{})
			task := w.task("desk")
			if kept := len(task.current.noise) > 0; kept != tc.kept || task.done != 1 {
				t.Errorf("%s: noise is gone on with: %v after %d rounds, want %v", tc.what, kept, task.done, tc.kept)
			}
			if said := w.log.count("noise begins anew") > 0; said == tc.kept {
				t.Errorf("%s: the log says that noise begins anew: %v", tc.what, said)
			}
			w.shut()
		}
	})
}

// TestNoiseOfAnotherBuildBeginsAnew holds that kept noise which a round's plan does not fit
// costs its devices nothing: the round is committed, with noise that takes nothing back.
func TestNoiseOfAnotherBuildBeginsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, devices := fleet(t, 3, central(t, 3, 2, 1, 2), Options{})
		d := LayoutOf(&pb.Plan{}, w.task("desk").current.Manifest.Layout).Parameters
		other, err := aggregation.NewCorrelated(d, 4, 0, nil)
		if err != nil {
			t.Fatal(err)
		}
		for round, kept := range [][]byte{other.Encode(), []byte("of no build")} {
			w.task("desk").current.noise = kept
			walks := gather(t, devices...)
			each(t, 3, func(i int) error { return walks[i].steps(t.Context(), all) })
			synctest.Wait()
			if done, said := w.task("desk").done, w.log.count("noise begins anew"); done != uint64(round+1) || said != round+1 {
				t.Errorf("%d rounds are done and the log says %d times that noise begins anew, want %d", done, said, round+1)
			}
			if c, err := aggregation.DecodeCorrelated(w.task("desk").current.noise); err != nil || c.Rounds() != uint64(round+1) {
				t.Errorf("after round %d: %v", round+1, err)
			}
		}
	})
}
