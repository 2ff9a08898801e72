package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/discreet-fl/discreet/client"
	"github.com/discreet-fl/discreet/client/agent"
	"github.com/discreet-fl/discreet/secagg"
)

// dirFlag adds --dir, the device's folder, to a command.
func dirFlag(c *cobra.Command, dir *string) {
	base, err := os.UserConfigDir()
	if err != nil {
		base = "."
	}
	c.Flags().StringVar(dir, "dir", cmp.Or(os.Getenv("DISCREET_DIR"), filepath.Join(base, "discreet")), "the device's folder (or DISCREET_DIR)")
}

func newAgent() *cobra.Command {
	var (
		dir, listen, socket, task, level string
		bounds                           client.Bounds
		corrupt                          float64
	)
	c := &cobra.Command{
		Use: "agent", GroupID: "device",
		Short: "Run a device: classify, learn and take part in rounds",
		Long: `Agent runs a device beside a kiosk's or desktop's own program, which speaks to it over a
local HTTP API (docs/agent-api.md) on a unix socket in the device's folder. --listen adds
a loopback TCP address, where each request needs the bearer token that lies in the folder.

It takes part in rounds in the background, and comes back by itself after any trouble.
Chats stay in the folder.`,
		Example: `  discreet agent join federation.example.com:7443 TOKEN
  discreet agent`,
		Args: subcommandsOnly,
		RunE: func(c *cobra.Command, _ []string) error {
			logger, err := newLogger(level)
			if err != nil {
				return err
			}
			switch {
			case bounds.MinCohort < secagg.MinCohort || bounds.MinCohort > secagg.MaxCohort:
				return usagef("--min-cohort %d, want %d to %d", bounds.MinCohort, secagg.MinCohort, secagg.MaxCohort)
			case bounds.MinSurvivors < minSurvivors || bounds.MinSurvivors > secagg.MaxCohort:
				return usagef("--min-survivors %d, want %d to %d", bounds.MinSurvivors, minSurvivors, secagg.MaxCohort)
			case !(corrupt >= 0.0001 && corrupt <= 0.3333):
				return usagef("--min-corrupt %v, want 0.0001 to 0.3333", corrupt)
			case !(bounds.MaxEpsilon >= 0) || math.IsInf(bounds.MaxEpsilon, 0):
				return usagef("--max-epsilon %v, want a positive number, or 0 for no bound", bounds.MaxEpsilon)
			}
			bounds.MinCorrupt = int(math.Round(corrupt * 10_000))
			device, err := openDevice(dir, client.Options{Logger: logger, Bounds: bounds, Task: task})
			if err != nil {
				return err
			}
			server := agent.New(device, logger)
			return errors.Join(runAgent(c, device, server, dir, socket, listen), device.Close())
		},
	}
	dirFlag(c, &dir)
	f := c.Flags()
	f.StringVar(&socket, "socket", "", "path of the unix socket (default: agent.sock in the folder)")
	f.StringVar(&listen, "listen", "", "also serve the API on this loopback address, HOST:PORT, to who has the token")
	f.IntVar(&bounds.MinCohort, "min-cohort", secagg.MinCohort, "fewest members of its cohort with which this device takes part")
	f.IntVar(&bounds.MinSurvivors, "min-survivors", minSurvivors, "fewest devices in a sum that this device joins")
	f.Float64Var(&corrupt, "min-corrupt", 0.1, "share of its cohort that may work for the coordinator, at least; 0.0001 to 0.3333")
	f.BoolVar(&bounds.AllowClassical, "allow-classical", false, "also take part with keys that are not post-quantum")
	f.BoolVar(&bounds.TrustCoordinator, "trust-coordinator", false, "with --max-epsilon, take part also where the coordinator adds the noise, to sums that it sees first")
	f.Float64Var(&bounds.MaxEpsilon, "max-epsilon", 0, "take part only where noise bounds what this device gives away in a task, ε at most this; 0 takes part in any")
	f.StringVar(&task, "task", "", "the task to take part in, where the coordinator has several")
	logFlag(c, &level)
	c.AddCommand(newAgentJoin(), newAgentStatus(), newAgentPrivacy(), newAgentForget(), newAgentParticipation())
	return c
}

// runAgent serves the API and takes part in rounds until the command is stopped.
func runAgent(c *cobra.Command, device *client.Client, server *agent.Server, dir, socket, listen string) error {
	group, ctx := errgroup.WithContext(c.Context())
	local, err := agent.ListenSocket(cmp.Or(socket, agent.SocketPath(dir)))
	if err != nil {
		return err
	}
	fmt.Fprintf(c.OutOrStdout(), "serving the agent's API on %s\n", local.Addr())
	group.Go(func() error { return server.Serve(ctx, local, "") })
	if listen != "" {
		token, tcp, err := listenTCP(dir, listen)
		if err != nil {
			return errors.Join(err, local.Close())
		}
		fmt.Fprintf(c.OutOrStdout(), "and on http://%s, bearer token in %s\n", tcp.Addr(), agent.TokenPath(dir))
		group.Go(func() error { return server.Serve(ctx, tcp, token) })
	}
	group.Go(func() error { return device.Run(ctx) })
	err = group.Wait()
	if c.Context().Err() != nil && errors.Is(err, context.Canceled) {
		return nil // stopped by a signal, as asked
	}
	return err
}

// listenTCP listens on a loopback address and reads, or makes, its token.
func listenTCP(dir, address string) (string, net.Listener, error) {
	token, err := agent.Token(agent.TokenPath(dir))
	if err != nil {
		return "", nil, err
	}
	listener, err := agent.ListenTCP(address)
	if err != nil {
		return "", nil, fmt.Errorf("--listen: %w", err)
	}
	return token, listener, nil
}

func newAgentJoin() *cobra.Command {
	var dir string
	c := &cobra.Command{
		Use: "join HOST:PORT TOKEN", Short: "Enrol this device with a coordinator",
		Long: `Join makes this device's key, checks the coordinator by the fingerprint in the token
that "discreet token create" printed there, and enrols. It may be repeated.

Where the key of the federation's CA is kept apart from the coordinator, it shows the
device's id and waits until the operator lets the device in. It may be stopped, and
run again later with the same token.`,
		Args: arguments("HOST:PORT", "TOKEN"),
		RunE: func(c *cobra.Command, args []string) error {
			device, err := openDevice(dir, client.Options{Waiting: func(id string) {
				fmt.Fprintf(c.OutOrStdout(), "device %s waits until the operator lets it in\n", id)
			}})
			if err != nil {
				return err
			}
			err = device.Enrol(c.Context(), args[0], args[1])
			if errors.Is(err, client.ErrUnreachable) {
				err = fmt.Errorf("%w\nsee that \"discreet serve\" runs there, and that this device may connect to its port", err)
			}
			if err == nil {
				var status client.Status
				if status, err = device.Status(); err == nil {
					fmt.Fprintf(c.OutOrStdout(), "enrolled with %s as device %s\n", status.Coordinator, status.Device)
				}
			}
			return errors.Join(err, device.Close())
		},
	}
	dirFlag(c, &dir)
	return c
}

func newAgentStatus() *cobra.Command {
	var dir string
	c := &cobra.Command{
		Use: "status", Short: "Show how this device stands, as JSON", Args: arguments(),
		RunE: func(c *cobra.Command, _ []string) error {
			return withDevice(c.Context(), dir, func(d device) error {
				status, err := d.Status(c.Context())
				if err != nil {
					return err
				}
				return writeJSON(c.OutOrStdout(), status)
			})
		},
	}
	dirFlag(c, &dir)
	return c
}

func newAgentPrivacy() *cobra.Command {
	var (
		dir    string
		asJSON bool
	)
	c := &cobra.Command{
		Use: "privacy", Short: "Show what this device has given away, by task",
		Long: `Privacy shows this device's own ledger: for each task how many vectors it sent, what was
promised of them, and what it has given away, as ρ of zero-concentrated differential
privacy and as ε. A vector is noted before it leaves, also where its round then fails.
With --json every vector is shown.`,
		Args: arguments(),
		RunE: func(c *cobra.Command, _ []string) error {
			return withDevice(c.Context(), dir, func(d device) error {
				tasks, err := d.Privacy(c.Context())
				if err != nil {
					return err
				}
				if asJSON {
					return writeJSON(c.OutOrStdout(), tasks)
				}
				printGiven(c.OutOrStdout(), tasks)
				return nil
			})
		},
	}
	dirFlag(c, &dir)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON, with every vector")
	return c
}

func newAgentForget() *cobra.Command {
	var (
		dir string
		all bool
	)
	c := &cobra.Command{
		Use: "forget [CONVERSATION]", Short: "Remove the chats of a conversation, or --all, for good",
		Args: atMostOne("CONVERSATION"),
		RunE: func(c *cobra.Command, args []string) error {
			if all == (len(args) == 1) {
				return usagef("name one conversation, or say --all")
			}
			return withDevice(c.Context(), dir, func(d device) error {
				var n int
				var err error
				if all {
					n, err = d.ForgetAll(c.Context())
				} else {
					n, err = d.Forget(c.Context(), args[0])
				}
				if err == nil {
					said := "forgot " + count(n, "chat")
					if n == 0 && !all {
						said += fmt.Sprintf(": none here is of a conversation that is named %q", args[0])
					}
					fmt.Fprintln(c.OutOrStdout(), said)
				}
				return err
			})
		},
	}
	dirFlag(c, &dir)
	c.Flags().BoolVar(&all, "all", false, "forget every chat")
	return c
}

// What a person is told who switched participation on or off.
const (
	participationOn = `participation is on: while "discreet agent" runs, this device trains on its chats in
rounds. The chats stay on it; of what it sends only the sum with other devices can be read.
"discreet agent participation off" ends that.
`
	participationOff = `participation is off: from now on nothing leaves this device that is made of its chats.
It keeps them ("discreet agent forget --all" removes them), and still answers, by newer
checkpoints, too. What it sent before cannot be called back. "discreet agent participation on"
lets it take part again.
`
)

func newAgentParticipation() *cobra.Command {
	var dir string
	c := &cobra.Command{
		Use: "participation on|off", Short: "Let this device take part in rounds, or not", Args: arguments("on|off"),
		Long: `Participation on, as it is at first, lets this device train on its chats in rounds. Off
leaves a round that is at work at once, and removes the device's personal model. Chats, and
answers by checkpoints, newer ones included, stay. What was sent before cannot be called back.`,
		RunE: func(c *cobra.Command, args []string) error {
			if args[0] != "on" && args[0] != "off" {
				return usagef("%q, want on or off", args[0])
			}
			return withDevice(c.Context(), dir, func(d device) error {
				if err := d.SetParticipation(c.Context(), args[0] == "on"); err != nil {
					return err
				}
				said := participationOn
				if args[0] == "off" {
					said = participationOff
				}
				fmt.Fprint(c.OutOrStdout(), said)
				return nil
			})
		},
	}
	dirFlag(c, &dir)
	return c
}
