package client

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/discreet-fl/discreet/aggregation"
	"github.com/discreet-fl/discreet/model"
	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/secagg"
)

// Participant is what a device needs to take part in one attempt at a round:
//
//  1. It holds the plan against its own bounds, before any work.
//  2. It trains a copy of the checkpoint on its examples and encodes the
//     difference and its weight as integers ([Participant.Update]).
//  3. It advertises its keys, shares the seeds of its masks, complains about shares
//     that cannot be used, submits the masked vector, confirms who is in the sum and
//     reveals what removes the sum's masks ([Participant.TakePart]).
//
// [Client] builds one from its folder for every attempt, package simulate from
// memory. Its methods may not be called concurrently on one value.
type Participant struct {
	// Signer is the device's identity: its key and what enrolment certified.
	Signer secagg.Signer
	// CA is the enrolment authority that every member of a roster must come from.
	CA ed25519.PublicKey
	// Revoked, where set, tells which devices that authority has taken back.
	Revoked func(secagg.ID) bool
	// Bounds are the least that this device asks of a round.
	Bounds Bounds
	// Examples returns the device's own examples for a model. None is no error: such
	// a device sends zeros with weight zero, which nobody can tell from others.
	Examples func(m *model.Manifest) ([]model.Example, error)
	// Train changes params in place, as [model/train.Trainer] does.
	Train func(params []float32, l model.Layout, ex []model.Example, s model.Training, seed uint64) error
	// Rand is the source of keys; nil means crypto/rand.
	Rand io.Reader
	// Seed returns the seed for a purpose, "training", "rounding", "noise", "levels" or
	// "evaluation"; nil draws from Rand.
	Seed func(plan *pb.Plan, purpose string) [32]byte
	// Record, where set, is called before Advertise, Submit, Confirm and Reveal are sent. An
	// error ends the attempt. It is where a device notes durably what it must not do
	// twice.
	Record func(step pb.Step) error
	// Logger gets a record when a step's message is being sent and one when it was
	// answered; nil logs nothing. See TakePart.
	Logger *slog.Logger
}

// Place is a device's place in an attempt: what it kept of its check-in and what it
// was answered.
type Place struct {
	// CheckedIn is whose commitment the check-in carried. It serves one attempt.
	CheckedIn *secagg.CheckedIn
	// Plan and Committed are the reply's, byte for byte.
	Plan, Committed []byte
}

// Checkpoint is a checkpoint file, hashed and decoded, which the plans of attempts are held
// against. It is only read: several attempts may share one.
type Checkpoint struct {
	sum   [32]byte // SHA-256 of the file
	bytes uint64   // of the file
	model *model.Checkpoint
}

// OpenCheckpoint hashes and decodes a checkpoint file. One that cannot be decoded, or whose
// parameters are not those that its manifest names, is an [ErrPlanRefused].
func OpenCheckpoint(file []byte) (*Checkpoint, error) {
	c, err := model.DecodeCheckpoint(file)
	if err != nil {
		return nil, fmt.Errorf("client: %w: %w", ErrPlanRefused, err)
	}
	return &Checkpoint{sha256.Sum256(file), uint64(len(file)), c}, nil
}

// Result is a round that this device was counted in.
type Result struct {
	Task    string
	Round   uint64
	Attempt uint32
	// Checkpoint is the SHA-256 of the checkpoint that the round made, and
	// CheckpointBytes its size.
	Checkpoint      [32]byte
	CheckpointBytes int64
	// BytesUp counts the messages sent in the attempt, once each, without gRPC's framing.
	BytesUp int64
}

// Update trains a copy of the checkpoint and returns the encoded difference, one ring
// word for each parameter, or for what the plan leaves of them, and one for the weight, where the clip moves one for a vote on it before that,
// and behind them what the plan has counted of the checkpoint on a fresh half of the chats
// that are held back from training, without masks. The plan must be one that TakePart would accept.
func (p *Participant) Update(plan *pb.Plan, c *model.Checkpoint) ([]uint32, error) {
	if err := checkModel(plan, c); err != nil {
		return nil, err
	}
	examples, err := p.Examples(&c.Manifest)
	if err != nil {
		return nil, fmt.Errorf("client: gathering examples: %w", err)
	}
	examples, held := HoldBack(examples, plan.GetEvaluation().GetHeldBack())
	params := make([]float32, len(c.Params))
	defer clear(params) // in the end they are the update in clear
	copy(params, c.Params)
	// A label that a text does not have tells too little to count as an example.
	labelled := 0
	for _, e := range examples {
		if !e.Not {
			labelled++
		}
	}
	short, settings := reduction(plan, c.Manifest.Layout), training(plan)
	settings.Rows = short.Sent()
	if labelled > 0 {
		seed, err := p.seed(plan, "training")
		if err != nil {
			return nil, err
		}
		err = p.Train(params, c.Manifest.Layout, examples, settings, binary.LittleEndian.Uint64(seed[:]))
		if err != nil && plan.GetNoise() == nil {
			return nil, fmt.Errorf("client: training: %w", err)
		} else if err != nil {
			copy(params, c.Params) // to fail would tell of the chats, for nothing; zeros and noise do not
		}
	}
	for i, before := range c.Params {
		params[i] -= before
	}
	update := short.Reduce(params)
	defer clear(update)
	l := layout(plan, c.Manifest.Layout)
	if l.Noised() && !finite(update) {
		clear(update)
	}
	words := make([]uint32, l.Length())
	weight := labelled
	if labelled > 0 && l.Scalar != nil {
		weight, words[len(words)-1] = weigh(l, update, params, c, examples, settings, labelled)
	}
	if err := p.encode(words[:l.UpdateLength()], update, weight, plan, l); err != nil {
		clear(words) // they are the update up to where it could not be encoded
		return nil, fmt.Errorf("client: encoding the update: %w", err)
	}
	if err := p.evaluate(words, l, plan, c, held); err != nil {
		clear(words)
		return nil, err
	}
	return words, nil
}

// finite tells whether an update has neither NaN nor infinity. A checkpoint can be made so
// that training ends in them on certain chats only: noised vectors must not tell which.
func finite(update []float32) bool {
	for _, u := range update {
		if u-u != 0 {
			return false
		}
	}
	return true
}

// encode writes an update of some weight to words, with noise where the plan asks for it.
func (p *Participant) encode(words []uint32, update []float32, weight int, plan *pb.Plan, l aggregation.Layout) error {
	rounding, err := p.seed(plan, "rounding")
	if err != nil {
		return err
	}
	if !l.Noised() {
		return l.Codec.Encode(words, update, weight, rounding)
	}
	noise, err := p.seed(plan, "noise")
	defer clear(noise[:])
	if err != nil {
		return err
	}
	return l.Noise.Encode(words, update, rounding, noise)
}

// TakePart walks through one attempt, from the plan to the receipt of Reveal, and
// wipes every secret of it before it returns. place is what the check-in got;
// checkpoint is what its plan names; another is refused.
//
// A call that fails with UNAVAILABLE or RESOURCE_EXHAUSTED is made again with the
// same bytes until the plan's time for its step is over; any other error ends the
// attempt, and the device may check in again. A reply that the protocol does not
// allow gives [ErrBroken]. For each step the Logger gets "advertise sending" right
// before the message is first handed to the transport and "advertise answered" when
// its reply is there, and so on for share, submit, confirm and reveal, and for
// complain where there is such a message; the attributes are task, round and attempt.
// Whoever breaks the protocol is named at level Warn, as "protocol broken" with by,
// step and reason.
func (p *Participant) TakePart(ctx context.Context, t Transport, place *Place, checkpoint *Checkpoint) (*Result, error) {
	began := time.Now()
	defer place.CheckedIn.Wipe()
	bounds, err := p.Bounds.filled()
	if err != nil {
		return nil, fmt.Errorf("client: %w: %w", ErrPlanRefused, err)
	}
	plan, err := readPlan(place.Plan, bounds)
	if err != nil {
		return nil, err
	}
	if [32]byte(plan.GetCheckpointSha256()) != checkpoint.sum || checkpoint.bytes != plan.GetCheckpointBytes() {
		return nil, fmt.Errorf("client: %w: got a checkpoint of %d bytes with SHA-256 %x, the plan names %d bytes with %x",
			ErrPlanRefused, checkpoint.bytes, checkpoint.sum[:4], plan.GetCheckpointBytes(), plan.GetCheckpointSha256()[:4])
	}
	c := checkpoint.model
	vector, err := p.Update(plan, c)
	if err != nil {
		return nil, err
	}
	defer clear(vector)
	a := newAttempt(p, t, plan, bounds)
	a.layout = layout(plan, c.Manifest.Layout)
	if err := a.walk(ctx, began, place, vector); err != nil {
		return nil, err
	}
	return &a.result, nil
}

// random returns the source of keys.
func (p *Participant) random() io.Reader {
	if p.Rand != nil {
		return p.Rand
	}
	return rand.Reader
}

// seed returns the seed for a purpose.
func (p *Participant) seed(plan *pb.Plan, purpose string) (seed [32]byte, err error) {
	if p.Seed != nil {
		return p.Seed(plan, purpose), nil
	}
	if _, err := io.ReadFull(p.random(), seed[:]); err != nil {
		return seed, fmt.Errorf("client: drawing a seed for %s: %w", purpose, err)
	}
	return seed, nil
}
