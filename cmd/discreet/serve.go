package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/discreet-fl/discreet/coordinator"
)

// defaultDataDir is the coordinator's folder unless --dir names another.
const defaultDataDir = "discreet-data"

func newServe() *cobra.Command {
	var (
		options      coordinator.Options
		dir          string
		listen, http string
		memory       int64
		level        string
	)
	c := &cobra.Command{
		Use: "serve", GroupID: "operate",
		Short: "Run the coordinator",
		Long: `Serve runs the coordinator of a federation. The first start makes, in its folder, a CA,
the server's certificate and the operator's credential (operator.pem), and prints the
CA's fingerprint. It goes on from the last committed checkpoint however it ended.
"discreet ca" makes a folder for a coordinator that is not to have the CA's key.

Devices and operators connect with TLS 1.3 on --listen; /healthz and /metrics are
plain HTTP on --http, which should not be open to the network.`,
		Example: `  discreet serve --host federation.example.com --host 203.0.113.7`,
		Args:    arguments(),
		RunE: func(c *cobra.Command, _ []string) error {
			logger, err := newLogger(level)
			if err != nil {
				return err
			}
			if memory < 1 {
				return usagef("--memory %d MiB, want 1 or more", memory)
			}
			if options.PerAddress < 1 {
				return usagef("--per-address %d, want 1 or more", options.PerAddress)
			}
			if options.Grace <= 0 {
				return usagef("--grace %v, want a positive duration", options.Grace)
			}
			options.MemoryBytes, options.Logger = memory<<20, logger
			return serve(c.Context(), dir, options, listen, http, c.OutOrStdout())
		},
	}
	f := c.Flags()
	f.StringVar(&dir, "dir", defaultDataDir, "the coordinator's folder")
	f.StringArrayVar(&options.Hosts, "host", nil, "host name or address that devices use (repeatable; localhost always is one)")
	f.StringVar(&listen, "listen", coordinator.DefaultAddress, "address for devices and operators")
	f.StringVar(&http, "http", coordinator.DefaultStatusAddress, "address of /healthz and /metrics; empty for none")
	f.Int64Var(&memory, "memory", coordinator.DefaultMemoryBytes>>20, "MiB of incomplete masked vectors held at most")
	f.IntVar(&options.PerAddress, "per-address", coordinator.DefaultPerAddress, "connections of one address (IPv6: of a /64) at most; where a proxy stands before the coordinator, as many as there are devices and more")
	f.DurationVar(&options.Grace, "grace", coordinator.DefaultGrace, "how long a device that lost its connection is waited for within a step")
	logFlag(c, &level)
	return c
}

// serve listens, opens the folder and runs until the context ends.
func serve(ctx context.Context, dir string, options coordinator.Options, listen, http string, out io.Writer) (err error) {
	devices, err := listenOn("--listen", listen)
	if err != nil {
		return err
	}
	defer devices.Close()
	if err := otherFolder(dir, "chats-*.key", "a device's", "a coordinator's"); err != nil {
		return err
	}
	server, err := coordinator.Open(dir, options)
	if errors.Is(err, syscall.ENOTDIR) {
		return fmt.Errorf("%w\nname a folder with --dir, which is made where there is none", err)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	group, ctx := errgroup.WithContext(ctx)
	if http != "" {
		status, err := listenOn("--http", http)
		if err != nil {
			return err
		}
		group.Go(func() error { return server.ServeStatus(ctx, status) })
	}
	fmt.Fprintf(out, "listening on %s\nCA fingerprint %x\noperator credential %s\n",
		devices.Addr(), server.Fingerprint(), server.OperatorCredential())
	group.Go(func() error { return server.Serve(ctx, devices) })
	return group.Wait()
}

// listenOn listens on the address of a flag.
func listenOn(flag, address string) (net.Listener, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		next := "choose another address with " + flag
		switch at := (*net.AddrError)(nil); {
		case errors.Is(err, syscall.EADDRINUSE):
			next += ", or stop what uses it"
		case errors.As(err, &at):
			next += ": HOST:PORT, or :PORT for every address of this machine"
		}
		return nil, fmt.Errorf("%w\n%s", err, next)
	}
	return listener, nil
}

// logFlag adds --log-level to a command.
func logFlag(c *cobra.Command, level *string) {
	c.Flags().StringVar(level, "log-level", "info", "least severity that is logged: debug, info, warn or error")
}

// wrapHandler wraps every log handler; tests use it to die at a chosen record.
var wrapHandler = func(h slog.Handler) slog.Handler { return h }

// newLogger logs to standard error from a level on.
func newLogger(level string) (*slog.Logger, error) {
	var least slog.Level
	if err := least.UnmarshalText([]byte(level)); err != nil {
		return nil, usagef("--log-level %q, want debug, info, warn or error", level)
	}
	return slog.New(wrapHandler(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: least}))), nil
}
