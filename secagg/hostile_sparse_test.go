package secagg

import (
	"bytes"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"
)

// On a sparse graph a member has few neighbours, and a server may make it lose as many
// of them as the threshold allows without the rest of the cohort noticing any loss.

// prunedRig is an attempt on a sparse graph in which a victim is shown only the inbox
// entries that keep it going: of every second member around it on the circle, as many
// as the threshold. All have masked, nobody has agreed to survivors.
func prunedRig(t *testing.T, n, victim int) (r *rig, kept []int) {
	t.Helper()
	r = toShares(t, 140, n, sparse)
	g := r.shares.session.graph
	if g.complete || 2*g.threshold > g.k {
		t.Fatalf("a graph of degree %d with threshold %d, want a sparse one with a threshold of half the degree", g.k, g.threshold)
	}
	for d := 1; d <= g.k/2; d++ {
		at := g.position[victim] + d
		if d%2 == 0 {
			at = g.position[victim] + n - d
		}
		kept = append(kept, g.order[at%n])
	}
	r.devices[victim].inbox = r.pruneInbox(victim, without(g.neighbours(victim), kept...)...)
	for _, i := range r.all() {
		r.maskOne(i)
	}
	return r, kept
}

// shownTo is what a server that took every pledge as it came shows a member of a sparse
// graph.
func (r *rig) shownTo(to int, alive bitmap) *shown {
	r.t.Helper()
	s, v := r.shares.session, &shown{alive: alive}
	for _, j := range s.beside(to, alive) {
		c, err := s.decodeComplaint(r.devices[j].complaint)
		r.must(err)
		v.pledges = append(v.pledges, c.pledge)
	}
	return v
}

// TestPrunedEdges plays a server, alone and with no member on its side, that prunes the
// inbox of one member of a sparse graph to the threshold, calls exactly those neighbours
// vanished, whose σ then gives all masks back that the victim has put on, and asks the
// neighbours that it left out for the victim's b. The victim is never asked for
// anything, and the rest of the cohort loses no more members than tolerated. It is the
// pledge that stops it.
func TestPrunedEdges(t *testing.T) {
	t.Parallel()
	const n, victim = 101, 7
	r, gone := prunedRig(t, n, victim)
	s := r.shares.session

	// An honest server notices that the victim pledges for another inbox than it sent.
	_, err := r.submissions.Complain(r.devices[victim].id, r.devices[victim].complaint)
	wantRefusal(t, err, ErrForged, r.id(victim))
	wantRefusal(t, r.submissions.Admit(r.devices[victim].id), ErrRefused, r.id(victim))

	alive := setOf(n, without(r.all(), gone...)...)
	signatures := make(map[int][]byte)
	refused := 0
	for _, i := range without(alive.places(), victim) {
		c, confirm, err := r.devices[i].done.Confirm(r.shownTo(i, alive).encode())
		if s.graph.slot(victim, i) >= 0 {
			wantRefusal(t, err, ErrForged, r.id(victim))
			refused++
			continue
		}
		r.must(err)
		r.devices[i].confirmed, signatures[i] = c, confirm[headerSize:]
	}
	if want := s.graph.k - len(gone); refused != want {
		t.Errorf("%d neighbours refuse, want %d", refused, want)
	}
	// The others are a quorum and go on. None of them holds a share of the victim's.
	if len(signatures) < s.quorum {
		t.Fatalf("%d signatures, want %d, so that the attack is not stopped by something else", len(signatures), s.quorum)
	}
	signers := newBitmap(n)
	for i := range signatures {
		signers.set(i)
	}
	for i := range signatures {
		_, err := r.devices[i].confirmed.Reveal(encodeQuorum(signers, signatures))
		r.must(err)
	}
}

// TestHostilePledges shows a member pledges that are none.
func TestHostilePledges(t *testing.T) {
	t.Parallel()
	const n = 101
	r := toShares(t, 141, n, sparse)
	g := r.shares.session.graph
	_, _, err := r.devices[3].shared.again().Open(r.pruneInbox(3, g.neighbours(3)[g.threshold-1:]...))
	wantRefusal(t, err, ErrTooFew, nil)
	for _, i := range r.all() {
		r.maskOne(i)
	}
	s, all := r.shares.session, setOf(n, r.all()...)
	good := r.shownTo(3, all)
	beside := s.beside(3, all)
	forge := func(slot int, pledge []byte) []byte {
		v := &shown{alive: all, pledges: slices.Clone(good.pledges)}
		v.pledges[slot] = pledge
		return v.encode()
	}
	for name, test := range map[string]struct {
		kind   error
		blamed int
		msg    []byte
	}{
		"forged":             {ErrForged, beside[4], forge(4, flipped(good.pledges[4], 5))},
		"another member's":   {ErrForged, beside[4], forge(4, good.pledges[5])},
		"a confirmation":     {ErrForged, beside[4], forge(4, r.devices[beside[4]].signer.sign(s.confirmSigned(all, all)))},
		"for fewer sharers":  {ErrForged, beside[4], forge(4, r.devices[beside[4]].signer.sign(s.pledgeSigned(beside[4], setOf(n, beside...))))},
		"missing":            {ErrMalformed, -1, (&shown{alive: all, pledges: good.pledges[1:]}).encode()},
		"one too many":       {ErrMalformed, -1, (&shown{alive: all, pledges: append(slices.Clone(good.pledges), good.pledges[0])}).encode()},
		"none":               {ErrMalformed, -1, (&shown{alive: all}).encode()},
		"cut within the set": {ErrMalformed, -1, good.encode()[:headerSize+7]},
	} {
		_, _, err := r.devices[3].done.again().Confirm(test.msg)
		t.Run(name, func(t *testing.T) { wantRefusal(t, err, test.kind, r.id(test.blamed)) })
	}

	// A server takes no vector without a pledge, and no pledge but its sender's.
	d := r.devices[8]
	wantRefusal(t, r.submissions.Add(d.id), ErrRefused, &d.id)
	for name, test := range map[string]struct {
		kind error
		msg  []byte
	}{
		"forged":           {ErrForged, flipped(d.complaint, headerSize+3)},
		"another member's": {ErrForged, r.devices[9].complaint},
		"short":            {ErrMalformed, d.complaint[:headerSize+signatureSize-1]},
		"long":             {ErrMalformed, append(bytes.Clone(d.complaint), 0)},
	} {
		_, err := r.submissions.Complain(d.id, test.msg)
		t.Run("server/"+name, func(t *testing.T) { wantRefusal(t, err, test.kind, &d.id) })
	}
	for _, d := range r.devices {
		_, err := r.submissions.Complain(d.id, d.complaint)
		r.must(err)
		r.must(r.submissions.Add(d.id))
		add(r.sum, d.masked)
	}
	r.must(r.closeSubmissions(r.all()))
	if !bytes.Equal(r.devices[3].survivors, good.encode()) {
		t.Error("the survivors that nothing was changed in are not the server's")
	}
	r.end(r.all())
}

// TestPartedCohort plays a server that calls all members of two runs of the circle
// vanished. Every other member still has as many neighbours as it needs, but the sums of
// the two sides could be had one by one.
func TestPartedCohort(t *testing.T) {
	t.Parallel()
	const n = 101
	r := toShares(t, 142, n, sparse)
	for _, i := range r.all() {
		r.maskOne(i)
	}
	g := r.shares.session.graph
	var runs []int
	for d := range g.k / 2 {
		runs = append(runs, g.order[d], g.order[40+d])
	}
	submit := func(i int) {
		d := r.devices[i]
		_, err := r.submissions.Complain(d.id, d.complaint)
		r.must(err)
		r.must(r.submissions.Add(d.id))
		add(r.sum, d.masked)
	}
	sides := without(r.all(), runs...)
	for _, i := range sides {
		submit(i)
		if least := len(g.neighbours(i)) - len(without(g.neighbours(i), sides...)); least < g.threshold {
			t.Fatalf("member %d has %d neighbours left, so that the attack is stopped by something else", i, least)
		}
	}
	alive := setOf(n, sides...)
	for _, i := range sides {
		_, _, err := r.devices[i].done.again().Confirm(r.shownTo(i, alive).encode())
		wantRefusal(t, err, ErrTooFew, nil)
	}
	// One fewer than the threshold between the sides is too few, for the server too.
	back, survivors := runs[:g.threshold], sides
	for _, i := range back {
		_, err := r.submissions.Close()
		wantRefusal(t, err, ErrTooFew, nil)
		submit(i)
		survivors = append(survivors, i)
	}
	slices.Sort(survivors)
	r.must(r.closeSubmissions(survivors))
	r.end(survivors)
}

// TestLeastApart holds the search for gaps to the definition of a cut, over graphs
// small enough to try all: nobody can part the chosen members by taking fewer of them
// away, and where all are chosen that many do.
func TestLeastApart(t *testing.T) {
	for seed := range uint64(12) {
		rng := rand.New(rand.NewPCG(seed, 0))
		n, k := 9+rng.IntN(5), 2+2*rng.IntN(2)
		h := hash("test graph", []byte{byte(seed)})
		g := newGraph(n, k, 1, false, &h)
		chosen := newBitmap(n)
		for i := range n {
			if seed%3 == 0 || rng.IntN(4) > 0 {
				chosen.set(i)
			}
		}
		cut := smallestCut(g, chosen)
		if got := g.leastApart(chosen); got > cut || seed%3 == 0 && got != cut {
			t.Errorf("seed %d: %d of %v on a circle of %d with %d neighbours, the smallest cut has %d", seed, got, chosen.places(), n, k, cut)
		}
	}
}

// smallestCut is the fewest of the chosen members without which the others are not all
// joined, n where there is no such cut.
func smallestCut(g *graph, chosen bitmap) int {
	all, least := uint(0), g.n
	for _, i := range chosen.places() {
		all |= 1 << i
	}
	for left := all; left > 0; left = (left - 1) & all {
		if gone := bits.OnesCount(all &^ left); gone < least && !joined(g, left) {
			least = gone
		}
	}
	return least
}

// joined tells whether a set of members hangs together.
func joined(g *graph, set uint) bool {
	reached := set & -set
	for {
		next := reached
		for i := range g.n {
			if reached>>i&1 == 1 {
				for _, j := range g.neighbours(i) {
					next |= 1 << j & set
				}
			}
		}
		if next == reached {
			return reached == set
		}
		reached = next
	}
}
