package secagg

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"strings"
	"testing"

	"github.com/cloudflare/circl/dh/x25519"
	"github.com/cloudflare/circl/kem/xwing"
)

// TestLowOrder holds the list to what X25519 says of it, and every place where a key
// or a ciphertext comes in to the list.
func TestLowOrder(t *testing.T) {
	sigma, err := randomScalar(stream(1, "sigma", 0))
	if err != nil {
		t.Fatal(err)
	}
	keys := map[KeyExchange]*maskKey{}
	for _, x := range []KeyExchange{Hybrid, Classical} {
		keys[x] = newMaskKey(x, &digest{}, sigma)
		if err := x.checkKey(keys[x].public); err != nil {
			t.Errorf("%v: a key as it should be: %v", x, err)
		}
	}
	for _, p := range append([][]byte{fieldPrimeBytes}, lowOrderPoints...) {
		point := x25519.Key(p)
		var out x25519.Key
		if x25519.Shared(&out, &x25519.Key{1, 2, 3}, &point) {
			t.Errorf("%x is not of low order", p)
		}
		for x, key := range keys {
			public := with(key.public, -x25519.Size, p)
			if err := x.checkKey(public); !errors.Is(err, ErrBadKey) {
				t.Errorf("%v key that ends with %x: %v, want ErrBadKey", x, p, err)
			}
		}
		if _, err := keys[Classical].agree(p); !errors.Is(err, ErrBadKey) {
			t.Errorf("agreement with %x: %v, want ErrBadKey", p, err)
		}
		ciphertext := with(make([]byte, xwing.CiphertextSize), -x25519.Size, p)
		if _, err := keys[Hybrid].decapsulate(keys[Hybrid].public, ciphertext); !errors.Is(err, ErrBadKey) {
			t.Errorf("ciphertext that ends with %x: %v, want ErrBadKey", p, err)
		}
	}
}

// with is b with its bytes from at on replaced; a negative at counts from the end.
func with(b []byte, at int, by []byte) []byte {
	out := bytes.Clone(b)
	if at < 0 {
		at += len(out)
	}
	copy(out[at:], by)
	return out
}

// TestOneEncodingOfKeys refuses encodings of keys beside the one.
func TestOneEncodingOfKeys(t *testing.T) {
	sigma, err := randomScalar(stream(2, "sigma", 0))
	if err != nil {
		t.Fatal(err)
	}
	hybrid, classical := newMaskKey(Hybrid, &digest{}, sigma), newMaskKey(Classical, &digest{}, sigma)
	for name, test := range map[string]struct {
		x   KeyExchange
		key []byte
	}{
		"the high bit":              {Classical, with(classical.public, -1, []byte{classical.public[31] | 0x80})},
		"above the prime":           {Classical, with(fieldPrimeBytes, 0, []byte{0xee})},
		"the high bit of X-Wing's":  {Hybrid, with(hybrid.public, -1, []byte{hybrid.public[len(hybrid.public)-1] | 0x80})},
		"a coefficient of q":        {Hybrid, with(hybrid.public, 0, []byte{0x01, hybrid.public[1]&0xf0 | 0x0d})},
		"a coefficient of 4095":     {Hybrid, with(hybrid.public, 0, []byte{0xff, 0xff})},
		"all coefficients too high": {Hybrid, with(hybrid.public, 0, bytes.Repeat([]byte{0xff}, 1152))},
		"the last coefficient":      {Hybrid, with(hybrid.public, 1150, []byte{hybrid.public[1150] | 0xf0, 0xff})},
	} {
		if err := test.x.checkKey(test.key); !errors.Is(err, ErrBadKey) {
			t.Errorf("%s: %v, want ErrBadKey", name, err)
		}
	}
	// At every place, just below and at the bound, it is what unpacking says.
	for i := range 2 * kemPolynomialsSize / 3 {
		for _, c := range []byte{0x00, 0x01} { // 0xd00 is q−1
			b, at := bytes.Clone(hybrid.public), i/2*3
			if i%2 == 0 {
				b[at], b[at+1] = c, b[at+1]&0xf0|0x0d
			} else {
				b[at+1], b[at+2] = b[at+1]&0x0f|c<<4, 0xd0
			}
			var pk xwing.PublicKey
			if got, want := Hybrid.checkKey(b) == nil, pk.Unpack(b) == nil; got != want || want != (c == 0) {
				t.Fatalf("coefficient %d is %d: the check says %v, unpacking %v", i, 0xd00+int(c), got, want)
			}
		}
	}
}

// TestSigmaGivesAllBack derives a mask key twice from one σ: the key pair, what it
// encapsulates to a member and what it decapsulates are the same again, and another
// attempt or another member gives others.
func TestSigmaGivesAllBack(t *testing.T) {
	for _, x := range []KeyExchange{Hybrid, Classical} {
		sigma, err := randomScalar(stream(3, "sigma", 0))
		if err != nil {
			t.Fatal(err)
		}
		ctx0 := digest{1}
		one, two, other := newMaskKey(x, &ctx0, sigma), newMaskKey(x, &ctx0, sigma), newMaskKey(x, &digest{2}, sigma)
		if !bytes.Equal(one.public, two.public) || bytes.Equal(one.public, other.public) {
			t.Errorf("%v: the public key does not follow from σ and the attempt alone", x)
		}
		a, ciphertext, err := one.encapsulate(ID{1}, other.public)
		if err != nil {
			t.Fatal(err)
		}
		b, again, _ := two.encapsulate(ID{1}, other.public)
		if a != b || !bytes.Equal(ciphertext, again) {
			t.Errorf("%v: a second encapsulation differs", x)
		}
		if c, err := other.decapsulate(one.public, ciphertext); err != nil || c != a {
			t.Errorf("%v: the other end gets %x, %v, want %x", x, c, err, a)
		}
		if c, elsewhere, _ := one.encapsulate(ID{2}, other.public); x == Hybrid && (c == a || bytes.Equal(elsewhere, ciphertext)) {
			t.Errorf("%v: two members get one secret", x)
		}
	}
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
		"corrupt": func(p *Params) { p.Corrupt++ },
		"dropout": func(p *Params) { p.Dropout++ },
		"keys":    func(p *Params) { p.Keys = Classical },
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
	p.Revoked = func(ID) bool { return false }
	if p.context() != base.context() {
		t.Error("the device's own minimum changes the context")
	}
}

// TestParams holds the bounds on which both sides insist whatever the plan says.
func TestParams(t *testing.T) {
	r := newRig(t, 410, 5)
	for name, change := range map[string]func(p *Params){
		"no task":                   func(p *Params) { p.Task = "" },
		"no authority":              func(p *Params) { p.CA = nil },
		"no words":                  func(p *Params) { p.Length = 0 },
		"a word too many":           func(p *Params) { p.Length = maxLength + 1 },
		"no ring":                   func(p *Params) { p.RingBits = 0 },
		"too wide a ring":           func(p *Params) { p.RingBits = 33 },
		"a cohort of two":           func(p *Params) { p.Cohort = 2 },
		"too large a cohort":        func(p *Params) { p.Cohort = MaxCohort + 1 },
		"a sum of two":              func(p *Params) { p.MinSurvivors = 2 },
		"a minimum out of reach":    func(p *Params) { p.MinSurvivors = p.Cohort + 1 },
		"a name that is too long":   func(p *Params) { p.Task = string(make([]byte, 65)) },
		"too many corrupt":          func(p *Params) { p.Corrupt = 3334 },
		"fewer than none corrupt":   func(p *Params) { p.Corrupt = -1 },
		"too many vanishing":        func(p *Params) { p.Dropout = 3334 },
		"fewer than none vanishing": func(p *Params) { p.Dropout = -1 },
		"nobody corrupt among many": func(p *Params) { p.Cohort, p.Corrupt = 200, 0 },
		"an unknown exchange":       func(p *Params) { p.Keys = 2 },
	} {
		p := r.params
		change(&p)
		c, commitment, err := CheckIn(r.devices[0].rand)
		r.must(err)
		if _, _, err := c.Advertise(p, r.devices[0].signer, r.devices[0].committed, r.devices[0].rand); !errors.Is(err, ErrParams) {
			t.Errorf("device with %s: %v, want ErrParams", name, err)
		}
		if _, err := NewServer(p, map[ID][32]byte{{1}: commitment, {2}: commitment, {3}: commitment}); !errors.Is(err, ErrParams) {
			t.Errorf("server with %s: %v, want ErrParams", name, err)
		}
	}
	p := r.params
	p.CA = newKey(1, "other authority", 0).Public().(ed25519.PublicKey)
	d := r.devices[1]
	if _, _, err := d.checkedIn.Advertise(p, d.signer, d.committed, d.rand); !errors.Is(err, ErrForged) {
		t.Errorf("device of another authority: %v, want ErrForged", err)
	}
	if _, _, err := d.checkedIn.Advertise(r.params, d.signer, d.committed, d.rand); !errors.Is(err, ErrSpent) {
		t.Errorf("a nonce after a refusal: %v, want ErrSpent", err)
	}
}

// TestBinding changes every part of what a sealed pair of shares is bound to, both
// under the seal and under the signature.
func TestBinding(t *testing.T) {
	r := newRig(t, 403, 4)
	r.must(r.advertise(r.all()))
	r.shareOne(0)
	base := *r.devices[0].shared.session
	seals, leaves := map[string]string{}, map[digest]string{}
	note := func(name string, s *session, from, to int, com digest, q parcel) {
		t.Helper()
		h := ciphertextHash(q.ciphertext)
		seal, leaf := string(s.sealedContext(from, to, &com, &h)), s.leaf(from, to, &q)
		if other, ok := seals[seal]; ok && !strings.HasPrefix(name, "parcel") { // its other parts are under the signature
			t.Errorf("%s leaves the seal's context as it is with %s", name, other)
		}
		if other, ok := leaves[leaf]; ok && name != "keys" && name != "commitment" { // both are signed beside the leaves
			t.Errorf("%s leaves the leaf as it is with %s", name, other)
		}
		seals[seal], leaves[leaf] = name, name
	}
	// Of two ends one encapsulates: take edges of the same kind.
	from, to, third := 0, 1, 2
	for _, p := range [][3]int{{0, 1, 2}, {1, 2, 3}, {2, 3, 0}, {3, 0, 1}, {0, 2, 3}, {1, 3, 0}, {1, 0, 2}, {2, 1, 3}, {3, 2, 1}, {0, 3, 1}} {
		if base.graph.encapsulates(p[0], p[1]) && base.graph.encapsulates(p[0], p[2]) {
			from, to, third = p[0], p[1], p[2]
		}
	}
	q := parcel{sealed: []byte{1}, ciphertext: []byte{2}}
	note("unchanged", &base, from, to, digest{1}, q)
	note("recipient", &base, from, third, digest{1}, q)
	note("direction", &base, to, from, digest{1}, q)
	note("commitment", &base, from, to, digest{2}, q)
	for name, change := range map[string]func(q *parcel){
		"parcel's seal":              func(q *parcel) { q.sealed = []byte{7} },
		"parcel's commitment to σ":   func(q *parcel) { q.sigma[0]++ },
		"parcel's commitment to b":   func(q *parcel) { q.b[0]++ },
		"parcel's commitment to the": func(q *parcel) { q.pair[0]++ },
	} {
		changed := q
		change(&changed)
		note(name, &base, from, to, digest{1}, changed)
	}
	note("ciphertext", &base, from, to, digest{1}, parcel{sealed: []byte{1}, ciphertext: []byte{3}})
	other := base
	other.ctx1[0] ^= 1
	note("context", &other, from, to, digest{1}, q)
	other = base
	other.keys = []digest{{1}, {2}, {3}, {4}}
	note("keys", &other, from, to, digest{1}, q)
}
