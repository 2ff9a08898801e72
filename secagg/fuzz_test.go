package secagg

import (
	"bytes"
	"testing"
)

// Every decoder, fed with real messages and what the fuzzer makes of them, either
// refuses or gives something that encodes to the same bytes again: there is one
// encoding of everything. The roster of the seeds has fuzzSize members.

const fuzzSize = 9 // one more than a byte of a bitmap holds

// fuzzRig is a finished attempt whose messages are seeds.
func fuzzRig(f *testing.F) *rig {
	r := newRig(f, 500, fuzzSize)
	r.must(r.advertise(r.all()))
	r.must(r.share(without(r.all(), 8)))
	r.must(r.submit(without(r.all(), 8, 4)))
	r.must(r.finish(without(r.all(), 8, 4)))
	return r
}

// seed adds the message, one that is cut and one that is too long.
func seed(f *testing.F, msg []byte) {
	f.Add(msg)
	f.Add(msg[:len(msg)/2])
	f.Add(append(bytes.Clone(msg), 0))
	f.Add([]byte{})
}

func FuzzAdvert(f *testing.F) {
	seed(f, fuzzRig(f).devices[0].advert)
	f.Fuzz(func(t *testing.T, msg []byte) {
		b, err := body(kindAdvert, msg, advertSize)
		if err != nil {
			return
		}
		a := decodeAdvert(b)
		if again := a.append(message(kindAdvert, advertSize)); !bytes.Equal(again, msg) {
			t.Errorf("%x encodes again to %x", msg, again)
		}
	})
}

func FuzzRoster(f *testing.F) {
	seed(f, fuzzRig(f).roster)
	f.Add(append(message(kindRoster, 2), 0xff, 0xff))
	f.Fuzz(func(t *testing.T, msg []byte) {
		members, err := decodeRoster(msg, MaxCohort)
		if err != nil {
			return
		}
		if again := encodeRoster(members); !bytes.Equal(again, msg) {
			t.Errorf("%x encodes again to %x", msg, again)
		}
	})
}

func FuzzShares(f *testing.F) {
	seed(f, fuzzRig(f).devices[0].shares)
	f.Fuzz(func(t *testing.T, msg []byte) {
		m, err := decodeShares(msg, fuzzSize, 0)
		if err != nil {
			return
		}
		if again := m.encode(); !bytes.Equal(again, msg) {
			t.Errorf("%x encodes again to %x", msg, again)
		}
	})
}

func FuzzInbox(f *testing.F) {
	seed(f, fuzzRig(f).devices[0].inbox)
	f.Fuzz(func(t *testing.T, msg []byte) {
		in, err := decodeInbox(msg, fuzzSize, 0)
		if err != nil {
			return
		}
		if again := encodeInbox(in); !bytes.Equal(again, msg) {
			t.Errorf("%x encodes again to %x", msg, again)
		}
	})
}

func FuzzSurvivors(f *testing.F) {
	seed(f, fuzzRig(f).survivors)
	f.Fuzz(func(t *testing.T, msg []byte) {
		b, err := decodeSurvivors(msg, fuzzSize)
		if err != nil {
			return
		}
		if again := encodeSurvivors(b); !bytes.Equal(again, msg) {
			t.Errorf("%x encodes again to %x", msg, again)
		}
	})
}

func FuzzReveal(f *testing.F) {
	r := fuzzRig(f)
	seed(f, r.devices[0].reveal)
	h := r.reveals.survivorsHash
	f.Fuzz(func(t *testing.T, msg []byte) {
		shares, err := decodeReveal(msg, &h, fuzzSize-1)
		if err != nil {
			return
		}
		if again := encodeReveal(&h, shares); !bytes.Equal(again, msg) {
			t.Errorf("%x encodes again to %x", msg, again)
		}
	})
}
