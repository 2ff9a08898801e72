package coordinator

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/discreet-fl/discreet/coordinator/store"
	"github.com/discreet-fl/discreet/model"
	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/secagg"
)

// storePause is how long a task waits after its store failed, as on a full disk.
const storePause = 10 * time.Second

// errStopping answers calls that are held when the coordinator stops.
var errStopping = status.Error(codes.Unavailable, "the coordinator is stopping; call again")

// task is a task and the rounds it goes through. Its fields belong to the goroutine
// that runs [task.run], to which everything else posts events; only name, spec,
// created, mail, crowded and view are for others.
type task struct {
	*Coordinator
	name    string
	spec    *pb.TaskSpec
	created time.Time
	mail    *mailbox
	crowded atomic.Bool // another task waits for memory that this one's vectors take
	view    atomic.Pointer[view]

	log       *slog.Logger
	current   checkpoint
	spent     bool   // devices have revealed for the current checkpoint: it must not be used again
	done      uint64 // rounds committed
	round     uint64 // the next attempt's
	attempt   uint32
	notBefore time.Time // when the next attempt may start
	began     time.Time // when the latest round's first attempt started
	able      time.Time // since when one might start, had enough devices come; zero while none may
	rests     time.Time // until when devices that choose no task are sent to others, as too few came for this one
	unfilled  int       // how often too few came since the latest attempt
	gathering gathering
	kept      map[secagg.ID]*conduct // of devices that broke the protocol
	accounts  accounts               // of what devices have given away, where sums have noise in them
	open      []*attempt             // as they began; one at most, but where the task has a buffer
	buffer    []*attempt             // those of them whose sums wait for a checkpoint, as they came
	flushing  bool                   // a checkpoint is being made from the buffer
	noted     bool                   // the store knows that devices reveal for the current checkpoint
	last      *attempt               // the latest one that was aborted
	finished  chan outcome           // takes those of all attempts that are finishing

	queued       []*pb.ChangeIntentsRequest // changes of intents that wait
	intentsAfter time.Time                  // when they may be tried again
}

// checkpoint is a task's model as it stands.
type checkpoint struct {
	*model.Checkpoint
	sum      [32]byte
	size     uint64
	state    []float32 // the strategy's
	noise    []byte    // what goes on of noise that the coordinator adds; empty where it adds none
	clip     float32   // of the next round, where the task's moves; 0 is that of the first
	standing Standing
}

// view is what others may know of a task, as of its latest event.
type view struct {
	done     uint64
	sum      [32]byte
	size     uint64
	state    string
	waiting  int
	began    time.Time
	ready    time.Time // when its next attempt may start
	rests    time.Time // until when devices are rather sent elsewhere
	roomy    bool      // an attempt may start beside those that run
	over     bool      // all its rounds are done
	best     *pb.BestCheckpoint
	buffered int // sums in its buffer

	aggregation *pb.SecureAggregation // what it asks of its devices
	version     uint64                // of its list of intents
	intents     int                   // how many there are
	layout      model.Layout          // of its model
	clip        float32               // of its next round, where its clip moves
	devices     int                   // that may have given something away, where sums have noise in them
	worst       store.Account         // what one of them may have, at the most
}

// loadTask reads a task and its current checkpoint from the store.
func (c *Coordinator) loadTask(ctx context.Context, row store.Task) (*task, error) {
	spec := new(pb.TaskSpec)
	if err := proto.Unmarshal(row.Spec, spec); err != nil {
		return nil, fmt.Errorf("coordinator: the stored task %s: %w; restore a back-up", row.Name, err)
	}
	raw, err := c.store.Checkpoint(ctx, row.Checkpoint)
	if err != nil {
		return nil, err
	}
	current, err := model.DecodeCheckpoint(raw)
	if err != nil {
		return nil, fmt.Errorf("coordinator: the current checkpoint of task %s: %w", row.Name, err)
	}
	state, err := c.store.StrategyState(ctx, row.Name, StateLength(spec, len(current.Params)))
	if err != nil {
		return nil, err
	}
	noise, err := c.store.TakeNoise(ctx, row.Name, time.Now())
	if err != nil {
		return nil, err
	}
	attempts, err := c.store.Attempts(ctx, row.Name, shownAttempts)
	if err != nil {
		return nil, err
	}
	standing, err := c.loadStanding(ctx, row)
	if err != nil {
		return nil, err
	}
	t := &task{
		Coordinator: c, name: row.Name, spec: spec,
		created: row.Created, mail: newMailbox(),
		log:     c.log.With("task", row.Name),
		current: checkpoint{current, row.Checkpoint, row.CheckpointBytes, state, noise, row.Clip, standing}, spent: row.Revealing,
		done: row.RoundsDone, round: row.Round + 1, attempt: 1,
		gathering: newGathering(spec), kept: make(map[secagg.ID]*conduct), finished: make(chan outcome, mostOpen),
	}
	t.resumed(attempts, time.Now())
	// The attempt that a crash cut short may have been at its last step, and a device
	// that has revealed its shares joins no other attempt of that round.
	if row.Round > row.CheckpointRound {
		t.log.Info("round left", "round", row.Round, "attempt", row.Attempt, "reason", "it was not committed before the coordinator started again")
	}
	if spec.GetPrivacy().GetCentral() != nil && len(noise) == 0 && row.RoundsDone > 0 {
		t.log.Warn("noise begins anew", "round", row.Round+1, "reason", "the coordinator did not stop in good order in the last minutes, or was restored from a back-up; the promise holds, and checkpoints have more noise than they might have had")
	}
	if t.accounts, err = c.loadAccounts(ctx, row.Name); err != nil {
		return nil, err
	}
	if err := t.loadIntents(ctx); err != nil {
		return nil, err
	}
	t.publish()
	return t, nil
}

// resumed takes from the attempts before the start, oldest first, when the next may begin: as long after the latest
// round began as it would have been without the stop. An aborted attempt is tried again at once, and so is one that began
// later than it is now, by a clock that was set back.
func (t *task) resumed(attempts []store.Attempt, now time.Time) {
	over := false
	for _, a := range attempts {
		if a.IntentsVersion != 0 {
			continue
		}
		if a.Attempt == 1 || t.spec.GetBuffer() != nil {
			t.began = a.Started
		}
		over = a.Aborted == "" || t.spec.GetBuffer() != nil
	}
	every := milliseconds(t.spec.GetEveryMs())
	if wait := t.began.Add(every).Sub(now); over && wait > 0 && wait <= every {
		t.notBefore = now.Add(wait)
	}
}

// run owns the task until the context ends.
func (t *task) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		now := time.Now()
		t.advance(now)
		t.publish()
		if due := t.due(now); due.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(due.Sub(now))
		}
		select {
		case <-ctx.Done():
			t.stop()
			return
		case <-t.mail.wake:
			for _, e := range t.mail.take() {
				e(time.Now())
			}
		case o := <-t.finished:
			t.finish(time.Now(), o)
		case <-timer.C:
		}
	}
}

// stop answers everything that is held. A round that is being committed ends first.
func (t *task) stop() {
	for _, e := range t.mail.close() {
		e(time.Now())
	}
	for t.committing() {
		t.finish(time.Now(), <-t.finished)
	}
	for _, r := range t.open {
		r.failAll(errStopping)
		r.sums.giveUp()
		t.memory.give(r.dropUploads())
	}
	for _, w := range t.gathering.drain() {
		w.done <- nil
	}
	if len(t.current.noise) > 0 {
		if err := t.store.KeepNoise(context.Background(), t.name, t.current.sum, t.current.noise, time.Now()); err != nil {
			t.log.Error("noise cannot be kept, and will begin anew", "error", err)
		}
	}
}

// over tells whether all rounds that the task was created for are done, or it has
// stopped early.
func (t *task) over() bool {
	if c := t.spec.GetPrivacy().GetCentral(); c != nil && t.round > uint64(c.GetRounds()) {
		return true // rounds that a restart cut short have had their noise
	}
	return t.spec.GetRounds() > 0 && t.done >= t.spec.GetRounds() || t.current.standing.Exhausted(t.spec)
}

// advance does what time has made due.
func (t *task) advance(now time.Time) {
	for _, r := range slices.Clone(t.open) {
		t.apply(now, r, r.round.Tick(now))
		if r.aborted == "" {
			t.sendReplies(now, r)
		}
	}
	t.flush(now)
	if t.holds() && !now.Before(t.notBefore) {
		t.hold(now)
	}
	t.makeIntents(now)
	for t.roomy() && !t.spent && !t.over() && !now.Before(t.notBefore) {
		devices := t.gathering.form(now, func(c *checkIn) bool { return t.welcome(now, c) })
		if devices == nil {
			break
		}
		t.start(now, devices)
	}
	pause := comeBack
	if t.roomy() {
		pause = max(pause, t.notBefore.Sub(now))
	}
	state := t.state() // before its own check-in is taken out
	short := t.gathering.enough.IsZero()
	expired := t.gathering.expire(now)
	for _, w := range expired {
		w.done <- later(pause, state)
	}
	t.passOver(now, short, expired)
}

// passOver notes where a check-in expired though a round might have started all the while, had more devices come.
func (t *task) passOver(now time.Time, short bool, expired []*checkIn) {
	switch able := t.roomy() && !t.spent && !t.over() && !now.Before(t.notBefore); {
	case !able:
		t.able = time.Time{}
	case t.able.IsZero():
		t.able = now
	case short && !now.Before(t.rests) && slices.ContainsFunc(expired, func(c *checkIn) bool { return !c.since.Before(t.able) }):
		t.rests = now.Add(restAfter(t.unfilled))
		t.unfilled++
	}
}

// restAfter is how long a task is passed over for which too few devices came so often before.
func restAfter(unfilled int) time.Duration { return holdTime << min(unfilled, doubledRests) }

// holds tells whether a held checkpoint is to take the place of the current one, as soon
// as the next attempt might start.
func (t *task) holds() bool {
	return t.spent && !t.flushing && (len(t.open) == 0 || t.spec.GetBuffer() != nil)
}

// due returns when advance has something to do, zero for never.
func (t *task) due(now time.Time) time.Time {
	forms, next := t.gathering.due()
	earlier := func(at time.Time) {
		if !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	if len(t.queued) > 0 && len(t.open) == 0 && !t.spent {
		earlier(t.intentsAfter)
	}
	for _, r := range t.open {
		earlier(r.round.Deadline())
		earlier(r.outbox.due())
	}
	earlier(t.flushAt())
	if t.holds() {
		earlier(t.notBefore)
	}
	switch {
	case !t.roomy():
	case now.Before(t.notBefore):
		earlier(t.notBefore) // enough devices or not: the published state changes then
	default:
		earlier(forms)
	}
	return next
}

// state says what the task is doing, in words.
func (t *task) state() string {
	switch {
	case t.committing():
		return fmt.Sprintf("committing round %d", t.round)
	case len(t.open) > 0 && t.spec.GetBuffer() != nil:
		return fmt.Sprintf("round %d: %d cohorts at work, %d of %d sums in the buffer, %v devices waiting", t.round, t.working(), len(t.buffer), t.spec.GetBuffer().GetCohorts(), &t.gathering)
	case len(t.open) > 0:
		step, answered, expected := t.open[0].round.Progress()
		return fmt.Sprintf("round %d attempt %d: %v (%d of %d)", t.round, t.attempt, step, answered, expected)
	case t.current.standing.Exhausted(t.spec):
		return fmt.Sprintf("stopped early: no better accuracy in %d rounds", t.current.standing.best.Since)
	case t.over():
		return fmt.Sprintf("all %d rounds are done", t.done)
	case time.Now().Before(t.notBefore):
		return fmt.Sprintf("round %d starts at %s", t.round, t.notBefore.UTC().Format(time.RFC3339))
	}
	return fmt.Sprintf("waiting for devices (%v)", &t.gathering)
}

func (t *task) publish() {
	t.view.Store(&view{
		done: t.done, sum: t.current.sum, size: t.current.size, state: t.state(),
		waiting: len(t.gathering.waiting), began: t.began, ready: t.notBefore, rests: t.rests, roomy: t.roomy(), over: t.over(), best: t.current.standing.message(), buffered: len(t.buffer),
		aggregation: aggregationOf(t.spec, t.current.Manifest.Layout),
		version:     t.current.Manifest.IntentsVersion, intents: len(t.current.Manifest.Labels),
		layout: t.current.Manifest.Layout, clip: t.current.clip, devices: len(t.accounts.of), worst: t.accounts.worst,
	})
}

// short is how a device appears in logs.
func short(id secagg.ID) string { return id.String()[:8] }

// moved is the event of a device that got its first connection or lost its last.
// Two such events may overtake each other: what counts is how it is now.
func (t *task) moved(now time.Time, id secagg.ID) {
	if !t.presence.connected(id) {
		t.gone(now, id)
		return
	}
	for _, r := range slices.Clone(t.open) {
		if u := r.uploads[id]; u != nil {
			u.latest = now // it may go on
		}
		t.apply(now, r, r.round.Back(now, id))
	}
}

// gone says that a member of an attempt is to be waited for no longer than the grace.
func (t *task) gone(now time.Time, id secagg.ID) {
	for _, r := range slices.Clone(t.open) {
		r.outbox.forget(id)
		t.apply(now, r, r.round.Gone(now, id))
	}
}
