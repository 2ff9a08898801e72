package coordinator

import (
	"context"
	"crypto/rand"
	"crypto/sha256"

	"github.com/discreet-fl/discreet/aggregation"
	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/secagg"
)

// walk is a device's way through one attempt.
type walk struct {
	*device
	raw       []byte
	committed []byte
	plan      *pb.Plan
	at        *pb.RoundStep
	roster    []byte
	deal      func(shares []byte) []byte // where set, changes what the device deals

	advertised *secagg.Advertised
	shared     *secagg.Shared
	masked     *secagg.Masked
	confirmed  *secagg.Confirmed
	advert     *pb.AdvertiseRequest
	shares     *pb.ShareRequest
	complaint  []byte
	seeds      [][32]byte // of levels of noise
	chunks     []*pb.SubmitRequest
	confirm    *pb.ConfirmRequest
	reveal     *pb.RevealRequest
	receipt    *pb.RevealResponse
}

func (k *walk) advertise(ctx context.Context) (err error) {
	if err := k.prepareAdvert(); err != nil {
		return err
	}
	reply, err := k.rounds.Advertise(ctx, k.advert)
	if err != nil {
		return err
	}
	var message []byte
	k.roster = reply.GetRoster()
	if k.shared, message, err = k.advertised.Share(k.roster, rand.Reader); err != nil {
		return err
	}
	if k.deal != nil {
		message = k.deal(message)
	}
	k.shares = &pb.ShareRequest{Step: k.at, Shares: message}
	return nil
}

// prepareAdvert makes the advert, once.
func (k *walk) prepareAdvert() error {
	if k.advert != nil {
		return nil
	}
	if k.checkedIn == nil {
		k.request()
	}
	params := RoundConfig(k.plan, k.raw, k.ca, nil, 0).Params
	var message []byte
	var err error
	k.advertised, message, err = k.checkedIn.Advertise(params, k.signer, k.committed, rand.Reader)
	k.checkedIn = nil
	k.advert = &pb.AdvertiseRequest{Step: k.at, Advert: message}
	return err
}

func (k *walk) share(ctx context.Context) error {
	reply, err := k.rounds.Share(ctx, k.shares)
	if err != nil {
		return err
	}
	masking, complaint, err := k.shared.Open(reply.GetInbox())
	if err != nil {
		return err
	}
	if k.complaint = complaint; complaint != nil {
		if _, err := k.rounds.Complain(ctx, &pb.ComplainRequest{Step: k.at, Complaint: complaint}); err != nil {
			return err
		}
	}
	k.seeds = masking.Seeds()
	vector := k.encode(k.seeds)
	masking.Mask(vector, 0, len(vector))
	k.masked = masking.Done()
	bits := int(k.plan.GetCodec().GetRingBits())
	packed := make([]byte, aggregation.PackedSize(len(vector), bits))
	if err := aggregation.Pack(packed, vector, bits); err != nil {
		return err
	}
	k.cut(packed)
	return nil
}

// encode is the device's update as ring words, without masks, with noise of levels by their
// seeds, if there are any.
func (k *walk) encode(seeds [][32]byte) []uint32 {
	e := k.plan.GetEvaluation()
	counts := aggregation.Evaluation{}
	if e != nil {
		counts = aggregation.Evaluation{Intents: 2, Bins: int(e.GetBins()), Chats: int(e.GetChats())}
	}
	codec := aggregation.Codec{Clip: k.plan.GetCodec().GetClip(), Bits: int(k.plan.GetCodec().GetBits()), MaxWeight: int(k.plan.GetCodec().GetMaxWeight())}
	noise, own := mechanism(k.plan.GetNoise()), codec.Length(0)
	if k.plan.GetNoise() != nil {
		own = noise.Length(0)
	}
	l := aggregation.Layout{Codec: codec, Parameters: int(k.plan.GetSecureAggregation().GetLength()) - own - counts.Words(), Evaluation: counts}
	vector, update := make([]uint32, k.plan.GetSecureAggregation().GetLength()), make([]float32, l.Parameters)
	for i := range update {
		update[i] = k.value
	}
	if k.plan.GetNoise() != nil {
		if err := noise.Encode(vector, update, [32]byte{}, [32]byte{1}); err != nil {
			panic(err)
		}
		if l := (aggregation.Layout{Noise: noise, Parameters: l.Parameters}); seeds != nil {
			if err := l.AddLevels(vector, seeds, 0); err != nil {
				panic(err)
			}
		}
		return vector
	}
	if err := codec.Encode(vector[:len(update)+1], update, k.weight, [32]byte{}); err != nil {
		panic(err)
	}
	if e != nil {
		k.count(aggregation.Counts(l, vector))
	}
	return vector
}

// count says that the device holds back a hundred chats of the first intent, and named so
// many of them rightly as it is told to.
func (k *walk) count(t aggregation.Tally[uint32]) {
	t.Devices[0] = 1
	t.Chats[0], t.Correct[0], t.Predicted[0], t.Predicted[1] = 100, uint32(k.right), uint32(k.right), uint32(100-k.right)
	t.InScope[0], t.Margins[0], t.Right[0] = 100, 100, uint32(k.right)
}

// cut makes the chunks of a packed vector.
func (k *walk) cut(packed []byte) {
	sum := sha256.Sum256(packed)
	n := chunksOf(len(packed))
	k.chunks = nil
	for i := range n {
		k.chunks = append(k.chunks, &pb.SubmitRequest{Step: k.at, Sha256: sum[:], Index: uint32(i), Chunks: uint32(n),
			Data: packed[i*chunkSize : min((i+1)*chunkSize, len(packed))]})
	}
}

func (k *walk) submit(ctx context.Context) error {
	var survivors []byte
	for _, c := range k.chunks {
		reply, err := k.rounds.Submit(ctx, c)
		if err != nil {
			return err
		}
		survivors = reply.GetSurvivors()
	}
	return k.survive(survivors)
}

// survive agrees to a set of survivors.
func (k *walk) survive(survivors []byte) (err error) {
	var message []byte
	k.confirmed, message, err = k.masked.Confirm(survivors)
	k.confirm = &pb.ConfirmRequest{Step: k.at, Confirm: message}
	return err
}

func (k *walk) agree(ctx context.Context) error {
	reply, err := k.rounds.Confirm(ctx, k.confirm)
	if err != nil {
		return err
	}
	message, err := k.confirmed.Reveal(reply.GetQuorum())
	k.reveal = &pb.RevealRequest{Step: k.at, Reveal: message}
	return err
}

func (k *walk) finish(ctx context.Context) (err error) {
	// Two sums on one checkpoint would differ by somebody's update.
	checkpoint, at := string(k.plan.GetCheckpointSha256()), k.at.String()
	if before := k.revealed[checkpoint]; before != "" && before != at {
		k.t.Errorf("device %s is asked to reveal for %s, and was for %s on the same checkpoint", short(k.id), at, before)
	}
	if k.revealed == nil {
		k.revealed = make(map[string]string)
	}
	k.revealed[checkpoint] = at
	k.receipt, err = k.rounds.Reveal(ctx, k.reveal)
	return err
}

// all is the number of steps.
const all = 5

// go through the steps up to but not including the given one.
func (k *walk) steps(ctx context.Context, until int) error {
	for _, step := range []func(context.Context) error{k.advertise, k.share, k.submit, k.agree, k.finish}[:until] {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}
