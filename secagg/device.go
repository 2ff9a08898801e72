package secagg

import (
	"bytes"
	"fmt"
	"io"
	"sync"

	"github.com/cloudflare/circl/group"
)

// Advertised is a device whose advert is on its way and that waits for the roster.
type Advertised struct {
	params  Params
	signer  Signer
	ctx0    digest
	own     advert
	channel keyPair
	sigma   group.Scalar
	spent   bool
}

// Advertise begins an attempt on a device with fresh secrets and returns the
// message for the server. rand is crypto/rand.Reader in earnest: whoever knows its
// bytes knows the masks.
func Advertise(p Params, s Signer, rand io.Reader) (*Advertised, []byte, error) {
	if err := p.check(); err != nil {
		return nil, nil, err
	}
	if err := s.check(p.CA); err != nil {
		return nil, nil, err
	}
	a := &Advertised{params: p, signer: s, ctx0: p.context()}
	var err error
	if a.channel, err = newChannelKey(rand); err != nil {
		return nil, nil, err
	}
	if a.sigma, err = randomScalar(rand); err != nil {
		a.Wipe()
		return nil, nil, err
	}
	mask := maskKey(&a.ctx0, a.sigma)
	mask.wipe() // derived again when it is needed
	copy(a.own.key[:], s.public())
	copy(a.own.credential[:], s.Credential)
	a.own.id = DeviceID(s.public())
	a.own.channel, a.own.mask = a.channel.public, mask.public
	copy(a.own.signature[:], s.sign(a.own.signed(&a.ctx0)))
	return a, a.own.append(message(kindAdvert, advertSize)), nil
}

// Wipe forgets the secrets; the value answers ErrSpent from then on.
func (a *Advertised) Wipe() {
	a.spent = true
	a.channel.wipe()
	wipeScalars(a.sigma)
}

// Share checks the roster, deals shares of the device's two secrets, and returns
// the message for the server. Any error ends the attempt for this device.
func (a *Advertised) Share(roster []byte, rand io.Reader) (*Shared, []byte, error) {
	if a.spent {
		return nil, nil, ErrSpent
	}
	defer a.Wipe()
	s, self, err := checkRoster(a.params, a.ctx0, &a.own, roster)
	if err != nil {
		return nil, nil, err
	}
	b, err := randomScalar(rand)
	if err != nil {
		return nil, nil, err
	}
	defer wipeScalars(b)
	n := len(s.roster)
	sharesSigma, err := deal(a.sigma, s.threshold, n, rand)
	if err != nil {
		return nil, nil, err
	}
	defer wipeScalars(sharesSigma...)
	sharesB, err := deal(b, s.threshold, n, rand)
	if err != nil {
		return nil, nil, err
	}
	defer wipeScalars(sharesB...)
	m := &sharesMessage{commitment: commitment(&s.ctx1, b), sealed: make([][]byte, n)}
	for to := range n {
		if to == self {
			continue
		}
		if m.sealed[to], err = s.sealShares(self, to, m, sharesSigma[to], sharesB[to], rand); err != nil {
			return nil, nil, err
		}
	}
	root := s.leaves(self, m).root()
	copy(m.signature[:], a.signer.sign(s.sharesSigned(self, &m.commitment, &root)))
	shared := &Shared{
		session: s, self: self,
		channel: a.channel, mask: maskKey(&s.ctx0, a.sigma),
		seed: selfSeed(&s.ctx1, b), ownShare: sharesB[self].Copy(),
	}
	return shared, m.encode(), nil
}

func (s *session) sealShares(from, to int, m *sharesMessage, sigma, b group.Scalar, rand io.Reader) ([]byte, error) {
	var plain [sharePair]byte
	defer clear(plain[:])
	*(*[scalarSize]byte)(plain[:]) = encodeScalar(sigma)
	*(*[scalarSize]byte)(plain[scalarSize:]) = encodeScalar(b)
	sealed, err := seal(&s.roster[to].channel, s.sealedContext(from, to, &m.commitment), plain[:], rand)
	if err != nil {
		return nil, &PeerError{s.roster[to].id, err}
	}
	return sealed, nil
}

// Shared is a device that has dealt its shares and waits for the others'.
type Shared struct {
	session  *session
	self     int
	channel  keyPair
	mask     keyPair
	seed     digest       // of the self mask
	ownShare group.Scalar // of b
	spent    bool
}

// Wipe forgets the secrets; the value answers ErrSpent from then on.
func (d *Shared) Wipe() {
	d.spent = true
	d.channel.wipe()
	d.mask.wipe()
	clear(d.seed[:])
	wipeScalars(d.ownShare)
}

// Open checks and opens what the other members sealed for this device. A bad
// entry is a PeerError that names its sender and, like every error, ends the
// attempt for this device: nothing has been masked yet.
func (d *Shared) Open(msg []byte) (*Masking, error) {
	if d.spent {
		return nil, ErrSpent
	}
	defer d.Wipe()
	s := d.session
	n := len(s.roster)
	in, err := decodeInbox(msg, n, d.self)
	if err != nil {
		return nil, err
	}
	sharers := in.shared.places()
	if len(sharers) < s.needed() {
		return nil, s.tooFew(len(sharers), "shared")
	}
	key, err := newOpener(&d.channel)
	if err != nil {
		return nil, err
	}
	k := &keeping{session: s, self: d.self, shared: in.shared, sigma: make([]group.Scalar, n), b: make([]group.Scalar, n)}
	k.b[d.self] = d.ownShare.Copy()
	masks := &maskSet{}
	masks.add(&d.seed, false)
	for _, from := range sharers {
		if from == d.self {
			continue
		}
		if err := k.open(key, from, in.entries[from]); err != nil {
			k.wipe()
			return nil, err
		}
		seed, err := pairSeed(s, min(from, d.self), max(from, d.self), &d.mask.secret, &s.roster[from].mask)
		if err != nil {
			k.wipe()
			return nil, &PeerError{s.roster[from].id, err}
		}
		masks.add(&seed, from < d.self)
		clear(seed[:])
	}
	return &Masking{keeping: k, masks: masks}, nil
}

// keeping is the shares a device keeps for the others until Reveal, by roster
// place.
type keeping struct {
	session *session
	self    int
	shared  bitmap
	sigma   []group.Scalar // nil at self
	b       []group.Scalar
}

func (k *keeping) wipe() {
	wipeScalars(k.sigma...)
	wipeScalars(k.b...)
}

// open verifies the sender's signature, then opens the seal and keeps the shares.
func (k *keeping) open(key *opener, from int, e *inboxEntry) error {
	s := k.session
	root := rootOf(s.leaf(from, k.self, e.sealed, &e.commitment), k.self, e.path)
	if err := s.verifyShares(from, &e.commitment, &root, e.signature[:]); err != nil {
		return err
	}
	plain, err := key.open(e.sealed, s.sealedContext(from, k.self, &e.commitment))
	if err != nil {
		return &PeerError{s.roster[from].id, err}
	}
	defer clear(plain)
	if len(plain) != sharePair {
		return &PeerError{s.roster[from].id, fmt.Errorf("%w: sealed shares of %d bytes, want %d", ErrMalformed, len(plain), sharePair)}
	}
	if k.sigma[from], err = decodeScalar(plain[:scalarSize]); err != nil {
		return &PeerError{s.roster[from].id, err}
	}
	if k.b[from], err = decodeScalar(plain[scalarSize:]); err != nil {
		return &PeerError{s.roster[from].id, err}
	}
	return nil
}

// Masking is a device that may mask one vector.
type Masking struct {
	keeping *keeping
	masks   *maskSet
	mu      sync.Mutex
	covered spans
	spent   bool
}

// Mask adds the device's masks to vector[lo:hi], modulo 2^32. The vector has
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
		m.keeping.wipe()
	}
}

// Masked is a device whose masked vector is on its way and that will help to
// remove the masks of one set of survivors.
type Masked struct {
	keeping *keeping
	shown   []byte // the survivors that were answered
	answer  []byte
	spent   bool
}

// Wipe forgets the secrets and the answer; the value answers ErrSpent from then on.
func (m *Masked) Wipe() {
	m.spent = true
	m.keeping.wipe()
	m.answer = nil
}

// Reveal checks the survivors and returns the message for the server: for each
// member that shared exactly one share, of b where it survived and of σ where it
// did not. The same survivors get the same bytes again; after an answer any other
// set is refused. A set that is refused leaves the value as it was.
func (m *Masked) Reveal(survivors []byte) ([]byte, error) {
	if m.spent {
		return nil, ErrSpent
	}
	if m.answer != nil {
		if !bytes.Equal(m.shown, survivors) {
			return nil, fmt.Errorf("%w: this device has revealed for one set of survivors and is shown a second", ErrDiffers)
		}
		return bytes.Clone(m.answer), nil
	}
	k := m.keeping
	s := k.session
	alive, err := decodeSurvivors(survivors, len(s.roster))
	if err != nil {
		return nil, err
	}
	if err := k.checkSurvivors(alive); err != nil {
		return nil, err
	}
	shares := make([]group.Scalar, 0, len(s.roster))
	for _, j := range k.shared.places() {
		if alive.has(j) {
			shares = append(shares, k.b[j])
		} else {
			shares = append(shares, k.sigma[j])
		}
	}
	h := s.survivorsHash(alive)
	m.answer, m.shown = encodeReveal(&h, shares), bytes.Clone(survivors)
	k.wipe()
	return bytes.Clone(m.answer), nil
}

func (k *keeping) checkSurvivors(alive bitmap) error {
	s := k.session
	if !alive.has(k.self) {
		return fmt.Errorf("%w: the survivors leave this device out, which would unmask what it sent", ErrRefused)
	}
	places := alive.places()
	if len(places) < s.needed() {
		return s.tooFew(len(places), "survived")
	}
	for _, j := range places {
		if !k.shared.has(j) {
			return &PeerError{s.roster[j].id, fmt.Errorf("%w: the survivors name a member whose shares never came", ErrRefused)}
		}
	}
	return nil
}
