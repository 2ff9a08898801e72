package round

import (
	"bytes"
	"slices"

	"github.com/discreet-fl/discreet/secagg"
)

// caught tells whether an earlier lie makes the device's own message of a step wrong: it
// reveals its own share, and the seed of a mask with a member that vanished without
// a complaint.
func (s *stage) caught(a *agent, step Step) bool {
	if i := s.model.members[a.number]; step == Reveal && i != nil && i.cohort != nil {
		for _, j := range i.cohort.sharers {
			if a.wrongPair[j.number] && !slices.Contains(i.cohort.survivors, j) && !j.accuses[a.number] {
				return true
			}
		}
	}
	return a.disowned && step == Reveal
}

// lies are well-formed messages that are wrong inside.
var lies = []*fault{
	{name: "advertises a key of low order", at: []Step{Advertise}, hostile: true, run: func(s *stage, a *agent, step Step) {
		s.cheat(a, step, newForger(s, a).advert(func(_, channel, _ []byte) { clear(channel[len(channel)-32:]) }))
	}},
	{name: "shows another nonce", at: []Step{Advertise}, hostile: true, run: func(s *stage, a *agent, step Step) {
		s.cheat(a, step, newForger(s, a).advert(func(nonce, _, _ []byte) { nonce[9] ^= 1 }))
	}},
	{name: "advertises one key twice", at: []Step{Advertise}, hostile: true, run: func(s *stage, a *agent, step Step) {
		s.cheat(a, step, newForger(s, a).advert(func(_, channel, mask []byte) { copy(channel, mask) }))
	}},
	{name: "advertises another's key", at: []Step{Advertise}, hostile: true, run: func(s *stage, a *agent, step Step) {
		b := s.nth(a, 1, func(b *agent) bool { return s.round.Answered(b.id, Advertise) })
		if b == nil {
			s.proceed(a, step)
			return
		}
		theirs := b.message[Advertise][2+128:]
		s.cheat(a, step, newForger(s, a).advert(func(_, channel, _ []byte) { copy(channel, theirs) }))
	}},
	dealing("deals shares that do not open", 1, func(_ *forger, d *deal, a, victim *agent, to int) {
		q := d.parcels[to]
		q.sealed[len(q.sealed)-1] ^= 1
		a.misdealt[victim.number] = true
	}),
	dealing("deals shares to all that do not open", 99, func(_ *forger, d *deal, a, victim *agent, to int) {
		q := d.parcels[to]
		q.sealed[len(q.sealed)-1] ^= 1
		a.misdealt[victim.number] = true
	}),
	{name: "deals under a point of low order", at: []Step{Share}, hostile: true, run: func(s *stage, a *agent, step Step) {
		f := newForger(s, a)
		s.cheat(a, step, f.deal(func(d *deal) {
			for _, q := range d.parcels {
				clear(q.sealed[len(q.sealed)-64-16-32 : len(q.sealed)-64-16])
			}
		}))
	}},
	dealing("deals what are no scalars", 1, func(f *forger, d *deal, a, victim *agent, to int) {
		f.seal(d, to, bytes.Repeat([]byte{0xff}, 32), bytes.Repeat([]byte{0xff}, 32))
		a.misdealt[victim.number] = true
	}),
	dealing("deals a share that does not fit its commitment", 1, func(_ *forger, d *deal, a, victim *agent, to int) {
		d.parcels[to].sigma[3] ^= 8
		a.misdealt[victim.number] = true
	}),
	spoiling(dealing("deals shares of no secret that fit their commitments", 1, (*forger).crook)),
	spoiling(dealing("commits to another secret", 99, func(f *forger, d *deal, a, victim *agent, to int) {
		if len(a.crookedTo) == 0 {
			d.b[0] ^= 1
		}
		f.crook(d, a, victim, to)
	})),
	dealing("commits to another share of its own", 1, func(_ *forger, d *deal, a, _ *agent, _ int) {
		d.own[0] ^= 1
		a.disowned = true
	}),
	dealing("commits to another seed", 99, func(_ *forger, d *deal, a, victim *agent, to int) {
		if q := d.parcels[to]; q.pair != nil && len(a.wrongPair) == 0 {
			q.pair[0] ^= 1
			a.misdealt[victim.number], a.wrongPair[victim.number] = true, true
		}
	}),
	hybrid(dealing("sends another ciphertext", 99, func(f *forger, d *deal, a, victim *agent, to int) {
		if q := d.parcels[to]; len(q.ciphertext) > 0 && len(a.wrongCiphertext) == 0 {
			q.ciphertext[0] ^= 1
			f.crook(d, a, victim, to)
			a.misdealt[victim.number], a.wrongCiphertext[victim.number] = true, true
			delete(a.crookedTo, victim.number) // it does not keep them
		}
	})),
	large(accusing("accuses another falsely", (*stage).sendComplaint, func(s *stage, a *agent) { s.accuseFalsely(a, 1) })),
	large(accusing("accuses as many as it can falsely", (*stage).sendComplaint, func(s *stage, a *agent) { s.accuseFalsely(a, 99) })),
	accusing("accuses another falsely and vanishes", (*stage).complainAndGo, func(s *stage, a *agent) { s.accuse(a, 1) }),
	accusing("accuses all falsely and vanishes", (*stage).complainAndGo, func(s *stage, a *agent) { s.accuse(a, 99) }),
	accusing("accuses itself", func(s *stage, a *agent) {
		s.complain(a, a.complaint, true)
		a.done = true
	}, func(s *stage, a *agent) {
		f := newForger(s, a)
		a.complaint = f.complaint([]int{f.self})
	}),
	{name: "submits a word more", at: []Step{Submit}, hostile: true, run: func(s *stage, a *agent, step Step) {
		s.cheat(a, step, s.pack(append(s.unpack(a.message[step]), 0, 0)))
	}},
	{name: "submits a word less", at: []Step{Submit}, hostile: true, run: func(s *stage, a *agent, step Step) {
		s.cheat(a, step, s.pack(s.unpack(a.message[step])[2:]))
	}},
	{name: "submits a bit behind the last word", at: []Step{Submit}, hostile: true, run: func(s *stage, a *agent, step Step) {
		m := bytes.Clone(a.message[step])
		m[len(m)-1] |= 0x80
		s.cheat(a, step, m)
	}},
	{name: "submits more than it has", at: []Step{Submit}, hostile: true, run: func(s *stage, a *agent, step Step) {
		words := s.unpack(a.message[step])
		words[0] += 1 << 15
		s.cheat(a, step, s.pack(words))
	}},
	{name: "signs other survivors", at: []Step{Confirm}, hostile: true, run: func(s *stage, a *agent, step Step) {
		sharers, survivors := s.bitmaps(a)
		f := newForger(s, a)
		place := f.place(s.near(a, 1))
		survivors[place/8] ^= 1 << (place % 8)
		s.cheat(a, step, f.confirm(sharers, survivors))
	}},
	{name: "signs other sharers", at: []Step{Confirm}, hostile: true, run: func(s *stage, a *agent, step Step) {
		sharers, survivors := s.bitmaps(a)
		f := newForger(s, a)
		place := f.place(s.near(a, 1))
		sharers[place/8] ^= 1 << (place % 8)
		s.cheat(a, step, f.confirm(sharers, survivors))
	}},
	revealing("reveals for other survivors", func(m []byte) []byte { m[5] ^= 2; return m }),
	revealing("reveals another share", func(m []byte) []byte { m[2+32+7] ^= 2; return m }),
	revealing("reveals another share or seed at the end", func(m []byte) []byte { m[len(m)-1] ^= 2; return m }),
	revealing("reveals both shares of one", func(m []byte) []byte { return append(m, m[34:66]...) }),
	revealing("keeps a share back", func(m []byte) []byte { return m[:len(m)-32] }),
}

func revealing(name string, change func(m []byte) []byte) *fault {
	return &fault{name: name, at: []Step{Reveal}, hostile: true, run: func(s *stage, a *agent, step Step) {
		s.cheat(a, step, change(bytes.Clone(a.message[step])))
	}}
}

// dealing is a lie about what a device deals to so many others of its cohort.
func dealing(name string, victims int, change func(f *forger, d *deal, a, victim *agent, to int)) *fault {
	return &fault{name: name, at: []Step{Share}, hostile: true, run: func(s *stage, a *agent, step Step) {
		f := newForger(s, a)
		a.message[Share] = f.deal(func(d *deal) {
			left := victims
			for nth := 1; left > 0 && nth < len(s.agents); nth++ {
				if victim := s.near(a, nth); victim != nil && d.parcels[f.place(victim)] != nil {
					change(f, d, a, victim, f.place(victim))
					left--
				}
			}
		})
		s.proceed(a, step)
	}}
}

// large is a fault that takes a cohort of which one can be missing, hybrid one that
// takes ciphertexts, and spoiling one that may cost the others the round.
func large(f *fault) *fault {
	f.fits = func(c cast) bool { return min(c.devices, c.cohort) > 3 }
	return f
}

func spoiling(f *fault) *fault {
	f.spoils = true
	return f
}

func hybrid(f *fault) *fault {
	f.fits = func(c cast) bool { return c.keys == secagg.Hybrid }
	return f
}

// crook deals shares that fit their commitments and are none of the secrets.
func (f *forger) crook(d *deal, a, victim *agent, to int) {
	sigma, b := make([]byte, 32), make([]byte, 32)
	sigma[0], b[0] = 5, 7
	f.seal(d, to, sigma, b)
	a.crookedTo[victim.number] = true
}

// accusing is a lie about what others dealt.
func accusing(name string, run func(*stage, *agent), ready func(*stage, *agent)) *fault {
	return &fault{name: name, at: []Step{complaining}, hostile: true, ready: ready, run: func(s *stage, a *agent, _ Step) { run(s, a) }}
}

func (s *stage) complainAndGo(a *agent) {
	s.complain(a, a.complaint, false)
	a.done = true
	s.gone(a)
}

// accuse makes a complaint about others that dealt well, as many as there are of those
// that do not lie.
func (s *stage) accuse(a *agent, most int) {
	f, i := newForger(s, a), s.model.members[a.number]
	var places []int
	for nth := 1; nth < len(s.agents) && len(places) < most; nth++ {
		b := s.peer(a, nth)
		if b == nil || a.misdealt[b.number] {
			continue
		}
		if j := s.model.members[b.number]; slices.Contains(i.cohort.sharers, j) && i.cohort.near(i, j) {
			places = append(places, f.place(b))
			a.accuses = append(a.accuses, b.number)
		}
	}
	slices.Sort(places)
	if places != nil {
		a.complaint = f.complaint(places)
	}
}

// accuseFalsely makes a complaint and what a device has to send that keeps to it: a
// vector without the masks in common with those that it accuses, and later a reveal
// without their shares.
func (s *stage) accuseFalsely(a *agent, most int) {
	i := s.model.members[a.number]
	c := i.cohort
	spare := s.model.holders(c, i, c.sharers) - c.threshold
	if c.neighbours == nil {
		spare = len(c.sharers) - max(s.params.MinSurvivors, s.model.quorum(c), c.threshold)
	}
	if s.accuse(a, min(most, spare)); len(a.accuses) == 0 {
		return
	}
	a.message[Submit] = s.without(a, a.accuses)
}

// without is the vector of a device that was not dealt any shares by some of the
// others.
func (s *stage) without(a *agent, others []int) []byte {
	adverts, err := secagg.NewServer(s.params, s.config.CheckIns)
	s.must(err)
	for _, i := range s.model.lobby.answered(Advertise) {
		s.must(adverts.Add(s.agents[i.number].id, []byte(*i.sent[Advertise])))
	}
	cohorts, err := adverts.Close()
	s.must(err)
	shares := cohorts[s.model.members[a.number].cohort.number]
	for _, i := range s.model.members[a.number].cohort.sharers {
		if !slices.Contains(others, i.number) {
			s.must(shares.Add(s.agents[i.number].id, []byte(*i.sent[Share])))
		}
	}
	submissions, err := shares.Close()
	s.must(err)
	twin := s.newAgent(a.number)
	twin.committed, twin.reply[Advertise] = a.committed, a.reply[Advertise]
	twin.reply[Share], err = submissions.Inbox(a.id)
	s.must(err)
	s.must(twin.prepare(s.params, Submit))
	return twin.message[Submit]
}

func (s *stage) must(err error) {
	if err != nil {
		s.failf("%v", err)
	}
}

// withhold takes what a device holds of those whom it accuses falsely out of its
// reveal.
func (s *stage) withhold(a *agent) {
	i, m := s.model.members[a.number], a.message[Reveal]
	c, kept, rest := i.cohort, bytes.Clone(m[:34]), m[34:]
	for _, j := range c.sharers {
		if !c.near(i, j) {
			continue
		}
		size := 32
		if !slices.Contains(c.survivors, j) {
			size = 64
		}
		if !slices.Contains(a.accuses, j.number) {
			kept = append(kept, rest[:size]...)
		}
		rest = rest[size:]
	}
	a.message[Reveal] = kept
}

// bitmaps are who shared and who survived of a device's cohort.
func (s *stage) bitmaps(a *agent) (sharers, survivors []byte) {
	c := s.model.members[a.number].cohort
	sharers, survivors = make([]byte, (len(c.members)+7)/8), make([]byte, (len(c.members)+7)/8)
	for place, i := range c.members {
		if slices.Contains(c.sharers, i) {
			sharers[place/8] |= 1 << (place % 8)
		}
		if slices.Contains(c.survivors, i) {
			survivors[place/8] |= 1 << (place % 8)
		}
	}
	return sharers, survivors
}
