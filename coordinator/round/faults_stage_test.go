package round

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/discreet-fl/discreet/secagg"
)

// stage is a round under simulated time with real devices, and a model that says what
// has to come of each call. Whatever the two disagree about fails the test.
type stage struct {
	t      testing.TB
	cast   cast
	params secagg.Params
	config Config
	grace  time.Duration
	round  *Round
	model  *model
	agents []*agent
	source *rand.Rand // of what is left to chance
	start  time.Time
	now    time.Time
	queue  []event // by time, then in the order in which they were made
	ticks  int
	trace  []string
	notes  []string // what became of the round, for people
	ended  bool
}

type event struct {
	at time.Time
	do func()
}

// agent is a device with its connection and its faults.
type agent struct {
	*device // what it is, and what it said and was told
	t       testing.TB
	live    *device // what speaks for it; nil while all that was said is known
	number  int
	faults  map[Step]*fault // what it does instead of sending its message of a step
	pace    func(Step) time.Duration
	deaf    bool // an answer does not reach it
	done    bool // it does nothing more by itself
	tardy   bool // it is late or away at some time
	hostile bool // it breaks the protocol at some time
	asks    Step // the message that is not answered yet, none where it is steps
	delta   []uint32
	// To whom it dealt what: shares that do not open or do not fit, shares that are none
	// of its secrets, a commitment to another seed, another ciphertext.
	misdealt, crookedTo, wrongPair, wrongCiphertext map[int]bool
	disowned                                        bool  // the commitment to its own share is wrong
	accuses                                         []int // falsely
}

// Steps that are none of the round's: before the first one, and between Share and
// Submit.
const (
	checkingIn  Step = -1
	complaining Step = 100
)

func stepName(s Step) string {
	switch s {
	case checkingIn:
		return "check-in"
	case complaining:
		return "complain"
	}
	return s.String()
}

// failure ends a case from any depth.
type failure struct{ text string }

func (s *stage) failf(format string, args ...any) {
	panic(failure{fmt.Sprintf(format, args...) + "\n" + strings.Join(s.trace, "\n")})
}

// cast is what a stage begins with.
type cast struct {
	devices, cohort int
	keys            secagg.KeyExchange
	corrupt, min    int
	seed            uint64
}

func (c cast) params() secagg.Params {
	p := testParams()
	p.Cohort, p.Keys, p.Corrupt, p.MinSurvivors = c.cohort, c.keys, c.corrupt, max(3, c.min)
	// Three counters of six bits to a word, so that the sum shows whose vectors are in it
	// and how often, and five words of noise; in all an odd number of 20 bits each.
	p.RingBits, p.Length = 20, ((c.devices+2)/3+5)|1
	return p
}

// newStage sets the devices up. The round begins with play, so that a test can give
// them faults before.
func newStage(t testing.TB, c cast) *stage {
	s := &stage{t: t, cast: c, params: c.params(), grace: 5 * time.Second, source: rand.New(rand.NewPCG(c.seed, 29)), start: time.UnixMilli(0), now: time.UnixMilli(0)}
	for i := range c.devices {
		s.agents = append(s.agents, s.newAgent(i))
	}
	return s
}

func (s *stage) newAgent(number int) *agent {
	a := &agent{device: identity(s.t, number, s.params), t: s.t, number: number, faults: map[Step]*fault{}, asks: steps,
		delta: make([]uint32, s.params.Length), misdealt: map[int]bool{}, crookedTo: map[int]bool{}, wrongPair: map[int]bool{}, wrongCiphertext: map[int]bool{}}
	a.pace = func(Step) time.Duration {
		return time.Duration(number+1) * 3 * time.Second / time.Duration(max(30, s.cast.devices))
	}
	noise := rand.New(rand.NewPCG(uint64(number), 31))
	for w := range a.vector {
		a.vector[w] = uint32(noise.IntN(1 << 20))
	}
	clear(a.vector[:s.params.Length-5])
	a.vector[number/3] = 1 << (6 * (number % 3))
	return a
}

// begin starts the round with those who check in.
func (s *stage) begin() error {
	s.config = Config{Params: s.params, CheckIns: map[secagg.ID][32]byte{}, Advertise: 40 * time.Second, Step: 10 * time.Second, Grace: s.grace}
	for _, a := range s.agents {
		if f := a.faults[checkingIn]; f != nil {
			f.run(s, a, checkingIn)
		} else {
			s.config.CheckIns[a.id] = a.commitment
		}
	}
	var err error
	if s.round, err = New(s.now, s.config); err != nil {
		return err
	}
	s.model = newModel(s.now, s.config, s.agents, s.drawn)
	for _, a := range s.agents {
		var member error
		if a.committed, member = s.round.Committed(a.id); (member == nil) != (s.model.members[a.number] != nil) {
			s.failf("device %d: %v", a.number, member)
		}
		if a.committed != nil && a.commitment == s.config.CheckIns[a.id] {
			s.after(a.pace(Advertise), func() { s.act(a, Advertise) })
		}
	}
	return nil
}

// drawn are the cohorts that the round has drawn.
func (s *stage) drawn() (list []drawn) {
	numbers := func(ids []secagg.ID) (list []int) {
		for _, id := range ids {
			list = append(list, s.find(id).number)
		}
		return list
	}
	for _, c := range s.round.cohorts {
		d := drawn{roster: numbers(c.roster), threshold: secagg.Threshold(len(c.roster))}
		if c.shares == nil { // it was lost at once
			list = append(list, d)
			continue
		}
		d.threshold = c.shares.Threshold()
		for _, id := range c.roster {
			if near := c.shares.Neighbours(id); len(near) < len(c.roster)-1 {
				if d.neighbours == nil {
					d.neighbours = map[int][]int{}
				}
				d.neighbours[s.find(id).number] = numbers(near)
			}
		}
		list = append(list, d)
	}
	return list
}

func (s *stage) find(id secagg.ID) *agent {
	return s.agents[slices.IndexFunc(s.agents, func(a *agent) bool { return a.id == id })]
}

func (s *stage) after(d time.Duration, do func()) {
	e := event{s.now.Add(d), do}
	i, _ := slices.BinarySearchFunc(s.queue, e, func(x, y event) int {
		if x.at.After(y.at) {
			return 1
		}
		return -1 // behind those of the same time
	})
	s.queue = slices.Insert(s.queue, i, e)
}

// play runs the round to its end, and on until nobody has anything to say any more.
func (s *stage) play() {
	if err := s.begin(); err != nil {
		s.note("no round: %v", err)
		return
	}
	end := s.start.Add(s.config.Advertise + 4*s.config.Step)
	for events := 0; ; events++ {
		due := s.round.Deadline()
		if due.IsZero() && len(s.queue) == 0 {
			break
		}
		if events > 5000 {
			s.failf("the round goes on and on")
		}
		if !due.IsZero() && (len(s.queue) == 0 || !due.After(s.queue[0].at)) {
			if due.After(end) {
				s.failf("a deadline at %v, behind the last one", due.Sub(s.start))
			}
			s.now, s.ticks = due, s.ticks+1
			s.call("tick", func() ([]Effect, error) { return s.round.Tick(s.now), nil }, func() error { s.model.tick(s.now); return nil })
			continue
		}
		e := s.queue[0]
		s.queue, s.now = s.queue[1:], e.at
		e.do()
	}
	if !s.ended || !s.model.over {
		s.failf("nothing is due, and the round has not ended")
	}
	if most := 5*(len(s.model.cohorts)+1) + s.disturbances(); s.ticks > most {
		s.failf("%d ticks, want at most %d", s.ticks, most)
	}
}

// disturbances are the times at which a connection ended.
func (s *stage) disturbances() (n int) {
	for _, line := range s.trace {
		if strings.Contains(line, " is gone") {
			n++
		}
	}
	return n
}

// call makes a call of the round and of the model and holds one against the other.
func (s *stage) call(what string, do func() ([]Effect, error), want func() error) error {
	effects, err := do()
	s.model.effects = nil
	wantErr := want()
	s.trace = append(s.trace, fmt.Sprintf("%8v %s: %v", s.now.Sub(s.start), what, wantErr))
	var got []string
	for _, e := range effects {
		got = append(got, s.describe(e))
	}
	for _, e := range got {
		s.trace = append(s.trace, "         "+e)
	}
	if !slices.Equal(got, s.model.effects) {
		s.failf("effects\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(s.model.effects, "\n\t"))
	}
	if (err == nil) != (wantErr == nil) || !errors.Is(err, wantErr) {
		s.failf("error %v, want %v", err, wantErr)
	}
	if due := s.round.Deadline(); !due.Equal(s.model.due(s.now)) || !due.IsZero() && !due.After(s.now) {
		s.failf("next tick at %v, want %v", due.Sub(s.start), s.model.due(s.now).Sub(s.start))
	}
	for _, e := range effects {
		s.take(e)
	}
	return err
}

// describe writes an effect as the model does.
func (s *stage) describe(e Effect) string {
	switch e := e.(type) {
	case Reply:
		return fmt.Sprintf("reply %v to %d", e.Step, s.find(e.To).number)
	case Closed:
		return fmt.Sprintf("closed %d %v %d/%d", e.Cohort, e.Step, e.Answered, e.Expected)
	case Blamed:
		accuser := -1
		if e.Accuser != (secagg.ID{}) {
			accuser = s.find(e.Accuser).number
		}
		return fmt.Sprintf("blamed %d by %d in %v, verdict %d", s.find(e.Peer).number, accuser, e.Step, e.Verdict)
	case Disputed:
		text := fmt.Sprintf("disputed in %v:", e.Step)
		for _, d := range e.Pairs {
			text += fmt.Sprintf(" %d by %d", s.find(d.Accused).number, s.find(d.Accuser).number)
		}
		return text
	case CohortLost:
		return fmt.Sprintf("lost %d %v", e.Cohort, e.Step)
	case CohortSummed:
		var survivors []int
		for _, id := range e.Survivors {
			survivors = append(survivors, s.find(id).number)
		}
		slices.Sort(survivors)
		return fmt.Sprintf("summed %d %v", e.Cohort, survivors)
	case Done:
		return fmt.Sprintf("done %d/%d lost", e.Lost, e.Cohorts)
	case Aborted:
		return fmt.Sprintf("aborted %v", e.Step)
	}
	return fmt.Sprintf("%T", e)
}

// take does what an effect asks for, and holds what must be true whatever the model
// says.
func (s *stage) take(e Effect) {
	switch e := e.(type) {
	case Reply:
		if a := s.find(e.To); !a.deaf {
			s.answer(a, e.Step, e.Payload(nil))
		}
	case Blamed:
		s.checkBlame(e)
	case Disputed:
		s.checkDispute(e)
	case CohortLost:
		if all, _ := s.round.Cohorts(); all > 1 {
			s.note("cohort %d lost in %v: %s", e.Cohort, e.Step, e.Reason)
		}
		s.namesNobody(e.Reason)
	case CohortSummed:
		s.checkSum(e)
	case Done:
		s.ended = true
	case Aborted:
		s.ended = true
		s.note("aborted in %v: %s", e.Step, e.Reason)
		s.namesNobody(e.Reason)
	}
}

func (s *stage) note(format string, args ...any) {
	s.notes = append(s.notes, fmt.Sprintf(format, args...))
}

// answer hands a device its reply.
func (s *stage) answer(a *agent, step Step, reply []byte) {
	if c := s.model.members[a.number].cohort; reply == nil && c.lost { // at once
		return
	}
	if len(reply) == 0 || a.reply[step] != nil && !bytes.Equal(a.reply[step], reply) {
		s.failf("device %d is answered in two ways, or with nothing, in %v", a.number, step)
	}
	if again := s.round.Reply(a.id, step); !bytes.Equal(again, reply) {
		s.failf("device %d would be answered in another way when it asks again in %v", a.number, step)
	}
	if a.reply[step] != nil || a.done {
		return
	}
	a.reply[step], a.asks = reply, steps
	if step < Reveal {
		s.after(a.pace(step+1), func() { s.act(a, step+1) })
	}
}
