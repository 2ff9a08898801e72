package secagg

import (
	"fmt"
	"slices"
	"sync"
)

// keeping is what a device keeps for the others until Reveal, by the neighbour's slot.
type keeping struct {
	session   *session
	self      int
	signer    Signer
	sharers   bitmap // by place
	opened    bitmap // whose shares are here
	sigma, b  [][scalarSize]byte
	levels    [][scalarSize]byte // of a neighbour's levels one behind the other
	pairs     []digest           // seeds of the masks in common
	ownShare  [scalarSize]byte   // of the device's own b, on the complete graph
	ownLevels [][scalarSize]byte // and of its secrets of levels
}

func newKeeping(s *session, self int, signer Signer, sharers bitmap) *keeping {
	k := s.graph.k
	return &keeping{
		session: s, self: self, signer: signer, sharers: sharers, opened: newBitmap(k),
		sigma: make([][scalarSize]byte, k), b: make([][scalarSize]byte, k), levels: make([][scalarSize]byte, k*s.levels()), pairs: make([]digest, k),
	}
}

// keep keeps the shares that a neighbour sealed for this device.
func (k *keeping) keep(slot int, plain []byte) {
	copy(k.sigma[slot][:], plain)
	copy(k.b[slot][:], plain[scalarSize:])
	n := k.session.levels()
	for i := range n {
		copy(k.levels[slot*n+i][:], plain[(2+i)*scalarSize:])
	}
}

func (k *keeping) wipe() {
	clear(k.sigma)
	clear(k.b)
	clear(k.levels)
	clear(k.pairs)
	clear(k.ownShare[:])
	clear(k.ownLevels)
}

// Masking is a device that may mask one vector.
type Masking struct {
	keeping *keeping
	masks   *maskSet
	seeds   []digest // of levels
	accused []*PeerError
	mu      sync.Mutex
	covered spans
	spent   bool
}

// Accused lists the neighbours that the complaint accuses, with what they did.
func (m *Masking) Accused() []*PeerError { return m.accused }

// Seeds are those of Params.Levels, in their order: what the caller adds to its vector by a
// seed, before it masks it, can be taken off the sum again where so many survive. Whoever
// has a seed can take it off, so the caller wipes them.
func (m *Masking) Seeds() [][32]byte { return slices.Clone(m.seeds) }

// Mask adds the device's masks to vector[lo:hi], modulo 2^RingBits. The vector has
// Params.Length words. Ranges that do not overlap may be masked at the same time.
//
// Masks hide one vector only once. Mask therefore panics when a word is masked a
// second time, when the value is spent, and when a range or the vector's length is
// wrong: a caller that went on would send words in clear.
func (m *Masking) Mask(vector []uint32, lo, hi int) {
	length := m.keeping.session.params.Length
	if len(vector) != length || lo < 0 || hi < lo || hi > length {
		panic(fmt.Sprintf("secagg: masking [%d,%d) of a vector of %d words, want a vector of %d", lo, hi, len(vector), length))
	}
	m.claim(lo, hi)
	m.masks.apply(vector[lo:hi], lo)
}

func (m *Masking) claim(lo, hi int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.spent {
		panic("secagg: masking with a value that is spent")
	}
	if !m.covered.add(lo, hi) {
		panic(fmt.Sprintf("secagg: masking [%d,%d) again; the masks hide one vector only", lo, hi))
	}
}

// Done wipes the masks when the whole vector is masked, and panics when it is not.
// No Mask may be running.
func (m *Masking) Done() *Masked {
	m.mu.Lock()
	defer m.mu.Unlock()
	length := m.keeping.session.params.Length
	if m.spent || m.covered.words() != length {
		panic(fmt.Sprintf("secagg: Done after %d of %d words were masked, or called twice", m.covered.words(), length))
	}
	m.spent = true
	m.masks.wipe()
	clear(m.seeds)
	return &Masked{keeping: m.keeping}
}

// Wipe forgets the secrets; the value may not be used from then on. After Done it
// does nothing.
func (m *Masking) Wipe() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.spent {
		m.spent = true
		m.masks.wipe()
		clear(m.seeds)
		m.keeping.wipe()
	}
}

// Masked is a device whose masked vector is on its way and that will agree to one set
// of survivors.
type Masked struct {
	keeping *keeping
	spent   bool
}

// Wipe forgets the secrets; the value answers ErrSpent from then on.
func (m *Masked) Wipe() {
	if !m.spent {
		m.spent = true
		m.keeping.wipe()
	}
}

// Confirm checks the survivors and returns the device's signature under them for the
// server, with the seed of the mask in common with each of them that has accused this
// device and so does not use it. It is the only set that the device agrees to: an error
// ends the attempt for it, a DisputeError where the server may have kept to the protocol,
// and this device has accused too many of those who survive.
func (m *Masked) Confirm(survivors []byte) (*Confirmed, []byte, error) {
	if m.spent {
		return nil, nil, ErrSpent
	}
	k := m.keeping
	s := k.session
	v, err := s.decodeSurvivors(survivors, k.self)
	if err == nil {
		err = k.check(v)
	}
	if err != nil {
		m.Wipe()
		return nil, nil, err
	}
	m.spent = true
	b := append(message(kindConfirm, confirmSize(len(v.accusations))), k.signer.sign(s.confirmSigned(k.sharers, v.alive))...)
	for i := range v.accusations {
		// The accuser has signed that it does not use the seed. An honest one has reason
		// to, and another knows the seed.
		accuser := v.accusations[i].place
		if slot := s.graph.slot(k.self, accuser); v.alive.has(accuser) && k.opened.has(slot) {
			b = append(b, k.pairs[slot][:]...)
		}
	}
	return &Confirmed{keeping: k, alive: v.alive}, b, nil
}

// check is everything that must hold of the survivors before the device agrees.
func (k *keeping) check(v *shown) error {
	s := k.session
	if !v.alive.has(k.self) {
		return fmt.Errorf("%w: the survivors leave this device out, which would unmask what it sent", ErrRefused)
	}
	if n := v.alive.count(); n < s.needed() {
		return s.tooFew(n, "survived")
	}
	for _, j := range v.alive.places() {
		if !k.sharers.has(j) {
			return s.blame(j, fmt.Errorf("%w: the survivors name a member whose shares never came", ErrRefused))
		}
	}
	if err := k.checkHeld(v.alive); err != nil {
		return err
	}
	if err := s.checkJoined(v.alive); err != nil {
		return err
	}
	return k.checkSigned(v)
}

// checkHeld holds that the device has shares of enough survivors. A server that keeps to
// the protocol sees to as many neighbours, but not to whom this device has accused.
func (k *keeping) checkHeld(alive bitmap) error {
	s := k.session
	var accused []Dispute
	held := s.own()
	for slot, j := range s.graph.neighbours(k.self) {
		switch {
		case !alive.has(j):
		case k.opened.has(slot):
			held++
		default:
			accused = s.dispute(accused, j, []int{k.self})
		}
	}
	if held >= s.graph.threshold {
		return nil
	}
	err := fmt.Errorf("%w: %d of this device's %d neighbours survived with shares that opened, want %d",
		ErrTooFew, held-s.own(), s.graph.k, s.graph.threshold-s.own())
	if held+len(accused) >= s.graph.threshold {
		return &DisputeError{accused, err}
	}
	return err
}

// checkSigned verifies what the survivors that concern this device have signed.
func (k *keeping) checkSigned(v *shown) error {
	s := k.session
	if s.sparse() {
		for i, j := range s.beside(k.self, v.alive) {
			if !s.verify(j, s.pledgeSigned(j, k.sharers), v.pledges[i]) {
				return s.blame(j, fmt.Errorf("%w: the neighbour has not pledged to mask with all its neighbours among those who shared; it may not have been shown them all", ErrForged))
			}
		}
	}
	for i := range v.accusations {
		c := &v.accusations[i]
		if s.graph.slot(k.self, c.place) < 0 || !s.verify(c.place, s.complaintSigned(c.place, k.self, c.reason), c.signature[:]) {
			return s.blame(c.place, fmt.Errorf("%w: an accusation that this neighbour did not sign", ErrForged))
		}
	}
	return nil
}

// Confirmed is a device that has agreed to a set of survivors and will help to remove
// the masks of their sum when enough others have.
type Confirmed struct {
	keeping *keeping
	alive   bitmap
	spent   bool
}

// Wipe forgets the secrets; the value answers ErrSpent from then on.
func (c *Confirmed) Wipe() {
	if !c.spent {
		c.spent = true
		c.keeping.wipe()
	}
}

// Reveal checks the quorum and returns the message for the server: for each member
// whose share is here exactly one share, of b where it survived and of σ where it did
// not; and the seed of the mask in common with each that did not survive. Of each survivor
// there is also a share for the highest of Params.Levels that their number reaches. The value is
// spent; the message may be sent as often as need be.
func (c *Confirmed) Reveal(quorum []byte) ([]byte, error) {
	if c.spent {
		return nil, ErrSpent
	}
	defer c.Wipe()
	k := c.keeping
	s := k.session
	if err := s.checkQuorum(quorum, k.sharers, c.alive); err != nil {
		return nil, err
	}
	h := s.survivorsHash(k.sharers, c.alive)
	n, level := s.levels(), s.params.reached(c.alive.count())
	b := append(message(kindReveal, revealSize(s.shares(), s.graph.k, s.shares())), h[:]...)
	own := s.own() == 1
	for slot, j := range s.graph.neighbours(k.self) {
		if own && j > k.self {
			b, own = k.appendOwn(b, level), false
		}
		if !k.opened.has(slot) {
			continue
		}
		if c.alive.has(j) {
			b = append(b, k.b[slot][:]...)
			if level > 0 {
				b = append(b, k.levels[slot*n+level-1][:]...)
			}
		} else {
			b = append(b, k.sigma[slot][:]...)
			b = append(b, k.pairs[slot][:]...)
		}
	}
	if own {
		b = k.appendOwn(b, level)
	}
	return b, nil
}

// appendOwn appends the device's shares of its own secrets.
func (k *keeping) appendOwn(b []byte, level int) []byte {
	b = append(b, k.ownShare[:]...)
	if level > 0 {
		b = append(b, k.ownLevels[level-1][:]...)
	}
	return b
}
