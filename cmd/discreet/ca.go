package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/discreet-fl/discreet/coordinator/ca"
	"github.com/discreet-fl/discreet/secagg"
)

func newCA() *cobra.Command {
	c := parent("ca", "operate", "Keep the CA's key elsewhere; put devices out",
		newCAInit(),
		parent("issue", "", "Certify a coordinator or devices", newCAIssueCoordinator(), newCAIssueDevices()),
		newCARevoke())
	c.Long = `Who has the key of a federation's CA can admit devices, and a coordinator that admits
devices of its own can learn what an honest one sends. "discreet serve" makes the key
in its own folder at the first start, which is enough for a trial. These commands keep
it on another machine, which needs no network: files are carried to and fro.

"discreet ca revoke" is also for a coordinator that has the key in its own folder.`
	return c
}

func newCAInit() *cobra.Command {
	return &cobra.Command{
		Use: "init DIR", Short: "Make a CA in a new folder",
		Long: `Init makes a CA's key (ca-key.pem) and certificate (ca.pem) in DIR. Run it on the
machine that is to keep the key, and make a copy of DIR that is locked away: without
the key no device can be admitted and none put out.`,
		Example: `  discreet ca init ca`,
		Args:    arguments("DIR"),
		RunE: func(c *cobra.Command, args []string) error {
			machine, err := ca.Init(args[0], time.Now())
			if err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "CA fingerprint %x\nkey %s\n", machine.Fingerprint(), filepath.Join(args[0], "ca-key.pem"))
			return nil
		},
	}
}

// openCA opens the folder of a CA's key; a warning goes to standard error.
func openCA(dir string) (*ca.Machine, error) {
	logger, err := newLogger("warn")
	if err != nil {
		return nil, err
	}
	return ca.OpenMachine(dir, logger, time.Now())
}

func newCAIssueCoordinator() *cobra.Command {
	var (
		hosts []string
		out   string
	)
	c := &cobra.Command{
		Use: "coordinator DIR --host HOST --out FOLDER", Short: "Make a coordinator's folder, without the CA's key",
		Long: `Coordinator writes all that "discreet serve --dir" needs into the new FOLDER, except the
CA's key: copy FOLDER to the coordinator's machine and start it there.

The server's certificate holds a year. Run the command again, with the same hosts and
another FOLDER, and copy the new server.pem into the coordinator's folder; the other
files are the same each time. The coordinator takes it up without a restart, and says
so in its log a month before the end.`,
		Example: `  discreet ca issue coordinator ca --host federation.example.com --out coordinator`,
		Args:    arguments("DIR"),
		RunE: func(c *cobra.Command, args []string) error {
			if out == "" {
				return usagef("--out is missing: name the new folder for the coordinator")
			}
			machine, err := openCA(args[0])
			if err != nil {
				return err
			}
			if err := machine.IssueCoordinator(hosts, out, time.Now()); err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "coordinator's folder %s\nstart it with: discreet serve --dir %s\n", out, out)
			return nil
		},
	}
	c.Flags().StringArrayVar(&hosts, "host", nil, "host name or address that devices use (repeatable; localhost always is one)")
	c.Flags().StringVar(&out, "out", "", "the new folder")
	return c
}

func newCAIssueDevices() *cobra.Command {
	var requests, out string
	c := &cobra.Command{
		Use: "devices DIR --requests FILE --out FILE", Short: "Certify the devices that wait at a coordinator",
		Long: `Devices certifies every device of the file that "discreet device waiting" printed, and
writes the file for "discreet device admit". It prints the ids that it certified:
compare their number, and the ids that the devices showed when they joined, before the
file leaves this machine. A coordinator that adds devices of its own is seen here.

The file ends with a roll, one signature for all its devices, by which those of a round
check each other sooner: better certify many at once than each by itself.`,
		Example: `  discreet ca issue devices ca --requests waiting.txt --out issued.txt`,
		Args:    arguments("DIR"),
		RunE: func(c *cobra.Command, args []string) error {
			if requests == "" || out == "" {
				return usagef("--requests and --out are needed: the file that `discreet device waiting` printed, and a new one")
			}
			ids, err := issueDevices(args[0], requests, out)
			if err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "certified %s:\n", count(len(ids), "device"))
			for _, id := range ids {
				fmt.Fprintln(c.OutOrStdout(), id)
			}
			return nil
		},
	}
	c.Flags().StringVar(&requests, "requests", "", "file with the devices that wait")
	c.Flags().StringVar(&out, "out", "", "new file with what was issued")
	return c
}

// issueDevices certifies the devices of a file into a new one.
func issueDevices(dir, requests, out string) (ids []secagg.ID, err error) {
	machine, err := openCA(dir)
	if err != nil {
		return nil, err
	}
	from, err := os.Open(requests)
	if err != nil {
		return nil, fmt.Errorf("--requests: %w", err)
	}
	defer from.Close()
	to, err := os.OpenFile(out, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("--out: %w", err)
	}
	defer func() {
		err = errors.Join(err, to.Close())
		if err != nil {
			err = errors.Join(err, os.Remove(out))
		}
	}()
	if ids, err = machine.IssueDevices(from, to, time.Now()); err != nil {
		return nil, fmt.Errorf("%s: %w", requests, err)
	}
	return ids, to.Sync()
}

func newCARevoke() *cobra.Command {
	return &cobra.Command{
		Use: "revoke DIR DEVICE-ID...", Short: "Put devices out of the federation, for good",
		Long: `Revoke adds devices to the CA's signed list, DIR/revoked.bin. "discreet device list"
shows their ids. Copy the file into the coordinator's folder, where that is another
one; the coordinator takes it up at once, refuses the devices, and tells the others,
who refuse to compute with them from their next round on.

A device that was revoked comes back only as a new one: with a new folder and token.`,
		Example: `  discreet ca revoke ca 5e0fb9cf91f3b3a26b3b1c9a8e1fcd04`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) < 2 {
				return usagef("%q takes DIR and one DEVICE-ID or more, got %s\nrun %q for its usage",
					c.CommandPath(), count(len(args), "argument"), c.CommandPath()+" --help")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			ids := make([]secagg.ID, len(args)-1)
			for i, text := range args[1:] {
				var err error
				if ids[i], err = ca.ParseID(text); err != nil {
					return usagef("%w", err)
				}
			}
			machine, err := openCA(args[0])
			if err != nil {
				return err
			}
			list, err := machine.Revoke(ids, time.Now())
			if err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "%s revoked in all, list version %d\ncopy %s into the coordinator's folder, unless this is it\n",
				count(len(list.Revoked), "device"), list.Version, filepath.Join(args[0], "revoked.bin"))
			return nil
		},
	}
}
