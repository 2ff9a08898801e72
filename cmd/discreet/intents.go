package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/proto/rpc"
)

func newTaskIntents() *cobra.Command {
	c := &cobra.Command{
		Use: "intents", Short: "See and change a task's intents while it runs",
		Long: `Intents changes what the devices of a running task learn. A change is made between two
rounds: at once where none runs, else when the attempt that runs has ended. It is not
lost where the coordinator stops before. What the model knows of the other intents stays.

Devices go on as they are: a chat that was learned under an old name counts for what the
intent is called now. A change that was made before changes nothing.`,
		Args: subcommandsOnly,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newIntentsList(),
		newIntentsChange(intentsChange{
			use: "add TASK INTENT...", short: "Add intents", kind: pb.IntentChangeKind_INTENT_CHANGE_KIND_ADD,
			example: `  discreet task intents add support refund invoice`,
		}),
		newIntentsChange(intentsChange{
			use: "rename TASK OLD NEW", short: "Give an intent a name that no other has", kind: pb.IntentChangeKind_INTENT_CHANGE_KIND_RENAME, pair: true,
			example: `  discreet task intents rename support track order_status`,
		}),
		newIntentsChange(intentsChange{
			use: "merge TASK INTENT INTO", short: "Make two intents one", kind: pb.IntentChangeKind_INTENT_CHANGE_KIND_MERGE, pair: true,
			example: `  discreet task intents merge support where_is_it order_status`,
		}),
		newIntentsChange(intentsChange{
			use: "retire TASK INTENT...", short: "Take intents out", kind: pb.IntentChangeKind_INTENT_CHANGE_KIND_RETIRE,
			example: `  discreet task intents retire support fax`,
		}))
	return c
}

// intentsChange is a command that changes intents.
type intentsChange struct {
	use, short, example string
	kind                pb.IntentChangeKind
	pair                bool // it takes one intent and another name
}

// changes turns a command's arguments behind the task into changes.
func (i intentsChange) changes(names []string) []*pb.IntentChange {
	if i.pair {
		return []*pb.IntentChange{{Kind: i.kind, Name: names[0], Into: names[1]}}
	}
	var list []*pb.IntentChange
	for _, name := range names {
		list = append(list, &pb.IntentChange{Kind: i.kind, Name: name})
	}
	return list
}

func newIntentsChange(i intentsChange) *cobra.Command {
	var o operator
	c := &cobra.Command{
		Use: i.use, Short: i.short, Example: i.example,
		Args: func(c *cobra.Command, args []string) error {
			if i.pair && len(args) != 3 || len(args) < 2 {
				_, wanted, _ := strings.Cut(i.use, " ")
				return usagef("%q takes %s, got %s\nrun %q for its usage", c.CommandPath(), wanted, count(len(args), "argument"), c.CommandPath()+" --help")
			}
			if i.pair && args[1] == args[2] {
				return usagef("got the intent %q twice, want two names\nrun %q for its usage", args[1], c.CommandPath()+" --help")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			return o.run(c, func(ctx context.Context, connection *grpc.ClientConn) error {
				reply, err := rpc.NewOperatorServiceClient(connection).ChangeIntents(ctx, &pb.ChangeIntentsRequest{Task: args[0], Changes: i.changes(args[1:])})
				if err != nil {
					return err
				}
				list := reply.GetList()
				fmt.Fprintf(c.OutOrStdout(), "task %s: %s, version %d\n", args[0], count(len(list.Intents), "intent"), list.Version)
				printQueued(c.OutOrStdout(), list.Queued)
				return nil
			})
		},
	}
	o.flags(c)
	return c
}

func newIntentsList() *cobra.Command {
	var o operator
	c := &cobra.Command{
		Use: "list TASK", Short: "List a task's intents and their old names", Args: arguments("TASK"),
		RunE: func(c *cobra.Command, args []string) error {
			return o.run(c, func(ctx context.Context, connection *grpc.ClientConn) error {
				reply, err := rpc.NewOperatorServiceClient(connection).GetIntents(ctx, &pb.GetIntentsRequest{Task: args[0]})
				if err != nil {
					return err
				}
				list := reply.GetList()
				for _, intent := range list.Intents {
					fmt.Fprintln(c.OutOrStdout(), intent)
				}
				fmt.Fprintf(c.OutOrStdout(), "\n%s, version %d\n", count(len(list.Intents), "intent"), list.Version)
				for _, f := range list.Former {
					if f.Now == "" {
						fmt.Fprintf(c.OutOrStdout(), "%s was retired\n", f.Name)
					} else {
						fmt.Fprintf(c.OutOrStdout(), "%s is now %s\n", f.Name, f.Now)
					}
				}
				printQueued(c.OutOrStdout(), list.Queued)
				return nil
			})
		},
	}
	o.flags(c)
	return c
}

// printQueued shows the changes that wait for a round.
func printQueued(w io.Writer, queued []*pb.IntentChange) {
	if len(queued) == 0 {
		return
	}
	fmt.Fprintln(w, "when the attempt that runs has ended:")
	for _, q := range queued {
		line := map[pb.IntentChangeKind]string{
			pb.IntentChangeKind_INTENT_CHANGE_KIND_ADD: "add", pb.IntentChangeKind_INTENT_CHANGE_KIND_RENAME: "rename",
			pb.IntentChangeKind_INTENT_CHANGE_KIND_MERGE: "merge", pb.IntentChangeKind_INTENT_CHANGE_KIND_RETIRE: "retire",
		}[q.Kind] + " " + q.Name
		if q.Into != "" {
			line += " " + q.Into
		}
		fmt.Fprintln(w, "  "+line)
	}
}
