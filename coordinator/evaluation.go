package coordinator

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/discreet-fl/discreet/aggregation"
	"github.com/discreet-fl/discreet/coordinator/store"
	"github.com/discreet-fl/discreet/model"
	pb "github.com/discreet-fl/discreet/proto"
)

const (
	// mostHeldBack is the largest share of a device's chats, in 10,000, that a task may
	// keep from training.
	mostHeldBack = 5000
	// countedChats is how many held-back chats a device counts at most, so that busy
	// devices do not drown the others; bins is how fine each histogram is.
	countedChats = 100
	bins         = 20
	// The best checkpoint is found by accuracies that are pooled over the latest smoothed
	// evaluations, and over more where those have fewer than leastPooled chats together. At
	// an accuracy of 90% the standard error of so many is two points.
	smoothed    = 3
	leastPooled = 200
	// remembered is how many a task keeps at hand.
	remembered = 40
	// A task that is to stop early does so while its accuracy rises by less than littleGain in as
	// many evaluations as it waits for a better one, and at the latest after mostPatience times as many.
	littleGain   = 0.01
	mostPatience = 3
	// mostUnknown is the largest share of chats in scope, in 10,000, that a task may have
	// answered with unknown.
	mostUnknown = 5000
	// A checkpoint is calibrated by the latest evaluations that have calibratedBy chats
	// together, or all at hand, and by none that have fewer than leastCalibrated.
	calibratedBy    = 1000
	leastCalibrated = 500
)

// checkEvaluation is what CheckSpec says of a task's evaluation.
func checkEvaluation(e *pb.TaskEvaluation) error {
	if e == nil {
		return nil
	}
	if e.GetHeldBack() < 1 || e.GetHeldBack() > mostHeldBack {
		return fmt.Errorf("%d chats in 10,000 held back, want 1 to %d; leave the evaluation out to hold none back", e.GetHeldBack(), mostHeldBack)
	}
	if e.GetUnknown() > mostUnknown {
		return fmt.Errorf("%d chats in 10,000 answered with unknown, want at most %d", e.GetUnknown(), mostUnknown)
	}
	return nil
}

// evaluationOf is what a task's plans say of evaluation, nil where it has none. The
// ranges hold what thresholds and calibration depend on of the scores and margins of both
// model sizes as training leaves them; docs/decisions.md has the figures.
func evaluationOf(spec *pb.TaskSpec) *pb.Evaluation {
	if spec.GetEvaluation() == nil {
		return nil
	}
	return &pb.Evaluation{
		HeldBack: spec.GetEvaluation().GetHeldBack(), Chats: countedChats, Bins: bins,
		ScoreLow: 0, ScoreHigh: 12, MarginLow: -5, MarginHigh: 5,
	}
}

// personalOf is the share of a device's chats that judges its personal part: those that
// the task's evaluation keeps from training; 0 where the task wants no such part.
func personalOf(spec *pb.TaskSpec) uint32 {
	if !spec.GetPersonal() {
		return 0
	}
	return spec.GetEvaluation().GetHeldBack()
}

// specLayout is where each block of the vectors of a task's rounds lies, but for how
// their words are noised. Its codec is that of the smallest cohort that there may be, which
// has the most bits, so that what holds for its ring holds for those of all rounds.
func specLayout(spec *pb.TaskSpec, m model.Layout) aggregation.Layout {
	training := new(pb.Training)
	Tell(training, spec, m)
	return layoutWith(codecOf(spec, int(spec.GetMinSurvivors())), spec.GetCompression(), evaluationOf(spec), training, m)
}

// LayoutOf is where each block of a plan's vectors lies, for its model.
func LayoutOf(plan *pb.Plan, m model.Layout) aggregation.Layout {
	p := plan.GetCodec()
	l := layoutWith(aggregation.Codec{Clip: p.GetClip(), Bits: int(p.GetBits()), MaxWeight: int(p.GetMaxWeight())}, plan.GetCompression(), plan.GetEvaluation(), plan.GetTraining(), m)
	l.Noise = mechanism(plan.GetNoise())
	return l
}

func layoutWith(c aggregation.Codec, short *pb.Compression, e *pb.Evaluation, t *pb.Training, m model.Layout) aggregation.Layout {
	l := aggregation.Layout{Codec: c, Parameters: reductionOf(short, m).Length(m.Parameters()), Scalar: scalarOf(t)}
	if e != nil {
		l.Evaluation = aggregation.Evaluation{Intents: m.Labels, Bins: int(e.GetBins()), Chats: int(e.GetChats())}
	}
	return l
}

// Evaluate reads from the total of a round's vectors how the checkpoint that the round
// began with did on the chats that the devices hold back. It is nil where the plan asks
// for no counts. Counts that contradict each other are an error; the update beside them
// may be whole.
func Evaluate(c *model.Checkpoint, plan *pb.Plan, total []int64) (*pb.RoundEvaluation, error) {
	e := plan.GetEvaluation()
	if e == nil {
		return nil, nil
	}
	t := aggregation.Counts(LayoutOf(plan, c.Manifest.Layout), total)
	f, err := aggregation.FiguresOf(t, aggregation.Histogram{Low: float64(e.MarginLow), High: float64(e.MarginHigh)}, confidenceOf(c))
	if err != nil {
		return nil, fmt.Errorf("coordinator: evaluating: %w", err)
	}
	return &pb.RoundEvaluation{
		CheckpointSha256: plan.GetCheckpointSha256(), Devices: uint64(t.Devices[0]), Chats: uint64(f.Chats),
		Accuracy: f.Accuracy, AccuracyLow: f.Low, AccuracyHigh: f.High, MacroF1: f.MacroF1,
		CalibrationError: f.Calibration, StandInAuroc: f.StandInAUROC,
		IntentChats: unsigned(t.Chats), IntentCorrect: unsigned(t.Correct), IntentPredicted: unsigned(t.Predicted),
		InScope: unsigned(t.InScope), StandIns: unsigned(t.StandIns), Margins: unsigned(t.Margins), Right: unsigned(t.Right),
		Bins: e,
	}, nil
}

// confidenceOf is a checkpoint's confidence in an answer by its margin.
func confidenceOf(c *model.Checkpoint) func(margin float64) float64 {
	return func(m float64) float64 { return float64(c.Manifest.Calibration.Confidence(float32(m))) }
}

// unsigned copies counts, which are never negative.
func unsigned(counts []int64) []uint64 {
	out := make([]uint64, len(counts))
	for i, n := range counts {
		out[i] = uint64(n)
	}
	return out
}

// Standing is where a task's evaluations have brought it. The zero value is that before
// the first.
type Standing struct {
	recent []*pb.RoundEvaluation // the latest at the end
	best   *store.Best           // nil before the first
}

// After is the standing after one more evaluation, which may be nil for none; s stays
// as it is. The checkpoint it is of becomes the best one where the accuracy, pooled over
// it and the evaluations before, is above that of the best so far. Before enough chats
// were counted there is no best: a first few, all named rightly, would never be beaten.
func (s Standing) After(e *pb.RoundEvaluation) Standing {
	if e.GetChats() == 0 {
		return s
	}
	kept := s.recent[max(len(s.recent)-remembered+1, 0):]
	next := Standing{recent: append(append([]*pb.RoundEvaluation(nil), kept...), e), best: s.best}
	accuracy, ok := next.pooled()
	if !ok && s.best == nil {
		return next
	}
	best := store.Best{SHA256: [32]byte(e.GetCheckpointSha256()), Accuracy: accuracy}
	if s.best != nil && (!ok || best.Accuracy <= s.best.Accuracy) {
		best = *s.best
		best.Since++
	}
	next.best = &best
	return next
}

// pooled is the accuracy over the latest evaluations, of which there are at least
// smoothed and as many as have leastPooled chats together; false where too few are at hand.
func (s Standing) pooled() (accuracy float64, ok bool) {
	var right, chats float64
	for i := len(s.recent) - 1; i >= 0; i-- {
		e := s.recent[i]
		right += e.GetAccuracy() * float64(e.GetChats())
		chats += float64(e.GetChats())
		if len(s.recent)-i >= smoothed && chats >= leastPooled {
			return right / chats, true
		}
	}
	return 0, false
}

// Calibrate gives a checkpoint what the latest evaluations say of how far its answers are
// to be trusted, with a threshold below which as many of their chats are as the task may
// answer with unknown. They are of the checkpoints before it, which in a task that has
// settled differ little. Where they have too few chats, or say nothing, the checkpoint
// keeps what it has.
func (s Standing) Calibrate(next *model.Checkpoint, spec *pb.TaskSpec) {
	var chats uint64
	var scores, margins, right []int64
	var bins *pb.Evaluation
	for i := len(s.recent) - 1; i >= 0 && chats < calibratedBy; i-- {
		e := s.recent[i]
		if bins == nil {
			bins = e.GetBins()
			n := bins.GetBins()
			scores, margins, right = make([]int64, n), make([]int64, n), make([]int64, n)
		}
		if !proto.Equal(bins, e.GetBins()) || !addCounts(scores, e.GetInScope()) || !addCounts(margins, e.GetMargins()) || !addCounts(right, e.GetRight()) {
			break // from before the plans asked for these bins
		}
		chats += e.GetChats()
	}
	if chats < leastCalibrated {
		return
	}
	slope, offset, ok := aggregation.FitPlatt(aggregation.Histogram{Low: float64(bins.MarginLow), High: float64(bins.MarginHigh)}, margins, right)
	if !ok {
		return
	}
	calibration := &model.Calibration{Slope: thousandths(slope), Offset: thousandths(offset)}
	if share := spec.GetEvaluation().GetUnknown(); share > 0 {
		threshold := thousandths(aggregation.Quantile(aggregation.Histogram{Low: float64(bins.ScoreLow), High: float64(bins.ScoreHigh)}, scores, float64(share)/10_000))
		calibration.Threshold = &threshold
	}
	if calibration.Validate() == nil {
		next.Manifest.Calibration = calibration
	}
}

// thousandths rounds to a thousandth, so that the last bits, which differ between
// platforms, do not make other checkpoints.
func thousandths(x float64) float32 { return float32(math.Round(1000*x) / 1000) }

// addCounts adds to counts, false where they are not as many.
func addCounts(sum []int64, counts []uint64) bool {
	if len(sum) != len(counts) {
		return false
	}
	for i, n := range counts {
		sum[i] += int64(n)
	}
	return true
}

// Exhausted tells whether a task is to stop: so many evaluations brought nothing better, and the
// accuracy has levelled, or mostPatience times as many brought nothing better.
func (s Standing) Exhausted(spec *pb.TaskSpec) bool {
	limit := spec.GetEvaluation().GetEarlyStop()
	if limit == 0 || s.best == nil || s.best.Since < limit {
		return false
	}
	return s.best.Since/mostPatience >= limit || s.levelled(limit)
}

// levelled tells whether the accuracy is known to rise by less than littleGain in so many
// evaluations. A line is fitted, by least squares over chats, to the fewest of the latest
// evaluations, but to no fewer than so many, by which the standard error of what it gains in as
// many is at most half of littleGain; twice the standard error above is where it may be. It is
// false where all at hand have too few chats.
func (s Standing) levelled(evaluations uint64) bool {
	// Sums over chats: 1, the place x of its evaluation, x², 1 if it was named rightly, and x then.
	var n, x, xx, right, xRight float64
	for i := range s.recent {
		e, at := s.recent[len(s.recent)-1-i], -float64(i)
		chats := float64(e.GetChats())
		n, x, xx = n+chats, x+at*chats, xx+at*at*chats
		right, xRight = right+e.GetAccuracy()*chats, xRight+at*e.GetAccuracy()*chats
		if uint64(i)+1 < min(evaluations, remembered) {
			continue
		}
		spread := xx - x*x/n
		share := (right + 1) / (n + 2) // never 0 or 1, where nothing would seem in doubt
		off := float64(evaluations) * math.Sqrt(share*(1-share)/spread)
		if off <= littleGain/2 {
			return float64(evaluations)*(xRight-x*right/n)/spread+2*off < littleGain
		}
	}
	return false
}

// message is the best checkpoint as operators see it.
func (s Standing) message() *pb.BestCheckpoint {
	if s.best == nil {
		return nil
	}
	return &pb.BestCheckpoint{Sha256: s.best.SHA256[:], Accuracy: s.best.Accuracy, Since: s.best.Since}
}

// loadStanding reads a task's standing from the store: its best checkpoint, and as many
// evaluations as it had at hand.
func (c *Coordinator) loadStanding(ctx context.Context, row store.Task) (Standing, error) {
	for limit := remembered; ; limit *= 2 {
		raw, err := c.store.Evaluations(ctx, row.Name, limit)
		if err != nil {
			return Standing{}, err
		}
		s := Standing{best: row.Best}
		for _, r := range raw {
			e, err := readEvaluation(r)
			if err != nil {
				return Standing{}, fmt.Errorf("coordinator: task %s: %w", row.Name, err)
			}
			if e.GetChats() > 0 && len(s.recent) < remembered {
				s.recent = append(s.recent, e)
			}
		}
		if len(s.recent) == remembered || len(raw) < limit {
			slices.Reverse(s.recent)
			return s, nil
		}
	}
}

// evaluationIn reads an attempt's evaluation, nil where it has none.
func evaluationIn(a store.Attempt) (*pb.RoundEvaluation, error) {
	if len(a.Evaluation) == 0 {
		return nil, nil
	}
	e, err := readEvaluation(a.Evaluation)
	if err != nil {
		return nil, fmt.Errorf("coordinator: round %d attempt %d: %w", a.Round, a.Attempt, err)
	}
	return e, nil
}

// readEvaluation reads an evaluation as it is stored.
func readEvaluation(raw []byte) (*pb.RoundEvaluation, error) {
	e := new(pb.RoundEvaluation)
	if err := proto.Unmarshal(raw, e); err != nil || len(e.GetCheckpointSha256()) != 32 {
		return nil, fmt.Errorf("a stored evaluation is damaged; restore a back-up: %w", errors.Join(err, errDamaged))
	}
	return e, nil
}

var errDamaged = errors.New("it cannot be read")
