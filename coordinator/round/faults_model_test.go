package round

import (
	"fmt"
	"slices"
	"time"

	"github.com/discreet-fl/discreet/secagg"
)

// model says what has to come of a schedule, by counting: who answered what in time,
// who accuses whom, who is away. It holds no key, mask or share, and the only thing
// that it is told by the round is who was drawn into which cohort and who are neighbours
// there.
type model struct {
	params        secagg.Params
	config        Config
	rank          []int // of the devices by id, which is their order in rosters
	members       []*modelMember
	lobby         *modelCohort
	cohorts       []*modelCohort
	lost          int
	latest        Step // in which a cohort was lost
	over, aborted bool
	split         func() []drawn // the cohorts, once they are fixed
	effects       []string       // of the call under way
}

// modelMember is a device that checked in; it is nil for one that did not.
type modelMember struct {
	number    int
	cohort    *modelCohort
	turn      Step
	sent      [steps]*string
	complaint *string
	accuses   map[int]bool
	accusers  int
	lies      *agent // what it dealt
	gone      time.Time
	out       bool
}

// drawn is a cohort that came of the lot, by the devices' numbers.
type drawn struct {
	roster     []int
	neighbours map[int][]int // nil where all mask with each other
	threshold  int           // of a secret's shares
}

type modelCohort struct {
	drawn
	number             int
	step               Step
	members            []*modelMember // in the order of their ids
	expected           []*modelMember
	sharers, survivors []*modelMember
	deadline           time.Time
	lost               bool
}

func newModel(now time.Time, c Config, agents []*agent, split func() []drawn) *model {
	m := &model{params: c.Params, config: c, split: split, rank: make([]int, len(agents)), members: make([]*modelMember, len(agents))}
	order := slices.SortedFunc(slices.Values(agents), func(a, b *agent) int { return slices.Compare(a.id[:], b.id[:]) })
	var all []*modelMember
	for rank, a := range order {
		m.rank[a.number] = rank
		if _, member := c.CheckIns[a.id]; member {
			m.members[a.number] = &modelMember{number: a.number, accuses: map[int]bool{}, lies: a}
			all = append(all, m.members[a.number])
		}
	}
	m.lobby = &modelCohort{step: Advertise, members: all}
	m.open(m.lobby, Advertise, all, now.Add(c.Advertise))
	return m
}

func (m *model) emit(format string, args ...any) {
	m.effects = append(m.effects, fmt.Sprintf(format, args...))
}

func (m *model) open(c *modelCohort, step Step, expected []*modelMember, deadline time.Time) {
	c.step, c.expected, c.deadline = step, expected, deadline
	for _, i := range expected {
		i.turn = step
	}
}

func (c *modelCohort) answered(step Step) (list []*modelMember) {
	for _, i := range c.expected {
		if i.sent[step] != nil {
			list = append(list, i)
		}
	}
	return list
}

// waits tells whether a member is still waited for.
func (m *model) waits(now time.Time, c *modelCohort, i *modelMember) bool {
	return i.turn == c.step && i.sent[c.step] == nil && !i.out && (i.gone.IsZero() || now.Before(i.gone.Add(m.config.Grace)))
}

func (m *model) waiting(now time.Time, c *modelCohort) (n int) {
	for _, i := range c.expected {
		if m.waits(now, c, i) {
			n++
		}
	}
	return n
}

// near tells whether two members mask with each other and hold each other's shares. On
// the complete graph each also holds a share of its own.
func (c *modelCohort) near(i, j *modelMember) bool {
	if c.neighbours == nil {
		return true
	}
	return i != j && slices.Contains(c.neighbours[i.number], j.number)
}

// quorum is more than half of the honest members and all the corrupt ones.
func (m *model) quorum(c *modelCohort) int {
	n := len(c.members)
	return (n+n*m.params.Corrupt/10_000)/2 + 1
}

func (m *model) needed(c *modelCohort) int {
	switch c.step {
	case Advertise:
		least := m.least(0)
		for cohort := range m.drawnInto() {
			least = min(least, m.least(cohort))
		}
		return least
	case Share, Submit:
		least := max(m.params.MinSurvivors, m.quorum(c))
		if c.neighbours == nil {
			least = max(least, c.threshold)
		}
		return least
	case Confirm:
		return m.quorum(c)
	}
	return 0
}

// drawnInto is how many devices the lot gives each cohort.
func (m *model) drawnInto() map[int]int {
	n, places := len(m.lobby.members), make(map[int]int)
	for at := range n {
		places[at*secagg.Cohorts(n, m.params.Cohort)/n]++
	}
	return places
}

// least is the fewest members with which a cohort is formed.
func (m *model) least(cohort int) int {
	return max(m.params.MinSurvivors, m.drawnInto()[cohort]/2+1)
}

func (m *model) closes(now time.Time, c *modelCohort) bool {
	waiting := m.waiting(now, c)
	return waiting == 0 || !now.Before(c.deadline) || len(c.answered(c.step))+waiting < m.needed(c)
}

func (m *model) tick(now time.Time) {
	if !m.over && m.lobby.step == Advertise && m.closes(now, m.lobby) {
		m.closeLobby(now)
	}
	for _, c := range m.cohorts {
		if c.step == steps {
			continue
		}
		for c.step < steps && m.closes(now, c) {
			m.close(now, c)
		}
		if c.step == steps {
			m.end()
		}
		if m.over {
			return
		}
	}
}

func (m *model) closeLobby(now time.Time) {
	here, all := m.lobby.answered(Advertise), secagg.Cohorts(len(m.lobby.members), m.params.Cohort)
	m.emit("closed 0 advertise %d/%d", len(here), len(m.lobby.members))
	needed, most := m.needed(m.lobby), 0
	for cohort := range all {
		most = max(most, m.least(cohort)-1) // members of one that is not formed
	}
	m.lobby.step = steps
	formed := m.split()
	if len(here) < needed || len(formed) == 0 {
		if len(here) > all*most {
			m.emit("%d devices in %d cohorts, and none is formed", len(here), all)
		}
		m.abort(Advertise)
		return
	}
	placed := 0
	for number, d := range formed {
		c := &modelCohort{number: number, drawn: d}
		if n := len(d.roster); d.neighbours == nil && (n > secagg.CompleteGraph || d.threshold != n-n/3) {
			m.emit("cohort %d of %d has threshold %d on the complete graph", number, n, d.threshold)
		}
		for _, i := range d.roster {
			if member := m.members[i]; member == nil || member.sent[Advertise] == nil || member.cohort != nil {
				m.emit("device %d is in cohort %d", i, number)
			}
			m.members[i].cohort = c
			c.members = append(c.members, m.members[i])
		}
		if len(d.roster) < needed || len(d.roster) > m.params.Cohort {
			m.emit("cohort %d has %d members", number, len(d.roster))
		}
		m.open(c, Share, c.members, now.Add(m.config.Step))
		m.reply(c, Advertise, c.members)
		m.cohorts, placed = append(m.cohorts, c), placed+len(d.roster)
	}
	if len(here)-placed > (all-len(formed))*most {
		m.emit("%d devices are left out of %d cohorts", len(here)-placed, all-len(formed))
	}
	if len(formed) < all {
		m.loseUnformed(len(formed), all)
	}
}

func (m *model) loseUnformed(formed, all int) {
	none := &modelCohort{step: steps, lost: true}
	for _, i := range m.lobby.answered(Advertise) {
		if i.cohort == nil {
			i.cohort = none
		}
	}
	for number := formed; number < all; number++ {
		m.emit("lost %d advertise", number)
	}
	m.lost, m.latest = all-formed, Advertise
	m.end()
}

func (m *model) reply(c *modelCohort, step Step, to []*modelMember) {
	for _, i := range to {
		m.emit("reply %v to %d", step, i.number)
	}
}

// close ends a cohort's open step and opens the next.
func (m *model) close(now time.Time, c *modelCohort) {
	here, step := c.answered(c.step), c.step
	m.emit("closed %d %v %d/%d", c.number, step, len(here), len(c.expected))
	if len(here) < m.needed(c) {
		m.lose(c)
		return
	}
	switch step {
	case Share:
		c.sharers = here
	case Submit:
		c.survivors = here
		if m.unheld(c) {
			return
		}
	case Confirm:
		var silent []dispute
		for _, i := range c.survivors {
			if i.sent[Confirm] == nil {
				silent = append(silent, disputes(c, i, true)...)
			}
		}
		if silent != nil {
			m.settle(c, silent)
			return
		}
	case Reveal:
		m.finish(c, here)
		return
	}
	next := here
	if step == Confirm {
		next = c.survivors
	}
	m.open(c, step+1, next, now.Add(m.config.Step))
	m.reply(c, step, here)
}

// holders is how many of a set hold a share of a dealer that opened.
func (m *model) holders(c *modelCohort, dealer *modelMember, among []*modelMember) (n int) {
	for _, i := range among {
		if c.near(i, dealer) && !i.accuses[dealer.number] {
			n++
		}
	}
	return n
}

// opened is how many shares that were dealt to a member would open if everybody dealt
// well.
func (m *model) opened(c *modelCohort, i *modelMember) (n int) {
	for _, j := range c.sharers {
		if c.near(j, i) {
			n++
		}
	}
	return n
}

// dispute is what a member says of another.
type dispute struct{ accuser, accused *modelMember }

// disputes lists the survivors that accuse a member, or of them those with whom it
// alone used the mask in common.
func disputes(c *modelCohort, i *modelMember, lone bool) (list []dispute) {
	for _, j := range c.survivors {
		if j.accuses[i.number] && !(lone && i.accuses[j.number]) {
			list = append(list, dispute{j, i})
		}
	}
	return list
}

// unheld loses a cohort where too few survivors hold shares of one of them: by what they
// say of it, if there would be enough otherwise.
func (m *model) unheld(c *modelCohort) bool {
	var open []dispute
	for _, i := range c.survivors {
		n := m.holders(c, i, c.survivors)
		if n >= c.threshold {
			continue
		}
		said := disputes(c, i, false)
		if n+len(said) < c.threshold {
			m.lose(c)
			return true
		}
		open = append(open, said...)
	}
	if open == nil {
		return false
	}
	m.settle(c, open)
	return true
}

// settle loses a cohort by what members say of others. Nothing tells who is right, unless
// more say so of one than may be corrupt.
func (m *model) settle(c *modelCohort, list []dispute) {
	open := ""
	var last *modelMember
	for _, d := range list {
		if d.accused.accusers <= max(1, len(c.members)*m.params.Corrupt/10_000) {
			open += fmt.Sprintf(" %d by %d", d.accused.number, d.accuser.number)
		} else if last != d.accused {
			m.emit("blamed %d by -1 in %v, verdict %d", d.accused.number, c.step, Spoilt)
		}
		last = d.accused
	}
	if open != "" {
		m.emit("disputed in %v:%s", c.step, open)
	}
	m.lose(c)
}

// finish says what comes of the reveals.
func (m *model) finish(c *modelCohort, revealed []*modelMember) {
	dropped := func(j *modelMember) bool { return !slices.Contains(c.survivors, j) }
	// All who used the mask in common with a dropped member have shown its seed.
	shown := func(j *modelMember) bool {
		return !slices.ContainsFunc(c.survivors, func(i *modelMember) bool {
			return c.near(i, j) && !i.accuses[j.number] && !slices.Contains(revealed, i)
		})
	}
	for _, j := range c.sharers {
		if m.holders(c, j, revealed) < c.threshold && !(dropped(j) && shown(j)) {
			m.lose(c)
			return
		}
	}
	for _, j := range c.sharers {
		if liar := m.spoilt(c, j, revealed, dropped(j)); liar != nil && !(dropped(j) && shown(j)) {
			m.emit("blamed %d by -1 in reveal, verdict %d", liar.number, Spoilt)
			m.lose(c)
			return
		}
	}
	var survivors []int
	for _, i := range c.survivors {
		survivors = append(survivors, i.number)
	}
	slices.Sort(survivors)
	m.emit("summed %d %v", c.number, survivors)
	c.step = steps
}

// spoilt is who has dealt so that the secret of a sharer, or where it is dropped a mask
// that its secret is needed for, cannot be had back; nil for nobody.
func (m *model) spoilt(c *modelCohort, j *modelMember, revealed []*modelMember, dropped bool) *modelMember {
	used := 0
	for _, i := range revealed {
		if c.near(i, j) && !i.accuses[j.number] && used < c.threshold {
			if used++; j.lies.crookedTo[i.number] {
				return j
			}
		}
	}
	for _, i := range c.survivors {
		if dropped && c.near(i, j) && !i.accuses[j.number] && i.sent[Reveal] == nil && (i.lies.wrongPair[j.number] || i.lies.wrongCiphertext[j.number]) {
			return i
		}
	}
	return nil
}

func (m *model) lose(c *modelCohort) {
	m.emit("lost %d %v", c.number, c.step)
	m.latest, c.step, c.lost = c.step, steps, true
	m.lost++
}

func (m *model) end() {
	all := secagg.Cohorts(len(m.lobby.members), m.params.Cohort)
	if all == 1 && m.lost == 1 || 2*m.lost > all {
		m.abort(m.latest)
		return
	}
	for _, c := range m.cohorts {
		if c.step < steps {
			return
		}
	}
	m.over = true
	m.emit("done %d/%d lost", m.lost, all)
}

func (m *model) abort(step Step) {
	for _, c := range m.cohorts {
		if c.step < steps {
			c.step, c.lost = steps, true
		}
	}
	m.lobby.step, m.over, m.aborted = steps, true, true
	m.emit("aborted %v", step)
}

// due is when something changes if nobody says anything.
func (m *model) due(now time.Time) (next time.Time) {
	if m.over {
		return time.Time{}
	}
	open := m.cohorts
	if m.lobby.step == Advertise {
		open = []*modelCohort{m.lobby}
	}
	for _, c := range open {
		if c.step == steps {
			continue
		}
		times := []time.Time{c.deadline}
		for _, i := range c.expected {
			if m.waits(now, c, i) && !i.gone.IsZero() {
				times = append(times, i.gone.Add(m.config.Grace))
			}
		}
		if first := slices.MinFunc(times, time.Time.Compare); next.IsZero() || first.Before(next) {
			next = first
		}
	}
	return next
}
