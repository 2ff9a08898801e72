package simulate

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/discreet-fl/discreet/client"
	"github.com/discreet-fl/discreet/coordinator"
	"github.com/discreet-fl/discreet/coordinator/round"
	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/secagg"
)

// secure runs one attempt under masks: every member's straight line in a goroutine
// of its own, and the coordinator's round fed by this one. It returns nil when the
// round aborts because too few are left.
func (r *run) secure(ctx context.Context, plan *pb.Plan, raw []byte, members []member) (*total, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	in, err := r.checkIn(plan, members)
	if err != nil {
		return nil, err
	}
	begins, err := client.OpenCheckpoint(r.encoded)
	if err != nil {
		return nil, err
	}
	a := &attempt{
		run: r, plan: plan, begins: begins, events: make(chan message), waiting: make(map[secagg.ID]chan answer),
		devices: len(members), busy: len(members), sum: &total{sums: r.Strategy.Sums(int(plan.SecureAggregation.Length))},
	}
	config := coordinator.RoundConfig(plan, raw, r.ca.Public().(ed25519.PublicKey), in.commitments, time.Minute)
	config.Params.Rolls = secagg.SignRolls(r.ca)
	if a.round, err = round.New(a.now, config); err != nil {
		return nil, err
	}
	links := make(map[secagg.ID]*direct)
	devices, within := errgroup.WithContext(ctx)
	for i, m := range members {
		place := &client.Place{CheckedIn: in.nonces[i], Plan: raw}
		if place.Committed, err = a.round.Committed(in.ids[i]); err != nil {
			return nil, err
		}
		link := &direct{attempt: a, member: m, id: in.ids[i], steps: make(map[round.Step]int64)}
		links[link.id] = link
		d := r.device(m.device)
		devices.Go(func() error { return a.takePart(within, d, link, place) })
	}
	if err := a.drive(within); err != nil {
		cancel()
		return nil, errors.Join(err, devices.Wait())
	}
	if err := devices.Wait(); err != nil || a.aborted {
		return nil, err
	}
	for _, id := range a.sum.ids {
		a.sum.bytesUp += links[id].sent
		for step, n := range links[id].steps {
			a.bytesBy[step] += n
		}
	}
	return a.sum, nil
}

// takePart is one device's part in an attempt. That it vanished, was left without
// enough neighbours or heard that the round goes on without it is no error.
func (a *attempt) takePart(ctx context.Context, d *device, link *direct, place *client.Place) error {
	a.working <- struct{}{}
	_, err := a.participant(ctx, d).TakePart(ctx, link, place, a.begins)
	<-a.working
	if status.Code(err) == codes.Aborted || errors.Is(err, secagg.ErrTooFew) {
		err = nil
	}
	select {
	case a.events <- message{from: link.id, ended: true}:
	case <-ctx.Done():
	}
	return err
}

// attempt is the coordinator's side of one attempt: a round without a clock, moved
// on to its deadline whenever all who will still speak have spoken.
type attempt struct {
	*run
	plan    *pb.Plan
	begins  *client.Checkpoint // the one that the plan names, opened once for all devices
	round   *round.Round
	now     time.Time
	events  chan message
	waiting map[secagg.ID]chan answer
	devices int // that have not ended
	busy    int // of those: who do not wait for an answer

	sum     *total
	aborted bool
}

// message is a call of a device and where its answer goes, or a device's end.
type message struct {
	from      secagg.ID
	step      round.Step
	payload   []byte // nil when a test withholds it
	answer    chan answer
	complaint bool
	leaves    bool // the device will not wait for the answer
	ended     bool
}

type answer struct {
	payload []byte
	err     error
}

// drive receives what the devices send, lets the deadlines pass for those who
// vanished, and adds the unmasked sums, until every device has ended.
func (a *attempt) drive(ctx context.Context) error {
	for a.devices > 0 {
		if a.busy == 0 {
			if a.now = a.round.Deadline(); a.now.IsZero() {
				return fmt.Errorf("%d devices wait for an answer of a round that is over", a.devices)
			}
			if err := a.apply(a.round.Tick(a.now)); err != nil {
				return err
			}
			continue
		}
		select {
		case m := <-a.events:
			if err := a.receive(m); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// receive takes one message.
func (a *attempt) receive(m message) error {
	switch {
	case m.ended:
		a.devices, a.busy = a.devices-1, a.busy-1
		return nil
	case m.payload == nil:
		m.answer <- answer{err: errVanished}
		return nil
	case m.complaint:
		effects, err := a.round.Complain(a.now, m.from, m.payload)
		m.answer <- answer{err: aborted(err)}
		return a.apply(effects)
	}
	if !m.leaves {
		a.waiting[m.from] = m.answer
		a.busy--
	}
	effects, err := a.round.Receive(a.now, m.from, m.step, m.payload)
	if err != nil {
		a.answer(m.from, answer{err: aborted(err)})
	}
	return a.apply(effects)
}

// aborted is the error that ends a device's part in an attempt.
func aborted(err error) error {
	if err == nil {
		return nil
	}
	return status.Error(codes.Aborted, err.Error())
}

// apply carries out what the round asks for.
func (a *attempt) apply(effects []round.Effect) error {
	for _, effect := range effects {
		switch e := effect.(type) {
		case round.Reply:
			payload := e.Payload(nil)
			if payload == nil {
				a.answer(e.To, answer{err: aborted(errors.New("the round has gone on"))})
			}
			a.answer(e.To, answer{payload: payload})
		case round.CohortLost:
			for _, id := range e.Members {
				a.answer(id, answer{err: aborted(errors.New(e.Reason))})
			}
		case round.CohortSummed:
			if err := a.add(e); err != nil {
				return err
			}
		case round.Aborted:
			a.aborted = true
			a.answerAll(answer{err: aborted(errors.New(e.Reason))})
		case round.Done:
			slices.SortFunc(a.sum.ids, compare)
			a.sum.survivors = len(a.sum.ids)
			if err := a.step(a.plan, a.sum); err != nil {
				return err
			}
			sum := sha256.Sum256(a.encoded)
			receipt, err := proto.Marshal(&pb.RevealResponse{CheckpointSha256: sum[:], CheckpointBytes: uint64(len(a.encoded))})
			if err != nil {
				return err
			}
			a.answerAll(answer{payload: receipt})
		}
	}
	return nil
}

// add takes the masks, and noise that comes off, off a cohort's sum and adds it to the total.
func (a *attempt) add(e round.CohortSummed) error {
	a.sum.expansions += e.Unmasking.Expansions()
	l := coordinator.LayoutOf(a.plan, a.layout)
	if err := coordinator.Unmask(l, e); err != nil {
		return err
	}
	a.sum.sums.Add(e.Sum, l.Signed(), int(a.plan.Codec.RingBits))
	a.sum.cohorts++
	a.sum.ids = append(a.sum.ids, e.Survivors...)
	return nil
}

// compare orders devices.
func compare(a, b secagg.ID) int { return bytes.Compare(a[:], b[:]) }

// answer answers a device's call, if it waits.
func (a *attempt) answer(to secagg.ID, with answer) {
	if waiting, ok := a.waiting[to]; ok {
		waiting <- with
		delete(a.waiting, to)
		a.busy++
	}
}

// answerAll answers every call that is still held.
func (a *attempt) answerAll(same answer) {
	for to := range a.waiting {
		a.answer(to, same)
	}
}
