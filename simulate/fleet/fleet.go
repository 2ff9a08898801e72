// Package fleet runs a coordinator and many kiosks on one machine with everything
// real: folders, enrolment, TLS, gRPC over loopback, and kiosks that cut their
// connection in the middle of a round. Begin with [Run].
package fleet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/discreet-fl/discreet/client"
	"github.com/discreet-fl/discreet/coordinator"
	"github.com/discreet-fl/discreet/coordinator/ca"
	"github.com/discreet-fl/discreet/dataset"
	"github.com/discreet-fl/discreet/model"
	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/proto/rpc"
	"github.com/discreet-fl/discreet/simulate"
)

// Config describes a fleet. Progress may be nil; Grace and Logger are of the
// coordinator that [Run] starts, and not used by [Drive].
type Config struct {
	Dir      string             // an empty folder for all their folders
	Chats    [][]dataset.Phrase // of each kiosk
	Spec     *pb.TaskSpec       // the task; its Rounds are run
	Drop     float64            // chance of a kiosk in a cohort to vanish in the middle of the round
	Grace    time.Duration      // how long the coordinator waits for one that vanished
	Seed     uint64             // of who vanishes where
	Logger   *slog.Logger       // of the coordinator
	Progress func(Round)        // is called with each committed round, and round 0 for the fresh model

	dialWith func(kiosk int) []grpc.DialOption // in tests: what else a kiosk dials with
}

// Round is a committed round, or one whose checkpoint was held after the one before was lost
// when its kiosks had revealed: that has no survivors.
type Round struct {
	Record     *pb.RoundRecord // nil for round 0
	Number     uint64          // of the rounds that are done, from 1 on; a lost one has none
	Checkpoint *model.Checkpoint
}

// Result is what the fleet did.
type Result struct {
	Last     *model.Checkpoint
	Attempts []*pb.RoundRecord // every attempt, oldest first, the last 50
	// Vanished is how often a kiosk left in the middle of a round; BytesUp the mean
	// that one sent in a round that it completed.
	Vanished, BytesUp int64
	// Classify is what the first kiosk makes of a phrase, by its own checkpoint.
	Classify func(text string) (client.Answer, error)
	// Given is what each kiosk has given away, by its own ledger.
	Given   func() ([][]client.Given, error)
	Seconds float64 // from the first round's start to the last one's end

	kiosks []*kiosk // for tests
	task   *pb.Task // as it stood in the end, for tests
}

// Run starts a coordinator and its kiosks, runs the task's rounds, calls look with
// the result while the kiosks are still open, and stops everything.
func Run(ctx context.Context, c Config, look func(*Result) error) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	server, err := coordinator.Open(filepath.Join(c.Dir, "coordinator"), coordinator.Options{Grace: c.Grace, Logger: c.Logger})
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return errors.Join(err, server.Close())
	}
	group, within := errgroup.WithContext(ctx)
	group.Go(func() error { return server.Serve(within, listener) })
	group.Go(func() error {
		defer cancel() // the rounds are over: the coordinator stops
		return Drive(within, c, listener.Addr().String(), server.OperatorCredential(), look)
	})
	err = group.Wait()
	if errors.Is(err, context.Canceled) && context.Cause(ctx) == context.Canceled {
		err = nil
	}
	return errors.Join(err, server.Close())
}

// Drive joins kiosks to a coordinator that is running at an address, runs the
// task's rounds and calls look. The coordinator may be another process.
func Drive(ctx context.Context, c Config, address, operatorFile string, look func(*Result) error) (err error) {
	config, err := ca.LoadOperator(operatorFile)
	if err != nil {
		return err
	}
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(credentials.NewTLS(config)))
	if err != nil {
		return err
	}
	defer connection.Close()
	d := &driver{Config: c, operator: rpc.NewOperatorServiceClient(connection), checkpoints: rpc.NewCheckpointServiceClient(connection)}
	defer func() { err = errors.Join(err, d.close()) }()
	if err := d.join(ctx, address); err != nil {
		return err
	}
	result, err := d.rounds(ctx)
	if err != nil {
		return err
	}
	return look(result)
}

// driver is the fleet's operator and its kiosks.
type driver struct {
	Config
	operator    rpc.OperatorServiceClient
	checkpoints rpc.CheckpointServiceClient
	kiosks      []*kiosk
	tally       tally
}

// join enrols every kiosk with one token.
func (d *driver) join(ctx context.Context, address string) error {
	token, err := d.operator.CreateToken(ctx, &pb.CreateTokenRequest{Uses: uint32(len(d.Chats)), ExpiresMs: uint64(time.Hour.Milliseconds())})
	if err != nil {
		return err
	}
	d.kiosks = make([]*kiosk, len(d.Chats))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(8)
	for i, chats := range d.Chats {
		group.Go(func() error {
			k := &kiosk{fate: d.fate(i), tell: &d.tally}
			if d.dialWith != nil {
				k.options = d.dialWith(i)
			}
			d.kiosks[i] = k
			return k.join(ctx, filepath.Join(d.Dir, fmt.Sprintf("kiosk-%03d", i+1)), address, token.Token, chats)
		})
	}
	return group.Wait()
}

// fate fixes by the seed, for each attempt, whether and where a kiosk vanishes.
func (d *driver) fate(kiosk int) func(*pb.RoundStep) simulate.Vanish {
	return func(at *pb.RoundStep) simulate.Vanish {
		draw := rand.New(rand.NewPCG(d.Seed^uint64(kiosk)<<32, at.GetRound()<<8|uint64(at.GetAttempt())))
		if draw.Float64() >= d.Drop {
			return simulate.Stays
		}
		return simulate.BeforeAdvertise + simulate.Vanish(draw.IntN(int(simulate.AfterConfirm)))
	}
}

// close closes the kiosks that were opened.
func (d *driver) close() error {
	var errs []error
	for _, k := range d.kiosks {
		if k != nil && k.Client != nil {
			errs = append(errs, k.Close())
		}
	}
	return errors.Join(errs...)
}

// given reads the kiosks' ledgers.
func (d *driver) given() (all [][]client.Given, err error) {
	for _, k := range d.kiosks {
		tasks, err := k.Privacy()
		if err != nil {
			return nil, err
		}
		all = append(all, tasks)
	}
	return all, nil
}

// rounds creates the task and runs the kiosks until its rounds are over.
func (d *driver) rounds(ctx context.Context) (*Result, error) {
	created, err := d.operator.CreateTask(ctx, &pb.CreateTaskRequest{Spec: d.Spec})
	if err != nil {
		return nil, err
	}
	running, stop := context.WithCancel(ctx)
	group, running := errgroup.WithContext(running)
	for _, k := range d.kiosks {
		group.Go(func() error { return k.Run(running) })
	}
	start := time.Now()
	result := &Result{kiosks: d.kiosks}
	err = d.watch(ctx, created.Task, result)
	result.Seconds = time.Since(start).Seconds()
	stop()
	if ended := group.Wait(); err == nil && !errors.Is(ended, context.Canceled) {
		err = ended
	}
	if err != nil {
		return nil, err
	}
	result.Vanished = d.tally.vanished.Load()
	if n := d.tally.completed.Load(); n > 0 {
		result.BytesUp = d.tally.bytesUp.Load() / n
	}
	result.Classify = func(text string) (client.Answer, error) { return d.kiosks[0].Classify(text, 1) }
	result.Given = d.given
	return result, nil
}

// watch follows the task until its rounds are done.
func (d *driver) watch(ctx context.Context, task *pb.Task, result *Result) error {
	if err := d.report(ctx, nil, 0, task, result); err != nil {
		return err
	}
	done, latest := uint64(0), uint64(0) // rounds, and the latest one's number
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
		reply, err := d.operator.GetTask(ctx, &pb.GetTaskRequest{Name: d.Spec.Name})
		if err != nil {
			return err
		}
		result.Attempts, result.task = reply.Rounds, reply.Task
		for i := len(reply.Rounds) - 1; i >= 0; i-- {
			if r := reply.Rounds[i]; r.Aborted == "" && r.Round > latest {
				latest = r.Round
				done++
				if err := d.report(ctx, r, done, reply.Task, result); err != nil {
					return err
				}
			}
		}
		if reply.Task.RoundsDone >= d.Spec.Rounds {
			return nil
		}
	}
}

// report fetches a round's checkpoint and tells Progress.
func (d *driver) report(ctx context.Context, record *pb.RoundRecord, number uint64, task *pb.Task, result *Result) error {
	sum := task.CheckpointSha256
	if record != nil {
		sum = record.CheckpointSha256
	}
	file, err := rpc.FetchCheckpoint(ctx, d.checkpoints, sum, uint64(client.MaxCheckpointBytes))
	if err != nil {
		return err
	}
	checkpoint, err := model.DecodeCheckpoint(file)
	if err != nil {
		return err
	}
	result.Last = checkpoint
	if d.Progress != nil {
		d.Progress(Round{Record: record, Number: number, Checkpoint: checkpoint})
	}
	return nil
}
