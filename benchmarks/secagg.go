package main

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"os"
	"runtime"
	"slices"
	"time"

	"github.com/discreet-fl/discreet/aggregation"
	"github.com/discreet-fl/discreet/coordinator"
	"github.com/discreet-fl/discreet/coordinator/round"
	"github.com/discreet-fl/discreet/secagg"
)

// secaggFigures is what one run of the secagg benchmark measured.
type secaggFigures struct {
	Devices    int     `json:"devices"`
	Dim        int     `json:"dim"`
	Drop       float64 `json:"drop"`
	Survivors  int     `json:"survivors"`
	RingBits   int     `json:"ring_bits"`
	Expansions int     `json:"expansions"`
	// CPU seconds of the server: all messages, adding packed vectors, unmasking.
	ServerSeconds       float64 `json:"server_seconds"`
	ServerUnmaskSeconds float64 `json:"server_unmask_seconds"`
	// CPU seconds of a device that survives: encoding, all steps, masking, packing.
	DeviceSeconds float64 `json:"device_seconds"`
	// Bytes of all messages of a device that survives, the mean; expansion is
	// bytes_up against 4·dim.
	BytesUp   float64 `json:"bytes_up"`
	BytesDown float64 `json:"bytes_down"`
	Expansion float64 `json:"expansion"`
	// The limit: key stream of AES-256-CTR in cache, bytes a second on one core,
	// and the CPU seconds in which it writes all the masks that the server removes.
	AESBytesPerSecond float64 `json:"aes_ctr_bytes_per_second"`
	ServerLimit       float64 `json:"server_limit_seconds"`
	PeakHeap          uint64  `json:"peak_heap_bytes"` // devices and server together
	Seconds           float64 `json:"seconds"`         // by the clock, everything
	Seed              uint64  `json:"seed"`
	Machine           string  `json:"machine"`
}

// runSecagg measures one secure sum: every device and the server in this process,
// one device at a time, the dropped ones gone after Share. It fails unless the sum
// is the survivors' plain sum.
func runSecagg(args []string) error {
	set := flag.NewFlagSet("secagg", flag.ContinueOnError)
	devices := set.Int("devices", 100, "devices in the cohort")
	dim := set.Int("dim", 1_000_000, "parameters of the model")
	drop := set.Float64("drop", 0.2, "fraction of the devices that vanish after Share")
	seed := set.Uint64("seed", 1, "seed of the updates and of who vanishes; keys are always fresh")
	out := set.String("json", "-", "file for the figures; - is standard output")
	if err := set.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}
	if *devices < 1 || *dim < 1 || *drop < 0 || *drop >= 1 {
		return fmt.Errorf("secagg: %d devices, dim %d, drop %v: want at least one of each and a fraction below 1", *devices, *dim, *drop)
	}
	b, err := newSecaggBench(*devices, *dim, *drop, *seed)
	if err != nil {
		return err
	}
	figures, err := b.run()
	if err != nil {
		return err
	}
	return writeJSON(*out, figures)
}

// writeJSON writes the value, indented, to the file or to standard output for "-".
func writeJSON(file string, value any) error {
	text, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	text = append(text, '\n')
	if file == "-" {
		_, err = os.Stdout.Write(text)
		return err
	}
	return os.WriteFile(file, text, 0o644)
}

// secaggDevice is one device between the steps.
type secaggDevice struct {
	id         secagg.ID
	signer     secagg.Signer
	advertised *secagg.Advertised
	shared     *secagg.Shared
	masked     *secagg.Masked
	cpu        time.Duration
	up, down   int
}

type secaggBench struct {
	figures secaggFigures
	codec   aggregation.Codec
	params  secagg.Params
	devices []*secaggDevice
	gone    map[int]bool
	server  time.Duration

	update     []float32
	words      []uint32 // of the device at work
	packed     []byte
	sum, plain []uint32
}

func newSecaggBench(n, dim int, drop float64, seed uint64) (*secaggBench, error) {
	_, ca, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	b := &secaggBench{codec: coordinator.Codec(), gone: map[int]bool{}}
	length, ring := b.codec.Length(dim), b.codec.RingBits(n)
	if err := b.codec.Fits(n, ring); err != nil {
		return nil, err
	}
	b.figures = secaggFigures{Devices: n, Dim: dim, Drop: drop, RingBits: ring, Seed: seed, Machine: machine()}
	b.params = secagg.Params{
		Task: "benchmark", Round: 1, Attempt: 1, Plan: []byte("benchmark"), CA: ca.Public().(ed25519.PublicKey),
		Length: length, RingBits: ring, Cohort: n, MinSurvivors: secagg.MinCohort,
	}
	for range n {
		pub, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return nil, err
		}
		b.devices = append(b.devices, &secaggDevice{id: secagg.DeviceID(pub), signer: secagg.Signer{Key: key, Credential: secagg.Certify(ca, pub)}})
	}
	for _, i := range mathrand.New(mathrand.NewPCG(seed, 0)).Perm(n)[:int(drop*float64(n))] {
		b.gone[i] = true
	}
	b.update, b.words = make([]float32, dim), make([]uint32, length)
	b.packed = make([]byte, aggregation.PackedSize(length, ring))
	b.sum, b.plain = make([]uint32, length), make([]uint32, length)
	return b, nil
}

// work runs a step of the device and charges its CPU time.
func (d *secaggDevice) work(f func() error) error {
	took, err := cpuOf(f)
	d.cpu += took
	return err
}

// serve runs a step of the server and charges its CPU time.
func (b *secaggBench) serve(f func() error) error {
	took, err := cpuOf(f)
	b.server += took
	return err
}

func (b *secaggBench) run() (*secaggFigures, error) {
	began := time.Now()
	shares, roster, err := b.advertise()
	if err != nil {
		return nil, fmt.Errorf("secagg: advertise: %w", err)
	}
	submissions, inboxes, err := b.share(shares, roster)
	if err != nil {
		return nil, fmt.Errorf("secagg: share: %w", err)
	}
	reveals, survivors, err := b.submit(submissions, inboxes)
	if err != nil {
		return nil, fmt.Errorf("secagg: submit: %w", err)
	}
	if err := b.reveal(reveals, survivors); err != nil {
		return nil, fmt.Errorf("secagg: reveal: %w", err)
	}
	if err := b.compare(); err != nil {
		return nil, err
	}
	b.summarise(time.Since(began))
	return &b.figures, nil
}

func (b *secaggBench) advertise() (shares *secagg.Shares, roster []byte, err error) {
	adverts, err := secagg.NewServer(b.params)
	if err != nil {
		return nil, nil, err
	}
	for _, d := range b.devices {
		var msg []byte
		if err := d.work(func() (err error) {
			d.advertised, msg, err = secagg.Advertise(b.params, d.signer, rand.Reader)
			return err
		}); err != nil {
			return nil, nil, err
		}
		d.up += len(msg)
		if err := b.serve(func() error { return adverts.Add(d.id, msg) }); err != nil {
			return nil, nil, err
		}
	}
	err = b.serve(func() (err error) { shares, roster, err = adverts.Close(); return err })
	return shares, roster, err
}

func (b *secaggBench) share(shares *secagg.Shares, roster []byte) (submissions *secagg.Submissions, inboxes map[secagg.ID][]byte, err error) {
	for _, d := range b.devices {
		d.down += len(roster)
		var msg []byte
		if err := d.work(func() (err error) {
			d.shared, msg, err = d.advertised.Share(roster, rand.Reader)
			return err
		}); err != nil {
			return nil, nil, err
		}
		d.up += len(msg)
		if err := b.serve(func() error { return shares.Add(d.id, msg) }); err != nil {
			return nil, nil, err
		}
	}
	err = b.serve(func() (err error) { submissions, inboxes, err = shares.Close(); return err })
	return submissions, inboxes, err
}

func (b *secaggBench) submit(submissions *secagg.Submissions, inboxes map[secagg.ID][]byte) (reveals *secagg.Reveals, survivors []byte, err error) {
	for i, d := range b.devices {
		if b.gone[i] {
			continue
		}
		if err := b.mask(i, inboxes[d.id]); err != nil {
			return nil, nil, err
		}
		d.up += len(b.packed)
		if err := b.serve(func() error {
			if err := aggregation.AddPacked(b.sum, b.packed, b.params.RingBits); err != nil {
				return err
			}
			return submissions.Add(d.id)
		}); err != nil {
			return nil, nil, err
		}
	}
	err = b.serve(func() (err error) { reveals, survivors, err = submissions.Close(); return err })
	return reveals, survivors, err
}

// mask takes device i from a float update to packed bytes; on the way the plain
// sum gets what the device encoded.
func (b *secaggBench) mask(i int, inbox []byte) error {
	d := b.devices[i]
	d.down += len(inbox)
	rng := mathrand.New(mathrand.NewPCG(b.figures.Seed, uint64(i+1)))
	for w := range b.update {
		b.update[w] = float32(rng.NormFloat64()) * b.codec.Clip / 4
	}
	var rounding [32]byte
	if _, err := io.ReadFull(rand.Reader, rounding[:]); err != nil {
		return err
	}
	weight := 1 + i%b.codec.MaxWeight
	if err := d.work(func() error { return b.codec.Encode(b.words, b.update, weight, rounding) }); err != nil {
		return err
	}
	for w, v := range b.words {
		b.plain[w] += v
	}
	return d.work(func() error {
		masking, err := d.shared.Open(inbox)
		if err != nil {
			return err
		}
		masking.Mask(b.words, 0, len(b.words))
		d.masked = masking.Done()
		return aggregation.Pack(b.packed, b.words, b.params.RingBits)
	})
}

func (b *secaggBench) reveal(reveals *secagg.Reveals, survivors []byte) error {
	for i, d := range b.devices {
		if b.gone[i] {
			continue
		}
		d.down += len(survivors)
		var msg []byte
		if err := d.work(func() (err error) { msg, err = d.masked.Reveal(survivors); return err }); err != nil {
			return err
		}
		d.up += len(msg)
		if err := b.serve(func() error { return reveals.Add(d.id, msg) }); err != nil {
			return err
		}
	}
	before := b.server
	err := b.serve(func() error {
		unmasking, err := reveals.Close()
		if err != nil {
			return err
		}
		b.figures.Expansions, b.figures.Survivors = unmasking.Expansions(), len(unmasking.Survivors())
		round.Summed{Unmasking: unmasking, Sum: b.sum}.Unmask()
		return nil
	})
	b.figures.ServerUnmaskSeconds = (b.server - before).Seconds()
	return err
}

// compare holds the unmasked sum to the plain one in the ring.
func (b *secaggBench) compare() error {
	ring := uint32(1)<<b.params.RingBits - 1
	for w := range b.sum {
		if (b.sum[w]-b.plain[w])&ring != 0 {
			return fmt.Errorf("secagg: word %d of the secure sum is %d, the survivors' plain sum has %d: the sum is wrong", w, b.sum[w]&ring, b.plain[w]&ring)
		}
	}
	return nil
}

func (b *secaggBench) summarise(took time.Duration) {
	f := &b.figures
	var cpu []time.Duration
	var up, down int
	for i, d := range b.devices {
		if !b.gone[i] {
			cpu = append(cpu, d.cpu)
			up += d.up
			down += d.down
		}
	}
	slices.Sort(cpu)
	f.DeviceSeconds = (cpu[(len(cpu)-1)/2] + cpu[len(cpu)/2]).Seconds() / 2
	f.ServerSeconds = b.server.Seconds()
	f.BytesUp = float64(up) / float64(len(cpu))
	f.BytesDown = float64(down) / float64(len(cpu))
	f.Expansion = f.BytesUp / float64(4*f.Dim)
	f.AESBytesPerSecond = aesRate()
	f.ServerLimit = float64(f.Expansions) * float64(4*b.params.Length) / f.AESBytesPerSecond
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	f.PeakHeap = mem.HeapSys // it never shrinks: the largest the heap has been
	f.Seconds = took.Seconds()
}

// aesRate is the key stream that AES-256-CTR writes into the cache, in bytes for
// a second of CPU.
func aesRate() float64 {
	block, err := aes.NewCipher(make([]byte, 32))
	if err != nil {
		panic(err) // the key has 32 bytes
	}
	stream := cipher.NewCTR(block, make([]byte, aes.BlockSize))
	zeros, out := make([]byte, 8<<10), make([]byte, 8<<10)
	written, began := 0, cpuTime()
	for cpuTime()-began < 200*time.Millisecond {
		for range 1000 {
			stream.XORKeyStream(out, zeros)
			written += len(out)
		}
	}
	return float64(written) / (cpuTime() - began).Seconds()
}
