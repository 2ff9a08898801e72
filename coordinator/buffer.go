package coordinator

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/discreet-fl/discreet/aggregation"
	"github.com/discreet-fl/discreet/coordinator/store"
	"github.com/discreet-fl/discreet/model"
	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/secagg"
)

// A task with a buffer runs several attempts side by side, each of one cohort, so that a
// slow one holds nobody up (FedBuff; package aggregation has the formulas). An attempt
// begins on the checkpoint that is current then, as soon as enough devices wait. Its sum
// goes into the buffer, and when the buffer has as many as the task asks for they make
// the next checkpoint together; attempts that are still at work go on, and their sums
// count for less, the more checkpoints came in between.
//
// All attempts on a checkpoint have the number of the round that follows it, and each an
// attempt number of its own. A device reveals once in a round, and one that is in a sum on
// a checkpoint is not taken into another. Its Reveal is answered when its sum is in a checkpoint: it
// could not join another attempt before. The buffer is in memory, as every sum is: a crash
// loses it with its attempts.

const (
	// mostHeldReceipt bounds how long devices wait for the receipts of a sum in the buffer,
	// which they do for a step's deadline and a minute.
	mostHeldReceipt = 30 * time.Second
	// mostBuffered and mostStale bound what a task's buffer may be asked for: sums, and
	// checkpoints that one may come late.
	mostBuffered = 16
	mostStale    = 100
	// mostWorking is how many attempts of a task are at work at a time, and workingFor how
	// many for each sum that a checkpoint takes: with more at work sums come later.
	mostWorking = 16
	workingFor  = 2
	// mostOpen bounds those that have not ended: at work, in the buffer, or being committed.
	mostOpen = mostWorking + mostBuffered + 1
)

// checkBuffer is what CheckSpec says of a task's buffer.
func checkBuffer(spec *pb.TaskSpec) error {
	b := spec.GetBuffer()
	switch {
	case b == nil:
		return nil
	case b.GetCohorts() < 1 || b.GetCohorts() > mostBuffered:
		return fmt.Errorf("a buffer of %d cohorts, want 1 to %d", b.GetCohorts(), mostBuffered)
	case b.GetStaleness() > mostStale:
		return fmt.Errorf("a buffer that takes sums %d checkpoints late, want at most %d", b.GetStaleness(), mostStale)
	case spec.GetPerRound() > cohortOf(spec):
		return fmt.Errorf("%d devices a round in cohorts of %d: with a buffer each cohort is a round of its own; want at most as many a round as a cohort holds", spec.GetPerRound(), cohortOf(spec))
	case ChoiceOf(spec).ByRound():
		return fmt.Errorf("strategy %s takes all devices of one round together, and a buffer holds sums of several; choose another strategy, or no buffer", ChoiceOf(spec).Name)
	}
	return nil
}

// Working is how many cohorts of a task with a buffer are at work at a time, at most.
func Working(b *pb.Buffer) int { return min(workingFor*int(b.GetCohorts()), mostWorking) }

// working is how many attempts have no total yet.
func (t *task) working() int { return len(t.open) - len(t.buffer) }

// roomy tells whether another attempt may begin beside those that are open.
func (t *task) roomy() bool {
	if t.spec.GetBuffer() == nil {
		return len(t.open) == 0
	}
	return t.working() < Working(t.spec.GetBuffer()) && len(t.buffer) < mostBuffered && !t.flushing && len(t.queued) == 0
}

// committing tells whether a checkpoint is being made.
func (t *task) committing() bool {
	if t.spec.GetBuffer() == nil {
		return len(t.open) > 0 && t.open[0].done
	}
	return t.flushing
}

// on tells whether an attempt trains the current checkpoint.
func (t *task) on(r *attempt) bool { return [32]byte(r.plan.GetCheckpointSha256()) == t.current.sum }

// given tells whether a device's vector is in a sum on the current checkpoint, also where
// it left before it confirmed that, or it has been told to reveal for it, after which it
// refuses to work on it again.
func (t *task) given(id secagg.ID) bool {
	if t.spec.GetBuffer() == nil {
		return false // the next attempt begins when this one has ended
	}
	return slices.ContainsFunc(t.open, func(r *attempt) bool {
		_, sent := r.added[id]
		return (sent || r.told[id]) && t.on(r)
	})
}

// fill puts an attempt's total into the buffer.
func (t *task) fill(now time.Time, r *attempt) {
	r.summed = now
	t.buffer = append(t.buffer, r)
	t.logOf(r).Info("sum buffered", "sums", len(t.buffer), "of", t.spec.GetBuffer().GetCohorts())
}

// flushAt is when the buffer makes a checkpoint though it is not full: its devices wait
// for their receipts no longer than a step may take. Zero where it is empty.
func (t *task) flushAt() time.Time {
	if len(t.buffer) == 0 || t.flushing {
		return time.Time{}
	}
	return t.buffer[0].summed.Add(min(milliseconds(t.spec.GetDeadlineMs()), mostHeldReceipt))
}

// flush makes the next checkpoint from the buffer where it is time: it is full, its oldest
// sum has waited for long enough, devices have revealed for a checkpoint in an attempt
// that is lost and need another, or a change of intents waits for nothing else.
func (t *task) flush(now time.Time) {
	for _, r := range slices.Clone(t.buffer) {
		if late := t.done - r.base; !t.flushing && late > uint64(t.spec.GetBuffer().GetStaleness()) {
			t.abort(now, r, fmt.Sprintf("its sum came %d checkpoints late, at most %d count", late, t.spec.GetBuffer().GetStaleness()))
		}
	}
	if len(t.buffer) == 0 || t.flushing {
		return
	}
	full := len(t.buffer) >= int(t.spec.GetBuffer().GetCohorts())
	if !full && now.Before(t.flushAt()) && !t.spent && (len(t.queued) == 0 || t.working() > 0) {
		return
	}
	t.flushing = true
	from := slices.Clone(t.buffer[:min(len(t.buffer), int(t.spec.GetBuffer().GetCohorts()))])
	number := store.Attempt{Round: t.round, Attempt: t.attempt}
	current, done := t.current, t.done
	t.owners.Go(func() {
		o := t.commitBuffer(number, from, current, done)
		o.of = from
		t.finished <- o
	})
}

// commitBuffer is commit for sums from the buffer. The checkpoint has a number of its own,
// and each attempt a record.
func (t *task) commitBuffer(number store.Attempt, from []*attempt, current checkpoint, done uint64) outcome {
	c := store.Commit{Task: t.name, Attempt: number, Previous: current.sum}
	var parts []Part
	for _, r := range from {
		late := int(done - r.base)
		parts = append(parts, Part{Plan: r.plan, Total: r.sums.total, Survivors: len(r.sums.survivors), Late: late})
		record := r.sums.record
		record.Survivors, record.Staleness = len(r.sums.survivors), late
		c.Buffered = append(c.Buffered, record)
		c.Survivors = append(c.Survivors, r.sums.survivors...)
	}
	moved, state, err := ApplyBuffer(t.spec, current.Checkpoint, current.state, parts)
	if err != nil {
		return outcome{err: err}
	}
	standing := current.standing
	if plan, counts := FreshCounts(parts); plan != nil {
		at := slices.IndexFunc(parts, func(p Part) bool { return p.Late == 0 })
		if c.Buffered[at].Evaluation, standing, err = t.evaluate(plan, counts, current); err != nil {
			return outcome{err: err}
		}
	}
	standing.Calibrate(moved, t.spec)
	c.Best = standing.best
	c.Checkpoint, c.State, c.Attempt.Ended = moved.Encode(), state, time.Now()
	sum, err := t.store.Commit(context.Background(), c)
	if err != nil {
		return outcome{err: err}
	}
	for _, record := range c.Buffered {
		t.metrics.staleness.Observe(float64(record.Staleness))
	}
	t.log.Info("round committed", "round", number.Round, "attempt", number.Attempt, "survivors", len(c.Survivors), "sums", len(from), "checkpoint", hexHead(sum))
	return outcome{next: checkpoint{moved, sum, uint64(len(c.Checkpoint)), state, nil, 0, standing}}
}

// Part is what one attempt of a task with a buffer brings to a checkpoint.
type Part struct {
	Plan      *pb.Plan
	Total     *aggregation.Sums
	Survivors int
	Late      int // checkpoints since the one it trained
}

// ApplyBuffer is Apply for the sums in a buffer. Their order makes no difference.
func ApplyBuffer(spec *pb.TaskSpec, c *model.Checkpoint, state []float32, parts []Part) (*model.Checkpoint, []float32, error) {
	parts = slices.SortedFunc(slices.Values(parts), func(a, b Part) int { return compareAttempts(a.Plan, b.Plan) })
	buffer, survivors := aggregation.NewBuffer(len(c.Params)), 0
	for _, p := range parts {
		mean, weight, err := meanOf(spec, c, p.Plan, p.Total)
		if err != nil {
			return nil, nil, err
		}
		buffer.Add(mean, weight, p.Late)
		survivors += p.Survivors
	}
	mean := make([]float32, len(c.Params))
	buffer.Mean(mean)
	return step(spec, c, state, mean, survivors)
}

// FreshCounts are the total of the parts that trained the current checkpoint, of which
// alone their devices' counts tell, and a plan of theirs; nil where there are none.
func FreshCounts(parts []Part) (plan *pb.Plan, total []int64) {
	for _, p := range parts {
		if p.Late > 0 {
			continue
		}
		whole := p.Total.Whole()
		if plan == nil {
			plan, total = p.Plan, make([]int64, len(whole))
		}
		for i, w := range whole {
			total[i] += w
		}
	}
	return plan, total
}

// compareAttempts orders attempts as they began.
func compareAttempts(a, b *pb.Plan) int {
	if a.GetRound() != b.GetRound() {
		return int(int64(a.GetRound() - b.GetRound()))
	}
	return int(a.GetAttempt()) - int(b.GetAttempt())
}
