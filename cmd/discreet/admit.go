package main

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"os"
	"slices"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/discreet-fl/discreet/coordinator/ca"
	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/proto/rpc"
	"github.com/discreet-fl/discreet/secagg"
)

// admitPage is how many devices are admitted in one call: with certificates of the
// largest size they stay below the coordinator's bound for a message.
const admitPage = 200

func newDeviceWaiting() *cobra.Command {
	var o operator
	c := &cobra.Command{
		Use: "waiting", Short: "Print the devices that wait to be certified",
		Long: `Waiting prints the devices that have joined a coordinator whose CA's key is kept
elsewhere, as a file for "discreet ca issue devices" on the CA's machine.`,
		Example: `  discreet device waiting > waiting.txt`,
		Args:    arguments(),
		RunE: func(c *cobra.Command, _ []string) error {
			return o.run(c, func(ctx context.Context, connection *grpc.ClientConn) error {
				reply, err := rpc.NewOperatorServiceClient(connection).ListWaiting(ctx, &pb.ListWaitingRequest{})
				if err != nil {
					return err
				}
				keys := make([]ed25519.PublicKey, len(reply.PublicKeys))
				for i, key := range reply.PublicKeys {
					keys[i] = key
				}
				if err := ca.WriteRequests(c.OutOrStdout(), keys); err != nil {
					return err
				}
				fmt.Fprintf(c.ErrOrStderr(), "%s waiting\n", count(len(keys), "device"))
				return nil
			})
		},
	}
	o.flags(c)
	return c
}

func newDeviceAdmit() *cobra.Command {
	var o operator
	c := &cobra.Command{
		Use: "admit FILE", Short: "Let in the devices that the CA has certified",
		Long: `Admit brings the coordinator what "discreet ca issue devices" wrote. The devices, which
go on asking, are enrolled within seconds, but for those that were revoked since. It may
be repeated. With them comes the CA's roll of them all, by which the members of a round
check each other sooner.`,
		Example: `  discreet device admit issued.txt`,
		Args:    arguments("FILE"),
		RunE: func(c *cobra.Command, args []string) error {
			file, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer file.Close()
			issued, roll, err := ca.ReadIssued(file)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			return o.run(c, func(ctx context.Context, connection *grpc.ClientConn) error {
				admitted, revoked, err := admit(ctx, rpc.NewOperatorServiceClient(connection), issued, roll)
				if err != nil {
					return err
				}
				fmt.Fprintf(c.OutOrStdout(), "admitted %s", count(admitted, "device"))
				switch {
				case revoked == 1:
					fmt.Fprint(c.OutOrStdout(), ", 1 of the file was revoked")
				case revoked > 1:
					fmt.Fprintf(c.OutOrStdout(), ", %d of the file were revoked", revoked)
				}
				fmt.Fprintln(c.OutOrStdout())
				if others := len(issued) - admitted - revoked; others > 0 {
					fmt.Fprintf(c.OutOrStdout(), "%s of the file did not wait here, or no longer\n", count(others, "device"))
				}
				return nil
			})
		},
	}
	o.flags(c)
	return c
}

// admit sends what was issued, and then the roll of it all if there is one, and returns how
// many devices had waited, and how many were revoked after they were certified.
func admit(ctx context.Context, service rpc.OperatorServiceClient, issued []ca.Issued, roll *secagg.Roll) (admitted, revoked int, err error) {
	var requests []*pb.AdmitRequest
	for page := range slices.Chunk(issued, admitPage) {
		request := new(pb.AdmitRequest)
		for _, one := range page {
			request.Issued = append(request.Issued, &pb.Issued{PublicKey: one.PublicKey, Certificate: one.Certificate, Credential: one.Credential})
		}
		requests = append(requests, request)
	}
	if roll != nil {
		request := &pb.AdmitRequest{Roll: &pb.Roll{Signature: roll.Signature}}
		for _, key := range roll.Keys {
			request.Roll.PublicKeys = append(request.Roll.PublicKeys, key)
		}
		requests = append(requests, request)
	}
	for i, request := range requests {
		reply, err := service.Admit(ctx, request)
		if err != nil && i > 0 {
			answer := status.Convert(err)
			err = status.Errorf(answer.Code(), "%s; %s of the file had been admitted before that: admit it again for the rest", answer.Message(), count(admitted, "device"))
		}
		if err != nil {
			return admitted, revoked, err
		}
		admitted += int(reply.Admitted)
		revoked += int(reply.Revoked)
	}
	return admitted, revoked, nil
}
