package ca

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/discreet-fl/discreet/secagg"
)

// maxRevokedBytes bounds revoked.bin: what one message of the wire can carry.
const maxRevokedBytes = 4<<20 - 1<<10

const mostNamed = 100 // devices in a line of the log

// revocations is the CA's signed list of devices that are out, as it was last read.
type revocations struct {
	mu   sync.Mutex
	seen fs.FileInfo // nil while there is no file
	raw  []byte
	list *secagg.RevocationList
}

// openRevocations reads the list for the first time. One that cannot be believed stops
// a start: to go on without it would let in who was put out.
func (a *Authority) openRevocations() error {
	path := filepath.Join(a.dir, revokedFile)
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		a.out.raw, a.out.list, err = a.readRevocations()
	}
	if err != nil {
		return fmt.Errorf("ca: %w; put back the newest %s that `discreet ca revoke` wrote", err, path)
	}
	a.out.seen = info
	return nil
}

// Revocations returns the CA's newest list of devices that are out, as its signed
// bytes and as what they say; nil and nil when nobody ever was. A file that changed
// is read again. A list that does not verify, or of a lower version, is not taken: the
// one before stays in force, with a warning in the log. Neither result may be changed.
func (a *Authority) Revocations() ([]byte, *secagg.RevocationList) {
	o := &a.out
	o.mu.Lock()
	defer o.mu.Unlock()
	path := filepath.Join(a.dir, revokedFile)
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if o.seen != nil { // what is in force may be no list yet, where the file was never a good one
			a.log.Warn("the list of revoked devices is gone; what it said last stays in force", "file", path)
		}
		o.seen = nil
	case err != nil: // neither there nor gone: a disk in trouble says so elsewhere, once is enough
		if o.seen != nil {
			a.log.Warn("the list of revoked devices cannot be looked at; the one before stays in force", "file", path, "error", err)
		}
		o.seen = nil
	case !unchanged(o.seen, info):
		o.seen = info
		a.reloadRevocations(path)
	}
	return o.raw, o.list
}

// reloadRevocations takes up a list that changed, if it is to be believed and not older.
func (a *Authority) reloadRevocations(path string) {
	raw, list, err := a.readRevocations()
	before := a.out.list
	missing := list.Missing(before)
	switch {
	case err != nil:
		a.log.Warn("the list of revoked devices is refused; the one before stays in force", "file", path, "error", err)
	case before != nil && list.Version < before.Version:
		a.log.Warn("the list of revoked devices is older than the one before, which stays in force", "file", path,
			"version", list.Version, "in_force", before.Version, "do", "copy the newest "+revokedFile+" from the CA's folder")
	case before != nil && list.Version == before.Version && !bytes.Equal(raw, a.out.raw):
		a.log.Warn("two lists of revoked devices have the same version; the one before stays in force, and devices that have seen it take no other", "file", path,
			"version", list.Version, "do", "put that one into the CA's folder as "+revokedFile+", and revoke there whom the other named")
	case len(missing) > 0:
		a.log.Warn("the list of revoked devices lets devices in again that were put out for good; the one before stays in force, and no device takes this one",
			"file", path, "version", list.Version, "in_force", before.Version, "devices", len(missing), "missing", missing[:min(len(missing), mostNamed)], "do", "revoke them again with `discreet ca revoke`, and copy its "+revokedFile+" here")
	default:
		a.out.raw, a.out.list = raw, list
		a.log.Info("list of revoked devices taken up", "version", list.Version, "devices", len(list.Revoked))
	}
}

// readRevocations reads and verifies revoked.bin.
func (r *root) readRevocations() ([]byte, *secagg.RevocationList, error) {
	path := filepath.Join(r.dir, revokedFile)
	info, err := os.Stat(path)
	if err != nil {
		return nil, nil, err
	}
	if info.Size() > maxRevokedBytes {
		return nil, nil, fmt.Errorf("%s has %d bytes, want at most %d", path, info.Size(), maxRevokedBytes)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	list, err := secagg.VerifyRevocations(r.PublicKey(), raw)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return raw, list, nil
}
