package coordinator

import (
	"fmt"
	"testing"

	"github.com/discreet-fl/discreet/model"
	pb "github.com/discreet-fl/discreet/proto"
)

// TestHeldBackShareFalls: the plans of a task hold back its share for fifty rounds, then less
// and less, and never more again than before.
func TestHeldBackShareFalls(t *testing.T) {
	for _, c := range []struct {
		name     string
		rounds   uint64
		share    uint32
		personal bool
		want     map[uint64]uint32 // of rounds
	}{
		{"a hundred rounds", 100, 1000, false, map[uint64]uint32{1: 1000, 50: 1000, 51: 982, 75: 550, 100: 100, 101: 100}},
		{"no more than fifty", 50, 1000, false, map[uint64]uint32{1: 1000, 50: 1000, 51: 1000}},
		{"without end", 0, 1000, false, map[uint64]uint32{1: 1000, 100: 1000, 10_000: 1000}},
		{"a share that is small", 1000, 3, false, map[uint64]uint32{1: 3, 1000: 1}},
		{"with personal models", 100, 1000, true, map[uint64]uint32{1: 1000, 75: 1000, 100: 1000}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := spec(3, 3)
			s.Rounds, s.Personal, s.Evaluation = c.rounds, c.personal, &pb.TaskEvaluation{HeldBack: c.share}
			held := func(round uint64) uint32 {
				plan, _, err := NewPlan(s, round, 1, Basis{Layout: layoutFor(t, s)})
				if err != nil {
					t.Fatal(err)
				}
				return plan.Evaluation.HeldBack
			}
			for round, want := range c.want {
				if got := held(round); got != want {
					t.Errorf("round %d holds back %d in 10,000, want %d", round, got, want)
				}
			}
			for round := uint64(2); round <= c.rounds && round <= 110; round++ {
				if now, before := held(round), held(round-1); now > before || now < 1 {
					t.Errorf("round %d holds back %d in 10,000 after %d: chats that were trained on would be counted", round, now, before)
				}
			}
		})
	}
}

// TestHeldBackWithinHeldBack: what a smaller share holds back a larger one does, too, so that
// a share that falls counts no chat that was ever trained on.
func TestHeldBackWithinHeldBack(t *testing.T) {
	given := 0
	for i := range 2000 {
		f := model.Featurise(fmt.Sprint("chat number ", i))
		if model.HeldBack(f, 100) && !model.HeldBack(f, 550) || model.HeldBack(f, 550) && !model.HeldBack(f, 1000) {
			t.Errorf("chat %d is held back by a share, and not by a larger one", i)
		}
		if model.HeldBack(f, 1000) && !model.HeldBack(f, 100) {
			given++
		}
	}
	if given < 100 || given > 260 {
		t.Errorf("of 2,000 chats %d are given up as the share falls from a tenth to a hundredth, want about 180", given)
	}
}
