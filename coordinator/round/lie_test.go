package round

import (
	"strings"
	"testing"
	"time"
)

// TestReasonsNameNobody lets members lie in every step, so that cohorts are lost by
// them. The reasons, which go to the log and to every member, hold no device's
// identifier; what is blamed says who it was.
func TestReasonsNameNobody(t *testing.T) {
	for _, script := range []string{
		"new devices=3, advertise all, crook 0 1, share all, submit all, confirm all, reveal all", // the dealer is found out
		"new devices=4, advertise all, share all, submit all, confirm all, reveal 1 2, reveal~ 0 3",
		"new devices=3, advertise all, misdeal 0 1, share 0 1 2, complain 1, submit all, confirm all, reveal~ 0, reveal 1 2",
	} {
		p := &player{t: t, now: time.UnixMilli(0)}
		for command := range strings.SplitSeq(script, ", ") {
			p.play(command)
		}
		out := p.out.String()
		if !strings.Contains(out, "aborted in reveal: ") {
			t.Errorf("%s: no abort in\n%s", script, out)
		}
		if !strings.Contains(out, "0 broke the protocol") && !strings.Contains(out, "0 spoilt its cohort") {
			t.Errorf("%s: nobody says who it was\n%s", script, out)
		}
		for _, d := range p.devices {
			if strings.Contains(out, d.id.String()) {
				t.Errorf("%s: device %v is named\n%s", script, d.id, out)
			}
		}
	}
}

// TestHookSeesEveryMessage holds that a test can lie in each step, and that the lie shows.
func TestHookSeesEveryMessage(t *testing.T) {
	for step := range steps {
		p := &player{t: t, now: time.UnixMilli(0), lie: func(device int, at Step, payload []byte) []byte {
			if device == 2 && at == step {
				payload[len(payload)/2] ^= 1
			}
			return payload
		}}
		p.play("new devices=4")
		for at := range steps {
			if who := " 0 1 2 3"; at <= step || step == Submit {
				p.play(at.String() + who)
			} else {
				p.play(at.String() + " 0 1 3")
			}
			p.play("+5s")
		}
		want := "2 broke the protocol in " + step.String()
		if step == Submit {
			want = " is wrong" // the sum: a masked vector is as good as any other
		}
		if !strings.Contains(p.out.String(), want) {
			t.Errorf("%v: the lie went unseen, no %q in\n%s", step, want, p.out.String())
		}
	}
}

// TestSparseGraph takes more members than mask all with each other. Each of them then
// says what it thinks of its shares before its vector is taken.
func TestSparseGraph(t *testing.T) {
	p := &player{t: t, now: time.UnixMilli(0)}
	for _, command := range []string{
		"new devices=120", "gone 3", "advertise present", "+5s", "gone 7 8", "share present", "+5s", "submit 0", "complain present",
		"gone 11 12 13", "submit present", "+5s", "gone 17", "confirm present", "+5s", "gone 20 21", "reveal present", "+5s",
	} {
		p.play(command)
	}
	out := p.out.String()
	for _, want := range []string{"0 refused: the step is not open yet", "closed submit 114/117", "their plain sum", "done, 0 of 1 cohorts lost"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}
