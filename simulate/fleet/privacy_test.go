package fleet

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/discreet-fl/discreet/client"
	"github.com/discreet-fl/discreet/coordinator"
	"github.com/discreet-fl/discreet/model"
	"github.com/discreet-fl/discreet/privacy"
	pb "github.com/discreet-fl/discreet/proto"
)

// TestDevicesCountCentralNoise runs kiosks through a task to whose sums the coordinator adds
// the noise: each device checks it, keeps in its ledger what the coordinator publishes, and
// tells whom it trusts.
func TestDevicesCountCentralNoise(t *testing.T) {
	const rounds = 2
	c := config(t, chatsOf(planted(3, 6)), rounds, 0)
	c.Spec.Rounds = rounds
	c.Spec.Privacy = &pb.Privacy{Epsilon: 6, Delta: 1e-6, Participations: rounds, Separation: 1, Clip: 1}
	var err error
	if c.Spec.Privacy.Central, err = coordinator.CentralNoise(rounds, c.Spec.Privacy); err != nil {
		t.Fatal(err)
	}
	err = Run(t.Context(), c, func(r *Result) error {
		told := r.task.GetPrivacy()
		if told.GetParticipations() != rounds || told.GetNoise().GetHonest() != 0 || privacy.Charge(told.GetCharged()).Epsilon(1e-6) > 6 {
			t.Errorf("the coordinator publishes %v, want %d vectors of a device at most within ε 6", told, rounds)
		}
		for i, k := range r.kiosks {
			tasks, err := k.Privacy()
			if err != nil || len(tasks) != 1 || len(tasks[0].Vectors) != rounds {
				t.Fatalf("kiosk %d has %+v in its ledger, %v; want %d vectors", i, tasks, err, rounds)
			}
			if own := tasks[0].Vectors[0].Charge.Plus(tasks[0].Vectors[1].Charge); uint64(own) != told.GetCharged() {
				t.Errorf("kiosk %d counts %d, the coordinator %d", i, own, told.GetCharged())
			}
		}
		status, err := r.kiosks[0].Status()
		if err != nil || !strings.Contains(status.Sums, "noised by the coordinator, which is trusted") {
			t.Errorf("status %+v, %v", status, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestDevicesAndCoordinatorCountTheSame runs kiosks to the end of what their task promises,
// with a clip that moves, which is paid for as well.
// What the coordinator publishes is then what each of them has in its own ledger, to the
// last digit; each stays away, says why, and goes on classifying.
func TestDevicesAndCoordinatorCountTheSame(t *testing.T) {
	const epsilon, delta, rounds = 6, 1e-6, 2
	c := config(t, chatsOf(planted(3, 6)), rounds, 0)
	c.Spec.Compression = &pb.Compression{Method: pb.Compression_METHOD_SKETCH, Ratio: 64}
	c.Spec.Privacy = &pb.Privacy{Epsilon: epsilon, Delta: delta, Participations: rounds, Separation: 1, Clip: 1, ClipQuantile: 5000}
	c.Spec.Rounds = rounds
	charge, err := coordinator.ChargeOf(c.Spec.Privacy)
	if err != nil {
		t.Fatal(err)
	}
	err = Run(t.Context(), c, func(r *Result) error {
		told := r.task.GetPrivacy()
		if told.GetDevices() != uint32(len(r.kiosks)) || told.GetParticipations() != rounds || told.GetCharged() != uint64(charge.Times(rounds)) {
			t.Errorf("the coordinator publishes %v, want %d devices of %d vectors at most, charged %d", told, len(r.kiosks), rounds, charge.Times(rounds))
		}
		// The accountant of what the plans tell, update and votes, comes to the same.
		n := told.GetNoise()
		m, err := model.NewLayout(c.Spec.Model, len(c.Spec.Intents))
		if err != nil {
			t.Fatal(err)
		}
		l := coordinator.LayoutOf(&pb.Plan{Noise: n, Compression: c.Spec.Compression}, m)
		left := []int{int(n.GetHonest())} // none of the three or four devices may be corrupt
		for _, at := range n.GetLevels() {
			left = append(left, int(at.GetSurvivors()))
		}
		rho, err := privacy.NewCharge(privacy.LevelledRho(l.Noise.Norm(l.Parameters), left, l.Noise.Sigmas(), l.Noise.Noised(l.Parameters)))
		if err != nil || rho > charge || rho.Rho() < charge.Rho()*(1-1e-6) || !l.Noise.Votes() {
			t.Errorf("noise %v costs ρ %v a vector, %v; want what is charged, %v, with votes on the clip", n, rho.Rho(), err, charge.Rho())
		}
		for _, a := range r.Attempts {
			if a.Privacy.GetClip() == 0 || a.Privacy.GetDevices() != uint32(len(r.kiosks)) || a.Privacy.GetCharge() != uint64(charge) {
				t.Errorf("round %d cost %v, want %d for each of %d devices", a.Round, a.Privacy, charge, len(r.kiosks))
			}
		}
		for i, k := range r.kiosks {
			tasks, err := k.Privacy()
			if err != nil || len(tasks) != 1 || len(tasks[0].Vectors) != rounds {
				t.Errorf("kiosk %d has %+v in its ledger, %v; want %d vectors", i, tasks, err, rounds)
				continue
			}
			var own privacy.Charge
			for _, v := range tasks[0].Vectors {
				own = own.Plus(v.Charge)
			}
			if uint64(own) != told.GetCharged() || math.Abs(tasks[0].GivenEpsilon-privacy.Charge(told.GetCharged()).Epsilon(delta)) > 1e-12 {
				t.Errorf("kiosk %d counts %d, ε %v; the coordinator %d at the most", i, own, tasks[0].GivenEpsilon, told.GetCharged())
			}
			if tasks[0].GivenEpsilon > epsilon {
				t.Errorf("kiosk %d has given away ε %v, more than the %v that it was promised", i, tasks[0].GivenEpsilon, epsilon)
			}
		}
		k := r.kiosks[0]
		if _, err := k.Participate(t.Context()); !errors.Is(err, client.ErrSpent) {
			t.Errorf("taking part once more: %v, want ErrSpent", err)
		}
		status, err := k.Status()
		if err != nil || !strings.Contains(status.LastError, "2 vectors of the 2 that the task allows") || !strings.Contains(status.Sums, "ε at most 6") {
			t.Errorf("status %+v, %v", status, err)
		}
		if answer, err := k.Classify("when do you open", 1); err != nil || len(answer.Intents) != 1 {
			t.Errorf("classifying at the end of the budget: %v, %v", answer, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
