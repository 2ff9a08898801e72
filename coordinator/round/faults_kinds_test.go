package round

import (
	"bytes"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/discreet-fl/discreet/secagg"
)

// fault is what a device does instead of sending its message of a step, which is at
// hand. A device that is hostile by it breaks the protocol; one that is tardy has itself
// to thank when it is left behind.
type fault struct {
	name    string
	at      []Step
	hostile bool
	tardy   bool
	spoils  bool // it may cost the others the round
	// fits, where set, tells whether a cast is large enough for it.
	fits func(c cast) bool
	// ready, where set, makes a complaint before it is asked whether there is one.
	ready func(s *stage, a *agent)
	run   func(s *stage, a *agent, step Step)
}

func (f *fault) in(step Step) bool { return slices.Contains(f.at, step) }

// give lets a device have a fault in a step.
func (a *agent) give(step Step, f *fault) {
	a.faults[step] = f
	a.hostile, a.tardy = a.hostile || f.hostile, a.tardy || f.tardy
}

var (
	everyStep = []Step{Advertise, Share, complaining, Submit, Confirm, Reveal}
	messages  = []Step{Advertise, Share, Submit, Confirm, Reveal}
)

// faults lists all but the lies.
var faults = []*fault{
	{name: "vanishes before", at: everyStep, tardy: true, run: func(s *stage, a *agent, _ Step) {
		a.done = true
		s.gone(a)
	}},
	{name: "vanishes after", at: everyStep, tardy: true, run: func(s *stage, a *agent, step Step) {
		a.deaf = true
		s.say(a, step, s.own(a, step), false)
		a.done = true
		s.gone(a)
	}},
	{name: "loses the answer and comes back", at: everyStep, tardy: true, run: func(s *stage, a *agent, step Step) { s.loseAnswer(a, step, 2*time.Second) }},
	{name: "loses the answer and comes back late", at: everyStep, tardy: true, run: func(s *stage, a *agent, step Step) { s.loseAnswer(a, step, 7*time.Second) }},
	{name: "repeats itself", at: everyStep, run: func(s *stage, a *agent, step Step) {
		message := bytes.Clone(s.own(a, step))
		for i := range 8 { // at once, in later steps, and when the round is over
			s.after(time.Duration(i*i)*200*time.Millisecond, func() { s.say(a, step, message, false) })
		}
		s.proceed(a, step)
	}},
	{name: "is late", at: everyStep, tardy: true, run: func(s *stage, a *agent, step Step) {
		s.after(s.left(a)+time.Second, func() { s.proceed(a, step) })
	}},
	{name: "is early", at: messages[:4], run: func(s *stage, a *agent, step Step) {
		open := s.model.openStep(s.model.members[a.number])
		for next := open + 1; next < steps; next++ {
			s.deliver(a, next, s.elsewhere(a, next), true)
		}
		if open < Submit {
			s.complain(a, []byte("so soon"), true)
		}
		s.proceed(a, step)
	}},
	{name: "sends another's", at: messages, hostile: true, run: func(s *stage, a *agent, step Step) {
		if b := s.nth(a, 1, func(b *agent) bool { return b.message[step] != nil }); b != nil {
			s.cheat(a, step, b.message[step])
			return
		}
		s.proceed(a, step)
	}},
	{name: "sends another's", at: []Step{complaining}, hostile: true, run: func(s *stage, a *agent, step Step) {
		b, other := s.near(a, 1), s.near(a, 2)
		f := newForger(s, b)
		s.cheat(a, step, f.complaint([]int{f.place(other)}))
	}},
	{name: "sends what belongs to the step before", at: everyStep, hostile: true, run: func(s *stage, a *agent, step Step) {
		before := map[Step][]byte{Advertise: a.commitment[:], Share: a.message[Advertise], complaining: a.message[Share],
			Submit: a.message[Share], Confirm: a.message[Submit], Reveal: a.message[Confirm]}
		s.cheat(a, step, before[step])
	}},
	{name: "sends what belongs to the step behind", at: []Step{Advertise, Share, complaining, Submit, Confirm}, hostile: true, run: func(s *stage, a *agent, step Step) {
		s.cheat(a, step, s.elsewhere(a, map[Step]Step{Advertise: Share, Share: Submit, complaining: Submit, Submit: Confirm, Confirm: Reveal}[step]))
	}},
	{name: "sends another attempt's", at: messages, hostile: true, run: func(s *stage, a *agent, step Step) { s.cheat(a, step, s.elsewhere(a, step)) }},
	{name: "sends another cohort's", at: messages[1:], hostile: true, fits: func(c cast) bool { return c.cohort < c.devices },
		run: func(s *stage, a *agent, step Step) {
			for _, b := range s.agents {
				if i, j := s.model.members[a.number], s.model.members[b.number]; j != nil && i.cohort != j.cohort && b.message[step] != nil {
					s.cheat(a, step, b.message[step])
					return
				}
			}
			s.proceed(a, step)
		}},
	{name: "vanishes before", at: []Step{checkingIn}, tardy: true, run: func(_ *stage, a *agent, _ Step) { a.done = true }},
	{name: "is late", at: []Step{checkingIn}, tardy: true, run: func(s *stage, a *agent, _ Step) {
		a.done = true
		for at, step := range messages {
			s.after(time.Duration(at)*200*time.Millisecond, func() { s.deliver(a, step, s.elsewhere(a, step), true) })
		}
	}},
	{name: "sends another's", at: []Step{checkingIn}, hostile: true, run: func(s *stage, a *agent, _ Step) {
		s.pretend(a, s.agents[(a.number+1)%len(s.agents)].commitment)
	}},
	{name: "flips a bit", at: []Step{checkingIn}, hostile: true, run: func(s *stage, a *agent, _ Step) {
		other := a.commitment
		other[s.source.IntN(32)] ^= 1 << s.source.IntN(8)
		s.pretend(a, other)
	}},
	{name: "sends nothing", at: []Step{checkingIn}, hostile: true, run: func(s *stage, a *agent, _ Step) { s.pretend(a, [32]byte{}) }},
	corrupting("flips a bit", func(s *stage, m []byte) []byte {
		m[s.source.IntN(len(m))] ^= 1 << s.source.IntN(8)
		return m
	}),
	corrupting("leaves a byte out at the end", func(_ *stage, m []byte) []byte { return m[:len(m)-1] }),
	corrupting("adds a byte", func(_ *stage, m []byte) []byte { return append(m, 0) }),
	corrupting("sends nothing", func(*stage, []byte) []byte { return []byte{} }),
	corrupting("sends a header alone", func(_ *stage, m []byte) []byte { return m[:2] }),
	corrupting("sends a megabyte", func(_ *stage, m []byte) []byte { return append(m, make([]byte, 1<<20)...) }),
	{name: "sends noise in every step and in none", at: everyStep, hostile: true, run: func(s *stage, a *agent, step Step) {
		for _, any := range []Step{-1, Reveal, Confirm, Submit, Share, Advertise, steps, 1 << 40} {
			s.deliver(a, any, []byte("noise"), true)
		}
		s.complain(a, []byte("noise"), true)
		s.cheat(a, step, []byte("noise"))
	}},
	{name: "is expelled for what never came whole", at: []Step{Submit}, hostile: true, run: func(s *stage, a *agent, step Step) {
		a.done = true
		s.call(fmt.Sprintf("device %d is expelled", a.number), func() ([]Effect, error) { return s.round.Expel(s.now, a.id, step, secagg.ErrMalformed), nil },
			func() error { s.model.expel(s.now, s.model.members[a.number], step); return nil })
		s.after(time.Second, func() { s.say(a, step, s.own(a, step), false) })
	}},
	{name: "sends two that differ", at: messages, hostile: true, run: func(s *stage, a *agent, step Step) {
		a.asks = step
		s.deliver(a, step, a.message[step], s.caught(a, step))
		other := bytes.Clone(a.message[step])
		other[len(other)/2] ^= 4
		s.after(0, func() { s.deliver(a, step, other, true) })
	}},
	{name: "sends two that differ", at: []Step{complaining}, hostile: true, run: func(s *stage, a *agent, step Step) {
		s.say(a, step, a.complaint, false)
		s.say(a, step, a.complaint[:len(a.complaint)-1], true)
		s.submit(a)
	}},
}

// corrupting is a fault that changes the bytes of a message.
func corrupting(name string, change func(s *stage, m []byte) []byte) *fault {
	return &fault{name: name, at: everyStep, hostile: true, run: func(s *stage, a *agent, step Step) {
		s.cheat(a, step, change(s, bytes.Clone(s.own(a, step))))
	}}
}

// flipping turns the nth of so many bits that are spread over the message, the first
// one in its first byte.
func flipping(nth, of int) *fault {
	return corrupting("flips a bit", func(_ *stage, m []byte) []byte {
		m[nth*len(m)/of] ^= 1 << (nth % 8)
		return m
	})
}

// own is the device's own message of a step.
func (s *stage) own(a *agent, step Step) []byte {
	if step == complaining {
		return a.complaint
	}
	return a.message[step]
}

// say delivers a message or a complaint and goes on with nothing.
func (s *stage) say(a *agent, step Step, payload []byte, bad bool) error {
	if step == complaining {
		return s.complain(a, payload, bad)
	}
	return s.deliver(a, step, payload, bad || s.caught(a, step))
}

// proceed does what the device would have done without its fault.
func (s *stage) proceed(a *agent, step Step) {
	switch {
	case a.done:
	case step == complaining:
		s.sendComplaint(a)
	default:
		s.send(a, step)
	}
}

func (s *stage) loseAnswer(a *agent, step Step, away time.Duration) {
	a.asks, a.deaf = step, true
	if step == complaining {
		a.asks = steps // a complaint has no answer, but the device does not know that it came
	}
	if err := s.say(a, step, s.own(a, step), false); err != nil {
		s.refused(a, step, err)
		return
	}
	s.gone(a)
	s.after(away, func() {
		s.back(a)
		if step == complaining {
			s.proceed(a, step)
		}
	})
}

// pretend checks a device in with a commitment that is not its own. It then sends an
// advert that it made for another attempt, as it can make none for this one.
func (s *stage) pretend(a *agent, commitment [32]byte) {
	s.config.CheckIns[a.id] = commitment
	s.after(a.pace(Advertise), func() {
		a.message[Advertise] = s.elsewhere(a, Advertise)
		s.deliver(a, Advertise, a.message[Advertise], true)
	})
}

// left is how long the device's step is open yet.
func (s *stage) left(a *agent) time.Duration {
	c := s.model.members[a.number].cohort
	if c == nil {
		c = s.model.lobby
	}
	return max(0, c.deadline.Sub(s.now))
}

// cheat sends something in the place of the device's message and then, in vain, the
// message. A vector that is only another one is taken, and the device goes on.
func (s *stage) cheat(a *agent, step Step, payload []byte) {
	bad := !bytes.Equal(payload, s.own(a, step))
	if step == Submit {
		bad = !s.fits(payload)
	}
	if step == Submit && !bad {
		a.asks = step
	}
	err := s.say(a, step, payload, bad)
	if err == nil && step == Submit {
		return
	}
	a.done = true
	s.after(time.Second, func() { s.say(a, step, s.own(a, step), false) })
}

// near is another device of the cohort, the nth behind this one, and peer the nth that
// keeps to the protocol.
func (s *stage) near(a *agent, nth int) *agent {
	return s.nth(a, nth, func(*agent) bool { return true })
}

func (s *stage) peer(a *agent, nth int) *agent {
	return s.nth(a, nth, func(b *agent) bool { return !b.hostile })
}

func (s *stage) nth(a *agent, nth int, want func(*agent) bool) *agent {
	i := s.model.members[a.number]
	for d := 1; d < len(s.agents); d++ {
		b := s.agents[(a.number+d)%len(s.agents)]
		if j := s.model.members[b.number]; j == nil || j.cohort != i.cohort || !want(b) {
			continue
		}
		if nth--; nth == 0 {
			return b
		}
	}
	return nil
}

// played keeps the messages of the attempts that elsewhere played.
var played sync.Map

// elsewhere is what the device sends in another attempt, in which it has the same
// randomness; where there are very many, what some device sends in a small attempt.
func (s *stage) elsewhere(a *agent, step Step) []byte {
	n := len(s.agents)
	if n > 12 {
		n = 5
	}
	c := cast{devices: n, cohort: n, keys: s.params.Keys, corrupt: s.params.Corrupt}
	run, _ := played.LoadOrStore(c, sync.OnceValue(func() *stage {
		other := newStage(s.t, c)
		other.params.Attempt++
		other.play()
		return other
	}))
	return run.(func() *stage)().agents[a.number%n].message[step]
}
