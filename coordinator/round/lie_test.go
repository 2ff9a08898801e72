package round

import (
	"strings"
	"testing"
	"time"
)

// TestAWrongRevealAbortsAndNamesNobody has a survivor reveal well-formed shares that
// are not what it was dealt. The sum is lost; the reason goes to the log and to every
// member, and holds no device's identifier.
func TestAWrongRevealAbortsAndNamesNobody(t *testing.T) {
	p := &player{t: t, now: time.UnixMilli(0)}
	for _, command := range []string{"new devices=3", "advertise 0 1 2", "share 0 1 2", "submit 0 1 2", "reveal 1"} {
		p.play(command)
	}
	for _, d := range []*device{p.devices[0], p.devices[2]} {
		if err := d.prepare(p.params, Reveal); err != nil {
			t.Fatal(err)
		}
		d.message[Reveal][34] ^= 1 // the low byte of the first scalar stays below the order
	}
	p.play("reveal 0 2")
	out := p.out.String()
	if !strings.Contains(out, "aborted in reveal: ") {
		t.Fatalf("no abort in\n%s", out)
	}
	for _, d := range p.devices {
		if strings.Contains(out, d.id.String()) {
			t.Errorf("the reason names device %v:\n%s", d.id, out)
		}
	}
}
