package secagg

import (
	"fmt"
	"io"
	"slices"

	"github.com/cloudflare/circl/group"
)

// Advertised is a device whose advert is on its way and that waits for the roster.
type Advertised struct {
	params    Params
	signer    Signer
	committed *committed
	ctx0      digest
	own       advert
	channel   *channelKey
	sigma     group.Scalar
	spent     bool
}

// Advertise begins an attempt on a device with fresh secrets and returns the message
// for the server. msg is what the server answered the check-in with. rand is
// crypto/rand.Reader in earnest: whoever knows its bytes knows the masks.
func (c *CheckedIn) Advertise(p Params, s Signer, msg []byte, rand io.Reader) (*Advertised, []byte, error) {
	if c.spent {
		return nil, nil, ErrSpent
	}
	defer c.Wipe()
	if err := p.check(); err != nil {
		return nil, nil, err
	}
	if err := s.check(p.CA); err != nil {
		return nil, nil, err
	}
	committed, err := decodeCommitted(msg)
	if err != nil {
		return nil, nil, err
	}
	if err := committed.check(DeviceID(s.public()), &c.commitment); err != nil {
		return nil, nil, err
	}
	a := &Advertised{params: p, signer: s, committed: committed, ctx0: p.context()}
	if a.channel, err = newChannelKey(p.Keys, rand); err != nil {
		return nil, nil, err
	}
	if a.sigma, err = randomScalar(rand); err != nil {
		a.Wipe()
		return nil, nil, err
	}
	mask := newMaskKey(p.Keys, &a.ctx0, a.sigma)
	mask.wipe() // derived again when it is needed
	copy(a.own.key[:], s.public())
	copy(a.own.credential[:], s.Credential)
	a.own.id, a.own.nonce = DeviceID(s.public()), c.nonce
	a.own.channel, a.own.mask = a.channel.public, mask.public
	root := committed.hash()
	copy(a.own.signature[:], s.sign(a.own.signed(&a.ctx0, &root)))
	return a, a.own.append(message(kindAdvert, p.Keys.advertSize())), nil
}

// Wipe forgets the secrets; the value answers ErrSpent from then on.
func (a *Advertised) Wipe() {
	a.spent = true
	a.channel.wipe()
	wipeScalars(a.sigma)
}

// Share checks the roster, deals shares of the device's secrets to its neighbours,
// and returns the message for the server. Any error ends the attempt for this device.
func (a *Advertised) Share(roster []byte, rand io.Reader) (*Shared, []byte, error) {
	if a.spent {
		return nil, nil, ErrSpent
	}
	defer a.Wipe()
	s, self, err := a.check(roster)
	if err != nil {
		return nil, nil, err
	}
	b, err := randomScalar(rand)
	if err != nil {
		return nil, nil, err
	}
	defer wipeScalars(b)
	levels, err := s.newLevels(rand)
	if err != nil {
		return nil, nil, err
	}
	defer wipeScalars(levels...)
	d := &dealer{session: s, self: self, mask: newMaskKey(a.params.Keys, &s.ctx0, a.sigma), rand: rand}
	m, err := d.deal(a.sigma, b, levels)
	if err != nil {
		d.wipe()
		return nil, nil, err
	}
	root := s.leaves(self, m).root()
	copy(m.signature[:], a.signer.sign(s.sharesSigned(self, m, &root)))
	defer clear(d.ownShare[:]) // the copy here; what else d has goes on
	return &Shared{
		session: s, self: self, signer: a.signer, channel: a.channel.copy(), mask: d.mask,
		seed: selfSeed(&s.ctx1, b), levels: seedsOf(levels), ownShare: d.ownShare, ownLevels: d.ownLevels, pairs: d.pairs,
	}, m.encode(s, self), nil
}

// dealer makes a device's dealing.
type dealer struct {
	session   *session
	self      int
	mask      *maskKey
	rand      io.Reader
	ownShare  [scalarSize]byte   // of b; zero on a sparse graph
	ownLevels [][scalarSize]byte // of the secrets of levels; none on a sparse graph
	pairs     []digest           // by slot: seeds of the edges on which this end encapsulates
}

func (d *dealer) wipe() {
	d.mask.wipe()
	clear(d.ownShare[:])
	clear(d.ownLevels)
	clear(d.pairs)
}

// deal shares out σ, b and the secrets of levels, in this order.
func (d *dealer) deal(sigma, b group.Scalar, levels []group.Scalar) (*dealing, error) {
	s := d.session
	shares := make([][]group.Scalar, 2+len(levels)) // by secret, then by holder
	defer func() {
		for _, list := range shares {
			wipeScalars(list...)
		}
	}()
	m := &dealing{b: commitB(&s.ctx1, b)}
	for i, secret := range append([]group.Scalar{sigma, b}, levels...) {
		var err error
		if shares[i], err = deal(secret, s.graph.threshold, s.shares(), d.rand); err != nil {
			return nil, err
		}
		if i >= 2 {
			m.levels = append(m.levels, s.commitLevel(i-1, secret))
		}
	}
	if s.own() == 1 {
		d.keepOwn(m, shares)
	}
	neighbours := s.graph.neighbours(d.self)
	d.pairs = make([]digest, len(neighbours))
	for slot, to := range neighbours {
		i := s.shareIndex(d.self, to)
		plain := make([]byte, 0, s.plainSize())
		for _, list := range shares {
			share := encodeScalar(list[i])
			plain = append(plain, share[:]...)
			clear(share[:])
		}
		q, err := d.parcel(slot, to, &m.b, plain)
		if err != nil {
			return nil, s.blame(to, err)
		}
		m.parcels = append(m.parcels, q)
	}
	return m, nil
}

// keepOwn keeps, and commits to, the dealer's own share of every secret but σ.
func (d *dealer) keepOwn(m *dealing, shares [][]group.Scalar) {
	s := d.session
	d.ownShare = encodeScalar(shares[1][d.self])
	m.ownShare = s.commitShare(d.self, d.self, shareOfB, &d.ownShare)
	d.ownLevels = make([][scalarSize]byte, s.levels())
	for i := range d.ownLevels {
		d.ownLevels[i] = encodeScalar(shares[2+i][d.self])
		m.ownLevels = append(m.ownLevels, s.commitShare(d.self, d.self, byte(i+1), &d.ownLevels[i]))
	}
}

// commitShares commits to the shares that are sealed to a neighbour.
func (s *session) commitShares(from, to int, plain []byte) (q parcel) {
	share := func(i int) *[scalarSize]byte { return (*[scalarSize]byte)(plain[i*scalarSize:]) }
	q.sigma, q.b = s.commitShare(from, to, shareOfSigma, share(0)), s.commitShare(from, to, shareOfB, share(1))
	for g := 1; g <= s.levels(); g++ {
		q.levels = append(q.levels, s.commitShare(from, to, byte(g), share(1+g)))
	}
	return q
}

// parcel makes what one neighbour gets. It wipes the shares, plain.
func (d *dealer) parcel(slot, to int, b *digest, plain []byte) (*parcel, error) {
	s := d.session
	defer clear(plain)
	q := s.commitShares(d.self, to, plain)
	var h *digest
	if s.graph.encapsulates(d.self, to) {
		secret, ciphertext, err := d.mask.encapsulate(s.members[to].id, s.adverts[to].mask)
		if err != nil {
			return nil, err
		}
		defer clear(secret[:])
		sum := ciphertextHash(ciphertext)
		h, q.ciphertext = &sum, ciphertext
		d.pairs[slot] = s.pairSeed(d.self, to, h, &secret)
		q.pair = s.commitPair(d.self, to, &d.pairs[slot])
	}
	var err error
	q.sealed, err = s.params.Keys.seal(s.adverts[to].channel, s.sealedContext(d.self, to, b, h), plain, d.rand)
	return &q, err
}

// Shared is a device that has dealt its shares and waits for the others'.
type Shared struct {
	session   *session
	self      int
	signer    Signer
	channel   *channelKey
	mask      *maskKey
	seed      digest             // of the self mask
	levels    []digest           // seeds
	ownShare  [scalarSize]byte   // of b, on the complete graph
	ownLevels [][scalarSize]byte // of the secrets of levels, on the complete graph
	pairs     []digest           // by slot
	spent     bool
}

// Wipe forgets the secrets; the value answers ErrSpent from then on.
func (d *Shared) Wipe() {
	d.spent = true
	d.channel.wipe()
	d.mask.wipe()
	clear(d.seed[:])
	clear(d.levels)
	clear(d.ownShare[:])
	clear(d.ownLevels)
	clear(d.pairs)
}

// Open checks and opens what the neighbours sealed for this device, and returns the
// complaint, a message that is to be sent before the masked vector. Who dealt badly, by
// its own signature, is accused in it; this device and that one then have no mask in
// common. On a sparse graph it also pledges whom the device masks with; on the complete
// one it is nil where nobody is accused. Every error ends the attempt for this device:
// nothing has been masked yet.
func (d *Shared) Open(msg []byte) (*Masking, []byte, error) {
	if d.spent {
		return nil, nil, ErrSpent
	}
	defer d.Wipe()
	s := d.session
	sharers, entries, err := s.decodeInbox(msg, d.self)
	if err != nil {
		return nil, nil, err
	}
	if !sharers.has(d.self) {
		return nil, nil, fmt.Errorf("%w: the inbox leaves this device out of those who shared", ErrRefused)
	}
	if n := sharers.count(); n < s.needed() {
		return nil, nil, s.tooFew(n, "shared")
	}
	key, err := d.channel.opener()
	if err != nil {
		return nil, nil, err
	}
	k := newKeeping(s, d.self, d.signer, sharers)
	k.ownShare, k.ownLevels = d.ownShare, slices.Clone(d.ownLevels)
	masks, complaint, accused, err := d.openAll(k, key, entries)
	if err == nil && k.opened.count()+s.own() < s.graph.threshold {
		err = fmt.Errorf("%w: the shares of %d of %d neighbours are here and open, want %d", ErrTooFew, k.opened.count(), s.graph.k, s.graph.threshold-s.own())
	}
	if err != nil {
		k.wipe()
		masks.wipe()
		return nil, nil, err
	}
	masks.add(&d.seed, false)
	m := &Masking{keeping: k, masks: masks, seeds: slices.Clone(d.levels), accused: accused}
	if s.sparse() {
		complaint.pledge = d.signer.sign(s.pledgeSigned(d.self, sharers))
	} else if accused == nil {
		return m, nil, nil
	}
	return m, complaint.encode(), nil
}

// openAll opens the entries one by one and accuses whom it must.
func (d *Shared) openAll(k *keeping, key *opener, entries []*inboxEntry) (*maskSet, *complaint, []*PeerError, error) {
	s := d.session
	masks, complaint := &maskSet{bits: s.params.RingBits}, &complaint{}
	var accused []*PeerError
	for slot, from := range s.graph.neighbours(d.self) {
		e := entries[slot]
		if e == nil {
			continue
		}
		root := rootOf(s.leaf(from, d.self, e.parcel), s.graph.slot(from, d.self), e.path)
		if err := s.verifyShares(from, &e.dealing, &root); err != nil {
			return masks, nil, nil, err
		}
		r, err := d.open(k, key, slot, from, e)
		if err != nil {
			c := accusation{place: from, reason: r}
			copy(c.signature[:], d.signer.sign(s.complaintSigned(d.self, from, r)))
			complaint.accusations = append(complaint.accusations, c)
			accused = append(accused, s.blame(from, fmt.Errorf("%v: %w", r, err)))
			continue
		}
		k.opened.set(slot)
		masks.add(&k.pairs[slot], !s.graph.encapsulates(d.self, from))
	}
	return masks, complaint, accused, nil
}

// open keeps a neighbour's shares and the seed of the mask in common.
func (d *Shared) open(k *keeping, key *opener, slot, from int, e *inboxEntry) (reason, error) {
	s, q := d.session, e.parcel
	var h *digest
	receives := s.graph.encapsulates(from, d.self)
	if receives {
		sum := ciphertextHash(q.ciphertext)
		h = &sum
	}
	plain, err := key.open(q.sealed, s.sealedContext(from, d.self, &e.b, h))
	if err != nil {
		return unopened, err
	}
	defer clear(plain)
	for share := range slices.Chunk(plain, scalarSize) {
		x, err := decodeScalar(share)
		if err != nil {
			return notScalars, err
		}
		wipeScalars(x)
	}
	if c := s.commitShares(from, d.self, plain); c.sigma != q.sigma || c.b != q.b || !slices.Equal(c.levels, q.levels) {
		return uncommitted, ErrMismatch
	}
	if receives {
		secret, err := d.mask.decapsulate(s.adverts[from].mask, q.ciphertext)
		if err != nil {
			return badPair, err
		}
		defer clear(secret[:])
		k.pairs[slot] = s.pairSeed(from, d.self, h, &secret)
		if s.commitPair(from, d.self, &k.pairs[slot]) != q.pair {
			clear(k.pairs[slot][:])
			return badPair, ErrMismatch
		}
	} else {
		k.pairs[slot] = d.pairs[slot]
	}
	k.keep(slot, plain)
	return 0, nil
}
