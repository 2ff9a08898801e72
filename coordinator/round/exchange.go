package round

import (
	"slices"
	"time"
)

// exchange is an open step: who may answer it and who is still waited for. What it does
// for one member takes the same time however many there are.
type exchange struct {
	step     Step
	expected []*member
	answered int
	left     int // of the others: not waited for any more
	deadline time.Time
	grace    time.Duration
	leaving  []departure // the earliest first; of members that came back, too
}

// departure is the end of a member's connection.
type departure struct {
	member *member
	at     time.Time
}

// open begins a step for these members.
func (x *exchange) open(step Step, members []*member, deadline time.Time, grace time.Duration) {
	*x = exchange{step: step, expected: members, deadline: deadline, grace: grace, leaving: x.leaving[:0]}
	for _, m := range members {
		m.turn, m.left = step, false
		if m.out {
			x.leave(m)
		} else if !m.gone.IsZero() {
			x.leaving = append(x.leaving, departure{m, m.gone})
		}
	}
	slices.SortStableFunc(x.leaving, func(a, b departure) int { return a.at.Compare(b.at) })
}

// waits tells whether a member's answer may still come.
func (x *exchange) waits(m *member) bool {
	return m.turn == x.step && m.sent[x.step] == nil && !m.left
}

// answer notes that a member's message was taken.
func (x *exchange) answer(m *member) {
	x.answered++
	if m.left {
		x.left--
		m.left = false
	}
}

// leave notes that a member is not waited for any more.
func (x *exchange) leave(m *member) {
	if x.step < steps && x.waits(m) {
		m.left = true
		x.left++
	}
}

// depart notes that a member's connection has ended.
func (x *exchange) depart(m *member) {
	if x.step < steps && x.waits(m) {
		x.leaving = append(x.leaving, departure{m, m.gone})
	}
}

// comeBack notes that it has one again.
func (x *exchange) comeBack(m *member) {
	if m.left && !m.out && m.turn == x.step {
		m.left = false
		x.left--
	}
}

// pass lets time pass: who has been away for the grace is not waited for any more.
func (x *exchange) pass(now time.Time) {
	for len(x.leaving) > 0 && !now.Before(x.leaving[0].at.Add(x.grace)) {
		if d := x.leaving[0]; d.member.gone.Equal(d.at) && !d.member.gone.IsZero() {
			x.leave(d.member)
		}
		x.leaving = x.leaving[1:]
	}
}

// waiting is how many may still answer.
func (x *exchange) waiting() int { return len(x.expected) - x.answered - x.left }

// closes tells whether the step has nothing left to wait for, where so many are needed.
func (x *exchange) closes(now time.Time, needed int) bool {
	x.pass(now)
	waiting := x.waiting()
	return waiting == 0 || !now.Before(x.deadline) || x.answered+waiting < needed
}

// due is when closes may say something else if nobody answers.
func (x *exchange) due() time.Time {
	for len(x.leaving) > 0 {
		d := x.leaving[0]
		if d.member.gone.Equal(d.at) && x.waits(d.member) {
			if end := d.at.Add(x.grace); end.Before(x.deadline) {
				return end
			}
			break
		}
		x.leaving = x.leaving[1:]
	}
	return x.deadline
}
