//go:build unix

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestSecondSignalEndsAtOnce stops a command that waits for its input and cannot be told.
func TestSecondSignalEndsAtOnce(t *testing.T) {
	b := newBench(t)
	pipe := filepath.Join(b.dir, "model.ckpt")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	c := b.command(path, "classify", "--checkpoint", "model.ckpt", "hello")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	writer, err := os.OpenFile(pipe, os.O_WRONLY, 0) // once it reads
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	b.write("log", "")
	b.until("the command to end by a second signal", func() bool {
		_ = c.Process.Signal(os.Interrupt) // it may have ended
		return len(ended) > 0
	})
	<-ended
	if status := c.ProcessState.Sys().(syscall.WaitStatus); status.Signal() != syscall.SIGINT {
		t.Errorf("it ended with %v, want by the signal", c.ProcessState)
	}
}

// TestSignalEndsWarmStart stops a command once, while it trains on more phrases than it is done
// with before it hears of that, and before it calls a coordinator.
func TestSignalEndsWarmStart(t *testing.T) {
	b := newBench(t)
	var phrases strings.Builder
	phrases.WriteString("text,intent\n")
	for i := range 20_000 {
		fmt.Fprintf(&phrases, "please do the thing called number%d,intent %d\n", i%50, i%50)
	}
	b.must("ca", "init", "ca")
	b.must("ca", "issue", "coordinator", "ca", "--out", "server")
	pipe := filepath.Join(b.dir, "pipe.csv")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	c := b.command(path, "task", "create", "desk", "--warm-start", "pipe.csv", "--server", "localhost:1")
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	writer, err := os.OpenFile(pipe, os.O_WRONLY, 0) // once it reads
	if err != nil {
		t.Fatal(err)
	}
	_, err = writer.WriteString(phrases.String())
	if err := errors.Join(err, writer.Close(), c.Process.Signal(os.Interrupt)); err != nil {
		t.Fatal(err)
	}
	_ = c.Wait() // how it ended is asked next
	if code := c.ProcessState.ExitCode(); code != exitInterrupted || errs.String() != "discreet: interrupted\n" || out.Len() > 0 {
		t.Errorf("it ended with %v and %q, and prints %q; want exit code %d, and nothing trained", c.ProcessState, &errs, &out, exitInterrupted)
	}
}

// TestHangUpLeavesNoHalfFile closes the terminal of a simulation, which may hang up more than
// once.
func TestHangUpLeavesNoHalfFile(t *testing.T) {
	b := newBench(t)
	b.write("log", "")
	log, err := os.OpenFile(filepath.Join(b.dir, "log"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	c := b.command(path, "simulate", "--devices", "20", "--rounds", "100000", "--secure=false", "--json", "out.json", "--report", "out.html")
	c.Stderr = log
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	b.until("a first round", func() bool { return strings.Contains(b.logged(), "round 1 of") })
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	for len(ended) == 0 {
		_ = c.Process.Signal(syscall.SIGHUP) // it may have ended
	}
	<-ended
	if code := c.ProcessState.ExitCode(); code != exitInterrupted {
		t.Errorf("it ended with %v, want exit code %d", c.ProcessState, exitInterrupted)
	}
	if names := namesIn(t, b.dir); len(names) != 1 {
		t.Errorf("it left %q, want the log alone", names)
	}
}
