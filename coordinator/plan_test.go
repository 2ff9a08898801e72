package coordinator

import (
	"testing"

	"github.com/discreet-fl/discreet/model"
)

// The learning rate falls to a tenth in a task's last round, and not where there is none.
func TestLearningRateFallsOverTheRounds(t *testing.T) {
	for _, tc := range []struct {
		round, rounds uint64
		want          float32
	}{{1, 0, 0.5}, {7, 0, 0.5}, {1, 1, 0.5}, {1, 11, 0.5}, {6, 11, 0.275}, {11, 11, 0.05}, {12, 11, 0.05}} {
		got := TrainingOf(model.Training{Epochs: 3, Batch: 2, LearningRate: 0.5}, tc.round, tc.rounds)
		if got.GetLearningRate() != tc.want || got.GetEpochs() != 3 || got.GetBatch() != 2 {
			t.Errorf("round %d of %d: %v, want a rate of %v", tc.round, tc.rounds, got, tc.want)
		}
	}
}
