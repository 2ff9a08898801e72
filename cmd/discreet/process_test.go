package main

import (
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/discreet-fl/discreet/client/agent"
	"github.com/discreet-fl/discreet/dataset"
)

// federation is a coordinator and agents, each a process of its own.
type federation struct {
	*bench
	address string
	server  *daemon
	agents  []*daemon
}

// serve starts the coordinator, the first time on a free port and from then on on
// the same one.
func (f *federation) serve(extra ...string) {
	f.t.Helper()
	if f.address == "" {
		f.address = freeAddress(f.t)
	}
	server, line := f.start(extra, "serve", "--log-level", "debug", "--dir", "server", "--listen", f.address, "--http", "", "--grace", "200ms")
	if !strings.HasPrefix(line, "listening on ") {
		f.t.Fatalf("serve printed %q first; its log: %s", line, f.logged())
	}
	f.server = server
}

// freeAddress is a loopback address that nobody listens on at the moment.
func freeAddress(t *testing.T) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// operate runs an operator's command.
func (f *federation) operate(args ...string) string {
	f.t.Helper()
	return f.must(append(args, "--server", f.address)...)
}

// kiosk is the folder of the i-th agent, from 0.
func kiosk(i int) string { return fmt.Sprintf("kiosk%d", i+1) }

// newFederation starts a coordinator, creates a task and enrols agents with a
// customer's chats each. They are not running yet.
func newFederation(t *testing.T, agents int, task ...string) *federation {
	t.Helper()
	f := &federation{bench: newBench(t)}
	f.must("demo", "--export", "shop")
	f.serve()
	f.operate(append([]string{"task", "create", "support", "--intents", "shop/intents.txt", "--per-round", strconv.Itoa(agents)}, task...)...)
	token := strings.TrimSpace(f.operate("token", "create", "--uses", strconv.Itoa(agents)))
	f.agents = make([]*daemon, agents)
	for i := range agents {
		f.must("agent", "join", "--dir", kiosk(i), f.address, token)
		f.must("learn", "--dir", kiosk(i), "--file", filepath.Join("shop", fmt.Sprintf("customer-%02d.csv", i+1)))
	}
	return f
}

// runAgent starts the i-th agent.
func (f *federation) runAgent(i int, extra ...string) {
	f.t.Helper()
	agent, line := f.start(extra, "agent", "--dir", kiosk(i))
	if !strings.Contains(line, "agent.sock") {
		f.t.Fatalf("agent printed %q first; its log: %s", line, f.logged())
	}
	f.agents[i] = agent
}

// committed is how many rounds the coordinator has committed, -1 while it is away.
func (f *federation) committed() int {
	out, _, code := f.bench.run("task", "show", "support", "--server", f.address)
	found := regexp.MustCompile(`(?m)^rounds committed +(\d+)`).FindStringSubmatch(out)
	if code != 0 || found == nil {
		return -1
	}
	n, err := strconv.Atoi(found[1])
	if err != nil {
		f.t.Fatal(err)
	}
	return n
}

// right counts the shop's test phrases that a kiosk's running agent classifies rightly.
func (f *federation) right(dir string) int {
	f.t.Helper()
	caller, err := agent.Dial(f.t.Context(), filepath.Join(f.dir, dir))
	if err != nil {
		f.t.Fatal(err)
	}
	defer caller.Close()
	right := 0
	for _, p := range dataset.Shop().Test {
		answer, err := caller.Classify(f.t.Context(), p.Text, 1)
		if err != nil {
			f.t.Fatal(err)
		}
		if answer.Intents[0].Intent == p.Intent {
			right++
		}
	}
	return right
}

// TestFiveProcesses is README's walk with processes that die: a round that loses an
// agent after Share ends with three survivors, and one that loses two aborts and
// names the minimum.
func TestFiveProcesses(t *testing.T) {
	if testing.Short() {
		t.Skip("left out: five processes, killed and restarted, take half a minute")
	}
	f := newFederation(t, 4, "--every", "500ms", "--deadline", "40s") // of which a round waits a quarter for its fourth device
	for i := range 3 {
		f.runAgent(i)
	}
	f.runAgent(3, dieAt+"=share answered")
	survived := regexp.MustCompile(`(?m)^1 +1 .* 4 +4 +1 +0 +3 +\S+ +committed`)
	f.until("round 1 to end with three of four survivors", func() bool {
		return survived.MatchString(f.operate("task", "show", "support"))
	})
	before := f.right(kiosk(0))
	f.runAgent(3)
	f.until("fifteen rounds", func() bool { return f.committed() >= 15 })
	if after := f.right(kiosk(0)); after < before+50 {
		t.Errorf("a kiosk knows %d of 510 phrases after fifteen rounds and %d after one, want many more", after, before)
	}
	if out := f.must("classify", "--dir", kiosk(0), "wheres my parcel"); !strings.HasPrefix(out, "order_status") {
		t.Errorf("asked where a parcel is, the kiosk answers %s", out)
	}

	best := regexp.MustCompile(`(?m)^best checkpoint +[0-9a-f]{64}, accuracy`)
	f.until("two hundred chats to be counted, for a best checkpoint", func() bool { return best.MatchString(f.operate("task", "show", "support")) })
	f.operate("checkpoint", "export", "support", "best.ckpt", "--best")
	if out := f.must("classify", "--checkpoint", "best.ckpt", "--json", "wheres my parcel"); !strings.Contains(out, `"unknown": false`) {
		t.Errorf("asked where a parcel is, the best checkpoint answers %s", out)
	}
	if out := f.operate("task", "show", "support"); !best.MatchString(out) || !strings.Contains(out, "lowest recall") {
		t.Errorf("the task's evaluation is not shown in\n%s", out)
	}

	// Two agents start again, to die after Share.
	for _, i := range []int{2, 3} {
		f.agents[i].kill()
		f.runAgent(i, dieAt+"=share answered")
	}
	aborted := regexp.MustCompile(`aborted: .*\b3\b`)
	f.until("an attempt that aborts and names the minimum of three", func() bool {
		return aborted.MatchString(f.operate("task", "show", "support"))
	})
	at := f.committed()
	for _, i := range []int{2, 3} {
		f.agents[i].kill()
		f.runAgent(i)
	}
	f.until("the next round to be committed", func() bool { return f.committed() > at })
}

// TestCoordinatorKilledInEachPhase kills the coordinator at each record of a round.
// Nothing committed may be lost, and the next round succeeds without a hand on the
// devices, which run through all of it.
func TestCoordinatorKilledInEachPhase(t *testing.T) {
	if testing.Short() {
		t.Skip("left out: nine deaths of a coordinator take half a minute")
	}
	f := newFederation(t, 3, "--every", "0s", "--deadline", "10s")
	for i := range 3 {
		f.runAgent(i)
	}
	f.until("a first round", func() bool { return f.committed() >= 1 })
	for _, phase := range []string{"device checked in", "cohort formed", "advertise closed", "share closed", "submit closed",
		"confirm closed", "reveal closed", "sum unmasked", "round committed"} {
		at := f.committed()
		f.server.kill()
		f.serve(dieAt + "=" + phase)
		<-f.server.done
		f.serve()
		if now := f.committed(); now < at {
			t.Errorf("killed at %q: %d rounds are committed after the restart; %d were before", phase, now, at)
		}
		at = f.committed()
		f.until("a round after the death at "+phase, func() bool { return f.committed() > at })
	}
}
