package agent

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"
)

// maxSocketPath is what every system takes: macOS has 104 bytes with the final zero.
const maxSocketPath = 103

// SocketPath is where the agent of a device's folder listens unless told otherwise.
func SocketPath(dir string) string { return filepath.Join(dir, "agent.sock") }

// TokenPath is where the token for TCP lies unless told otherwise.
func TokenPath(dir string) string { return filepath.Join(dir, "agent.token") }

// ListenSocket listens on a unix socket that only its owner may use. A socket file
// that a killed agent left behind is replaced; one that somebody listens on is an
// error. Closing the listener removes the file.
func ListenSocket(path string) (net.Listener, error) {
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("agent: the socket's path has %d bytes, want at most %d; choose a shorter one: %s", len(path), maxSocketPath, path)
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("agent: listening: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("agent: %w", err), listener.Close())
	}
	return listener, nil
}

// removeStale removes a socket file on which nobody listens.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	if info.Mode()&os.ModeSocket == 0 {
		return fmt.Errorf("agent: %s is in the way and is not a socket; remove it or choose another path", path)
	}
	if conn, err := net.DialTimeout("unix", path, time.Second); err == nil {
		return errors.Join(fmt.Errorf("agent: another agent listens on %s; stop it or choose another path", path), conn.Close())
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("agent: removing a stale socket: %w", err)
	}
	return nil
}

// ListenTCP listens on a loopback address, HOST:PORT. Any other address is refused:
// the API is not encrypted.
func ListenTCP(addr string) (net.Listener, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("agent: address %q, want HOST:PORT", addr)
	}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("agent: listening: %w; choose another port if this one is taken", err)
	}
	if a, ok := listener.Addr().(*net.TCPAddr); !ok || !a.IP.IsLoopback() {
		return nil, errors.Join(fmt.Errorf("agent: host %q, want 127.0.0.1, ::1 or localhost: the API is not encrypted", host), listener.Close())
	}
	return listener, nil
}
