package simulate

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/discreet-fl/discreet/coordinator"
	"github.com/discreet-fl/discreet/coordinator/round"
	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/secagg"
)

// errVanished ends a device's part where the schedule says so.
var errVanished = status.Error(codes.Aborted, "the device vanished")

// secure runs one attempt under masks: every member's straight line in a goroutine
// of its own, and the coordinator's round fed by this one. It returns nil when the
// round aborts because too few are left.
func (r *run) secure(ctx context.Context, plan *pb.Plan, raw []byte, members []member) (*total, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	a := &attempt{run: r, plan: plan, messages: make(chan message), waiting: map[secagg.ID]chan answer{}}
	var ids []secagg.ID
	for _, m := range members {
		id, err := r.devices[m.device].id(r.ca)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	var err error
	ca := r.ca.Public().(ed25519.PublicKey)
	a.round, err = round.New(a.now, coordinator.RoundConfig(plan, raw, ca, ids, time.Minute))
	if err != nil {
		return nil, err
	}
	links := make([]*direct, len(members))
	devices, within := errgroup.WithContext(ctx)
	for i, m := range members {
		links[i] = &direct{attempt: a, member: m, id: ids[i]}
		devices.Go(func() error {
			_, err := r.participant(within, r.devices[m.device]).TakePart(within, links[i], raw, r.encoded)
			if status.Code(err) == codes.Aborted {
				return nil // vanished, or the round was aborted
			}
			return err
		})
	}
	sum, err := a.drive(within, members)
	if err != nil {
		cancel()
		return nil, errors.Join(err, devices.Wait())
	}
	if err := devices.Wait(); err != nil || sum == nil {
		return nil, err
	}
	for _, link := range links {
		if slices.Contains(sum.ids, link.id) {
			sum.bytesUp += link.sent
		}
	}
	return &sum.total, nil
}

// attempt is the coordinator's side of one attempt: a round without a clock, moved
// on to its deadline whenever all who will still speak have spoken.
type attempt struct {
	*run
	plan     *pb.Plan
	round    *round.Round
	now      time.Time
	messages chan message
	waiting  map[secagg.ID]chan answer
	sum      *summed
	aborted  string
}

// message is one step's call of a device, and where its answer goes.
type message struct {
	from    secagg.ID
	step    round.Step
	payload []byte
	answer  chan answer
}

type answer struct {
	payload []byte
	err     error
}

// summed is a total and whose vectors are in it.
type summed struct {
	total
	ids []secagg.ID
}

// drive receives each step's messages, lets the step's deadline pass for those who
// vanished, and unmasks the sum. The sum is nil when the round was aborted.
func (a *attempt) drive(ctx context.Context, members []member) (*summed, error) {
	speaking := len(members)
	lost := dropsOf(members)
	for _, vanished := range []int{lost.BeforeAdvertise, lost.AfterAdvertise, lost.AfterShare, lost.AfterSubmit} {
		speaking -= vanished
		moved := false
		for range speaking {
			var m message
			select {
			case m = <-a.messages:
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
			if m.payload == nil { // withheld by a test
				m.answer <- answer{err: errVanished}
				continue
			}
			a.waiting[m.from] = m.answer
			effects, err := a.round.Receive(a.now, m.from, m.step, m.payload)
			if err != nil {
				m.answer <- answer{err: status.Error(codes.Aborted, err.Error())}
				delete(a.waiting, m.from)
				continue
			}
			moved = a.apply(effects) || moved
		}
		if !moved {
			a.now = a.round.Deadline()
			a.apply(a.round.Tick(a.now))
		}
		if a.aborted != "" {
			a.answerAll(answer{err: status.Error(codes.Aborted, a.aborted)})
			return nil, nil
		}
	}
	if a.sum == nil {
		return nil, errors.New("the round neither ended nor was aborted after its last step")
	}
	if err := a.step(a.plan, &a.sum.total); err != nil {
		a.answerAll(answer{err: status.Error(codes.Aborted, err.Error())})
		return nil, err
	}
	a.answerAll(answer{payload: a.encoded})
	return a.sum, nil
}

// apply carries out what the round asks for and reports whether a step closed.
func (a *attempt) apply(effects []round.Effect) (moved bool) {
	for _, effect := range effects {
		moved = true
		switch e := effect.(type) {
		case round.Reply:
			if to, ok := a.waiting[e.To]; ok {
				to <- answer{payload: e.Payload}
				delete(a.waiting, e.To)
			}
		case round.Aborted:
			a.aborted = e.Reason
		case round.Summed:
			a.sum = &summed{
				total: total{words: e.Sum, survivors: len(e.Survivors), expansions: e.Unmasking.Expansions()},
				ids:   e.Survivors,
			}
			e.Unmask()
		}
	}
	return moved
}

// answerAll answers every call that is still held.
func (a *attempt) answerAll(same answer) {
	for _, to := range a.waiting {
		to <- same
	}
	clear(a.waiting)
}

// direct is a device's transport without a network. It vanishes where the schedule
// says so.
type direct struct {
	*attempt
	member member
	id     secagg.ID
	sent   int64  // bytes of all requests
	packed []byte // chunks of the masked vector so far
}

// call delivers one step's message and waits for the answer, or vanishes.
func (d *direct) call(ctx context.Context, step round.Step, request proto.Message, payload []byte, before, after Vanish) ([]byte, error) {
	if d.member.vanish == before && before != Stays {
		return nil, errVanished
	}
	if request != nil {
		d.sent += int64(proto.Size(request))
	}
	if d.observe != nil {
		payload = d.observe(d.member.device, step, payload)
	}
	m := message{from: d.id, step: step, payload: payload, answer: make(chan answer, 1)}
	select {
	case d.messages <- m:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if d.member.vanish == after && after != Stays {
		return nil, errVanished
	}
	select {
	case a := <-m.answer:
		return a.payload, a.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (d *direct) Advertise(ctx context.Context, q *pb.AdvertiseRequest) (*pb.AdvertiseResponse, error) {
	b, err := d.call(ctx, round.Advertise, q, q.Advert, BeforeAdvertise, AfterAdvertise)
	return &pb.AdvertiseResponse{Roster: b}, err
}

func (d *direct) Share(ctx context.Context, q *pb.ShareRequest) (*pb.ShareResponse, error) {
	b, err := d.call(ctx, round.Share, q, q.Shares, Stays, AfterShare)
	return &pb.ShareResponse{Inbox: b}, err
}

// Submit gathers the chunks, which come in order here, and delivers them at the last.
func (d *direct) Submit(ctx context.Context, q *pb.SubmitRequest) (*pb.SubmitResponse, error) {
	d.packed = append(d.packed, q.Data...)
	d.sent += int64(proto.Size(q))
	if q.Index+1 < q.Chunks {
		return &pb.SubmitResponse{}, nil
	}
	b, err := d.call(ctx, round.Submit, nil, d.packed, Stays, AfterSubmit)
	return &pb.SubmitResponse{Survivors: b}, err
}

func (d *direct) Reveal(ctx context.Context, q *pb.RevealRequest) (*pb.RevealResponse, error) {
	file, err := d.call(ctx, round.Reveal, q, q.Reveal, Stays, Stays)
	digest := sha256.Sum256(file)
	return &pb.RevealResponse{CheckpointSha256: digest[:], CheckpointBytes: uint64(len(file))}, err
}

// A simulated device is handed its plan and checkpoint.

func (d *direct) Tasks(context.Context, *pb.TasksRequest) (*pb.TasksResponse, error) {
	return nil, errors.ErrUnsupported
}

func (d *direct) CheckIn(context.Context, *pb.CheckInRequest) (*pb.CheckInResponse, error) {
	return nil, errors.ErrUnsupported
}

func (d *direct) GetCheckpoint(context.Context, *pb.GetCheckpointRequest) (*pb.GetCheckpointResponse, error) {
	return nil, errors.ErrUnsupported
}
