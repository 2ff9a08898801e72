package round

import (
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/discreet-fl/discreet/secagg"
)

// TestFaultSearch plays thousands of schedules: so many devices in so many cohorts,
// faults at any step, messages in any order, connections that end and come back. What may
// come of each is known from the schedule alone (see model), and who lied. A failure
// prints its seed;
//
//	DISCREET_SEED=17 go test -run FaultSearch ./coordinator/round
//
// plays that schedule alone, and DISCREET_SCHEDULES=100000 so many of them.
func TestFaultSearch(t *testing.T) {
	first, schedules := uint64(0), uint64(manySchedules)
	if testing.Short() {
		schedules = 200
	}
	if text := os.Getenv("DISCREET_SCHEDULES"); text != "" {
		schedules = number(t, text)
	}
	if text := os.Getenv("DISCREET_SEED"); text != "" {
		first, schedules = number(t, text), 1
	}
	var next, aborted, summed, lost atomic.Int64
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for seed := first + uint64(next.Add(1)) - 1; seed < first+schedules && !t.Failed(); seed = first + uint64(next.Add(1)) - 1 {
				s, err := playSeed(t, seed)
				if err != nil {
					t.Errorf("seed %d: %v", seed, err)
					return
				}
				if s.model == nil {
					continue
				}
				if s.model.aborted {
					aborted.Add(1)
				} else {
					summed.Add(1)
					lost.Add(int64(s.model.lost))
				}
			}
		})
	}
	workers.Wait()
	if t.Logf("%d schedules: %d with sums, in which %d cohorts were lost, and %d aborted", schedules, summed.Load(), lost.Load(), aborted.Load()); t.Failed() || schedules < 100 {
		return
	}
	if summed.Load() < int64(schedules)/5 || aborted.Load() < int64(schedules)/10 || lost.Load() == 0 {
		t.Errorf("the test wants some of each")
	}
	for f := range forfeitKinds {
		if forfeits[f].Load() == 0 && schedules >= 1000 {
			t.Errorf("nobody has lost anything in way %d; the table of forfeits has more than there is", f)
		}
	}
}

func number(t *testing.T, text string) uint64 {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// playSeed plays the schedule of a seed.
func playSeed(t testing.TB, seed uint64) (s *stage, err error) {
	_, err = safely(func() *stage {
		s = schedule(t, seed)
		return s
	})
	return s, err
}

// TestFaultsOnSparseGraph plays one schedule with more devices than mask all with each
// other, in which some lost their place when they were accused before they had pledged.
// It takes as long as hundreds of others; DISCREET_SPARSE=10 plays so many of them.
func TestFaultsOnSparseGraph(t *testing.T) {
	seeds := uint64(1)
	if text := os.Getenv("DISCREET_SPARSE"); text != "" {
		seeds = number(t, text)
	}
	for seed := range seeds {
		r := rand.New(rand.NewPCG(seed, 43))
		var s *stage
		_, err := safely(func() *stage {
			s = newStage(t, cast{devices: 110 + r.IntN(20), cohort: 200, keys: secagg.Classical, corrupt: 1000, seed: seed})
			s.trouble(r, 0.1)
			return s
		})
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		t.Logf("seed %d: %d devices, %q", seed, len(s.agents), s.notes)
	}
}

// schedule draws devices and what befalls them.
func schedule(t testing.TB, seed uint64) *stage {
	r := rand.New(rand.NewPCG(seed, 41))
	n := 3 + int(10*r.Float64()*r.Float64())
	if r.IntN(300) == 0 {
		n = []int{15, 20, 30}[r.IntN(3)]
	}
	c := cast{devices: n, cohort: n, keys: secagg.Classical, corrupt: []int{1000, 3333, 0}[n%3], seed: seed}
	if n >= 6 && r.IntN(3) == 0 {
		c.cohort = max(3, (n+1)/2-r.IntN(2))
	}
	if r.IntN(10) == 0 && n < 10 {
		c.keys = secagg.Hybrid
	}
	if r.IntN(8) == 0 {
		c.min = min(4, c.cohort)
	}
	s := newStage(t, c)
	if r.IntN(8) == 0 {
		s.grace = []time.Duration{0, 20 * time.Second}[r.IntN(2)]
	}
	if r.IntN(6) == 0 {
		s.conspire(r)
	}
	s.trouble(r, []float64{0, 0.1, 0.2, 0.4}[r.IntN(4)])
	return s
}

// trouble gives some of the devices faults, and all of them a pace.
func (s *stage) trouble(r *rand.Rand, often float64) {
	c := s.cast
	for _, a := range s.agents {
		for i := 0; i < 2 && r.Float64() < often; i++ {
			step := matrixSteps[r.IntN(len(matrixSteps))]
			if list := faultsIn(step, c); a.faults[step] == nil {
				a.give(step, list[r.IntN(len(list))])
			}
		}
		hurried := time.Duration(1 + r.IntN(3000))
		slow := r.IntN(60) == 0
		a.tardy = a.tardy || slow
		a.pace = func(Step) time.Duration {
			if slow && r.IntN(4) == 0 {
				return time.Duration(r.IntN(15_000)) * time.Millisecond
			}
			return time.Duration(r.IntN(int(hurried))) * time.Millisecond
		}
		if r.IntN(6) == 0 {
			s.shake(r, a)
		}
	}
}

// conspire gives devices faults that tell only together.
func (s *stage) conspire(r *rand.Rand) {
	n := len(s.agents)
	at := r.IntN(n)
	next := func(i int) *agent { return s.agents[(at+i)%n] }
	dealt := func() *fault { return lying[r.IntN(len(lying))] }
	switch r.IntN(6) {
	case 0: // two accuse the same one, which may vanish when it is needed
		next(0).give(complaining, accusingAnother)
		next(1).give(complaining, accusingAnother)
		if r.IntN(2) == 0 {
			next(2).give(Confirm, vanishing)
		}
	case 1: // two deal badly to all
		next(0).give(Share, misdealingAll)
		next(1).give(Share, misdealingAll)
	case 2: // who was dealt to badly does something wrong with its complaint
		list := faultsIn(complaining, s.cast)
		next(0).give(Share, dealt())
		next(1).give(complaining, list[r.IntN(len(list))])
	case 3: // a liar vanishes, and one of those who know its seeds
		next(0).give(Share, dealt())
		next(0).give(Submit, vanishing)
		next(1+r.IntN(n-1)).give(Reveal, vanishing)
	case 4: // one that was dealt another seed vanishes, and the liar when it has confirmed
		next(0).give(Share, anotherSeed)
		next(0).give(Reveal, vanishing)
		next(1+r.IntN(2)).give(complaining, vanishing)
	case 5: // one accuses many, and two of those vanish when they are needed
		next(0).give(complaining, accusingMany)
		next(1).give(Confirm, vanishing)
		next(2).give(Confirm, vanishing)
	}
}

var (
	accusingAnother = named(lies, "accuses another falsely")
	accusingMany    = named(lies, "accuses as many as it can falsely")
	misdealing      = named(lies, "deals shares that do not open")
	misdealingAll   = named(lies, "deals shares to all that do not open")
	anotherSeed     = named(lies, "commits to another seed")
	vanishing       = named(faults, "vanishes before")
	lying           = slices.DeleteFunc(slices.Clone(lies), func(f *fault) bool { return !f.in(Share) || f.fits != nil })
)

func named(list []*fault, name string) *fault {
	return list[slices.IndexFunc(list, func(f *fault) bool { return f.name == name })]
}

// shake lets a device's connection end and come back a few times.
func (s *stage) shake(r *rand.Rand, a *agent) {
	a.tardy = true
	at := time.Duration(0)
	for range 1 + r.IntN(3) {
		at += time.Duration(r.IntN(6000)) * time.Millisecond
		s.after(at, func() { s.gone(a) })
		at += time.Duration(r.IntN(8000)) * time.Millisecond
		s.after(at, func() { s.back(a) })
	}
}

// found are the schedules of failures that were found, with what they were.
var found = []struct {
	seed uint64
	was  string
}{
	{32, "a dealer that had committed to another seed than its own lost its cohort in Confirm, whoever complained of it"},
	{118, "a device that was accused falsely and vanished before its Confirm was said to have spoilt its cohort"},
	{2198, "of two accused members that had not confirmed, chance said which one was blamed"},
}

// TestFaultsFound plays those several times, as some show by chance only.
func TestFaultsFound(t *testing.T) {
	for _, f := range found {
		for range 8 {
			if _, err := playSeed(t, f.seed); err != nil {
				t.Errorf("seed %d: %s: %v", f.seed, f.was, err)
				break
			}
		}
	}
}
