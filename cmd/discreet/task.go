package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/discreet-fl/discreet/dataset"
	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/proto/rpc"
)

func newTask() *cobra.Command {
	return parent("task", "operate", "Create and watch tasks", newTaskCreate(), newTaskList(), newTaskShow())
}

func newTaskCreate() *cobra.Command {
	var (
		o               operator
		intents         string
		every, deadline time.Duration
		spec            pb.TaskSpec
	)
	c := &cobra.Command{
		Use:   "create NAME --intents FILE",
		Short: "Create a task: what the devices are to learn, and when",
		Long: `Create starts a task. FILE lists the intents, one a line, or is any file of phrases
that "discreet simulate" reads, of which the intents are taken.

Creating a task again with the same settings changes nothing.`,
		Example: `  discreet task create support --intents intents.txt --per-round 10 --every 1h`,
		Args:    arguments("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			if intents == "" {
				return usagef("--intents is missing: name the file that lists the intents")
			}
			file, err := os.Open(intents)
			if err != nil {
				return fmt.Errorf("--intents: %w", err)
			}
			defer file.Close()
			if spec.Intents, err = dataset.ReadIntents(intents, file); err != nil {
				return err
			}
			if every < 0 || deadline <= 0 {
				return usagef("--every %v and --deadline %v, want a duration that is not negative, and a positive one", every, deadline)
			}
			spec.Name, spec.EveryMs, spec.DeadlineMs = args[0], uint64(every.Milliseconds()), uint64(deadline.Milliseconds())
			return o.run(c, func(ctx context.Context, connection *grpc.ClientConn) error {
				reply, err := rpc.NewOperatorServiceClient(connection).CreateTask(ctx, &pb.CreateTaskRequest{Spec: &spec})
				if err != nil {
					return err
				}
				printTask(c.OutOrStdout(), reply.Task)
				return nil
			})
		},
	}
	o.flags(c)
	f := c.Flags()
	f.StringVar(&intents, "intents", "", "file that names the intents")
	f.StringVar(&spec.Model, "model", "small", "model size: small (1 MB) or base (4 MB)")
	f.Uint32Var(&spec.PerRound, "per-round", 20, "devices in a round at most, 3 to 100")
	f.Uint32Var(&spec.MinSurvivors, "min-survivors", minSurvivors, "devices below which a round is aborted, at least 3")
	f.DurationVar(&every, "every", time.Hour, "time from the start of one round to the next; 0 is as soon as possible")
	f.DurationVar(&deadline, "deadline", 30*time.Second, "time for each step of a round; training has four times as long")
	f.Uint64Var(&spec.Rounds, "rounds", 0, "rounds to run; 0 is without end")
	f.Uint64Var(&spec.Seed, "seed", 0, "seed of the first checkpoint; 0 draws one")
	return c
}

func newTaskList() *cobra.Command {
	var o operator
	c := &cobra.Command{
		Use: "list", Short: "List the tasks", Args: arguments(),
		RunE: func(c *cobra.Command, _ []string) error {
			return o.run(c, func(ctx context.Context, connection *grpc.ClientConn) error {
				reply, err := rpc.NewOperatorServiceClient(connection).ListTasks(ctx, &pb.ListTasksRequest{})
				if err != nil {
					return err
				}
				w := tabwriter.NewWriter(c.OutOrStdout(), 0, 4, 2, ' ', 0)
				fmt.Fprintln(w, "TASK\tMODEL\tINTENTS\tROUNDS\tSTATE")
				for _, t := range reply.Tasks {
					fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%s\n", t.Spec.Name, t.Spec.Model, len(t.Spec.Intents), t.RoundsDone, t.State)
				}
				return w.Flush()
			})
		},
	}
	o.flags(c)
	return c
}

func newTaskShow() *cobra.Command {
	var o operator
	c := &cobra.Command{
		Use: "show NAME", Short: "Show a task and its latest rounds", Args: arguments("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			return o.run(c, func(ctx context.Context, connection *grpc.ClientConn) error {
				reply, err := rpc.NewOperatorServiceClient(connection).GetTask(ctx, &pb.GetTaskRequest{Name: args[0]})
				if err != nil {
					return err
				}
				printTask(c.OutOrStdout(), reply.Task)
				return printRounds(c.OutOrStdout(), reply.Rounds)
			})
		},
	}
	o.flags(c)
	return c
}

// printTask shows a task's settings and where it stands.
func printTask(w io.Writer, t *pb.Task) {
	rounds := "without end"
	if t.Spec.Rounds > 0 {
		rounds = fmt.Sprint(t.Spec.Rounds)
	}
	table(w, [][2]string{
		{"task", t.Spec.Name},
		{"model", fmt.Sprintf("%s, %d intents", t.Spec.Model, len(t.Spec.Intents))},
		{"devices a round", fmt.Sprintf("%d at most, %d must survive", t.Spec.PerRound, t.Spec.MinSurvivors)},
		{"every", (time.Duration(t.Spec.EveryMs) * time.Millisecond).String()},
		{"deadline of a step", (time.Duration(t.Spec.DeadlineMs) * time.Millisecond).String()},
		{"rounds to run", rounds},
		{"rounds committed", fmt.Sprint(t.RoundsDone)},
		{"checkpoint", hex.EncodeToString(t.CheckpointSha256)},
		{"state", t.State},
	})
}

// printRounds lists attempts, newest first.
func printRounds(w io.Writer, rounds []*pb.RoundRecord) error {
	if len(rounds) == 0 {
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "\nROUND\tATTEMPT\tENDED\tSECONDS\tCOHORT\tROSTER\tIN THE SUM\tOUTCOME")
	for _, r := range rounds {
		outcome := "committed"
		if r.Aborted != "" {
			outcome = "aborted: " + r.Aborted
		}
		fmt.Fprintf(t, "%d\t%d\t%s\t%.1f\t%d\t%d\t%d\t%s\n", r.Round, r.Attempt, time.UnixMilli(r.EndedMs).Format(time.DateTime),
			float64(r.EndedMs-r.StartedMs)/1000, r.Cohort, r.Roster, r.Survivors, outcome)
	}
	return t.Flush()
}
