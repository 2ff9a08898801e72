package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/discreet-fl/discreet/client"
	"github.com/discreet-fl/discreet/model"
	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/proto/rpc"
)

func newCheckpoint() *cobra.Command {
	return parent("checkpoint", "operate", "List, fetch and verify checkpoints",
		newCheckpointList(), newCheckpointExport(), newCheckpointVerify())
}

func newCheckpointList() *cobra.Command {
	var o operator
	c := &cobra.Command{
		Use: "list TASK", Short: "List a task's checkpoints", Args: arguments("TASK"),
		RunE: func(c *cobra.Command, args []string) error {
			return o.run(c, func(ctx context.Context, connection *grpc.ClientConn) error {
				reply, err := rpc.NewOperatorServiceClient(connection).ListCheckpoints(ctx, &pb.ListCheckpointsRequest{Task: args[0]})
				if err != nil {
					return err
				}
				w := tabwriter.NewWriter(c.OutOrStdout(), 0, 4, 2, ' ', 0)
				fmt.Fprintln(w, "ROUND\tCOMMITTED\tBYTES\tSHA-256")
				for _, k := range reply.Checkpoints {
					fmt.Fprintf(w, "%d\t%s\t%d\t%x\n", k.Round, time.UnixMilli(k.CommittedMs).Format(time.DateTime), k.Bytes, k.Sha256)
				}
				return w.Flush()
			})
		},
	}
	o.flags(c)
	return c
}

func newCheckpointExport() *cobra.Command {
	var (
		o     operator
		round int64
		best  bool
	)
	c := &cobra.Command{
		Use: "export TASK FILE", Short: "Fetch a task's checkpoint into a file", Args: arguments("TASK", "FILE"),
		Long: `Export fetches the task's newest checkpoint, that of --round or, with --best, the one
that did best on the chats that devices hold back, checks it and writes it to FILE. "discreet classify --checkpoint FILE" uses it without an agent.`,
		RunE: func(c *cobra.Command, args []string) error {
			if best && round >= 0 {
				return usagef("--round %d and --best: choose one", round)
			}
			return o.run(c, func(ctx context.Context, connection *grpc.ClientConn) error {
				service := rpc.NewOperatorServiceClient(connection)
				find := func() (*pb.CheckpointRecord, error) { return findCheckpoint(ctx, service, args[0], round) }
				if best {
					find = func() (*pb.CheckpointRecord, error) { return findBest(ctx, service, args[0]) }
				}
				record, err := find()
				if err != nil {
					return err
				}
				raw, err := rpc.FetchCheckpoint(ctx, rpc.NewCheckpointServiceClient(connection), record.Sha256, uint64(client.MaxCheckpointBytes))
				if err != nil {
					return err
				}
				if err := writeFile(args[1], raw); err != nil {
					return err
				}
				fmt.Fprintf(c.OutOrStdout(), "%s: round %d, %d bytes, sha256 %x\n", args[1], record.Round, len(raw), record.Sha256)
				return nil
			})
		},
	}
	o.flags(c)
	c.Flags().Int64Var(&round, "round", -1, "the round that made it; -1 is the newest")
	c.Flags().BoolVar(&best, "best", false, "the one with the best accuracy on the chats that devices hold back")
	return c
}

// findBest picks the checkpoint of a task that did best on held-back chats.
func findBest(ctx context.Context, service rpc.OperatorServiceClient, task string) (*pb.CheckpointRecord, error) {
	reply, err := service.GetTask(ctx, &pb.GetTaskRequest{Name: task})
	if err != nil {
		return nil, err
	}
	if reply.Task.Best == nil {
		return nil, fmt.Errorf("task %q has no best checkpoint yet: it takes 200 chats that devices hold back (%q), counted in its latest rounds, three of them at least; %q fetches the newest", task, "discreet task create --held-back", "discreet checkpoint export "+task+" FILE")
	}
	kept, err := service.ListCheckpoints(ctx, &pb.ListCheckpointsRequest{Task: task})
	if err != nil {
		return nil, err
	}
	for _, k := range kept.Checkpoints {
		if bytes.Equal(k.Sha256, reply.Task.Best.Sha256) {
			return k, nil
		}
	}
	return nil, fmt.Errorf("task %q no longer keeps its best checkpoint %x", task, reply.Task.Best.Sha256)
}

// findCheckpoint picks the newest checkpoint of a task, or that of a round.
func findCheckpoint(ctx context.Context, service rpc.OperatorServiceClient, task string, round int64) (*pb.CheckpointRecord, error) {
	reply, err := service.ListCheckpoints(ctx, &pb.ListCheckpointsRequest{Task: task})
	if err != nil {
		return nil, err
	}
	for _, k := range reply.Checkpoints {
		if round < 0 || k.Round == uint64(round) {
			return k, nil
		}
	}
	return nil, fmt.Errorf("task %q keeps no checkpoint of round %d; see %q", task, round, "discreet checkpoint list "+task)
}

// writeFile replaces a file in one step, so that a failure leaves the old one.
func writeFile(path string, data []byte) error {
	temporary, err := os.CreateTemp(filepath.Dir(path), ".discreet-*")
	if err != nil {
		return err
	}
	defer os.Remove(temporary.Name())
	if _, err := temporary.Write(data); err != nil {
		temporary.Close()
		return err
	}
	if err := temporary.Sync(); err != nil {
		temporary.Close()
		return err
	}
	if err := temporary.Close(); err != nil {
		return err
	}
	return os.Rename(temporary.Name(), path)
}

func newCheckpointVerify() *cobra.Command {
	return &cobra.Command{
		Use: "verify FILE", Short: "Check a checkpoint file and show what it is", Args: arguments("FILE"),
		RunE: func(c *cobra.Command, args []string) error {
			checkpoint, raw, err := readCheckpoint(args[0])
			if err != nil {
				return err
			}
			m, digest := checkpoint.Manifest, sha256.Sum256(raw)
			table(c.OutOrStdout(), [][2]string{
				{"checkpoint", hex.EncodeToString(digest[:])},
				{"task", m.Task},
				{"rounds behind it", fmt.Sprint(m.Round)},
				{"model", fmt.Sprintf("%s, %d parameters, %d intents", m.Size, len(checkpoint.Params), len(m.Labels))},
				{"tokeniser", fmt.Sprintf("version %d", m.TokeniserVersion)},
			})
			fmt.Fprintln(c.OutOrStdout(), "the parameters are whole, and this program can use it; whether the rest is as its coordinator made it, the first line tells beside the task's log (discreet log export)")
			return nil
		},
	}
}

// readCheckpoint reads and checks a checkpoint file.
func readCheckpoint(path string) (*model.Checkpoint, []byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer file.Close()
	raw, err := io.ReadAll(io.LimitReader(file, client.MaxCheckpointBytes+1))
	if err != nil {
		return nil, nil, err
	}
	if int64(len(raw)) > client.MaxCheckpointBytes {
		return nil, nil, fmt.Errorf("%s has more than %d bytes: it is no checkpoint", path, client.MaxCheckpointBytes)
	}
	checkpoint, err := model.DecodeCheckpoint(raw)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return checkpoint, raw, nil
}
