package client

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/discreet-fl/discreet/aggregation"
	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/secagg"
)

const (
	// chunkSize is the bytes of a masked vector in one call.
	chunkSize = pb.SubmitChunkBytes

	// A reply may still be on its way when the coordinator's own deadline for the
	// step is over; the last one also takes the summing and the commit, and noise that
	// comes off a sum, which takes a draw for every survivor and number.
	replySlack  = 10 * time.Second
	commitSlack = time.Minute
	noiseSlack  = 5 * time.Minute
)

// ErrAttemptEnded is returned when an attempt went on without this device, or did
// not go on: the coordinator ended or forgot it, or did not answer in time. Nothing
// is lost; the device may check in again.
var ErrAttemptEnded = errors.New("the attempt ended")

// attempt is one attempt at a round as this device walks through it.
type attempt struct {
	p      *Participant
	t      Transport
	plan   *pb.Plan
	bounds Bounds
	layout aggregation.Layout // of the vector
	at     *pb.RoundStep
	log    *slog.Logger
	result Result
}

func newAttempt(p *Participant, t Transport, plan *pb.Plan, bounds Bounds) *attempt {
	log := p.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &attempt{
		p: p, t: t, plan: plan, bounds: bounds,
		at:     &pb.RoundStep{Task: plan.GetTask(), Round: plan.GetRound(), Attempt: plan.GetAttempt()},
		log:    log.With("task", plan.GetTask(), "round", plan.GetRound(), "attempt", plan.GetAttempt()),
		result: Result{Task: plan.GetTask(), Round: plan.GetRound(), Attempt: plan.GetAttempt()},
	}
}

// walk goes through the steps in order. vector is masked in place. Each value of
// the protocol is made from the one before and wiped on every way out.
func (a *attempt) walk(ctx context.Context, began time.Time, place *Place, vector []uint32) error {
	advertised, advert, err := place.CheckedIn.Advertise(a.params(place.Plan), a.p.Signer, place.Committed, a.p.random())
	if err != nil {
		return a.blame("advertise", err)
	}
	defer advertised.Wipe()
	if err := a.record(pb.Step_STEP_ADVERTISE); err != nil {
		return err
	}
	roster, err := send(ctx, a, "advertise", began.Add(milliseconds(a.plan.GetAdvertiseMs())+replySlack),
		a.t.Advertise, &pb.AdvertiseRequest{Step: a.at, Advert: advert})
	if err != nil {
		return err
	}
	shared, shares, err := advertised.Share(roster.GetRoster(), a.p.random())
	if err != nil {
		return a.blame("share", err)
	}
	defer shared.Wipe()
	if n := shared.Members(); n < a.bounds.MinCohort {
		return a.failed("share", fmt.Errorf("%w: its cohort has %d members, this device's own minimum is %d", ErrPlanRefused, n, a.bounds.MinCohort))
	}
	inbox, err := send(ctx, a, "share", a.stepEnds(replySlack), a.t.Share, &pb.ShareRequest{Step: a.at, Shares: shares})
	if err != nil {
		return err
	}
	masking, complaint, err := shared.Open(inbox.GetInbox())
	if errors.Is(err, secagg.ErrTooFew) {
		return a.failed("submit", err) // its neighbours may have vanished
	}
	if err != nil {
		return a.blame("submit", err)
	}
	defer masking.Wipe()
	ends := a.stepEnds(replySlack)
	if err := a.complain(ctx, masking.Accused(), complaint, ends); err != nil {
		return err
	}
	if err := a.noise(masking, vector); err != nil {
		return err
	}
	mask(masking, vector)
	masked := masking.Done()
	defer masked.Wipe()
	if ctx.Err() != nil { // before the vector is counted as sent
		return a.failed("submit", context.Cause(ctx))
	}
	if err := a.record(pb.Step_STEP_SUBMIT); err != nil {
		return err
	}
	survivors, err := a.submit(ctx, vector, ends)
	if err != nil {
		return err
	}
	return a.agree(ctx, masked, survivors)
}

// params are the attempt as the protocol knows it. The plan's minimum of survivors is
// no lower than this device's own; the coordinator is held to the plan's.
func (a *attempt) params(planBytes []byte) secagg.Params {
	s := a.plan.GetSecureAggregation()
	return secagg.Params{
		Task: a.plan.GetTask(), Round: a.plan.GetRound(), Attempt: a.plan.GetAttempt(),
		Plan: planBytes, CA: a.p.CA,
		Length: int(s.GetLength()), RingBits: int(a.plan.GetCodec().GetRingBits()),
		Cohort: int(s.GetCohort()), MinSurvivors: int(s.GetMinSurvivors()),
		Corrupt: int(s.GetCorrupt()), Dropout: int(s.GetDropout()), Keys: keyExchange(a.plan),
		Levels: levels(a.plan), LevelSecret: func() ([32]byte, error) { return a.p.seed(a.plan, "levels") },
		Revoked: a.p.Revoked,
	}
}

// levels are the numbers of survivors at which noise comes off the sum; the plan's are
// bounded by readPlan.
func levels(plan *pb.Plan) []int {
	var at []int
	for _, l := range plan.GetNoise().GetLevels() {
		at = append(at, int(l.GetSurvivors()))
	}
	return at
}

// noise adds the noise that comes off again to the vector.
func (a *attempt) noise(masking *secagg.Masking, vector []uint32) error {
	seeds := masking.Seeds()
	defer clear(seeds)
	if len(seeds) == 0 {
		return nil
	}
	if err := a.layout.AddLevels(vector, seeds, 0); err != nil {
		return a.failed("submit", err)
	}
	return nil
}

// complain tells the coordinator, and the log, who dealt what could not be used. On the
// complete graph there is no message where everything could; on a sparse one each
// device says whom it masks with.
func (a *attempt) complain(ctx context.Context, accused []*secagg.PeerError, complaint []byte, ends time.Time) error {
	if complaint == nil {
		return nil
	}
	for _, peer := range accused {
		a.accuse("share", peer)
	}
	_, err := send(ctx, a, "complain", ends, a.t.Complain, &pb.ComplainRequest{Step: a.at, Complaint: complaint})
	return err
}

// submit sends the masked vector in chunks and returns the survivors.
func (a *attempt) submit(ctx context.Context, vector []uint32, ends time.Time) ([]byte, error) {
	bits := int(a.plan.GetCodec().GetRingBits())
	packed := make([]byte, aggregation.PackedSize(len(vector), bits))
	if err := aggregation.Pack(packed, vector, bits); err != nil {
		return nil, a.failed("submit", err)
	}
	sum := sha256.Sum256(packed)
	chunks := (len(packed) + chunkSize - 1) / chunkSize
	a.log.Info("submit sending")
	var survivors []byte
	for i := range chunks {
		request := &pb.SubmitRequest{
			Step: a.at, Sha256: sum[:], Index: uint32(i), Chunks: uint32(chunks),
			Data: packed[i*chunkSize : min((i+1)*chunkSize, len(packed))],
		}
		reply, err := exchange(ctx, a, "submit", ends, a.t.Submit, request)
		if err != nil {
			return nil, err
		}
		survivors = reply.GetSurvivors()
	}
	a.log.Info("submit answered")
	return survivors, nil
}

// agree signs the survivors and, once enough of the cohort have signed the same,
// reveals the shares that unmask their sum.
func (a *attempt) agree(ctx context.Context, masked *secagg.Masked, survivors []byte) error {
	confirmed, confirm, err := masked.Confirm(survivors)
	if err != nil {
		return a.blame("confirm", err)
	}
	defer confirmed.Wipe()
	if err := a.record(pb.Step_STEP_CONFIRM); err != nil {
		return err
	}
	quorum, err := send(ctx, a, "confirm", a.stepEnds(replySlack), a.t.Confirm, &pb.ConfirmRequest{Step: a.at, Confirm: confirm})
	if err != nil {
		return err
	}
	message, err := confirmed.Reveal(quorum.GetQuorum())
	if err != nil {
		return a.blame("reveal", err)
	}
	if err := a.record(pb.Step_STEP_REVEAL); err != nil {
		return err
	}
	slack := commitSlack
	if len(a.plan.GetNoise().GetLevels()) > 0 {
		slack = noiseSlack
	}
	receipt, err := send(ctx, a, "reveal", a.stepEnds(slack), a.t.Reveal, &pb.RevealRequest{Step: a.at, Reveal: message})
	if err != nil {
		return err
	}
	if n := len(receipt.GetCheckpointSha256()); n != 32 {
		return a.breach("reveal", fmt.Errorf("a receipt with a hash of %d bytes, want 32", n))
	}
	a.result.Checkpoint = [32]byte(receipt.GetCheckpointSha256())
	a.result.CheckpointBytes = int64(min(receipt.GetCheckpointBytes(), 1<<62))
	return nil
}

// record notes durably that a step is about to be taken.
func (a *attempt) record(step pb.Step) error {
	if a.p.Record == nil {
		return nil
	}
	return a.p.Record(step)
}

// stepEnds returns when a step that begins now is over.
func (a *attempt) stepEnds(slack time.Duration) time.Time {
	return time.Now().Add(milliseconds(a.plan.GetStepMs()) + slack)
}

// failed names the attempt and the step in an error.
func (a *attempt) failed(step string, err error) error {
	return fmt.Errorf("client: task %q, round %d, attempt %d: %s: %w", a.at.GetTask(), a.at.GetRound(), a.at.GetAttempt(), step, err)
}

// send makes a step's call and logs it.
func send[Request proto.Message, Reply any](ctx context.Context, a *attempt, step string, ends time.Time,
	call func(context.Context, Request) (Reply, error), request Request) (Reply, error) {
	a.log.Info(step + " sending")
	reply, err := exchange(ctx, a, step, ends, call, request)
	if err == nil {
		a.log.Info(step + " answered")
	}
	return reply, err
}

// exchange makes a call until it is answered, refused or out of time.
func exchange[Request proto.Message, Reply any](ctx context.Context, a *attempt, step string, ends time.Time,
	call func(context.Context, Request) (Reply, error), request Request) (Reply, error) {
	var none Reply
	if ctx.Err() != nil {
		return none, a.failed(step, context.Cause(ctx))
	}
	ctx, cancel := context.WithDeadlineCause(ctx, ends, errors.New("no answer in the plan's time for this step"))
	defer cancel()
	a.result.BytesUp += int64(proto.Size(request))
	reply, err := persist(ctx, call, request, func(err error) { a.log.Info(step+" interrupted", "error", err) })
	if err == nil {
		return reply, nil
	}
	if ctx.Err() != nil {
		err = fmt.Errorf("%w (%w)", context.Cause(ctx), err)
	}
	return none, a.failed(step, fmt.Errorf("%w: %w", ErrAttemptEnded, err))
}

// mask adds the masks to the vector, over all cores where it is long.
func mask(m *secagg.Masking, vector []uint32) {
	const block = 1 << 16 // words; below that a goroutine costs more than it saves
	workers := max(1, min(runtime.GOMAXPROCS(0), len(vector)/block))
	each := (len(vector)/workers + 1023) &^ 1023
	var group sync.WaitGroup
	for lo := 0; lo < len(vector); lo += each {
		group.Go(func() { m.Mask(vector, lo, min(lo+each, len(vector))) })
	}
	group.Wait()
}
