package simulate

import (
	"fmt"

	"github.com/discreet-fl/discreet/client"
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
	return nil
}

// spoil makes a device's examples wrong in place.
func (r *run) spoil(d *device) {
	w := r.Wrong
	if w.Share == 0 {
		return
	}
	random := stream(r.Seed, "wrong labels", uint64(d.number))
	for i, e := range d.examples {
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
		if wrong >= share {
			d.examples[i] = signal.Example(e.Features, e.Label)
			continue
		}
		if w.Signal == client.Rejected {
			signal = client.Rejected
		}
		d.examples[i] = signal.Example(e.Features, other)
	}
}
