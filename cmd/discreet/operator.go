package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/discreet-fl/discreet/coordinator"
	"github.com/discreet-fl/discreet/coordinator/ca"
)

// operatorTimeout bounds an operator's call.
const operatorTimeout = 30 * time.Second

// operator holds the flags that every operator command has.
type operator struct{ server, credential string }

// flags adds --server and --operator to a command.
func (o *operator) flags(c *cobra.Command) {
	credential := os.Getenv("DISCREET_OPERATOR")
	if credential == "" {
		credential = filepath.Join(defaultDataDir, "operator.pem")
	}
	c.Flags().StringVar(&o.server, "server", "localhost"+coordinator.DefaultAddress, "the coordinator's address")
	c.Flags().StringVar(&o.credential, "operator", credential, "operator credential written by the coordinator's first start (or DISCREET_OPERATOR)")
}

// identity reads the operator's credential.
func (o *operator) identity() (*tls.Config, error) {
	config, err := ca.LoadOperator(o.credential)
	if err != nil {
		return nil, fmt.Errorf("%w\nname the operator.pem of the coordinator's folder with --operator", err)
	}
	return config, nil
}

// run dials the coordinator and makes one operator's calls.
func (o *operator) run(c *cobra.Command, calls func(context.Context, *grpc.ClientConn) error) error {
	config, err := o.identity()
	if err != nil {
		return err
	}
	connection, err := grpc.NewClient(o.server, grpc.WithTransportCredentials(credentials.NewTLS(config)))
	if err != nil {
		return usagef("--server %s: %w", o.server, err)
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(c.Context(), operatorTimeout)
	defer cancel()
	return plainError(o.server, calls(ctx, connection))
}

// plainError takes gRPC's wrapping off an error of a call to a server.
func plainError(server string, err error) error {
	s, ok := status.FromError(err)
	switch {
	case err == nil || !ok || s.Code() == codes.Canceled:
		return err
	case s.Code() == codes.Unavailable:
		return fmt.Errorf("no coordinator of this credential answers at %s: %s\nname its address with --server, its credential with --operator", server, s.Message())
	}
	return fmt.Errorf("the coordinator answers %s: %s", s.Code(), s.Message())
}
