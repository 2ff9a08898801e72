package round

import (
	"bytes"
	"errors"
	"testing"
	"time"
)

// TestRepeatedComplaint: the same complaint again costs nothing, so many times in a second,
// and another one costs its sender its place, but no vector that is in the sum.
func TestRepeatedComplaint(t *testing.T) {
	p := &player{t: t, now: time.UnixMilli(0)}
	for _, line := range []string{"new devices=7", "advertise all", "misdeal 2 1", "share all", "complain 1", "submit all"} {
		p.play(line)
	}
	d := p.devices[1]
	if d.complaint == nil {
		t.Fatalf("device 1 has nothing to complain about\n%s", p.out.String())
	}
	for second := range 3 {
		for i := range mostRepeats + 2 {
			effects, err := p.round.Complain(p.now, d.id, d.complaint)
			switch {
			case len(effects) > 0:
				t.Fatalf("repeat %d in second %d: %v", i+1, second, effects)
			case i < mostRepeats && err != nil:
				t.Fatalf("repeat %d in second %d: %v", i+1, second, err)
			case i >= mostRepeats && !errors.Is(err, ErrTooOften):
				t.Fatalf("repeat %d in second %d: %v, want %v", i+1, second, err, ErrTooOften)
			}
		}
		p.now = p.now.Add(time.Second)
	}
	other := bytes.Clone(d.complaint)
	other[len(other)-1] ^= 1
	if _, err := p.round.Complain(p.now, d.id, other); !errors.Is(err, ErrDiffers) {
		t.Errorf("another complaint: %v, want %v", err, ErrDiffers)
	}
	for _, line := range []string{"confirm 0 2 3 4 5 6", "reveal 0 2 3 4 5 6"} {
		p.play(line)
	}
	if !p.round.over || p.round.aborted {
		t.Errorf("no sum after\n%s", p.out.String())
	}
}

// TestRepeatedLateReveal: once the sum is complete, a survivor's reveal is not needed and
// nothing is kept of it. It may repeat it no more often than another message.
func TestRepeatedLateReveal(t *testing.T) {
	p := &player{t: t, now: time.UnixMilli(0)}
	for _, line := range []string{"new devices=5", "advertise all", "share all", "submit all", "confirm all", "gone 4", "+6s", "reveal 0 1 2 3"} {
		p.play(line)
	}
	d := p.devices[4]
	if !p.round.over || p.round.aborted || d.reply[Confirm] == nil {
		t.Fatalf("no sum without device 4 after\n%s", p.out.String())
	}
	if err := d.prepare(p.params, Reveal); err != nil {
		t.Fatal(err)
	}
	for second := range 3 {
		for i := range mostRepeats + 2 {
			effects, err := p.round.Receive(p.now, d.id, Reveal, d.message[Reveal])
			if len(effects) > 0 || i < mostRepeats && err != nil || i >= mostRepeats && !errors.Is(err, ErrTooOften) {
				t.Fatalf("reveal %d in second %d: %v, %v", i+1, second, effects, err)
			}
		}
		p.now = p.now.Add(time.Second)
	}
}
