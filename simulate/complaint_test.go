package simulate

import (
	"crypto/ed25519"
	"sync"
	"testing"
	"time"

	"github.com/discreet-fl/discreet/coordinator"
	"github.com/discreet-fl/discreet/coordinator/round"
	"github.com/discreet-fl/discreet/coordinator/round/liar"
)

// TestBadSharesCostNobody has a device seal shares for another that do not open. That
// one complains, the two have no mask in common, and the round ends as if nothing had
// happened: all are in the sum, which is the same integers.
func TestBadSharesCostNobody(t *testing.T) {
	const dealer, victim = 1, 3
	c := shop(t, 5, 5, 1, 0, true)
	whole, _ := digestOf(t, c, nil)
	r, err := newRun(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer r.trainers.close()
	plan, raw, err := coordinator.NewPlan(r.spec, 1, 1, r.basis())
	if err != nil {
		t.Fatal(err)
	}
	in, err := r.checkIn(plan, r.schedule.members(1, 1))
	if err != nil {
		t.Fatal(err)
	}
	config := coordinator.RoundConfig(plan, raw, r.ca.Public().(ed25519.PublicKey), in.commitments, 0)
	attempt, err := round.New(time.Time{}, config)
	if err != nil {
		t.Fatal(err)
	}
	committed, err := attempt.Committed(r.id(r.device(dealer)))
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var adverts [][]byte
	r.observe = func(device int, step round.Step, payload []byte) []byte {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case step == round.Advertise:
			adverts = append(adverts, payload)
		case step == round.Share && device == dealer:
			l, err := liar.New(config.Params, r.device(dealer).signer.Key, committed, adverts)
			if err == nil {
				payload, err = l.Misdeal(payload, r.id(r.device(victim)))
			}
			if err != nil {
				t.Error(err)
			}
		}
		return payload
	}
	var result Result
	if err := r.rounds(t.Context(), &result); err != nil {
		t.Fatal(err)
	}
	got := result.Rounds[0]
	if r.digest() != whole || got.Survivors != 5 || got.Attempts != 1 {
		t.Errorf("seed %d: %+v, digest %s, want all five and %s", seed, got, r.digest(), whole)
	}
	// One mask more than the five own ones: that of the dealer with the victim, which the
	// victim did not use.
	if got.MasksExpanded != 6 {
		t.Errorf("seed %d: %d masks were removed, want 6; was there a complaint?", seed, got.MasksExpanded)
	}
}
