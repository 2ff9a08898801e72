package store

import (
	"bytes"

	bolt "go.etcd.io/bbolt"
)

// Record returns the plain record of that name, nil where there is none.
func (s *Store) Record(name string) ([]byte, error) {
	var value []byte
	err := s.view(func(tx *bolt.Tx) error {
		value = bytes.Clone(tx.Bucket(recordsBucket).Get([]byte(name)))
		return nil
	})
	return value, err
}

// PutRecord stores a plain record; it is on disk when PutRecord returns nil.
func (s *Store) PutRecord(name string, value []byte) error {
	return s.update(func(tx *bolt.Tx) error {
		return tx.Bucket(recordsBucket).Put([]byte(name), value)
	})
}

// Secret returns the sealed record of that name, nil where there is none.
func (s *Store) Secret(name string) ([]byte, error) {
	var value []byte
	err := s.view(func(tx *bolt.Tx) (err error) {
		value, err = getSecret(tx, &s.keys, name)
		return err
	})
	return value, err
}

// PutSecret stores a record sealed under the key-encryption key; it is on disk
// when PutSecret returns nil.
func (s *Store) PutSecret(name string, value []byte) error {
	return s.update(func(tx *bolt.Tx) error { return putSecret(tx, &s.keys, name, value) })
}

func getSecret(tx *bolt.Tx, k *keyring, name string) ([]byte, error) {
	sealed := tx.Bucket(secretsBucket).Get([]byte(name))
	if sealed == nil {
		return nil, nil
	}
	return unseal(&k.kek, sealed, secretContext(name))
}

func putSecret(tx *bolt.Tx, k *keyring, name string, value []byte) error {
	return tx.Bucket(secretsBucket).Put([]byte(name), seal(&k.kek, value, secretContext(name)))
}

// secretContext is the additional data of a sealed record.
func secretContext(name string) []byte { return []byte("discreet/record/v1 " + name) }
