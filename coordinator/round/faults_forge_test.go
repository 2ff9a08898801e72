package round

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/hpke"
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"github.com/discreet-fl/discreet/secagg"
)

// forger makes messages that are signed by their sender and wrong inside. Like package
// liar it is written from docs/protocol.md and shares no code with package secagg; it
// knows the circle, so that it need not search for the form of a Share message and
// serves cohorts of any size.
type forger struct {
	stage    *stage
	agent    *agent
	self     int // place
	adverts  [][]byte
	ctx0     []byte
	root     []byte // of the check-ins, as it is signed
	ctx1     []byte
	position []int // on the circle
}

// newForger is for a device that has a cohort.
func newForger(s *stage, a *agent) *forger {
	f := &forger{stage: s, agent: a}
	p, committed := s.params, a.committed
	devices := int(binary.BigEndian.Uint32(committed[2:]))
	f.ctx0 = sum("context", be16(4), []byte(p.Task), binary.BigEndian.AppendUint64(nil, p.Round), be32(int(p.Attempt)),
		be32(p.Length), be32(p.RingBits), be32(p.Cohort), be32(p.Corrupt), be32(p.Dropout), be32(int(p.Keys)), p.Plan)
	f.root = sum("committed", be32(devices), committed[10:42])
	i := s.model.members[a.number]
	if i == nil || i.cohort == nil {
		return f
	}
	graph := [][]byte{f.ctx0, f.root}
	var hashes [][]byte
	for place, m := range i.cohort.members {
		advert := []byte(*m.sent[Advertise])[2:]
		id := s.agents[m.number].id
		nonce := advert[96:128]
		hashes = append(hashes, sum("member", id[:], advert[:32], nonce, sum("advert-hash", slices.Concat(advert[:32], advert[96:]))))
		graph = append(graph, id[:], nonce)
		f.adverts = append(f.adverts, advert)
		if m == i {
			f.self = place
		}
	}
	opened := make([]byte, 32) // where there is one cohort
	cohorts := secagg.Cohorts(devices, p.Cohort)
	seed := sum("graph", graph...)
	f.position = circle(len(i.cohort.members), seed)
	if cohorts > 1 { // it stands in the roster before a path and the keys of the neighbours
		keys := min(2*f.reach(), len(f.position)-1) * (len(f.adverts[0]) - 128)
		opened = a.reply[Advertise][len(a.reply[Advertise])-keys-len(committed[42:])-32:][:32]
	}
	// The number that the lot gave the cohort is found by the device's own signature.
	for number := range cohorts {
		roster := append([][]byte{f.ctx0, f.root, be32(number), be32(cohorts), opened}, hashes...)
		f.ctx1 = sum("cohort", f.ctx0, sum("roster", roster...), seed)
		if a.message[Share] == nil || ed25519.Verify(a.signer.Key.Public().(ed25519.PublicKey), f.signed(f.open()), f.open().signature) {
			return f
		}
	}
	s.failf("the Share message of device %d is of no cohort", a.number)
	return nil
}

// circle is each place's position.
func circle(n int, seed []byte) []int {
	block, err := aes.NewCipher(seed)
	if err != nil {
		panic(err)
	}
	words := make([]byte, 4096)
	cipher.NewCTR(block, make([]byte, 16)).XORKeyStream(words, words)
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	for i := n - 1; i > 0; i-- {
		m := uint64(i + 1)
		w := uint64(binary.LittleEndian.Uint32(words))
		for words = words[4:]; w >= 1<<32/m*m; words = words[4:] {
			w = uint64(binary.LittleEndian.Uint32(words))
		}
		order[i], order[w%m] = order[w%m], order[i]
	}
	position := make([]int, n)
	for at, place := range order {
		position[place] = at
	}
	return position
}

// reach is how far ahead on the circle a member's neighbours lie.
func (f *forger) reach() int {
	n, p := len(f.position), f.stage.params
	if k, _, ok := secagg.Search(n, p.Corrupt, p.Dropout, 80, 30); n > secagg.CompleteGraph && ok {
		return k / 2
	}
	return n / 2
}

// sparse tells whether that is not the whole circle.
func (f *forger) sparse() bool { return f.reach() < len(f.position)/2 }

func (f *forger) ahead(from, to int) int {
	n := len(f.position)
	return (f.position[to] - f.position[from] + n) % n
}

// encapsulates tells whether from is the end of an edge that does.
func (f *forger) encapsulates(from, to int) bool {
	ahead := f.ahead(from, to)
	if 2*ahead == len(f.position) {
		return f.position[from] < f.position[to]
	}
	return ahead <= f.reach()
}

// neighbours tells whether two are.
func (f *forger) neighbours(i, j int) bool {
	return i != j && min(f.ahead(i, j), f.ahead(j, i)) <= f.reach()
}

func (f *forger) id(place int) []byte {
	id := secagg.DeviceID(f.adverts[place][:32])
	return id[:]
}

// place is that of another device in the roster.
func (f *forger) place(other *agent) int {
	return slices.IndexFunc(f.stage.model.members[f.agent.number].cohort.members, func(m *modelMember) bool { return m.number == other.number })
}

// channel and mask are a member's keys.
func (f *forger) keys(place int) (channel, mask []byte) {
	keys := f.adverts[place][128:]
	half := (len(keys) - 64) / 2
	return keys[:half], keys[half : 2*half]
}

func (f *forger) hashedKeys(place int) []byte {
	channel, mask := f.keys(place)
	return sum("keys", f.id(place), channel, mask)
}

// advert signs the device's advert again after a change.
func (f *forger) advert(change func(nonce, channel, mask []byte)) []byte {
	m := bytes.Clone(f.agent.message[Advertise])
	b := m[2:]
	keys := b[128 : len(b)-64]
	half := len(keys) / 2
	change(b[96:128], keys[:half], keys[half:])
	copy(b[len(b)-64:], ed25519.Sign(f.agent.signer.Key, script("advert", f.ctx0, f.agent.id[:], keys[:half], keys[half:], b[96:128], f.root)))
	return m
}

// deal is a Share message in pieces.
type deal struct {
	b, own, signature []byte                // own is empty on a sparse graph
	parcels           map[int]*forgedParcel // by place
}

type forgedParcel struct{ sealed, sigma, b, ciphertext, pair []byte }

// open cuts the device's Share message.
func (f *forger) open() *deal {
	sealed, ciphertext := 1120+64+16, 1120
	if f.stage.params.Keys == secagg.Classical {
		sealed, ciphertext = 32+64+16, 0
	}
	rest := bytes.Clone(f.agent.message[Share][2:])
	next := func(n int) (head []byte) { head, rest = rest[:n:n], rest[n:]; return head }
	d := &deal{b: next(32), parcels: map[int]*forgedParcel{}}
	if !f.sparse() {
		d.own = next(32)
	}
	d.signature = next(64)
	for place := range f.position {
		if !f.neighbours(f.self, place) {
			continue
		}
		q := &forgedParcel{sealed: next(sealed), sigma: next(32), b: next(32)}
		if f.encapsulates(f.self, place) {
			q.ciphertext, q.pair = next(ciphertext), next(32)
		}
		d.parcels[place] = q
	}
	if len(rest) > 0 {
		f.stage.failf("%d bytes are left of a Share message", len(rest))
	}
	return d
}

// signed is what the signature of a Share message is over.
func (f *forger) signed(d *deal) []byte {
	var level [][]byte
	for place := range f.position {
		if q := d.parcels[place]; q != nil {
			fields := [][]byte{f.ctx1, f.id(f.self), f.id(place), q.sealed, q.sigma, q.b}
			if q.pair != nil {
				fields = append(fields, q.ciphertext, q.pair)
			}
			level = append(level, sum("leaf", fields...))
		}
	}
	for len(level)&(len(level)-1) != 0 {
		level = append(level, make([]byte, 32))
	}
	for ; len(level) > 1; level = level[:len(level)/2] {
		for i := range len(level) / 2 {
			level[i] = sum("node", level[2*i], level[2*i+1])
		}
	}
	fields := [][]byte{f.ctx1, f.id(f.self), d.b, level[0]}
	if d.own != nil {
		fields = append(fields, d.own)
	}
	return script("shares", fields...)
}

// deal signs the device's Share message again after a change.
func (f *forger) deal(change func(*deal)) []byte {
	d := f.open()
	change(d)
	message := slices.Concat([]byte{4, 4}, d.b, d.own, ed25519.Sign(f.agent.signer.Key, f.signed(d)))
	for place := range f.position {
		if q := d.parcels[place]; q != nil {
			message = slices.Concat(message, q.sealed, q.sigma, q.b, q.ciphertext, q.pair)
		}
	}
	return message
}

// seal puts a pair of shares into a parcel, with commitments that fit them.
func (f *forger) seal(d *deal, to int, sigma, b []byte) {
	q := d.parcels[to]
	from := f.id(f.self)
	q.sigma = sum("commit-share", f.ctx1, from, f.id(to), []byte("s"), sigma)
	q.b = sum("commit-share", f.ctx1, from, f.id(to), []byte("b"), b)
	var ciphertext []byte
	if len(q.ciphertext) > 0 {
		ciphertext = sum("ciphertext", q.ciphertext)
	}
	aad := script("sealed", f.ctx1, from, f.id(to), f.hashedKeys(f.self), f.hashedKeys(to), d.b, ciphertext)
	kem := hpke.MLKEM768X25519()
	if f.stage.params.Keys == secagg.Classical {
		kem, _ = hpke.NewKEM(0x0020)
	}
	channel, _ := f.keys(to)
	public, err := kem.NewPublicKey(channel)
	if err != nil {
		panic(err)
	}
	enc, sender, err := hpke.NewSender(public, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte("discreet/secagg/v4/seal"))
	if err != nil {
		panic(err)
	}
	sealed, err := sender.Seal(aad, slices.Concat(sigma, b))
	if err != nil {
		panic(err)
	}
	q.sealed = append(enc, sealed...)
}

// complaint accuses others; places ascend. On a sparse graph the device's true pledge
// stands before that.
func (f *forger) complaint(places []int) []byte {
	message := []byte{6, 4}
	if f.sparse() && f.agent.complaint != nil {
		message = bytes.Clone(f.agent.complaint[:2+64])
	}
	message = append(message, be16(len(places))...)
	for _, place := range places {
		signature := ed25519.Sign(f.agent.signer.Key, script("complaint", f.ctx1, f.id(f.self), f.id(place), []byte{1}))
		message = slices.Concat(message, be16(place), []byte{1}, signature)
	}
	return message
}

// confirm signs any set of survivors, given as a bitmap.
func (f *forger) confirm(sharers, survivors []byte) []byte {
	signed := script("confirm", f.ctx1, sum("survivors", f.ctx1, sharers, survivors))
	return slices.Concat([]byte{8, 4}, ed25519.Sign(f.agent.signer.Key, signed))
}

func script(label string, fields ...[]byte) []byte {
	label = "discreet/secagg/v4/" + label
	b := append(be32(len(label)), label...)
	for _, f := range fields {
		b = append(append(b, be32(len(f))...), f...)
	}
	return b
}

func sum(label string, fields ...[]byte) []byte {
	h := sha256.Sum256(script(label, fields...))
	return h[:]
}

func be16(n int) []byte { return binary.BigEndian.AppendUint16(nil, uint16(n)) }
func be32(n int) []byte { return binary.BigEndian.AppendUint32(nil, uint32(n)) }
