package simulate

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"errors"

	"github.com/discreet-fl/discreet/client"
	"github.com/discreet-fl/discreet/model"
	"github.com/discreet-fl/discreet/model/train"
	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/secagg"
)

// device is one simulated device: its examples, and an identity once it needs one.
type device struct {
	number   int
	examples []model.Example
	signer   secagg.Signer
}

// device makes a device when a round first asks for it. It is forgotten before the next
// round: however many devices there are, only a round's are held. Not for use by several
// goroutines at a time.
func (r *run) device(number int) *device {
	d := r.devices[number]
	if d == nil {
		d = &device{number: number, examples: r.pool.examples(r.Train[number])}
		r.spoil(d)
		r.devices[number] = d
	}
	return d
}

// id is the device's identity under the simulation's CA, made when first asked for.
func (r *run) id(d *device) secagg.ID {
	if d.signer.Key == nil {
		seed := derive(r.Seed, "identity", uint64(d.number))
		key := ed25519.NewKeyFromSeed(seed[:])
		d.signer = secagg.Signer{Key: key, Credential: secagg.Certify(r.ca, key.Public().(ed25519.PublicKey))}
	}
	return secagg.DeviceID(d.signer.Key.Public().(ed25519.PublicKey))
}

// checkedIn is what the members of an attempt check in with, in their order.
type checkedIn struct {
	ids         []secagg.ID
	nonces      []*secagg.CheckedIn
	commitments map[secagg.ID][32]byte
}

// checkIn lets the members of an attempt check in.
func (r *run) checkIn(plan *pb.Plan, members []member) (*checkedIn, error) {
	all := &checkedIn{commitments: make(map[secagg.ID][32]byte, len(members))}
	for _, m := range members {
		seed := derive(r.Seed, "nonce", plan.Round, uint64(plan.Attempt), uint64(m.device))
		nonce, commitment, err := secagg.CheckIn(bytes.NewReader(seed[:]))
		if err != nil {
			return nil, err
		}
		id := r.id(r.device(m.device))
		all.ids, all.nonces = append(all.ids, id), append(all.nonces, nonce)
		all.commitments[id] = commitment
	}
	return all, nil
}

// participant is the client's own code for a round, fed from memory. What it draws for
// training and rounding is H(seed, round, device). Its identity and nonce come from the
// seed, too, since the lot that splits a round into cohorts is drawn from them; the keys
// under which it masks are fresh.
func (r *run) participant(ctx context.Context, d *device) *client.Participant {
	return &client.Participant{
		Signer:   d.signer,
		CA:       r.ca.Public().(ed25519.PublicKey),
		Bounds:   client.Bounds{MinSurvivors: r.MinSurvivors, AllowClassical: true},
		Examples: func(*model.Manifest) ([]model.Example, error) { return d.examples, nil },
		Train: func(params []float32, _ model.Layout, own []model.Example, s model.Training, seed uint64) error {
			return r.trainers.run(ctx, params, own, s, seed)
		},
		Rand: rand.Reader,
		Seed: func(plan *pb.Plan, purpose string) [32]byte {
			return derive(r.Seed, purpose, plan.Round, uint64(d.number))
		},
	}
}

// trainers lends one trainer a core. A trainer holds a graph and is kept for reuse.
type trainers struct{ idle chan *train.Trainer }

func newTrainers(l model.Layout, batch, workers int) (*trainers, error) {
	t := &trainers{idle: make(chan *train.Trainer, workers)}
	for range workers {
		trainer, err := train.New(l, batch)
		if err != nil {
			return nil, errors.Join(err, t.close())
		}
		t.idle <- trainer
	}
	return t, nil
}

// run trains params in place on the next idle trainer, and not once the context has ended.
func (t *trainers) run(ctx context.Context, params []float32, own []model.Example, s model.Training, seed uint64) error {
	if err := ctx.Err(); err != nil {
		return err // select may choose either of two that are ready
	}
	select {
	case trainer := <-t.idle:
		defer func() { t.idle <- trainer }()
		trainer.Ended = ctx.Err
		_, err := trainer.Train(params, own, s, seed)
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// close frees the idle trainers.
func (t *trainers) close() error {
	var errs []error
	for len(t.idle) > 0 {
		errs = append(errs, (<-t.idle).Close())
	}
	return errors.Join(errs...)
}

// seed64 is the head of a derived seed as a number.
func seed64(b [32]byte) uint64 { return binary.LittleEndian.Uint64(b[:]) }
