package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/discreet-fl/discreet/secagg"
)

var start = time.UnixMilli(1_700_000_000_000)

func open(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// checkpoint is file content that spans three pieces.
func checkpoint(n byte) []byte {
	return append(bytes.Repeat([]byte{n, 2, 3, 4, 5}, (2*ChunkSize)/5), "the end"+string(rune(n))...)
}

// withTask returns a store with the task "desk" at its first checkpoint, round 1
// attempt 1 begun.
func withTask(t *testing.T, dir string) *Store {
	t.Helper()
	s := open(t, dir)
	if err := s.CreateTask(t.Context(), "desk", []byte("spec"), checkpoint(0), start); err != nil {
		t.Fatal(err)
	}
	if err := s.Begin(t.Context(), "desk", 1, 1); err != nil {
		t.Fatal(err)
	}
	return s
}

// reveals notes that an attempt of the task "desk" reveals for its current checkpoint.
func reveals(t *testing.T, s *Store, round uint64, attempt uint32) {
	t.Helper()
	task, err := s.Task(t.Context(), "desk")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Revealing(t.Context(), "desk", round, attempt, task.Checkpoint); err != nil {
		t.Fatal(err)
	}
}

func commitOf(round uint64, attempt uint32, previous []byte, next []byte) Commit {
	return Commit{
		Task: "desk",
		Attempt: Attempt{Round: round, Attempt: attempt, Cohort: 5, Roster: 4, Survivors: 3, Cohorts: 2, CohortsLost: 1,
			Started: start.Add(time.Second), Ended: start.Add(2 * time.Second)},
		Previous: sha256.Sum256(previous), Checkpoint: next,
		State: []float32{1.5, -2, float32(math.SmallestNonzeroFloat32)}, Survivors: []secagg.ID{{1}, {2}},
	}
}

// TestDamagedDatabaseIsTold opens files of which a part, or everything, is missing.
func TestDamagedDatabaseIsTold(t *testing.T) {
	dir := t.TempDir()
	if err := withTask(t, dir).Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, databaseFile)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"cut off": whole[:5000], "something else": bytes.Repeat([]byte("x"), 5000)} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if s, err := Open(dir); err == nil || !strings.Contains(err.Error(), "restore a back-up") {
			t.Errorf("%s: %v, %v, want an error that says what to do", name, s, err)
		}
	}
}

func TestCommitSurvivesReopening(t *testing.T) {
	dir := t.TempDir()
	s := withTask(t, dir)
	for i := range 3 {
		if err := s.CreateToken(t.Context(), []byte{byte(i)}, 1, start.Add(time.Hour), start); err != nil {
			t.Fatal(err)
		}
		if err := s.Enrol(t.Context(), []byte{byte(i)}, secagg.ID{byte(i + 1)}, []byte("key"), start); err != nil {
			t.Fatal(err)
		}
	}
	reveals(t, s, 1, 1)
	if _, err := s.Commit(t.Context(), commitOf(1, 1, checkpoint(0), checkpoint(1))); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	task, err := s.Task(t.Context(), "desk")
	if err != nil {
		t.Fatal(err)
	}
	want := Task{Name: "desk", Spec: []byte("spec"), Created: start, RoundsDone: 1, Round: 1, Attempt: 1,
		Checkpoint: sha256.Sum256(checkpoint(1)), CheckpointBytes: uint64(len(checkpoint(1))), CheckpointRound: 1}
	if fmt.Sprint(task) != fmt.Sprint(want) {
		t.Errorf("task %+v, want %+v", task, want)
	}
	if raw, err := s.Checkpoint(t.Context(), task.Checkpoint); err != nil || !bytes.Equal(raw, checkpoint(1)) {
		t.Errorf("checkpoint of %d bytes, %v", len(raw), err)
	}
	if v, err := s.StrategyState(t.Context(), "desk", 3); err != nil || !slices.Equal(v, []float32{1.5, -2, math.SmallestNonzeroFloat32}) {
		t.Errorf("state %v, %v", v, err)
	}
	if _, err := s.StrategyState(t.Context(), "desk", 4); err == nil {
		t.Error("a state of another length was read")
	}
	devices, err := s.Devices(t.Context(), nil, 10)
	if err != nil || len(devices) != 3 {
		t.Fatalf("%d devices, %v", len(devices), err)
	}
	for i, d := range devices {
		counted := i < 2
		if (d.Rounds == 1) != counted || d.Seen.IsZero() == counted {
			t.Errorf("device %s: %d rounds, seen %v", d.ID, d.Rounds, d.Seen)
		}
	}
	attempts, err := s.Attempts(t.Context(), "desk", 50)
	if err != nil || len(attempts) != 1 || attempts[0].Checkpoint != task.Checkpoint || attempts[0].Roster != 4 ||
		attempts[0].Cohorts != 2 || attempts[0].CohortsLost != 1 {
		t.Errorf("attempts %+v, %v", attempts, err)
	}
	if sum, size, err := s.Committed(t.Context(), "desk", 1, 1); err != nil || sum != task.Checkpoint || size != task.CheckpointBytes {
		t.Errorf("committed %x of %d bytes, %v", sum, size, err)
	}
	if _, _, err := s.Committed(t.Context(), "desk", math.MaxUint64, 1); !errors.Is(err, ErrNotFound) {
		t.Errorf("an attempt that never was: %v", err)
	}
}

// TestNoiseIsTakenOnce keeps noise over a stop, for one start soon after, of the checkpoint
// that it belongs to.
func TestNoiseIsTakenOnce(t *testing.T) {
	s := withTask(t, t.TempDir())
	current := sha256.Sum256(checkpoint(0))
	noise := bytes.Repeat([]byte("noise"), ChunkSize/2) // of three pieces
	for _, tc := range []struct {
		what string
		of   [32]byte
		age  time.Duration
		want []byte
	}{
		{"at once", current, 0, noise},
		{"in time", current, noiseLasts, noise},
		{"too late", current, noiseLasts + time.Second, nil},
		{"before it was kept", current, -time.Second, nil},
		{"of another checkpoint", [32]byte{1}, 0, nil},
	} {
		if err := s.KeepNoise(t.Context(), "desk", tc.of, noise, start); err != nil {
			t.Fatal(err)
		}
		for i, want := range [][]byte{tc.want, nil} {
			if got, err := s.TakeNoise(t.Context(), "desk", start.Add(tc.age)); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s, take %d: %d bytes, %v; want %d", tc.what, i+1, len(got), err, len(want))
			}
		}
	}
}

func TestCommitIsFenced(t *testing.T) {
	s := withTask(t, t.TempDir())
	if _, err := s.Commit(t.Context(), commitOf(1, 1, checkpoint(0), checkpoint(1))); !errors.Is(err, ErrStale) {
		t.Errorf("an attempt of which nobody knows that it revealed: %v, want ErrStale", err)
	}
	reveals(t, s, 1, 1)
	for name, c := range map[string]Commit{
		"another attempt":       commitOf(1, 2, checkpoint(0), checkpoint(1)),
		"another round":         commitOf(2, 1, checkpoint(0), checkpoint(1)),
		"another checkpoint":    commitOf(1, 1, checkpoint(3), checkpoint(1)),
		"held in its own place": held(1, 1, checkpoint(0), checkpoint(1)),
	} {
		if _, err := s.Commit(t.Context(), c); !errors.Is(err, ErrStale) {
			t.Errorf("%s: %v, want ErrStale", name, err)
		}
	}
	task, err := s.Task(t.Context(), "desk")
	if err != nil || task.RoundsDone != 0 || task.Checkpoint != sha256.Sum256(checkpoint(0)) {
		t.Errorf("after refused commits: %+v, %v", task, err)
	}
	if list, err := s.Checkpoints(t.Context(), "desk"); err != nil || len(list) != 1 {
		t.Errorf("after refused commits: %d checkpoints, %v", len(list), err)
	}
	logged(t, s, "desk", 1)
}

func TestAttemptsNeverRepeat(t *testing.T) {
	s := withTask(t, t.TempDir())
	for _, tc := range []struct {
		round   uint64
		attempt uint32
		stale   bool
	}{{1, 1, true}, {1, 2, false}, {1, 1, true}, {2, 1, false}, {1, 3, true}, {2, 1, true}} {
		if err := s.Begin(t.Context(), "desk", tc.round, tc.attempt); errors.Is(err, ErrStale) != tc.stale {
			t.Errorf("round %d attempt %d: %v, stale should be %v", tc.round, tc.attempt, err, tc.stale)
		}
	}
}

func TestFullDiskLosesNothing(t *testing.T) {
	s := withTask(t, t.TempDir())
	var pages int
	if err := s.writer.QueryRow(`PRAGMA page_count`).Scan(&pages); err != nil {
		t.Fatal(err)
	}
	limit := func(n int) {
		if _, err := s.writer.Exec(fmt.Sprintf(`PRAGMA max_page_count = %d`, n)); err != nil {
			t.Fatal(err)
		}
	}
	reveals(t, s, 1, 1)
	limit(pages + 10)
	if _, err := s.Commit(t.Context(), commitOf(1, 1, checkpoint(0), checkpoint(1))); err == nil || !strings.Contains(err.Error(), "full") {
		t.Fatalf("commit on a full disk: %v", err)
	}
	task, err := s.Task(t.Context(), "desk")
	if err != nil || task.Checkpoint != sha256.Sum256(checkpoint(0)) || task.RoundsDone != 0 {
		t.Errorf("after the failed commit: %+v, %v", task, err)
	}
	if raw, err := s.Checkpoint(t.Context(), task.Checkpoint); err != nil || !bytes.Equal(raw, checkpoint(0)) {
		t.Errorf("the old checkpoint: %d bytes, %v", len(raw), err)
	}
	logged(t, s, "desk", 1)
	limit(1 << 30)
	if _, err := s.Commit(t.Context(), commitOf(1, 1, checkpoint(0), checkpoint(1))); err != nil {
		t.Errorf("with room again: %v", err)
	}
	logged(t, s, "desk", 2)
}

func TestOldCheckpointsAndAttemptsGo(t *testing.T) {
	s := withTask(t, t.TempDir())
	previous, rounds := checkpoint(0), uint64(KeptCheckpoints+3)
	for r := uint64(1); r <= rounds; r++ {
		if r > 1 {
			if err := s.Begin(t.Context(), "desk", r, 1); err != nil {
				t.Fatal(err)
			}
		}
		reveals(t, s, r, 1)
		next := fmt.Appendf(nil, "checkpoint %d", r)
		if _, err := s.Commit(t.Context(), commitOf(r, 1, previous, next)); err != nil {
			t.Fatal(err)
		}
		previous = next
	}
	list, err := s.Checkpoints(t.Context(), "desk")
	if err != nil || len(list) != KeptCheckpoints || list[0].Round != rounds || list[len(list)-1].Round != rounds-KeptCheckpoints+1 {
		t.Fatalf("%d checkpoints, %v", len(list), err)
	}
	var chunks int
	if err := s.reader.QueryRow(`SELECT COUNT(*) FROM checkpoint_chunks`).Scan(&chunks); err != nil || chunks != KeptCheckpoints {
		t.Errorf("%d pieces are left, %v; want %d", chunks, err, KeptCheckpoints)
	}
	if _, size, err := s.Committed(t.Context(), "desk", 1, 1); err != nil || size != 0 {
		t.Errorf("a round whose checkpoint is gone: size %d, %v", size, err)
	}
	if _, err := s.writer.Exec(`UPDATE rounds SET seq = seq + $1 WHERE round = $2`, keptAttempts, rounds); err != nil {
		t.Fatal(err)
	}
	if err := s.Abort(t.Context(), "desk", Attempt{Round: rounds + 1, Attempt: 1, Aborted: "too few"}); err != nil {
		t.Fatal(err)
	}
	attempts, err := s.Attempts(t.Context(), "desk", 100)
	if err != nil || len(attempts) != 2 || attempts[0].Aborted != "too few" {
		t.Errorf("%d attempts are left, %v; want the two newest", len(attempts), err)
	}
}

// TestBestCheckpointStays holds that pruning spares the best checkpoint for as long as
// it is the best.
func TestBestCheckpointStays(t *testing.T) {
	s := withTask(t, t.TempDir())
	previous := checkpoint(0)
	best := &Best{SHA256: sha256.Sum256(previous), Accuracy: 0.875, Since: 3}
	commit := func(r uint64) {
		t.Helper()
		if r > 1 {
			if err := s.Begin(t.Context(), "desk", r, 1); err != nil {
				t.Fatal(err)
			}
		}
		reveals(t, s, r, 1)
		c := commitOf(r, 1, previous, fmt.Appendf(nil, "checkpoint %d", r))
		c.Best, c.Attempt.Evaluation = best, []byte{byte(r)}
		if _, err := s.Commit(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		previous = c.Checkpoint
	}
	rounds := uint64(KeptCheckpoints + 3)
	for r := uint64(1); r <= rounds; r++ {
		commit(r)
	}
	list, err := s.Checkpoints(t.Context(), "desk")
	if err != nil || len(list) != KeptCheckpoints+1 || list[KeptCheckpoints].Round != 0 || list[KeptCheckpoints].SHA256 != best.SHA256 {
		t.Fatalf("%d checkpoints, %v; want the newest and the best", len(list), err)
	}
	task, err := s.Task(t.Context(), "desk")
	if err != nil || task.Best == nil || *task.Best != *best {
		t.Errorf("the best is read as %+v, %v", task.Best, err)
	}
	attempts, err := s.Attempts(t.Context(), "desk", 1)
	if err != nil || !bytes.Equal(attempts[0].Evaluation, []byte{byte(rounds)}) {
		t.Errorf("the attempt is read as %+v, %v", attempts, err)
	}
	best = &Best{SHA256: sha256.Sum256(previous)}
	commit(rounds + 1)
	if list, err = s.Checkpoints(t.Context(), "desk"); err != nil || len(list) != KeptCheckpoints {
		t.Errorf("%d checkpoints when another is the best, %v; want %d", len(list), err, KeptCheckpoints)
	}
}

func TestChunksCoverACheckpoint(t *testing.T) {
	s := withTask(t, t.TempDir())
	want := checkpoint(0)
	sum := sha256.Sum256(want)
	for _, offset := range []int{0, 1, ChunkSize - 1, ChunkSize, ChunkSize + 7, 2 * ChunkSize, len(want) - 1} {
		data, total, err := s.Chunk(t.Context(), sum[:], uint64(offset))
		end := min((offset/ChunkSize+1)*ChunkSize, len(want))
		if err != nil || total != uint64(len(want)) || !bytes.Equal(data, want[offset:end]) {
			t.Errorf("offset %d: %d bytes of %d, %v; want %d", offset, len(data), total, err, end-offset)
		}
	}
	for _, offset := range []uint64{uint64(len(want)), math.MaxUint64} {
		if data, _, err := s.Chunk(t.Context(), sum[:], offset); err != nil || len(data) != 0 {
			t.Errorf("offset %d behind the end: %d bytes, %v", offset, len(data), err)
		}
	}
	if _, _, err := s.Chunk(t.Context(), []byte("unknown"), 0); !errors.Is(err, ErrNotFound) {
		t.Errorf("unknown hash: %v", err)
	}
}

// fetch reads a checkpoint by chunks, as devices do, and compares it.
func fetch(t testing.TB, s *Store, want []byte) {
	t.Helper()
	sum := sha256.Sum256(want)
	for offset := 0; offset < len(want); {
		data, total, err := s.Chunk(t.Context(), sum[:], uint64(offset))
		if err != nil || total != uint64(len(want)) || len(data) == 0 || len(data) > ChunkSize || !bytes.HasPrefix(want[offset:], data) {
			t.Fatalf("%d bytes of %d at offset %d, %v; want 1 to %d of %d", len(data), total, offset, err, ChunkSize, len(want))
		}
		offset += len(data)
	}
}

// addLarger adds a checkpoint as one from before 0.3.0 is, in pieces of a mebibyte.
func addLarger(t testing.TB, s *Store, raw []byte) {
	t.Helper()
	sum := sha256.Sum256(raw)
	if _, err := s.writer.Exec(`INSERT INTO checkpoints (sha256, task, round, bytes, committed_ms) VALUES ($1, 'desk', 9, $2, 0)`, sum[:], len(raw)); err != nil {
		t.Fatal(err)
	}
	for seq, piece := range slices.Collect(slices.Chunk(raw, 1<<20)) {
		if _, err := s.writer.Exec(`INSERT INTO checkpoint_chunks (sha256, seq, data) VALUES ($1, $2, $3)`, sum[:], seq, piece); err != nil {
			t.Fatal(err)
		}
	}
}

// TestChunksAreReadAlone holds that no more of a checkpoint is read than is handed out, by
// what is allocated for it: the driver's copy of a piece, and the caller's.
func TestChunksAreReadAlone(t *testing.T) {
	s := withTask(t, t.TempDir())
	raw := bytes.Repeat([]byte("0123456789abcdef"), 1<<18) // 4 MiB
	if err := s.CreateTask(t.Context(), "shop", []byte("spec"), raw, start); err != nil {
		t.Fatal(err)
	}
	allocated := func() uint64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.TotalAlloc
	}
	before := allocated()
	fetch(t, s, raw)
	if got, most := allocated()-before, uint64(2*len(raw)+len(raw)/4); got > most {
		t.Errorf("%d bytes were allocated to read a checkpoint of %d, want %d at most", got, len(raw), most)
	}
}

func TestLargerPiecesAreRead(t *testing.T) {
	s := withTask(t, t.TempDir())
	raw := bytes.Repeat([]byte("0123456789abcde"), 1<<17) // not quite 2 MiB
	addLarger(t, s, raw)
	fetch(t, s, raw)
	sum := sha256.Sum256(raw)
	if data, _, err := s.Chunk(t.Context(), sum[:], 1<<20-7); err != nil || !bytes.Equal(data, raw[1<<20-7:1<<20]) {
		t.Errorf("at the end of a piece: %d bytes, %v", len(data), err)
	}
	if whole, err := s.Checkpoint(t.Context(), sum); err != nil || !bytes.Equal(whole, raw) {
		t.Errorf("%d bytes, %v", len(whole), err)
	}
}

func BenchmarkChunk(b *testing.B) {
	s := open(b, b.TempDir())
	raw := bytes.Repeat([]byte("0123456789abcdef"), 1<<18)
	if err := s.CreateTask(b.Context(), "desk", []byte("spec"), raw, start); err != nil {
		b.Fatal(err)
	}
	larger := append([]byte("larger"), raw...)
	addLarger(b, s, larger)
	for name, raw := range map[string][]byte{"pieces": raw, "larger": larger} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(raw)))
			b.ReportAllocs()
			for b.Loop() {
				fetch(b, s, raw)
			}
		})
	}
}

func TestDamagedCheckpointIsSeen(t *testing.T) {
	s := withTask(t, t.TempDir())
	if _, err := s.writer.Exec(`UPDATE checkpoint_chunks SET data = zeroblob(10) WHERE seq = 1`); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Checkpoint(t.Context(), sha256.Sum256(checkpoint(0))); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("error %v, want one that says damaged", err)
	}
	sum := sha256.Sum256(checkpoint(0))
	if _, _, err := s.Chunk(t.Context(), sum[:], ChunkSize+20); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("error %v, want one that says damaged", err)
	}
}

func TestTokens(t *testing.T) {
	s := open(t, t.TempDir())
	const hour = time.Hour
	if err := s.CreateToken(t.Context(), []byte("two"), 2, start.Add(hour), start); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name   string
		secret string
		device byte
		after  time.Duration
		want   error
	}{
		{"unknown secret", "three", 1, 0, ErrToken},
		{"first use", "two", 1, 0, nil},
		{"repeat of the first", "two", 1, 0, nil},
		{"expired", "two", 2, hour, ErrToken},
		{"repeat after the expiry", "two", 1, 2 * hour, nil},
		{"second use", "two", 2, 0, nil},
		{"used up", "two", 3, 0, ErrToken},
		{"repeat when used up", "two", 2, 0, nil},
	} {
		err := s.Enrol(t.Context(), []byte(tc.secret), secagg.ID{tc.device}, []byte("key"), start.Add(tc.after))
		if !errors.Is(err, tc.want) || (err == nil) != (tc.want == nil) {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		}
	}
	if n, err := s.CountDevices(t.Context()); err != nil || n != 2 {
		t.Errorf("%d devices, %v; want 2", n, err)
	}
	// A device that enrols again with another token stays one device.
	if err := s.CreateToken(t.Context(), []byte("more"), 1, start.Add(1000*hour), start.Add(40*24*hour)); err != nil {
		t.Fatal(err)
	}
	if err := s.Enrol(t.Context(), []byte("more"), secagg.ID{1}, []byte("key"), start); err != nil {
		t.Fatal(err)
	}
	if err := s.Enrol(t.Context(), []byte("more"), secagg.ID{9}, []byte("key"), start); !errors.Is(err, ErrToken) {
		t.Errorf("the place is used up: %v", err)
	}
	if err := s.Enrol(t.Context(), []byte("two"), secagg.ID{1}, []byte("key"), start); !errors.Is(err, ErrToken) {
		t.Errorf("a token that ended 40 days ago is still known: %v", err)
	}
}

func TestDevicesArePaged(t *testing.T) {
	s := open(t, t.TempDir())
	if err := s.CreateToken(t.Context(), []byte("t"), 10, start.Add(time.Hour), start); err != nil {
		t.Fatal(err)
	}
	for i := range 7 {
		if err := s.Enrol(t.Context(), []byte("t"), secagg.ID{byte(7 - i)}, []byte("key"), start); err != nil {
			t.Fatal(err)
		}
	}
	var seen []byte
	for after := []byte(nil); ; {
		page, err := s.Devices(t.Context(), after, 3)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range page {
			seen = append(seen, d.ID[0])
			after = d.ID[:]
		}
		if len(page) < 3 {
			break
		}
	}
	if !bytes.Equal(seen, []byte{1, 2, 3, 4, 5, 6, 7}) {
		t.Errorf("paging saw %v", seen)
	}
}

func TestFolderHasOneCoordinator(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	if _, err := Open(dir); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), "another discreet serve runs on this folder") {
		t.Errorf("second coordinator: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, dir)
}

func TestNewerSchemaIsRefused(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	if _, err := s.writer.Exec(`INSERT INTO migrations (version, applied_ms) VALUES (99, 0)`); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "schema 99") {
		t.Errorf("error %v, want one that names schema 99", err)
	}
}

func TestSettings(t *testing.T) {
	s := open(t, t.TempDir()+"/with space?&#")
	for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "secure_delete": "1", "busy_timeout": "5000"} {
		var got string
		if err := s.writer.QueryRow(`PRAGMA ` + pragma).Scan(&got); err != nil || got != want {
			t.Errorf("%s is %s, %v; want %s", pragma, got, err, want)
		}
	}
	if _, err := s.reader.Exec(`DELETE FROM tasks`); err == nil {
		t.Error("a reader wrote")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.CreateToken(ctx, []byte("x"), 1, start, start); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled write: %v", err)
	}
}

func TestCreateTaskTwice(t *testing.T) {
	s := withTask(t, t.TempDir())
	if err := s.CreateTask(t.Context(), "desk", []byte("other"), checkpoint(5), start); !errors.Is(err, ErrExists) {
		t.Errorf("error %v, want ErrExists", err)
	}
	if _, err := s.Task(t.Context(), "nobody"); !errors.Is(err, ErrNotFound) {
		t.Errorf("error %v, want ErrNotFound", err)
	}
	if all, err := s.Tasks(t.Context()); err != nil || len(all) != 1 || string(all[0].Spec) != "spec" {
		t.Errorf("tasks %+v, %v", all, err)
	}
}
