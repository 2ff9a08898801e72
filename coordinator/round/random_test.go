package round

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/discreet-fl/discreet/secagg"
)

// TestRandomSchedules lets devices answer, repeat themselves, vanish and come back
// in any order. However it goes, the round ends once, by its last deadline, and a
// sum is the plain sum of the survivors, who all submitted.
func TestRandomSchedules(t *testing.T) {
	const schedules = 150
	summed := 0
	for seed := range uint64(schedules) {
		if chaos(t, seed) {
			summed++
		}
	}
	if summed < schedules/10 || summed > schedules*9/10 {
		t.Errorf("%d of %d schedules ended in a sum; the test wants both ends", summed, schedules)
	}
}

func chaos(t *testing.T, seed uint64) (summed bool) {
	source := rand.New(rand.NewPCG(seed, 3))
	p := &player{t: t, now: time.UnixMilli(0)}
	n, calm := 3+source.IntN(5), 5+source.IntN(12)
	p.begin([]string{fmt.Sprintf("devices=%d", n)})
	ends, end := 0, p.now.Add(40*time.Second+3*10*time.Second)
	submitted := map[secagg.ID]bool{}
	take := func(effects []Effect) {
		for _, e := range effects {
			if ends > 0 {
				if _, repeated := e.(Reply); !repeated {
					t.Fatalf("seed %d: %T after the end", seed, e)
				}
			}
			switch e := e.(type) {
			case Reply:
				p.devices[p.index(e.To)].reply[e.Step] = e.Payload
			case Aborted:
				ends++
			case Summed:
				ends++
				summed = true
				for _, id := range e.Survivors {
					if !submitted[id] {
						t.Fatalf("seed %d: a survivor never submitted", seed)
					}
				}
				if got := p.verify(e); got != "their plain sum" || len(e.Survivors) < 3 {
					t.Fatalf("seed %d: sum of %d: %s", seed, len(e.Survivors), got)
				}
			}
		}
	}
	for !p.now.After(end) {
		d := p.devices[source.IntN(n)]
		switch source.IntN(calm) {
		case 0:
			take(p.round.Gone(p.now, d.id))
		case 1:
			take(p.round.Back(p.now, d.id))
		case 2:
			p.now = p.now.Add(time.Duration(source.IntN(9000)) * time.Millisecond)
			take(p.round.Tick(p.now))
		case 3:
			effects, err := p.round.Receive(p.now, d.id, Step(source.IntN(5)), []byte("noise"))
			if err == nil && !summed { // a survivor is told of the sum whatever it reveals then
				t.Fatalf("seed %d: noise was accepted", seed)
			}
			take(effects)
		default:
			step := Step(slices.IndexFunc(d.reply[:], func(b []byte) bool { return b == nil }))
			if source.IntN(5) == 0 && step > 0 { // the reply was lost
				step--
			}
			if err := d.prepare(p.params, step); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			effects, err := p.round.Receive(p.now, d.id, step, d.message[step])
			submitted[d.id] = submitted[d.id] || (step == Submit && err == nil)
			take(effects)
		}
	}
	if ends != 1 {
		t.Fatalf("seed %d: %d ends by the last deadline, want 1", seed, ends)
	}
	if !p.round.Deadline().IsZero() {
		t.Fatalf("seed %d: a round that is over has a deadline", seed)
	}
	return summed
}
