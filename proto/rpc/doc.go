// Package rpc holds the gRPC stubs of the services that devices, operators and
// the coordinator speak through: begin with round_service.proto in
// proto/discreet/rpc/v1. The messages are in package discreetv1, one folder
// up, which does not import gRPC. [FetchCheckpoint] puts a checkpoint's chunks
// together.
package rpc
