package ca

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/gofrs/flock"
)

const (
	lockFile  = "ca.lock"
	lockTime  = 10 * time.Second // what another process does takes milliseconds
	lockRetry = 20 * time.Millisecond
)

func certificatePEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func keyPEM(key ed25519.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("ca: encoding a key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: keyBlock, Bytes: der}), nil
}

func writeKey(path string, key ed25519.PrivateKey) error {
	data, err := keyPEM(key)
	if err != nil {
		return err
	}
	return writeFile(path, data)
}

func readKey(path string) (ed25519.PrivateKey, error) {
	block, err := readBlock(path, keyBlock)
	if err != nil {
		return nil, err
	}
	return parseKey(block, path)
}

func parseKey(der []byte, path string) (ed25519.PrivateKey, error) {
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("ca: the key in %s: %w", path, err)
	}
	private, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("ca: %s holds a %T, want an Ed25519 key", path, key)
	}
	return private, nil
}

func readCertificate(path string) (*x509.Certificate, error) {
	block, err := readBlock(path, "CERTIFICATE")
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(block)
	if err != nil {
		return nil, fmt.Errorf("ca: the certificate in %s: %w", path, err)
	}
	return cert, nil
}

// readBlock returns the first PEM block of a file, which has to be of that type.
func readBlock(path, kind string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("ca: %w", err)
	}
	block, _ := pem.Decode(data)
	if block == nil || block.Type != kind {
		return nil, fmt.Errorf("ca: %s does not begin with a PEM block of type %s; put back the file as it was written", path, kind)
	}
	return block.Bytes, nil
}

// warnLoose warns about a file with a key that others may read.
func warnLoose(log *slog.Logger, path string) {
	info, err := os.Stat(path)
	if err != nil || runtime.GOOS == "windows" || info.Mode().Perm()&0o077 == 0 {
		return
	}
	log.Warn("other users of this machine may read a key", "file", path, "mode", fmt.Sprintf("%#o", info.Mode().Perm()), "do", "chmod 600 "+path)
}

// locked runs f while no other process does the same in the CA's folder, so that no key
// is made twice and no list of revoked devices is written over a newer one.
func (r *root) locked(f func() error) error {
	lock := flock.New(filepath.Join(r.dir, lockFile), flock.SetPermissions(0o600))
	ctx, cancel := context.WithTimeout(context.Background(), lockTime)
	defer cancel()
	if _, err := lock.TryLockContext(ctx, lockRetry); errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("ca: another discreet is at work on the CA in %s; try again when it has ended", r.dir)
	} else if err != nil {
		return fmt.Errorf("ca: locking the folder: %w", err)
	}
	return errors.Join(f(), lock.Unlock())
}

// unchanged tells whether a file is still the one that was seen before.
func unchanged(seen, now fs.FileInfo) bool {
	return seen != nil && os.SameFile(seen, now) && seen.Size() == now.Size() && seen.ModTime().Equal(now.ModTime())
}

// writeFile puts the parts into a file, readable by its owner only, so that after a
// crash either the old or the new content stands there.
func writeFile(path string, parts ...[]byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp") // mode 0600
	if err != nil {
		return fmt.Errorf("ca: %w", err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("ca: writing %s: %w", path, errors.Join(err, os.Remove(f.Name())))
		}
	}()
	for _, part := range parts {
		if _, err := f.Write(part); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	if err := f.Sync(); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	if runtime.GOOS == "windows" { // has no way to flush a folder, and needs none
		return nil
	}
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
