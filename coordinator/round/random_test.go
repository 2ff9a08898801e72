package round

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/discreet-fl/discreet/secagg"
)

// TestRandomSchedules lets devices answer, repeat themselves, vanish and come back in
// any order, and one of them send noise. However it goes, each cohort ends once and
// the round ends once, by its last deadline; a sum is the plain sum of the survivors,
// who all submitted; and nobody who kept to the protocol is blamed.
func TestRandomSchedules(t *testing.T) {
	const schedules = 120
	done, summed, lost := 0, 0, 0
	for seed := range uint64(schedules) {
		c := &chaos{t: t, seed: seed, source: rand.New(rand.NewPCG(seed, 3)), ended: map[int]bool{}, submitted: map[secagg.ID]bool{}}
		c.run()
		if c.done {
			done++
			lost += c.lost
		}
		summed += c.summed
	}
	if done < schedules/10 || done > schedules*9/10 || lost == 0 {
		t.Errorf("%d of %d schedules were done, %d cohorts summed, and %d lost in those done; the test wants some of each", done, schedules, summed, lost)
	}
}

// chaos is one schedule.
type chaos struct {
	t         *testing.T
	seed      uint64
	source    *rand.Rand
	player    *player
	liar      int // -1 for none
	ends      int
	done      bool
	summed    int
	lost      int
	ended     map[int]bool // cohorts
	submitted map[secagg.ID]bool
}

func (c *chaos) fatalf(format string, args ...any) {
	c.t.Helper()
	c.t.Fatalf("seed %d: %s", c.seed, fmt.Sprintf(format, args...))
}

func (c *chaos) run() {
	p := &player{t: c.t, now: time.UnixMilli(0)}
	c.player = p
	n, calm := 3+c.source.IntN(9), 5+c.source.IntN(12)
	p.begin([]string{fmt.Sprintf("devices=%d", n), fmt.Sprintf("cohort=%d", 3+c.source.IntN(n-2))})
	if c.liar = c.source.IntN(3*n) - 2*n; c.liar < 0 {
		c.liar = -1
	}
	for end := p.now.Add(40*time.Second + 4*10*time.Second); !p.now.After(end); {
		c.act(p.devices[c.source.IntN(n)], calm)
	}
	if c.ends != 1 {
		c.fatalf("%d ends by the last deadline, want 1", c.ends)
	}
	if all, lost := p.round.Cohorts(); c.done && (len(c.ended) != all || lost != c.lost || c.summed != all-lost) {
		c.fatalf("%d of %d cohorts ended, %d summed and %d lost; the round says %d lost", len(c.ended), all, c.summed, c.lost, lost)
	}
	if !p.round.Deadline().IsZero() {
		c.fatalf("a round that is over has a deadline")
	}
}

// act lets something happen to a device.
func (c *chaos) act(d *device, calm int) {
	p := c.player
	switch c.source.IntN(calm) {
	case 0:
		c.take(p.round.Gone(p.now, d.id))
	case 1:
		c.take(p.round.Back(p.now, d.id))
	case 2:
		p.now = p.now.Add(time.Duration(c.source.IntN(9000)) * time.Millisecond)
		c.take(p.round.Tick(p.now))
	case 3:
		if p.index(d.id) != c.liar {
			return
		}
		step := Step(c.source.IntN(6))
		effects, err := p.round.Receive(p.now, d.id, step, []byte("noise"))
		if err == nil && step != Reveal { // a survivor is told of the sum whatever it reveals then
			c.fatalf("noise was accepted in %v", step)
		}
		c.take(effects)
	default:
		step := Step(slices.IndexFunc(d.reply[:], func(b []byte) bool { return b == nil }))
		if c.source.IntN(5) == 0 && step > 0 { // the reply was lost
			step--
		}
		if err := d.prepare(p.params, step); err != nil {
			c.fatalf("%v", err)
		}
		effects, err := p.round.Receive(p.now, d.id, step, d.message[step])
		c.submitted[d.id] = c.submitted[d.id] || (step == Submit && err == nil)
		c.take(effects)
	}
}

// take checks effects and hands on the replies.
func (c *chaos) take(effects []Effect) {
	p := c.player
	cohort := func(number int) {
		if c.ended[number] {
			c.fatalf("cohort %d ended twice", number)
		}
		c.ended[number] = true
	}
	for _, e := range effects {
		if c.ends > 0 {
			if _, repeated := e.(Reply); !repeated {
				c.fatalf("%T after the end", e)
			}
		}
		switch e := e.(type) {
		case Reply:
			p.take(e)
		case Blamed:
			if p.index(e.Peer) != c.liar {
				c.fatalf("device %d is blamed: %v", p.index(e.Peer), e.Err)
			}
		case CohortLost:
			c.lost++
			cohort(e.Cohort)
		case CohortSummed:
			c.summed++
			cohort(e.Cohort)
			for _, id := range e.Survivors {
				if !c.submitted[id] {
					c.fatalf("a survivor never submitted")
				}
			}
			if got := p.verify(e); got != "their plain sum" || len(e.Survivors) < 3 {
				c.fatalf("sum of %d: %s", len(e.Survivors), got)
			}
		case Done:
			c.ends, c.done = c.ends+1, true
		case Aborted:
			c.ends++
		}
	}
}
