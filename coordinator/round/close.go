package round

import (
	"fmt"
	"time"

	"github.com/discreet-fl/discreet/secagg"
)

// Tick lets time pass.
func (r *Round) Tick(now time.Time) (effects []Effect) {
	if r.adverts != nil && r.lobby.closes(now, r.adverts.Needed()) {
		effects = r.closeAdvertise(now)
	}
	for _, c := range r.cohorts {
		if c.step == steps {
			continue
		}
		effects = append(effects, r.advance(now, c)...)
		if c.step == steps {
			effects = append(effects, r.end()...)
		}
		if r.over {
			break
		}
	}
	return effects
}

// closeAdvertise splits those who answered into cohorts.
func (r *Round) closeAdvertise(now time.Time) []Effect {
	x, needed := &r.lobby, r.adverts.Needed()
	effects := []Effect{Closed{0, Advertise, x.answered, len(x.expected)}}
	if x.answered < needed {
		// Those still working are too few, whatever they send.
		want := fmt.Sprintf("%d are the minimum of this task", needed)
		if needed > r.config.Params.MinSurvivors {
			want = fmt.Sprintf("%d of the %d that checked in are needed", needed, len(x.expected))
		}
		return append(effects, r.abort(Advertise, x.tooFew(now, want)))
	}
	formed, err := r.adverts.Close()
	if err != nil {
		return append(effects, r.abort(Advertise, err.Error()))
	}
	r.adverts, x.step = nil, steps
	for number, shares := range formed {
		c := &cohort{number: number, params: &r.config.Params, roster: shares.Members(), shares: shares}
		c.open(Share, r.list(c.roster), now.Add(r.config.Step), r.config.Grace)
		for _, m := range c.expected {
			m.cohort = c
			effects = append(effects, Reply{m.id, Advertise, c})
		}
		r.cohorts = append(r.cohorts, c)
		r.roster += len(c.expected)
	}
	return append(effects, r.loseUnformed(len(formed))...)
}

// loseUnformed gives up the cohorts that too few of their devices have a place in.
func (r *Round) loseUnformed(formed int) (effects []Effect) {
	all := secagg.Cohorts(len(r.members), r.config.Params.Cohort)
	if formed == all {
		return nil
	}
	// Which of these cohorts a device is in makes no difference to anybody.
	none := &cohort{number: formed, exchange: exchange{step: steps}, lost: true}
	var left []secagg.ID
	for _, m := range r.lobby.expected {
		if m.cohort == nil && m.sent[Advertise] != nil {
			m.cohort = none
			left = append(left, m.id)
		}
	}
	reason := fmt.Sprintf("too few of its devices advertised: more than half of them are needed, and the minimum of this task, %d", r.config.Params.MinSurvivors)
	for number := formed; number < all; number++ {
		r.latest = CohortLost{number, Advertise, reason, left}
		effects = append(effects, r.latest)
		left = nil
	}
	r.lost = all - formed
	return append(effects, r.end()...)
}

// end ends the round when its last cohort has ended, or as soon as too few can give a
// sum.
func (r *Round) end() []Effect {
	all, lost := r.Cohorts()
	if all == 1 && lost == 1 {
		return []Effect{r.abort(r.latest.Step, r.latest.Reason)}
	}
	if 2*lost > all {
		return []Effect{r.abort(r.latest.Step, fmt.Sprintf("%d of %d cohorts are lost, the latest because: %s", lost, all, r.latest.Reason))}
	}
	for _, c := range r.cohorts {
		if c.step < steps {
			return nil
		}
	}
	r.over = true
	return []Effect{Done{all, lost}}
}

// abort ends the round without a sum and forgets what the protocol still holds.
func (r *Round) abort(step Step, reason string) Effect {
	for _, c := range r.cohorts {
		if c.step < steps {
			c.drop()
		}
	}
	r.adverts, r.lobby.step = nil, steps
	r.over, r.aborted = true, true
	return Aborted{reason, step}
}

// tooFew says why a step cannot go on: how many are left, and how many are needed of
// what.
func (x *exchange) tooFew(now time.Time, needed string) string {
	left := x.answered
	if now.Before(x.deadline) {
		left += x.waiting()
	}
	if left == 1 {
		return "1 device left, " + needed
	}
	return fmt.Sprintf("%d devices left, %s", left, needed)
}
