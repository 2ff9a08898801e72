package ca

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/discreet-fl/discreet/checkpointlog"
)

const (
	keyBlock        = "PRIVATE KEY"
	credentialBlock = "DISCREET LOG CREDENTIAL"
)

// openLog reads the key of the checkpoint log and the CA's credential over it, and
// makes them at the first start, where the CA's key is here. Devices pin the key: it is never
// replaced, and a folder that has lost it is not gone on with.
func (r *root) openLog() (ed25519.PrivateKey, []byte, error) {
	path := filepath.Join(r.dir, logFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && r.key != nil {
		if strays := existing(r.dir, operatorFile, serverFile); len(strays) > 0 {
			return nil, nil, fmt.Errorf("ca: %s is missing from %s, where %s stands: put it back from a back-up, as devices know this key and refuse every other; "+
				"only where the folder never had one, as one of version 0.1.0, or where no device has ever joined, move %s away and start again, which makes all of them anew",
				logFile, r.dir, strings.Join(strays, " and "), strings.Join(strays, " and "))
		}
		return r.makeLog(path)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("ca: reading the log's key: %w", err)
	}
	first, rest := pem.Decode(data)
	second, rest := pem.Decode(rest)
	if first == nil || second == nil || len(rest) > 0 || first.Type != keyBlock || second.Type != credentialBlock {
		return nil, nil, fmt.Errorf("ca: %s does not hold a %s and a %s in PEM; put back the file as it was written: the devices know this key",
			path, keyBlock, credentialBlock)
	}
	key, err := parseKey(first.Bytes, path)
	if err != nil {
		return nil, nil, err
	}
	if err := checkpointlog.VerifyKey(r.PublicKey(), key.Public().(ed25519.PublicKey), second.Bytes); err != nil {
		return nil, nil, fmt.Errorf("ca: %s was certified by another CA; put back the one that belongs to %s: %w", path, certFile, err)
	}
	return key, second.Bytes, nil
}

func (r *root) makeLog(path string) (ed25519.PrivateKey, []byte, error) {
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("ca: making the log's key: %w", err)
	}
	private, err := keyPEM(key)
	if err != nil {
		return nil, nil, err
	}
	credential := checkpointlog.CertifyKey(r.key, public)
	return key, credential, writeFile(path, private, pem.EncodeToMemory(&pem.Block{Type: credentialBlock, Bytes: credential}))
}
