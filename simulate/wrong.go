package simulate

import (
	"fmt"

	"github.com/discreet-fl/discreet/client"
	"github.com/discreet-fl/discreet/model"
)

// Wrong says which of the devices' chats have a wrong intent, one drawn evenly from the others.
type Wrong struct {
	Share float64 // of all chats, 0 to 1
	// Signal is what the devices know of it:
	//
	//   - client.Confirmed: nothing; any chat may be wrong, and counts in full.
	//   - client.Rephrased: half of the chats are rephrased and the wrong ones are among these, so that Share is at
	//     most a half.
	//   - client.Rejected: the person said so: the wrong ones are rejected.
	Signal client.Signal
	// Weight is what a chat in doubt, one that is rephrased or rejected, counts: 0 leaves it
	// out, nil is the signal's own weight.
	Weight *float32
}

func (w Wrong) check() error {
	most := 1.0
	switch w.Signal {
	case client.Confirmed, client.Rejected, "":
	case client.Rephrased:
		most = 0.5
	default:
		return fmt.Errorf("wrong labels that are %q, want confirmed, rephrased or rejected", w.Signal)
	}
	if !(w.Share >= 0 && w.Share <= most) {
		return fmt.Errorf("a share of %v of the labels is wrong, want 0 to %v", w.Share, most)
	}
	if w.Weight != nil && !(*w.Weight >= 0 && *w.Weight <= 1) {
		return fmt.Errorf("chats in doubt count %v, want 0 to 1", *w.Weight)
	}
	return nil
}

// spoil makes a device's examples wrong.
func (r *run) spoil(d *device) {
	w := r.Wrong
	if w.Share == 0 {
		return
	}
	random := stream(r.Seed, "wrong labels", uint64(d.number))
	kept := make([]model.Example, 0, len(d.examples))
	for _, e := range d.examples {
		suspect, wrong := random.Float64() < 0.5, random.Float64()
		other := random.IntN(r.layout.Labels - 1)
		if other >= e.Label {
			other++
		}
		signal, share := client.Confirmed, w.Share
		if w.Signal == client.Rephrased {
			share = 0
			if suspect {
				signal, share = client.Rephrased, 2*w.Share
			}
		}
		label := e.Label
		if wrong < share {
			if label = other; w.Signal == client.Rejected {
				signal = client.Rejected
			}
		}
		said := signal.Example(e.Features, label)
		if signal != client.Confirmed && w.Weight != nil {
			if said.Weight = *w.Weight; said.Weight == 0 {
				continue // to train, it would stand for 1
			}
		}
		kept = append(kept, said)
	}
	d.examples = kept
}
