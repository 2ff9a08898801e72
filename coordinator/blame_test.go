package coordinator

import (
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/discreet-fl/discreet/coordinator/ca"
	"github.com/discreet-fl/discreet/coordinator/round/liar"
	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/secagg"
)

// deceiver lets a device change what it deals to another; all have advertised when it
// does, and are one cohort.
func deceiver(t *testing.T, walks []*walk, dealer int, how func(l *liar.Liar, shares []byte) ([]byte, error)) {
	t.Helper()
	for _, k := range walks {
		if err := k.prepareAdvert(); err != nil {
			t.Fatal(err)
		}
	}
	k := walks[dealer]
	k.deal = func(shares []byte) []byte {
		var adverts [][]byte
		for _, other := range walks {
			adverts = append(adverts, other.advert.GetAdvert())
		}
		l, err := liar.New(RoundConfig(k.plan, k.raw, k.ca, nil, 0).Params, k.signer.Key, k.committed, adverts)
		if err == nil {
			shares, err = how(l, shares)
		}
		if err != nil {
			t.Error(err)
		}
		return shares
	}
}

// spoil makes the shares that a device deals to all others no shares of its secrets.
func spoil(t *testing.T, walks []*walk, dealer int) {
	t.Helper()
	deceiver(t, walks, dealer, func(l *liar.Liar, shares []byte) (_ []byte, err error) {
		for i, k := range walks {
			if i != dealer && err == nil {
				shares, err = l.Crook(shares, k.id)
			}
		}
		return shares, err
	})
}

// A device that deals a bad share is named before any upload and costs nobody the round.
func TestComplaintNamesTheDealerAndCostsNobodyTheRound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, devices := fleet(t, 4, spec(4, 3), Options{})
		walks := gather(t, devices...)
		deceiver(t, walks, 1, func(l *liar.Liar, shares []byte) ([]byte, error) { return l.Misdeal(shares, devices[2].id) })
		before := devices[0].checkpointOf(walks[0].plan.GetCheckpointSha256())
		each(t, 4, func(i int) error { return walks[i].steps(t.Context(), all) })
		after := devices[0].checkpointOf(walks[0].receipt.GetCheckpointSha256())
		// All have the value 0.25.
		if got := w.mean(t, "desk", 4, before, after); math.Abs(got-0.25) > 2e-4 {
			t.Errorf("the mean is %v, want 0.25: the sum is not that of the four", got)
		}
		if walks[2].complaint == nil || walks[0].complaint != nil || walks[3].complaint != nil {
			t.Error("other devices complained than the one that was dealt to")
		}
		for _, part := range []string{`msg="protocol broken"`, "level=WARN", "device=" + short(devices[1].id), "accuser=" + short(devices[2].id), "proven=false", "step=share", "do not open"} {
			if !strings.Contains(w.log.String(), part) {
				t.Errorf("the log has no %q", part)
			}
		}
		for _, d := range devices {
			if strings.Contains(w.log.String(), d.id.String()) {
				t.Errorf("the log holds a whole identifier, %v", d.id)
			}
		}
		recorder := httptest.NewRecorder()
		w.StatusHandler().ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		if want := `discreet_refusals_total{reason="complaint",step="share"} 1`; !strings.Contains(recorder.Body.String(), want) {
			t.Errorf("/metrics has no %q", want)
		}
		// It proves nothing against either: both are welcome.
		gather(t, devices...)
	})
}

// A device that makes rounds fail is kept out of ever more of those that follow.
func TestDeviceThatSpoilsRoundsIsKeptOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, devices := fleet(t, 4, spec(4, 3), Options{})
		culprit, honest := devices[0], devices[1:]
		number := uint64(1)
		for _, rounds := range []int{1, 2, 4} {
			walks := gather(t, devices...)
			if got := walks[0].at.GetRound(); got != number {
				t.Fatalf("round %d, want %d", got, number)
			}
			spoil(t, walks, 0)
			each(t, 4, func(i int) error {
				err := walks[i].steps(t.Context(), all)
				wants(t, "the spoilt round", err, codes.Aborted)
				for _, d := range devices {
					if strings.Contains(err.Error(), short(d.id)) {
						t.Errorf("the reason %q names a device", err)
					}
				}
				return nil
			})
			number += 2 // the checkpoint was held
			for range rounds {
				number = w.goOn(t, number, culprit, honest)
			}
		}
		if w.log.count("device kept out") != 3 || !strings.Contains(w.log.String(), "rounds=4") {
			t.Error("the log does not say for how long the device was kept out")
		}
	})
}

// Where cohorts are lost because an accused device does not confirm, the one of the two
// is kept out that has fallen out with more others, whether it accuses or is accused, and
// nobody for one time.
func TestDisputesKeepOutWhoFallsOutWithMore(t *testing.T) {
	for name, c := range map[string]struct {
		pairs [][2]int // of each attempt: who deals badly and is silent, and who accuses it
		out   []int
	}{
		"one liar":               {[][2]int{{0, 1}, {2, 1}}, []int{1}},
		"one bad dealer":         {[][2]int{{0, 1}, {0, 2}}, []int{0}},
		"the same two":           {[][2]int{{0, 1}, {0, 1}}, []int{0, 1}},
		"each time another pair": {[][2]int{{0, 1}, {2, 3}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, devices := fleet(t, 4, spec(4, 3), Options{})
				for at, pair := range c.pairs {
					walks := gather(t, devices...)
					dealer, accuser := pair[0], pair[1]
					deceiver(t, walks, dealer, func(l *liar.Liar, shares []byte) ([]byte, error) { return l.Misdeal(shares, devices[accuser].id) })
					each(t, 4, func(i int) error {
						if i == dealer {
							return walks[i].steps(t.Context(), 3) // it was told of the survivors
						}
						wants(t, "the others", walks[i].steps(t.Context(), all), codes.Aborted, "has not confirmed")
						return nil
					})
					if n := w.log.count("device kept out"); at == 0 && n != 0 {
						t.Errorf("kept out %d for one time", n)
					}
				}
				if strings.Contains(w.log.String(), "proven=true") {
					t.Error("the log calls something proven")
				}
				for i, d := range devices {
					want := slices.Contains(c.out, i)
					if got := strings.Contains(w.log.String(), `msg="device kept out" task=desk round=1 attempt=2 device=`+short(d.id)); got != want {
						t.Errorf("device %d is kept out: %v, want %v", i, got, want)
					}
				}
			})
		})
	}
}

// goOn runs a round without the device that is kept out of it.
func (w *world) goOn(t *testing.T, number uint64, out *device, in []*device) uint64 {
	t.Helper()
	reply, err := out.rounds.CheckIn(t.Context(), out.request())
	if err != nil || reply.GetRetryAfterMs() == 0 || !strings.Contains(reply.GetReason(), "this device seems to have broken the protocol and is kept out") {
		t.Fatalf("round %d: the device that is kept out is told %v, %v", number, reply, err)
	}
	walks := gather(t, in...)
	if got := walks[0].at.GetRound(); got != number {
		t.Fatalf("round %d, want %d", got, number)
	}
	each(t, len(in), func(i int) error { return walks[i].steps(t.Context(), all) })
	return number + 1
}

// An exclusion ends by its time where there are too few others for the rounds that it is
// counted in; and a message that is refused is forgiven once.
func TestExclusionEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, devices := fleet(t, 3, spec(3, 3), Options{})
		for caught := range 2 {
			walks := gather(t, devices...)
			_, err := walks[0].rounds.Advertise(t.Context(), &pb.AdvertiseRequest{Step: walks[0].at, Advert: []byte("x")})
			wants(t, "noise", err, codes.InvalidArgument)
			synctest.Wait()
			if n := w.log.count("device kept out"); n != caught {
				t.Errorf("caught %d times, kept out %d times", caught+1, n)
			}
		}
		reply, err := devices[0].rounds.CheckIn(t.Context(), devices[0].request())
		if err != nil || reply.GetRetryAfterMs() != 64_000 {
			t.Errorf("told %v, %v; want to come in eight deadlines of 8 s", reply, err)
		}
		<-time.After(64 * time.Second)
		gather(t, devices...)
	})
}

func TestRevokedDeviceIsTakenIntoNoRound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, devices := fleet(t, 4, spec(4, 3), Options{})
		told := make(chan *pb.CheckInResponse, 1)
		go func() {
			reply, err := devices[3].rounds.CheckIn(t.Context(), devices[3].request())
			if err != nil {
				t.Error(err)
			}
			told <- reply
		}()
		synctest.Wait()
		machine, err := ca.OpenMachine(w.dir, w.Coordinator.log, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		list := revoke(t, machine, w.dir, w.dir, devices[3].id)
		walks := gather(t, devices[:3]...)
		if reply := <-told; !strings.Contains(reply.GetReason(), "revoked") {
			t.Errorf("the revoked device is told %v", reply)
		}
		read, err := secagg.VerifyRevocations(w.authority.PublicKey(), list)
		if err != nil || !read.Has(devices[3].id) || len(walks[0].plan.GetRevocationsSha256()) != 32 {
			t.Errorf("the plan names no list of revoked devices: %v", err)
		}
		// One that is revoked when it is in a round already loses its place by its next call.
		revoke(t, machine, w.dir, w.dir, devices[2].id)
		wants(t, "its advert", walks[2].advertise(t.Context()), codes.PermissionDenied, "revoked")
	})
}
