package client

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/discreet-fl/discreet/aggregation"
	"github.com/discreet-fl/discreet/model"
	"github.com/discreet-fl/discreet/privacy"
	pb "github.com/discreet-fl/discreet/proto"
)

// noisedPlan is a plan with noise that a device accepts: of 20 in a cohort 15 must survive,
// two of which may be corrupt.
func noisedPlan(t testing.TB, c *model.Checkpoint) *pb.Plan {
	t.Helper()
	plan := testPlan(c, c.Encode(), 20)
	plan.SecureAggregation.MinSurvivors = 15
	d, p := c.Manifest.Layout.Parameters(), &pb.Privacy{Epsilon: 8, Delta: 1e-6, Participations: 2, Separation: 3, Clip: 1}
	budget, err := budgetOf(p.Epsilon, p.Delta)
	if err != nil {
		t.Fatal(err)
	}
	charge := budget / 2
	g, err := aggregation.NewDiscreteGaussian(p.Clip, 1/math.Sqrt(2*charge.Rho()*(1-1e-9)), 13, d)
	if err != nil {
		t.Fatal(err)
	}
	plan.Noise = &pb.Noise{Privacy: p, Scale: g.Scale, Sigma: g.Sigma, Honest: 13, Charge: uint64(charge)}
	plan.Codec = &pb.Codec{RingBits: uint32(g.RingBits(20, d))}
	return plan
}

// movingPlan is noisedPlan of a task whose clip, at first 1, moves to the median.
func movingPlan(t testing.TB, c *model.Checkpoint) *pb.Plan {
	t.Helper()
	plan := noisedPlan(t, c)
	n, d := plan.Noise, c.Manifest.Layout.Parameters()
	g, err := aggregation.NewAdaptiveGaussian(1, 1/math.Sqrt(2*privacy.Charge(n.Charge).Rho()*(1-1e-9)), 13, 20, d, 10)
	if err != nil {
		t.Fatal(err)
	}
	n.Privacy.ClipQuantile, n.Sigma, n.Below, n.Above = 5000, g.Sigma, uint32(g.Below), uint32(g.Above)
	n.Clip, n.Scale = 0.5, 2*g.Scale
	plan.SecureAggregation.Length = uint32(d) + 2
	plan.Codec.RingBits = uint32(g.RingBits(20, d))
	return plan
}

// TestClipsThatMoveAreCheckedAndPaidFor changes one number of a plan whose clip moves.
func TestClipsThatMoveAreCheckedAndPaidFor(t *testing.T) {
	c := rigModel(t)
	bounds, err := Bounds{MaxEpsilon: 8}.filled()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := readPlan(encoded(t, movingPlan(t, c)), bounds); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, want string
		edit       func(*pb.Plan)
	}{
		{"less noise", "too little noise", func(p *pb.Plan) { p.Noise.Sigma *= 0.9999 }},
		{"louder votes", "too little noise", func(p *pb.Plan) { p.Noise.Below, p.Noise.Above = 2*p.Noise.Below, 2*p.Noise.Above }},
		{"the noise of the update alone", "too little noise", func(p *pb.Plan) { p.Noise.Sigma = noisedPlan(t, c).Noise.Sigma }},
		{"larger clip", "too little noise", func(p *pb.Plan) { p.Noise.Clip *= 1.001 }},
		{"no votes", "votes of 0 and −0", func(p *pb.Plan) { p.Noise.Below, p.Noise.Above = 0, 0 }},
		{"one vote", "votes of 0 and", func(p *pb.Plan) { p.Noise.Below = 0 }},
		{"votes without end", "want 1 to 4194304", func(p *pb.Plan) { p.Noise.Below, p.Noise.Above = math.MaxUint32, math.MaxUint32 }},
		{"another quantile", "that 5500 updates in 10,000", func(p *pb.Plan) { p.Noise.Privacy.ClipQuantile = 5500 }},
		{"all of them", "fewer than all", func(p *pb.Plan) { p.Noise.Privacy.ClipQuantile = 10_000 }},
		{"none of them", "whose clip stays at 1", func(p *pb.Plan) { p.Noise.Privacy.ClipQuantile = 0 }},
		{"no clip", "a clip of 0 in a task that began at 1", func(p *pb.Plan) { p.Noise.Clip = 0 }},
		{"a clip far away", "1024 times more or less", func(p *pb.Plan) { p.Noise.Clip = 1025 }},
		{"a clip near nothing", "1024 times more or less", func(p *pb.Plan) { p.Noise.Clip = 0.0009 }},
		{"a clip that is no number", "a clip of NaN", func(p *pb.Plan) { p.Noise.Clip = float32(math.NaN()) }},
		{"a first clip without bounds", "a clip of", func(p *pb.Plan) { p.Noise.Privacy.Clip = float32(math.Inf(1)) }},
		{"noise by the coordinator", "in units of other clips", func(p *pb.Plan) {
			p.Noise.Privacy.Central, p.Noise.Honest = centralPlan(t, c).Noise.Privacy.Central, 0
			p.Noise.Privacy.Epsilon = 8
		}},
		{"ring", "overflow", func(p *pb.Plan) { p.Codec.RingBits-- }},
		{"no words", "vectors of 1 words", func(p *pb.Plan) { p.SecureAggregation.Length = 1 }},
		{"no parameters", "0 parameters", func(p *pb.Plan) { p.SecureAggregation.Length = 2 }},
	} {
		plan := movingPlan(t, c)
		tc.edit(plan)
		loose := bounds
		loose.TrustCoordinator = true
		if _, err := readPlan(encoded(t, plan), loose); !errors.Is(err, ErrPlanRefused) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want ErrPlanRefused with %q", tc.name, err, tc.want)
		}
	}
	plan := movingPlan(t, c)
	plan.SecureAggregation.Length-- // a vector without the vote
	if err := checkModel(plan, c); !errors.Is(err, ErrPlanRefused) {
		t.Errorf("a vector without a vote: %v", err)
	}
}

// centralPlan is a plan that a device accepts where it trusts the coordinator to add noise.
func centralPlan(t testing.TB, c *model.Checkpoint) *pb.Plan {
	t.Helper()
	plan, d := noisedPlan(t, c), c.Manifest.Layout.Parameters()
	p := plan.Noise.Privacy
	p.Central = &pb.CentralNoise{Rounds: 10, Scale: []float64{0.4, 0.05}, Decay: []float64{0.8, 0.999}}
	g, err := aggregation.NewCentral(p.Clip, d)
	if err != nil {
		t.Fatal(err)
	}
	const one = 1 << 20
	m := privacy.BLT{Scale: p.Central.Scale, Decay: p.Central.Decay}
	cost := m.VectorRho(g.Norm(d)*(1<<aggregation.NoiseBits), one, d, 10, int(p.Separation), int(p.Participations))
	plan.Noise.Scale, plan.Noise.Honest = g.Scale, 0
	plan.Noise.Sigma = one * math.Sqrt(cost/privacy.Charge(plan.Noise.Charge).Rho()) * (1 + 1e-9)
	plan.Codec = &pb.Codec{RingBits: uint32(g.RingBits(20, d))}
	return plan
}

// TestPlansWithTooLittleCentralNoiseAreRefused changes one number of a plan whose
// coordinator keeps its promise, if it is to be trusted.
func TestPlansWithTooLittleCentralNoiseAreRefused(t *testing.T) {
	c := rigModel(t)
	for _, tc := range []struct {
		bounds Bounds
		want   string
	}{
		{Bounds{}, ""},
		{Bounds{MaxEpsilon: 8, TrustCoordinator: true}, ""},
		{Bounds{MaxEpsilon: 8}, "let it trust the coordinator"},
		{Bounds{MaxEpsilon: 7, TrustCoordinator: true}, "this device's own bound"},
	} {
		bounds, err := tc.bounds.filled()
		if err != nil {
			t.Fatal(err)
		}
		_, err = readPlan(encoded(t, centralPlan(t, c)), bounds)
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%+v: %v, want %q", tc.bounds, err, tc.want)
		}
	}
	bounds, err := Bounds{MaxEpsilon: 8, TrustCoordinator: true}.filled()
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, want string
		edit       func(*pb.Plan)
	}{
		{"less noise", "too little noise", func(p *pb.Plan) { p.Noise.Sigma *= 0.9999 }},
		{"hardly any noise", "ρ is +Inf", func(p *pb.Plan) { p.Noise.Sigma = 3 }},
		{"noise that is no number", "ρ is +Inf", func(p *pb.Plan) { p.Noise.Sigma = math.NaN() }},
		{"more memory", "too little noise", func(p *pb.Plan) { p.Noise.Privacy.Central.Scale[0] = 0.41 }},
		{"longer memory", "too little noise", func(p *pb.Plan) { p.Noise.Privacy.Central.Decay[0] = 0.81 }},
		{"growing memory", "a sum of at most 1", func(p *pb.Plan) { p.Noise.Privacy.Central.Scale[0] = 1 }},
		{"memory of nothing", "want one each", func(p *pb.Plan) { p.Noise.Privacy.Central.Decay = nil }},
		{"many buffers", "17 buffers", func(p *pb.Plan) { p.Noise.Privacy.Central.Scale = make([]float64, 17) }},
		{"sooner again", "too little noise", func(p *pb.Plan) { p.Noise.Privacy.Separation = 1 }},
		{"more rounds", "too little noise", func(p *pb.Plan) { p.Noise.Privacy.Central.Rounds = 20 }},
		{"a round beyond them", "round 11 of 10", func(p *pb.Plan) { p.Round = 11 }},
		{"endless rounds", "1 to 8192", func(p *pb.Plan) { p.Noise.Privacy.Central.Rounds = 1 << 14 }},
		{"honest devices", "want 0", func(p *pb.Plan) { p.Noise.Honest = 13 }},
		{"a compression", "taken back", func(p *pb.Plan) { p.Compression = &pb.Compression{Method: pb.Compression_METHOD_SKETCH, Ratio: 4} }},
		{"larger scale", "too little noise", func(p *pb.Plan) { p.Noise.Scale *= 1.001 }},
	} {
		plan := centralPlan(t, c)
		tc.edit(plan)
		if _, err := readPlan(encoded(t, plan), bounds); !errors.Is(err, ErrPlanRefused) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want ErrPlanRefused with %q", tc.name, err, tc.want)
		}
	}
	l := &ledger{}
	l.Promise = new(promise)
	*l.Promise = promiseOf(noisedPlan(t, c).Noise.Privacy)
	if err := l.mayGive(centralPlan(t, c).Noise.Privacy); !errors.Is(err, errPromise) {
		t.Errorf("a task that was noised by devices and is by the coordinator: %v, want errPromise", err)
	}
	if text := l.sumsText(centralPlan(t, c).Noise.Privacy); !strings.HasPrefix(text, "noised by the coordinator, which is trusted") {
		t.Errorf("status %q", text)
	}
}

func rigModel(t testing.TB) *model.Checkpoint {
	t.Helper()
	l, err := model.NewLayout("small", len(rigLabels))
	if err != nil {
		t.Fatal(err)
	}
	c, err := model.NewCheckpoint("shop", "small", 0, rigLabels, l.Init(1))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func encoded(t testing.TB, plan *pb.Plan) []byte {
	t.Helper()
	b, err := proto.Marshal(plan)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestPlansWithTooLittleNoiseAreRefused changes one number of a plan that keeps its promise.
func TestPlansWithTooLittleNoiseAreRefused(t *testing.T) {
	c := rigModel(t)
	bounds, err := Bounds{MaxEpsilon: 8}.filled()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := readPlan(encoded(t, noisedPlan(t, c)), bounds); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, want string
		edit       func(*pb.Plan)
	}{
		{"exact sums", "sums are exact, this device asks for noise, ε 8 at most", func(p *pb.Plan) {
			p.Noise, p.Codec = nil, &pb.Codec{Clip: 1, Bits: 16, RingBits: 22, MaxWeight: 64}
		}},
		{"no promise", "sums are exact", func(p *pb.Plan) { p.Noise.Privacy = nil }},
		{"larger ε", "this device's own bound", func(p *pb.Plan) { p.Noise.Privacy.Epsilon = 8.1 }},
		{"ε that is no number", "ε NaN", func(p *pb.Plan) { p.Noise.Privacy.Epsilon = math.NaN() }},
		{"smaller ε than paid for", "more than the ρ", func(p *pb.Plan) { p.Noise.Privacy.Epsilon = 7.9 }},
		{"δ of 1", "at most 0.001", func(p *pb.Plan) { p.Noise.Privacy.Delta = 1 }},
		{"one participation more", "3 vectors of ρ", func(p *pb.Plan) { p.Noise.Privacy.Participations = 3 }},
		{"no participation", "take part 0 times", func(p *pb.Plan) { p.Noise.Privacy.Participations = 0 }},
		{"no separation", "lets 0 rounds pass", func(p *pb.Plan) { p.Noise.Privacy.Separation = 0 }},
		{"less noise", "too little noise", func(p *pb.Plan) { p.Noise.Sigma *= 0.9999 }},
		{"hardly any noise", "want 4 to", func(p *pb.Plan) { p.Noise.Sigma = 3 }},
		{"noise that is no number", "σ NaN", func(p *pb.Plan) { p.Noise.Sigma = math.NaN() }},
		{"larger scale", "too little noise", func(p *pb.Plan) { p.Noise.Scale *= 1.001 }},
		{"larger clip", "too little noise", func(p *pb.Plan) { p.Noise.Privacy.Clip *= 1.001 }},
		{"cheaper", "more than the", func(p *pb.Plan) { p.Noise.Charge -= 1_000_000 }},
		{"for nothing", "more than the", func(p *pb.Plan) { p.Noise.Charge = 0 }},
		{"dearer", "more than the ρ", func(p *pb.Plan) { p.Noise.Charge += 1_000_000 }},
		{"more honest devices", "want 13", func(p *pb.Plan) { p.Noise.Honest = 15 }},
		{"fewer survivors", "want 3, at least 1", func(p *pb.Plan) { p.SecureAggregation.MinSurvivors = 5 }},
		{"nobody honest", "at least 1", func(p *pb.Plan) {
			p.SecureAggregation.MinSurvivors, p.SecureAggregation.Corrupt, p.Noise.Honest = 3, 1500, 0
		}},
		{"a codec", "want the noise alone", func(p *pb.Plan) { p.Codec.Clip = 1 }},
		{"counts", "without noise", func(p *pb.Plan) {
			p.Evaluation = &pb.Evaluation{HeldBack: 1000, Chats: 100, Bins: 20, ScoreHigh: 12, MarginLow: -5, MarginHigh: 5}
		}},
		{"ring", "overflow", func(p *pb.Plan) { p.Codec.RingBits-- }},
		{"wide ring", "33 bits", func(p *pb.Plan) { p.Codec.RingBits = 33 }},
		{"no words", "vectors of 1 words", func(p *pb.Plan) { p.SecureAggregation.Length = 1 }},
		{"endless words", "words", func(p *pb.Plan) { p.SecureAggregation.Length = math.MaxUint32 }},
	} {
		plan := noisedPlan(t, c)
		tc.edit(plan)
		if _, err := readPlan(encoded(t, plan), bounds); !errors.Is(err, ErrPlanRefused) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want ErrPlanRefused with %q", tc.name, err, tc.want)
		}
	}
}

// TestLedgerRefusesBeyondTheBudget walks a device through a task whose promise allows two
// vectors, three rounds apart, and reads its folder again after every step as it is on the
// disk at that moment: what a kill in the next one leaves.
func TestLedgerRefusesBeyondTheBudget(t *testing.T) {
	dir, m := t.TempDir(), rigModel(t)
	c, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { c.Close() }()
	const advertise, submit = pb.Step_STEP_ADVERTISE, pb.Step_STEP_SUBMIT
	plan := func(round uint64, attempt uint32) *pb.Plan {
		p := noisedPlan(t, m)
		p.Round, p.Attempt = round, attempt
		return p
	}
	another := plan(9, 1)
	another.Noise.Privacy.Epsilon = 9
	exact := plan(9, 1)
	exact.Noise = nil
	first := plan(5, 1)
	charge := privacy.Charge(first.Noise.Charge)
	for i, s := range []struct {
		plan    *pb.Plan
		step    pb.Step
		err     error
		words   string
		vectors int // afterwards
	}{
		{first, submit, errAnswered, "", 0}, // never joined
		{first, advertise, nil, "", 0},
		{first, submit, nil, "", 1},
		{first, submit, errAnswered, "one vector in an attempt", 1},
		{plan(6, 1), advertise, ErrPlanRefused, "in round 5, and may send the next in round 8", 1},
		{plan(7, 1), advertise, ErrPlanRefused, "may send the next in round 8", 1},
		{another, advertise, errPromise, "", 1},
		{exact, advertise, errPromise, "its sums are exact now", 1},
		{plan(5, 2), advertise, nil, "", 1}, // another attempt, which is paid for as well
		{plan(5, 2), submit, nil, "", 2},
		{plan(9, 1), advertise, ErrSpent, "2 vectors of the 2", 2},
	} {
		err := c.record(s.plan, &model.Manifest{}, s.step)
		if !errors.Is(err, s.err) || err != nil && !strings.Contains(err.Error(), s.words) {
			t.Errorf("step %d, %v: %v, want %v with %q", i, s.step, err, s.err, s.words)
		}
		killed := asItIsOnDisk(t, dir)
		if s.err == nil {
			c.Close()
			if c, err = Open(dir, Options{}); err != nil {
				t.Fatal(err)
			}
		}
		for what, d := range map[string]string{"after a kill": killed, "after a restart": dir} {
			if got := givenIn(t, c, dir, d); len(got.Vectors) != s.vectors || math.Abs(got.GivenRho-charge.Times(s.vectors).Rho()) > 1e-12 {
				t.Fatalf("step %d, %s: %+v, want %d vectors of ρ %v", i, what, got, s.vectors, charge.Rho())
			}
		}
	}
	if got := givenIn(t, c, dir, dir); got.GivenEpsilon > 8 || got.GivenEpsilon < 7.99 || got.Epsilon != 8 || got.Vectors[1].Attempt != 2 || got.Vectors[1].At.IsZero() {
		t.Errorf("in the end %+v, want an ε of 8 and little less", got)
	}
	for state, want := range map[*pb.TaskState]error{
		{Task: "shop", SecureAggregation: first.SecureAggregation, Privacy: first.Noise.Privacy}:  ErrSpent,
		{Task: "other", SecureAggregation: first.SecureAggregation, Privacy: first.Noise.Privacy}: nil,
	} {
		if err := c.mayAsk(state); !errors.Is(err, want) {
			t.Errorf("checking in to task %s: %v, want %v", state.Task, err, want)
		}
	}
}

// asItIsOnDisk copies a folder that is open.
func asItIsOnDisk(t *testing.T, dir string) string {
	t.Helper()
	to := t.TempDir()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, filepath.Base(path)), b, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// givenIn is what the device of a folder has given away in the task; open is that of dir.
func givenIn(t *testing.T, open *Client, dir, folder string) Given {
	t.Helper()
	c := open
	if folder != dir {
		var err error
		if c, err = Open(folder, Options{}); err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	all, err := c.Privacy()
	if err != nil || len(all) > 1 {
		t.Fatalf("%+v, %v", all, err)
	}
	if len(all) == 0 {
		return Given{}
	}
	return all[0]
}

func TestExactSumsAreCounted(t *testing.T) {
	c, err := Open(t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for round := range uint64(3) {
		for _, step := range []pb.Step{pb.Step_STEP_ADVERTISE, pb.Step_STEP_SUBMIT} {
			if err := c.record(planAt(round+1, 1, byte(round)), &model.Manifest{}, step); err != nil {
				t.Fatal(err)
			}
		}
	}
	got, err := c.Privacy()
	if want := []Given{{Task: "shop", Exact: 3}}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	l, err := c.readLedger("shop")
	if err != nil || !strings.HasPrefix(l.sumsText(nil), "EXACT") {
		t.Errorf("status says %q, %v", l.sumsText(nil), err)
	}
}

// TestStatusSaysOfExactVectors holds what a device's status says in a task that it has
// also sent vectors without noise in.
func TestStatusSaysOfExactVectors(t *testing.T) {
	p := &pb.Privacy{Epsilon: 8, Delta: 1e-6, Participations: 5, Separation: 1, Clip: 1}
	for exact, want := range map[uint64]string{0: "in 0 of 5 vectors", 2: "in 0 of 5 vectors; and 2 vectors in EXACT sums, of which nothing is promised"} {
		if got := (&ledger{Exact: exact}).sumsText(p); !strings.HasSuffix(got, want) || !strings.HasPrefix(got, "noised: ") {
			t.Errorf("%d exact vectors: %q, want it to end with %q", exact, got, want)
		}
	}
}

// TestPlansPromiseWhatTheirTaskWasListedWith changes what a plan promises against the list
// that the device decided on.
func TestPlansPromiseWhatTheirTaskWasListedWith(t *testing.T) {
	c := rigModel(t)
	listed := &pb.TaskState{Task: "shop", Privacy: proto.CloneOf(movingPlan(t, c).Noise.Privacy)}
	if err := asListed(movingPlan(t, c), listed); err != nil {
		t.Error(err)
	}
	if err := asListed(testPlan(c, c.Encode(), 3), &pb.TaskState{Task: "shop"}); err != nil {
		t.Error(err)
	}
	for _, tc := range []struct {
		name, want string
		edit       func(*pb.Plan)
	}{
		{"exact sums", "promises exact sums, and the task was listed with ε 8", func(p *pb.Plan) { p.Noise = nil }},
		{"another ε", "promises ε 9 at", func(p *pb.Plan) { p.Noise.Privacy.Epsilon = 9 }},
		{"another δ", "at δ 1e-05", func(p *pb.Plan) { p.Noise.Privacy.Delta = 1e-5 }},
		{"more vectors", "in 3 vectors", func(p *pb.Plan) { p.Noise.Privacy.Participations = 3 }},
		{"sooner again", "1 rounds apart", func(p *pb.Plan) { p.Noise.Privacy.Separation = 1 }},
		{"another clip", "from a clip of 2", func(p *pb.Plan) { p.Noise.Privacy.Clip = 2 }},
		{"noise by the coordinator", "noised by the coordinator", func(p *pb.Plan) { p.Noise.Privacy.Central = &pb.CentralNoise{Rounds: 3} }},
	} {
		plan := movingPlan(t, c)
		tc.edit(plan)
		if err := asListed(plan, listed); !errors.Is(err, ErrPlanRefused) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want ErrPlanRefused with %q", tc.name, err, tc.want)
		}
	}
	if err := asListed(movingPlan(t, c), nil); !errors.Is(err, ErrPlanRefused) || !strings.Contains(err.Error(), "did not list") {
		t.Errorf("a task that was not listed: %v", err)
	}
	device, err := Open(t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	place, exact := &Place{Plan: encoded(t, noisedPlan(t, c))}, []*pb.TaskState{{Task: "shop"}}
	if _, err := device.takePart(t.Context(), nil, place, exact); !errors.Is(err, ErrPlanRefused) || !strings.Contains(err.Error(), "listed with exact sums") {
		t.Errorf("taking part in a task that was listed with exact sums: %v", err)
	}
}

// TestNobodyWithoutDataStandsOut compares what a device without data sends with what
// another does, whatever its training ends in: the same words for the weight, the same
// noise in all others.
func TestNobodyWithoutDataStandsOut(t *testing.T) {
	c, seed := rigModel(t), [32]byte{7}
	plan := noisedPlan(t, c)
	for n, train := range map[int]func(params []float32) error{
		0: nil,
		5: func(params []float32) error {
			for i := range params {
				params[i] += 0.001 // a norm of 0.5
			}
			return nil
		},
		// What a checkpoint may have been made to bring about on certain chats.
		6: func(params []float32) error { params[3] = float32(math.NaN()); return nil },
		7: func(params []float32) error { params[3] = float32(math.Inf(1)); return errors.New("the loss is NaN") },
		8: func(params []float32) error { params[3] = math.MaxFloat32; return nil },
	} {
		p := &Participant{
			Examples: func(*model.Manifest) ([]model.Example, error) { return make([]model.Example, n), nil },
			Train: func(params []float32, _ model.Layout, _ []model.Example, _ model.Training, _ uint64) error {
				return train(params)
			},
			Seed: func(_ *pb.Plan, purpose string) [32]byte { seed[1] = byte(len(purpose)); return seed },
		}
		words, err := p.Update(plan, c)
		if err != nil {
			t.Fatal(err)
		}
		if words[len(words)-1] != 1 {
			t.Errorf("%d examples: weight %d, want 1", n, words[len(words)-1])
		}
		var squares float64
		for _, w := range words[:len(words)-1] {
			squares += float64(int32(w)) * float64(int32(w))
		}
		if got := math.Sqrt(squares/float64(len(words)-1)) / plan.Noise.Sigma; math.Abs(got-1) > 0.01 {
			t.Errorf("%d examples: words of %.4f standard deviations of the noise, want 1 within 1%%", n, got)
		}
	}
}

func TestBoundOfEpsilonIsANumber(t *testing.T) {
	for _, e := range []float64{-1, math.NaN(), math.Inf(1)} {
		if _, err := Open(t.TempDir(), Options{Bounds: Bounds{MaxEpsilon: e}}); err == nil || !strings.Contains(err.Error(), fmt.Sprint(e)) {
			t.Errorf("a bound of ε %v: %v", e, err)
		}
	}
}

// TestBoundedDevicesStayAway holds which tasks a device with a bound of its own checks in to.
func TestBoundedDevicesStayAway(t *testing.T) {
	c, err := Open(t.TempDir(), Options{Bounds: Bounds{MaxEpsilon: 4}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	rounds := &pb.SecureAggregation{Cohort: 20, MinSurvivors: 15, Corrupt: 1000, Keys: pb.KeyExchange_KEY_EXCHANGE_HYBRID}
	state := func(name string, epsilon float64) *pb.TaskState {
		s := &pb.TaskState{Task: name, SecureAggregation: rounds}
		if epsilon > 0 {
			s.Privacy = &pb.Privacy{Epsilon: epsilon, Delta: 1e-6, Participations: 5, Separation: 1, Clip: 1}
		}
		return s
	}
	if got, err := c.eligible([]*pb.TaskState{state("exact", 0), state("lax", 8), state("strict", 2)}); len(got) != 1 || got[0] != "strict" || err != nil {
		t.Errorf("checks in to %q, %v; want strict", got, err)
	}
	for _, s := range []*pb.TaskState{state("exact", 0), state("lax", 8)} {
		if got, err := c.eligible([]*pb.TaskState{s}); !errors.Is(err, ErrPlanRefused) {
			t.Errorf("checks in to %q, %v; want ErrPlanRefused for %s", got, err, s.Task)
		}
	}
}

// lister lists tasks, and counts how often.
type lister struct {
	Transport
	tasks []*pb.TaskState
	asked int
}

func (l *lister) Tasks(context.Context, *pb.TasksRequest) (*pb.TasksResponse, error) {
	l.asked++
	return &pb.TasksResponse{Version: pb.Current(), Tasks: l.tasks}, nil
}

// TestTaskCreatedWhileADeviceWaited holds that such a task is looked for once more, and
// held against the device's bounds as any.
func TestTaskCreatedWhileADeviceWaited(t *testing.T) {
	sums := &pb.SecureAggregation{Keys: pb.KeyExchange_KEY_EXCHANGE_HYBRID, Cohort: 100, Corrupt: 1000, MinSurvivors: 20}
	desk := &pb.TaskState{Task: "desk", SecureAggregation: sums}
	weak := &pb.TaskState{Task: "weak", SecureAggregation: &pb.SecureAggregation{Keys: pb.KeyExchange_KEY_EXCHANGE_HYBRID, Cohort: 100, Corrupt: 1000, MinSurvivors: 3}}
	device, err := Open(t.TempDir(), Options{Bounds: Bounds{MinSurvivors: 20}})
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	l := &lister{tasks: []*pb.TaskState{desk, weak}}
	if got, err := device.listed(t.Context(), l, "desk", []*pb.TaskState{desk}); err != nil || got != desk || l.asked != 0 {
		t.Errorf("a task that was listed: %v, %v, asked %d times", got, err, l.asked)
	}
	if got, err := device.listed(t.Context(), l, "desk", nil); err != nil || got != desk || l.asked != 1 {
		t.Errorf("a task that is new: %v, %v, asked %d times", got, err, l.asked)
	}
	if got, err := device.listed(t.Context(), l, "weak", nil); !errors.Is(err, ErrPlanRefused) {
		t.Errorf("a new task of too few survivors: %v, %v", got, err)
	}
	if got, err := device.listed(t.Context(), l, "none", nil); err != nil || got != nil {
		t.Errorf("a task that there is not: %v, %v", got, err)
	}
}
