package coordinator

import (
	"context"
	"fmt"
	"time"

	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/secagg"
)

const (
	// holdTime is how long a check-in waits for a cohort before its device is asked
	// to come again.
	holdTime = 30 * time.Second
	// comeBack is how soon: at once, but for what the devices add by chance.
	comeBack = time.Second
	// longestWindow bounds the formation window.
	longestWindow = 10 * time.Second
)

// gathering is the devices that wait for the next cohort of a task, in the order in
// which they came. It knows no clock.
//
// A cohort forms as soon as as many devices wait as it holds at most. It also forms
// with fewer, but at least the minimum, once the formation window has passed since
// there were enough: a quarter of the task's deadline, at most 10 seconds.
type gathering struct {
	least, most int
	window      time.Duration
	waiting     []*checkIn
	enough      time.Time // since when at least the minimum waits; zero while fewer do
}

// checkIn is one held call.
type checkIn struct {
	id    secagg.ID
	ctx   context.Context // of the call
	since time.Time
	done  chan *pb.CheckInResponse // takes one
}

func newGathering(spec *pb.TaskSpec) gathering {
	return gathering{
		least: int(spec.GetMinSurvivors()), most: int(spec.GetPerRound()),
		window: min(milliseconds(spec.GetDeadlineMs())/4, longestWindow),
	}
}

// add lets a device wait and returns its earlier check-in, which the new one
// replaces, or nil.
func (g *gathering) add(c *checkIn) (replaced *checkIn) {
	for _, w := range g.waiting {
		if w.id == c.id {
			replaced = w
		}
	}
	g.remove(replaced, c.since)
	g.waiting = append(g.waiting, c)
	g.note(c.since)
	return replaced
}

// remove takes a check-in out, if it is still waiting.
func (g *gathering) remove(c *checkIn, now time.Time) {
	g.keep(now, func(w *checkIn) bool { return w != c })
}

// keep drops the check-ins that f does not hold and returns them.
func (g *gathering) keep(now time.Time, f func(*checkIn) bool) (dropped []*checkIn) {
	kept := g.waiting[:0]
	for _, w := range g.waiting {
		if f(w) {
			kept = append(kept, w)
		} else {
			dropped = append(dropped, w)
		}
	}
	clear(g.waiting[len(kept):])
	g.waiting = kept
	g.note(now)
	return dropped
}

// note keeps the time since when there are enough.
func (g *gathering) note(now time.Time) {
	switch {
	case len(g.waiting) < g.least:
		g.enough = time.Time{}
	case g.enough.IsZero():
		g.enough = now
	}
}

// form takes a cohort out, those who came first, or returns nil where it is not
// time. Check-ins whose call has ended are dropped.
func (g *gathering) form(now time.Time) []*checkIn {
	g.keep(now, func(w *checkIn) bool { return w.ctx.Err() == nil })
	if len(g.waiting) < g.most && (g.enough.IsZero() || now.Before(g.enough.Add(g.window))) {
		return nil
	}
	cohort := append([]*checkIn(nil), g.waiting[:min(len(g.waiting), g.most)]...)
	g.waiting = append([]*checkIn(nil), g.waiting[len(cohort):]...)
	g.enough = time.Time{}
	g.note(now)
	return cohort
}

// expire takes out the check-ins that have been held for too long.
func (g *gathering) expire(now time.Time) []*checkIn {
	return g.keep(now, func(w *checkIn) bool { return now.Before(w.since.Add(holdTime)) })
}

// due returns when form could say something else if nobody comes, zero for never,
// and when the next check-in expires.
func (g *gathering) due() (forms, expires time.Time) {
	if len(g.waiting) >= g.most {
		forms = g.enough
	} else if !g.enough.IsZero() {
		forms = g.enough.Add(g.window)
	}
	if len(g.waiting) > 0 {
		expires = g.waiting[0].since.Add(holdTime)
	}
	return forms, expires
}

func (g *gathering) String() string {
	return fmt.Sprintf("%d of %d", len(g.waiting), g.least)
}
