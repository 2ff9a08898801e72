package client

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/discreet-fl/discreet/aggregation"
	"github.com/discreet-fl/discreet/model"
	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/secagg"
)

// rig is a coordinator for one attempt, scripted over secagg's own server values:
// a step closes when as many members as the script wants have answered it. It is
// an honest coordinator without clock, store or network.
type rig struct {
	t          *testing.T
	ca         ed25519.PrivateKey
	plan       *pb.Plan
	planBytes  []byte
	checkpoint []byte
	model      *model.Checkpoint

	mu      sync.Mutex
	steps   map[pb.Step]*gate
	wanted  map[pb.Step]int
	vectors map[secagg.ID][]byte

	adverts    *secagg.Adverts
	shares     *secagg.Shares
	submits    *secagg.Submissions
	confirms   *secagg.Confirms
	reveals    *secagg.Reveals
	complaints [][]byte
	words      []uint32            // the sum
	next       []byte              // the checkpoint that the round made
	files      map[[32]byte][]byte // every checkpoint by its SHA-256
}

// gate holds the calls of one step until it closes.
type gate struct {
	got     map[secagg.ID][]byte
	answers map[secagg.ID][]byte
	err     error
	closed  chan struct{}
}

// rigSteps are the steps in order.
var rigSteps = []pb.Step{pb.Step_STEP_ADVERTISE, pb.Step_STEP_SHARE, pb.Step_STEP_SUBMIT, pb.Step_STEP_CONFIRM, pb.Step_STEP_REVEAL}

var rigLabels = []string{"where is it", "give it back", "hello"}

// newRig returns a rig for a cohort of n, of which wanted says how many answer a
// step; all of them where it says nothing.
func newRig(t *testing.T, n int, wanted map[pb.Step]int) *rig {
	t.Helper()
	_, ca, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	layout, err := model.NewLayout("small", len(rigLabels))
	if err != nil {
		t.Fatal(err)
	}
	c, err := model.NewCheckpoint("shop", "small", 0, rigLabels, layout.Init(1))
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, ca: ca, model: c, checkpoint: c.Encode(), wanted: wanted, steps: make(map[pb.Step]*gate), vectors: make(map[secagg.ID][]byte)}
	if r.wanted == nil {
		r.wanted = make(map[pb.Step]int)
	}
	for _, s := range rigSteps {
		r.steps[s] = &gate{got: make(map[secagg.ID][]byte), closed: make(chan struct{})}
		if r.wanted[s] == 0 {
			r.wanted[s] = n
		}
	}
	r.files = map[[32]byte][]byte{sha256.Sum256(r.checkpoint): r.checkpoint}
	r.setPlan(testPlan(c, r.checkpoint, n))
	return r
}

// testPlan is a plan that a device accepts.
func testPlan(c *model.Checkpoint, checkpoint []byte, n int) *pb.Plan {
	sum := sha256.Sum256(checkpoint)
	codec := aggregation.Codec{Clip: 1, Bits: 16, MaxWeight: 64}
	return &pb.Plan{
		Task: c.Manifest.Task, Round: 1, Attempt: 1,
		CheckpointSha256: sum[:], CheckpointBytes: uint64(len(checkpoint)),
		Training: &pb.Training{Epochs: 20, Batch: 4, LearningRate: 0.5, FeatureDropout: 0.1, LabelSmoothing: 0.1},
		Codec:    &pb.Codec{Clip: codec.Clip, Bits: uint32(codec.Bits), RingBits: uint32(codec.RingBits(n)), MaxWeight: uint32(codec.MaxWeight)},
		SecureAggregation: &pb.SecureAggregation{
			Length: uint32(codec.Length(c.Manifest.Layout.Parameters())), Cohort: uint32(n), MinSurvivors: 3,
			Corrupt: 1000, Dropout: 1000, Keys: pb.KeyExchange_KEY_EXCHANGE_HYBRID,
		},
		AdvertiseMs: 8000, StepMs: 2000,
	}
}

// setPlan tells the devices that check in from now on another plan.
func (r *rig) setPlan(plan *pb.Plan) {
	r.t.Helper()
	b, err := proto.Marshal(plan)
	if err != nil {
		r.t.Fatal(err)
	}
	r.plan, r.planBytes = plan, b
}

// params are the coordinator's, by its plan.
func (r *rig) params() secagg.Params {
	a := newAttempt(&Participant{CA: r.authority()}, nil, r.plan, Bounds{})
	return a.params(r.planBytes)
}

// begin starts the attempt with those who have checked in.
func (r *rig) begin(p secagg.Params, checkIns map[secagg.ID][32]byte) {
	r.t.Helper()
	var err error
	if r.adverts, err = secagg.NewServer(p, checkIns); err != nil {
		r.t.Fatal(err)
	}
}

// guest is a device that has checked in.
type guest struct {
	*Participant
	link  *member
	place *Place
}

// id is the guest's.
func (g *guest) id() secagg.ID { return g.link.id }

// takePart walks through the attempt.
func (g *guest) takePart(ctx context.Context) (*Result, error) {
	c, err := OpenCheckpoint(g.link.r.checkpoint)
	if err != nil {
		return nil, err
	}
	return g.TakePart(ctx, g.link, g.place, c)
}

// opened is the checkpoint that the plan names.
func (r *rig) opened(t *testing.T) *Checkpoint {
	t.Helper()
	c, err := OpenCheckpoint(r.checkpoint)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// guests lets n devices check in and begins the attempt: the first has no example,
// the second one, and so on.
func (r *rig) guests(n int) []*guest { return r.guestsOf(r.params(), n) }

// guestsOf is guests of a coordinator with other parameters than its plan's.
func (r *rig) guestsOf(params secagg.Params, n int) []*guest {
	r.t.Helper()
	all := make([]*guest, n)
	checkIns := make(map[secagg.ID][32]byte)
	for i := range all {
		p := r.participant(i, i)
		checkedIn, commitment, err := secagg.CheckIn(rand.Reader)
		if err != nil {
			r.t.Fatal(err)
		}
		all[i] = &guest{p, &member{r: r, id: secagg.DeviceID(publicKey(p.Signer))}, &Place{CheckedIn: checkedIn, Plan: r.planBytes}}
		checkIns[all[i].id()] = commitment
	}
	r.begin(params, checkIns)
	for _, g := range all {
		var err error
		if g.place.Committed, err = r.adverts.Committed(g.id()); err != nil {
			r.t.Fatal(err)
		}
	}
	return all
}

// checkedIn is a place with a nonce of its own, in no attempt.
func checkedIn(t *testing.T, plan []byte) *Place {
	t.Helper()
	c, _, err := secagg.CheckIn(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &Place{CheckedIn: c, Plan: plan}
}

func (r *rig) authority() ed25519.PublicKey { return r.ca.Public().(ed25519.PublicKey) }

// signer is a newly enrolled device.
func (r *rig) signer() secagg.Signer {
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		r.t.Fatal(err)
	}
	return secagg.Signer{Key: key, Credential: secagg.Certify(r.ca, public)}
}

// participant is a device whose training moves every parameter by its own small
// step and whose rounding repeats.
func (r *rig) participant(number, examples int) *Participant {
	return &Participant{
		Signer: r.signer(), CA: r.authority(),
		Examples: func(*model.Manifest) ([]model.Example, error) { return make([]model.Example, examples), nil },
		Train: func(params []float32, _ model.Layout, _ []model.Example, _ model.Training, _ uint64) error {
			for i := range params {
				params[i] += float32(number+1) * float32(i%7) / 1000
			}
			return nil
		},
		Seed: func(_ *pb.Plan, purpose string) [32]byte {
			return sha256.Sum256(fmt.Appendf(nil, "%s %d", purpose, number))
		},
	}
}

// call hands one member's message to a step and waits for the step to close.
func (r *rig) call(ctx context.Context, step pb.Step, from secagg.ID, message []byte) ([]byte, error) {
	g := r.steps[step]
	r.mu.Lock()
	if before, again := g.got[from]; !again {
		if err := r.receive(step, from, bytes.Clone(message)); err != nil { // the protocol wipes what was revealed to it
			r.mu.Unlock()
			return nil, status.Error(codes.InvalidArgument, err.Error())
		}
		g.got[from] = bytes.Clone(message)
		if len(g.got) == r.wanted[step] {
			g.answers, g.err = r.close(step)
			close(g.closed)
		}
	} else if !bytes.Equal(before, message) {
		r.mu.Unlock()
		return nil, status.Error(codes.Aborted, "not the bytes that came first")
	}
	r.mu.Unlock()
	select {
	case <-g.closed:
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	if g.err != nil {
		return nil, status.Error(codes.Aborted, g.err.Error())
	}
	return g.answers[from], nil
}

// receive hands a message to the server value of its step.
func (r *rig) receive(step pb.Step, from secagg.ID, message []byte) error {
	var err error
	switch {
	case step == pb.Step_STEP_ADVERTISE && r.adverts != nil:
		err = r.adverts.Add(from, message)
	case step == pb.Step_STEP_SHARE && r.shares != nil:
		err = r.shares.Add(from, message)
	case step == pb.Step_STEP_SUBMIT && r.submits != nil:
		err = r.submits.Add(from)
	case step == pb.Step_STEP_CONFIRM && r.confirms != nil:
		err = r.confirms.Add(from, message)
	case step == pb.Step_STEP_REVEAL && r.reveals != nil:
		err = r.reveals.Add(from, message)
	default:
		err = errors.New("not this step's turn")
	}
	return err
}

// close closes a step and returns every member's answer.
func (r *rig) close(step pb.Step) (map[secagg.ID][]byte, error) {
	answer, err := r.closed(step)
	if err != nil {
		return nil, err
	}
	answers := make(map[secagg.ID][]byte)
	for id := range r.steps[step].got {
		if answers[id], err = answer(id); err != nil {
			return nil, err
		}
	}
	return answers, nil
}

// closed closes a step and returns what answers a member.
func (r *rig) closed(step pb.Step) (answer func(secagg.ID) ([]byte, error), err error) {
	all := func(b []byte) func(secagg.ID) ([]byte, error) {
		return func(secagg.ID) ([]byte, error) { return b, nil }
	}
	switch step {
	case pb.Step_STEP_ADVERTISE:
		cohorts, err := r.adverts.Close()
		if err != nil {
			return nil, err
		}
		if len(cohorts) != 1 {
			return nil, fmt.Errorf("%d cohorts, want the rig's one", len(cohorts))
		}
		r.shares = cohorts[0]
		return r.shares.Roster, nil
	case pb.Step_STEP_SHARE:
		if r.submits, err = r.shares.Close(); err != nil {
			return nil, err
		}
		return r.submits.Inbox, nil
	case pb.Step_STEP_SUBMIT:
		r.words = make([]uint32, r.plan.SecureAggregation.Length)
		for id, packed := range r.steps[step].got {
			if err := aggregation.AddPacked(r.words, packed, int(r.plan.Codec.RingBits)); err != nil {
				return nil, fmt.Errorf("device %v: %w", id, err)
			}
		}
		if r.confirms, err = r.submits.Close(); err != nil {
			return nil, err
		}
		return r.confirms.Survivors, nil
	case pb.Step_STEP_CONFIRM:
		if r.reveals, err = r.confirms.Close(); err != nil {
			return nil, err
		}
		return all(r.reveals.Quorum()), nil
	}
	u, err := r.reveals.Close()
	if err != nil {
		return nil, err
	}
	u.Range(r.words, 0, len(r.words))
	sum, err := r.commit()
	return all(sum), err
}

// commit steps the model by the mean update and returns its new name.
func (r *rig) commit() ([]byte, error) {
	mean, total := make([]float32, len(r.model.Params)), make([]int64, len(r.words))
	l := layout(r.plan, r.model.Manifest.Layout)
	aggregation.Lift(total, r.words, l.Signed(), int(r.plan.Codec.RingBits))
	if _, err := l.Codec.Decode(mean, l.Update(total)); err != nil {
		return nil, err
	}
	for i, before := range r.model.Params {
		mean[i] += before
	}
	c, err := model.NewCheckpoint(r.plan.Task, "small", r.plan.Round, rigLabels, mean)
	if err != nil {
		return nil, err
	}
	r.next = c.Encode()
	sum := sha256.Sum256(r.next)
	r.files[sum] = r.next
	return sum[:], nil
}

// over tells whether the round has made its checkpoint.
func (r *rig) over() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.next != nil
}

func publicKey(s secagg.Signer) ed25519.PublicKey { return s.Key.Public().(ed25519.PublicKey) }
