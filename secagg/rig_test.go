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
	seeds  [][32]byte // of levels

	checkedIn  *CheckedIn
	advertised *Advertised
	shared     *Shared
	masking    *Masking
	done       *Masked
	confirmed  *Confirmed

	advert, shares, complaint, confirm, reveal []byte // what it sent
	committed, roster, inbox, survivors        []byte // what it got
}

// rig is a whole attempt of one cohort under a test's hands: each step method runs one
// step for the devices named and leaves all messages to be looked at.
type rig struct {
	t       testing.TB
	params  Params
	ca      ed25519.PrivateKey
	devices []*testDevice

	adverts     *Adverts
	shares      *Shares
	submissions *Submissions
	confirms    *Confirms
	reveals     *Reveals
	unmasking   *Unmasking

	sum []uint32
}

const testLength = 67 // no multiple of anything

func testParams(n int, ca ed25519.PrivateKey) Params {
	return Params{
		Task: "support", Round: 7, Attempt: 1, Plan: []byte("a plan"), CA: ca.Public().(ed25519.PublicKey),
		Length: testLength, RingBits: 24, Cohort: n, Corrupt: 1000, Dropout: 1000, MinSurvivors: MinCohort,
	}
}

// newRig is a cohort of n devices with hybrid keys that have checked in.
func newRig(t testing.TB, seed uint64, n int) *rig {
	t.Helper()
	return newRigWith(t, seed, n, func(*Params) {})
}

func newRigWith(t testing.TB, seed uint64, n int, change func(*Params)) *rig {
	t.Helper()
	ca := newKey(seed, "authority", 0)
	r := &rig{t: t, ca: ca, params: testParams(n, ca)}
	change(&r.params)
	for i := range n {
		key := newKey(seed, "device", i)
		pub := key.Public().(ed25519.PublicKey)
		d := &testDevice{signer: Signer{key, Certify(ca, pub)}, id: DeviceID(pub), rand: stream(seed, "secrets", i)}
		d.input = make([]uint32, testLength)
		in := rand.New(stream(seed, "input", i))
		for w := range d.input {
			d.input[w] = in.Uint32()
		}
		inRing(d.input, r.params.RingBits)
		// The first words count each device by itself, where there is room for all, so that
		// a sum shows who is in it and how often.
		if n <= 4*testLength {
			clear(d.input[:(n+3)/4])
			d.input[i/4] = 1 << (6 * (i % 4))
		}
		r.devices = append(r.devices, d)
	}
	// Devices in roster order make tests easier to read.
	slices.SortFunc(r.devices, func(a, b *testDevice) int { return slices.Compare(a.id[:], b.id[:]) })
	r.sum = make([]uint32, testLength)
	r.checkIn()
	return r
}

// checkIn begins the server with everybody's commitment.
func (r *rig) checkIn() {
	r.t.Helper()
	commitments := make(map[ID][32]byte)
	for _, d := range r.devices {
		var commitment [32]byte
		var err error
		d.checkedIn, commitment, err = CheckIn(d.rand)
		r.must(err)
		commitments[d.id] = commitment
	}
	var err error
	r.adverts, err = NewServer(r.params, commitments)
	r.must(err)
	for _, d := range r.devices {
		d.committed, err = r.adverts.Committed(d.id)
		r.must(err)
	}
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
		if err := r.advertiseOne(i); err != nil {
			return err
		}
		r.must(r.adverts.Add(r.devices[i].id, r.devices[i].advert))
	}
	cohorts, err := r.adverts.Close()
	if err != nil {
		return err
	}
	r.shares = cohorts[0]
	for _, i := range who {
		d := r.devices[i]
		d.roster, err = r.shares.Roster(d.id)
		r.must(err)
	}
	return nil
}

func (r *rig) advertiseOne(i int) (err error) {
	d := r.devices[i]
	d.advertised, d.advert, err = d.checkedIn.Advertise(r.params, d.signer, d.committed, d.rand)
	return err
}

// share runs Share up to the server's Close.
func (r *rig) share(who []int) error {
	r.t.Helper()
	for _, i := range who {
		r.shareOne(i)
		r.must(r.shares.Add(r.devices[i].id, r.devices[i].shares))
	}
	return r.closeShares(who)
}

func (r *rig) closeShares(who []int) (err error) {
	r.t.Helper()
	if r.submissions, err = r.shares.Close(); err != nil {
		return err
	}
	for _, i := range who {
		d := r.devices[i]
		d.inbox, err = r.submissions.Inbox(d.id)
		r.must(err)
	}
	return nil
}

func (r *rig) shareOne(i int) {
	r.t.Helper()
	d := r.devices[i]
	var err error
	d.shared, d.shares, err = d.advertised.Share(d.roster, d.rand)
	r.must(err)
}

// submit opens, complains, masks and sums, up to the server's Close.
func (r *rig) submit(who []int) error {
	r.t.Helper()
	for _, i := range who {
		r.maskOne(i)
		d := r.devices[i]
		if d.complaint != nil {
			_, err := r.submissions.Complain(d.id, d.complaint)
			r.must(err)
		}
	}
	for _, i := range who {
		r.must(r.submissions.Add(r.devices[i].id))
		add(r.sum, r.devices[i].masked)
	}
	return r.closeSubmissions(who)
}

func (r *rig) closeSubmissions(who []int) (err error) {
	r.t.Helper()
	if r.confirms, err = r.submissions.Close(); err != nil {
		return err
	}
	for _, i := range who {
		d := r.devices[i]
		d.survivors, err = r.confirms.Survivors(d.id)
		r.must(err)
	}
	return nil
}

func (r *rig) maskOne(i int) {
	r.t.Helper()
	d := r.devices[i]
	var err error
	d.masking, d.complaint, err = d.shared.Open(d.inbox)
	r.must(err)
	d.seeds = d.masking.Seeds()
	for _, seed := range d.seeds {
		addBy(seed, d.input, 1)
	}
	d.masked = slices.Clone(d.input)
	d.masking.Mask(d.masked, 10, testLength)
	d.masking.Mask(d.masked, 0, 10)
	d.done = d.masking.Done()
}

// confirm signs the survivors, up to the server's Close.
func (r *rig) confirm(who []int) error {
	r.t.Helper()
	for _, i := range who {
		d := r.devices[i]
		var err error
		d.confirmed, d.confirm, err = d.done.Confirm(d.survivors)
		r.must(err)
		r.must(r.confirms.Add(d.id, d.confirm))
	}
	var err error
	r.reveals, err = r.confirms.Close()
	return err
}

// finish reveals and unmasks.
func (r *rig) finish(who []int) error {
	r.t.Helper()
	for _, i := range who {
		d := r.devices[i]
		var err error
		d.reveal, err = d.confirmed.Reveal(r.reveals.Quorum())
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

// plain is the sum of these devices' inputs in the ring.
func (r *rig) plain(who []int) []uint32 {
	sum := make([]uint32, testLength)
	for _, i := range who {
		for w, v := range r.devices[i].input {
			sum[w] += v
		}
	}
	return inRing(sum, r.params.RingBits)
}
