package dataset

import (
	"fmt"
	"math/rand/v2"
)

// streamDeal is the generator's stream for dealing so many chats to each device.
const streamDeal = 0x6465616c // "deal"

// MaxDealt bounds the chats of one Deal over all devices: some 50 bytes of memory each.
const MaxDealt = 10_000_000

// Deal gives every device so many chats, and phrases to more than one device where there
// are not enough: no phrase is dealt more than ⌈devices·chats/phrases⌉ times, the fewest
// that it can be, and where it can be avoided none twice to the same device. The same
// set, devices, chats and seed give the same deal on every platform.
//
//   - iid: pass after pass over the phrases, each in an order of its own, is cut into
//     runs of so many chats.
//   - dirichlet: each device draws p ~ Dir(α·1_intents), and each of its chats' intents
//     with p times the intent's share of the phrases, as long as the intent has phrases
//     left to deal; an intent's phrases are dealt pass after pass (Hsu, Qi, Brown 2019,
//     arXiv:1909.06335, whose clients are of one size, too).
//   - user: refused, as users have the chats that they have.
func (s *Set) Deal(how Split, devices, chats int, seed uint64) ([][]Phrase, error) {
	switch {
	case devices < 1 || devices > MaxDevices:
		return nil, fmt.Errorf("got %d devices to deal to, want 1 to %d", devices, MaxDevices)
	case chats < 1 || chats > len(s.Train):
		return nil, fmt.Errorf("got %d chats for each device, want 1 to the %d that there are training phrases", chats, len(s.Train))
	case devices > MaxDealt/chats:
		return nil, fmt.Errorf("got %d devices of %d chats, want at most %d chats together", devices, chats, MaxDealt)
	case how.ByUser:
		return nil, fmt.Errorf("got %d chats for each device with the split by user, whose devices have their users' chats; split iid or by dirichlet:0.5", chats)
	case how.Alpha != 0 && !(how.Alpha >= minAlpha && how.Alpha <= maxAlpha):
		return nil, fmt.Errorf("got α = %v, want %v to %v", how.Alpha, minAlpha, maxAlpha)
	}
	d := &dealer{rng: rand.New(rand.NewPCG(seed, streamDeal)), alpha: how.Alpha, held: make(map[int]bool, chats)}
	passes := (devices*chats-1)/len(s.Train) + 1
	groups := make([][]int, 1)
	if how.Alpha != 0 {
		groups = make([][]int, len(s.Intents))
	}
	for i, p := range s.Train {
		g := 0
		if how.Alpha != 0 {
			g, _ = s.Index(p.Intent)
		}
		groups[g] = append(groups[g], i)
	}
	for _, of := range groups {
		d.decks = append(d.decks, &deck{order: of, next: len(of), passes: passes})
	}
	d.share, d.weight = make([]float64, len(groups)), make([]float64, len(groups))
	split := make([][]Phrase, devices)
	for i := range split {
		split[i] = make([]Phrase, chats)
		for j, n := range d.hand(chats) {
			split[i][j] = s.Train[n]
		}
	}
	return split, nil
}

// dealer hands out places of phrases from decks, one deck an intent, or one of all.
type dealer struct {
	rng           *rand.Rand
	alpha         float64
	decks         []*deck
	held          map[int]bool // by the device that is dealt to
	share, weight []float64    // of each deck: the device's draw, and what it still goes by
}

// deck is phrases that are dealt in passes. What has been dealt in this pass stands
// before next.
type deck struct {
	order        []int
	next, passes int
	held         int // by the device that is dealt to
}

// empty tells whether all passes are dealt.
func (d *deck) empty() bool { return d.next == len(d.order) && d.passes == 0 }

// hand deals one device its chats.
func (d *dealer) hand(chats int) []int {
	clear(d.held)
	for _, deck := range d.decks {
		deck.held = 0
	}
	if d.alpha != 0 {
		dirichlet(d.rng, d.alpha, d.share)
	}
	hand := make([]int, chats)
	for i := range hand {
		hand[i] = d.draw(d.choose())
		d.held[hand[i]] = true
	}
	return hand
}

// choose draws the deck of the next chat: by the device's shares among those with
// phrases left that the device does not have; where there is none such, or its shares of
// them are below the smallest float64, evenly among the phrases that are left.
func (d *dealer) choose() *deck {
	if len(d.decks) == 1 {
		return d.decks[0]
	}
	for _, rule := range []func(i int, deck *deck) float64{
		func(i int, deck *deck) float64 { return float64(d.share[i] * float64(len(deck.order)-deck.held)) },
		func(_ int, deck *deck) float64 { return float64(len(deck.order) - deck.held) },
		func(_ int, deck *deck) float64 { return float64(len(deck.order)) },
	} {
		sum, last := 0.0, -1
		for i, deck := range d.decks {
			d.weight[i] = 0
			if !deck.empty() {
				d.weight[i] = rule(i, deck)
			}
			if d.weight[i] > 0 {
				sum, last = sum+d.weight[i], i
			}
		}
		if last < 0 {
			continue
		}
		at := float64(sum * d.rng.Float64())
		for i, w := range d.weight[:last] {
			if at -= w; at < 0 {
				return d.decks[i]
			}
		}
		return d.decks[last]
	}
	panic("dataset: a deal beyond its passes") // passes·phrases are no fewer than the chats
}

// draw takes the next phrase of a deck that the device does not hold, or the next one
// where it holds all that are left of this pass and there is no other.
func (d *dealer) draw(from *deck) int {
	if from.next == len(from.order) {
		d.rng.Shuffle(len(from.order), func(i, j int) { from.order[i], from.order[j] = from.order[j], from.order[i] })
		from.next, from.passes = 0, from.passes-1
	}
	pick := from.next
	for pick < len(from.order) && d.held[from.order[pick]] {
		pick++
	}
	if pick == len(from.order) {
		pick = from.next
	}
	from.order[pick], from.order[from.next] = from.order[from.next], from.order[pick]
	from.next, from.held = from.next+1, from.held+1
	return from.order[from.next-1]
}
