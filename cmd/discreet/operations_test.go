package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/discreet-fl/discreet/client"
)

// chapter returns the commands of a chapter of docs/operations.md in order.
func chapter(t *testing.T, title string) (commands []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, body, found := strings.Cut(string(text), "\n## "+title+"\n")
	if !found {
		t.Fatalf("docs/operations.md has no chapter %q", title)
	}
	body, _, _ = strings.Cut(body, "\n## ")
	for _, block := range strings.Split(body, "```sh\n")[1:] {
		block, _, _ = strings.Cut(block, "```")
		commands = append(commands, strings.Split(strings.TrimSpace(block), "\n")...)
	}
	if len(commands) == 0 {
		t.Fatalf("the chapter %q shows no command", title)
	}
	return commands
}

// walk runs the commands of a manual, each a process of its own, with what a person
// would put into them.
type walk struct {
	*federation
	token, device string
	joining       []*daemon
}

// do runs one command.
func (w *walk) do(command string) {
	w.t.Helper()
	command = strings.NewReplacer("federation.example.com:7443", w.address, "TOKEN", w.token, "DEVICE-ID", w.device).Replace(command)
	command, file, redirected := strings.Cut(command, " > ")
	words := strings.Fields(command)
	switch {
	case words[0] == "export":
		w.env = append(w.env, words[1])
	case words[0] == "cp":
		w.copy(words[1], words[2])
	case strings.HasPrefix(command, "discreet serve"):
		server, line := w.start(nil, append(words[1:], "--listen", w.address, "--http", "")...)
		if !strings.HasPrefix(line, "listening on ") {
			w.t.Fatalf("%s printed %q first; its log: %s", command, line, w.logged())
		}
		w.server = server
	case strings.HasPrefix(command, "discreet agent join"):
		for i := range 2 { // two devices, as each is told to
			joining, line := w.start(nil, append(words[1:], "--dir", kiosk(i))...)
			found := regexp.MustCompile(`^device ([0-9a-f]{32}) waits until the operator lets it in$`).FindStringSubmatch(line)
			if found == nil {
				w.t.Fatalf("%s printed %q first; its log: %s", command, line, w.logged())
			}
			w.device, w.joining = found[1], append(w.joining, joining)
		}
	case strings.HasPrefix(command, "discreet token"), strings.HasPrefix(command, "discreet device"):
		out := w.operate(words[1:]...)
		if strings.HasPrefix(command, "discreet token create") {
			w.token = strings.TrimSpace(out)
		}
		if redirected {
			w.write(file, out)
		}
	case words[0] == "discreet":
		w.must(words[1:]...)
	default:
		w.t.Fatalf("the manual shows %q, which this test does not know", command)
	}
}

// TestKeyElsewhereManual walks the chapters of docs/operations.md about a CA whose key
// is on another machine: two devices join, wait, are let in, and one is put out.
func TestKeyElsewhereManual(t *testing.T) {
	if testing.Short() {
		t.Skip("left out: devices that wait for an operator ask every ten seconds")
	}
	w := &walk{federation: &federation{bench: newBench(t), address: freeAddress(t)}}
	for _, command := range chapter(t, "Keeping the CA's key elsewhere") {
		w.do(command)
	}
	if _, err := os.Stat(filepath.Join(w.dir, "coordinator", "ca-key.pem")); err == nil {
		t.Error("the coordinator has the CA's key")
	}
	w.until("both devices to be enrolled", func() bool {
		for _, joining := range w.joining {
			select {
			case <-joining.done:
			default:
				return false
			}
		}
		return true
	})
	if n := strings.Count(w.logged(), "enrolled with "+w.address); n != 2 {
		t.Fatalf("%d devices are enrolled, want 2: %s", n, w.logged())
	}
	if !strings.Contains(w.logged(), "roll taken up") {
		t.Errorf("the coordinator has not kept the roll of both: %s", w.logged())
	}
	join := func(i int) (string, int) {
		_, errs, code := w.run("agent", "join", "--dir", kiosk(i), w.address, w.token)
		return errs, code
	}
	for _, command := range chapter(t, "Revoking a device") {
		w.do(command)
	}
	if errs, code := join(1); code != exitFailed || !strings.Contains(errs, "was revoked") {
		t.Errorf("the revoked device joins: exit %d with %q", code, errs)
	}
	if errs, code := join(0); code != 0 {
		t.Errorf("the other device: exit %d with %q", code, errs)
	}
}

// TestRoundsGoOnWithoutARevokedDevice puts out one of four agents that run, at a
// coordinator that has the key in its own folder.
func TestRoundsGoOnWithoutARevokedDevice(t *testing.T) {
	if testing.Short() {
		t.Skip("left out: five processes and a few rounds take some seconds")
	}
	f := newFederation(t, 4, "--every", "500ms", "--deadline", "4s")
	for i := range 4 {
		f.runAgent(i)
	}
	f.until("a round with all four", func() bool {
		return regexp.MustCompile(`(?m) 4 +4 +1 +0 +4 .* committed`).MatchString(f.operate("task", "show", "support"))
	})
	status := func(i int) (s client.Status) {
		if err := json.Unmarshal([]byte(f.must("agent", "status", "--dir", kiosk(i))), &s); err != nil {
			t.Fatal(err)
		}
		return s
	}
	f.must("ca", "revoke", "server", status(3).Device)
	at := f.committed()
	f.until("two more rounds, with three devices", func() bool {
		return f.committed() >= at+2 && regexp.MustCompile(`(?m) 3 +3 +1 +0 +3 .* committed`).MatchString(f.operate("task", "show", "support"))
	})
	f.until("the device to know why it is out", func() bool {
		s := status(3)
		return strings.Contains(s.LastError+s.Waiting, "revoked")
	})
	if before, after := status(3).RoundsCounted, status(0).RoundsCounted; before >= after {
		t.Errorf("the revoked device was counted in %d rounds, another in %d", before, after)
	}
}

func TestCAIsExplained(t *testing.T) {
	b := newBench(t)
	out := b.must("ca", "init", "ca")
	if !regexp.MustCompile(`^CA fingerprint [0-9a-f]{64}\nkey ca/ca-key.pem\n$`).MatchString(filepath.ToSlash(out)) {
		t.Errorf("ca init prints %q", out)
	}
	b.must("ca", "issue", "coordinator", "ca", "--out", "coordinator")
	b.write("empty.txt", "discreet requests v1\n")
	b.write("taken.txt", "here already")
	b.write("other.txt", "name,intent\n")
	id := strings.Repeat("0a", 16)
	for _, tc := range []struct {
		args string
		code int
		want string
	}{
		{"ca", 0, ""},
		{"ca init", exitUsage, "takes 1 argument (DIR)"},
		{"learn --dir coordinator hi --intent greet", exitUsage, "coordinator is a coordinator's folder, as it has log.pem; name a device's with --dir"},
		{"ca init ca", exitFailed, "holds ca-key.pem, ca.pem"},
		{"ca init coordinator", exitFailed, "holds ca.pem, server.pem, operator.pem, log.pem already"},
		{"ca issue", 0, ""},
		{"ca issue certificates", exitUsage, `not a command of "discreet ca issue"`},
		{"ca issue coordinator ca", exitUsage, "--out is missing"},
		{"ca issue coordinator ca --out coordinator", exitFailed, "name a new folder"},
		{"ca issue coordinator coordinator --out new", exitFailed, "not its key"},
		{"ca issue coordinator nowhere --out new", exitFailed, "ca init"},
		{"ca issue coordinator ca --host a:1 --out new", exitFailed, "want a DNS name"},
		{"ca issue devices ca --requests empty.txt", exitUsage, "--requests and --out are needed"},
		{"ca issue devices ca --requests missing.txt --out new.txt", exitFailed, "missing.txt"},
		{"ca issue devices ca --requests empty.txt --out taken.txt", exitFailed, "taken.txt"},
		{"ca issue devices ca --requests other.txt --out new.txt", exitFailed, "name the file that `discreet device waiting` wrote"},
		{"ca issue devices coordinator --requests empty.txt --out new.txt", exitFailed, "not its key"},
		{"ca issue devices ca --requests empty.txt --out new.txt", 0, ""}, // new.txt was not left behind before
		{"ca revoke ca", exitUsage, "one DEVICE-ID or more"},
		{"ca revoke ca 0a0b", exitUsage, "32 hexadecimal digits"},
		{"ca revoke coordinator " + id, exitFailed, "not its key"},
		{"ca revoke ca " + id, 0, ""},
		{"device admit taken.txt", exitFailed, "name the file that `discreet ca issue devices` wrote"},
		{"device admit", exitUsage, "takes 1 argument (FILE)"},
		{"serve --dir coordinator --host elsewhere.example.com --listen 127.0.0.1:0", exitFailed, "not for elsewhere.example.com"},
	} {
		_, errs, code := b.run(strings.Fields(tc.args)...)
		if code != tc.code || !strings.Contains(errs, tc.want) {
			t.Errorf("discreet %s: exit %d with %q, want exit %d with %q", tc.args, code, errs, tc.code, tc.want)
		}
	}
	if text, err := os.ReadFile(filepath.Join(b.dir, "taken.txt")); err != nil || string(text) != "here already" {
		t.Errorf("a file that was there is now %q, %v", text, err)
	}
	if out := b.must("ca", "revoke", "ca", id, strings.Repeat("0b", 16)); !strings.HasPrefix(out, "2 devices revoked in all") {
		t.Errorf("ca revoke prints %q", out)
	}
}
