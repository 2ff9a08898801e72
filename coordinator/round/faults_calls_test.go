package round

import (
	"time"
)

// What a model makes of the calls of a round. Each returns the kind of error that the
// call has to return, nil for none.

func (m *model) gone(now time.Time, number int) {
	if i := m.members[number]; i != nil && i.gone.IsZero() {
		i.gone = now
	}
	m.tick(now)
}

func (m *model) back(now time.Time, number int) {
	m.tick(now)
	if i := m.members[number]; i != nil {
		i.gone = time.Time{}
	}
}

// expel is what befalls a member for a message that no device should send.
func (m *model) expel(now time.Time, i *modelMember, step Step) {
	if !i.out && !m.over {
		i.out = true
		m.emit("blamed %d by -1 in %v, verdict %d", i.number, step, Broke)
	}
	m.tick(now)
}

// receive is told whether the message is bad: not one that its sender may send in that
// step, whatever it has lied about before.
func (m *model) receive(now time.Time, number int, step Step, payload []byte, bad bool) error {
	i := m.members[number]
	if i == nil {
		m.tick(now)
		return ErrNotMember
	}
	m.back(now, number)
	if step < 0 || step >= steps {
		return ErrMalformed
	}
	message := string(payload)
	if before := i.sent[step]; before != nil {
		if *before != message {
			m.expel(now, i, step)
			return ErrDiffers
		}
		return m.again(i, step)
	}
	if err := m.admit(i, step); err != nil {
		return err
	}
	switch c := i.cohort; {
	case c != nil && c.step == steps: // the sum does not need it
		return nil
	case c != nil && step < c.step: // a signature that the quorum does not need
		i.sent[step] = &message
		m.reply(c, step, []*modelMember{i})
		return nil
	case bad:
		m.expel(now, i, step)
		return ErrMalformed
	}
	i.sent[step] = &message
	m.tick(now)
	return nil
}

// again is what a message that was accepted before is answered with.
func (m *model) again(i *modelMember, step Step) error {
	c := i.cohort
	switch {
	case m.aborted || c != nil && c.lost:
		return ErrOver
	case c == nil || step >= c.step || step == Reveal:
		return nil
	case step == Share && c.step != Submit: // an inbox is of no use behind the vectors
		return ErrLate
	}
	m.reply(c, step, []*modelMember{i})
	return nil
}

// open is the step that a member's cohort is in.
func (m *model) openStep(i *modelMember) Step {
	if i.cohort != nil {
		return i.cohort.step
	}
	return m.lobby.step
}

// admit returns the kind of error with which a member's first message of a step is
// refused whatever is in it.
func (m *model) admit(i *modelMember, step Step) error {
	c, open := i.cohort, m.openStep(i)
	switch {
	case m.aborted || c != nil && c.lost:
		return ErrOver
	case i.out:
		return ErrOut
	case (open == steps || open == Reveal) && c != nil && i.turn == Reveal && step == Reveal:
		return nil
	case step > open:
		return ErrEarly
	case step == Confirm && open == Reveal && i.turn == Reveal:
		return nil
	case step < open || i.turn != step:
		return ErrLate
	case step == Submit && m.holders(c, i, c.sharers) < c.threshold:
		return ErrOut
	case step == Submit && c.neighbours != nil && i.complaint == nil: // its pledge goes before it
		return ErrEarly
	}
	return nil
}

// complain is told whom a complaint accuses, or that it is bad.
func (m *model) complain(now time.Time, number int, payload []byte, accused []int, bad bool) error {
	i := m.members[number]
	if i == nil {
		m.tick(now)
		return ErrNotMember
	}
	m.back(now, number)
	c, message := i.cohort, string(payload)
	switch {
	case i.complaint != nil && *i.complaint == message:
		return nil
	case i.complaint != nil:
		m.expel(now, i, Share)
		return ErrDiffers
	case m.openStep(i) < Submit:
		return ErrEarly
	case i.sent[Submit] != nil:
		return ErrLate
	case m.aborted || c != nil && c.lost:
		return ErrOver
	case i.out:
		return ErrOut
	case c == nil || c.step != Submit || i.turn != Submit:
		return ErrLate
	case bad, m.opened(c, i)-len(accused) < c.threshold: // who has fewer does not go on
		m.expel(now, i, Share)
		return ErrMalformed
	}
	i.complaint = &message
	for _, j := range accused {
		dealer := m.members[j]
		m.emit("blamed %d by %d in share, verdict %d", j, number, Accused)
		i.accuses[j] = true
		if dealer.accusers++; dealer.sent[Submit] == nil && m.holders(c, dealer, c.sharers) < c.threshold {
			dealer.out = true
		}
	}
	m.tick(now)
	return nil
}
