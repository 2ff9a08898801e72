package secagg

import (
	"fmt"
	"io"

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

// Share checks the roster, deals shares of the device's two secrets to its neighbours,
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
	d := &dealer{session: s, self: self, mask: newMaskKey(a.params.Keys, &s.ctx0, a.sigma), rand: rand}
	m, err := d.deal(a.sigma, b)
	if err != nil {
		d.wipe()
		return nil, nil, err
	}
	root := s.leaves(self, m).root()
	copy(m.signature[:], a.signer.sign(s.sharesSigned(self, m, &root)))
	return &Shared{
		session: s, self: self, signer: a.signer, channel: a.channel.copy(), mask: d.mask,
		seed: selfSeed(&s.ctx1, b), ownShare: d.ownShare, pairs: d.pairs,
	}, m.encode(s, self), nil
}

// dealer makes a device's dealing.
type dealer struct {
	session  *session
	self     int
	mask     *maskKey
	rand     io.Reader
	ownShare [scalarSize]byte // of b; zero on a sparse graph
	pairs    []digest         // by slot: seeds of the edges on which this end encapsulates
}

func (d *dealer) wipe() {
	d.mask.wipe()
	clear(d.ownShare[:])
	clear(d.pairs)
}

func (d *dealer) deal(sigma, b group.Scalar) (*dealing, error) {
	s := d.session
	t, n := s.graph.threshold, s.shares()
	sharesSigma, err := deal(sigma, t, n, d.rand)
	if err != nil {
		return nil, err
	}
	defer wipeScalars(sharesSigma...)
	sharesB, err := deal(b, t, n, d.rand)
	if err != nil {
		return nil, err
	}
	defer wipeScalars(sharesB...)
	m := &dealing{b: commitB(&s.ctx1, b)}
	if s.own() == 1 {
		d.ownShare = encodeScalar(sharesB[d.self])
		m.ownShare = s.commitShare(d.self, d.self, shareOfB, &d.ownShare)
	}
	neighbours := s.graph.neighbours(d.self)
	d.pairs = make([]digest, len(neighbours))
	for slot, to := range neighbours {
		i := s.shareIndex(d.self, to)
		q, err := d.parcel(slot, to, &m.b, encodeScalar(sharesSigma[i]), encodeScalar(sharesB[i]))
		if err != nil {
			return nil, s.blame(to, err)
		}
		m.parcels = append(m.parcels, q)
	}
	return m, nil
}

// parcel makes what one neighbour gets.
func (d *dealer) parcel(slot, to int, b *digest, sigma, share [scalarSize]byte) (*parcel, error) {
	s := d.session
	var plain [sharePair]byte
	defer clear(plain[:])
	copy(plain[:], sigma[:])
	copy(plain[scalarSize:], share[:])
	q := &parcel{
		sigma: s.commitShare(d.self, to, shareOfSigma, &sigma),
		b:     s.commitShare(d.self, to, shareOfB, &share),
	}
	clear(sigma[:])
	clear(share[:])
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
	q.sealed, err = s.params.Keys.seal(s.adverts[to].channel, s.sealedContext(d.self, to, b, h), plain[:], d.rand)
	return q, err
}

// Shared is a device that has dealt its shares and waits for the others'.
type Shared struct {
	session  *session
	self     int
	signer   Signer
	channel  *channelKey
	mask     *maskKey
	seed     digest           // of the self mask
	ownShare [scalarSize]byte // of b, on the complete graph
	pairs    []digest         // by slot
	spent    bool
}

// Wipe forgets the secrets; the value answers ErrSpent from then on.
func (d *Shared) Wipe() {
	d.spent = true
	d.channel.wipe()
	d.mask.wipe()
	clear(d.seed[:])
	clear(d.ownShare[:])
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
	k.ownShare = d.ownShare
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
	m := &Masking{keeping: k, masks: masks, accused: accused}
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
	masks, complaint := &maskSet{}, &complaint{}
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
	sigma, b := [scalarSize]byte(plain[:scalarSize]), [scalarSize]byte(plain[scalarSize:])
	defer clear(sigma[:])
	defer clear(b[:])
	for _, share := range [][]byte{sigma[:], b[:]} {
		x, err := decodeScalar(share)
		if err != nil {
			return notScalars, err
		}
		wipeScalars(x)
	}
	if s.commitShare(from, d.self, shareOfSigma, &sigma) != q.sigma || s.commitShare(from, d.self, shareOfB, &b) != q.b {
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
	k.sigma[slot], k.b[slot] = sigma, b
	return 0, nil
}
