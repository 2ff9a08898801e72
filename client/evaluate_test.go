package client

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"testing"

	"github.com/discreet-fl/discreet/aggregation"
	"github.com/discreet-fl/discreet/model"
	pb "github.com/discreet-fl/discreet/proto"
)

// TestCountsAreOfAFreshHalf lets a device count in two rounds, on one checkpoint and with the
// same chats. A coordinator that subtracts the counts of rounds with it and without has the
// coins of all devices in the difference, and not its chats.
func TestCountsAreOfAFreshHalf(t *testing.T) {
	const chats = 400
	r := newRig(t, 3, nil)
	evaluates(func(e *pb.Evaluation) { e.HeldBack, e.Chats = mostHeldBack, 1000 })(r.plan)
	l := layout(r.plan, r.model.Manifest.Layout)
	r.plan.SecureAggregation.Length = uint32(l.Length())
	device := func(number int) *Participant {
		p := r.participant(number, 0)
		drawn := 0
		p.Seed = func(_ *pb.Plan, purpose string) [32]byte { // another in each round
			drawn++
			return sha256.Sum256(fmt.Appendf(nil, "%s %d %d", purpose, number, drawn))
		}
		p.Examples = func(*model.Manifest) (ex []model.Example, _ error) {
			for i := range chats {
				ex = append(ex, model.Example{Features: model.LatestTokeniser.Featurise(fmt.Sprint("chat ", number, " ", i)), Label: i % len(rigLabels)})
			}
			return ex, nil
		}
		return p
	}
	counted := func(devices ...*Participant) []int64 {
		t.Helper()
		sum := make([]int64, len(rigLabels))
		for _, p := range devices {
			words, err := p.Update(r.plan, r.model)
			if err != nil {
				t.Fatal(err)
			}
			for i, n := range aggregation.Counts(l, words).Chats {
				sum[i] += int64(n)
			}
		}
		return sum
	}
	one, other := device(1), device(2)
	held := make([]int64, len(rigLabels))
	examples, _ := one.Examples(nil)
	_, back := HoldBack(examples, mostHeldBack)
	for _, e := range back {
		held[e.Label]++
	}
	first, again := counted(one), counted(one)
	for i, n := range first {
		if n < held[i]/4 || n > held[i]*3/4 {
			t.Errorf("%d of %d chats of intent %d are counted, want about half", n, held[i], i)
		}
	}
	if slices.Equal(first, again) {
		t.Errorf("%v in two rounds, want other chats in each", first)
	}
	with, without := counted(one, other), counted(other)
	for i := range with {
		with[i] -= without[i]
	}
	if slices.Equal(with, held) {
		t.Errorf("the difference of two rounds is what the device holds back, %v", held)
	}
}
