package main

import (
	"cmp"
	"context"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/proto/rpc"
)

// devicePage is how many devices are asked for at once.
const devicePage = 500

func newToken() *cobra.Command {
	var (
		o       operator
		uses    uint32
		expires time.Duration
		task    string
	)
	create := &cobra.Command{
		Use: "create", Short: "Print a token that lets devices join",
		Long: `Create prints one line for "discreet agent join HOST:PORT TOKEN". It carries the
fingerprint of the coordinator's CA, by which the device knows the right server, and
a secret, which is not stored and cannot be shown again.

Devices that join with a token of --task are bound to that task for good: the
coordinator shows them no other, and lets them take part in no other.`,
		Example: `  discreet token create --uses 4 --expires 24h
  discreet token create --uses 100 --task support`,
		Args: arguments(),
		RunE: func(c *cobra.Command, _ []string) error {
			if expires <= 0 {
				return usagef("--expires %v, want a positive duration", expires)
			}
			return o.run(c, func(ctx context.Context, connection *grpc.ClientConn) error {
				reply, err := rpc.NewOperatorServiceClient(connection).CreateToken(ctx,
					&pb.CreateTokenRequest{Uses: uses, ExpiresMs: uint64(expires.Milliseconds()), Task: task})
				if err != nil {
					return err
				}
				fmt.Fprintln(c.OutOrStdout(), reply.Token)
				return nil
			})
		},
	}
	o.flags(create)
	create.Flags().Uint32Var(&uses, "uses", 1, "devices that may join with it")
	create.Flags().DurationVar(&expires, "expires", 24*time.Hour, "time until it expires")
	create.Flags().StringVar(&task, "task", "", "the only task that they see and take part in (default: every task)")
	return parent("token", "operate", "Make enrolment tokens", create)
}

func newDevice() *cobra.Command {
	var o operator
	list := &cobra.Command{
		Use: "list", Short: "List the enrolled devices", Args: arguments(),
		RunE: func(c *cobra.Command, _ []string) error {
			return o.run(c, func(ctx context.Context, connection *grpc.ClientConn) error {
				w := tabwriter.NewWriter(c.OutOrStdout(), 0, 4, 2, ' ', 0)
				fmt.Fprintln(w, "DEVICE\tENROLLED\tLAST IN A SUM\tROUNDS\tTASK")
				service := rpc.NewOperatorServiceClient(connection)
				for after := []byte(nil); ; {
					reply, err := service.ListDevices(ctx, &pb.ListDevicesRequest{After: after, Limit: devicePage})
					if err != nil {
						return err
					}
					for _, d := range reply.Devices {
						seen := "never"
						if d.SeenMs > 0 {
							seen = time.UnixMilli(d.SeenMs).Format(time.DateTime)
						}
						fmt.Fprintf(w, "%x\t%s\t%s\t%d\t%s\n", d.Id, time.UnixMilli(d.EnrolledMs).Format(time.DateTime), seen, d.Rounds, cmp.Or(d.Task, "every"))
						after = d.Id
					}
					if len(reply.Devices) < devicePage {
						return w.Flush()
					}
				}
			})
		},
	}
	o.flags(list)
	return parent("device", "operate", "See the enrolled devices, and let in those that wait", list, newDeviceWaiting(), newDeviceAdmit())
}
