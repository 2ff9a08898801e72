package round

import (
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/discreet-fl/discreet/secagg"
)

// Complain takes a member's complaint about shares that were dealt to it. It comes
// between the reply to Share and the member's vector and has no reply but the error,
// which is one of the typed ones above. Each accusation is an effect.
func (r *Round) Complain(now time.Time, from secagg.ID, payload []byte) ([]Effect, error) {
	m := r.members[from]
	if m == nil {
		return r.Tick(now), fmt.Errorf("round: device %s: %w", from, ErrNotMember)
	}
	effects := r.Back(now, from)
	before := m.complaint
	if before == nil { // what is not due is not even hashed
		if err := r.admitComplaint(m); err != nil {
			return effects, err
		}
	} else if err := r.Repeats(now, from, Share); err != nil {
		return effects, err
	}
	hash := sha256.Sum256(payload)
	switch {
	case before != nil && *before != hash:
		return append(effects, r.Expel(now, from, Share, ErrDiffers)...), fmt.Errorf("round: complaint of device %s: %w", from, ErrDiffers)
	case before != nil:
		return effects, nil
	}
	accused, err := m.cohort.submissions.Complain(from, payload)
	if err != nil {
		more, err := r.refuse(now, m, Share, err)
		return append(effects, more...), err
	}
	m.complaint = &hash
	for _, a := range accused {
		effects = append(effects, Blamed{Cohort: m.cohort.number, Peer: a.Peer, Accuser: from, Verdict: Accused, Step: Share, Err: a.Err})
		m.cohort.accused(r.members[a.Peer])
	}
	return append(effects, r.Tick(now)...), nil
}

// admitComplaint is admit for a complaint, whose sender need not be one whose own
// vector would be taken.
func (r *Round) admitComplaint(m *member) error {
	switch c := m.cohort; {
	case c == nil && r.adverts != nil || c != nil && c.step < Submit:
		return fmt.Errorf("round: complaint of device %s: %w; there is nothing to complain about", m.id, ErrEarly)
	case m.sent[Submit] != nil:
		return fmt.Errorf("round: complaint of device %s: %w: its vector is here", m.id, ErrLate)
	case r.aborted || c != nil && c.lost:
		return fmt.Errorf("round: %w", ErrOver)
	case m.out:
		return fmt.Errorf("round: complaint of device %s: %w: it broke the protocol, or too many say so", m.id, ErrOut)
	case c == nil || c.step != Submit || m.turn != Submit:
		return fmt.Errorf("round: complaint of device %s: %w without this device; check in for the next attempt", m.id, ErrLate)
	}
	return nil
}

// accused notes an accusation, and gives up on the member once its accusers are so many
// that its masks could not come off again.
func (c *cohort) accused(m *member) {
	m.accusers++
	if m.sent[Submit] == nil && c.submissions.Viable(m.id) != nil {
		m.out = true
		c.leave(m)
	}
}

// convicted tells whether more members accuse one than may be corrupt: then one of them
// at least is honest, and it did deal badly. One alone never proves anything.
func (c *cohort) convicted(m *member) bool {
	return m.accusers > max(1, len(c.roster)*c.params.Corrupt/10_000)
}
