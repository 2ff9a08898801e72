package simulate

import (
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

// id is the device's identity under the simulation's CA, made when first asked for.
// Keys never come from the seed.
func (d *device) id(ca ed25519.PrivateKey) (secagg.ID, error) {
	if d.signer.Key == nil {
		public, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return secagg.ID{}, err
		}
		d.signer = secagg.Signer{Key: key, Credential: secagg.Certify(ca, public)}
	}
	return secagg.DeviceID(d.signer.Key.Public().(ed25519.PublicKey)), nil
}

// participant is the client's own code for a round, fed from memory. What it draws
// for training and rounding is H(seed, round, device); its keys are fresh.
func (r *run) participant(ctx context.Context, d *device) *client.Participant {
	return &client.Participant{
		Signer:       d.signer,
		CA:           r.ca.Public().(ed25519.PublicKey),
		MinSurvivors: r.MinSurvivors,
		Examples:     func(*model.Manifest) ([]model.Example, error) { return d.examples, nil },
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

// run trains params in place on the next idle trainer.
func (t *trainers) run(ctx context.Context, params []float32, own []model.Example, s model.Training, seed uint64) error {
	select {
	case trainer := <-t.idle:
		defer func() { t.idle <- trainer }()
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
