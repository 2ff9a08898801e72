package secagg

import (
	"crypto/ed25519"
	"io"
	"slices"
	"testing"
)

// step names the messages of an attempt in the order in which they are sent.
type step string

const (
	stepCommitted step = "committed"
	stepAdvert    step = "advert"
	stepRoster    step = "roster"
	stepShares    step = "shares"
	stepInbox     step = "inbox"
	stepComplaint step = "complaint"
	stepVector    step = "vector"
	stepSurvivors step = "survivors"
	stepConfirm   step = "confirm"
	stepQuorum    step = "quorum"
	stepReveal    step = "reveal"
)

// deviceSteps are the steps that a device may be lost before.
var deviceSteps = []step{stepAdvert, stepShares, stepVector, stepConfirm, stepReveal}

// scenario is an attempt to be written down. Devices are numbered by their place among
// the check-ins.
type scenario struct {
	name, comment            string
	devices                  int
	keys                     KeyExchange
	cohort, corrupt, dropout int
	levels                   []int
	rolls                    [][]int      // of the authority: devices, and from devices on others that do not check in
	gone                     map[int]step // before which step a device is lost
	dealer, cheated          int          // where they differ, the dealer's parcel for the other does not open
	full                     []int        // places in a cohort that are given in full; nil for all
}

// lost tells whether a device is gone when a step comes.
func (s *scenario) lost(device int, at step) bool {
	gone, ok := s.gone[device]
	return ok && slices.Index(deviceSteps, gone) <= slices.Index(deviceSteps, at)
}

// recorder notes the random bytes a device took, for others to take the same.
type recorder struct {
	from  io.Reader
	taken []byte
}

func (r *recorder) Read(p []byte) (int, error) {
	n, err := r.from.Read(p)
	r.taken = append(r.taken, p[:n]...)
	return n, err
}

// take is what was taken since the last time.
func (r *recorder) take() []byte {
	b := r.taken
	r.taken = nil
	return b
}

// vectorRun walks through an attempt and writes it down.
type vectorRun struct {
	scenario
	t       *testing.T
	params  Params
	ca      ed25519.PrivateKey
	rolls   []*Roll
	devices []*testDevice // ascending by id
	random  []*recorder
	adverts *Adverts
	ran     []*cohortRun
	out     *attemptVectors

	// hook, where set, is called right before a device reads a message (with the cohort
	// and the device's place in it, or of the check-ins), and right before and after the
	// server takes the last message of a step, and for whose vector is missing when the
	// survivors are fixed.
	hook func(at *moment)
}

// moment is where a run stands.
type moment struct {
	run    *vectorRun
	cohort *cohortRun // nil up to the adverts
	step   step
	place  int
	after  bool
	late   bool // the step was closed without the member's message
}

func (v *vectorRun) at(c *cohortRun, s step, place int, after bool) {
	if v.hook != nil {
		v.hook(&moment{run: v, cohort: c, step: s, place: place, after: after})
	}
}

// vectorLength is two words more than the low bits of a group's words give.
const vectorLength, vectorBits = 34, 20

func newVectorRun(t *testing.T, s scenario, attempt uint32) *vectorRun {
	seed := uint64(s.devices)
	ca := newKey(seed, "authority", 0)
	v := &vectorRun{scenario: s, t: t, ca: ca, params: Params{
		Task: "support", Round: 7, Attempt: attempt, Plan: []byte("a plan"), CA: ca.Public().(ed25519.PublicKey),
		Length: vectorLength, RingBits: vectorBits, Cohort: s.cohort, Corrupt: s.corrupt, Dropout: s.dropout,
		Keys: s.keys, MinSurvivors: MinCohort, Levels: s.levels,
	}}
	for i := range s.devices {
		key := newKey(seed, "device", i)
		pub := key.Public().(ed25519.PublicKey)
		v.devices = append(v.devices, &testDevice{signer: Signer{key, Certify(ca, pub)}, id: DeviceID(pub)})
	}
	slices.SortFunc(v.devices, func(a, b *testDevice) int { return compareIDs(a.id, b.id) })
	v.makeRolls(seed)
	for i, d := range v.devices {
		r := &recorder{from: stream(seed, "vectors", int(attempt)<<16+i)}
		d.rand, v.random = r, append(v.random, r)
		for w := range vectorLength {
			d.input = append(d.input, uint32(100*i+w))
		}
	}
	return v
}

// makeRolls has the authority sign the scenario's rolls.
func (v *vectorRun) makeRolls(seed uint64) {
	var rolls []*Roll
	for _, list := range v.scenario.rolls {
		var keys []ed25519.PublicKey
		for _, i := range list {
			if i < v.scenario.devices {
				keys = append(keys, v.devices[i].signer.public())
			} else {
				keys = append(keys, newKey(seed, "device", i).Public().(ed25519.PublicKey))
			}
		}
		r, err := SignRoll(v.ca, keys)
		v.must(err)
		rolls = append(rolls, r)
	}
	v.rolls, v.params.Rolls = rolls, func([]ed25519.PublicKey) []*Roll { return rolls }
}

func (v *vectorRun) must(err error) {
	v.t.Helper()
	if err != nil {
		v.t.Fatal(err)
	}
}

func (v *vectorRun) run() {
	p := v.params
	ctx0 := p.context()
	v.out = &attemptVectors{
		vectorHead: newVectorHead(v.comment), CASeed: v.ca.Seed(), Context: ctx0[:],
		Params: paramsVectors{p.Task, p.Round, p.Attempt, p.Plan, hexed(p.CA), p.Length, p.RingBits, p.Cohort, p.Corrupt, p.Dropout, p.Keys.String(), p.MinSurvivors, p.Levels},
	}
	for _, r := range v.rolls {
		v.out.Rolls = append(v.out.Rolls, newRollVector(v.ca, r))
	}
	v.checkIn()
	total := make([]uint32, p.Length)
	v.ran = v.advertise()
	for _, c := range v.ran {
		c.share()
		c.submit()
		c.confirm()
		c.reveal()
		add(total, c.sum)
		v.out.Cohorts = append(v.out.Cohorts, c.out)
	}
	v.out.Total = hexWords(total)
}

func (v *vectorRun) checkIn() {
	commitments := make(map[ID][32]byte)
	for i, d := range v.devices {
		var commitment [32]byte
		var err error
		d.checkedIn, commitment, err = CheckIn(d.rand)
		v.must(err)
		commitments[d.id] = commitment
		v.out.CheckIns = append(v.out.CheckIns, &checkInVectors{
			Place: i, ID: d.id[:], KeySeed: d.signer.Key.Seed(), Nonce: v.random[i].take(), Commitment: commitment[:], Cohort: -1, LostBefore: v.gone[i],
		})
	}
	var err error
	v.adverts, err = NewServer(v.params, commitments)
	v.must(err)
	root := v.adverts.tree.root()
	v.out.Root, v.out.Committed = root[:], slices.Clone(v.adverts.root[:])
}

func (v *vectorRun) advertise() []*cohortRun {
	last := lastOf(len(v.devices), func(i int) bool { return !v.lost(i, stepAdvert) })
	for i, d := range v.devices {
		var err error
		d.committed, err = v.adverts.Committed(d.id)
		v.must(err)
		v.at(nil, stepCommitted, i, false)
		out := v.out.CheckIns[i]
		if !v.lost(i, stepAdvert) {
			d.advertised, d.advert, err = d.checkedIn.Advertise(v.params, d.signer, d.committed, d.rand)
			v.must(err)
			sigma := encodeScalar(d.advertised.sigma)
			out.AdvertRandom, out.Sigma = v.random[i].take(), sigma[:]
		}
	}
	for i, d := range v.devices {
		if d.advert != nil {
			if i == last {
				v.at(nil, stepAdvert, i, false)
			}
			v.must(v.adverts.Add(d.id, d.advert))
		}
	}
	v.at(nil, stepAdvert, last, true)
	cohorts, err := v.adverts.Close()
	v.must(err)
	var list []*cohortRun
	for _, shares := range cohorts {
		list = append(list, v.cohort(shares))
	}
	for i, d := range v.devices {
		out := v.out.CheckIns[i]
		where := 0
		if out.Cohort >= 0 {
			where, _ = list[out.Cohort].shares.session.place(d.id)
		} else if v.full != nil {
			where = -1
		}
		out.Credential, out.Answer, out.Advert = v.blob(where, d.signer.Credential), v.blob(where, d.committed), v.blob(where, d.advert)
	}
	return list
}

// lastOf is the last of n for which ok holds.
func lastOf(n int, ok func(int) bool) int {
	last := -1
	for i := range n {
		if ok(i) {
			last = i
		}
	}
	return last
}
