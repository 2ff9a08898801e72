package main

import (
	"fmt"
	"slices"

	"github.com/discreet-fl/discreet/model"
	"github.com/discreet-fl/discreet/simulate"
)

// spread is how evenly a checkpoint serves devices, as fair federated learning is measured
// (Li et al. 2020, "Fair resource allocation in federated learning", table 1). A device's
// accuracy is the recall of test phrases, weighted by how often it has each intent: how
// devices differ in what they have is in it, and how they differ in what they say is not.
type spread struct {
	Mean       float64 `json:"mean"`
	Variance   float64 `json:"variance"` // of accuracies in per cent
	WorstTenth float64 `json:"worst_tenth"`
	BestTenth  float64 `json:"best_tenth"` // means over a tenth of the devices
}

// spreadOf measures the last checkpoint of a simulation on its devices.
func spreadOf(c *simulate.Config, checkpoint []byte) (*spread, error) {
	last, err := model.DecodeCheckpoint(checkpoint)
	if err != nil {
		return nil, err
	}
	classifier := model.NewClassifier(last)
	right, all := make(map[string]float64), make(map[string]float64)
	for _, p := range c.Test {
		all[p.Intent]++
		if last.Manifest.Labels[classifier.Answer(classifier.Featurise(p.Text)).Index] == p.Intent {
			right[p.Intent]++
		}
	}
	var accuracies []float64
	for _, chats := range c.Train {
		sum, n := 0.0, 0.0
		for _, p := range chats {
			if all[p.Intent] > 0 {
				sum, n = sum+right[p.Intent]/all[p.Intent], n+1
			}
		}
		if n > 0 {
			accuracies = append(accuracies, sum/n)
		}
	}
	return spreadOver(accuracies), nil
}

// spreadOver is the spread of accuracies; nil where there are none.
func spreadOver(accuracies []float64) *spread {
	if len(accuracies) == 0 {
		return nil
	}
	slices.Sort(accuracies)
	mean := func(some []float64) (m float64) {
		for _, a := range some {
			m += a / float64(len(some))
		}
		return m
	}
	tenth := max(len(accuracies)/10, 1)
	s := &spread{Mean: mean(accuracies), WorstTenth: mean(accuracies[:tenth]), BestTenth: mean(accuracies[len(accuracies)-tenth:])}
	for _, a := range accuracies {
		s.Variance += 1e4 * (a - s.Mean) * (a - s.Mean) / float64(len(accuracies))
	}
	return s
}

func (s *spread) String() string {
	return fmt.Sprintf("over the devices, by their own intents, %.2f%% with a variance of %.1f; %.2f%% on the worst tenth and %.2f%% on the best",
		100*s.Mean, s.Variance, 100*s.WorstTenth, 100*s.BestTenth)
}
