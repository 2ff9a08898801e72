// Package discreetv1 is the wire contract: the messages that devices,
// operators and the coordinator exchange. Begin with discreet/v1/round.proto,
// which walks through a round. The gRPC stubs are in proto/rpc, so that a
// build that only needs the messages stays small.
package discreetv1

//go:generate go tool -modfile=../tools/go.mod buf generate
