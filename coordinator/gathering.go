package coordinator

import (
	"context"
	"fmt"
	"time"

	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/secagg"
)

const (
	// holdTime is how long a check-in waits for a round before its device is asked to
	// come again.
	holdTime = 30 * time.Second
	// comeBack is how soon: at once, but for what the devices add by chance.
	comeBack = time.Second
	// longestWindow bounds the formation window.
	longestWindow = 10 * time.Second
	// doubledRests is how often the time for which a task is passed over doubles: to 16 minutes.
	doubledRests = 5
)

// gathering is the devices that wait for the next round of a task, in the order in
// which they came. It knows no clock. To come, to leave and to ask whether it is time
// costs the same however many wait.
//
// A round forms as soon as as many devices wait as it holds at most. It also forms
// with fewer, but at least the minimum, once the formation window has passed since
// there were enough: a quarter of the task's deadline, at most 10 seconds.
type gathering struct {
	least, most int // devices of a cohort at least, and of a round at most
	need        int // devices of a round at least
	cohort      int // devices of a cohort at most
	window      time.Duration
	waiting     map[secagg.ID]*checkIn
	order       []*checkIn // as they came; with some that wait no longer
	enough      time.Time  // since when at least the minimum waits; zero while fewer do
}

// checkIn is one held call.
type checkIn struct {
	id         secagg.ID
	commitment [32]byte        // to its nonce
	ctx        context.Context // of the call
	since      time.Time
	done       chan *pb.CheckInResponse // takes one
	away       bool                     // the task turned this device away; set before done is
}

// turnAway answers a device that is not wanted, whoever else comes.
func (c *checkIn) turnAway(wait time.Duration, reason string) {
	c.away = true
	c.done <- later(wait, reason)
}

func newGathering(spec *pb.TaskSpec) gathering {
	return gathering{
		need: needOf(spec), least: int(spec.GetMinSurvivors()), most: int(spec.GetPerRound()), cohort: int(cohortOf(spec)),
		window:  min(milliseconds(spec.GetDeadlineMs())/4, longestWindow),
		waiting: make(map[secagg.ID]*checkIn),
	}
}

// add lets a device wait and returns its earlier check-in, which the new one
// replaces, or nil.
func (g *gathering) add(c *checkIn) (replaced *checkIn) {
	replaced = g.waiting[c.id]
	delete(g.waiting, c.id)
	g.note(c.since)
	if len(g.order) > 2*len(g.waiting)+16 { // mostly of those who left
		g.order = g.first(len(g.waiting))
	}
	g.waiting[c.id] = c
	g.order = append(g.order, c)
	g.note(c.since)
	return replaced
}

// remove takes a check-in out, if it is still waiting.
func (g *gathering) remove(c *checkIn, now time.Time) {
	if g.waiting[c.id] == c {
		delete(g.waiting, c.id)
		g.note(now)
	}
}

// first lists the n who came first.
func (g *gathering) first(n int) []*checkIn {
	list := make([]*checkIn, 0, n)
	for _, c := range g.order {
		if len(list) < n && g.waiting[c.id] == c {
			list = append(list, c)
		}
	}
	return list
}

// note keeps the time since when there are enough.
func (g *gathering) note(now time.Time) {
	switch {
	case len(g.waiting) < g.need:
		g.enough = time.Time{}
	case g.enough.IsZero():
		g.enough = now
	}
}

// full tells whether it is time for a round.
func (g *gathering) full(now time.Time) bool {
	return len(g.waiting) >= g.most || !g.enough.IsZero() && !now.Before(g.enough.Add(g.window))
}

// form takes a round's devices out, those who came first, or returns nil where it is
// not time. Check-ins that are not to stay, and those whose call has ended, are dropped.
func (g *gathering) form(now time.Time, stays func(*checkIn) bool) []*checkIn {
	if !g.full(now) {
		return nil
	}
	for _, c := range g.first(len(g.waiting)) {
		if c.ctx.Err() != nil || !stays(c) {
			g.remove(c, now)
		}
	}
	if !g.full(now) {
		return nil
	}
	chosen := g.first(g.size())
	for _, c := range chosen {
		delete(g.waiting, c.id)
	}
	g.order = g.first(len(g.waiting))
	g.enough = time.Time{}
	g.note(now)
	return chosen
}

// size is how many of those who wait make a round: as many as there may be, but no
// more than can be split into cohorts none of which has less than the minimum.
func (g *gathering) size() int {
	n := min(len(g.waiting), g.most)
	for n > g.cohort && n/secagg.Cohorts(n, g.cohort) < g.least {
		n--
	}
	return n
}

// expire takes out the check-ins that have been held for too long.
func (g *gathering) expire(now time.Time) (expired []*checkIn) {
	for c := g.oldest(); c != nil && !now.Before(c.since.Add(holdTime)); c = g.oldest() {
		g.remove(c, now)
		expired = append(expired, c)
	}
	return expired
}

// oldest is the first of those who wait, nil where nobody does.
func (g *gathering) oldest() *checkIn {
	for len(g.order) > 0 && g.waiting[g.order[0].id] != g.order[0] {
		g.order = g.order[1:]
	}
	if len(g.order) == 0 {
		return nil
	}
	return g.order[0]
}

// drain takes everybody out.
func (g *gathering) drain() []*checkIn {
	list := g.first(len(g.waiting))
	clear(g.waiting)
	g.order, g.enough = nil, time.Time{}
	return list
}

// due returns when form could say something else if nobody comes, zero for never,
// and when the next check-in expires.
func (g *gathering) due() (forms, expires time.Time) {
	if len(g.waiting) >= g.most {
		forms = g.enough
	} else if !g.enough.IsZero() {
		forms = g.enough.Add(g.window)
	}
	if c := g.oldest(); c != nil {
		expires = c.since.Add(holdTime)
	}
	return forms, expires
}

func (g *gathering) String() string {
	return fmt.Sprintf("%d of %d", len(g.waiting), g.need)
}
