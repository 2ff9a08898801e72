package train

import (
	"errors"
	"fmt"
	"math"

	"github.com/discreet-fl/discreet/model"
)

// MaxPersonal is how many examples a personal part is trained on at most, which bounds what it costs a device.
const MaxPersonal = 2000

// PersonalTraining is how a personal part is trained, per size: as in a round, at a lower rate, and held back towards
// the checkpoint. docs/decisions.md has the figures.
func PersonalTraining(size string) (model.Training, error) {
	s, err := model.DefaultTraining(size)
	s.LearningRate, s.Proximal = 0.1, 0.1
	return s, err
}

// Personalise trains an output layer of a device's own, from that of a checkpoint, on the last [MaxPersonal] of its
// examples, and judges both on examples that are held back from this and every other training of the checkpoint. The
// embedding is the checkpoint's and, like the rest of it, stays as it is. With no examples that say what a text is,
// or with fewer than [model.MinJudges] held back, nothing is trained.
//
// It is Ditto (Li et al. 2021, "Ditto: Fair and robust federated learning through personalization", equation 1), which
// minimises the device's own loss and λ/2·‖v − w‖², w being the checkpoint, over an output layer v alone and from w
// anew for each checkpoint, in place of a whole model that is carried on; and w leans to the intents that the examples
// have most. The same call gives the same bits, on one platform: a logarithm is taken, and nothing of it is ever sent.
func Personalise(c *model.Checkpoint, own, held []model.Example, seed uint64) (p model.Personal, err error) {
	s, err := PersonalTraining(c.Manifest.Size)
	if err != nil {
		return p, err
	}
	p.Held = len(held)
	own = own[max(len(own)-MaxPersonal, 0):]
	labelled := false
	for _, e := range own {
		labelled = labelled || !e.Not
	}
	if !labelled || len(held) < model.MinJudges {
		return p, nil
	}
	l := c.Manifest.Layout
	t, err := New(l, s.Batch)
	if err != nil {
		return p, err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	s.Rows = make([]bool, l.Rows) // none moves
	params := append([]float32(nil), c.Params...)
	_, _, bias := l.Split(params)
	lean(bias, own)
	if _, err := t.Train(params, own, s, seed); err != nil {
		return p, fmt.Errorf("training a personal output layer: %w", err)
	}
	p.Output = append([]float32(nil), l.Output(params)...)
	p.SharedLoss, p.SharedRight = crossEntropy(classifierOf(c.Params, l), held)
	p.OwnLoss, p.OwnRight = crossEntropy(classifierOf(params, l), held)
	if math.IsNaN(p.SharedLoss-p.OwnLoss) || math.IsInf(p.SharedLoss-p.OwnLoss, 0) {
		return p, fmt.Errorf("judging a personal output layer: losses of %v and %v, want finite numbers", p.SharedLoss, p.OwnLoss)
	}
	return p, nil
}

// lean moves the bias of each intent towards how often the examples have it: by half the logarithm of how many times as
// often as the mean intent, with one more of each. The whole logarithm would be right if all intents had been alike in
// what the checkpoint learned from, and if so few examples told the chances (Saerens, Latinne and Decaestecker 2002,
// "Adjusting the outputs of a classifier to new a priori probabilities").
func lean(bias []float32, own []model.Example) {
	counts, labelled := make([]float64, len(bias)), 0.0
	for _, e := range own {
		if !e.Not {
			counts[e.Label]++
			labelled++
		}
	}
	mean := labelled / float64(len(bias))
	for i, n := range counts {
		bias[i] += float32(0.5 * math.Log((n+1)/(mean+1)))
	}
}
