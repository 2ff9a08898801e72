package secagg

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// Steps after which a device may vanish.
const (
	beforeAdvertise = iota
	afterAdvertise
	afterShare
	afterSubmit
)

var vanishNames = []string{"before advertise", "after advertise", "after share", "after submit"}

// run takes the rig through an attempt in which some devices vanish at the step. It
// returns the survivors, or the error with the name of the step that failed.
func (r *rig) run(step int, gone []int) ([]int, error) {
	r.t.Helper()
	at := func(s int) []int {
		if step < s {
			return without(r.all(), gone...)
		}
		return r.all()
	}
	if err := r.advertise(at(afterAdvertise)); err != nil {
		return nil, fmt.Errorf("advertise: %w", err)
	}
	if err := r.share(at(afterShare)); err != nil {
		return nil, fmt.Errorf("share: %w", err)
	}
	survivors := at(afterSubmit)
	if err := r.submit(survivors); err != nil {
		return nil, fmt.Errorf("submit: %w", err)
	}
	if err := r.finish(at(afterSubmit + 1)); err != nil {
		return nil, fmt.Errorf("reveal: %w", err)
	}
	return survivors, nil
}

func TestProtocol(t *testing.T) {
	for _, n := range []int{3, 4, 5, 10, 30} {
		for step, name := range vanishNames {
			tolerated := min(n/3, n-MinCohort)
			if step == beforeAdvertise {
				tolerated = n - MinCohort // the roster is simply smaller
			} else if step == afterSubmit {
				tolerated = n / 3 // they are in the sum all the same
			}
			for lost := range tolerated + 1 {
				if n > 5 && lost > 0 && lost < tolerated || n > 10 && lost < tolerated {
					continue // the ends are enough where a run takes long
				}
				t.Run(fmt.Sprintf("n=%d, %d lost %s", n, lost, name), func(t *testing.T) {
					testSum(t, n, step, lost)
				})
			}
			t.Run(fmt.Sprintf("n=%d, %d lost %s aborts", n, tolerated+1, name), func(t *testing.T) {
				testAbort(t, n, step, tolerated+1)
			})
		}
	}
}

// scattered picks devices to lose that are not all neighbours.
func scattered(n, count int) []int {
	gone := make([]int, 0, count)
	for i := 0; len(gone) < count; i++ {
		gone = append(gone, i*2%n+(i*2/n)%2*(1-n%2))
	}
	return gone
}

func testSum(t *testing.T, n, step, lost int) {
	r := newRig(t, uint64(n*10+step), n)
	survivors, err := r.run(step, scattered(n, lost))
	if err != nil {
		t.Fatal(err)
	}
	if want := r.plain(survivors); !slices.Equal(r.sum, want) {
		t.Errorf("sum %v, want %v", r.sum[:10], want[:10])
	}
	wantExpansions := len(survivors)
	if step == afterShare {
		wantExpansions += lost * len(survivors)
	}
	if got := r.unmasking.Expansions(); got != wantExpansions {
		t.Errorf("%d masks expanded, want %d", got, wantExpansions)
	}
	var want []ID
	for _, i := range survivors {
		want = append(want, r.devices[i].id)
	}
	if !slices.Equal(r.unmasking.Survivors(), want) {
		t.Errorf("survivors %v, want %v", r.unmasking.Survivors(), want)
	}
}

func testAbort(t *testing.T, n, step, lost int) {
	r := newRig(t, uint64(n*10+step), n)
	_, err := r.run(step, scattered(n, lost))
	if !errors.Is(err, ErrTooFew) {
		t.Fatalf("error %v, want ErrTooFew", err)
	}
	stepOf := []string{"advertise", "share", "submit", "reveal"}
	if !strings.HasPrefix(err.Error(), stepOf[step]) {
		t.Errorf("aborted with %q, want it in step %s", err, stepOf[step])
	}
}

// TestMixedDropouts loses devices in different steps of one attempt.
func TestMixedDropouts(t *testing.T) {
	r := newRig(t, 77, 13)
	all := without(r.all(), 3) // before Advertise: 12 in the roster, threshold 8
	r.must(r.advertise(all))
	sharers := without(all, 0) // after Advertise
	r.must(r.share(sharers))
	survivors := without(sharers, 5, 12) // after Share
	r.must(r.submit(survivors))
	r.must(r.finish(without(survivors, 7))) // after Submit
	if want := r.plain(survivors); !slices.Equal(r.sum, want) {
		t.Errorf("sum %v, want %v", r.sum, want)
	}
}

// TestRepeated sends every message twice, and a few late.
func TestRepeated(t *testing.T) {
	r := newRig(t, 5, 4)
	all := r.all()
	for i := range all {
		d := r.devices[i]
		var err error
		d.advertised, d.advert, err = Advertise(r.params, d.signer, d.rand)
		r.must(err)
		r.must(r.adverts.Add(d.id, d.advert))
		r.must(r.adverts.Add(d.id, d.advert))
	}
	var err error
	r.shares, r.roster, err = r.adverts.Close()
	r.must(err)
	if err := r.adverts.Add(r.devices[0].id, r.devices[0].advert); !errors.Is(err, ErrSpent) {
		t.Errorf("late advert: %v, want ErrSpent", err)
	}
	for i := range all {
		r.shareOne(i)
		r.must(r.shares.Add(r.devices[i].id, r.devices[i].shares))
		r.must(r.shares.Add(r.devices[i].id, slices.Clone(r.devices[i].shares)))
	}
	subs, inboxes, err := r.shares.Close()
	r.must(err)
	r.submissions = subs
	for i := range all {
		r.devices[i].inbox = inboxes[r.devices[i].id]
	}
	if err := r.shares.Add(r.devices[0].id, r.devices[0].shares); !errors.Is(err, ErrSpent) {
		t.Errorf("late shares: %v, want ErrSpent", err)
	}
	r.must(r.submissions.Add(r.devices[0].id))
	r.must(r.submit(all))
	if err := r.submissions.Add(r.devices[0].id); !errors.Is(err, ErrSpent) {
		t.Errorf("late submission: %v, want ErrSpent", err)
	}
	for i := range all {
		d := r.devices[i]
		d.reveal, err = d.done.Reveal(r.survivors)
		r.must(err)
		again, err := d.done.Reveal(r.survivors)
		r.must(err)
		if !slices.Equal(d.reveal, again) {
			t.Error("the second answer differs from the first")
		}
		r.must(r.reveals.Add(d.id, d.reveal))
		r.must(r.reveals.Add(d.id, again))
	}
	r.unmasking, err = r.reveals.Close()
	r.must(err)
	if err := r.reveals.Add(r.devices[0].id, r.devices[0].reveal); !errors.Is(err, ErrSpent) {
		t.Errorf("late reveal: %v, want ErrSpent", err)
	}
	r.unmasking.Range(r.sum, 0, testLength)
	if want := r.plain(all); !slices.Equal(r.sum, want) {
		t.Errorf("sum %v, want %v", r.sum, want)
	}
}

// TestOneWord shows that the sum depends on every masked word.
func TestOneWord(t *testing.T) {
	r := newRig(t, 6, 3)
	r.must(r.advertise(r.all()))
	r.must(r.share(r.all()))
	r.must(r.submit(r.all()))
	r.sum[11] ^= 1 << 20
	r.must(r.finish(r.all()))
	want := r.plain(r.all())
	for w := range want {
		if (r.sum[w] == want[w]) != (w != 11) {
			t.Errorf("word %d is %d, want %d but for word 11", w, r.sum[w], want[w])
		}
	}
}

// TestReplayShows counts a vector twice and loses one: both are visible.
func TestReplayShows(t *testing.T) {
	for name, replay := range map[string]func(r *rig){
		"twice": func(r *rig) { add(r.sum, r.devices[2].masked) },
		"lost":  func(r *rig) { sub(r.sum, r.devices[2].masked) },
		"other": func(r *rig) { sub(r.sum, r.devices[2].masked); add(r.sum, r.devices[1].masked) },
	} {
		r := newRig(t, 8, 4)
		r.must(r.advertise(r.all()))
		r.must(r.share(r.all()))
		r.must(r.submit(r.all()))
		replay(r)
		r.must(r.finish(r.all()))
		if slices.Equal(r.sum[:20], r.plain(r.all())[:20]) {
			t.Errorf("%s: the sum does not show it", name)
		}
	}
}

func add(d, s []uint32) {
	for i := range d {
		d[i] += s[i]
	}
}

func sub(d, s []uint32) {
	for i := range d {
		d[i] -= s[i]
	}
}
