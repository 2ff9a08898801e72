// Package store is the device's folder: the chats it learns from, its identity
// and its checkpoints. Nothing in it is meant to leave the device.
//
// Begin with [Open], [Store.Add] and [Store.Chats]. [Store.Forget] is the
// promise that matters most: afterwards no file of the folder holds the
// forgotten text in any form that a key in the folder opens.
//
// The folder, all of it readable by its owner only:
//
//	lock              held by the one process that uses the folder
//	discreet.db       chats, keys and small records (bbolt)
//	chats-<id>.key    the key-encryption key, 32 bytes; just one at rest
//	checkpoints/      checkpoint files named by their SHA-256
//
// A chat is sealed with AES-256-GCM under a data key of its conversation; the
// data key is sealed under the key-encryption key. A chat's database key is
// time ‖ sequence ‖ conversation and also the additional data of its seal, so
// that records cannot be swapped. Conversations are kept under a keyed hash of
// their name. The key-encryption key is a plain file beside the database, not
// in the operating system's keystore: it protects the chats only as well as the
// folder's permissions do, and lets them be forgotten for good.
//
// The database survives kill -9 and power cuts: every change is one bbolt
// transaction, and what must happen after one (removing an old key, compacting)
// is finished by the next Open.
package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/gofrs/flock"
	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

var (
	// ErrInUse is returned by Open for a folder that another process has open.
	ErrInUse = errors.New("folder is in use by another process (is `discreet agent` running?)")
	// ErrFull is returned when the disk is full. Nothing that was stored is lost.
	ErrFull = errors.New("the disk is full; nothing stored was lost, free some space and try again")
	// ErrDamaged is returned for a file that does not hold what was written to it.
	ErrDamaged = errors.New("damaged")
	// ErrClosed is returned by every method after Close.
	ErrClosed = errors.New("closed")
)

// Options are the bounds of a folder. Both must be positive.
type Options struct {
	MaxChats      int   // chats kept; the oldest leave first
	MaxCheckpoint int64 // bytes of a checkpoint file
}

// Store is an open folder. Its methods may be called concurrently.
type Store struct {
	dir     string
	options Options
	lock    *flock.Flock

	mu   sync.RWMutex // held by every transaction; for writing while keys change or the file is replaced
	db   *bolt.DB     // nil after Close
	keys keyring
}

const (
	databaseName = "discreet.db"
	compactName  = "discreet.db.compact"
	lockName     = "lock"

	lockWait = 500 * time.Millisecond // for a predecessor that is just exiting
)

// The buckets of the database.
var (
	metaBucket    = []byte("meta")    // which key-encryption key is current, whether to compact
	keysBucket    = []byte("keys")    // conversation → number of chats ‖ sealed data key
	chatsBucket   = []byte("chats")   // time ‖ sequence ‖ conversation → sealed chat
	recordsBucket = []byte("records") // name → plain record
	secretsBucket = []byte("secrets") // name → record sealed under the key-encryption key
	derivedBucket = []byte("derived") // the same, of records made from chats

	kekField     = []byte("kek")
	compactField = []byte("compact")
)

// Open opens the folder, making it where there is none, and finishes what an
// earlier process was killed in. It returns [ErrInUse] when another process
// holds the folder and never waits for it to leave.
func Open(dir string, o Options) (*Store, error) {
	if o.MaxChats < 1 || o.MaxCheckpoint < 1 {
		return nil, fmt.Errorf("store: at most %d chats and %d bytes a checkpoint, want both positive", o.MaxChats, o.MaxCheckpoint)
	}
	if err := makeFolder(dir); err != nil {
		return nil, fmt.Errorf("store: opening folder %s: %w", dir, explain(err))
	}
	lock := flock.New(filepath.Join(dir, lockName), flock.SetPermissions(0o600))
	if err := acquire(lock); err != nil {
		return nil, fmt.Errorf("store: %s: %w", dir, err)
	}
	s := &Store{dir: dir, options: o, lock: lock}
	if err := s.open(); err != nil {
		s.closeFiles()
		return nil, fmt.Errorf("store: opening folder %s: %w", dir, explain(err))
	}
	return s, nil
}

// makeFolder makes the folder or tightens its permissions. It refuses a folder
// that holds somebody else's files, whose permissions it must not touch.
func makeFolder(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return os.MkdirAll(filepath.Join(dir, checkpointFolder), 0o700)
	}
	if err != nil {
		return err
	}
	ours := len(entries) == 0
	for _, e := range entries {
		ours = ours || e.Name() == databaseName || e.Name() == lockName || e.Name() == checkpointFolder
	}
	if !ours {
		return errors.New("it holds other files; name a new or an empty folder")
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return err
	}
	return os.MkdirAll(filepath.Join(dir, checkpointFolder), 0o700)
}

// acquire takes the folder's lock, giving a predecessor a moment to leave.
func acquire(lock *flock.Flock) error {
	for deadline := time.Now().Add(lockWait); ; time.Sleep(lockWait / 10) {
		held, err := lock.TryLock()
		if err != nil {
			return explain(err)
		}
		if held {
			return nil
		}
		if !time.Now().Before(deadline) {
			return ErrInUse
		}
	}
}

func (s *Store) path(name string) string { return filepath.Join(s.dir, name) }

// open opens the database under the held lock and finishes earlier work.
func (s *Store) open() error {
	if err := removeFile(s.path(compactName)); err != nil {
		return err
	}
	if err := s.openDatabase(); err != nil {
		return err
	}
	pending := false
	err := s.db.Update(func(tx *bolt.Tx) error {
		for _, name := range [][]byte{metaBucket, keysBucket, chatsBucket, recordsBucket, secretsBucket, derivedBucket} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		pending = tx.Bucket(metaBucket).Get(compactField) != nil
		return s.loadKeys(tx)
	})
	if err != nil {
		return err
	}
	if err := s.removeStrayKeys(); err != nil {
		return err
	}
	if pending {
		return s.compact()
	}
	return nil
}

// openDatabase opens the database file as s.db.
func (s *Store) openDatabase() error {
	db, err := bolt.Open(s.path(databaseName), 0o600, &bolt.Options{
		Timeout:      lockWait, // never waits: the folder's lock is held
		FreelistType: bolt.FreelistMapType,
		NoStatistics: true,
	})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return ErrInUse
	}
	if errors.Is(err, bolterrors.ErrInvalid) || errors.Is(err, bolterrors.ErrChecksum) || errors.Is(err, bolterrors.ErrVersionMismatch) {
		return fmt.Errorf("%s is %w (%v); name a new folder and join again", databaseName, ErrDamaged, err)
	}
	if err != nil {
		return err
	}
	s.db = db
	return nil
}

// Close releases the folder. It waits for running calls.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closeFiles()
}

// closeFiles closes the database and gives the lock back.
func (s *Store) closeFiles() error {
	var err error
	if s.db != nil {
		err = s.db.Close()
		s.db = nil
	}
	s.keys.wipe()
	return errors.Join(err, s.lock.Close())
}

// view runs f in a read transaction.
func (s *Store) view(f func(*bolt.Tx) error) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.db == nil {
		return ErrClosed
	}
	return s.db.View(f)
}

// update runs f in a write transaction, which is on disk when update returns nil.
func (s *Store) update(f func(*bolt.Tx) error) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.db == nil {
		return ErrClosed
	}
	return explain(s.db.Update(f))
}
