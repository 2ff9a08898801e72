package ca

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/discreet-fl/discreet/secagg"
)

// Machine is the folder that keeps the CA's key, with what is done there. It may be a
// coordinator's own folder, or lie on a machine that is on no network.
type Machine struct{ root }

// Init makes a CA in a folder, which is made where it is missing. It never touches a
// CA that is there.
func Init(dir string, now time.Time) (*Machine, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("ca: %w", err)
	}
	if there := existing(dir, keyFile, certFile, serverFile, operatorFile, logFile, revokedFile); len(there) > 0 {
		return nil, fmt.Errorf("ca: %s holds %s already; name an empty folder, or go on with the CA that is there", dir, strings.Join(there, ", "))
	}
	m := &Machine{root{dir: dir}}
	return m, m.make(now)
}

// OpenMachine opens a folder with a CA's key. The log gets a warning when others may
// read it.
func OpenMachine(dir string, log *slog.Logger, now time.Time) (*Machine, error) {
	r, err := readRoot(dir)
	switch {
	case err != nil:
		return nil, err
	case r.key == nil && r.cert == nil:
		return nil, fmt.Errorf("ca: there is no CA in %s; name the folder that `discreet ca init` made", dir)
	case r.key == nil:
		return nil, fmt.Errorf("ca: %s holds a CA's certificate but not its key; run this where %s is", dir, keyFile)
	case r.cert == nil:
		return nil, fmt.Errorf("ca: %s holds a CA's key but not its certificate; put %s back beside it, or, when `discreet ca init` was interrupted, remove the folder and run it again", dir, certFile)
	}
	warnLoose(log, filepath.Join(dir, keyFile))
	return &Machine{r}, r.live(now)
}

// IssueCoordinator writes all that a coordinator's folder needs, except the CA's key,
// into the folder out: the CA's certificate, a new server certificate for hosts, the
// operator's credential, the log's key and the list of revoked devices. Operator's
// credential and log key are made once and kept in the CA's folder, so that a later
// call renews the server's certificate and nothing else. Files are never overwritten.
func (m *Machine) IssueCoordinator(hosts []string, out string, now time.Time) error {
	names, err := hostNames(hosts)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o700); err != nil {
		return fmt.Errorf("ca: %w", err)
	}
	if there := existing(out, keyFile, certFile, serverFile, operatorFile, logFile, revokedFile); len(there) > 0 {
		return fmt.Errorf("ca: %s holds %s already; name a new folder, and copy what is to be replaced from it", out, strings.Join(there, ", "))
	}
	if _, _, err := m.openOnce(now); err != nil {
		return err
	}
	files := make(map[string][][]byte)
	for _, name := range []string{certFile, operatorFile, logFile, revokedFile} {
		data, err := os.ReadFile(filepath.Join(m.dir, name))
		if errors.Is(err, fs.ErrNotExist) && name == revokedFile {
			continue // nobody was revoked yet
		}
		if err != nil {
			return fmt.Errorf("ca: %w", err)
		}
		files[name] = [][]byte{data}
	}
	if files[serverFile], err = m.makeServer(names, now); err != nil {
		return err
	}
	for name, parts := range files {
		if err := writeFile(filepath.Join(out, name), parts...); err != nil {
			return fmt.Errorf("%w; try again with another new folder", err)
		}
	}
	return nil
}

// IssueDevices certifies the devices of a requests file and writes the file that
// brings the certificates, and a roll of them all, to the coordinator. It returns whom it certified. A device
// that was revoked is refused, and nobody is certified then.
func (m *Machine) IssueDevices(requests io.Reader, out io.Writer, now time.Time) ([]secagg.ID, error) {
	keys, err := readRequests(requests)
	if err != nil {
		return nil, err
	}
	_, revoked, err := m.readRevocations()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("ca: %w", err)
	}
	issued, ids := make([]Issued, len(keys)), make([]secagg.ID, len(keys))
	for i, key := range keys {
		if ids[i] = secagg.DeviceID(key); revoked.Has(ids[i]) {
			return nil, fmt.Errorf("ca: device %v asks again, but was revoked; take its line out of the requests. To let it back in, its folder has to be made anew", ids[i])
		}
		if issued[i], err = m.issue(key, now); err != nil {
			return nil, err
		}
	}
	if len(keys) == 0 {
		return ids, writeIssued(out, nil, nil)
	}
	roll, err := secagg.SignRoll(m.key, keys)
	if err != nil {
		return nil, fmt.Errorf("ca: %w", err)
	}
	return ids, writeIssued(out, issued, roll)
}

// Revoke puts devices out of the federation: it writes a new list with them and all
// that were out before, and returns it. Ids that are out already change nothing.
func (m *Machine) Revoke(ids []secagg.ID, now time.Time) (list *secagg.RevocationList, err error) {
	err = m.locked(func() error {
		list, err = m.revoke(ids, now)
		return err
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

func (m *Machine) revoke(ids []secagg.ID, now time.Time) (*secagg.RevocationList, error) {
	_, before, err := m.readRevocations()
	if errors.Is(err, fs.ErrNotExist) {
		before, err = new(secagg.RevocationList), nil
	}
	if err != nil {
		return nil, fmt.Errorf("ca: %w", err)
	}
	list := &secagg.RevocationList{Version: nextVersion(before.Version, now), Revoked: before.Revoked}
	for _, id := range ids {
		if !before.Has(id) {
			list.Revoked = append(list.Revoked, id)
		}
	}
	if len(list.Revoked) == len(before.Revoked) {
		return before, nil
	}
	raw, err := list.Sign(m.key)
	if err != nil {
		return nil, fmt.Errorf("ca: %w", err)
	}
	if err := writeFile(filepath.Join(m.dir, revokedFile), raw); err != nil {
		return nil, err
	}
	_, list, err = m.readRevocations()
	return list, err
}

// nextVersion is the Unix time in seconds, so that a CA that was restored from an old
// back-up goes on above what the devices have seen, and in any case one more than before.
func nextVersion(before uint64, now time.Time) uint64 {
	return max(before+1, uint64(max(now.Unix(), 0)))
}
