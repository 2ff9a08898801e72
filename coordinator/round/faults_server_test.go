package round

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/discreet-fl/discreet/coordinator/round/liar"
	"github.com/discreet-fl/discreet/secagg"
)

// answers are what a server tells a device, in order.
var answers = []string{"committed", "roster", "inbox", "survivors", "quorum"}

// TestHostileAnswers gives a device each answer in a form in which no honest server would
// have sent it. The device has to refuse it and forget its secrets; where it cannot
// tell, as it does not know who vanished, it may sign but not reveal. How it refuses
// stands in testdata/faults.
func TestHostileAnswers(t *testing.T) {
	var out strings.Builder
	for _, c := range []struct {
		devices, cohort int
		keys            secagg.KeyExchange
		flips           int
	}{{5, 5, secagg.Classical, 60}, {8, 4, secagg.Classical, 60}, {4, 4, secagg.Hybrid, 24}} {
		h := newHostility(t, cast{devices: c.devices, cohort: c.cohort, keys: c.keys, corrupt: 1000})
		for at, answer := range answers {
			for _, v := range h.variants(at, c.flips) {
				outcomes := []string{}
				for _, payload := range v.payloads {
					if o := h.try(at, payload); !slices.Contains(outcomes, o) {
						outcomes = append(outcomes, o)
					}
				}
				if slices.Contains(outcomes, accepted) {
					t.Errorf("%d in cohorts of %d: %s: %s is accepted", c.devices, c.cohort, answer, v.name)
				}
				slices.Sort(outcomes)
				fmt.Fprintf(&out, "%d in cohorts of %d, %-9s %-9s %-30s %s\n", c.devices, c.cohort, c.keys, answer, v.name, strings.Join(outcomes, "; or "))
			}
		}
	}
	golden(t, "server", out.String())
}

// hostility is an attempt, an earlier one of the same devices, and the one device that
// the server is after.
type hostility struct {
	t              *testing.T
	params         secagg.Params
	devices, early []*device
	victim         *device
	random         *rand.ChaCha8
}

func newHostility(t *testing.T, c cast) *hostility {
	p := c.params()
	h := &hostility{t: t, params: p, random: rand.NewChaCha8([32]byte{59})}
	early := p
	early.Attempt, p.Attempt = 1, 2
	h.params = p
	h.early = attempt(t, early, c.devices, 8)
	h.devices = attempt(t, p, c.devices, 9)
	h.victim = h.devices[1]
	return h
}

// attempt is an honest one, but that in an even one device 0 deals badly to device 2,
// where they are in one cohort, and in an odd one the last device of each cohort
// vanishes before it submits.
func attempt(t *testing.T, p secagg.Params, n int, salt byte) []*device {
	config := Config{Params: p, CheckIns: map[secagg.ID][32]byte{}, Advertise: time.Minute, Step: time.Minute}
	var devices []*device
	for i := range n {
		d := restart(t, p, i, salt)
		devices, config.CheckIns[d.id] = append(devices, d), d.commitment
	}
	now := time.UnixMilli(0)
	r, err := New(now, config)
	must(t, err)
	for _, d := range devices {
		d.committed, err = r.Committed(d.id)
		must(t, err)
	}
	for _, step := range messages {
		var effects []Effect
		for _, d := range devices {
			c := r.members[d.id].cohort
			if step > Share && p.Attempt%2 == 1 && c.roster[len(c.roster)-1] == d.id {
				effects = append(effects, r.Gone(now, d.id)...)
				continue
			}
			must(t, d.prepare(p, step))
			if step == Share && d == devices[0] && p.Attempt%2 == 0 {
				misdeal(t, r, p, devices, c)
			}
			if step == Submit && d.complaint != nil {
				more, err := r.Complain(now, d.id, d.complaint)
				must(t, err)
				effects = append(effects, more...)
			}
			more, err := r.Receive(now, d.id, step, bytes.Clone(d.message[step]))
			must(t, err)
			effects = append(effects, more...)
		}
		for _, e := range append(effects, r.Tick(now)...) {
			if e, is := e.(Reply); is {
				d := devices[slices.IndexFunc(devices, func(d *device) bool { return d.id == e.To })]
				d.reply[e.Step] = e.Payload(nil)
			}
		}
	}
	return devices
}

func misdeal(t *testing.T, r *Round, p secagg.Params, devices []*device, c *cohort) {
	var adverts [][]byte
	for _, d := range devices {
		if slices.Contains(c.roster, d.id) {
			adverts = append(adverts, d.message[Advertise])
		}
	}
	l, err := liar.New(p, devices[0].signer.Key, devices[0].committed, adverts)
	must(t, err)
	if p.Cohort < len(devices) {
		l.Lot(devices[0].reply[Advertise])
	}
	if slices.Contains(c.roster, devices[2].id) {
		devices[0].message[Share], err = l.Misdeal(devices[0].message[Share], devices[2].id)
		must(t, err)
	}
}

// restart is a device with the randomness that it has in an attempt.
func restart(t *testing.T, p secagg.Params, number int, salt byte) *device {
	d := newDevice(t, number, p)
	d.rand = rand.NewChaCha8([32]byte{byte(number), salt})
	var err error
	d.checkedIn, d.commitment, err = secagg.CheckIn(d.rand)
	must(t, err)
	return d
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// got is the answer that a device was given, and nil where it was given none.
func (d *device) got(at int) []byte {
	if at == 0 {
		return d.committed
	}
	return d.reply[at-1]
}

const accepted = "accepted"

type variant struct {
	name     string
	payloads [][]byte
}

// variants are what an answer is replaced by.
func (h *hostility) variants(at, flips int) []variant {
	right := h.victim.got(at)
	noise := bytes.Clone(right)
	h.random.Read(noise[2:])
	list := []variant{
		{"nothing", [][]byte{nil, {}}},
		{"a byte less", [][]byte{right[:len(right)-1]}},
		{"a byte more", [][]byte{append(bytes.Clone(right), 0)}},
		{"a header alone", [][]byte{right[:2]}},
		{"noise behind the header", [][]byte{noise}},
		{"a megabyte", [][]byte{append(bytes.Clone(right), make([]byte, 1<<20)...)}},
		{"another answer", nil},
		{"another device's", nil},
		{"an earlier attempt's", [][]byte{h.early[1].got(at)}},
		{"a bit flipped", nil},
	}
	for other := range answers {
		if other != at {
			list[6].payloads = append(list[6].payloads, h.victim.got(other))
		}
	}
	for _, d := range h.devices {
		if !bytes.Equal(d.got(at), right) {
			list[7].payloads = append(list[7].payloads, d.got(at))
		}
	}
	for i := range flips {
		flipped := bytes.Clone(right)
		flipped[i*len(right)/flips] ^= 1 << (i % 8)
		list[9].payloads = append(list[9].payloads, flipped)
	}
	if answers[at] == "quorum" {
		short := bytes.Clone(right[:len(right)-64])
		for bit := len(h.devices[0].reply[Submit]); ; bit-- {
			if i := 2 + bit/8; i < len(short) && bit < 8 && short[i]>>(bit%8)&1 == 1 {
				short[i] ^= 1 << (bit % 8)
				break
			}
		}
		list = append(list, variant{"a signature less", [][]byte{short}})
	}
	return slices.DeleteFunc(list, func(v variant) bool { return len(v.payloads) == 0 })
}

// try gives a device that has come so far an answer, and the right one behind it, and
// says how it refuses.
func (h *hostility) try(at int, payload []byte) string {
	d := restart(h.t, h.params, 1, 9)
	d.committed = h.victim.committed
	for step := range Step(at) {
		must(h.t, d.prepare(h.params, step))
		d.reply[step] = h.victim.reply[step]
		if !bytes.Equal(d.message[step], h.victim.message[step]) {
			h.t.Fatalf("the device's message of %v is another one this time", step)
		}
	}
	message, err := h.answer(d, at, bytes.Clone(payload))
	if err != nil {
		if message != nil {
			h.t.Errorf("%s of %d bytes: a message of %d bytes with the error %v", answers[at], len(payload), len(message), err)
		}
		if _, again := h.answer(d, at, h.victim.got(at)); !errors.Is(again, secagg.ErrSpent) {
			h.t.Errorf("%s of %d bytes: %v, and then the device goes on with %v", answers[at], len(payload), err, again)
		}
		return kindOf(err)
	}
	if answers[at] != "survivors" || bytes.Equal(message, h.victim.message[Confirm]) {
		return accepted
	}
	message, err = h.answer(d, at+1, h.victim.reply[Confirm])
	if err == nil || message != nil {
		return accepted
	}
	return "signed, not revealed: " + kindOf(err)
}

// answer hands a device an answer and returns what it would send.
func (h *hostility) answer(d *device, at int, payload []byte) (message []byte, err error) {
	switch at {
	case 0:
		d.advertised, message, err = d.checkedIn.Advertise(h.params, d.signer, payload, d.rand)
	case 1:
		d.shared, message, err = d.advertised.Share(payload, d.rand)
	case 2:
		var masking *secagg.Masking
		if masking, message, err = d.shared.Open(payload); masking != nil && err == nil {
			vector := slices.Clone(d.vector)
			masking.Mask(vector, 0, len(vector))
			d.masked, message = masking.Done(), []byte("a masked vector")
		} else if masking != nil {
			h.t.Error("something to mask with beside an error")
		}
	case 3:
		confirmed, b, e := d.masked.Confirm(payload)
		message, err = b, e
		if confirmed != nil {
			d.confirmed = confirmed
		}
	case 4:
		message, err = d.confirmed.Reveal(payload)
	}
	return message, err
}
