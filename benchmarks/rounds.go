package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/discreet-fl/discreet/coordinator"
	"github.com/discreet-fl/discreet/dataset"
	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/simulate/fleet"
)

// daemonArgument makes this program the coordinator of a rounds benchmark, so that
// its memory and processor time are its own. The folder follows it.
const daemonArgument = "rounds-coordinator"

// roundFigures are what the rounds benchmark writes.
type roundFigures struct {
	Command       string  `json:"command"`
	Machine       string  `json:"machine"`
	Devices       int     `json:"devices"`
	PerRound      int     `json:"per_round"`
	Model         string  `json:"model"`
	Rounds        int     `json:"rounds"`
	Attempts      int     `json:"attempts"`
	Seconds       float64 `json:"seconds"`
	RoundsPerHour float64 `json:"rounds_per_hour"`
	// The coordinator's processor time a round, and its peak resident memory, 0 where
	// the system does not say.
	CoordinatorSeconds   float64 `json:"coordinator_cpu_seconds_per_round"`
	CoordinatorPeakBytes int64   `json:"coordinator_peak_bytes"`
	BytesUp              int64   `json:"bytes_up_per_device"`
	// DevicesSeconds is the processor time of all devices together a round; the cores
	// are what bounds the rounds an hour on one machine.
	DevicesSeconds float64 `json:"devices_cpu_seconds_per_round"`
}

// runRounds runs a coordinator in a process of its own and devices in this one, over
// TLS on loopback.
func runRounds(args []string) error {
	set := flag.NewFlagSet("rounds", flag.ContinueOnError)
	f := roundFigures{Machine: machine(), Command: strings.Join(append([]string{"go run ./benchmarks rounds"}, args...), " ")}
	set.IntVar(&f.Devices, "devices", 20, "devices that are enrolled")
	set.IntVar(&f.PerRound, "per-round", 20, "devices in a cohort")
	set.IntVar(&f.Rounds, "rounds", 20, "rounds to run")
	set.StringVar(&f.Model, "model", "small", "small or base")
	out := set.String("json", "-", "file for the figures; - is standard output")
	if err := set.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}
	if err := f.run(); err != nil {
		return err
	}
	return writeJSON(*out, f)
}

// run starts the coordinator, drives the fleet and fills in the figures.
func (f *roundFigures) run() (err error) {
	shop := dataset.Shop()
	chats, err := shop.Split(dataset.Split{}, f.Devices, 1)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "discreet-rounds-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	daemon, address, operator, err := startCoordinator(dir)
	if err != nil {
		return err
	}
	config := fleet.Config{
		Dir: dir, Chats: chats, Seed: 1,
		Spec: &pb.TaskSpec{
			Name: "benchmark", Intents: shop.Intents, Model: f.Model, PerRound: uint32(f.PerRound), MinSurvivors: 3,
			DeadlineMs: 60_000, Rounds: uint64(f.Rounds), Seed: 1,
		},
	}
	before := cpuTime()
	err = fleet.Drive(context.Background(), config, address, operator, func(r *fleet.Result) error {
		f.Seconds, f.BytesUp, f.Attempts = r.Seconds, r.BytesUp, len(r.Attempts)
		f.RoundsPerHour = float64(f.Rounds) * 3600 / r.Seconds
		return nil
	})
	f.DevicesSeconds = (cpuTime() - before).Seconds() / float64(f.Rounds)
	if err := errors.Join(err, daemon.stop()); err != nil {
		return err
	}
	f.CoordinatorPeakBytes = peakMemory(daemon.ProcessState)
	f.CoordinatorSeconds = (daemon.ProcessState.UserTime() + daemon.ProcessState.SystemTime()).Seconds() / float64(f.Rounds)
	return nil
}

// process is a coordinator in a process of its own. It ends with its standard input,
// and so never outlives this process.
type process struct {
	*exec.Cmd
	input io.Closer
}

// stop ends the coordinator and waits for it.
func (p *process) stop() error { return errors.Join(p.input.Close(), p.Wait()) }

// startCoordinator runs this program again as a coordinator and reads where it
// listens and its operator's credential.
func startCoordinator(dir string) (daemon *process, address, operator string, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, "", "", err
	}
	daemon = &process{Cmd: exec.Command(self, daemonArgument, filepath.Join(dir, "coordinator"))}
	daemon.Stderr = os.Stderr
	if daemon.input, err = daemon.StdinPipe(); err != nil {
		return nil, "", "", err
	}
	output, err := daemon.StdoutPipe()
	if err != nil {
		return nil, "", "", err
	}
	if err := daemon.Start(); err != nil {
		return nil, "", "", err
	}
	if _, err := fmt.Fscanln(bufio.NewReader(output), &address, &operator); err != nil {
		return nil, "", "", errors.Join(fmt.Errorf("the coordinator did not start: %w", err), daemon.stop())
	}
	return daemon, address, operator, nil
}

// serveRounds is the coordinator's process: it runs until its standard input ends.
func serveRounds(args []string) error {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	go func() {
		defer stop()
		_, _ = io.Copy(io.Discard, os.Stdin) // nothing is read, only the end awaited
	}()
	server, err := coordinator.Open(args[0], coordinator.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return errors.Join(err, server.Close())
	}
	fmt.Println(listener.Addr(), server.OperatorCredential())
	return errors.Join(server.Serve(ctx, listener), server.Close())
}
