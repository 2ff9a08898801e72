// Package discreetv1 is the wire contract: the messages that devices,
// operators and the coordinator exchange. Begin with discreet/v1/round.proto,
// which walks through a round. The gRPC stubs are in proto/rpc, so that a
// build that only needs the messages stays small.
//
// Both ends name the version that they speak, [Current], and hold the other's
// against theirs with [Check]. What peers of each minor version have sent is
// recorded in testdata and replayed by the tests.
package discreetv1

//go:generate go tool -modfile=../tools/go.mod buf generate
