package secagg

import (
	"bytes"
	"slices"
	"testing"
)

// TestEveryDeviceAnotherStory plays a server that tells every device another story. Where
// devices reveal to whoever asks for one set of survivors, it unmasks one vector of six
// with one member on its side, though no device answers two sets and nobody's two
// secrets become known: it prunes the victim's inbox to the threshold, and has the
// others think that the victim's remaining neighbours vanished, each of them in the eyes
// of as many others as suffice. Every single answer is one that an honest server could
// ask for. Here each device has to see that a quorum agreed to its own story first.
func TestEveryDeviceAnotherStory(t *testing.T) {
	const n, victim, corrupt = 6, 0, 5 // threshold 4, quorum 4
	r := newRigWith(t, 1, n, func(p *Params) { p.Keys, p.Corrupt = Classical, 3333 })
	r.must(r.advertise(r.all()))
	r.must(r.share(r.all()))
	r.devices[victim].inbox = r.pruneInbox(victim, 3, 4)
	for _, i := range r.all() {
		r.maskOne(i)
	}
	s := r.shares.session
	stories := [][]int{victim: {0, 1, 2, 5}, 1: {0, 1, 3, 4, 5}, 2: {0, 2, 3, 4, 5}, 3: {0, 3, 4, 5}, 4: {0, 3, 4, 5}}
	honest := []int{0, 1, 2, 3, 4}

	// Confirm: each story is one that could be true to the device that hears it, so that
	// all five sign. Their signatures are under four different sets, and the victim's is
	// under other sharers, too.
	signatures := make(map[int][]byte)
	for _, i := range honest {
		d := r.devices[i]
		var err error
		d.confirmed, d.confirm, err = d.done.Confirm(survivorsOf(n, stories[i]...))
		r.must(err)
		signatures[i] = d.confirm[headerSize:]
	}

	// Reveal: whichever signatures the server gathers for a device, with the corrupt
	// member's under anything, the device does not answer.
	for _, i := range honest {
		sharers, alive := r.devices[i].confirmed.keeping.sharers, r.devices[i].confirmed.alive
		signatures[corrupt] = r.devices[corrupt].signer.sign(s.confirmSigned(sharers, alive))
		var agree []int
		for _, j := range honest {
			if bytes.Equal(r.devices[j].confirmed.alive, alive) && bytes.Equal(r.devices[j].confirmed.keeping.sharers, sharers) {
				agree = append(agree, j)
			}
		}
		if len(agree)+1 >= s.quorum {
			t.Fatalf("%v agree to the story of %d", agree, i)
		}
		for signers := range 1 << n {
			set := bitmap{byte(signers)}
			_, err := r.devices[i].confirmed.again().Reveal(encodeQuorum(set, signatures))
			liars := slices.DeleteFunc(without(set.places(), agree...), func(j int) bool { return j == corrupt })
			if set.count() < s.quorum {
				wantRefusal(t, err, ErrTooFew, nil)
			} else {
				wantRefusal(t, err, ErrForged, r.id(liars[0]))
			}
		}
	}
	// The victim is told the truth about who survived: it refuses, as it was not shown
	// that those shared.
	_, _, err := r.devices[victim].done.Confirm(survivorsOf(n, r.all()...))
	wantRefusal(t, err, ErrSpent, nil)
	r.devices[victim].done = &Masked{keeping: r.devices[victim].confirmed.keeping}
	_, _, err = r.devices[victim].done.Confirm(survivorsOf(n, r.all()...))
	wantRefusal(t, err, ErrRefused, r.id(3))
}

// TestSecondAttempt: a device's values of one attempt are spent by it, and those of the
// next have nothing in common with them; what was dealt, signed or revealed in the
// first is refused in the second.
func TestSecondAttempt(t *testing.T) {
	const n = 5
	first := toShares(t, 210, n, classical)
	first.must(first.submit(first.all()))
	first.end(first.all())

	// The same devices, with the randomness that they have come to.
	second := newRigWith(t, 210, n, func(p *Params) { p.Keys = Classical; p.Attempt++ })
	for i, d := range second.devices {
		d.rand, d.signer = first.devices[i].rand, first.devices[i].signer
	}
	second.checkIn()
	d := first.devices[0]
	if _, _, err := d.checkedIn.Advertise(second.params, d.signer, second.devices[0].committed, d.rand); err != ErrSpent {
		t.Errorf("the first attempt's nonce: %v, want ErrSpent", err)
	}
	for i := range n {
		second.must(second.advertiseOne(i))
	}
	wantRefusal(t, second.adverts.Add(d.id, d.advert), ErrForged, &d.id)
	second.must(second.advertiseAgain())
	if _, _, err := d.advertised.Share(second.devices[0].roster, d.rand); err != ErrSpent {
		t.Errorf("the first attempt's secrets: %v, want ErrSpent", err)
	}
	for i := range n {
		second.shareOne(i)
	}
	if len(d.shares) == len(second.devices[0].shares) {
		wantRefusal(t, second.shares.Add(d.id, d.shares), ErrForged, &d.id)
	} else {
		wantRefusal(t, second.shares.Add(d.id, d.shares), ErrMalformed, &d.id)
	}
	for _, d := range second.devices {
		second.must(second.shares.Add(d.id, d.shares))
	}
	second.must(second.closeShares(second.all()))
	if _, _, err := d.shared.Open(second.devices[0].inbox); err != ErrSpent {
		t.Errorf("the first attempt's channel: %v, want ErrSpent", err)
	}
	second.must(second.submit(second.all()))
	wantRefusal(t, second.confirms.Add(d.id, d.confirm), ErrForged, &d.id)
	if _, _, err := d.done.Confirm(second.devices[0].survivors); err != ErrSpent {
		t.Errorf("the first attempt's vector: %v, want ErrSpent", err)
	}
	second.must(second.confirm(second.all()))
	if _, err := d.confirmed.Reveal(second.reveals.Quorum()); err != ErrSpent {
		t.Errorf("the first attempt's shares after it revealed them: %v, want ErrSpent", err)
	}
	second.must(second.finish(second.all()))
	second.checkSum(second.all())

	for i := range n {
		one, two := decodeAdvert(Classical, first.devices[i].advert[headerSize:]), decodeAdvert(Classical, second.devices[i].advert[headerSize:])
		if bytes.Equal(one.channel, two.channel) || bytes.Equal(one.mask, two.mask) || one.nonce == two.nonce {
			t.Errorf("device %d uses a key twice", i)
		}
		if slices.Equal(first.devices[i].masked, second.devices[i].masked) {
			t.Errorf("device %d masks twice alike", i)
		}
	}
}
