package coordinator

import (
	"context"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/discreet-fl/discreet/coordinator/store"
	"github.com/discreet-fl/discreet/model"
	pb "github.com/discreet-fl/discreet/proto"
)

// listed is the answer to a call about a task's intents.
type listed struct {
	list *pb.IntentList
	err  error
}

// ChangeIntents changes a task's intents at once, or when the attempt that runs has
// ended. What it answers without an error outlives a crash.
func (s operatorService) ChangeIntents(ctx context.Context, request *pb.ChangeIntentsRequest) (*pb.ChangeIntentsResponse, error) {
	if n := len(request.GetChanges()); n < 1 || n > model.MaxLabels {
		return nil, status.Errorf(codes.InvalidArgument, "%d changes of intents, want 1 to %d", n, model.MaxLabels)
	}
	list, err := s.askIntents(ctx, request.GetTask(), func(t *task, now time.Time) error { return t.changeIntents(now, request) })
	return &pb.ChangeIntentsResponse{List: list}, err
}

// GetIntents returns them as they stand.
func (s operatorService) GetIntents(ctx context.Context, request *pb.GetIntentsRequest) (*pb.GetIntentsResponse, error) {
	list, err := s.askIntents(ctx, request.GetTask(), func(*task, time.Time) error { return nil })
	return &pb.GetIntentsResponse{List: list}, err
}

// askIntents lets a task's goroutine do something and returns the list after it.
func (c *Coordinator) askIntents(ctx context.Context, name string, do func(*task, time.Time) error) (*pb.IntentList, error) {
	t := c.task(name)
	if t == nil {
		return nil, unknownTask(name)
	}
	done := make(chan listed, 1)
	if !t.mail.post(func(now time.Time) {
		err := do(t, now)
		done <- listed{t.intentList(), err}
	}) {
		return nil, errStopping
	}
	select {
	case a := <-done:
		return a.list, a.err
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
}

// changesOf reads changes out of a request.
func changesOf(request *pb.ChangeIntentsRequest) []model.IntentChange {
	kinds := map[pb.IntentChangeKind]model.IntentChangeKind{
		pb.IntentChangeKind_INTENT_CHANGE_KIND_ADD: model.AddIntent, pb.IntentChangeKind_INTENT_CHANGE_KIND_RENAME: model.RenameIntent,
		pb.IntentChangeKind_INTENT_CHANGE_KIND_MERGE: model.MergeIntent, pb.IntentChangeKind_INTENT_CHANGE_KIND_RETIRE: model.RetireIntent,
	}
	changes := make([]model.IntentChange, len(request.GetChanges()))
	for i, c := range request.GetChanges() {
		changes[i] = model.IntentChange{Kind: kinds[c.GetKind()], Name: c.GetName(), Into: c.GetInto()}
	}
	return changes
}

// loadIntents reads the changes that wait.
func (t *task) loadIntents(ctx context.Context) error {
	queued, err := t.store.QueuedIntents(ctx, t.name)
	if err != nil {
		return err
	}
	for _, raw := range queued {
		request := new(pb.ChangeIntentsRequest)
		if err := proto.Unmarshal(raw, request); err != nil {
			return fmt.Errorf("coordinator: queued intents of task %s: %w; restore a back-up", t.name, err)
		}
		t.queued = append(t.queued, request)
	}
	_, err = t.comingIntents()
	return err
}

// comingIntents is the list with the changes that wait.
func (t *task) comingIntents() (*model.Intents, error) {
	list := t.current.Manifest.Intents()
	for _, request := range t.queued {
		var err error
		if list, err = list.Change(changesOf(request)...); err != nil {
			return nil, fmt.Errorf("coordinator: queued intents of task %s: %w", t.name, err)
		}
	}
	return list, nil
}

// changeIntents is the event of an operator who changes intents. What is right after
// the changes that wait is queued, on disk, and made at once where no attempt runs.
func (t *task) changeIntents(now time.Time, request *pb.ChangeIntentsRequest) error {
	if t.spec.GetPrivacy().GetCentral() != nil {
		return status.Error(codes.FailedPrecondition, "the coordinator's noise goes on from round to round on the same parameters: a task with it keeps its intents; create another task, from this one's checkpoint")
	}
	list, err := t.comingIntents()
	if err != nil {
		return err
	}
	next, err := list.Change(changesOf(request)...)
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	if next == list {
		return nil
	}
	if n := t.spec.GetRounds(); n > 0 && t.done+t.usedUp() >= n && adds(request) {
		how := fmt.Sprintf("all %d rounds of task %s are done", n, t.name)
		if t.done < n {
			how = fmt.Sprintf("the last of the %d rounds of task %s may be at work, and intents change after it", n, t.name)
		}
		return status.Errorf(codes.FailedPrecondition, "%s: no device would learn a new intent; create a task that goes on from this one's checkpoint (discreet checkpoint export, discreet task create --from)", how)
	}
	if err := t.fits(next); err != nil {
		return err
	}
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(request)
	if err != nil {
		return err
	}
	if err := t.store.QueueIntents(context.Background(), t.name, raw); err != nil {
		return err
	}
	t.queued = append(t.queued, request)
	t.log.Info("intents queued", "changes", len(request.GetChanges()), "intents", len(next.Labels), "version", next.Version)
	t.makeIntents(now)
	return nil
}

// usedUp is how many rounds, at most, come before a change of intents that is asked for now:
// of a task with a buffer each attempt at work may make a checkpoint by itself.
func (t *task) usedUp() uint64 {
	n := len(t.open)
	if t.spent { // a held checkpoint is a round, too
		n++
	}
	if t.spec.GetBuffer() == nil {
		n = min(n, 1)
	}
	return uint64(n)
}

// adds tells whether a request has a new intent in it.
func adds(request *pb.ChangeIntentsRequest) bool {
	return slices.ContainsFunc(request.GetChanges(), func(c *pb.IntentChange) bool {
		return c.GetKind() == pb.IntentChangeKind_INTENT_CHANGE_KIND_ADD
	})
}

// fits refuses a list whose model's vectors the coordinator has no memory for.
func (t *task) fits(next *model.Intents) error {
	layout, err := model.NewLayout(t.spec.GetModel(), len(next.Labels))
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	return t.hasMemoryFor(t.spec, layout)
}

// makeIntents makes the changes that wait, unless an attempt runs, or the checkpoint
// has been revealed for: a new checkpoint takes the place of a round, and counts as none.
func (t *task) makeIntents(now time.Time) {
	if len(t.queued) == 0 || len(t.open) > 0 || t.spent || now.Before(t.intentsAfter) {
		return
	}
	next, version, err := t.commitIntents(now)
	if err != nil {
		t.log.Error("intents could not be changed", "round", t.round, "error", err)
		t.intentsAfter = now.Add(storePause)
		return
	}
	t.log.Info("intents changed", "round", t.round, "attempt", t.attempt, "intents", len(next.Manifest.Labels), "version", version, "checkpoint", hexHead(next.sum))
	t.queued, t.current, t.last = nil, next, nil
	t.round++
	t.attempt = 1
	t.publish()
}

func (t *task) commitIntents(now time.Time) (next checkpoint, version uint64, err error) {
	list, err := t.comingIntents()
	if err != nil {
		return next, 0, err
	}
	moved, err := t.current.WithIntents(list)
	if err != nil {
		return next, 0, err
	}
	state, err := carryState(list, t.current)
	if err != nil {
		return next, 0, err
	}
	raw := moved.Encode()
	sum, err := t.store.CommitIntents(context.Background(), store.IntentsCommit{
		Task: t.name, Round: t.round, Attempt: t.attempt, Previous: t.current.sum, Checkpoint: raw, State: state, Version: list.Version, Now: now,
	})
	// What was best before knows other intents, and is compared to nothing after.
	return checkpoint{moved, sum, uint64(len(raw)), state, nil, t.current.clip, Standing{}}, list.Version, err
}

// carryState takes the strategy's state over: vectors as long as the parameters.
func carryState(list *model.Intents, from checkpoint) ([]float32, error) {
	n := len(from.Params)
	var state []float32
	for rest := from.state; len(rest) > 0; rest = rest[n:] {
		if len(rest) < n {
			return nil, fmt.Errorf("coordinator: a strategy's state of %d numbers, want a multiple of the %d parameters", len(from.state), n)
		}
		part, err := list.CarryState(from.Manifest.Layout, rest[:n])
		if err != nil {
			return nil, err
		}
		state = append(state, part...)
	}
	return state, nil
}

// intentList is the list as operators see it.
func (t *task) intentList() *pb.IntentList {
	m := &t.current.Manifest
	list := &pb.IntentList{Version: m.IntentsVersion, Intents: m.Labels}
	for _, f := range m.FormerIntents {
		former := &pb.FormerIntent{Name: f.Name}
		if f.Now != model.Retired {
			former.Now = m.Labels[f.Now]
		}
		list.Former = append(list.Former, former)
	}
	for _, request := range t.queued {
		list.Queued = append(list.Queued, request.GetChanges()...)
	}
	return list
}
