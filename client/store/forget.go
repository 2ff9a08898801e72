package store

import (
	"bytes"
	"errors"
	"fmt"

	bolt "go.etcd.io/bbolt"
)

// Forget removes every chat of a conversation for good and returns how many
// there were. Chats that were added without a conversation are forgotten with
// the name "".
//
// In one transaction the conversation's chats and its data key go, with everything
// that was made from any chats ([Store.PutDerived]), and every other key is sealed anew
// under a fresh key-encryption key; then the old key-encryption key is deleted and the
// database is rewritten without its free pages. What a copy of the database's old pages still holds can no longer be
// opened with anything in the folder. If the last part fails, the chats are gone
// for every caller, the error says so, and the next Open finishes the work.
func (s *Store) Forget(conversation string) (int, error) {
	return s.forget(func(h handle) bool { return h == s.keys.handle(conversation) })
}

// ForgetAll forgets every chat as Forget does. The identity and the enrolment stay.
func (s *Store) ForgetAll() (int, error) {
	return s.forget(func(handle) bool { return true })
}

func (s *Store) forget(matches func(handle) bool) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.db == nil {
		return 0, ErrClosed
	}
	fresh := s.keys.renew()
	if err := writeFile(s.path(keyFile(fresh.id)), fresh.kek[:]); err != nil {
		return 0, fmt.Errorf("store: forgetting: %w", explain(err))
	}
	n := 0
	err := s.db.Update(func(tx *bolt.Tx) (err error) {
		if n, err = dropChats(tx, matches); err != nil {
			return err
		}
		if err = dropDerived(tx); err != nil {
			return err
		}
		return s.rewrap(tx, &fresh)
	})
	if err != nil {
		// The commit may have failed after it took effect; the next Open knows
		// which key the database names, so neither key is removed here.
		return 0, errors.Join(fmt.Errorf("store: forgetting: %w", explain(err)), s.reload())
	}
	s.keys = fresh
	if err := errors.Join(s.removeStrayKeys(), s.compact()); err != nil {
		return n, fmt.Errorf("store: %d chats are forgotten, but cleaning the folder is not finished and goes on when it is next opened: %w", n, explain(err))
	}
	return n, nil
}

// reload reads the keys again after a failed transaction and drops the unused one.
func (s *Store) reload() error {
	return s.db.View(func(tx *bolt.Tx) error {
		if string(tx.Bucket(metaBucket).Get(kekField)) == "" {
			return fmt.Errorf("the database is %w: it names no key", ErrDamaged)
		}
		if err := s.loadKeys(tx); err != nil {
			return err
		}
		return s.removeStrayKeys()
	})
}

// dropChats deletes the chats and data keys of the matching conversations.
func dropChats(tx *bolt.Tx, matches func(handle) bool) (int, error) {
	var names, handles [][]byte
	err := tx.Bucket(chatsBucket).ForEach(func(name, _ []byte) error {
		h, err := handleOf(name)
		if err == nil && matches(h) {
			names = append(names, bytes.Clone(name))
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	err = tx.Bucket(keysBucket).ForEach(func(h, _ []byte) error {
		if len(h) == handleSize && matches(handle(h)) {
			handles = append(handles, bytes.Clone(h))
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		if err := tx.Bucket(chatsBucket).Delete(name); err != nil {
			return 0, err
		}
	}
	for _, h := range handles {
		if err := tx.Bucket(keysBucket).Delete(h); err != nil {
			return 0, err
		}
	}
	_, err = bump(tx, -len(names))
	return len(names), err
}

// rewrap seals every remaining data key and secret under the fresh key, names it
// in the database and asks for compaction.
func (s *Store) rewrap(tx *bolt.Tx, fresh *keyring) error {
	var handles, names [][]byte
	collect := func(into *[][]byte) func(k, _ []byte) error {
		return func(k, _ []byte) error { *into = append(*into, bytes.Clone(k)); return nil }
	}
	if err := errors.Join(tx.Bucket(keysBucket).ForEach(collect(&handles)), tx.Bucket(secretsBucket).ForEach(collect(&names))); err != nil {
		return err
	}
	for _, h := range handles {
		key, count, err := s.openKey(tx, handle(h))
		if err != nil {
			return err
		}
		if err := putKey(tx, fresh, handle(h), key, count); err != nil {
			return err
		}
	}
	for _, name := range names {
		value, err := getSecret(tx, &s.keys, string(name))
		if err != nil {
			return err
		}
		if err := putSecret(tx, fresh, string(name), value); err != nil {
			return err
		}
	}
	meta := tx.Bucket(metaBucket)
	return errors.Join(meta.Put(kekField, []byte(fresh.id)), meta.Put(compactField, []byte{1}))
}

// compact rewrites the database without its free pages, which bbolt does not
// zero. The caller holds s.mu for writing or is Open.
func (s *Store) compact() error {
	if err := s.writeCompacted(); err != nil {
		return errors.Join(err, removeFile(s.path(compactName)))
	}
	err := s.db.Close()
	s.db = nil
	if err == nil {
		err = replaceFile(s.path(compactName), s.path(databaseName))
	}
	return errors.Join(err, s.openDatabase())
}

// writeCompacted writes the compacted database beside the present one.
func (s *Store) writeCompacted() error {
	fresh, err := bolt.Open(s.path(compactName), 0o600, &bolt.Options{Timeout: lockWait, FreelistType: bolt.FreelistMapType, NoStatistics: true})
	if err != nil {
		return err
	}
	err = bolt.Compact(fresh, s.db, 1<<20)
	if err == nil {
		err = fresh.Update(func(tx *bolt.Tx) error { return tx.Bucket(metaBucket).Delete(compactField) })
	}
	if err == nil {
		err = fresh.Sync()
	}
	return errors.Join(err, fresh.Close())
}
