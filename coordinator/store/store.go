// Package store keeps what a coordinator must not lose: devices, enrolment tokens,
// tasks, the record of every attempt at a round, checkpoints and their log. It is one
// SQLite file in the data folder.
//
// Begin with [Open]; [Store.Commit] is the transaction that ends a round. An
// acknowledged write survives kill -9 and a power cut (write-ahead log, synchronous
// FULL). Nothing of an unfinished round is here but the number of its attempt and
// whether its devices were asked to reveal.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
	"modernc.org/sqlite" // the driver "sqlite", too
)

var (
	// ErrNotFound is returned for a name, id or hash that the store does not keep.
	ErrNotFound = errors.New("not found")
	// ErrExists is returned for a name that is taken.
	ErrExists = errors.New("exists already")
	// ErrToken is returned for an enrolment token that is unknown, used up or expired.
	ErrToken = errors.New("enrolment token is unknown, used up or expired")
	// ErrStale is returned for a commit of an attempt that is not the task's current one.
	ErrStale = errors.New("the attempt is not the task's current one")
	// ErrRevealed is returned for an attempt that would use a checkpoint again for which
	// devices were asked to reveal.
	ErrRevealed = errors.New("devices were asked to reveal for this checkpoint and no round came of it: commit a held checkpoint before the next attempt")
	// ErrLocked is returned while another coordinator has the folder.
	ErrLocked = errors.New("another discreet serve runs on this folder")
)

const (
	databaseFile = "discreet.db"
	lockFile     = "lock"
	readers      = 4
)

// Store is an opened data folder. It is safe for concurrent use.
type Store struct {
	lock   *flock.Flock
	writer *sql.DB // one connection, immediate transactions
	reader *sql.DB // a pool that cannot write
}

// Open locks the folder, makes it where it is missing, and brings the database to
// this build's schema.
func Open(dir string) (_ *Store, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("store: making the data folder: %w", err)
	}
	s := &Store{lock: flock.New(filepath.Join(dir, lockFile), flock.SetPermissions(0o600))}
	taken, err := s.lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("store: locking %s: %w", dir, err)
	}
	if !taken {
		return nil, fmt.Errorf("store: %s: %w; stop it or give this one another folder", dir, ErrLocked)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	path := filepath.Join(dir, databaseFile)
	if s.writer, err = sql.Open("sqlite", source(path, "_txlock=immediate",
		"journal_mode(WAL)", "synchronous(FULL)", "busy_timeout(5000)", "foreign_keys(1)", "secure_delete(1)")); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	s.writer.SetMaxOpenConns(1)
	if err := migrate(s.writer, time.Now()); err != nil {
		return nil, fmt.Errorf("store: opening %s: %w", path, damaged(err))
	}
	if s.reader, err = sql.Open("sqlite", source(path, "mode=ro", "query_only(1)", "busy_timeout(5000)")); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	s.reader.SetMaxOpenConns(readers)
	return s, nil
}

// damaged says what to do where the file is no whole database.
func damaged(err error) error {
	const corrupt, notADatabase = 11, 26 // SQLite's codes, https://sqlite.org/rescode.html
	if e := (*sqlite.Error)(nil); errors.As(err, &e) && (e.Code()&0xff == corrupt || e.Code()&0xff == notADatabase) {
		return fmt.Errorf("%w; the database is damaged: restore a back-up", err)
	}
	return err
}

// source is the driver's name for a database file with settings of its connections.
func source(path, setting string, pragmas ...string) string {
	u := url.URL{Scheme: "file", OmitHost: true, Path: filepath.ToSlash(path), RawQuery: setting}
	for _, p := range pragmas {
		u.RawQuery += "&_pragma=" + p
	}
	return u.String()
}

// Close ends all work and gives the folder free.
func (s *Store) Close() error {
	var errs []error
	if s.reader != nil {
		errs = append(errs, s.reader.Close())
	}
	if s.writer != nil {
		errs = append(errs, s.writer.Close())
	}
	return errors.Join(append(errs, s.lock.Unlock())...)
}

// write runs f in one transaction. Where it fails nothing of it has happened.
func (s *Store) write(ctx context.Context, what string, f func(tx *sql.Tx) error) error {
	tx, err := s.writer.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("store: %s: %w", what, err)
	}
	if err := f(tx); err != nil {
		return fmt.Errorf("store: %s: %w", what, errors.Join(err, ignoreDone(tx.Rollback())))
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("store: %s: %w", what, errors.Join(err, ignoreDone(tx.Rollback())))
	}
	return nil
}

// ignoreDone drops the error of rolling back what SQLite or the context has rolled
// back already, as it does by itself on a full disk.
func ignoreDone(err error) error {
	if errors.Is(err, sql.ErrTxDone) {
		return nil
	}
	return err
}

// found turns the driver's "no rows" into ErrNotFound.
func found(what string, err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("store: %s: %w", what, err)
	}
	return nil
}

// querier has rows: the pool of readers, or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// collect reads all rows of a query.
func collect[T any](ctx context.Context, db querier, what string, scan func(rows *sql.Rows, v *T) error, query string, args ...any) ([]T, error) {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("store: %s: %w", what, err)
	}
	var all []T
	for rows.Next() {
		var v T
		if err := scan(rows, &v); err != nil {
			return nil, fmt.Errorf("store: %s: %w", what, errors.Join(err, rows.Close()))
		}
		all = append(all, v)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return nil, fmt.Errorf("store: %s: %w", what, err)
	}
	return all, nil
}
