package rpc

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"

	pb "github.com/discreet-fl/discreet/proto"
)

// FetchCheckpoint gets the checkpoint file of that SHA-256, of at most so many bytes,
// chunk by chunk and checks its hash. It holds the file in memory and begins anew
// when called again; a device, whose connection is worse, keeps what has arrived.
func FetchCheckpoint(ctx context.Context, service CheckpointServiceClient, sum []byte, most uint64) ([]byte, error) {
	var file bytes.Buffer
	for {
		at := uint64(file.Len())
		chunk, err := service.GetCheckpoint(ctx, &pb.GetCheckpointRequest{Sha256: sum, Offset: at})
		if err != nil {
			return nil, err
		}
		total, n := chunk.GetTotalBytes(), uint64(len(chunk.GetData()))
		if total > most {
			return nil, fmt.Errorf("the checkpoint has %d bytes, want at most %d", total, most)
		}
		if n == 0 || n > total-min(at, total) {
			return nil, fmt.Errorf("got %d bytes at %d of the checkpoint's %d, want some of the rest", n, at, total)
		}
		file.Write(chunk.GetData())
		if at+n == total {
			break
		}
	}
	if got := sha256.Sum256(file.Bytes()); !bytes.Equal(got[:], sum) {
		return nil, fmt.Errorf("the checkpoint's SHA-256 is %x, want %x: fetch it again", got, sum)
	}
	return file.Bytes(), nil
}
