package simulate

import (
	"github.com/discreet-fl/discreet/coordinator/round"
	pb "github.com/discreet-fl/discreet/proto"
)

// Result is what a simulation found.
type Result struct {
	// Accuracy and MacroF1 are the last checkpoint's on the test phrases.
	Accuracy float64 `json:"accuracy"`
	MacroF1  float64 `json:"macro_f1"`
	// CentralisedAccuracy is that of one model trained to convergence on all chats and the
	// warm start in one place; LocalOnlyAccuracy the mean of models each trained to convergence on
	// one device's chats alone, over LocalOnlyDevices drawn ones, and LocalOnlyError its
	// standard error: devices are drawn until it is at most 0.005, or there are fifty. It is 0
	// where all were drawn, or no two that were differ, which says nothing of the others.
	CentralisedAccuracy float64 `json:"centralised_accuracy"`
	LocalOnlyAccuracy   float64 `json:"local_only_accuracy"`
	LocalOnlyError      float64 `json:"local_only_error"`
	LocalOnlyDevices    int     `json:"local_only_devices"`
	// CalibrationError is the last checkpoint's expected calibration error on the test
	// phrases, and OutOfScope how it does on texts outside; nil where there are none.
	CalibrationError float64     `json:"calibration_error"`
	OutOfScope       *OutOfScope `json:"out_of_scope,omitempty"`
	Parameters       int         `json:"parameters"`
	// BytesUpPerDevice is the mean that a device in a round's sum sent in it, all
	// messages counted.
	BytesUpPerDevice int64   `json:"bytes_up_per_device"`
	Seconds          float64 `json:"seconds"`
	// Digest is the SHA-256 of the last checkpoint file, in hex.
	Digest  string `json:"digest"`
	Secure  bool   `json:"secure"`
	Seed    uint64 `json:"seed"`
	Devices int    `json:"devices"`
	// Chats is how many the devices have together, and UsesPerPhrase on how many devices
	// a training phrase is in the mean.
	Chats         int     `json:"chats"`
	UsesPerPhrase float64 `json:"uses_per_phrase"`
	Model         string  `json:"model"`
	Rounds        []Round `json:"rounds"`
	// StoppedEarly tells that fewer rounds ran than were to, since the accuracy on chats held
	// back rose no more.
	StoppedEarly bool `json:"stopped_early,omitempty"`
	// Privacy is what the devices were promised and gave away; nil where sums are exact.
	Privacy *Privacy `json:"privacy,omitempty"`
	// Checkpoint is the last checkpoint file.
	Checkpoint []byte `json:"-"`
	// BytesByStep is what all devices in the sums sent in each step, where sums are taken
	// under masks.
	BytesByStep map[round.Step]int64 `json:"-"`
	Personal    *PersonalScore       `json:"personal,omitempty"` // nil where they were not measured
	Detail      *Detail              `json:"-"`
}

// Round is one round of a simulation.
type Round struct {
	Round    int     `json:"round"`
	Accuracy float64 `json:"accuracy"`
	// Participants were selected; Survivors are in the sum, 0 where every attempt failed.
	Participants int   `json:"participants"`
	Survivors    int   `json:"survivors"`
	Drops        Drops `json:"drops"`
	Attempts     int   `json:"attempts"`
	// Cohorts is how many the round was split into, and CohortsLost how many of them are
	// not in the sum.
	Cohorts     int `json:"cohorts"`
	CohortsLost int `json:"cohorts_lost"`
	// MasksExpanded is how many mask streams the coordinator expanded to unmask the sum.
	MasksExpanded int `json:"masks_expanded"`
	// Clip is the bound on the norm of updates, where sums have noise.
	Clip float32 `json:"clip,omitempty"`
	// Evaluation is what the devices found, on the chats that they hold back, of the
	// checkpoint that the round began with; nil where they hold none back.
	Evaluation *Evaluation `json:"evaluation,omitempty"`
	// Clock is the simulated time at the round's end, in what a device of the usual pace
	// takes for one, and Late how many checkpoints late each sum was, with a buffer.
	Clock   float64 `json:"clock"`
	Late    []int   `json:"late,omitempty"`
	BytesUp int64   `json:"bytes_up"` // by the devices in the sum together
	Seconds float64 `json:"seconds"`
}

// Evaluation is a federated evaluation.
type Evaluation struct {
	Devices          uint64  `json:"devices"` // that counted chats
	Chats            uint64  `json:"chats"`
	Accuracy         float64 `json:"accuracy"`
	MacroF1          float64 `json:"macro_f1"`
	CalibrationError float64 `json:"calibration_error"`
	// Recall is the share of each intent's chats that were named rightly, in the order of
	// Config.Intents, and Counted how many of its chats there were.
	Recall  []float64 `json:"-"`
	Counted []uint64  `json:"-"`
}

// evaluationOf is what the coordinator made of the counts.
func evaluationOf(e *pb.RoundEvaluation) *Evaluation {
	out := &Evaluation{
		Devices: e.Devices, Chats: e.Chats, Accuracy: e.Accuracy, MacroF1: e.MacroF1, CalibrationError: e.CalibrationError,
		Recall: make([]float64, len(e.IntentChats)), Counted: e.IntentChats,
	}
	for i, n := range e.IntentChats {
		if n > 0 {
			out.Recall[i] = float64(e.IntentCorrect[i]) / float64(n)
		}
	}
	return out
}

// Drops counts the devices that vanished in the last attempt of a round, by place.
type Drops struct {
	BeforeAdvertise int `json:"before_advertise"`
	AfterAdvertise  int `json:"after_advertise"`
	AfterShare      int `json:"after_share"`
	AfterSubmit     int `json:"after_submit"`
	AfterConfirm    int `json:"after_confirm"`
}

// Total is the number of devices that vanished at any place.
func (d Drops) Total() int {
	return d.BeforeAdvertise + d.AfterAdvertise + d.AfterShare + d.AfterSubmit + d.AfterConfirm
}
