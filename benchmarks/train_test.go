package main

import "testing"

func TestMeasureTrain(t *testing.T) {
	f, err := measureTrain(8, 1, 64)
	if err != nil {
		t.Fatal(err)
	}
	for name, speed := range map[string]float64{
		"training": f.Training, "training limit": f.TrainingLimit, "inference": f.Inference, "inference limit": f.InferenceLimit,
	} {
		if speed < 100 || speed > 1e8 {
			t.Errorf("%s ran at %v examples a second", name, speed)
		}
	}
	if f.TrainingRatio != f.Training/f.TrainingLimit || f.InferenceRatio != f.Inference/f.InferenceLimit || f.Machine == "" {
		t.Errorf("figures are %+v", f)
	}
	if _, err := measureTrain(0, 1, 64); err == nil {
		t.Error("batches of none are measured")
	}
}
