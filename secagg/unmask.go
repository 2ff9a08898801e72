package secagg

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/cloudflare/circl/group"
)

// Reveals is a server that gathers the survivors' reveals.
type Reveals struct {
	session *session
	cohort  *settled
	quorum  []byte
	got     []*revealed // by place of the revealer
	shares  []int       // by dealer: how many of the shares that are needed of it are here
	spent   bool
}

// revealed is a reveal that was taken.
type revealed struct {
	bytes  []byte
	shares map[int][]byte // by dealer; of b or of σ as the dealer survived or did not
	levels map[int][]byte // by dealer who survived; of the level reached
	seeds  map[int]digest // by neighbour
}

func newReveals(s *session, c *settled, quorum []byte) *Reveals {
	return &Reveals{session: s, cohort: c, quorum: quorum, got: make([]*revealed, len(s.members)), shares: make([]int, len(s.members))}
}

// Members lists the survivors.
func (c *Reveals) Members() []ID { return c.session.ids(c.cohort.survivors.places()) }

// Quorum is the answer to every survivor's signature.
func (c *Reveals) Quorum() []byte { return c.quorum }

// Add takes a survivor's reveal and holds every share and seed in it against what was
// committed to.
func (c *Reveals) Add(from ID, msg []byte) error {
	if c.spent {
		return ErrSpent
	}
	s := c.session
	place, ok := s.place(from)
	if !ok || !c.cohort.survivors.has(place) {
		return &PeerError{from, fmt.Errorf("%w: not a survivor", ErrMember)}
	}
	if before := c.got[place]; before != nil {
		if !bytes.Equal(before.bytes, msg) {
			return &PeerError{from, fmt.Errorf("%w: a second reveal", ErrDiffers)}
		}
		return nil
	}
	r, err := c.decode(place, msg)
	if err != nil {
		return &PeerError{from, err}
	}
	c.got[place] = r
	for dealer := range r.shares {
		c.shares[dealer]++
	}
	return nil
}

// holding is whose shares a survivor holds, in order, itself among them on the
// complete graph.
func (c *Reveals) holding(place int) []int {
	s := c.session
	var dealers []int
	for _, j := range s.graph.neighbours(place) {
		if c.cohort.used(place, j) {
			dealers = append(dealers, j)
		}
	}
	if s.own() == 1 {
		i, _ := slices.BinarySearch(dealers, place)
		dealers = slices.Insert(dealers, i, place)
	}
	return dealers
}

func (c *Reveals) decode(place int, msg []byte) (*revealed, error) {
	dealers, seeds, levels := c.holding(place), 0, 0
	for _, j := range dealers {
		switch {
		case !c.cohort.survivors.has(j):
			seeds++
		case c.cohort.level > 0:
			levels++
		}
	}
	b, err := body(kindReveal, msg, revealSize(len(dealers), seeds, levels))
	if err != nil {
		return nil, err
	}
	f := fields(b)
	if f.digest() != c.cohort.hash {
		return nil, fmt.Errorf("%w: the reveal is for other survivors or another attempt", ErrMalformed)
	}
	r := &revealed{bytes: msg, shares: make(map[int][]byte, len(dealers)), levels: make(map[int][]byte, levels), seeds: make(map[int]digest, seeds)}
	for _, j := range dealers {
		share := f.next(scalarSize)
		if err := c.checkShare(place, j, (*[scalarSize]byte)(share)); err != nil {
			return nil, err
		}
		r.shares[j] = share
		if !c.cohort.survivors.has(j) {
			seed := f.digest()
			if err := c.cohort.checkSeed(c.session, place, j, &seed); err != nil {
				return nil, err
			}
			r.seeds[j] = seed
		} else if c.cohort.level > 0 {
			share := f.next(scalarSize)
			if err := c.checkLevel(place, j, (*[scalarSize]byte)(share)); err != nil {
				return nil, err
			}
			r.levels[j] = share
		}
	}
	return r, nil
}

// checkShare holds a share against its dealer's commitment, which the revealer has
// checked itself before it masked.
func (c *Reveals) checkShare(holder, dealer int, share *[scalarSize]byte) error {
	s, d := c.session, c.cohort.dealt[dealer]
	secret, want := shareOfB, d.ownShare
	if holder != dealer {
		k := &d.parcels[s.graph.slot(dealer, holder)]
		want = k.b
		if !c.cohort.survivors.has(dealer) {
			secret, want = shareOfSigma, k.sigma
		}
	}
	return c.hold(holder, dealer, secret, share, &want)
}

func (c *Reveals) hold(holder, dealer int, secret byte, share *[scalarSize]byte, want *digest) error {
	if c.session.commitShare(dealer, holder, secret, share) != *want {
		return fmt.Errorf("%w: it reveals another share than device %v dealt to it", ErrMismatch, c.session.members[dealer].id)
	}
	return nil
}

// Ready tells whether enough is here for every mask to be removed.
func (c *Reveals) Ready() bool { return !c.spent && c.lacks() == nil }

// lacks says what is missing.
func (c *Reveals) lacks() error {
	t := c.session.graph.threshold
	for _, j := range c.cohort.shared.places() {
		if c.shares[j] < t && (c.cohort.survivors.has(j) || !c.answered(j)) {
			return fmt.Errorf("%w: %d shares of a member's secret were revealed, the threshold is %d", ErrTooFew, c.shares[j], t)
		}
	}
	return nil
}

// answered tells whether every survivor that masked with a member that did not survive
// has revealed the seed.
func (c *Reveals) answered(j int) bool {
	for _, i := range c.session.graph.neighbours(j) {
		if c.cohort.survivors.has(i) && c.cohort.used(i, j) && c.got[i] == nil {
			return false
		}
	}
	return true
}

// Wipe forgets the shares; the value answers ErrSpent from then on.
func (c *Reveals) Wipe() {
	c.spent = true
	for _, r := range c.got {
		if r != nil {
			clear(r.bytes)
			clear(r.seeds)
		}
	}
	clear(c.cohort.alone)
	c.got = nil
}

// Close reconstructs the secrets and checks them against what their dealers
// committed to. While something is missing it fails and leaves the value open; a secret
// that does not match ends the attempt, and the error names its dealer, as each share
// is the one that the dealer committed to.
func (c *Reveals) Close() (*Unmasking, error) {
	if c.spent {
		return nil, ErrSpent
	}
	if err := c.lacks(); err != nil {
		return nil, err
	}
	defer c.Wipe()
	s := c.session
	u := &Unmasking{length: s.params.Length, survivors: s.ids(c.cohort.survivors.places()), masks: &maskSet{bits: s.params.RingBits}}
	u.seeds = make([][][32]byte, c.cohort.level)
	for i := range u.seeds {
		u.seeds[i] = make([][32]byte, 0, len(u.survivors)) // appending moves none
	}
	w := &unmasker{reveals: c, masks: u.masks, seeds: u.seeds}
	for _, j := range c.cohort.shared.places() {
		remove := w.survivor
		if !c.cohort.survivors.has(j) {
			remove = w.vanished
		}
		if err := remove(j); err != nil {
			u.Wipe()
			return nil, err
		}
	}
	return u, nil
}

// unmasker gathers the masks that are to be removed.
type unmasker struct {
	reveals *Reveals
	masks   *maskSet
	seeds   [][]digest // by level reached
	places  []int      // of the shares for which coefficients hold
	lambda  lagrange
}

// secret interpolates a dealer's secret from the first shares that suffice: of b or σ, as
// it survived or not, or of the level reached.
func (w *unmasker) secret(dealer int, ofLevel bool) (group.Scalar, error) {
	c := w.reveals
	s, t := c.session, c.session.graph.threshold
	places, shares := make([]int, 0, t), make([]group.Scalar, 0, t)
	defer func() { wipeScalars(shares...) }()
	take := func(holder int) error {
		r := c.got[holder]
		if r == nil || len(shares) == t {
			return nil
		}
		share := r.shares[dealer]
		if ofLevel {
			share = r.levels[dealer]
		}
		if share != nil {
			x, err := decodeScalar(share)
			if err != nil {
				return s.blame(dealer, err)
			}
			places, shares = append(places, s.shareIndex(dealer, holder)), append(shares, x)
		}
		return nil
	}
	holders := s.graph.neighbours(dealer)
	if s.own() == 1 {
		i, _ := slices.BinarySearch(holders, dealer)
		holders = slices.Insert(slices.Clone(holders), i, dealer)
	}
	for _, holder := range holders {
		if err := take(holder); err != nil {
			return nil, err
		}
	}
	if !slices.Equal(places, w.places) {
		lambda, err := newLagrange(places)
		if err != nil {
			return nil, err
		}
		w.places, w.lambda = places, lambda
	}
	return w.lambda.secret(shares), nil
}

// survivor takes off what a survivor put on alone: its own mask, and those it had in
// common with members that accused it.
func (w *unmasker) survivor(j int) error {
	c := w.reveals
	s := c.session
	b, err := w.secret(j, false)
	if err != nil {
		return err
	}
	defer wipeScalars(b)
	if commitB(&s.ctx1, b) != c.cohort.dealt[j].b {
		return w.mismatch(j, "b")
	}
	seed := selfSeed(&s.ctx1, b)
	defer clear(seed[:])
	w.masks.add(&seed, true)
	for accuser, pair := range c.cohort.alone[j] {
		w.masks.add(&pair, s.graph.encapsulates(j, accuser))
	}
	return w.levels(j)
}

// vanished takes off what the survivors put on with a member that did not survive: by
// the seeds they revealed, and where one did not, from the member's σ.
func (w *unmasker) vanished(j int) error {
	c := w.reveals
	s := c.session
	var key *maskKey
	for _, i := range s.graph.neighbours(j) {
		if !c.cohort.survivors.has(i) || !c.cohort.used(i, j) {
			continue
		}
		var seed digest
		if r := c.got[i]; r != nil {
			seed = r.seeds[j]
		} else {
			var err error
			if key == nil {
				if key, err = w.maskKey(j); err != nil {
					return err
				}
				defer key.wipe()
			}
			if seed, err = w.regain(key, j, i); err != nil {
				return err
			}
		}
		w.masks.add(&seed, s.graph.encapsulates(i, j)) // i added the mask where it encapsulated
		clear(seed[:])
	}
	return nil
}

// maskKey is a vanished member's mask key pair.
func (w *unmasker) maskKey(j int) (*maskKey, error) {
	s := w.reveals.session
	sigma, err := w.secret(j, false)
	if err != nil {
		return nil, err
	}
	defer wipeScalars(sigma)
	key := newMaskKey(s.params.Keys, &s.ctx0, sigma)
	if !bytes.Equal(key.public, s.adverts[j].mask) {
		key.wipe()
		return nil, w.mismatch(j, "σ")
	}
	return key, nil
}

// regain computes the seed between a vanished member, whose key is at hand, and a
// neighbour.
func (w *unmasker) regain(key *maskKey, j, i int) (digest, error) {
	s, dealt := w.reveals.session, w.reveals.cohort.dealt
	from, to := i, j
	if s.graph.encapsulates(j, i) {
		from, to = j, i
	}
	k := &dealt[from].parcels[s.graph.slot(from, to)]
	var secret digest
	var err error
	ciphertext := k.ciphertext
	if from == j {
		if secret, ciphertext, err = key.encapsulate(s.members[i].id, s.adverts[i].mask); err == nil && !bytes.Equal(ciphertext, k.ciphertext) {
			err = fmt.Errorf("%w: the ciphertext is not the one that its σ gives", ErrMismatch)
		}
	} else {
		secret, err = key.decapsulate(s.adverts[i].mask, ciphertext)
	}
	if err != nil {
		return digest{}, s.blame(from, err)
	}
	defer clear(secret[:])
	h := ciphertextHash(ciphertext)
	seed := s.pairSeed(from, to, &h, &secret)
	if s.commitPair(from, to, &seed) != k.pair {
		return digest{}, s.blame(from, fmt.Errorf("%w: the seed of a mask", ErrMismatch))
	}
	return seed, nil
}

func (w *unmasker) mismatch(j int, secret string) error {
	return w.reveals.session.blame(j, fmt.Errorf("%w: %s: the shares that it dealt, each as it committed to it, give another secret", ErrMismatch, secret))
}

// Unmasking removes the masks from the sum of the survivors' vectors.
type Unmasking struct {
	length    int
	survivors []ID
	masks     *maskSet
	seeds     [][][32]byte // by level, then by survivor
}

// Range takes the masks off sum[lo:hi], modulo 2^RingBits. The sum has Params.Length
// words, of which only the low RingBits count before and are left after; every word is to be in
// exactly one range. Ranges that do not overlap may run at the same time. It
// panics when the range or the sum's length is wrong or after Wipe.
func (u *Unmasking) Range(sum []uint32, lo, hi int) {
	if u.masks == nil {
		panic("secagg: unmasking with a value that was wiped")
	}
	if len(sum) != u.length || lo < 0 || hi < lo || hi > u.length {
		panic(fmt.Sprintf("secagg: unmasking [%d,%d) of a sum of %d words, want a sum of %d", lo, hi, len(sum), u.length))
	}
	u.masks.apply(sum[lo:hi], lo)
}

// Expansions is the number of masks that are removed, each as long as the vector.
func (u *Unmasking) Expansions() int {
	if u.masks == nil {
		return 0
	}
	return u.masks.count()
}

// Seeds are, for each of Params.Levels that the number of survivors reaches, those of all
// survivors: what they added by them ([Masking.Seeds]) is in the sum, and can be taken off
// it. They are views, and zeros after Wipe.
func (u *Unmasking) Seeds() [][][32]byte { return u.seeds }

// Survivors lists the devices whose vectors the sum is of, ascending.
func (u *Unmasking) Survivors() []ID { return slices.Clone(u.survivors) }

// Wipe forgets the masks and the seeds.
func (u *Unmasking) Wipe() {
	for _, seeds := range u.seeds {
		clear(seeds)
	}
	u.seeds = nil
	if u.masks != nil {
		u.masks.wipe()
		u.masks = nil
	}
}
