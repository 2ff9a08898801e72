package round

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/discreet-fl/discreet/secagg"
)

// advance closes the open step, and those behind it, while there is nobody left to
// wait for.
func (r *Round) advance(now time.Time) (effects []Effect) {
	for r.step < steps {
		answered, waiting := 0, 0
		for _, id := range r.expected {
			switch m := r.members[id]; {
			case m.sent[r.step] != nil:
				answered++
			case m.gone.IsZero() || now.Before(m.gone.Add(r.config.Grace)):
				waiting++
			}
		}
		needed := r.needed()
		if waiting > 0 && now.Before(r.deadline) && answered+waiting >= needed {
			return effects
		}
		effects = append(effects, Closed{r.step, answered, len(r.expected)})
		if answered < needed {
			// Those still working are too few, whatever they send.
			return append(effects, r.abort(r.tooFew(answered+waiting, answered, needed, now)))
		}
		effects = append(effects, r.closeStep(now)...)
	}
	return effects
}

// needed is how many have to answer the open step.
func (r *Round) needed() int {
	switch r.step {
	case Advertise:
		return r.config.Params.MinSurvivors
	case Reveal:
		return secagg.Threshold(r.roster)
	default:
		return max(r.config.Params.MinSurvivors, secagg.Threshold(r.roster))
	}
}

// tooFew says why a step cannot go on.
func (r *Round) tooFew(left, answered, needed int, now time.Time) string {
	if now.Before(r.deadline) {
		answered = left
	}
	reason := devices(answered) + " left, "
	if r.step != Reveal && needed == r.config.Params.MinSurvivors {
		return reason + fmt.Sprintf("%d are the minimum of this task", needed)
	}
	return reason + fmt.Sprintf("%d of the %d in the roster are needed to unmask their sum", needed, r.roster)
}

func devices(n int) string {
	if n == 1 {
		return "1 device"
	}
	return fmt.Sprintf("%d devices", n)
}

// abort ends the round and forgets what the protocol still holds.
func (r *Round) abort(reason string) Effect {
	step := r.step
	if r.reveals != nil {
		r.reveals.Wipe()
	}
	r.adverts, r.shares, r.submissions, r.reveals, r.sum = nil, nil, nil, nil, nil
	r.step = steps
	return Aborted{reason, step}
}

// closeStep closes the open step, which enough members have answered, and opens
// the next.
func (r *Round) closeStep(now time.Time) []Effect {
	var (
		replies func(secagg.ID) []byte
		err     error
	)
	switch r.step {
	case Advertise:
		replies, err = r.closeAdvertise()
	case Share:
		replies, err = r.closeShare()
	case Submit:
		replies, err = r.closeSubmit()
	default:
		return []Effect{r.closeReveal()}
	}
	if err != nil {
		return []Effect{r.abort(err.Error())}
	}
	effects := make([]Effect, 0, len(r.expected))
	for _, id := range r.expected {
		if m := r.members[id]; m.sent[r.step] != nil {
			m.reply[r.step] = replies(id)
			effects = append(effects, Reply{id, r.step, m.reply[r.step]})
		}
	}
	r.step++
	r.deadline = now.Add(r.config.Step)
	switch r.step {
	case Share:
		r.expected = r.shares.Members()
		r.roster = len(r.expected)
	case Submit:
		r.expected = r.submissions.Members()
	case Reveal:
		r.expected = r.reveals.Members()
	}
	return effects
}

func (r *Round) closeAdvertise() (func(secagg.ID) []byte, error) {
	shares, roster, err := r.adverts.Close()
	if err != nil {
		return nil, err
	}
	r.adverts, r.shares = nil, shares
	return func(secagg.ID) []byte { return roster }, nil
}

func (r *Round) closeShare() (func(secagg.ID) []byte, error) {
	submissions, inboxes, err := r.shares.Close()
	if err != nil {
		return nil, err
	}
	r.shares, r.submissions = nil, submissions
	r.sum = make([]uint32, r.config.Params.Length)
	return func(id secagg.ID) []byte { return inboxes[id] }, nil
}

func (r *Round) closeSubmit() (func(secagg.ID) []byte, error) {
	reveals, survivors, err := r.submissions.Close()
	if err != nil {
		return nil, err
	}
	r.submissions, r.reveals = nil, reveals
	return func(secagg.ID) []byte { return survivors }, nil
}

func (r *Round) closeReveal() Effect {
	unmasking, err := r.reveals.Close()
	if peer := (*secagg.PeerError)(nil); errors.As(err, &peer) {
		err = peer.Err // the reason is logged and told to all members: it names none of them
	}
	if err != nil {
		return r.abort(err.Error())
	}
	s := Summed{Unmasking: unmasking, Sum: r.sum, Survivors: unmasking.Survivors()}
	r.reveals, r.sum = nil, nil
	r.step, r.summed = steps, true
	return s
}

// Unmask takes the masks off the sum, in place, on all cores, and then forgets the
// masks. It is called once.
func (s Summed) Unmask() {
	const block = 1 << 15 // words: a range that fits a core's cache, and few enough to share out
	var next atomic.Int64
	var group sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		group.Go(func() {
			for {
				hi := int(next.Add(block))
				lo := hi - block
				if lo >= len(s.Sum) {
					return
				}
				s.Unmasking.Range(s.Sum, lo, min(hi, len(s.Sum)))
			}
		})
	}
	group.Wait()
	s.Unmasking.Wipe()
}
