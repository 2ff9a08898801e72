package secagg

import (
	"errors"
	"testing"

	"github.com/cloudflare/circl/dh/x25519"
	"github.com/cloudflare/circl/kem/xwing"
)

// TestWiped: a value that was used or wiped holds no secret and does nothing more.
func TestWiped(t *testing.T) {
	for _, keys := range []KeyExchange{Hybrid, Classical} {
		r := toShares(t, 401, 4, func(p *Params) { p.Keys = keys })
		d := r.devices[0]
		if d.checkedIn.nonce != (digest{}) {
			t.Error("CheckedIn keeps its nonce after Advertise")
		}
		if !empty(d.advertised.channel.secret) || !d.advertised.sigma.IsZero() {
			t.Error("Advertised keeps secrets after Share")
		}
		left := without(r.all(), 3)
		r.must(r.submit(left))
		s := d.shared
		if !empty(s.channel.secret) || s.mask.seed != (digest{}) || s.mask.dh != (x25519.Key{}) || s.seed != (digest{}) || s.ownShare != ([scalarSize]byte{}) || !zero(s.pairs) {
			t.Error("Shared keeps secrets after Open")
		}
		if s.mask.kem != nil && *s.mask.kem != (xwing.PrivateKey{}) {
			t.Error("Shared keeps its X-Wing key after Open")
		}
		if d.masking.masks.count() != 0 {
			t.Error("Masking keeps masks after Done")
		}
		d.masking.Wipe() // after Done it does nothing
		r.must(r.confirm(left))
		d.done.Wipe() // after Confirm it does nothing
		r.must(r.finish(left))
		r.checkSum(left)
		k := d.confirmed.keeping
		if !zero(k.pairs) || !zero(k.b) || !zero(k.sigma) || k.ownShare != ([scalarSize]byte{}) {
			t.Error("Confirmed keeps shares after Reveal")
		}
		for place, reveal := range r.devices[:3] {
			if !empty(reveal.reveal) {
				t.Errorf("the server keeps the reveal of %d after Close", place)
			}
		}
		r.unmasking.Wipe()
		if r.unmasking.Expansions() != 0 {
			t.Error("Unmasking keeps masks after Wipe")
		}
		r.reveals.Wipe()
	}
}

// TestSpent uses every value a second time, or after Wipe.
func TestSpent(t *testing.T) {
	r := newRigWith(t, 402, 4, classical)
	wiped := func(name string, use func() error) {
		t.Helper()
		if err := use(); !errors.Is(err, ErrSpent) {
			t.Errorf("%s: %v, want ErrSpent", name, err)
		}
	}
	c := *r.devices[0].checkedIn
	c.Wipe()
	d := r.devices[0]
	wiped("Advertise after Wipe", func() error {
		_, _, err := c.Advertise(r.params, d.signer, d.committed, d.rand)
		return err
	})
	r.must(r.advertise(r.all()))
	a := d.advertised.again()
	a.Wipe()
	wiped("Share after Wipe", func() error { _, _, err := a.Share(d.roster, d.rand); return err })
	r.must(r.share(r.all()))
	s := d.shared.again()
	s.Wipe()
	wiped("Open after Wipe", func() error { _, _, err := s.Open(d.inbox); return err })
	r.must(r.submit(r.all()))
	m := d.done.again()
	m.Wipe()
	wiped("Confirm after Wipe", func() error { _, _, err := m.Confirm(d.survivors); return err })
	r.must(r.confirm(r.all()))
	e := d.confirmed.again()
	e.Wipe()
	wiped("Reveal after Wipe", func() error { _, err := e.Reveal(r.reveals.Quorum()); return err })
	for name, use := range map[string]func() error{
		"Adverts":     func() error { _, err := r.adverts.Close(); return err },
		"Shares":      func() error { _, err := r.shares.Close(); return err },
		"Submissions": func() error { _, err := r.submissions.Close(); return err },
		"Confirms":    func() error { _, err := r.confirms.Close(); return err },
		"Inbox":       func() error { _, err := r.submissions.Inbox(d.id); return err },
		"Admit":       func() error { return r.submissions.Admit(d.id) },
		"Complain":    func() error { _, err := r.submissions.Complain(d.id, nil); return err },
	} {
		wiped(name+" after Close", use)
	}
	r.reveals.Wipe()
	wiped("Reveals after Wipe", func() error { _, err := r.reveals.Close(); return err })
	if r.reveals.Ready() {
		t.Error("wiped reveals are ready")
	}
}

// empty tells whether bytes are all zero.
func empty(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}

// zero tells whether all values of a list are.
func zero[T comparable](list []T) bool {
	var none T
	for _, x := range list {
		if x != none {
			return false
		}
	}
	return true
}
