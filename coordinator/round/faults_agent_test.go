package round

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/discreet-fl/discreet/aggregation"
	"github.com/discreet-fl/discreet/secagg"
)

// act lets a device make its message of a step and send it, or do what its fault says.
func (s *stage) act(a *agent, step Step) {
	if a.done {
		return
	}
	if err := a.prepare(s.params, step); err != nil {
		s.givesUp(a, step, err)
		return
	}
	if step == Submit {
		s.accused(a, a.complaint)
	}
	if f := a.faults[complaining]; step == Submit && f != nil && f.ready != nil {
		if s.complains(a) { // it has no need to lie
			delete(a.faults, complaining)
		} else {
			f.ready(s, a)
		}
	}
	if step == Reveal && len(a.accuses) > 0 {
		s.withhold(a)
	}
	if step == Submit && a.complaint != nil {
		s.or(a, complaining, func() { s.sendComplaint(a) })
		return
	}
	s.or(a, step, func() { s.send(a, step) })
}

// or runs a device's fault in a step, where it has none what it would do.
func (s *stage) or(a *agent, step Step, honest func()) {
	if f := a.faults[step]; f != nil {
		delete(a.faults, step) // it strikes once
		f.run(s, a, step)
		return
	}
	honest()
}

// send delivers the device's own message of a step.
func (s *stage) send(a *agent, step Step) {
	a.asks, a.deaf = step, false
	if err := s.deliver(a, step, a.message[step], s.caught(a, step)); err != nil {
		s.refused(a, step, err)
	}
}

// deliver hands a message to the round. bad says that the device may not send it.
func (s *stage) deliver(a *agent, step Step, payload []byte, bad bool) error {
	what := fmt.Sprintf("%v of device %d, %d bytes", step, a.number, len(payload))
	if bad {
		what += ", bad"
	}
	if i := s.model.members[a.number]; i != nil && step >= 0 && step < steps {
		if err, want := s.round.Admit(a.id, step), s.model.admit(i, step); (err == nil) != (want == nil) || !errors.Is(err, want) {
			s.failf("%s would be admitted with %v, want %v", what, err, want)
		}
	}
	if step == Submit && a.message[Submit] != nil && !s.round.Answered(a.id, step) && s.fits(payload) {
		// What the device adds to the sum beside its vector.
		sent, own := s.unpack(payload), s.unpack(a.message[Submit])
		for w := range sent {
			a.delta[w] = sent[w] - own[w]
		}
	}
	payload = bytes.Clone(payload)
	message := bytes.Clone(payload)
	return s.call(what, func() ([]Effect, error) { return s.round.Receive(s.now, a.id, step, payload) },
		func() error { return s.model.receive(s.now, a.number, step, message, bad) })
}

// complains tells whether a device has somebody to accuse. On a sparse graph its
// complaint may hold its pledge alone.
func (s *stage) complains(a *agent) bool {
	return a.complaint != nil && a.complaint[len(a.complaint)-1]|a.complaint[len(a.complaint)-2] != 0
}

// sendComplaint delivers the device's complaint and goes on to its vector.
func (s *stage) sendComplaint(a *agent) {
	if err := s.complain(a, a.complaint, false); err != nil {
		s.refused(a, complaining, err)
		return
	}
	s.submit(a)
}

// submit comes behind a complaint.
func (s *stage) submit(a *agent) {
	s.after(time.Millisecond, func() {
		if !a.done {
			s.or(a, Submit, func() { s.send(a, Submit) })
		}
	})
}

// complain hands a complaint to the round.
func (s *stage) complain(a *agent, payload []byte, bad bool) error {
	what := fmt.Sprintf("complaint of device %d, %d bytes", a.number, len(payload))
	var accused []int
	if bad {
		what += ", bad"
	} else {
		accused = s.accused(a, payload)
	}
	return s.call(what, func() ([]Effect, error) { return s.round.Complain(s.now, a.id, bytes.Clone(payload)) },
		func() error { return s.model.complain(s.now, a.number, payload, accused, bad) })
}

// accused are those whom a complaint names. A device that does not lie names exactly
// those who dealt badly to it.
func (s *stage) accused(a *agent, complaint []byte) (list []int) {
	i := s.model.members[a.number]
	const size = 2 + 1 + 64
	at := 4
	if i.cohort.neighbours != nil {
		at += 64 // a pledge
	}
	for ; at+size <= len(complaint); at += size {
		list = append(list, i.cohort.members[binary.BigEndian.Uint16(complaint[at:])].number)
	}
	var want []int
	for _, j := range i.cohort.members {
		misdealt := s.agents[j.number].misdealt[a.number] && slices.Contains(i.cohort.sharers, j)
		if misdealt || slices.Contains(a.accuses, j.number) {
			want = append(want, j.number)
		}
	}
	if !slices.Equal(list, want) {
		s.failf("device %d accuses %v, want %v", a.number, list, want)
	}
	return list
}

// gone ends a device's connection, and back gives it one again, over which it sends
// what was not answered.
func (s *stage) gone(a *agent) {
	a.deaf, a.tardy = true, true
	s.call(fmt.Sprintf("device %d is gone", a.number), func() ([]Effect, error) { return s.round.Gone(s.now, a.id), nil },
		func() error { s.model.gone(s.now, a.number); return nil })
}

func (s *stage) back(a *agent) {
	a.deaf = false
	s.call(fmt.Sprintf("device %d is back", a.number), func() ([]Effect, error) { return s.round.Back(s.now, a.id), nil },
		func() error { s.model.back(s.now, a.number); return nil })
	if a.asks < steps && !a.done {
		s.send(a, a.asks)
	}
}

// refused is a device whose own message was not taken. It sends nothing more in this
// attempt. One that keeps to the protocol and is in time loses its place only as
// forfeits says.
func (s *stage) refused(a *agent, step Step, err error) {
	a.done = true
	if a.hostile {
		return
	}
	i := s.model.members[a.number]
	switch {
	case errors.Is(err, ErrOver):
		s.forfeit(cohortLost)
	case errors.Is(err, ErrOut) && i.accusers > 0 && s.model.holders(i.cohort, i, i.cohort.sharers) < i.cohort.threshold:
		s.forfeit(accusedOut)
	case errors.Is(err, ErrLate) && a.tardy:
	default:
		s.failf("device %d has kept to the protocol and loses its place in %s: %v", a.number, stepName(step), err)
	}
}

// givesUp is a device that does not accept what it was sent.
func (s *stage) givesUp(a *agent, step Step, err error) {
	a.done = true
	i := s.model.members[a.number]
	opened := func(among []*modelMember) (n int) {
		for _, j := range among {
			if i.cohort.near(i, j) && !s.agents[j.number].misdealt[a.number] {
				n++
			}
		}
		return n
	}
	switch {
	case step == Advertise && a.hostile: // it checked in with what is not its own
	case step == Submit && errors.Is(err, secagg.ErrTooFew) && opened(i.cohort.sharers) < i.cohort.threshold:
		s.forfeit(tooFewShares)
	case step == Confirm && errors.Is(err, secagg.ErrTooFew) && opened(i.cohort.survivors) < i.cohort.threshold:
		s.forfeit(tooFewShares)
	default:
		s.failf("device %d gives up in %v: %v", a.number, step, err)
	}
}

// fits tells whether bytes are a packed vector, whosever.
func (s *stage) fits(packed []byte) bool {
	spare := 8*len(packed) - s.params.Length*s.params.RingBits
	return spare >= 0 && spare < 8 && packed[len(packed)-1]>>(8-spare) == 0
}

// unpack is the words of a packed vector.
func (s *stage) unpack(packed []byte) []uint32 {
	words := make([]uint32, s.params.Length)
	if err := aggregation.AddPacked(words, packed, s.params.RingBits); err != nil {
		s.failf("%v", err)
	}
	return words
}

// pack is the other way round, for any number of words.
func (s *stage) pack(words []uint32) []byte {
	packed := make([]byte, aggregation.PackedSize(len(words), s.params.RingBits))
	if err := aggregation.Pack(packed, words, s.params.RingBits); err != nil {
		s.failf("%v", err)
	}
	return packed
}
