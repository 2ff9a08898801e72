package store

import (
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// migration is a step of the schema: statements, and what they cannot say.
type migration struct {
	sql  string
	then func(tx *sql.Tx) error // nil where the statements are all
}

// migrations are the steps from an empty file to the current schema, in order. A
// step that was released is never changed: a later one alters what it made. The SQL
// stays within what SQLite and PostgreSQL share, but for types of columns.
//
// Times are Unix milliseconds.
var migrations = []migration{{sql: `
CREATE TABLE devices (
	id BLOB PRIMARY KEY,
	public_key BLOB NOT NULL,
	enrolled_ms BIGINT NOT NULL,
	seen_ms BIGINT NOT NULL,
	rounds BIGINT NOT NULL
) WITHOUT ROWID;

CREATE TABLE tokens (
	hash BLOB PRIMARY KEY, -- SHA-256 of the secret
	uses_left BIGINT NOT NULL,
	expires_ms BIGINT NOT NULL
) WITHOUT ROWID;

CREATE TABLE token_uses (
	token BLOB NOT NULL REFERENCES tokens(hash) ON DELETE CASCADE,
	device BLOB NOT NULL REFERENCES devices(id) ON DELETE CASCADE,
	PRIMARY KEY (token, device)
) WITHOUT ROWID;

CREATE TABLE tasks (
	name TEXT PRIMARY KEY,
	spec BLOB NOT NULL, -- serialised discreet.v1.TaskSpec
	created_ms BIGINT NOT NULL,
	rounds_done BIGINT NOT NULL,
	round BIGINT NOT NULL,   -- the latest attempt that was begun
	attempt BIGINT NOT NULL,
	checkpoint BLOB NOT NULL -- SHA-256 of the current one
) WITHOUT ROWID;

CREATE TABLE rounds (
	task TEXT NOT NULL REFERENCES tasks(name) ON DELETE CASCADE,
	seq BIGINT NOT NULL, -- counts the task's attempts that ended
	round BIGINT NOT NULL,
	attempt BIGINT NOT NULL,
	cohort BIGINT NOT NULL,
	roster BIGINT NOT NULL,
	survivors BIGINT NOT NULL,
	started_ms BIGINT NOT NULL,
	ended_ms BIGINT NOT NULL,
	aborted TEXT NOT NULL,     -- empty when committed
	checkpoint BLOB,           -- NULL when aborted
	PRIMARY KEY (task, seq)
) WITHOUT ROWID;
CREATE UNIQUE INDEX rounds_committed ON rounds (task, round, attempt) WHERE checkpoint IS NOT NULL;

CREATE TABLE checkpoints (
	sha256 BLOB PRIMARY KEY,
	task TEXT NOT NULL REFERENCES tasks(name) ON DELETE CASCADE,
	round BIGINT NOT NULL,
	bytes BIGINT NOT NULL,
	committed_ms BIGINT NOT NULL
) WITHOUT ROWID;
CREATE UNIQUE INDEX checkpoints_task ON checkpoints (task, round);

CREATE TABLE checkpoint_chunks (
	sha256 BLOB NOT NULL REFERENCES checkpoints(sha256) ON DELETE CASCADE,
	seq BIGINT NOT NULL,
	data BLOB NOT NULL,
	PRIMARY KEY (sha256, seq)
);

-- The strategy's state that belongs to a task's current checkpoint.
CREATE TABLE velocity_chunks (
	task TEXT NOT NULL REFERENCES tasks(name) ON DELETE CASCADE,
	seq BIGINT NOT NULL,
	data BLOB NOT NULL,
	PRIMARY KEY (task, seq)
);
`}, {sql: `
-- 1 from when the devices of the latest attempt are asked to reveal until a checkpoint
-- is committed.
ALTER TABLE tasks ADD COLUMN revealing BIGINT NOT NULL DEFAULT 0;
-- It was not noted before: an attempt that was not committed may have come that far.
UPDATE tasks SET revealing = 1 WHERE round > 0 AND NOT EXISTS (SELECT 1 FROM rounds r
	WHERE r.task = tasks.name AND r.round = tasks.round AND r.attempt = tasks.attempt AND r.checkpoint IS NOT NULL);

-- Before, every round was one cohort.
ALTER TABLE rounds ADD COLUMN cohorts BIGINT NOT NULL DEFAULT 1;
ALTER TABLE rounds ADD COLUMN cohorts_lost BIGINT NOT NULL DEFAULT 0;

CREATE TABLE log_entries (
	task TEXT NOT NULL REFERENCES tasks(name) ON DELETE CASCADE,
	idx BIGINT NOT NULL, -- from 0
	checkpoint BLOB NOT NULL,
	entry BLOB NOT NULL, -- as package checkpointlog encodes it
	PRIMARY KEY (task, idx)
) WITHOUT ROWID;
CREATE UNIQUE INDEX log_entries_checkpoint ON log_entries (task, checkpoint);

-- The hashes of the tree over a task's entries, in the order of tlog.StoredHashIndex.
CREATE TABLE log_hashes (
	task TEXT NOT NULL REFERENCES tasks(name) ON DELETE CASCADE,
	idx BIGINT NOT NULL,
	hash BLOB NOT NULL,
	PRIMARY KEY (task, idx)
) WITHOUT ROWID;

-- Devices that wait for a CA that is kept elsewhere, with the token whose place they took.
CREATE TABLE waiting (
	token BLOB NOT NULL REFERENCES tokens(hash) ON DELETE CASCADE,
	device BLOB NOT NULL,
	public_key BLOB NOT NULL,
	asked_ms BIGINT NOT NULL,
	PRIMARY KEY (token, device)
) WITHOUT ROWID;
CREATE INDEX waiting_device ON waiting (device);

-- What such a CA issued.
CREATE TABLE issued (
	device BLOB PRIMARY KEY REFERENCES devices(id) ON DELETE CASCADE,
	certificate BLOB NOT NULL,
	credential BLOB NOT NULL
) WITHOUT ROWID;
`, then: startLogs}, {sql: `
-- The strategy has another state than before, and starts anew from zero.
DELETE FROM velocity_chunks;
`}, {sql: `
-- A strategy has several vectors, or none, one after the other.
ALTER TABLE velocity_chunks RENAME TO strategy_chunks;
`}, {sql: `
-- Changes of intents that wait for an attempt to end.
CREATE TABLE intent_changes (
	task TEXT NOT NULL REFERENCES tasks(name) ON DELETE CASCADE,
	seq BIGINT NOT NULL,
	changes BLOB NOT NULL, -- serialised discreet.v1.ChangeIntentsRequest
	PRIMARY KEY (task, seq)
) WITHOUT ROWID;
-- Not 0 where no devices took part, and the list of intents changed.
ALTER TABLE rounds ADD COLUMN intents_version BIGINT NOT NULL DEFAULT 0;

-- The one task that a token's devices, and a device, may see; empty is every task.
ALTER TABLE tokens ADD COLUMN task TEXT NOT NULL DEFAULT '';
ALTER TABLE devices ADD COLUMN task TEXT NOT NULL DEFAULT '';
`}, {sql: `
-- A serialised discreet.v1.RoundEvaluation; NULL where nothing was counted.
ALTER TABLE rounds ADD COLUMN evaluation BLOB;
-- The best checkpoint by the evaluations so far, NULL before the first, its smoothed
-- accuracy, and the evaluations since.
ALTER TABLE tasks ADD COLUMN best BLOB;
ALTER TABLE tasks ADD COLUMN best_accuracy DOUBLE PRECISION NOT NULL DEFAULT 0;
ALTER TABLE tasks ADD COLUMN best_since BIGINT NOT NULL DEFAULT 0;
`}, {sql: `
-- Checkpoints that came after the one that an attempt trained and before its sum counted.
ALTER TABLE rounds ADD COLUMN staleness BIGINT NOT NULL DEFAULT 0;
`}, {sql: `
-- What each device may have given away in a task whose sums have noise in them, in
-- trillionths of ρ. A device that enrols anew is another; a revoked one's account stays.
CREATE TABLE charges (
	task TEXT NOT NULL REFERENCES tasks(name) ON DELETE CASCADE,
	device BLOB NOT NULL,
	vectors BIGINT NOT NULL,
	charged BIGINT NOT NULL,
	round BIGINT NOT NULL, -- the last
	PRIMARY KEY (task, device)
) WITHOUT ROWID;
-- How many devices an attempt charged, and what each.
ALTER TABLE rounds ADD COLUMN charged_devices BIGINT NOT NULL DEFAULT 0;
ALTER TABLE rounds ADD COLUMN charge BIGINT NOT NULL DEFAULT 0;
`}, {sql: `
-- The noise that a coordinator takes back in later rounds: secret.
CREATE TABLE noise_chunks (
	task TEXT NOT NULL REFERENCES tasks(name) ON DELETE CASCADE,
	seq BIGINT NOT NULL,
	data BLOB NOT NULL,
	PRIMARY KEY (task, seq)
) WITHOUT ROWID;
`}, {sql: `
-- The clip of a task's next round, and that of an attempt, where the task's moves.
ALTER TABLE tasks ADD COLUMN clip DOUBLE PRECISION NOT NULL DEFAULT 0;
ALTER TABLE rounds ADD COLUMN clip DOUBLE PRECISION NOT NULL DEFAULT 0;
`}, {sql: `
-- Noise that is taken back is in memory, and here over a stop only: since when, 0 for not.
DELETE FROM noise_chunks;
ALTER TABLE tasks ADD COLUMN noise_kept_ms BIGINT NOT NULL DEFAULT 0;
`}, {sql: `
-- The length of a checkpoint's pieces, but for the last; those of before are as they were.
ALTER TABLE checkpoints ADD COLUMN piece BIGINT NOT NULL DEFAULT 1048576;
`}, {sql: `
-- Rolls of a CA that is kept elsewhere.
CREATE TABLE rolls (
	signature BLOB PRIMARY KEY,
	public_keys BLOB NOT NULL -- of its devices, 32 bytes each, ascending by id
) WITHOUT ROWID;
`}}

// migrate applies the steps that a database has not seen, each in a transaction.
func migrate(db *sql.DB, now time.Time) error {
	if _, err := db.Exec(`CREATE TABLE IF NOT EXISTS migrations (version BIGINT PRIMARY KEY, applied_ms BIGINT NOT NULL)`); err != nil {
		return err
	}
	var version int
	if err := db.QueryRow(`SELECT COALESCE(MAX(version), 0) FROM migrations`).Scan(&version); err != nil {
		return err
	}
	if version > len(migrations) {
		return fmt.Errorf("the database has schema %d, this build knows %d; use the newer discreet that wrote it", version, len(migrations))
	}
	for ; version < len(migrations); version++ {
		tx, err := db.Begin()
		if err != nil {
			return err
		}
		step := migrations[version]
		_, err = tx.Exec(step.sql)
		if err == nil && step.then != nil {
			err = step.then(tx)
		}
		if err == nil {
			_, err = tx.Exec(`INSERT INTO migrations (version, applied_ms) VALUES ($1, $2)`, version+1, now.UnixMilli())
		}
		if err != nil {
			return errors.Join(fmt.Errorf("step %d of the schema: %w", version+1, err), ignoreDone(tx.Rollback()))
		}
		if err := tx.Commit(); err != nil {
			return fmt.Errorf("step %d of the schema: %w", version+1, err)
		}
	}
	return nil
}
