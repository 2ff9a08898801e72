package simulate

import (
	"testing"

	"github.com/discreet-fl/discreet/model"
)

// TestPersonal measures personal parts on chats that no device has, twice the same, and
// leaves what was learned as it is.
func TestPersonal(t *testing.T) {
	c := shop(t, 12, 6, 2, 0, false)
	c.HeldBack, c.Personal, c.NoBaselines = 0.3, true, true
	r, err := newRun(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer r.trainers.close()
	chats, aside := 0, 0
	for i := range c.Train {
		for _, p := range r.Train[i] {
			if SetAside(model.LatestTokeniser.Featurise(p.Text)) {
				t.Fatalf("seed %d: device %d has the chat %q, which is set aside", seed, i, p.Text)
			}
		}
		if len(r.Train[i])+len(r.aside[i]) != len(c.Train[i]) {
			t.Errorf("seed %d: device %d has %d chats and %d set aside, of %d", seed, i, len(r.Train[i]), len(r.aside[i]), len(c.Train[i]))
		}
		chats, aside = chats+len(c.Train[i]), aside+len(r.aside[i])
	}
	if share := float64(aside) / float64(chats); share < 0.15 || share > 0.25 {
		t.Errorf("seed %d: %d of %d chats are set aside, want a fifth", seed, aside, chats)
	}
	if err := r.rounds(t.Context(), new(Result)); err != nil {
		t.Fatal(err)
	}
	digest := r.digest()
	p, err := r.personal(t.Context())
	if err != nil || p.Devices < 1 || p.Devices > 12 || p.Answering > p.Devices || !(p.Shared > 0 && p.Better >= p.Shared-0.05) {
		t.Fatalf("seed %d: %+v, %v", seed, p, err)
	}
	again, err := r.personal(t.Context())
	if err != nil || *again != *p || r.digest() != digest {
		t.Errorf("seed %d: again %+v, %v, want %+v", seed, again, err, p)
	}
	c.HeldBack = 0
	if c.Check() == nil {
		t.Error("personal parts without chats to judge them by")
	}
}
