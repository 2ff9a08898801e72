package simulate

import (
	"testing"

	"github.com/discreet-fl/discreet/coordinator/round"
	"github.com/discreet-fl/discreet/dataset"
)

// shop is a small federation over the embedded set: 30 devices, some of which vanish.
func shop(t testing.TB, secure bool) Config {
	t.Helper()
	set := dataset.Shop()
	train, err := set.Split(dataset.Split{ByUser: true}, 30, 1)
	if err != nil {
		t.Fatal(err)
	}
	return Config{
		Train: train, Test: set.Test, Intents: set.Intents, PerRound: 9, MinSurvivors: 3, Rounds: 3,
		Model: "small", Drop: 0.3, Secure: secure, Seed: 4,
	}
}

func TestSecureAndPlainGiveTheSameCheckpoint(t *testing.T) {
	secure, err := Run(t.Context(), shop(t, true))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := Run(t.Context(), shop(t, false))
	if err != nil {
		t.Fatal(err)
	}
	if secure.Digest != plain.Digest {
		t.Errorf("seed 4: digest %s under masks, %s in clear", secure.Digest, plain.Digest)
	}
	drops := 0
	for i, r := range secure.Rounds {
		p := plain.Rounds[i]
		drops += r.Drops.Total()
		if r.Survivors != p.Survivors || r.Drops != p.Drops || r.Attempts != p.Attempts || r.Accuracy != p.Accuracy {
			t.Errorf("round %d: %+v under masks, %+v in clear", r.Round, r, p)
		}
		if r.Survivors > 0 && r.MasksExpanded < r.Survivors {
			t.Errorf("round %d: %d masks removed for %d survivors", r.Round, r.MasksExpanded, r.Survivors)
		}
	}
	if drops == 0 {
		t.Error("nobody vanished: the schedule tests nothing")
	}
}

var _ = round.Submit
