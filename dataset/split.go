package dataset

import (
	"fmt"
	"math/rand/v2"
	"sort"
	"strconv"
	"strings"
)

// Streams of the generator, so that one seed gives each use numbers of its own.
const (
	streamHoldBack  = 0x686f6c64 // "hold"
	streamIID       = 0x696964   // "iid"
	streamDirichlet = 0x646972   // "dir"
	streamTake      = 0x74616b65 // "take"
)

// MaxDevices bounds the devices of a split.
const MaxDevices = 1_000_000

// Split says how phrases are shared out over devices. The zero Split deals them
// out evenly.
type Split struct {
	ByUser bool
	Alpha  float64 // above zero: the concentration of the Dirichlet split
}

// The range of α that is read: below it each intent goes to one device anyway,
// above it the split is even.
const minAlpha, maxAlpha = 1e-3, 1e6

// ParseSplit reads "iid", "user" or "dirichlet:0.5".
func ParseSplit(text string) (Split, error) {
	switch kind, number, _ := strings.Cut(text, ":"); {
	case text == "iid":
		return Split{}, nil
	case text == "user":
		return Split{ByUser: true}, nil
	case kind == "dirichlet":
		alpha, err := strconv.ParseFloat(number, 64)
		if err != nil || !(alpha >= minAlpha && alpha <= maxAlpha) {
			return Split{}, fmt.Errorf("got the split %q, want dirichlet: and a number from %v to %v, such as dirichlet:0.5", text, minAlpha, maxAlpha)
		}
		return Split{Alpha: alpha}, nil
	}
	return Split{}, fmt.Errorf("got the split %q, want iid, user or dirichlet:0.5", text)
}

// String is what ParseSplit reads.
func (how Split) String() string {
	switch {
	case how.ByUser:
		return "user"
	case how.Alpha != 0:
		return "dirichlet:" + strconv.FormatFloat(how.Alpha, 'g', -1, 64)
	}
	return "iid"
}

// Split shares the training phrases out over devices: every phrase goes to
// exactly one. The same set, devices and seed give the same split on every
// platform.
//
//   - iid: shuffled and dealt in turn.
//   - dirichlet: for each intent p ~ Dir(α·1_devices), and its shuffled phrases
//     are cut in the proportions of p (Hsu, Qi, Brown 2019, arXiv:1909.06335).
//     Nothing is rebalanced, so a device may be left empty.
//   - user: the users in the order of their names are dealt in turn, each with
//     all of their phrases. seed is not used.
func (s *Set) Split(how Split, devices int, seed uint64) ([][]Phrase, error) {
	if devices < 1 || devices > MaxDevices {
		return nil, fmt.Errorf("got %d devices to split over, want 1 to %d", devices, MaxDevices)
	}
	switch {
	case how.ByUser:
		return s.splitByUser(devices)
	case how.Alpha == 0:
		return s.splitEvenly(devices, seed), nil
	case how.Alpha >= minAlpha && how.Alpha <= maxAlpha:
		return s.splitDirichlet(devices, how.Alpha, seed), nil
	}
	return nil, fmt.Errorf("got α = %v, want %v to %v", how.Alpha, minAlpha, maxAlpha)
}

func (s *Set) splitEvenly(devices int, seed uint64) [][]Phrase {
	rng := rand.New(rand.NewPCG(seed, streamIID))
	split := make([][]Phrase, devices)
	for i, j := range rng.Perm(len(s.Train)) {
		split[i%devices] = append(split[i%devices], s.Train[j])
	}
	return split
}

func (s *Set) splitDirichlet(devices int, alpha float64, seed uint64) [][]Phrase {
	rng := rand.New(rand.NewPCG(seed, streamDirichlet))
	byIntent := make([][]Phrase, len(s.Intents))
	for _, p := range s.Train {
		i, _ := s.Index(p.Intent)
		byIntent[i] = append(byIntent[i], p)
	}
	split := make([][]Phrase, devices)
	p := make([]float64, devices)
	for _, phrases := range byIntent {
		rng.Shuffle(len(phrases), func(i, j int) { phrases[i], phrases[j] = phrases[j], phrases[i] })
		dirichlet(rng, alpha, p)
		sum, from := 0.0, 0
		for d := range split {
			sum += p[d]
			// To the nearest: the last sum is within 1e-9 of 1, so the last cut is at the end.
			to := int(float64(sum*float64(len(phrases))) + 0.5)
			split[d] = append(split[d], phrases[from:to]...)
			from = to
		}
	}
	return split
}

func (s *Set) splitByUser(devices int) ([][]Phrase, error) {
	byUser := make(map[string][]Phrase)
	for _, p := range s.Train {
		if p.User == "" {
			return nil, fmt.Errorf("got the training phrase %q without a user, want one on every phrase to split by user; add a column user, or split iid or by dirichlet:0.5", clip(p.Text))
		}
		byUser[p.User] = append(byUser[p.User], p)
	}
	if len(byUser) < devices {
		return nil, fmt.Errorf("got %d users for %d devices, want at least one user a device; ask for %d devices or fewer", len(byUser), devices, len(byUser))
	}
	users := make([]string, 0, len(byUser))
	for user := range byUser {
		users = append(users, user)
	}
	sort.Strings(users)
	split := make([][]Phrase, devices)
	for i, user := range users {
		split[i%devices] = append(split[i%devices], byUser[user]...)
	}
	return split, nil
}
