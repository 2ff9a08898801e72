package client

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/discreet-fl/discreet/client/store"
	"github.com/discreet-fl/discreet/model"
	pb "github.com/discreet-fl/discreet/proto"
)

// chunkTime bounds the wait for one chunk of a checkpoint, repeated calls included, and
// leastRate, in bytes a second, with it the wait for all of them: a coordinator that sends
// a byte at a time does not hold a device for long. What has come by then is kept. Both leave
// room for a line of 8 KiB a second, as of EDGE, on which the largest chunk that a coordinator
// may send, 1 MiB, takes 128 seconds and TLS and round trips some of the rate.
const (
	chunkTime = 3 * time.Minute
	leastRate = 6 << 10
)

// loadedModel is the checkpoint in use.
type loadedModel struct {
	sum         [32]byte
	bytes       uint64 // of its file
	checkpoint  *model.Checkpoint
	index       map[string]int               // label, or an old name of one → its place
	classifiers sync.Pool                    // of *model.Classifier
	personal    atomic.Pointer[personalPart] // nil without one
}

// newModel decodes a checkpoint file whose hash has been verified.
func newModel(sum [32]byte, file []byte) (*loadedModel, error) {
	c, err := model.DecodeCheckpoint(file)
	if err != nil {
		return nil, err
	}
	m := &loadedModel{sum: sum, bytes: uint64(len(file)), checkpoint: c, index: c.Manifest.Index()}
	m.classifiers.New = func() any { return model.NewClassifier(c) }
	return m, nil
}

// opened is the checkpoint for an attempt to train.
func (m *loadedModel) opened() *Checkpoint { return &Checkpoint{m.sum, m.bytes, m.checkpoint} }

// loadModel takes up the checkpoint that was in use when the folder was closed. One
// that cannot be read is fetched again at the next check-in.
func (c *Client) loadModel() error {
	var name string
	found, err := c.readRecord(modelRecord, &name)
	if err != nil || !found {
		return err
	}
	sum, err := hex.DecodeString(name)
	if err != nil || len(sum) != 32 {
		return fmt.Errorf("record %q is %w", modelRecord, store.ErrDamaged)
	}
	file, err := c.store.Checkpoint([32]byte(sum))
	if err == nil {
		var m *loadedModel
		if m, err = newModel([32]byte(sum), file); err == nil {
			c.model.Store(m)
			return nil
		}
	}
	c.log.Warn("checkpoint cannot be read; it will be fetched again", "checkpoint", name, "error", err)
	return nil
}

// adopt makes a checkpoint the one in use, fetching it where the folder does not
// hold it, and returns it. It is the one whose place in the task's log was verified last.
// One that is in use already is not read again, and held against its place all the same.
func (c *Client) adopt(ctx context.Context, t Transport, task string, sum [32]byte, size uint64) (*loadedModel, error) {
	if m := c.model.Load(); m != nil && m.sum == sum {
		return m, c.checkManifest(task, &m.checkpoint.Manifest)
	}
	file, err := c.fetch(ctx, t, sum, size)
	if err != nil {
		return nil, fmt.Errorf("checkpoint %x: %w", sum[:4], err)
	}
	m, err := newModel(sum, file)
	if err != nil {
		return nil, fmt.Errorf("checkpoint %x: %w", sum[:4], err)
	}
	if err := c.checkManifest(task, &m.checkpoint.Manifest); err != nil {
		return nil, fmt.Errorf("checkpoint %x: %w", sum[:4], err)
	}
	if err := c.writeRecord(modelRecord, hex.EncodeToString(sum[:])); err != nil {
		return nil, err
	}
	c.model.Store(m)
	c.log.Info("checkpoint adopted", "task", m.checkpoint.Manifest.Task, "round", m.checkpoint.Manifest.Round, "checkpoint", hex.EncodeToString(sum[:4]))
	return m, c.store.KeepCheckpoints(sum)
}

// fetch returns a checkpoint file from the folder or the coordinator. What had
// arrived before a lost connection or a restart is not fetched again.
func (c *Client) fetch(ctx context.Context, t Transport, sum [32]byte, size uint64) ([]byte, error) {
	if file, err := c.store.Checkpoint(sum); err == nil {
		return file, nil
	}
	if size < 1 || size > uint64(MaxCheckpointBytes) {
		return nil, fmt.Errorf("it has %d bytes, want 1 to %d", size, MaxCheckpointBytes)
	}
	file, err := c.download(ctx, t, sum, int64(size))
	if errors.Is(err, store.ErrDamaged) {
		// What an earlier process left may have been the damaged part.
		file, err = c.download(ctx, t, sum, int64(size))
	}
	return file, err
}

func (c *Client) download(ctx context.Context, t Transport, sum [32]byte, size int64) ([]byte, error) {
	d, err := c.store.Download(sum, size)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	most := chunkTime + time.Duration(size)*time.Second/leastRate
	ctx, cancel := context.WithTimeoutCause(ctx, most, fmt.Errorf("a checkpoint of %d bytes took longer than %v", size, most))
	defer cancel()
	for d.Offset() < size {
		reply, err := c.chunk(ctx, t, &pb.GetCheckpointRequest{Sha256: sum[:], Offset: uint64(d.Offset())})
		if err != nil && ctx.Err() != nil {
			err = fmt.Errorf("%w (%w)", context.Cause(ctx), err)
		}
		if err != nil {
			return nil, fmt.Errorf("fetching it, at %d of %d bytes: %w", d.Offset(), size, err)
		}
		if reply.GetTotalBytes() != uint64(size) || len(reply.GetData()) == 0 {
			return nil, fmt.Errorf("got %d bytes of %d, want some of %d", len(reply.GetData()), reply.GetTotalBytes(), size)
		}
		if err := d.Append(reply.GetData()); err != nil {
			return nil, err
		}
	}
	return d.Finish()
}

func (c *Client) chunk(ctx context.Context, t Transport, q *pb.GetCheckpointRequest) (*pb.GetCheckpointResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, chunkTime)
	defer cancel()
	return persist(ctx, t.GetCheckpoint, q, func(err error) { c.log.Info("checkpoint interrupted", "error", err) })
}
