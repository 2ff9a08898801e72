package secagg

import (
	"crypto/ed25519"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
)

// stream is a deterministic source of key material, one for each purpose of a test.
func stream(seed uint64, purpose string, index int) *rand.ChaCha8 {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	binary.LittleEndian.PutUint64(key[8:], uint64(index))
	copy(key[16:], purpose)
	return rand.NewChaCha8(key)
}

func newKey(seed uint64, purpose string, index int) ed25519.PrivateKey {
	var b [ed25519.SeedSize]byte
	stream(seed, purpose, index).Read(b[:])
	return ed25519.NewKeyFromSeed(b[:])
}

// testDevice is one device of a rig, in whichever step it has come to.
type testDevice struct {
	signer Signer
	id     ID
	rand   io.Reader
	input  []uint32
	masked []uint32

	advertised *Advertised
	shared     *Shared
	masking    *Masking
	done       *Masked

	advert, shares, reveal []byte // what it sent
	inbox                  []byte // what it got
}

// rig is a whole attempt under a test's hands: each step method runs one step for
// the devices named and leaves all messages to be looked at.
type rig struct {
	t       testing.TB
	params  Params
	ca      ed25519.PrivateKey
	devices []*testDevice

	adverts     *Adverts
	shares      *Shares
	submissions *Submissions
	reveals     *Reveals
	unmasking   *Unmasking

	roster, survivors []byte
	sum               []uint32
}

const testLength = 67 // no multiple of anything

func testParams(n int, ca ed25519.PrivateKey) Params {
	return Params{
		Task: "support", Round: 7, Attempt: 1, Plan: []byte("a plan"), CA: ca.Public().(ed25519.PublicKey),
		Length: testLength, RingBits: 24, Cohort: n, MinSurvivors: MinCohort,
	}
}

func newRig(t testing.TB, seed uint64, n int) *rig {
	t.Helper()
	ca := newKey(seed, "authority", 0)
	r := &rig{t: t, ca: ca, params: testParams(n, ca)}
	for i := range n {
		key := newKey(seed, "device", i)
		pub := key.Public().(ed25519.PublicKey)
		d := &testDevice{signer: Signer{key, Certify(ca, pub)}, id: DeviceID(pub), rand: stream(seed, "secrets", i)}
		d.input = make([]uint32, testLength)
		in := rand.New(stream(seed, "input", i))
		for w := range d.input {
			d.input[w] = in.Uint32()
		}
		// The first 20 words count each device by itself, so that a sum shows
		// who is in it and how often.
		clear(d.input[:20])
		d.input[i/5] = 1 << (6 * (i % 5))
		r.devices = append(r.devices, d)
	}
	// Devices in roster order make tests easier to read.
	slices.SortFunc(r.devices, func(a, b *testDevice) int { return slices.Compare(a.id[:], b.id[:]) })
	r.sum = make([]uint32, testLength)
	var err error
	if r.adverts, err = NewServer(r.params); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *rig) all() []int {
	var out []int
	for i := range r.devices {
		out = append(out, i)
	}
	return out
}

func without(set []int, gone ...int) []int {
	return slices.DeleteFunc(slices.Clone(set), func(i int) bool { return slices.Contains(gone, i) })
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// advertise runs Advertise up to the server's Close.
func (r *rig) advertise(who []int) error {
	r.t.Helper()
	for _, i := range who {
		d := r.devices[i]
		var err error
		if d.advertised, d.advert, err = Advertise(r.params, d.signer, d.rand); err != nil {
			return err
		}
		r.must(r.adverts.Add(d.id, d.advert))
	}
	var err error
	r.shares, r.roster, err = r.adverts.Close()
	return err
}

// share runs Share up to the server's Close.
func (r *rig) share(who []int) error {
	r.t.Helper()
	for _, i := range who {
		r.shareOne(i)
		r.must(r.shares.Add(r.devices[i].id, r.devices[i].shares))
	}
	subs, inboxes, err := r.shares.Close()
	if err != nil {
		return err
	}
	r.submissions = subs
	for _, d := range r.devices {
		d.inbox = inboxes[d.id]
	}
	return nil
}

func (r *rig) shareOne(i int) {
	r.t.Helper()
	d := r.devices[i]
	var err error
	d.shared, d.shares, err = d.advertised.Share(r.roster, d.rand)
	r.must(err)
}

// submit opens, masks and sums, up to the server's Close.
func (r *rig) submit(who []int) error {
	r.t.Helper()
	for _, i := range who {
		r.maskOne(i)
		d := r.devices[i]
		for w, v := range d.masked {
			r.sum[w] += v
		}
		r.must(r.submissions.Add(d.id))
	}
	var err error
	r.reveals, r.survivors, err = r.submissions.Close()
	return err
}

func (r *rig) maskOne(i int) {
	r.t.Helper()
	d := r.devices[i]
	var err error
	d.masking, err = d.shared.Open(d.inbox)
	r.must(err)
	d.masked = slices.Clone(d.input)
	d.masking.Mask(d.masked, 10, testLength)
	d.masking.Mask(d.masked, 0, 10)
	d.done = d.masking.Done()
}

// finish reveals and unmasks.
func (r *rig) finish(who []int) error {
	r.t.Helper()
	for _, i := range who {
		d := r.devices[i]
		var err error
		d.reveal, err = d.done.Reveal(r.survivors)
		r.must(err)
		r.must(r.reveals.Add(d.id, d.reveal))
	}
	var err error
	if r.unmasking, err = r.reveals.Close(); err != nil {
		return err
	}
	r.unmasking.Range(r.sum, 0, 31)
	r.unmasking.Range(r.sum, 31, testLength)
	return nil
}

// plain is the sum of these devices' inputs.
func (r *rig) plain(who []int) []uint32 {
	sum := make([]uint32, testLength)
	for _, i := range who {
		for w, v := range r.devices[i].input {
			sum[w] += v
		}
	}
	return sum
}
