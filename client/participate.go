package client

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/discreet-fl/discreet/model"
	"github.com/discreet-fl/discreet/model/train"
	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/secagg"
)

const (
	callTime    = 30 * time.Second // for a call that is answered at once
	checkInTime = 10 * time.Minute // for a check-in that is held; then it is made again

	mostLater  = time.Hour // longest pause that a coordinator may ask for
	leastLater = 100 * time.Millisecond
	notFar     = 10 * time.Second // a task that wants this device later than that leaves it to another
)

// Participate takes part in one round: it adopts the task's current checkpoint,
// waits for a place in a cohort as long as ctx allows, and walks through one
// attempt. It does not retry a failed one; [Client.Run] does.
//
// Errors, besides the connection's: [ErrNotEnrolled], [ErrDeclined], [ErrBusy],
// [ErrPlanRefused], [ErrSpent], [ErrBroken] and [ErrAttemptEnded]. The last error stands in Status.
func (c *Client) Participate(ctx context.Context) (*Result, error) {
	ctx, leave, err := c.enter(ctx)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	defer leave()
	if !c.taking.TryLock() {
		return nil, fmt.Errorf("client: %w", ErrBusy)
	}
	defer c.taking.Unlock()
	result, err := c.participate(ctx)
	if ctx.Err() != nil && err != nil {
		return nil, fmt.Errorf("client: %w", context.Cause(ctx))
	}
	c.note(err)
	return result, err
}

func (c *Client) participate(ctx context.Context) (*Result, error) {
	l, err := c.connection()
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	tasks, err := c.update(ctx, l)
	if err != nil {
		return nil, err
	}
	ctx, stop, err := c.consenting(ctx)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	defer stop()
	if m := c.model.Load(); m != nil {
		if err := m.checkpoint.Manifest.CheckTokeniser(); err != nil {
			return nil, fmt.Errorf("client: %w: %w", ErrPlanRefused, err)
		}
	}
	place, tasks, err := c.checkIn(ctx, l, tasks)
	if err != nil {
		return nil, declined(ctx, err)
	}
	result, err := c.takePart(ctx, l, place, tasks)
	if err != nil {
		if !errors.Is(err, ErrAttemptEnded) {
			// This device leaves a place in a cohort by its own decision. Without a
			// connection it is waited for no longer than the coordinator's grace.
			err = errors.Join(err, c.hangUp())
		}
		return nil, declined(ctx, err)
	}
	if err := c.takeUp(ctx, l, result.Task, result.Checkpoint, uint64(result.CheckpointBytes)); err != nil {
		c.log.Info("the round's checkpoint comes with the next check-in", "error", err)
		return result, nil
	}
	c.makePersonal(stateOf(tasks, result.Task))
	return result, nil
}

// takeUp adopts a task's checkpoint, if it is another, once it has been found in the
// task's log.
func (c *Client) takeUp(ctx context.Context, t Transport, task string, sum [32]byte, size uint64) error {
	if m := c.model.Load(); m != nil && m.sum == sum {
		return nil
	}
	if err := c.verifyCheckpoint(ctx, t, task, sum); err != nil {
		return err
	}
	_, err := c.adopt(ctx, t, task, sum, size)
	return err
}

// promises keeps, for Status, what the task in use promises.
func (c *Client) promises(state *pb.TaskState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.task = state
}

// declined puts ErrDeclined, or errForgotten, in the place of what switching participation
// off, or forgetting, caused.
func declined(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); errors.Is(cause, ErrDeclined) || errors.Is(cause, errForgotten) {
		return fmt.Errorf("client: %w", cause)
	}
	return err
}

// consenting returns a context that ends when participation is switched off.
func (c *Client) consenting(ctx context.Context) (context.Context, func(), error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	on, err := c.participation()
	if err != nil {
		return nil, nil, err
	}
	if !on {
		return nil, nil, ErrDeclined
	}
	ctx, cancel := context.WithCancelCause(ctx)
	c.leave = cancel
	return ctx, func() {
		c.mu.Lock()
		c.leave = nil
		c.mu.Unlock()
		cancel(nil)
	}, nil
}

// update adopts the task's current checkpoint and returns the tasks there are.
func (c *Client) update(ctx context.Context, t Transport) ([]*pb.TaskState, error) {
	ctx, cancel := context.WithTimeout(ctx, callTime+5*chunkTime)
	defer cancel()
	reply, err := c.tasks(ctx, t)
	if err != nil {
		return nil, fmt.Errorf("client: asking for tasks: %w", err)
	}
	state := c.choose(reply.GetTasks())
	c.promises(state)
	if state == nil {
		return reply.GetTasks(), nil // no task yet, or not this device's
	}
	if len(state.GetCheckpointSha256()) != 32 {
		return nil, fmt.Errorf("client: task %q: a checkpoint hash of %d bytes, want 32", state.GetTask(), len(state.GetCheckpointSha256()))
	}
	if err := c.takeUp(ctx, t, state.GetTask(), [32]byte(state.GetCheckpointSha256()), state.GetCheckpointBytes()); err != nil {
		return nil, fmt.Errorf("client: task %q: %w", state.GetTask(), err)
	}
	c.makePersonal(state)
	return reply.GetTasks(), nil
}

func (c *Client) tasks(ctx context.Context, t Transport) (*pb.TasksResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	reply, err := t.Tasks(ctx, &pb.TasksRequest{Version: pb.Current()})
	if err != nil {
		return nil, err
	}
	return reply, pb.Check(reply.GetVersion(), oldestMinor)
}

// choose returns the task whose checkpoint this device uses: the one it is told to
// take part in, else the one in use, else the first.
func (c *Client) choose(tasks []*pb.TaskState) *pb.TaskState {
	want := c.options.Task
	if m := c.model.Load(); want == "" && m != nil {
		want = m.checkpoint.Manifest.Task
	}
	if state := stateOf(tasks, want); state != nil {
		return state
	}
	if c.options.Task != "" || len(tasks) == 0 {
		return nil
	}
	return tasks[0]
}

// stateOf returns the task of that name, nil where it is not among them.
func stateOf(tasks []*pb.TaskState, name string) *pb.TaskState {
	for _, state := range tasks {
		if state.GetTask() == name {
			return state
		}
	}
	return nil
}

// eligible returns the names to check in with, one after another until a round of one is
// not far: one empty name where the coordinator may choose. A task that mayAsk refuses is
// not checked in to, so that the device takes nobody's place; where there is no other, the
// error says why.
func (c *Client) eligible(tasks []*pb.TaskState) ([]string, error) {
	var open []*pb.TaskState
	var refused error
	for _, state := range tasks {
		if c.options.Task != "" && state.GetTask() != c.options.Task {
			continue
		}
		if err := c.mayAsk(state); err == nil {
			open = append(open, state)
		} else if refused == nil {
			refused = fmt.Errorf("client: task %q: %w", state.GetTask(), err)
		}
	}
	switch {
	case refused == nil:
		return []string{c.options.Task}, nil
	case len(open) == 0:
		return nil, refused
	}
	names := []string{c.choose(open).GetTask()}
	for _, state := range open {
		if state.GetTask() != names[0] {
			names = append(names, state.GetTask())
		}
	}
	return names, nil
}

// mayAsk refuses a task that asks less of its rounds than this device does, or that it has
// nothing left to give to.
func (c *Client) mayAsk(state *pb.TaskState) error {
	if err := c.options.Bounds.check(state.GetSecureAggregation()); err != nil {
		return fmt.Errorf("%w: %w", ErrPlanRefused, err)
	}
	if err := c.options.Bounds.checkPrivacy(state.GetPrivacy()); err != nil {
		return fmt.Errorf("%w: %w", ErrPlanRefused, err)
	}
	l, err := c.readLedger(state.GetTask())
	if err != nil {
		return err
	}
	return l.mayGive(state.GetPrivacy())
}

// checkIn waits for a place in a cohort, and returns the tasks as they were listed before
// it got one. A device that is told to come back later,
// since others were chosen, takes up the checkpoint that they have made meanwhile.
func (c *Client) checkIn(ctx context.Context, t Transport, tasks []*pb.TaskState) (*Place, []*pb.TaskState, error) {
	wait := backoff{base: time.Second, limit: time.Minute} // for a coordinator that names no time
	for pass := 0; ; pass++ {
		place, pause, reason, err := c.checkInToEach(ctx, t, tasks, pass)
		if err != nil || place != nil {
			return place, tasks, err
		}
		if pause == 0 {
			pause = wait.next()
		}
		c.log.Info("told to come back later", "reason", reason, "after", pause)
		c.waits(fmt.Sprintf("until %s: %s", time.Now().Add(pause).UTC().Format(time.RFC3339), reason))
		err = sleep(ctx, pause)
		c.waits("")
		if err != nil {
			return nil, nil, fmt.Errorf("client: checking in: %w", err)
		}
		if tasks, err = c.update(ctx, t); err != nil {
			return nil, nil, err
		}
	}
}

// checkInToEach checks in to one task after another, as long as it is told to come back in
// more than notFar, and returns a place in a cohort, or the shortest pause that it was told
// and why; 0 where that one named no time. Each pass begins one task further, so that one
// for which too few devices come keeps this device from no other.
func (c *Client) checkInToEach(ctx context.Context, t Transport, tasks []*pb.TaskState, pass int) (place *Place, pause time.Duration, reason string, err error) {
	names, err := c.eligible(tasks)
	if err != nil {
		return nil, 0, "", err
	}
	for i := range names {
		task := names[(pass+i)%len(names)]
		if c.checkedIn == nil {
			if c.checkedIn, c.commitment, err = secagg.CheckIn(rand.Reader); err != nil {
				return nil, 0, "", fmt.Errorf("client: checking in: %w", err)
			}
		}
		reply, err := c.checkInOnce(ctx, t, task)
		if err != nil {
			return nil, 0, "", fmt.Errorf("client: checking in: %w", err)
		}
		if len(reply.GetPlan()) > 0 {
			return &Place{CheckedIn: c.checkedIn, Plan: reply.GetPlan(), Committed: reply.GetCommitted()}, 0, "", nil
		}
		told := milliseconds(reply.GetRetryAfterMs())
		if i == 0 || told < pause {
			pause, reason = told, reply.GetReason()
		}
		if told <= notFar {
			break
		}
	}
	if pause > 0 {
		pause = later(pause)
	}
	return nil, pause, reason, nil
}

// waits keeps, for Status, why this device waits.
func (c *Client) waits(why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.later = why
}

// checkInOnce makes a check-in, and makes it again where one was held for too long.
func (c *Client) checkInOnce(ctx context.Context, t Transport, task string) (*pb.CheckInResponse, error) {
	for {
		held, cancel := context.WithTimeout(ctx, checkInTime)
		reply, err := t.CheckIn(held, &pb.CheckInRequest{Version: pb.Current(), Task: task, NonceCommitment: c.commitment[:]})
		late := err != nil && held.Err() != nil && ctx.Err() == nil
		cancel()
		if err == nil {
			return reply, pb.Check(reply.GetVersion(), oldestMinor)
		}
		if !late {
			return nil, err
		}
	}
}

// later bounds the pause that a coordinator asks for and spreads the devices that
// were told the same over a tenth more.
func later(told time.Duration) time.Duration {
	pause := min(max(told, leastLater), mostLater)
	return pause + jitter(pause/10)
}

// listed is the task as it was listed. One that was created while this device waited is
// looked for once more, and has to be one that it would have asked for.
func (c *Client) listed(ctx context.Context, t Transport, name string, tasks []*pb.TaskState) (*pb.TaskState, error) {
	if state := stateOf(tasks, name); state != nil {
		return state, nil
	}
	reply, err := c.tasks(ctx, t)
	if err != nil {
		return nil, fmt.Errorf("client: asking for tasks: %w", err)
	}
	state := stateOf(reply.GetTasks(), name)
	if state == nil {
		return nil, nil
	}
	if err := c.mayAsk(state); err != nil {
		return nil, fmt.Errorf("client: task %q: %w", name, err)
	}
	return state, nil
}

// takePart holds a plan against the device's bounds, what the tasks were listed with, its
// ledger, the checkpoint log and the authority's revocations, sees to the checkpoint and walks through the
// attempt.
func (c *Client) takePart(ctx context.Context, t Transport, place *Place, tasks []*pb.TaskState) (*Result, error) {
	plan, err := readPlan(place.Plan, c.options.Bounds)
	if err != nil {
		return nil, err
	}
	if c.options.Task != "" && plan.GetTask() != c.options.Task {
		return nil, fmt.Errorf("client: %w: it is for task %q, this device takes part in %q", ErrPlanRefused, plan.GetTask(), c.options.Task)
	}
	task, err := c.listed(ctx, t, plan.GetTask(), tasks)
	if err != nil {
		return nil, err
	}
	if err := asListed(plan, task); err != nil {
		return nil, err
	}
	if err := c.mayJoin(plan); err != nil {
		return nil, err
	}
	if err := c.checkLog(ctx, t, plan); err != nil {
		return nil, fmt.Errorf("client: task %q, round %d: %w", plan.GetTask(), plan.GetRound(), err)
	}
	revoked, err := c.revocations(ctx, t, plan)
	if err != nil {
		return nil, fmt.Errorf("client: task %q, round %d: %w", plan.GetTask(), plan.GetRound(), err)
	}
	m, err := c.adopt(ctx, t, plan.GetTask(), [32]byte(plan.GetCheckpointSha256()), plan.GetCheckpointBytes())
	if err != nil {
		return nil, fmt.Errorf("client: task %q, round %d: %w", plan.GetTask(), plan.GetRound(), err)
	}
	manifest := &m.checkpoint.Manifest
	if err := c.mayTrain(plan, manifest); err != nil {
		return nil, err
	}
	e, key, err := c.credentials()
	if err != nil {
		return nil, err
	}
	p := &Participant{
		Signer: secagg.Signer{Key: key, Credential: e.Credential}, CA: e.caKey, Bounds: c.options.Bounds,
		Revoked: revoked.Has, Examples: c.examples, Train: trainOnce(ctx), Logger: c.log,
		Record: func(step pb.Step) error { return c.record(plan, manifest, step) },
	}
	c.checkedIn = nil // it serves one attempt
	result, err := p.TakePart(ctx, t, place, m.opened())
	if err != nil {
		return nil, err
	}
	return result, c.counted(result)
}

// trainOnce trains with a trainer of its own: a round is rare, and between rounds
// a device then holds no graph.
func trainOnce(ctx context.Context) func([]float32, model.Layout, []model.Example, model.Training, uint64) error {
	return func(params []float32, l model.Layout, ex []model.Example, s model.Training, seed uint64) error {
		t, err := train.New(l, s.Batch)
		if err != nil {
			return err
		}
		t.Ended = ctx.Err
		_, err = t.Train(params, ex, s, seed)
		return errors.Join(err, t.Close())
	}
}
