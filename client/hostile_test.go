package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/discreet-fl/discreet/coordinator/round/liar"
	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/secagg"
)

// lies puts a step's answer through f before a device gets it.
func lies(at pb.Step, f func(answer []byte) []byte) func(pb.Step, []byte, error) ([]byte, error) {
	return func(step pb.Step, answer []byte, err error) ([]byte, error) {
		if step == at && err == nil {
			answer = f(answer)
		}
		return answer, err
	}
}

// flip changes one bit of a message, counted from the end.
func flip(fromEnd int) func([]byte) []byte {
	return func(b []byte) []byte {
		b[len(b)-1-fromEnd] ^= 1
		return b
	}
}

// TestHostileCoordinator has a coordinator break the protocol towards the first of
// five devices. The device must send nothing of a later step, and say who did what.
func TestHostileCoordinator(t *testing.T) {
	const advertise, share, submit, confirm, reveal = pb.Step_STEP_ADVERTISE, pb.Step_STEP_SHARE, pb.Step_STEP_SUBMIT, pb.Step_STEP_CONFIRM, pb.Step_STEP_REVEAL
	const coordinator = "the coordinator broke the protocol"
	for _, c := range []struct {
		name    string
		never   pb.Step // the first step that it must not send
		prepare func(r *rig, all []*guest)
		by      string // in the error and, without the verb, in the log; empty for any device
		err     error
	}{
		{
			"another plan", share, func(r *rig, all []*guest) {
				other := proto.CloneOf(r.plan)
				other.Training.Epochs++
				b, err := proto.Marshal(other)
				if err != nil {
					t.Fatal(err)
				}
				all[0].place.Plan = b
				// Its advert is refused by whoever follows the others' plan, so it is in no
				// roster that they would accept.
				all[0].link.lie = func(step pb.Step, answer []byte, err error) ([]byte, error) {
					if step == advertise {
						return r.roster(all[1]), nil
					}
					return answer, err
				}
			}, coordinator, secagg.ErrRefused,
		},
		{
			"a check-in that was left out", advertise, func(_ *rig, all []*guest) {
				all[0].place.Committed = all[1].place.Committed
			}, coordinator, secagg.ErrForged,
		},
		{
			"a roster without it", share, func(r *rig, all []*guest) {
				all[0].link.lie = func(step pb.Step, answer []byte, err error) ([]byte, error) {
					if step == advertise {
						return r.roster(all[1]), nil
					}
					return answer, err
				}
			}, "", nil,
		},
		{
			"a roster with a bit changed", share, func(_ *rig, all []*guest) {
				all[0].link.lie = lies(advertise, flip(0))
			}, "", nil,
		},
		{
			"half a roster", share, func(_ *rig, all []*guest) {
				all[0].link.lie = lies(advertise, func(b []byte) []byte { return b[:len(b)/2] })
			}, coordinator, secagg.ErrMalformed,
		},
		{
			"shares that their sender did not sign", submit, func(_ *rig, all []*guest) {
				all[0].link.lie = lies(share, flip(0))
			}, "", secagg.ErrForged,
		},
		{
			"survivors without it", confirm, func(r *rig, all []*guest) {
				all[0].link.lie = lies(submit, func(b []byte) []byte { return without(t, r, b, all[0].id()) })
			}, coordinator, secagg.ErrRefused,
		},
		{
			"a sum over too few", confirm, func(r *rig, all []*guest) {
				all[0].link.lie = lies(submit, func(b []byte) []byte {
					return without(t, r, b, all[1].id(), all[2].id(), all[3].id())
				})
			}, coordinator, secagg.ErrTooFew,
		},
		{
			"two sets of survivors", reveal, func(r *rig, all []*guest) {
				// It confirms one without the second device, and is shown the others' quorum.
				all[0].link.lie = func(step pb.Step, answer []byte, err error) ([]byte, error) {
					switch step {
					case submit:
						return without(t, r, answer, all[1].id()), err
					case confirm:
						<-r.steps[confirm].closed
						return r.reveals.Quorum(), nil
					}
					return answer, err
				}
			}, "", secagg.ErrForged,
		},
		{
			"a forged quorum", reveal, func(_ *rig, all []*guest) {
				all[0].link.lie = lies(confirm, flip(7))
			}, "", secagg.ErrForged,
		},
		{
			"no quorum", reveal, func(_ *rig, all []*guest) {
				all[0].link.lie = lies(confirm, func([]byte) []byte { return nil })
			}, coordinator, secagg.ErrMalformed,
		},
		{
			"a receipt of nothing", 0, func(_ *rig, all []*guest) {
				all[0].link.lie = lies(reveal, func([]byte) []byte { return []byte("done") })
			}, coordinator, nil,
		},
		{
			"a revoked member", share, func(_ *rig, all []*guest) {
				all[0].Revoked = func(id secagg.ID) bool { return id == all[1].id() }
			}, "the second", secagg.ErrRevoked,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, 5, goneFor(c.never, c.name))
				all := r.guests(5)
				var log syncBuffer
				all[0].Logger = slog.New(slog.NewTextHandler(&log, nil))
				all[0].link.edit = func(step pb.Step, after bool, _ proto.Message) error {
					if !after && c.never != 0 && step >= c.never {
						t.Errorf("it sent %v", step)
					}
					return nil
				}
				c.prepare(r, all)
				var group sync.WaitGroup
				for i, g := range all {
					group.Go(func() {
						_, err := g.takePart(t.Context())
						if i == 0 {
							checkBlame(t, err, log.String(), c.by, all, c.err)
						} else if err != nil {
							t.Errorf("device %d: %v", i, err)
						}
					})
				}
				group.Wait()
			})
		})
	}
}

// goneFor is how many of five answer each step when the first sends nothing from a
// step on. One that was told another story may send what the coordinator refuses.
func goneFor(never pb.Step, name string) map[pb.Step]int {
	switch {
	case never == 0:
		return nil
	case name == "another plan":
		never = pb.Step_STEP_ADVERTISE
	case name == "two sets of survivors":
		never = pb.Step_STEP_CONFIRM
	}
	return wantedWithout(5, map[int]pb.Step{0: never})
}

// roster is what a member was answered, once the step is closed.
func (r *rig) roster(g *guest) []byte {
	<-r.steps[pb.Step_STEP_ADVERTISE].closed
	return bytes.Clone(r.steps[pb.Step_STEP_ADVERTISE].answers[g.id()])
}

// without takes members out of a survivors message of the rig's cohort, which is a
// bitmap by place after two bytes of header.
func without(t *testing.T, r *rig, survivors []byte, gone ...secagg.ID) []byte {
	t.Helper()
	for place, id := range r.shares.Members() { // ascending: the places of the roster
		for _, g := range gone {
			if id == g {
				survivors[2+place/8] &^= 1 << (place % 8)
			}
		}
	}
	return survivors
}

// checkBlame holds an error and the log of the device that met it against who broke
// the protocol.
func checkBlame(t *testing.T, err error, log, by string, all []*guest, is error) {
	t.Helper()
	if !errors.Is(err, ErrBroken) || is != nil && !errors.Is(err, is) {
		t.Errorf("got %v, want that somebody broke the protocol, with %v", err, is)
		return
	}
	if by == "the second" {
		by = fmt.Sprintf("device %s broke the protocol", short(all[1].id()))
	}
	who := strings.TrimSuffix(by, " broke the protocol")
	if !strings.Contains(err.Error(), by) || by == "" && !strings.Contains(err.Error(), "device ") && !strings.Contains(err.Error(), "the coordinator ") {
		t.Errorf("the error %q does not say %q", err, by)
	}
	if !strings.Contains(log, "level=WARN") || !strings.Contains(log, `msg="protocol broken"`) || !strings.Contains(log, who) || !strings.Contains(log, "reason=") {
		t.Errorf("the log does not say that %s broke the protocol:\n%s", who, log)
	}
	for _, g := range all {
		if strings.Contains(err.Error()+log, g.id().String()) {
			t.Errorf("a device's whole identifier is shown: %v\n%s", err, log)
		}
	}
}

// TestPlansMinimumHolds has a coordinator go on with fewer devices than its own plan
// says, though as many as each device asks for.
func TestPlansMinimumHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 4, map[pb.Step]int{pb.Step_STEP_ADVERTISE: 3})
		r.plan.SecureAggregation.MinSurvivors = 4
		r.setPlan(r.plan)
		lower := r.params()
		lower.MinSurvivors = 3
		var group sync.WaitGroup
		for i, g := range r.guestsOf(lower, 4) {
			if i == 3 {
				continue // never advertises
			}
			group.Go(func() {
				if _, err := g.takePart(t.Context()); !errors.Is(err, secagg.ErrTooFew) || !errors.Is(err, ErrBroken) {
					t.Errorf("device %d: got %v, want a refusal of a roster below the plan's minimum", i, err)
				}
			})
		}
		group.Wait()
	})
}

// TestSmallCohort has fewer devices advertise than one of them wants in its cohort.
// Nobody broke the protocol: that one leaves, by its own decision.
func TestSmallCohort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 5, map[pb.Step]int{pb.Step_STEP_ADVERTISE: 4, pb.Step_STEP_SHARE: 3, pb.Step_STEP_SUBMIT: 3, pb.Step_STEP_CONFIRM: 3, pb.Step_STEP_REVEAL: 3})
		all := r.guests(5)
		all[0].Bounds.MinCohort = 5
		all[0].link.edit = vanish(pb.Step_STEP_SHARE)
		var group sync.WaitGroup
		for i, g := range all[:4] {
			group.Go(func() {
				_, err := g.takePart(t.Context())
				if i > 0 && err != nil {
					t.Errorf("device %d: %v", i, err)
				}
				if i == 0 && (!errors.Is(err, ErrPlanRefused) || errors.Is(err, ErrBroken) || !strings.Contains(err.Error(), "has 4 members, this device's own minimum is 5")) {
					t.Errorf("got %v, want a refusal of a cohort of four", err)
				}
			})
		}
		group.Wait()
	})
}

// complaining is a Transport that only takes complaints.
type complaining struct {
	Transport
	got []*pb.ComplainRequest
	err error
}

func (c *complaining) Complain(_ context.Context, q *pb.ComplainRequest) (*pb.ComplainResponse, error) {
	c.got = append(c.got, q)
	return &pb.ComplainResponse{}, c.err
}

// TestComplaint holds that a complaint is sent once, and only where there is one, and
// that the log says about whom it is.
func TestComplaint(t *testing.T) {
	var log syncBuffer
	r := newRig(t, 3, nil)
	transport := &complaining{}
	p := r.participant(0, 1)
	p.Logger = slog.New(slog.NewTextHandler(&log, nil))
	a := newAttempt(p, transport, r.plan, Bounds{})
	ends := time.Now().Add(time.Minute)
	if err := a.complain(t.Context(), nil, nil, ends); err != nil || len(transport.got) != 0 || log.String() != "" {
		t.Errorf("nothing to complain about: %v, sent %v, logged %s", err, transport.got, log.String())
	}
	accused := []*secagg.PeerError{{Peer: secagg.ID{0xab, 0xcd}, Err: secagg.ErrMismatch}}
	if err := a.complain(t.Context(), accused, []byte("they did"), ends); err != nil {
		t.Fatal(err)
	}
	if len(transport.got) != 1 || string(transport.got[0].Complaint) != "they did" || transport.got[0].Step.Round != 1 {
		t.Errorf("sent %v", transport.got)
	}
	for _, want := range []string{"level=WARN", `msg="protocol broken"`, `by="device abcd0000"`, "step=share", "does not match its commitment", `msg="complain answered"`} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %s:\n%s", want, log.String())
		}
	}
	transport.err = errGone
	if err := a.complain(t.Context(), accused, []byte("they did"), ends); !errors.Is(err, ErrAttemptEnded) {
		t.Errorf("a complaint that is refused: %v", err)
	}
}

// TestBadDealersAreNotTheCoordinator has two members deal badly to the first device and a
// third vanish. The device is left with shares of too few survivors then, and a
// coordinator that keeps to the protocol cannot help it.
func TestBadDealersAreNotTheCoordinator(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n, gone = 7, 3 // threshold 5
		r := newRig(t, n, wantedWithout(n, map[int]pb.Step{0: pb.Step_STEP_CONFIRM, gone: pb.Step_STEP_SUBMIT}))
		all := r.guests(n)
		var log syncBuffer
		all[0].Logger = slog.New(slog.NewTextHandler(&log, nil))
		for i, g := range all {
			g.link.edit = func(step pb.Step, after bool, request proto.Message) error {
				if q, shares := request.(*pb.ShareRequest); shares && !after && (i == 1 || i == 2) {
					return r.misdeal(g, all[0].id(), q.Shares)
				}
				if i == gone && step == pb.Step_STEP_SUBMIT {
					return errGone
				}
				return nil
			}
		}
		var group sync.WaitGroup
		for i, g := range all {
			group.Go(func() {
				_, err := g.takePart(t.Context())
				switch {
				case i == 0 && (!errors.Is(err, secagg.ErrTooFew) || errors.Is(err, ErrBroken)):
					t.Errorf("got %v, want too few, and nobody who broke the protocol", err)
				case (i == 0 || i == gone) == (err == nil):
					t.Errorf("device %d: %v", i, err)
				}
			})
		}
		group.Wait()
		if strings.Contains(log.String(), "the coordinator") || strings.Count(log.String(), `msg="protocol broken"`) != 2 {
			t.Errorf("the log does not name the two dealers alone:\n%s", log.String())
		}
	})
}

// misdeal spoils, in place, what a member is about to deal to another.
func (r *rig) misdeal(g *guest, victim secagg.ID, shares []byte) error {
	r.mu.Lock()
	var adverts [][]byte
	for _, advert := range r.steps[pb.Step_STEP_ADVERTISE].got {
		adverts = append(adverts, advert)
	}
	r.mu.Unlock()
	l, err := liar.New(r.params(), g.Signer.Key, g.place.Committed, adverts)
	if err != nil {
		return err
	}
	spoilt, err := l.Misdeal(bytes.Clone(shares), victim)
	copy(shares, spoilt)
	return err
}
