package simulate

import (
	"fmt"
	"math"
	"testing"

	"github.com/discreet-fl/discreet/coordinator"
	"github.com/discreet-fl/discreet/dataset"
	"github.com/discreet-fl/discreet/privacy"
	pb "github.com/discreet-fl/discreet/proto"
)

// TestNoiseFitsTheDropouts takes sums under masks, by the devices' own code, of devices that
// have no chats and so add nothing but noise: however many vanish, before their upload or
// between that and the reveal, the standard deviation of what is decoded is what the
// accountant was told, or up to 10% more, and just that which is said of so many survivors.
func TestNoiseFitsTheDropouts(t *testing.T) {
	const devices, least, corrupt = 10, 7, 1
	tolerance, ratio, trials := 0.01, uint32(6), 2 // of some 45,000 numbers each
	if slow {
		tolerance, ratio, trials = 0.04, 64, 1
	}
	c := shop(t, devices, devices, 1, 0, true)
	c.Train, c.Keys, c.MinSurvivors = make([][]dataset.Phrase, devices), pb.KeyExchange_KEY_EXCHANGE_CLASSICAL, least
	c.Privacy = &pb.Privacy{Epsilon: 8, Delta: 1e-6, Participations: 50, Separation: 1, Clip: 1}
	c.Compression = &pb.Compression{Method: pb.Compression_METHOD_SKETCH, Ratio: ratio}
	r, err := newRun(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer r.trainers.close()
	number := uint64(0)
	for _, tc := range []struct {
		name      string
		vanish    []Vanish
		survivors int
	}{
		{"nobody", nil, 10},
		{"one after its upload and one before it reveals", []Vanish{AfterSubmit, AfterConfirm}, 10},
		{"a tenth, and one after its upload", []Vanish{AfterShare, AfterSubmit}, 9},
		{"three tenths", []Vanish{AfterShare, AfterAdvertise, BeforeAdvertise}, 7},
	} {
		t.Run(tc.name, func(t *testing.T) {
			members := make([]member, devices)
			for i := range members {
				members[i].device = i
				if i < len(tc.vanish) {
					members[i].vanish = tc.vanish[i]
				}
			}
			var squares, told, said float64
			n := 0
			for range trials {
				number++
				plan, raw, err := r.plan(number, 1)
				if err != nil {
					t.Fatal(err)
				}
				total, err := r.secure(t.Context(), plan, raw, members)
				if err != nil || total == nil || total.survivors != tc.survivors {
					t.Fatalf("%v, %+v: want a sum over %d", err, total, tc.survivors)
				}
				l := coordinator.LayoutOf(plan, r.layout)
				told = privacy.Charge(plan.Noise.Charge).Multiplier() * l.Noise.Norm(l.Parameters)
				said = l.Noise.Left(tc.survivors)
				for _, w := range total.sums.Whole()[:l.Parameters] {
					squares += float64(w) * float64(w)
				}
				n += l.Parameters
			}
			got := math.Sqrt(squares / float64(n))
			t.Logf("seed %d: %d survivors, noise of σ %.1f over %d numbers, %.4f times what the accountant was told", c.Seed, tc.survivors, got, n, got/told)
			if got < told*(1-tolerance) || got > 1.10*told*(1+tolerance) {
				t.Errorf("noise of σ %v, want %v to 10%% more", got, told)
			}
			if math.Abs(got/said-1) > tolerance {
				t.Errorf("noise of σ %v, said is %v", got, said)
			}
			// Of the corrupt one it may be known: what the others keep is still enough.
			if honest := said * math.Sqrt(float64(tc.survivors-corrupt)/float64(tc.survivors)); honest < told*(1-1e-9) {
				t.Errorf("without a corrupt device's the noise has σ %v, less than the %v that the accountant was told", honest, told)
			}
		})
	}
	plan, _, err := r.plan(1, 1)
	if err != nil {
		t.Fatal(err)
	}
	fit := coordinator.FitOf(r.spec, plan.Noise)
	if fmt.Sprint(fit.Levels) != "[8 9 10]" || fit.Overshoot > 1.10 || fit.Overshoot < 1 {
		t.Errorf("%+v, want levels at 8, 9 and 10 survivors and at most 10%% more", fit)
	}
}
