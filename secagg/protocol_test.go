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
	afterConfirm
)

var vanishNames = []string{"before advertise", "after advertise", "after share", "after submit", "after confirm"}

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
	if err := r.confirm(at(afterConfirm)); err != nil {
		return nil, fmt.Errorf("confirm: %w", err)
	}
	if err := r.finish(at(afterConfirm + 1)); err != nil {
		return nil, fmt.Errorf("reveal: %w", err)
	}
	return survivors, nil
}

func TestProtocol(t *testing.T) {
	t.Parallel()
	for _, keys := range []KeyExchange{Hybrid, Classical} {
		for _, n := range []int{3, 4, 5, 10, 30} {
			for step, name := range vanishNames {
				tolerated := min(n/3, n-MinCohort)
				switch step {
				case beforeAdvertise:
					tolerated = min((n-1)/2, n-MinCohort) // the roster is simply smaller
				case afterSubmit: // they are in the sum all the same, but the others have to sign
					tolerated = min(n/3, n-Quorum(n, 1000))
				case afterConfirm:
					tolerated = n / 3
				}
				for lost := range tolerated + 1 {
					if n > 5 && lost > 0 && lost < tolerated || n > 10 && lost < tolerated {
						continue // the ends are enough where a run takes long
					}
					t.Run(fmt.Sprintf("%v, n=%d, %d lost %s", keys, n, lost, name), func(t *testing.T) {
						testSum(t, keys, n, step, lost)
					})
				}
				if step == afterSubmit {
					tolerated = n - Quorum(n, 1000)
				}
				t.Run(fmt.Sprintf("%v, n=%d, %d lost %s aborts", keys, n, tolerated+1, name), func(t *testing.T) {
					testAbort(t, keys, n, step, tolerated+1)
				})
			}
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

func testSum(t *testing.T, keys KeyExchange, n, step, lost int) {
	r := newRigWith(t, uint64(n*10+step), n, func(p *Params) { p.Keys = keys })
	survivors, err := r.run(step, scattered(n, lost))
	if err != nil {
		t.Fatal(err)
	}
	r.checkSum(survivors)
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

// checkSum holds the sum against the inputs of those who should be in it.
func (r *rig) checkSum(survivors []int) {
	r.t.Helper()
	if want := r.plain(survivors); !slices.Equal(r.sum, want) {
		r.t.Errorf("sum %v, want %v", r.sum[:10], want[:10])
	}
}

func testAbort(t *testing.T, keys KeyExchange, n, step, lost int) {
	r := newRigWith(t, uint64(n*10+step), n, func(p *Params) { p.Keys = keys })
	_, err := r.run(step, scattered(n, lost))
	if !errors.Is(err, ErrTooFew) {
		t.Fatalf("error %v, want ErrTooFew", err)
	}
	stepOf := []string{"advertise", "share", "submit", "confirm", "reveal"}
	if !strings.HasPrefix(err.Error(), stepOf[step]) {
		t.Errorf("aborted with %q, want it in step %s", err, stepOf[step])
	}
}

// TestSparse runs a cohort above the complete graph's size with members lost in every
// step.
func TestSparse(t *testing.T) {
	t.Parallel()
	for _, keys := range []KeyExchange{Hybrid, Classical} {
		t.Run(keys.String(), func(t *testing.T) {
			const n = 120
			r := newRigWith(t, 21, n, func(p *Params) { sparse(p); p.Keys = keys })
			all := without(r.all(), 3)
			r.must(r.advertise(all))
			g := r.shares.session.graph
			if g.complete || g.k >= n/2 {
				t.Fatalf("a graph of degree %d, want a sparse one", g.k)
			}
			sharers := without(all, 0, 50, 77)
			r.must(r.share(sharers))
			survivors := without(sharers, 5, 12, 60, 61)
			r.must(r.submit(survivors))
			r.must(r.confirm(without(survivors, 7, 99)))
			r.must(r.finish(without(survivors, 7, 99, 30)))
			r.checkSum(survivors)
		})
	}
}

// TestCohorts splits a round by lot; the cohorts' sums meet.
func TestCohorts(t *testing.T) {
	r := newRigWith(t, 22, 20, func(p *Params) { p.Cohort = 7 })
	for i := range r.devices {
		r.must(r.advertiseOne(i))
		if i != 4 {
			r.must(r.adverts.Add(r.devices[i].id, r.devices[i].advert))
		}
	}
	cohorts, err := r.adverts.Close()
	r.must(err)
	if len(cohorts) != 3 {
		t.Fatalf("%d cohorts, want 3", len(cohorts))
	}
	total := make([]uint32, testLength)
	seen := 0
	for _, shares := range cohorts {
		r.shares = shares
		var who []int
		for i, d := range r.devices {
			if slices.Contains(shares.Members(), d.id) {
				who = append(who, i)
				d.roster, err = shares.Roster(d.id)
				r.must(err)
			}
		}
		seen += len(who)
		clear(r.sum)
		r.must(r.share(who))
		r.must(r.submit(who))
		r.must(r.confirm(who))
		r.must(r.finish(who))
		r.checkSum(who)
		add(total, r.sum)
	}
	if want := r.plain(without(r.all(), 4)); seen != 19 || !slices.Equal(inRing(total, r.params.RingBits), want) {
		t.Errorf("%d members in all cohorts, sum %v, want 19 and %v", seen, total[:4], want[:4])
	}
}

// TestMixedDropouts loses devices in different steps of one attempt.
func TestMixedDropouts(t *testing.T) {
	r := newRig(t, 77, 13)
	all := without(r.all(), 3) // before Advertise: 12 in the roster, threshold 8
	r.must(r.advertise(all))
	sharers := without(all, 0) // after Advertise
	r.must(r.share(sharers))
	survivors := without(sharers, 5) // after Share
	r.must(r.submit(survivors))
	r.must(r.confirm(without(survivors, 7)))   // after Submit
	r.must(r.finish(without(survivors, 7, 1))) // after Confirm
	r.checkSum(survivors)
}

// TestRepeated sends every message twice, and one of each late.
func TestRepeated(t *testing.T) {
	r := newRig(t, 5, 4)
	all := r.all()
	twice := func(step string, send func(i int) error) {
		t.Helper()
		for _, i := range all {
			r.must(send(i))
			if err := send(i); err != nil {
				t.Errorf("%s, again: %v", step, err)
			}
		}
	}
	late := func(step string, send func(i int) error) {
		t.Helper()
		if err := send(0); !errors.Is(err, ErrSpent) {
			t.Errorf("%s, late: %v, want ErrSpent", step, err)
		}
	}
	advert := func(i int) error { return r.adverts.Add(r.devices[i].id, slices.Clone(r.devices[i].advert)) }
	for _, i := range all {
		r.must(r.advertiseOne(i))
	}
	twice("advert", advert)
	cohorts, err := r.adverts.Close()
	r.must(err)
	late("advert", advert)
	r.shares = cohorts[0]
	shares := func(i int) error { return r.shares.Add(r.devices[i].id, slices.Clone(r.devices[i].shares)) }
	for _, i := range all {
		r.devices[i].roster, err = r.shares.Roster(r.devices[i].id)
		r.must(err)
		r.shareOne(i)
	}
	twice("shares", shares)
	r.must(r.closeShares(all))
	late("shares", shares)
	for _, i := range all {
		r.maskOne(i)
		add(r.sum, r.devices[i].masked)
	}
	submit := func(i int) error { return r.submissions.Add(r.devices[i].id) }
	twice("vector", submit)
	r.must(r.closeSubmissions(all))
	late("vector", submit)
	confirm := func(i int) error { return r.confirms.Add(r.devices[i].id, slices.Clone(r.devices[i].confirm)) }
	for _, i := range all {
		d := r.devices[i]
		d.confirmed, d.confirm, err = d.done.Confirm(d.survivors)
		r.must(err)
	}
	twice("confirm", confirm)
	r.reveals, err = r.confirms.Close()
	r.must(err)
	late("confirm", confirm)
	reveal := func(i int) error { return r.reveals.Add(r.devices[i].id, slices.Clone(r.devices[i].reveal)) }
	for _, i := range all {
		r.devices[i].reveal, err = r.devices[i].confirmed.Reveal(r.reveals.Quorum())
		r.must(err)
	}
	twice("reveal", reveal)
	r.unmasking, err = r.reveals.Close()
	r.must(err)
	late("reveal", reveal)
	r.unmasking.Range(r.sum, 0, testLength)
	r.checkSum(all)
}

// TestOneWord shows that the sum depends on every masked word.
func TestOneWord(t *testing.T) {
	r := newRig(t, 6, 3)
	r.must(r.advertise(r.all()))
	r.must(r.share(r.all()))
	r.must(r.submit(r.all()))
	r.sum[11] ^= 1 << 20
	r.must(r.confirm(r.all()))
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
		r.must(r.confirm(r.all()))
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
