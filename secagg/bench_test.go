package secagg

import (
	"fmt"
	"testing"
)

// The steps of one device and of the server, vectors left out: BenchmarkMaskRange
// has those.

var benchSizes = []int{10, 100}

func BenchmarkDeviceShare(b *testing.B) {
	for _, n := range benchSizes {
		b.Run(fmt.Sprintf("n=%d", n), func(b *testing.B) {
			r := newRig(b, 700, n)
			r.must(r.advertise(r.all()))
			d := r.devices[0]
			for b.Loop() {
				fresh := *d.advertised // Share uses its value up
				fresh.sigma = d.advertised.sigma.Copy()
				_, _, err := fresh.Share(r.roster, d.rand)
				r.must(err)
			}
		})
	}
}

func BenchmarkDeviceOpen(b *testing.B) {
	for _, n := range benchSizes {
		b.Run(fmt.Sprintf("n=%d", n), func(b *testing.B) {
			r := newRig(b, 700, n)
			r.must(r.advertise(r.all()))
			r.must(r.share(r.all()))
			d := r.devices[0]
			for b.Loop() {
				fresh := *d.shared // Open uses its value up
				fresh.ownShare = d.shared.ownShare.Copy()
				_, err := fresh.Open(d.inbox)
				r.must(err)
			}
		})
	}
}

// BenchmarkServer is all steps of the server, a fifth of the devices lost after
// Share.
func BenchmarkServer(b *testing.B) {
	for _, n := range benchSizes {
		b.Run(fmt.Sprintf("n=%d", n), func(b *testing.B) {
			r := newRig(b, 700, n)
			r.must(r.advertise(r.all()))
			r.must(r.share(r.all()))
			survivors := without(r.all(), scattered(n, n/5)...)
			r.must(r.submit(survivors))
			r.must(r.finish(survivors))
			for b.Loop() {
				r.serve(survivors)
			}
		})
	}
}

// serve plays the recorded messages of a finished attempt to a new server.
func (r *rig) serve(survivors []int) {
	adverts, err := NewServer(r.params)
	r.must(err)
	for _, d := range r.devices {
		r.must(adverts.Add(d.id, d.advert))
	}
	shares, _, err := adverts.Close()
	r.must(err)
	for _, d := range r.devices {
		r.must(shares.Add(d.id, d.shares))
	}
	submissions, _, err := shares.Close()
	r.must(err)
	for _, i := range survivors {
		r.must(submissions.Add(r.devices[i].id))
	}
	reveals, _, err := submissions.Close()
	r.must(err)
	for _, i := range survivors {
		r.must(reveals.Add(r.devices[i].id, r.devices[i].reveal))
	}
	unmasking, err := reveals.Close()
	r.must(err)
	unmasking.Wipe()
}
