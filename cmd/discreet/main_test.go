package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// The test binary is `discreet` itself where this is set.
const asProgram = "DISCREET_TEST_AS_PROGRAM"

// dieAt names a log message at which a process of a test kills itself, so that it
// dies at an exact place and not after a time.
const dieAt = "DISCREET_TEST_DIE_AT"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		if message := os.Getenv(dieAt); message != "" {
			wrapHandler = func(h slog.Handler) slog.Handler { return mortal{h, message} }
		}
		main()
		os.Exit(0)
	}
	os.Exit(runTests(m))
}

// runTests runs the tests with a folder for the built program.
func runTests(m *testing.M) int {
	var err error
	if buildDir, err = os.MkdirTemp("", "discreet-test-"); err != nil {
		panic(err)
	}
	defer os.RemoveAll(buildDir)
	return m.Run()
}

// mortal kills its own process, as kill -9 does, when a message is logged.
type mortal struct {
	slog.Handler
	message string
}

func (m mortal) WithAttrs(a []slog.Attr) slog.Handler {
	return mortal{m.Handler.WithAttrs(a), m.message}
}
func (m mortal) WithGroup(g string) slog.Handler { return mortal{m.Handler.WithGroup(g), m.message} }
func (m mortal) Handle(ctx context.Context, r slog.Record) error {
	err := m.Handler.Handle(ctx, r)
	if r.Message != m.message {
		return err
	}
	self, findErr := os.FindProcess(os.Getpid())
	if err := errors.Join(err, findErr); err != nil {
		panic(err)
	}
	_ = self.Kill()
	select {} // nothing happens after death
}

// bench is a folder in which a test runs commands.
type bench struct {
	t   *testing.T
	dir string
	env []string
}

// newBench makes a folder with a home of its own.
func newBench(t *testing.T) *bench {
	t.Helper()
	dir := t.TempDir()
	return &bench{t, dir, append(os.Environ(), asProgram+"=1", "HOME="+dir, "XDG_CONFIG_HOME="+filepath.Join(dir, "config"),
		"DISCREET_OPERATOR="+filepath.Join("server", "operator.pem"))}
}

// program builds `discreet` as a user would, once, and returns its path: without the
// race detector, under which training takes minutes.
var program = sync.OnceValues(func() (string, error) {
	path := filepath.Join(buildDir, "discreet")
	out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("building discreet: %w\n%s", err, out)
	}
	return path, nil
})

// buildDir is where program builds.
var buildDir string

// command prepares `path args...`.
func (b *bench) command(path string, args ...string) *exec.Cmd {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 8*time.Minute) // daemons run as long as a test
	b.t.Cleanup(cancel)
	c := exec.CommandContext(ctx, path, args...)
	c.Dir, c.Env = b.dir, b.env
	return c
}

// run runs a command and returns its output and exit code.
func (b *bench) run(args ...string) (stdout, stderr string, code int) {
	b.t.Helper()
	path, err := program()
	if err != nil {
		b.t.Fatal(err)
	}
	c := b.command(path, args...)
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil {
		if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) {
			b.t.Fatalf("%v: %v", args, err)
		}
	}
	return out.String(), errs.String(), c.ProcessState.ExitCode()
}

// must runs a command that has to succeed and returns its output.
func (b *bench) must(args ...string) string {
	b.t.Helper()
	out, errs, code := b.run(args...)
	if code != 0 {
		b.t.Fatalf("discreet %v: exit %d\n%s%s", args, code, out, errs)
	}
	return out
}

// daemon is a command that goes on running.
type daemon struct {
	cmd  *exec.Cmd
	done chan struct{}
}

// start starts a daemon, which is the test binary itself, and waits for its first line, which it returns. log gets all
// that it prints, for a failing test to show.
func (b *bench) start(extra []string, args ...string) (*daemon, string) {
	b.t.Helper()
	self, err := os.Executable()
	if err != nil {
		b.t.Fatal(err)
	}
	c := b.command(self, args...)
	c.Env = append(c.Env, extra...)
	out, err := c.StdoutPipe()
	if err != nil {
		b.t.Fatal(err)
	}
	log, err := os.OpenFile(filepath.Join(b.dir, "log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		b.t.Fatal(err)
	}
	c.Stderr = log
	if err := c.Start(); err != nil {
		b.t.Fatal(err)
	}
	first := make([]byte, 4096)
	n, err := out.Read(first)
	if err != nil && !errors.Is(err, io.EOF) {
		b.t.Fatal(err)
	}
	d := &daemon{c, make(chan struct{})}
	go func() {
		defer close(d.done)
		_, _ = io.Copy(log, out)
		_ = c.Wait() // how it ended is for the test to ask
		log.Close()
	}()
	b.t.Cleanup(d.kill)
	line, _, _ := strings.Cut(string(first[:n]), "\n")
	return d, line
}

// kill ends a daemon as kill -9 does and waits for it.
func (d *daemon) kill() {
	_ = d.cmd.Process.Kill()
	<-d.done
}

// logged is what the daemons have printed so far.
func (b *bench) logged() string {
	text, err := os.ReadFile(filepath.Join(b.dir, "log"))
	if err != nil {
		b.t.Fatal(err)
	}
	return string(text)
}

// until asks a condition again and again, and fails the test when it does not hold in time.
func (b *bench) until(what string, holds func() bool) {
	b.t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	deadline := time.NewTimer(90 * time.Second)
	defer deadline.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline.C:
			log := b.logged()
			b.t.Fatalf("waited in vain for %s; the daemons' log ends with\n%s", what, log[max(0, len(log)-6000):])
		}
	}
}
