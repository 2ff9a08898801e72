package secagg

import (
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"testing"

	"github.com/cloudflare/circl/dh/x25519"
)

// TestLowOrder holds the list to what X25519 says of it, and pairSeed to the result.
func TestLowOrder(t *testing.T) {
	r := newRig(t, 400, 3)
	r.must(r.advertise(r.all()))
	r.shareOne(0)
	s := r.devices[0].shared.session
	for _, p := range lowOrderPoints {
		point := x25519.Key(p)
		var out x25519.Key
		secret := x25519.Key{1, 2, 3}
		if x25519.Shared(&out, &secret, &point) {
			t.Errorf("%x is not of low order", p)
		}
		if err := checkPoint(&point); !errors.Is(err, ErrBadKey) {
			t.Errorf("%x: %v, want ErrBadKey", p, err)
		}
		if _, err := pairSeed(s, 0, 1, &secret, &point); !errors.Is(err, ErrBadKey) {
			t.Errorf("agreement with %x: %v, want ErrBadKey", p, err)
		}
	}
	prime := x25519.Key(fieldPrimeBytes)
	if err := checkPoint(&prime); !errors.Is(err, ErrBadKey) {
		t.Errorf("the prime itself: %v, want ErrBadKey", err)
	}
	k, err := newChannelKey(stream(1, "key", 0))
	r.must(err)
	r.must(checkPoint(&k.public))
}

// TestIdentity writes the two encodings out that other packages rely on.
func TestIdentity(t *testing.T) {
	ca, device := newKey(1, "authority", 0), newKey(1, "device", 0)
	pub := device.Public().(ed25519.PublicKey)
	h := sha256.Sum256(append([]byte("discreet/device/v1"), pub...))
	if got := DeviceID(pub); got != ID(h[:16]) {
		t.Errorf("id %v, want %x", got, h[:16])
	}
	c := Certify(ca, pub)
	if !ed25519.Verify(ca.Public().(ed25519.PublicKey), append([]byte("discreet/credential/v1"), pub...), c) {
		t.Error("the standard library refuses the credential")
	}
	caPub := ca.Public().(ed25519.PublicKey)
	if err := VerifyCredential(caPub, pub, c); err != nil {
		t.Error(err)
	}
	for name, test := range map[string]struct {
		ca, device ed25519.PublicKey
		credential []byte
		kind       error
	}{
		"another authority": {pub, pub, c, ErrForged},
		"another device":    {caPub, caPub, c, ErrForged},
		"short credential":  {caPub, pub, c[:63], ErrMalformed},
		"no authority":      {nil, pub, c, ErrMalformed},
		"short device key":  {caPub, pub[:31], c, ErrMalformed},
	} {
		if err := VerifyCredential(test.ca, test.device, test.credential); !errors.Is(err, test.kind) {
			t.Errorf("%s: %v, want %v", name, err, test.kind)
		}
	}
}

// TestContext changes every part of what an attempt is about.
func TestContext(t *testing.T) {
	base := testParams(5, newKey(1, "authority", 0))
	seen := map[digest]string{base.context(): "unchanged"}
	for name, change := range map[string]func(p *Params){
		"task":    func(p *Params) { p.Task += "x" },
		"slip":    func(p *Params) { p.Task += string(p.Plan[:1]); p.Plan = p.Plan[1:] },
		"round":   func(p *Params) { p.Round++ },
		"attempt": func(p *Params) { p.Attempt++ },
		"plan":    func(p *Params) { p.Plan = append([]byte("x"), p.Plan...) },
		"length":  func(p *Params) { p.Length++ },
		"ring":    func(p *Params) { p.RingBits++ },
		"cohort":  func(p *Params) { p.Cohort++ },
	} {
		p := base
		change(&p)
		c := p.context()
		if other, ok := seen[c]; ok {
			t.Errorf("%s gives the context of %s", name, other)
		}
		seen[c] = name
	}
	p := base
	p.MinSurvivors++
	if p.context() != base.context() {
		t.Error("the device's own minimum changes the context")
	}
}

// TestBinding changes every part of what a sealed share is bound to, both under the
// seal and under the signature.
func TestBinding(t *testing.T) {
	r := newRig(t, 403, 4)
	r.must(r.advertise(r.all()))
	r.shareOne(0)
	base := *r.devices[0].shared.session
	sealed, com := make([]byte, sealedSize), digest{1}
	seals, leaves := map[string]string{}, map[digest]string{}
	note := func(name string, s *session, from, to int, com digest) {
		t.Helper()
		seal, leaf := string(s.sealedContext(from, to, &com)), s.leaf(from, to, sealed, &com)
		if other, ok := seals[seal]; ok {
			t.Errorf("%s leaves the seal's context as it is with %s", name, other)
		}
		if other, ok := leaves[leaf]; ok && name != "keys" { // the roster's hash in ctx1 binds the keys there
			t.Errorf("%s leaves the leaf as it is with %s", name, other)
		}
		seals[seal], leaves[leaf] = name, name
	}
	note("unchanged", &base, 0, 1, com)
	note("recipient", &base, 0, 2, com)
	note("sender", &base, 2, 1, com)
	note("direction", &base, 1, 0, com)
	note("commitment", &base, 0, 1, digest{2})
	other := base
	other.ctx1[0] ^= 1
	note("context", &other, 0, 1, com)
	other = base
	other.keys = append([]digest{{}}, base.keys[1:]...)
	note("keys", &other, 0, 1, com)
}

func TestMerkle(t *testing.T) {
	for n := 1; n <= 9; n++ {
		leaves := make([]digest, n)
		for i := range leaves {
			leaves[i] = hash("test leaf", []byte{byte(i)})
		}
		tr := newTree(leaves)
		for i := range leaves {
			path := tr.path(i)
			if len(path) != 32*depth(n) {
				t.Fatalf("n=%d: path of %d bytes, want %d", n, len(path), 32*depth(n))
			}
			if rootOf(leaves[i], i, path) != tr.root() {
				t.Errorf("n=%d: leaf %d does not lead to the root", n, i)
			}
			if n > 1 && rootOf(leaves[i], (i+1)%n, path) == tr.root() {
				t.Errorf("n=%d: leaf %d leads to the root from another place", n, i)
			}
		}
	}
}

// TestWiped: a value that was used or wiped holds no secret and does nothing more.
func TestWiped(t *testing.T) {
	r := newRig(t, 401, 3)
	r.must(r.advertise(r.all()))
	r.must(r.share(r.all()))
	d := r.devices[0]
	if d.advertised.channel.secret != (x25519.Key{}) || !d.advertised.sigma.IsZero() {
		t.Error("Advertised keeps secrets after Share")
	}
	r.must(r.submit(r.all()))
	if s := d.shared; s.channel.secret != (x25519.Key{}) || s.mask.secret != (x25519.Key{}) || s.seed != (digest{}) || !s.ownShare.IsZero() {
		t.Error("Shared keeps secrets after Open")
	}
	if len(d.masking.masks.blocks) != 0 {
		t.Error("Masking keeps masks after Done")
	}
	d.masking.Wipe() // after Done it does nothing
	d.done.Wipe()
	if _, err := d.done.Reveal(r.survivors); !errors.Is(err, ErrSpent) {
		t.Errorf("Reveal after Wipe: %v, want ErrSpent", err)
	}
	other := newRig(t, 402, 3)
	other.must(other.advertise(other.all()))
	other.devices[0].advertised.Wipe()
	if _, _, err := other.devices[0].advertised.Share(other.roster, d.rand); !errors.Is(err, ErrSpent) {
		t.Errorf("Share after Wipe: %v, want ErrSpent", err)
	}
	other.shareOne(1)
	other.devices[1].shared.Wipe()
	if _, err := other.devices[1].shared.Open(nil); !errors.Is(err, ErrSpent) {
		t.Errorf("Open after Wipe: %v, want ErrSpent", err)
	}
	for _, err := range []error{second(r.adverts.Close()), second(r.shares.Close()), second(r.submissions.Close())} {
		if !errors.Is(err, ErrSpent) {
			t.Errorf("a second Close: %v, want ErrSpent", err)
		}
	}
}

func second[A, B any](_ A, _ B, err error) error { return err }
