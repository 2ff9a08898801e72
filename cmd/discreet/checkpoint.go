package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/discreet-fl/discreet/checkpointlog"
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
that did best on the chats that devices hold back, checks it and writes it to FILE; - is
standard output, and what it says of the checkpoint then goes to standard error.
"discreet classify --checkpoint FILE" uses it without an agent.`,
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
				said := c.OutOrStdout()
				printed, err := writeFile(args[1], raw)
				if err != nil {
					return err
				}
				if printed {
					said = c.ErrOrStderr()
				}
				fmt.Fprintf(said, "%s: round %d, %d bytes, sha256 %x\n", args[1], record.Round, len(raw), record.Sha256)
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

func newCheckpointVerify() *cobra.Command {
	var log, ca string
	c := &cobra.Command{
		Use: "verify FILE", Short: "Check a checkpoint file and show what it is", Args: arguments("FILE"),
		Long: `Verify checks that this program can use FILE, and that its parameters are those that its
manifest names. The manifest itself, the intents' names, the task, the round, the
calibration, only the file's hash covers, and that stands in the task's log: with --log it
checks what "discreet log export" wrote, and that FILE, to the last byte, is a checkpoint
of it.`,
		Example: `  discreet checkpoint verify model.ckpt
  discreet log export support > log.txt
  discreet checkpoint verify model.ckpt --log log.txt --ca ca.pem`,
		RunE: func(c *cobra.Command, args []string) error {
			if (log == "") != (ca == "") {
				return usagef("--log and --ca go together: the log that was exported, and the CA's certificate, ca.pem, of which you know that it is the federation's")
			}
			checkpoint, raw, err := readCheckpoint(args[0])
			if err != nil {
				return err
			}
			m, digest := checkpoint.Manifest, sha256.Sum256(raw)
			verdict := "the parameters are whole, and this program can use them; that nobody changed the rest, such as the intents' names, only the task's log tells: --log"
			if log != "" {
				entry, err := inLog(log, ca, &m, digest)
				if err != nil {
					return fmt.Errorf("%s: %w", args[0], err)
				}
				verdict = fmt.Sprintf("all of the file is as its coordinator logged it, on %s, with %s in the sum",
					time.UnixMilli(entry.Committed).Format(time.DateTime), count(int(entry.Survivors), "device"))
			}
			table(c.OutOrStdout(), [][2]string{
				{"checkpoint", hex.EncodeToString(digest[:])},
				{"task", m.Task},
				{"rounds behind it", fmt.Sprint(m.Round)},
				{"model", fmt.Sprintf("%s, %d parameters, %d intents", m.Size, len(checkpoint.Params), len(m.Labels))},
				{"tokeniser", fmt.Sprintf("version %d", m.TokeniserVersion)},
			})
			_, err = fmt.Fprintln(c.OutOrStdout(), verdict)
			return err
		},
	}
	c.Flags().StringVar(&log, "log", "", "an exported log of the task, to find the file in")
	c.Flags().StringVar(&ca, "ca", "", "the CA's certificate, to check the log by")
	return c
}

// inLog checks an exported log and finds a checkpoint in it, by the hash of its file.
func inLog(name, ca string, m *model.Manifest, digest [32]byte) (checkpointlog.Entry, error) {
	var none checkpointlog.Entry
	authority, err := readAuthority(ca)
	if err != nil {
		return none, err
	}
	f, err := readLogFile(name)
	if err != nil {
		return none, fmt.Errorf("--log %s: %w", name, err)
	}
	if _, err := checkpointlog.VerifyAll(authority, f.LogKey, f.Credential, m.Task, f.Head, f.Entries); err != nil {
		return none, fmt.Errorf("--log %s: %w", name, err)
	}
	for _, raw := range f.Entries {
		entry, err := checkpointlog.DecodeEntry(raw)
		if err != nil || entry.Checkpoint == digest {
			return entry, err
		}
	}
	return none, fmt.Errorf("it is not what the coordinator logged: of the %d checkpoints of task %s in %s none has its SHA-256, %x; it was changed, or made by another, or later than the log: export a newer log", len(f.Entries), m.Task, name, digest)
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
