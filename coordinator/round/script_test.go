package round

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/discreet-fl/discreet/aggregation"
	"github.com/discreet-fl/discreet/secagg"
)

var update = flag.Bool("update", false, "rewrite the transcripts in testdata")

// TestTranscripts plays the scripts in testdata against a round with real devices.
// A line that begins with "> " is a command; what follows is what came of it.
//
//	> new devices=5 min=3 ring=20    begins; advertise=40s step=10s grace=5s unless given
//	> advertise 0 1                  these devices send their message of that step
//	> advertise! 0                   device 0 sends other, well-formed or not, bytes
//	> advertise? 9                   a device outside the cohort sends
//	> gone 3 / back 3                its connection
//	> +5s                            time passes, and a tick
//	> deadline                       prints when the next tick is due
func TestTranscripts(t *testing.T) {
	scripts, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, path := range scripts {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			p := &player{t: t, now: time.UnixMilli(0)}
			for line := range strings.Lines(string(want)) {
				if line = strings.TrimSuffix(line, "\n"); strings.HasPrefix(line, "> ") || strings.HasPrefix(line, "#") || line == "" {
					fmt.Fprintln(&p.out, line)
					p.play(strings.TrimPrefix(line, "> "))
				}
			}
			if *update {
				if err := os.WriteFile(path, p.out.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got := p.out.String(); got != string(want) {
				t.Errorf("the transcript of %s changed; got\n%s", path, got)
			}
		})
	}
}

// player holds a round and its devices.
type player struct {
	t       *testing.T
	out     bytes.Buffer
	round   *Round
	params  secagg.Params
	start   time.Time
	now     time.Time
	devices []*device
}

// device is one member as it walks through the protocol.
type device struct {
	id      secagg.ID
	signer  secagg.Signer
	rand    *rand.ChaCha8
	vector  []uint32
	message [steps][]byte // sent or ready to send
	reply   [steps][]byte

	advertised *secagg.Advertised
	shared     *secagg.Shared
	masked     *secagg.Masked
}

func newDevice(t testing.TB, i int, ca ed25519.PrivateKey, p secagg.Params) *device {
	t.Helper()
	d := &device{rand: rand.NewChaCha8([32]byte{byte(i), 7}), vector: make([]uint32, p.Length)}
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{byte(i + 1)}, 32))
	public := key.Public().(ed25519.PublicKey)
	d.id, d.signer = secagg.DeviceID(public), secagg.Signer{Key: key, Credential: secagg.Certify(ca, public)}
	for j := range d.vector {
		d.vector[j] = uint32(1000*(i+1) + j)
	}
	return d
}

// prepare makes the device's message of a step from the reply to the one before.
func (d *device) prepare(p secagg.Params, step Step) (err error) {
	if d.message[step] != nil {
		return nil
	}
	switch step {
	case Advertise:
		d.advertised, d.message[step], err = secagg.Advertise(p, d.signer, d.rand)
	case Share:
		d.shared, d.message[step], err = d.advertised.Share(d.reply[Advertise], d.rand)
	case Submit:
		var masking *secagg.Masking
		if masking, err = d.shared.Open(d.reply[Share]); err != nil {
			return err
		}
		vector := slices.Clone(d.vector)
		masking.Mask(vector, 0, len(vector))
		d.masked = masking.Done()
		d.message[step] = make([]byte, aggregation.PackedSize(len(vector), p.RingBits))
		err = aggregation.Pack(d.message[step], vector, p.RingBits)
	case Reveal:
		d.message[step], err = d.masked.Reveal(d.reply[Submit])
	}
	return err
}

func (p *player) play(command string) {
	words := strings.Fields(command)
	if len(words) == 0 || strings.HasPrefix(command, "#") {
		return
	}
	switch verb := words[0]; {
	case verb == "new":
		p.begin(words[1:])
	case verb == "deadline":
		if d := p.round.Deadline(); d.IsZero() {
			fmt.Fprintln(&p.out, "none")
		} else {
			fmt.Fprintln(&p.out, d.Sub(p.start))
		}
	case verb[0] == '+':
		d, err := time.ParseDuration(verb[1:])
		if err != nil {
			p.t.Fatal(err)
		}
		p.now = p.now.Add(d)
		p.print(p.round.Tick(p.now))
	case verb == "gone":
		p.each(words[1:], func(d *device) { p.print(p.round.Gone(p.now, d.id)) })
	case verb == "back":
		p.each(words[1:], func(d *device) { p.print(p.round.Back(p.now, d.id)) })
	default:
		p.each(words[1:], func(d *device) { p.send(verb, d) })
	}
}

func (p *player) begin(settings []string) {
	n, config := 0, Config{Advertise: 40 * time.Second, Step: 10 * time.Second, Grace: 5 * time.Second}
	ca := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{0xca}, 32))
	params := secagg.Params{Task: "desk", Round: 1, Attempt: 1, Plan: []byte("plan"), CA: ca.Public().(ed25519.PublicKey),
		Length: 7, RingBits: 20, MinSurvivors: 3}
	for _, s := range settings {
		name, value, _ := strings.Cut(s, "=")
		number, _ := strconv.Atoi(value)
		span, _ := time.ParseDuration(value)
		switch name {
		case "devices":
			n = number
		case "min":
			params.MinSurvivors = number
		case "grace":
			config.Grace = span
		case "ring":
			params.RingBits = number
		default:
			p.t.Fatalf("unknown setting %q", s)
		}
	}
	params.Cohort = n
	p.devices = nil
	for i := range n + 1 { // the last one is a stranger
		p.devices = append(p.devices, newDevice(p.t, i, ca, params))
	}
	config.Params, p.params = params, params
	for _, d := range p.devices[:n] {
		config.Members = append(config.Members, d.id)
	}
	var err error
	if p.round, err = New(p.now, config); err != nil {
		fmt.Fprintf(&p.out, "error: %v\n", err)
	}
	p.start = p.now
}

func (p *player) each(names []string, f func(*device)) {
	for _, name := range names {
		i, err := strconv.Atoi(name)
		if err != nil {
			p.t.Fatal(err)
		}
		f(p.devices[i])
	}
}

func (p *player) send(verb string, d *device) {
	name := strings.TrimRight(verb, "!?")
	step := Step(slices.IndexFunc([]Step{0, 1, 2, 3}, func(s Step) bool { return s.String() == name }))
	if step < 0 {
		p.t.Fatalf("unknown command %q", verb)
	}
	payload := []byte("other bytes")
	if !strings.HasSuffix(verb, "!") {
		if err := d.prepare(p.params, step); err != nil {
			p.t.Fatalf("device %d: %v", p.index(d.id), err)
		}
		payload = d.message[step]
	}
	effects, err := p.round.Receive(p.now, d.id, step, payload)
	p.print(effects)
	for _, e := range []error{ErrNotMember, ErrLate, ErrEarly, ErrDiffers, ErrMalformed, ErrOver} {
		if errors.Is(err, e) {
			fmt.Fprintf(&p.out, "%d refused: %v\n", p.index(d.id), e)
			return
		}
	}
	if err != nil {
		p.t.Errorf("an error without a type: %v", err)
	}
}

func (p *player) index(id secagg.ID) int {
	return slices.IndexFunc(p.devices, func(d *device) bool { return d.id == id })
}

func (p *player) indices(ids []secagg.ID) (list []int) {
	for _, id := range ids {
		list = append(list, p.index(id))
	}
	slices.Sort(list)
	return list
}

// print writes effects; replies to a step stand in one line.
func (p *player) print(effects []Effect) {
	var to []secagg.ID
	for i, e := range effects {
		switch e := e.(type) {
		case Reply:
			d := p.devices[p.index(e.To)]
			if d.reply[e.Step] != nil && !bytes.Equal(d.reply[e.Step], e.Payload) {
				p.t.Errorf("device %d was answered in two ways in %v", p.index(e.To), e.Step)
			}
			d.reply[e.Step] = e.Payload
			to = append(to, e.To)
			if i+1 < len(effects) {
				if _, more := effects[i+1].(Reply); more {
					continue
				}
			}
			fmt.Fprintf(&p.out, "reply %v %v\n", e.Step, p.indices(to))
			to = nil
		case Closed:
			fmt.Fprintf(&p.out, "closed %v %d/%d\n", e.Step, e.Answered, e.Expected)
		case Aborted:
			fmt.Fprintf(&p.out, "aborted in %v: %s\n", e.Step, e.Reason)
		case Summed:
			fmt.Fprintf(&p.out, "summed %v, %s\n", p.indices(e.Survivors), p.verify(e))
		}
	}
}

// verify unmasks and compares with the plain sum of the survivors' vectors.
func (p *player) verify(s Summed) string {
	s.Unmask()
	for j := range s.Sum {
		var want uint32
		for _, id := range s.Survivors {
			want += p.devices[p.index(id)].vector[j]
		}
		if shift := 32 - p.params.RingBits; s.Sum[j]<<shift != want<<shift {
			return fmt.Sprintf("word %d is wrong", j)
		}
	}
	return "their plain sum"
}
