// Command discreet is a federated-learning coordinator, its edge agent and the
// operator's commands, in one binary. This package is flags and wiring; begin with
// [newRoot], which lists the commands.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"

	pb "github.com/discreet-fl/discreet/proto"
)

// Exit codes. They are listed in `discreet --help`.
const (
	exitFailed = 1 // the command could not do its work
	exitUsage  = 2 // its flags or arguments make no sense
)

// usageError marks an error of flags or arguments.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// usagef makes a usageError.
func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := newRoot().ExecuteContext(ctx)
	stop()
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "discreet:", err)
	if usage := (usageError{}); errors.As(err, &usage) {
		os.Exit(exitUsage)
	}
	os.Exit(exitFailed)
}

// newRoot is the command tree.
func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:     "discreet",
		Version: version(),
		Short:   "Chatbots learn together what people mean; what they say stays on the device",
		Long: `discreet lets a business's chatbots learn together what people mean, while what
they say stays on the device. Devices train a small model on their own confirmed
chats and send masked updates; the coordinator sees only their sum.

Begin with "discreet demo". Exit codes: 0 done, 1 failed, 2 wrong flags or arguments.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          subcommandsOnly,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usagef("%w\nrun %q for its flags", err, c.CommandPath()+" --help")
	})
	root.AddGroup(
		&cobra.Group{ID: "try", Title: "To try it:"},
		&cobra.Group{ID: "operate", Title: "To operate a coordinator:"},
		&cobra.Group{ID: "device", Title: "On a device:"},
	)
	root.AddCommand(
		newDemo(), newSimulate(),
		newServe(), newToken(), newTask(), newDevice(), newCheckpoint(),
		newAgent(), newClassify(), newLearn(),
	)
	return root
}

// version is the module's version as it was built in, and the wire's.
func version() string {
	release := "(unknown)"
	if info, ok := debug.ReadBuildInfo(); ok {
		release = info.Main.Version
	}
	return fmt.Sprintf("%s, protocol %d.%d, %s", release, pb.Major, pb.Minor, runtime.Version())
}

// subcommandsOnly refuses words that are not a subcommand.
func subcommandsOnly(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("%q is not a command of %q\nrun %q for the commands", args[0], c.CommandPath(), c.CommandPath()+" --help")
	}
	return nil
}

// arguments checks the number of a command's arguments and names those it wants.
func arguments(names ...string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) == len(names) {
			return nil
		}
		return usagef("%q takes %d arguments %v, got %d", c.CommandPath(), len(names), names, len(args))
	}
}

// parent is a command that only holds others.
func parent(use, group, short string, children ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{
		Use: use, GroupID: group, Short: short, Args: subcommandsOnly,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(children...)
	return c
}
