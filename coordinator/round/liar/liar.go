// Package liar plays a device that breaks the secure aggregation protocol under its own
// signature, for the tests of those who have to notice. It is written from
// docs/protocol.md and shares no code with package secagg.
//
// Begin with [New], when the device knows its roster; then change what it would send:
// [Liar.Misdeal] makes shares that do not open, and [Liar.Crook] shares that are not those
// of the secret. It knows the complete graph alone.
package liar

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hpke"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"slices"

	"github.com/discreet-fl/discreet/secagg"
)

const (
	labels   = "discreet/secagg/v4/"
	version  = 4
	header   = 2
	digest   = sha256.Size
	sigSize  = ed25519.SignatureSize
	shareOfB = 'b'
	shareOfσ = 's'

	kindShares = 4
)

// Liar is a member of one cohort.
type Liar struct {
	params  secagg.Params
	key     ed25519.PrivateKey
	members []member // ascending
	self    int
	devices int
	ctx0    []byte
	root    []byte // of the check-ins, as it is signed
	opened  []byte // root of the nonces shown; zero where there is one cohort
	ctx1    []byte // nil until the cohort's number is known
}

// member is what a roster says of one.
type member struct {
	id, nonce     []byte
	channel, mask []byte
	hash          []byte
}

// New is a liar with that key. committed is what its check-in was answered with, and
// adverts are the messages of all members of its cohort, its own among them.
func New(p secagg.Params, key ed25519.PrivateKey, committed []byte, adverts [][]byte) (*Liar, error) {
	l := &Liar{params: p, key: key, devices: int(binary.BigEndian.Uint32(committed[header:])), opened: make([]byte, digest)}
	l.ctx0 = hash("context", u16(version), []byte(p.Task), binary.BigEndian.AppendUint64(nil, p.Round), u32(int(p.Attempt)),
		u32(p.Length), u32(p.RingBits), u32(p.Cohort), u32(p.Corrupt), u32(p.Dropout), u32(int(p.Keys)), p.Plan)
	l.root = hash("committed", u32(l.devices), committed[header+8:header+8+digest])
	for _, advert := range adverts {
		l.members = append(l.members, l.read(advert[header:]))
	}
	slices.SortFunc(l.members, func(a, b member) int { return bytes.Compare(a.id, b.id) })
	own := secagg.DeviceID(key.Public().(ed25519.PublicKey))
	l.self = slices.IndexFunc(l.members, func(m member) bool { return bytes.Equal(m.id, own[:]) })
	if l.self < 0 || len(l.members) > secagg.CompleteGraph {
		return nil, fmt.Errorf("liar: %d adverts, want those of at most %d members, the device's own among them", len(adverts), secagg.CompleteGraph)
	}
	return l, nil
}

// Lot has the liar read in its roster how the cohorts were drawn. Where there is one it
// need not be called.
func (l *Liar) Lot(roster []byte) {
	m := l.members[l.self]
	keys := (len(l.members) - 1) * (len(m.channel) + len(m.mask) + sigSize)
	path := bits.Len(uint(l.devices-1)) * digest
	l.opened = bytes.Clone(roster[len(roster)-keys-path-digest:][:digest])
}

// read cuts an advert.
func (l *Liar) read(advert []byte) member {
	id := secagg.DeviceID(advert[:ed25519.PublicKeySize])
	nonce, keys := advert[32+sigSize:][:digest], advert[32+sigSize+digest:]
	half := (len(keys) - sigSize) / 2
	m := member{id: id[:], nonce: nonce, channel: keys[:half], mask: keys[half : 2*half]}
	advertHash := hash("advert-hash", slices.Concat(advert[:ed25519.PublicKeySize], advert[ed25519.PublicKeySize+sigSize:]))
	m.hash = hash("member", m.id, advert[:ed25519.PublicKeySize], nonce, advertHash)
	return m
}

// cohort is ctx1 of a cohort with that number.
func (l *Liar) cohort(number int) []byte {
	cohorts := u32(secagg.Cohorts(l.devices, l.params.Cohort))
	roster, graph := [][]byte{l.ctx0, l.root, u32(number), cohorts, l.opened}, [][]byte{l.ctx0, l.root}
	for _, m := range l.members {
		roster = append(roster, m.hash)
		graph = append(graph, m.id, m.nonce)
	}
	return hash("cohort", l.ctx0, hash("roster", roster...), hash("graph", graph...))
}

// dealing is a Share message in pieces.
type dealing struct {
	b, own, signature []byte
	parcels           []parcel // for the other members, ascending
}

type parcel struct {
	sealed, sigma, b, ciphertext, pair []byte
}

// sizes are the lengths of a sealed pair of shares and of a ciphertext.
func (l *Liar) sizes() (sealed, ciphertext int) {
	if l.params.Keys == secagg.Classical {
		return 32 + 64 + 16, 0
	}
	return 1120 + 64 + 16, 1120
}

// open cuts a Share message of the liar. Which parcels hold a ciphertext, and which
// cohort it is for, is found by trying: its signature fits one way only.
func (l *Liar) open(message []byte) (*dealing, error) {
	sealed, ciphertext := l.sizes()
	n := len(l.members) - 1
	f := message[header:]
	encapsulates := (len(f) - 2*digest - sigSize - n*(sealed+2*digest)) / (ciphertext + digest)
	for number := range secagg.Cohorts(l.devices, l.params.Cohort) {
		l.ctx1 = l.cohort(number)
		for ends := range uint64(1) << n {
			if bits.OnesCount64(ends) != encapsulates {
				continue
			}
			rest := slices.Clone(f)
			next := func(size int) (head []byte) { head, rest = rest[:size:size], rest[size:]; return head }
			d := &dealing{b: next(digest), own: next(digest), signature: next(sigSize)}
			for i := range n {
				q := parcel{sealed: next(sealed), sigma: next(digest), b: next(digest)}
				if ends>>i&1 == 1 {
					q.ciphertext, q.pair = next(ciphertext), next(digest)
				}
				d.parcels = append(d.parcels, q)
			}
			if ed25519.Verify(l.key.Public().(ed25519.PublicKey), l.signed(d), d.signature) {
				return d, nil
			}
		}
	}
	return nil, errors.New("liar: the shares are not those of this device in this cohort")
}

// peers are the places of the parcels.
func (l *Liar) peers() []int {
	var places []int
	for i := range l.members {
		if i != l.self {
			places = append(places, i)
		}
	}
	return places
}

// signed is what the signature of a Share message is over.
func (l *Liar) signed(d *dealing) []byte {
	level := make([][]byte, 1<<bits.Len(uint(len(d.parcels)-1)))
	for i := range level {
		level[i] = make([]byte, digest)
	}
	from := l.members[l.self].id
	for i, to := range l.peers() {
		q := d.parcels[i]
		fields := [][]byte{l.ctx1, from, l.members[to].id, q.sealed, q.sigma, q.b}
		if q.pair != nil {
			fields = append(fields, q.ciphertext, q.pair)
		}
		level[i] = hash("leaf", fields...)
	}
	for ; len(level) > 1; level = level[:len(level)/2] {
		for i := range len(level) / 2 {
			level[i] = hash("node", level[2*i], level[2*i+1])
		}
	}
	return transcript("shares", l.ctx1, from, d.b, level[0], d.own)
}

// close signs a dealing and puts it together again.
func (l *Liar) close(d *dealing) []byte {
	message := slices.Concat([]byte{kindShares, version}, d.b, d.own, ed25519.Sign(l.key, l.signed(d)))
	for _, q := range d.parcels {
		message = slices.Concat(message, q.sealed, q.sigma, q.b, q.ciphertext, q.pair)
	}
	return message
}

// change opens a Share message, changes the parcel for a member and closes it again.
func (l *Liar) change(message []byte, victim secagg.ID, f func(d *dealing, q *parcel, to int) error) ([]byte, error) {
	d, err := l.open(message)
	if err != nil {
		return nil, err
	}
	for i, to := range l.peers() {
		if bytes.Equal(l.members[to].id, victim[:]) {
			if err := f(d, &d.parcels[i], to); err != nil {
				return nil, err
			}
			return l.close(d), nil
		}
	}
	return nil, fmt.Errorf("liar: device %v is no other member of the cohort", victim)
}

// Misdeal changes the liar's Share message so that what it sealed for a member does not
// open.
func (l *Liar) Misdeal(message []byte, victim secagg.ID) ([]byte, error) {
	return l.change(message, victim, func(_ *dealing, q *parcel, _ int) error {
		q.sealed[len(q.sealed)-1] ^= 1
		return nil
	})
}

// Crook changes the liar's Share message so that a member gets shares that open and fit
// their commitments, and that no polynomial of the liar's secrets has.
func (l *Liar) Crook(message []byte, victim secagg.ID) ([]byte, error) {
	return l.change(message, victim, func(d *dealing, q *parcel, to int) error {
		from := l.members[l.self]
		plain := make([]byte, 64)
		plain[0], plain[32] = 5, 7 // two scalars, little-endian
		q.sigma = hash("commit-share", l.ctx1, from.id, l.members[to].id, []byte{shareOfσ}, plain[:32])
		q.b = hash("commit-share", l.ctx1, from.id, l.members[to].id, []byte{shareOfB}, plain[32:])
		var ciphertext []byte
		if len(q.ciphertext) > 0 {
			ciphertext = hash("ciphertext", q.ciphertext)
		}
		aad := transcript("sealed", l.ctx1, from.id, l.members[to].id, l.keys(l.self), l.keys(to), d.b, ciphertext)
		kem := hpke.MLKEM768X25519()
		if l.params.Keys == secagg.Classical {
			kem, _ = hpke.NewKEM(0x0020)
		}
		public, err := kem.NewPublicKey(l.members[to].channel)
		if err != nil {
			return err
		}
		enc, sender, err := hpke.NewSender(public, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte(labels+"seal"))
		if err != nil {
			return err
		}
		sealed, err := sender.Seal(aad, plain)
		q.sealed = append(enc, sealed...)
		return err
	})
}

func (l *Liar) keys(place int) []byte {
	m := l.members[place]
	return hash("keys", m.id, m.channel, m.mask)
}

func transcript(label string, fields ...[]byte) []byte {
	b := append(u32(len(labels)+len(label)), labels+label...)
	for _, f := range fields {
		b = append(append(b, u32(len(f))...), f...)
	}
	return b
}

func hash(label string, fields ...[]byte) []byte {
	sum := sha256.Sum256(transcript(label, fields...))
	return sum[:]
}

func u16(n int) []byte { return binary.BigEndian.AppendUint16(nil, uint16(n)) }
func u32(n int) []byte { return binary.BigEndian.AppendUint32(nil, uint32(n)) }
