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
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/discreet-fl/discreet/proto"
)

// Exit codes. They are listed in `discreet --help`.
const (
	exitFailed      = 1   // the command could not do its work
	exitUsage       = 2   // its flags or arguments make no sense
	exitInterrupted = 130 // it was stopped before its work was done
)

// usageError marks an error of flags or arguments.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// usagef makes a usageError.
func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

func main() {
	ctx, stop := interruptible()
	err := newRoot().ExecuteContext(ctx)
	interrupted := ctx.Err() != nil
	stop()
	if err == nil {
		return
	}
	if interrupted && isCanceled(err) {
		fmt.Fprintln(os.Stderr, "discreet: interrupted")
		os.Exit(exitInterrupted)
	}
	fmt.Fprintln(os.Stderr, "discreet:", err)
	if usage := (usageError{}); errors.As(err, &usage) {
		os.Exit(exitUsage)
	}
	os.Exit(exitFailed)
}

// interruptible returns a context that ends with the first signal to stop. The second ends
// the program at once, but for a hang-up: a terminal that closes may send several. Who starts
// it with nohup wants it to go on when the terminal is gone.
func interruptible() (context.Context, context.CancelFunc) {
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		signals = append(signals, syscall.SIGHUP)
		// Someone has to want it from first to last: one that comes while the last who does
		// goes, even to have it ignored, ends the program.
		signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), signals...)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// isCanceled tells whether an error is but the end of the command's context.
func isCanceled(err error) bool {
	return errors.Is(err, context.Canceled) || status.Code(err) == codes.Canceled
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

Begin with "discreet demo". Exit codes: 0 done, 1 failed, 2 wrong flags or arguments,
130 interrupted.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          subcommandsOnly,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetFlagErrorFunc(flagError)
	root.AddGroup(
		&cobra.Group{ID: "try", Title: "To try it:"},
		&cobra.Group{ID: "operate", Title: "To operate a coordinator:"},
		&cobra.Group{ID: "device", Title: "On a device:"},
	)
	root.AddCommand(
		newDemo(), newSimulate(),
		newServe(), newToken(), newTask(), newDevice(), newCheckpoint(), newLog(), newCA(), newPrivacy(),
		newAgent(), newClassify(), newLearn(),
	)
	// As it comes, it answers an unknown shell with help and success.
	root.InitDefaultCompletionCmd()
	if completion, _, err := root.Find([]string{"completion"}); err == nil && completion != root {
		completion.Args = subcommandsOnly
		completion.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
	}
	return root
}

// flagError is what a command says of flags that it cannot read. Where a word before them is no
// command, it has none of the flags that were meant.
func flagError(c *cobra.Command, err error) error {
	if words := c.Flags().Args(); c.HasAvailableSubCommands() && len(words) > 0 {
		if err := c.ValidateArgs(words); err != nil {
			return err
		}
	}
	if number := (*strconv.NumError)(nil); errors.As(err, &number) {
		want := map[string]string{"ParseUint": "a whole number of 0 or more", "ParseInt": "a whole number", "ParseFloat": "a number", "ParseBool": "true or false"}[number.Func]
		flag, _, _ := strings.Cut(err.Error(), ": strconv.")
		if errors.Is(err, strconv.ErrRange) {
			want += ", and a smaller one"
		}
		err = fmt.Errorf("%s: want %s", flag, want)
	}
	if value := (*pflag.InvalidValueError)(nil); errors.As(err, &value) && value.GetFlag().Value.Type() == "duration" {
		err = fmt.Errorf("invalid argument %q for %q flag: want a duration with its unit, such as 24h, 30m or 1.5s", value.GetValue(), "--"+value.GetFlag().Name)
	}
	return usagef("%w\nrun %q for its flags", err, c.CommandPath()+" --help")
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
		want := "no arguments"
		if len(names) > 0 {
			want = fmt.Sprintf("%s (%s)", count(len(names), "argument"), strings.Join(names, " "))
		}
		return usagef("%q takes %s, got %d\nrun %q for its usage", c.CommandPath(), want, len(args), c.CommandPath()+" --help")
	}
}

// atMostOne checks that a command has its argument once, or not at all.
func atMostOne(name string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) <= 1 {
			return nil
		}
		return usagef("%q takes one %s at most, got %d; put quotation marks around words that belong together", c.CommandPath(), name, len(args))
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
