package store

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	bolt "go.etcd.io/bbolt"
)

const (
	keySize    = 32
	handleSize = 16

	keyPrefix, keySuffix = "chats-", ".key"
)

// handle stands for a conversation in the database.
type handle [handleSize]byte

// keyring holds the current key-encryption key and what it opens at once.
type keyring struct {
	id    string // names the key's file
	kek   [keySize]byte
	index [keySize]byte // keys the hash that turns a conversation's name into a handle
}

func (k *keyring) wipe() { *k = keyring{} }

// handle returns the conversation's handle.
func (k *keyring) handle(conversation string) (h handle) {
	mac := hmac.New(sha256.New, k.index[:])
	mac.Write([]byte(conversation))
	copy(h[:], mac.Sum(nil))
	return h
}

// newKey returns a fresh key-encryption key with its id; index is kept.
func (k *keyring) renew() keyring {
	fresh := keyring{index: k.index}
	var id [8]byte
	rand.Read(id[:])
	rand.Read(fresh.kek[:])
	fresh.id = hex.EncodeToString(id[:])
	return fresh
}

func keyFile(id string) string { return keyPrefix + id + keySuffix }

// indexRecord is the secret that holds keyring.index.
const indexRecord = "conversation index"

// loadKeys reads the key-encryption key that the database names, or makes the
// first one. It runs inside the transaction that opens the folder.
func (s *Store) loadKeys(tx *bolt.Tx) error {
	meta := tx.Bucket(metaBucket)
	id := string(meta.Get(kekField))
	if id == "" {
		s.keys = (&keyring{}).renew()
		rand.Read(s.keys.index[:])
		if err := writeFile(s.path(keyFile(s.keys.id)), s.keys.kek[:]); err != nil {
			return err
		}
		if err := meta.Put(kekField, []byte(s.keys.id)); err != nil {
			return err
		}
		return putSecret(tx, &s.keys, indexRecord, s.keys.index[:])
	}
	key, err := os.ReadFile(s.path(keyFile(id)))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is missing: without it the folder's chats and identity cannot be read; restore it or name a new folder", keyFile(id))
	}
	if err != nil {
		return err
	}
	if len(key) != keySize {
		return fmt.Errorf("%s is %w: %d bytes, want %d; restore it or name a new folder", keyFile(id), ErrDamaged, len(key), keySize)
	}
	s.keys = keyring{id: id, kek: [keySize]byte(key)}
	index, err := getSecret(tx, &s.keys, indexRecord)
	if err != nil {
		return err
	}
	if len(index) != keySize {
		return fmt.Errorf("the index key is %w: %d bytes, want %d", ErrDamaged, len(index), keySize)
	}
	s.keys.index = [keySize]byte(index)
	return nil
}

// removeStrayKeys deletes key files that the database does not name: one that a
// killed process made and did not come to use, or replaced and did not come to
// delete.
func (s *Store) removeStrayKeys() error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		if strings.HasPrefix(name, keyPrefix) && strings.HasSuffix(name, keySuffix) && name != keyFile(s.keys.id) {
			if err := shred(filepath.Join(s.dir, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// shred overwrites a key file before removing it. Flash memory and journals may
// keep the old blocks for a while, so that this only shortens the key's life.
func shred(path string) error {
	if f, err := os.OpenFile(path, os.O_WRONLY, 0); err == nil {
		f.Write(make([]byte, keySize))
		f.Sync()
		f.Close()
	}
	return removeFile(path)
}

// seal encrypts plain under key and binds it to aad. It returns nonce ‖ ciphertext.
func seal(key *[keySize]byte, plain, aad []byte) []byte {
	nonce := make([]byte, 12, 12+len(plain)+16)
	rand.Read(nonce)
	return gcm(key).Seal(nonce, nonce, plain, aad)
}

// unseal opens what seal returned.
func unseal(key *[keySize]byte, sealed, aad []byte) ([]byte, error) {
	if len(sealed) < 12+16 {
		return nil, fmt.Errorf("a sealed record is %w: %d bytes, want at least 28", ErrDamaged, len(sealed))
	}
	plain, err := gcm(key).Open(nil, sealed[:12], sealed[12:], aad)
	if err != nil {
		return nil, fmt.Errorf("a sealed record is %w: it does not open under its key", ErrDamaged)
	}
	return plain, nil
}

func gcm(key *[keySize]byte) cipher.AEAD {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // only for another key size
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err) // only for another block size
	}
	return aead
}
