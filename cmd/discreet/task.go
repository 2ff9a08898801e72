package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/discreet-fl/discreet/coordinator"
	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/proto/rpc"
)

func newTask() *cobra.Command {
	return parent("task", "operate", "Create and watch tasks", newTaskCreate(), newTaskList(), newTaskShow(), newTaskIntents())
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
					fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%s\n", t.Spec.Name, t.Spec.Model, t.Intents, t.RoundsDone, t.State)
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
				printEvaluation(c.OutOrStdout(), reply.Task, reply.Rounds)
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
	rows := [][2]string{
		{"task", t.Spec.Name},
		{"model", fmt.Sprintf("%s, %d intents", t.Spec.Model, t.Intents)},
		{"devices a round", fmt.Sprintf("%d at most, in cohorts of %d at most, of which %d must survive", t.Spec.PerRound, t.Spec.Cohort, t.Spec.MinSurvivors)},
		{"withstands", fmt.Sprintf("%.4g%% corrupt, %.4g%% vanishing", float64(t.Spec.Corrupt)/100, float64(t.Spec.Dropout)/100)},
		{"keys", (*keysValue)(&t.Spec.Keys).String()},
		{"strategy", coordinator.ChoiceOf(t.Spec).String()},
		{"buffer", bufferText(t.Spec.Buffer)},
		{"compression", coordinator.CompressionText(t.Spec.Compression)},
		{"every", (time.Duration(t.Spec.EveryMs) * time.Millisecond).String()},
		{"deadline of a step", (time.Duration(t.Spec.DeadlineMs) * time.Millisecond).String()},
		{"rounds to run", rounds},
		{"evaluated", evaluationText(t.Spec.Evaluation)},
		{"personal models", personalText(t.Spec)},
		{"rounds committed", fmt.Sprint(t.RoundsDone)},
		{"checkpoint", hex.EncodeToString(t.CheckpointSha256)},
		{"best checkpoint", bestText(t.Best)},
		{"state", t.State},
	}
	table(w, slices.Insert(rows, 4, privacyRows(t)...))
}

// printRounds lists attempts, newest first.
func printRounds(w io.Writer, rounds []*pb.RoundRecord) error {
	if len(rounds) == 0 {
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "\nROUND\tATTEMPT\tENDED\tSECONDS\tDEVICES\tROSTER\tCOHORTS\tLOST\tIN THE SUM\tHELD BACK\tOUTCOME")
	for _, r := range rounds {
		outcome := "committed"
		switch {
		case r.Aborted == "" && r.Staleness > 0:
			outcome = fmt.Sprintf("committed, %d checkpoints late", r.Staleness)
		case r.Aborted != "":
			outcome = "aborted: " + r.Aborted
		case r.IntentsVersion > 0:
			outcome = fmt.Sprintf("intents changed, version %d", r.IntentsVersion)
		case r.Survivors == 0:
			outcome = "held: the round before was lost when its devices had revealed"
		}
		if clip := r.Privacy.GetClip(); clip > 0 {
			outcome += fmt.Sprintf("; its clip was %.4g", clip)
		}
		fmt.Fprintf(t, "%d\t%d\t%s\t%.1f\t%d\t%d\t%d\t%d\t%d\t%s\t%s\n", r.Round, r.Attempt, time.UnixMilli(r.EndedMs).Format(time.DateTime),
			float64(r.EndedMs-r.StartedMs)/1000, r.Cohort, r.Roster, r.Cohorts, r.CohortsLost, r.Survivors, accuracyOf(r.Evaluation), outcome)
	}
	return t.Flush()
}
