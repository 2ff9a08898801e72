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
