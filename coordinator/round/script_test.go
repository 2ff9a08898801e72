package round

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/discreet-fl/discreet/coordinator/round/liar"
	"github.com/discreet-fl/discreet/secagg"
)

var update = flag.Bool("update", false, "rewrite the transcripts in testdata")

// TestTranscripts plays the scripts in testdata against a round with real devices.
// A line that begins with "> " is a command; what follows is what came of it.
//
//	> new devices=5 min=3 ring=20    begins; advertise=40s step=10s grace=5s unless given
//	> new devices=9 cohort=3         in cohorts, which the output then names
//	> advertise 0 1                  these devices send their message of that step
//	> advertise! 0                   device 0 sends other bytes; the last one is a stranger
//	> reveal~ 0                      device 0 sends its message with one bit turned
//	> share all / present / c1       all devices, those with a connection, or those of a cohort
//	> misdeal 0 1 / crook 0 1        device 0 deals to device 1 what does not open, or a wrong share
//	> complain 1                     what device 1 has to complain of
//	> gone 3 / back 3                its connection
//	> +5s                            time passes, and a tick
//	> deadline                       prints when the next tick is due
//	> progress                       prints how far the round is
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
	// lie, where set, changes what a device sends in a step.
	lie func(device int, step Step, payload []byte) []byte
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
	case verb == "progress":
		step, answered, expected := p.round.Progress()
		all, lost := p.round.Cohorts()
		fmt.Fprintf(&p.out, "%v %d/%d, %d of %d cohorts lost, %d in rosters\n", step, answered, expected, lost, all, p.round.Roster())
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
	case verb == "misdeal", verb == "crook":
		p.deceive(verb, p.named(words[1])[0], p.named(words[2])[0])
	case verb == "complain", verb == "complain!":
		p.each(words[1:], func(d *device) { p.complain(d, strings.HasSuffix(verb, "!")) })
	default:
		p.each(words[1:], func(d *device) { p.send(verb, d) })
	}
}

// begin starts a round as the words say.
func (p *player) begin(settings []string) {
	n, config := 0, Config{Advertise: 40 * time.Second, Step: 10 * time.Second, Grace: 5 * time.Second}
	params := testParams()
	for _, s := range settings {
		name, value, _ := strings.Cut(s, "=")
		number, _ := strconv.Atoi(value)
		span, _ := time.ParseDuration(value)
		switch name {
		case "devices":
			n = number
		case "cohort":
			params.Cohort = number
		case "min":
			params.MinSurvivors = number
		case "grace":
			config.Grace = span
		case "ring":
			params.RingBits = number
		case "keys":
			params.Keys = map[string]secagg.KeyExchange{"hybrid": secagg.Hybrid, "classical": secagg.Classical}[value]
		default:
			p.t.Fatalf("unknown setting %q", s)
		}
	}
	if params.Cohort == 0 {
		params.Cohort = n
	}
	p.devices, config.CheckIns = nil, make(map[secagg.ID][32]byte)
	for i := range n + 1 { // the last one is a stranger
		d := newDevice(p.t, i, params)
		p.devices = append(p.devices, d)
		if i < n {
			config.CheckIns[d.id] = d.commitment
		}
	}
	config.Params, p.params = params, params
	var err error
	if p.round, err = New(p.now, config); err != nil {
		fmt.Fprintf(&p.out, "error: %v\n", err)
		return
	}
	for i, d := range p.devices {
		if d.committed, err = p.round.Committed(d.id); (err == nil) != (i < n) {
			p.t.Fatalf("device %d: %v", i, err)
		}
	}
	p.devices[n].committed = p.devices[0].committed
	p.start = p.now
}

// named are the devices of a word: a number, "all", "present", those of them that have a
// connection, or "c2", those of a cohort.
func (p *player) named(word string) []*device {
	if i, err := strconv.Atoi(word); err == nil {
		return p.devices[i : i+1]
	}
	var list []*device
	for _, d := range p.devices[:len(p.devices)-1] {
		m := p.round.members[d.id]
		if c := m.cohort; word == "all" || word == "present" && m.gone.IsZero() || c != nil && word == fmt.Sprintf("c%d", c.number) {
			list = append(list, d)
		}
	}
	if list == nil {
		p.t.Fatalf("no device is called %q", word)
	}
	return list
}

func (p *player) each(names []string, f func(*device)) {
	for _, name := range names {
		for _, d := range p.named(name) {
			f(d)
		}
	}
}

func (p *player) send(verb string, d *device) {
	name := strings.TrimRight(verb, "!~")
	step := Step(slices.IndexFunc([]Step{0, 1, 2, 3, 4}, func(s Step) bool { return s.String() == name }))
	if step < 0 {
		p.t.Fatalf("unknown command %q", verb)
	}
	payload := []byte("other bytes")
	if !strings.HasSuffix(verb, "!") {
		if err := d.prepare(p.params, step); err != nil {
			p.t.Fatalf("device %d: %v after\n%s", p.index(d.id), err, p.out.String())
		}
		payload = bytes.Clone(d.message[step])
	}
	if strings.HasSuffix(verb, "~") {
		payload[len(payload)-1] ^= 1
	}
	if p.lie != nil {
		payload = p.lie(p.index(d.id), step, payload)
	}
	effects, err := p.round.Receive(p.now, d.id, step, payload)
	p.print(effects)
	p.refused(d, err)
}

// complain sends the device's complaint, or other bytes.
func (p *player) complain(d *device, other bool) {
	payload := []byte("other bytes")
	if !other {
		if err := d.prepare(p.params, Submit); err != nil {
			p.t.Fatalf("device %d: %v", p.index(d.id), err)
		}
		payload = d.complaint
	}
	effects, err := p.round.Complain(p.now, d.id, payload)
	p.print(effects)
	p.refused(d, err)
}

// deceive spoils what one device deals to another, under its own signature.
func (p *player) deceive(how string, dealer, victim *device) {
	if err := dealer.prepare(p.params, Share); err != nil {
		p.t.Fatal(err)
	}
	var adverts [][]byte
	for _, d := range p.devices[:len(p.devices)-1] {
		if c := p.round.members[d.id].cohort; c != nil && c == p.round.members[dealer.id].cohort {
			adverts = append(adverts, d.message[Advertise])
		}
	}
	l, err := liar.New(p.params, dealer.signer.Key, dealer.committed, adverts)
	if err != nil {
		p.t.Fatal(err)
	}
	if p.params.Cohort < len(p.devices)-1 {
		l.Lot(dealer.reply[Advertise])
	}
	spoil := map[string]func([]byte, secagg.ID) ([]byte, error){"misdeal": l.Misdeal, "crook": l.Crook}[how]
	if dealer.message[Share], err = spoil(dealer.message[Share], victim.id); err != nil {
		p.t.Fatal(err)
	}
}

func (p *player) refused(d *device, err error) {
	for _, e := range []error{ErrNotMember, ErrLate, ErrEarly, ErrDiffers, ErrMalformed, ErrOut, ErrTooOften, ErrOver} {
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
			p.take(e)
			to = append(to, e.To)
			if i+1 < len(effects) {
				if next, more := effects[i+1].(Reply); more && next.cohort == e.cohort {
					continue
				}
			}
			fmt.Fprintf(&p.out, "reply %v %v%s\n", e.Step, p.indices(to), p.of(e.cohort.number))
			to = nil
		case Closed:
			fmt.Fprintf(&p.out, "closed %v %d/%d%s\n", e.Step, e.Answered, e.Expected, p.of(e.Cohort))
		case Blamed:
			verdict := [...]string{fmt.Sprintf("accused by %d", p.index(e.Accuser)), "broke the protocol", "spoilt its cohort"}[e.Verdict]
			fmt.Fprintf(&p.out, "%d %s in %v: %s\n", p.index(e.Peer), verdict, e.Step, p.anonymous(e.Err))
		case Disputed:
			for _, d := range e.Pairs {
				fmt.Fprintf(&p.out, "%d says that %d broke the protocol, and in %v: %s\n", p.index(d.Accuser), p.index(d.Accused), e.Step, p.anonymous(e.Err))
			}
		case CohortLost:
			fmt.Fprintf(&p.out, "lost %v in %v%s: %s\n", p.indices(e.Members), e.Step, p.of(e.Cohort), e.Reason)
		case CohortSummed:
			fmt.Fprintf(&p.out, "summed %v, %s%s\n", p.indices(e.Survivors), p.verify(e), p.of(e.Cohort))
		case Done:
			fmt.Fprintf(&p.out, "done, %d of %d cohorts lost\n", e.Lost, e.Cohorts)
		case Aborted:
			fmt.Fprintf(&p.out, "aborted in %v: %s\n", e.Step, e.Reason)
		}
	}
}

// of names a cohort where there are several.
func (p *player) of(cohort int) string {
	if all, _ := p.round.Cohorts(); all == 1 {
		return ""
	}
	return fmt.Sprintf(" in c%d", cohort)
}

// anonymous is an error with the devices' numbers for their identifiers.
func (p *player) anonymous(err error) string {
	text := err.Error()
	for i, d := range p.devices {
		text = strings.ReplaceAll(text, d.id.String(), fmt.Sprint(i))
	}
	return text
}

// take hands a device its reply and holds that it is the same whenever it is built.
func (p *player) take(r Reply) {
	d, reply := p.devices[p.index(r.To)], r.Payload(nil)
	if r.cohort.lost { // at once: there was nobody to wait for
		return
	}
	if len(reply) == 0 || !bytes.Equal(reply, p.round.Reply(r.To, r.Step)) {
		p.t.Errorf("device %d: a reply to %v of %d bytes, and another when asked for again", p.index(r.To), r.Step, len(reply))
	}
	if d.reply[r.Step] != nil && !bytes.Equal(d.reply[r.Step], reply) {
		p.t.Errorf("device %d was answered in two ways in %v", p.index(r.To), r.Step)
	}
	d.reply[r.Step] = reply
}

// verify unmasks and compares with the plain sum of the survivors' vectors.
func (p *player) verify(s CohortSummed) string {
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
