package main

import (
	"math"
	"testing"
)

func TestSpreadByHand(t *testing.T) {
	accuracies := make([]float64, 20)
	for i := range accuracies {
		accuracies[i] = 0.8
	}
	accuracies[3], accuracies[7], accuracies[11], accuracies[19] = 0.5, 0.7, 1, 0.9
	s := spreadOver(accuracies)
	// Off the mean of 79.5 are 16 by 0.5, and four by 29.5, 9.5, 20.5 and 10.5.
	want := spread{Mean: 0.795, Variance: (16*0.25 + 29.5*29.5 + 9.5*9.5 + 20.5*20.5 + 10.5*10.5) / 20, WorstTenth: 0.6, BestTenth: 0.95}
	for i, off := range []float64{s.Mean - want.Mean, s.Variance - want.Variance, s.WorstTenth - want.WorstTenth, s.BestTenth - want.BestTenth} {
		if math.Abs(off) > 1e-9 {
			t.Errorf("figure %d of %+v, want %+v", i, *s, want)
		}
	}
	if spreadOver(nil) != nil {
		t.Error("a spread over no devices")
	}
}
