package round

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"math"
	"runtime"
	"testing"
	"time"
)

// TestRepeats has a device send one accepted message over and over. A repeat builds no
// reply by itself, so many of them in a second are refused, and nothing else is lost by it.
func TestRepeats(t *testing.T) {
	p := &player{t: t, now: time.UnixMilli(0)}
	p.play("new devices=16")
	p.play("advertise all")
	d := p.devices[0]
	advert := d.message[Advertise]
	repeat := func() ([]Effect, error) { return p.round.Receive(p.now, d.id, Advertise, advert) }
	for second := range 3 {
		for i := range mostRepeats {
			effects, err := repeat()
			if err != nil || len(effects) != 1 {
				t.Fatalf("repeat %d in second %d: %v, %v; want its reply", i+1, second, effects, err)
			}
		}
		for range 2 {
			if effects, err := repeat(); !errors.Is(err, ErrTooOften) || effects != nil {
				t.Fatalf("one repeat more in second %d: %v, %v", second, effects, err)
			}
		}
		p.now = p.now.Add(time.Second)
	}
	// Other goroutines only add to what is allocated during one repeat: the least of many is its own.
	var before, after runtime.MemStats
	least := uint64(math.MaxUint64)
	for range mostRepeats {
		runtime.ReadMemStats(&before)
		if _, err := repeat(); err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		least = min(least, after.TotalAlloc-before.TotalAlloc)
	}
	if roster := uint64(len(d.reply[Advertise])); least > roster/2 {
		t.Errorf("a repeat takes %d bytes; is its reply, of %d, built?", least, roster)
	}
	p.play("share all")
	p.play("submit all")
	p.play("confirm all")
	p.play("reveal all")
	if !p.round.over || p.round.aborted {
		t.Errorf("no sum after\n%s", p.out.String())
	}
}

// TestReceiveVector holds that a vector whose hash its caller knows is taken as another is: it
// may come again, with either call, and other bytes cost its sender its place.
func TestReceiveVector(t *testing.T) {
	p := &player{t: t, now: time.UnixMilli(0)}
	p.play("new devices=4")
	p.play("advertise all")
	p.play("share all")
	d := p.devices[0]
	p.play("submit 1")
	if err := d.prepare(p.params, Submit); err != nil {
		t.Fatal(err)
	}
	vector := d.message[Submit]
	sum := sha256.Sum256(vector)
	if _, err := p.round.ReceiveVector(p.now, d.id, vector, sum); err != nil {
		t.Fatal(err)
	}
	if _, err := p.round.Receive(p.now, d.id, Submit, vector); err != nil {
		t.Errorf("the same vector again: %v", err)
	}
	if _, err := p.round.ReceiveVector(p.now, d.id, vector, sum); err != nil {
		t.Errorf("the same vector and hash again: %v", err)
	}
	sum[0] ^= 1
	if _, err := p.round.ReceiveVector(p.now, d.id, vector, sum); !errors.Is(err, ErrDiffers) {
		t.Errorf("another hash: %v, want %v", err, ErrDiffers)
	}
}

// TestPayloadInMemory holds that a roster and an inbox are built in the memory that is given
// for them, over what was there, and with none or too little in their own.
func TestPayloadInMemory(t *testing.T) {
	p := &player{t: t, now: time.UnixMilli(0)}
	p.play("new devices=4")
	p.play("advertise all")
	for _, step := range []Step{Advertise, Share} {
		if step == Share {
			p.play("share all")
		}
		for _, d := range p.devices[:4] { // the last is a stranger
			effects, err := p.round.Receive(p.now, d.id, step, d.message[step])
			if err != nil || len(effects) != 1 {
				t.Fatalf("%v again: %v, %v", step, effects, err)
			}
			again, memory := effects[0].(Reply), bytes.Repeat([]byte{0xff}, 1<<16)
			got := again.Payload(memory)
			if !bytes.Equal(got, d.reply[step]) || &got[0] != &memory[0] {
				t.Errorf("%v: a payload of %d bytes, want the %d as before, in the memory", step, len(got), len(d.reply[step]))
			}
			for _, little := range [][]byte{nil, make([]byte, 9)} {
				if got := again.Payload(little); !bytes.Equal(got, d.reply[step]) {
					t.Errorf("%v: with memory of %d bytes another payload", step, len(little))
				}
			}
		}
	}
}
