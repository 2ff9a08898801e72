package store

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

const (
	checkpointFolder = "checkpoints"
	checkpointSuffix = ".ckpt"
	partSuffix       = ".part"
)

func (s *Store) checkpointPath(sum [32]byte, suffix string) string {
	return filepath.Join(s.dir, checkpointFolder, hex.EncodeToString(sum[:])+suffix)
}

// Checkpoint reads a checkpoint file and verifies its SHA-256. The error is
// fs.ErrNotExist where there is none, and [ErrDamaged], with the file removed,
// where the hash differs.
func (s *Store) Checkpoint(sum [32]byte) ([]byte, error) {
	path := s.checkpointPath(sum, checkpointSuffix)
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	if info.Size() > s.options.MaxCheckpoint {
		return nil, fmt.Errorf("store: checkpoint %x has %d bytes, want at most %d: %w", sum[:4], info.Size(), s.options.MaxCheckpoint, ErrDamaged)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	if got := sha256.Sum256(data); got != sum {
		return nil, errors.Join(fmt.Errorf("store: checkpoint file %x is %w: its SHA-256 is %x; fetch it again", sum[:4], ErrDamaged, got[:4]), removeFile(path))
	}
	return data, nil
}

// Download is a checkpoint file that is still growing. It keeps what has arrived
// across restarts.
type Download struct {
	s      *Store
	sum    [32]byte
	size   int64
	offset int64
	file   *os.File
}

// Download begins, or takes up, the download of the checkpoint file with that
// SHA-256 and size.
func (s *Store) Download(sum [32]byte, size int64) (*Download, error) {
	if size < 1 || size > s.options.MaxCheckpoint {
		return nil, fmt.Errorf("store: a checkpoint of %d bytes, want 1 to %d", size, s.options.MaxCheckpoint)
	}
	f, err := os.OpenFile(s.checkpointPath(sum, partSuffix), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("store: %w", explain(err))
	}
	info, err := f.Stat()
	if err == nil && info.Size() > size {
		err = f.Truncate(0)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("store: %w", explain(err))
	}
	d := &Download{s: s, sum: sum, size: size, file: f}
	if info.Size() <= size {
		d.offset = info.Size()
	}
	return d, nil
}

// Offset returns how many bytes have arrived.
func (d *Download) Offset() int64 { return d.offset }

// Append adds the bytes that follow. It refuses more than the file's size.
func (d *Download) Append(p []byte) error {
	if int64(len(p)) > d.size-d.offset {
		return fmt.Errorf("store: %d more bytes of a checkpoint at %d of %d", len(p), d.offset, d.size)
	}
	if _, err := d.file.WriteAt(p, d.offset); err != nil {
		return fmt.Errorf("store: writing a checkpoint: %w", explain(err))
	}
	d.offset += int64(len(p))
	return nil
}

// Close ends the download for now; what has arrived stays.
func (d *Download) Close() error { return d.file.Close() }

// Finish verifies the complete file, keeps it under its name and returns its
// bytes. Where its SHA-256 differs, what has arrived is thrown away and the error
// is [ErrDamaged].
func (d *Download) Finish() ([]byte, error) {
	part := d.s.checkpointPath(d.sum, partSuffix)
	err := d.file.Sync()
	if err = errors.Join(err, d.file.Close()); err != nil {
		return nil, fmt.Errorf("store: writing a checkpoint: %w", explain(err))
	}
	data, err := os.ReadFile(part)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	if got := sha256.Sum256(data); got != d.sum || int64(len(data)) != d.size {
		err := fmt.Errorf("store: the downloaded checkpoint is %w: %d bytes with SHA-256 %x, want %d with %x", ErrDamaged, len(data), got[:4], d.size, d.sum[:4])
		return nil, errors.Join(err, removeFile(part))
	}
	if err := replaceFile(part, d.s.checkpointPath(d.sum, checkpointSuffix)); err != nil {
		return nil, fmt.Errorf("store: %w", explain(err))
	}
	return data, nil
}

// KeepCheckpoints removes every checkpoint file, complete or not, but those named.
func (s *Store) KeepCheckpoints(keep ...[32]byte) error {
	entries, err := os.ReadDir(s.path(checkpointFolder))
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return fmt.Errorf("store: %w", err)
	}
	kept := make(map[string]bool)
	for _, sum := range keep {
		kept[hex.EncodeToString(sum[:])] = true
	}
	for _, e := range entries {
		name := strings.TrimSuffix(strings.TrimSuffix(e.Name(), checkpointSuffix), partSuffix)
		if !kept[name] {
			if err := removeFile(filepath.Join(s.dir, checkpointFolder, e.Name())); err != nil {
				return fmt.Errorf("store: %w", err)
			}
		}
	}
	return nil
}
