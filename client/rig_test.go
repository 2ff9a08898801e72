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

	adverts *secagg.Adverts
	shares  *secagg.Shares
	submits *secagg.Submissions
	reveals *secagg.Reveals
	words   []uint32            // the sum
	next    []byte              // the checkpoint that the round made
	files   map[[32]byte][]byte // every checkpoint by its SHA-256
}

// gate holds the calls of one step until it closes.
type gate struct {
	got     map[secagg.ID][]byte
	answers map[secagg.ID][]byte
	err     error
	closed  chan struct{}
}

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
	for _, s := range []pb.Step{pb.Step_STEP_ADVERTISE, pb.Step_STEP_SHARE, pb.Step_STEP_SUBMIT, pb.Step_STEP_REVEAL} {
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
		},
		AdvertiseMs: 8000, StepMs: 2000,
	}
}

// setPlan makes the rig ready for an attempt with this plan.
func (r *rig) setPlan(plan *pb.Plan) {
	r.t.Helper()
	b, err := proto.Marshal(plan)
	if err != nil {
		r.t.Fatal(err)
	}
	r.plan, r.planBytes = plan, b
	r.adverts, err = secagg.NewServer(secagg.Params{
		Task: plan.Task, Round: plan.Round, Attempt: plan.Attempt, Plan: b, CA: r.authority(),
		Length: int(plan.SecureAggregation.Length), RingBits: int(plan.Codec.RingBits),
		Cohort: int(plan.SecureAggregation.Cohort), MinSurvivors: int(plan.SecureAggregation.MinSurvivors),
	})
	if err != nil {
		r.t.Fatal(err)
	}
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
		Signer: r.signer(), CA: r.authority(), MinSurvivors: 3,
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
		if err := r.receive(step, from, message); err != nil {
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
	case step == pb.Step_STEP_REVEAL && r.reveals != nil:
		err = r.reveals.Add(from, message)
	default:
		err = errors.New("not this step's turn")
	}
	return err
}

// close closes a step and returns every member's answer.
func (r *rig) close(step pb.Step) (map[secagg.ID][]byte, error) {
	all := func(answer []byte) map[secagg.ID][]byte {
		answers := make(map[secagg.ID][]byte)
		for id := range r.steps[step].got {
			answers[id] = answer
		}
		return answers
	}
	var answer []byte
	var inboxes map[secagg.ID][]byte
	var err error
	switch step {
	case pb.Step_STEP_ADVERTISE:
		r.shares, answer, err = r.adverts.Close()
	case pb.Step_STEP_SHARE:
		r.submits, inboxes, err = r.shares.Close()
		return inboxes, err
	case pb.Step_STEP_SUBMIT:
		r.words = make([]uint32, r.plan.SecureAggregation.Length)
		for id, packed := range r.steps[step].got {
			if err := aggregation.AddPacked(r.words, packed, int(r.plan.Codec.RingBits)); err != nil {
				return nil, fmt.Errorf("device %v: %w", id, err)
			}
		}
		r.reveals, answer, err = r.submits.Close()
	case pb.Step_STEP_REVEAL:
		var u *secagg.Unmasking
		if u, err = r.reveals.Close(); err == nil {
			u.Range(r.words, 0, len(r.words))
			answer, err = r.commit()
		}
	}
	return all(answer), err
}

// commit steps the model by the mean update and returns its new name.
func (r *rig) commit() ([]byte, error) {
	mean := make([]float32, len(r.model.Params))
	if _, err := codec(r.plan).Decode(mean, r.words, int(r.plan.Codec.RingBits)); err != nil {
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

// member is the Transport of one member of the rig's cohort. Where edit is set it
// may look at a request, fail it, or fail its reply: it is called once before and
// once after every call.
type member struct {
	r    *rig
	id   secagg.ID
	edit func(step pb.Step, after bool, request proto.Message) error
}

func (m *member) hook(step pb.Step, after bool, request proto.Message) error {
	if m.edit == nil {
		return nil
	}
	return m.edit(step, after, request)
}

func (m *member) step(ctx context.Context, step pb.Step, request proto.Message, message []byte) ([]byte, error) {
	if err := m.hook(step, false, request); err != nil {
		return nil, err
	}
	answer, err := m.r.call(ctx, step, m.id, message)
	if err == nil {
		err = m.hook(step, true, request)
	}
	return answer, err
}

func (m *member) Tasks(context.Context, *pb.TasksRequest) (*pb.TasksResponse, error) {
	return nil, status.Error(codes.Unimplemented, "the rig has one task")
}

func (m *member) CheckIn(context.Context, *pb.CheckInRequest) (*pb.CheckInResponse, error) {
	return &pb.CheckInResponse{Plan: m.r.planBytes}, nil
}

func (m *member) GetCheckpoint(context.Context, *pb.GetCheckpointRequest) (*pb.GetCheckpointResponse, error) {
	return &pb.GetCheckpointResponse{Data: m.r.checkpoint, TotalBytes: uint64(len(m.r.checkpoint))}, nil
}

func (m *member) Advertise(ctx context.Context, q *pb.AdvertiseRequest) (*pb.AdvertiseResponse, error) {
	roster, err := m.step(ctx, pb.Step_STEP_ADVERTISE, q, q.Advert)
	return &pb.AdvertiseResponse{Roster: roster}, err
}

func (m *member) Share(ctx context.Context, q *pb.ShareRequest) (*pb.ShareResponse, error) {
	inbox, err := m.step(ctx, pb.Step_STEP_SHARE, q, q.Shares)
	return &pb.ShareResponse{Inbox: inbox}, err
}

func (m *member) Submit(ctx context.Context, q *pb.SubmitRequest) (*pb.SubmitResponse, error) {
	m.r.mu.Lock()
	whole := m.r.vectors[m.id]
	if at := int(q.Index) * chunkSize; at == len(whole) {
		whole = append(whole, q.Data...)
		m.r.vectors[m.id] = whole
	}
	m.r.mu.Unlock()
	if q.Index < q.Chunks-1 {
		return &pb.SubmitResponse{}, errors.Join(m.hook(pb.Step_STEP_SUBMIT, false, q), m.hook(pb.Step_STEP_SUBMIT, true, q))
	}
	if got := sha256.Sum256(whole); !bytes.Equal(got[:], q.Sha256) {
		return nil, status.Errorf(codes.InvalidArgument, "%d bytes with another hash", len(whole))
	}
	survivors, err := m.step(ctx, pb.Step_STEP_SUBMIT, q, whole)
	return &pb.SubmitResponse{Survivors: survivors}, err
}

func (m *member) Reveal(ctx context.Context, q *pb.RevealRequest) (*pb.RevealResponse, error) {
	sum, err := m.step(ctx, pb.Step_STEP_REVEAL, q, q.Reveal)
	return &pb.RevealResponse{CheckpointSha256: sum, CheckpointBytes: uint64(len(m.r.next))}, err
}

func publicKey(s secagg.Signer) ed25519.PublicKey { return s.Key.Public().(ed25519.PublicKey) }
