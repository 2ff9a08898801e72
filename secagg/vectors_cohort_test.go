package secagg

import (
	"encoding/hex"
	"slices"
	"strings"

	"github.com/discreet-fl/discreet/aggregation"
)

// cohortRun is one cohort of a run. Places are those of its roster.
type cohortRun struct {
	*vectorRun
	devices []*testDevice
	checkIn []int // places among the check-ins
	out     *cohortVectors

	shares      *Shares
	submissions *Submissions
	confirms    *Confirms
	reveals     *Reveals
	sum         []uint32
}

func (v *vectorRun) cohort(shares *Shares) *cohortRun {
	s := shares.session
	c := &cohortRun{vectorRun: v, shares: shares, sum: make([]uint32, v.params.Length)}
	lot := drawn{cohorts: Cohorts(len(v.devices), v.params.Cohort)}
	if shares.opened != nil {
		lot.opened = shares.opened.root()
		v.out.Opened = slices.Clone(lot.opened[:])
		lot.cohort = drawLot(&s.ctx0, &v.adverts.root, &lot.opened, len(v.devices), lot.cohorts).cohort(shares.places[0])
	}
	roster, seed := contextParts(s, &v.adverts.root, lot)
	if hash(labelCohort, s.ctx0[:], roster[:], seed[:]) != s.ctx1 {
		v.t.Fatal("ctx1 is not the hash of its parts")
	}
	c.out = &cohortVectors{
		Cohort: lot.cohort, RosterRoot: roster[:], GraphSeed: seed[:], Context: slices.Clone(s.ctx1[:]),
		Complete: s.graph.complete, K: s.graph.k, T: s.graph.threshold, Quorum: s.quorum, Needed: s.needed(),
	}
	for place, id := range shares.Members() {
		i := slices.IndexFunc(v.devices, func(d *testDevice) bool { return d.id == id })
		c.devices, c.checkIn = append(c.devices, v.devices[i]), append(c.checkIn, i)
		v.out.CheckIns[i].Cohort = c.out.Cohort
		c.out.Members = append(c.out.Members, &memberVectors{Place: place, CheckIn: i})
	}
	return c
}

// contextParts are what ctx1 is made of, besides ctx0.
func contextParts(s *session, committed *digest, lot drawn) (rosterRoot, graphSeed digest) {
	roster := [][]byte{s.ctx0[:], committed[:], u32(lot.cohort), u32(lot.cohorts), lot.opened[:]}
	nonces := [][]byte{s.ctx0[:], committed[:]}
	for i := range s.members {
		m := &s.members[i]
		h := hash(labelMember, m.id[:], m.key[:], m.nonce[:], m.advert[:])
		roster, nonces = append(roster, h[:]), append(nonces, m.id[:], m.nonce[:])
	}
	return hash(labelRoster, roster...), hash(labelGraph, nonces...)
}

// each calls f for the members that are there in a step, and the hook for the last one.
func (c *cohortRun) each(at step, server bool, f func(place int, d *testDevice, out *memberVectors)) {
	there := func(place int) bool { return !c.lost(c.checkIn[place], at) }
	last := lastOf(len(c.devices), there)
	for place, d := range c.devices {
		if there(place) {
			if server && place == last {
				c.at(c, at, place, false)
			}
			f(place, d, c.out.Members[place])
		}
	}
	if server {
		c.at(c, at, last, true)
	}
}

func (c *cohortRun) share() {
	c.each(stepShares, false, func(place int, d *testDevice, out *memberVectors) {
		var err error
		d.roster, err = c.shares.Roster(d.id)
		c.must(err)
		c.at(c, stepRoster, place, false)
		d.shared, d.shares, err = d.advertised.Share(d.roster, d.rand)
		c.must(err)
		out.SelfSeed, out.ShareRandom = slices.Clone(d.shared.seed[:]), c.blob(place, c.random[c.checkIn[place]].take())
		if c.dealer != c.cheated && c.checkIn[place] == c.dealer {
			c.misdeal(place, slices.Index(c.checkIn, c.cheated), flipSealed)
			out.Note = "the last byte of what is sealed to check-in " + c.devices[slices.Index(c.checkIn, c.cheated)].id.String() + " was changed before it signed"
		}
		out.Roster, out.Shares = c.blob(place, d.roster), c.blob(place, d.shares)
	})
	c.each(stepShares, true, func(_ int, d *testDevice, _ *memberVectors) { c.must(c.shares.Add(d.id, d.shares)) })
	var err error
	c.submissions, err = c.shares.Close()
	c.must(err)
	c.out.Sharers = hexed(slices.Clone(c.submissions.shared))
}

func hexSeeds(seeds [][32]byte) string {
	list := make([]string, len(seeds))
	for i, seed := range seeds {
		list[i] = hex.EncodeToString(seed[:])
	}
	return strings.Join(list, " ")
}

func flipSealed(_ *session, q *parcel) { q.sealed[len(q.sealed)-1] ^= 1 }

// misdeal has a member change what it deals to another before it signs it.
func (c *cohortRun) misdeal(from, to int, change func(*session, *parcel)) {
	s, d := c.shares.session, c.devices[from]
	m, err := s.decodeDealing(slices.Clone(d.shares), from)
	c.must(err)
	change(s, m.parcels[s.graph.slot(from, to)])
	root := s.leaves(from, m).root()
	copy(m.signature[:], d.signer.sign(s.sharesSigned(from, m, &root)))
	d.shares = m.encode(s, from)
}

func (c *cohortRun) submit() {
	c.each(stepVector, false, func(place int, d *testDevice, out *memberVectors) {
		var err error
		d.inbox, err = c.submissions.Inbox(d.id)
		c.must(err)
		c.at(c, stepInbox, place, false)
		d.masking, d.complaint, err = d.shared.Open(d.inbox)
		c.must(err)
		d.seeds = d.masking.Seeds()
		d.masked = slices.Clone(d.input)
		d.masking.Mask(d.masked, 0, len(d.masked))
		d.done = d.masking.Done()
		out.Inbox, out.Complaint, out.Input = c.blob(place, d.inbox), c.blob(place, d.complaint), hexWords(d.input)
		if c.full == nil || slices.Contains(c.full, place) {
			out.PairSeeds, out.LevelSeeds = hexSeeds(d.done.keeping.pairs), hexSeeds(d.seeds)
		}
		out.Packed = make([]byte, aggregation.PackedSize(len(d.masked), vectorBits))
		c.must(aggregation.Pack(out.Packed, d.masked, vectorBits))
	})
	c.complain()
	c.each(stepVector, true, func(_ int, d *testDevice, out *memberVectors) {
		c.must(c.submissions.Add(d.id))
		c.must(aggregation.AddPacked(c.sum, out.Packed, vectorBits))
	})
	var err error
	c.confirms, err = c.submissions.Close()
	c.must(err)
	c.out.Survivors, c.out.Hash = hexed(slices.Clone(c.confirms.cohort.survivors)), slices.Clone(c.confirms.cohort.hash[:])
	c.late()
}

// late calls the hook for the members that shared and whose vectors did not come.
func (c *cohortRun) late() {
	for _, place := range c.submissions.shared.places() {
		if c.hook != nil && !c.confirms.cohort.survivors.has(place) {
			c.hook(&moment{run: c.vectorRun, cohort: c, step: stepVector, place: place, late: true})
		}
	}
}

// masked is a member's vector, masked and packed, whose device then has gone no further.
func (c *cohortRun) masked(place int) []byte {
	d := c.devices[place]
	inbox, err := c.submissions.Inbox(d.id)
	c.must(err)
	masking, _, err := d.shared.again().Open(inbox)
	c.must(err)
	vector := slices.Clone(d.input)
	masking.Mask(vector, 0, len(vector))
	packed := make([]byte, aggregation.PackedSize(len(vector), vectorBits))
	c.must(aggregation.Pack(packed, vector, vectorBits))
	return packed
}

// complain sends what the members say before their vectors.
func (c *cohortRun) complain() {
	c.each(stepVector, false, func(place int, d *testDevice, _ *memberVectors) {
		if place == lastOf(len(c.devices), func(i int) bool { return !c.lost(c.checkIn[i], stepVector) }) {
			c.at(c, stepComplaint, place, false)
		}
		if d.complaint != nil {
			_, err := c.submissions.Complain(d.id, d.complaint)
			c.must(err)
		}
	})
}

func (c *cohortRun) confirm() {
	c.each(stepConfirm, false, func(place int, d *testDevice, out *memberVectors) {
		var err error
		d.survivors, err = c.confirms.Survivors(d.id)
		c.must(err)
		c.at(c, stepSurvivors, place, false)
		d.confirmed, d.confirm, err = d.done.Confirm(d.survivors)
		c.must(err)
		out.Survivors, out.Confirm = c.blob(place, d.survivors), c.blob(place, d.confirm)
	})
	c.each(stepConfirm, true, func(_ int, d *testDevice, _ *memberVectors) { c.must(c.confirms.Add(d.id, d.confirm)) })
	var err error
	c.reveals, err = c.confirms.Close()
	c.must(err)
	c.out.Message = c.reveals.Quorum()
}

func (c *cohortRun) reveal() {
	c.each(stepReveal, false, func(place int, d *testDevice, out *memberVectors) {
		c.at(c, stepQuorum, place, false)
		var err error
		d.reveal, err = d.confirmed.Reveal(c.reveals.Quorum())
		c.must(err)
		out.Reveal = c.blob(place, d.reveal)
	})
	c.each(stepReveal, true, func(_ int, d *testDevice, _ *memberVectors) { c.must(c.reveals.Add(d.id, slices.Clone(d.reveal))) })
	unmasking, err := c.reveals.Close()
	c.must(err)
	c.out.Masks, c.out.Level = unmasking.Expansions(), len(unmasking.Seeds())
	for _, seeds := range unmasking.Seeds() {
		c.out.Seeds = append(c.out.Seeds, hexSeeds(seeds))
	}
	unmasking.Range(c.sum, 0, len(c.sum))
	want := make([]uint32, len(c.sum))
	for place, d := range c.devices {
		if bitmap(c.out.Survivors).has(place) {
			add(want, d.input)
		}
	}
	for w := range c.sum {
		c.sum[w] %= 1 << vectorBits
	}
	if !slices.Equal(c.sum, want) {
		c.t.Fatalf("%s: sum %v, want %v", c.name, c.sum, want)
	}
	c.out.Sum = hexWords(c.sum)
}
