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

// Records returns the names of the plain records that begin with a prefix.
func (s *Store) Records(prefix string) (names []string, err error) {
	err = s.view(func(tx *bolt.Tx) error {
		c := tx.Bucket(recordsBucket).Cursor()
		for k, _ := c.Seek([]byte(prefix)); bytes.HasPrefix(k, []byte(prefix)); k, _ = c.Next() {
			names = append(names, string(k))
		}
		return nil
	})
	return names, err
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

// Derived returns the record of that name which was made from chats, nil where there is
// none, or none any more.
func (s *Store) Derived(name string) ([]byte, error) {
	var value []byte
	err := s.view(func(tx *bolt.Tx) (err error) {
		if sealed := tx.Bucket(derivedBucket).Get([]byte(name)); sealed != nil {
			value, err = unseal(&s.keys.kek, sealed, derivedContext(name))
		}
		return err
	})
	return value, err
}

// PutDerived stores a record that was made from chats, sealed like a secret; it is on
// disk when PutDerived returns nil. It tells of the chats, and so Forget removes it with
// whichever of them it forgets.
func (s *Store) PutDerived(name string, value []byte) error {
	return s.update(func(tx *bolt.Tx) error {
		return tx.Bucket(derivedBucket).Put([]byte(name), seal(&s.keys.kek, value, derivedContext(name)))
	})
}

// DropDerived removes every record that was made from chats. The chats stay.
func (s *Store) DropDerived() error { return s.update(dropDerived) }

func dropDerived(tx *bolt.Tx) error {
	if err := tx.DeleteBucket(derivedBucket); err != nil {
		return err
	}
	_, err := tx.CreateBucket(derivedBucket)
	return err
}

// derivedContext is the additional data of the seal of a record made from chats.
func derivedContext(name string) []byte { return []byte("discreet/derived/v1 " + name) }

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
