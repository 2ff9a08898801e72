package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"os"
	"slices"
	"time"

	"github.com/discreet-fl/discreet/aggregation"
	"github.com/discreet-fl/discreet/secagg"
)

// devicesArgument makes this program the devices of a secagg benchmark, so that the
// server's memory and processor time are its own. Frames come on standard input and
// are answered on standard output.
const devicesArgument = "secagg-devices"

// sumDevice is one device between the steps.
type sumDevice struct {
	id         secagg.ID
	signer     secagg.Signer
	checkedIn  *secagg.CheckedIn
	advertised *secagg.Advertised
	shared     *secagg.Shared
	masking    *secagg.Masking
	masked     *secagg.Masked
	confirmed  *secagg.Confirmed
	cpu        map[string]time.Duration // by step
}

// sumDevices are all devices of a secure sum. One works at a time.
type sumDevices struct {
	settings sumSettings
	params   secagg.Params
	codec    aggregation.Codec
	devices  []*sumDevice
	finished []map[string]time.Duration // CPU time of those that came to the end

	update []float32
	words  []uint32 // of the device at work
	packed []byte
	plain  []int64 // sum of what was encoded
}

// enrolment is what the devices tell when they have checked in.
type enrolment struct {
	CA      ed25519.PrivateKey `json:"ca"` // the authority's: a coordinator mostly has it
	Devices []checkIn          `json:"devices"`
}

type checkIn struct {
	ID         secagg.ID `json:"id"`
	Commitment [32]byte  `json:"commitment"`
}

// deviceFigures are what the devices measured.
type deviceFigures struct {
	Seconds float64            `json:"seconds"`
	By      map[string]float64 `json:"by"`
}

// serveDevices is the devices' process: it answers until its standard input ends.
func serveDevices([]string) error {
	p := newPipe(os.Stdin, os.Stdout)
	d := &sumDevices{}
	var buffer []byte
	for {
		request, err := p.receive(buffer)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		answer := frame{kind: answerDone}
		if answer.payload, err = d.answer(request); err != nil {
			answer = frame{kind: answerFailed, payload: []byte(err.Error())}
		}
		if err := p.send(answer); err != nil {
			return err
		}
	}
}

// answer does what a request asks for. The steps take their time and are charged to
// the device.
func (d *sumDevices) answer(f frame) ([]byte, error) {
	switch f.kind {
	case askEnrol:
		return d.enrol(f.payload)
	case askCompare:
		return nil, d.compare(f.payload)
	case askFigures:
		return json.Marshal(d.figures())
	}
	if int(f.device) >= len(d.devices) {
		return nil, fmt.Errorf("there are %d devices", len(d.devices))
	}
	device := d.devices[f.device]
	switch f.kind {
	case askAdvertise:
		return device.work("advertise", func() (msg []byte, err error) {
			device.advertised, msg, err = device.checkedIn.Advertise(d.params, device.signer, f.payload, rand.Reader)
			device.checkedIn = nil
			return msg, err
		})
	case askShare:
		return device.work("share", func() (msg []byte, err error) {
			device.shared, msg, err = device.advertised.Share(f.payload, rand.Reader)
			device.advertised = nil
			return msg, err
		})
	case askVanish:
		device.shared.Wipe()
		device.shared = nil
		return nil, nil
	case askOpen:
		return device.work("open", func() (complaint []byte, err error) {
			device.masking, complaint, err = device.shared.Open(f.payload)
			device.shared = nil
			return complaint, err
		})
	case askSubmit:
		return d.submit(int(f.device))
	case askConfirm:
		return device.work("confirm", func() (msg []byte, err error) {
			device.confirmed, msg, err = device.masked.Confirm(f.payload)
			device.masked = nil
			return msg, err
		})
	case askReveal:
		msg, err := device.work("reveal", func() ([]byte, error) { return device.confirmed.Reveal(f.payload) })
		d.finished = append(d.finished, device.cpu)
		device.confirmed = nil
		return msg, err
	}
	return nil, fmt.Errorf("a request of kind %d", f.kind)
}

// work runs a step of the device and charges its CPU time.
func (d *sumDevice) work(step string, f func() ([]byte, error)) (msg []byte, err error) {
	took, err := cpuOf(func() error { msg, err = f(); return err })
	d.cpu[step] += took
	return msg, err
}

// enrol makes the devices of the settings under an authority of their own and checks
// them in.
func (d *sumDevices) enrol(settings []byte) ([]byte, error) {
	if err := json.Unmarshal(settings, &d.settings); err != nil {
		return nil, err
	}
	authority, ca, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	d.codec = d.settings.codec()
	if d.params, err = d.settings.params(authority); err != nil {
		return nil, err
	}
	told := enrolment{CA: ca}
	for range d.settings.Devices {
		public, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return nil, err
		}
		device := &sumDevice{
			id: secagg.DeviceID(public), signer: secagg.Signer{Key: key, Credential: secagg.Certify(ca, public)},
			cpu: map[string]time.Duration{},
		}
		var commitment [32]byte
		if _, err := device.work("advertise", func() (_ []byte, err error) {
			device.checkedIn, commitment, err = secagg.CheckIn(rand.Reader)
			return nil, err
		}); err != nil {
			return nil, err
		}
		d.devices = append(d.devices, device)
		told.Devices = append(told.Devices, checkIn{device.id, commitment})
	}
	length := d.params.Length
	d.update, d.words, d.plain = make([]float32, d.settings.Dim), make([]uint32, length), make([]int64, length)
	d.packed = make([]byte, aggregation.PackedSize(length, d.params.RingBits))
	return json.Marshal(told)
}

// submit takes a device from a float update to packed bytes; on the way the plain sum
// gets what the device encoded.
func (d *sumDevices) submit(i int) ([]byte, error) {
	device := d.devices[i]
	random := mathrand.New(mathrand.NewPCG(d.settings.Seed, uint64(i+1)))
	for w := range d.update {
		d.update[w] = float32(random.NormFloat64()) * d.codec.Clip / 4
	}
	var rounding [32]byte
	if _, err := io.ReadFull(rand.Reader, rounding[:]); err != nil {
		return nil, err
	}
	if _, err := device.work("encode", func() ([]byte, error) {
		return nil, d.codec.Encode(d.words, d.update, 1+i%d.codec.MaxWeight, rounding)
	}); err != nil {
		return nil, err
	}
	for w, v := range d.words {
		d.plain[w] += int64(int32(v))
	}
	return device.work("mask", func() ([]byte, error) {
		device.masking.Mask(d.words, 0, len(d.words))
		device.masked, device.masking = device.masking.Done(), nil
		return d.packed, aggregation.Pack(d.packed, d.words, d.params.RingBits)
	})
}

// compare holds a part of the unmasked total, the place of its first word and then the
// words, to the plain sum.
func (d *sumDevices) compare(part []byte) error {
	if len(part)%8 != 0 || len(part) < 8 {
		return fmt.Errorf("a part of %d bytes", len(part))
	}
	at := binary.LittleEndian.Uint64(part)
	if words := uint64(len(part)/8 - 1); at > uint64(len(d.plain)) || words > uint64(len(d.plain))-at {
		return fmt.Errorf("words %d to %d of %d", at, at+words, len(d.plain))
	}
	for part = part[8:]; len(part) > 0; part, at = part[8:], at+1 {
		if got := int64(binary.LittleEndian.Uint64(part)); got != d.plain[at] {
			return fmt.Errorf("word %d of the secure sum is %d, the survivors' plain sum has %d: the sum is wrong", at, got, d.plain[at])
		}
	}
	return nil
}

// figures are the medians over the devices that came to the end.
func (d *sumDevices) figures() deviceFigures {
	f := deviceFigures{By: map[string]float64{}}
	var whole []time.Duration
	by := map[string][]time.Duration{}
	for _, cpu := range d.finished {
		sum := time.Duration(0)
		for step, took := range cpu {
			sum += took
			by[step] = append(by[step], took)
		}
		whole = append(whole, sum)
	}
	f.Seconds = median(whole)
	for step, took := range by {
		f.By[step] = median(took)
	}
	return f
}

// median is in seconds; there is at least one.
func median(of []time.Duration) float64 {
	slices.Sort(of)
	return (of[(len(of)-1)/2] + of[len(of)/2]).Seconds() / 2
}
