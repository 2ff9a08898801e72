package simulate

import (
	"cmp"
	"slices"

	"github.com/discreet-fl/discreet/model"
)

// Detail is a closer look at the last checkpoint on the test phrases.
type Detail struct {
	Intents []IntentScore // the lowest F1 first
	Bins    []Bin         // ten of equal width, by the confidence of the guess
	// CalibrationError is the expected calibration error over Bins (Guo et al. 2017,
	// arXiv:1706.04599, eq. 3).
	CalibrationError float64
	Sizes            []SizeScore // by the chats that a device has, the fewest first
}

// IntentScore is how well one intent's test phrases are named.
type IntentScore struct {
	Intent   string
	Phrases  int     // test phrases of the intent
	Recall   float64 // share of them named rightly
	F1       float64
	Confused string // the wrong intent that they are named most often; empty for none
	Times    int    // how often
	// HeldBack is the recall on the HeldBackChats of the intent that devices counted in the
	// last pooled evaluated rounds.
	HeldBack      float64
	HeldBackChats uint64
}

// Bin is the guesses whose confidence is within one tenth.
type Bin struct {
	Guesses              int
	Confidence, Accuracy float64 // means
}

// SizeScore is over the devices that have From to To chats.
type SizeScore struct {
	From, To, Devices int
	// Together is the shared model's recall of test phrases, weighted by the devices'
	// own intents; Alone the accuracy of the models of the Drawn devices that the alone
	// baseline trained.
	Together, Alone float64
	Drawn           int
}

// aloneScore is what one device's own model reached.
type aloneScore struct {
	device   int
	accuracy float64
}

// bins is how many tenths of confidence there are.
const bins = 10

// detail looks closer at the current checkpoint.
func (r *run) detail(alone []aloneScore, rounds []Round) *Detail {
	labels := len(r.Intents)
	confusion := make([][]int, labels)
	for i := range confusion {
		confusion[i] = make([]int, labels)
	}
	d := &Detail{Bins: make([]Bin, bins)}
	classifier := model.NewClassifier(r.checkpoint)
	for _, e := range r.test {
		top := classifier.Top(e.Features, 1)[0]
		guess := top.Index
		confusion[e.Label][guess]++
		bin := &d.Bins[min(int(top.Confidence*bins), bins-1)]
		bin.Guesses++
		bin.Confidence += float64(top.Confidence)
		if guess == e.Label {
			bin.Accuracy++
		}
	}
	for i := range d.Bins {
		if b := &d.Bins[i]; b.Guesses > 0 {
			n := float64(b.Guesses)
			d.CalibrationError += max(b.Accuracy-b.Confidence, b.Confidence-b.Accuracy) / float64(len(r.test))
			b.Confidence, b.Accuracy = b.Confidence/n, b.Accuracy/n
		}
	}
	recalls, held, counted := make([]float64, labels), make([]float64, labels), make([]uint64, labels)
	heldBackRecall(rounds, held, counted)
	for i, row := range confusion {
		s := r.intentScore(confusion, i, row)
		if recalls[i] = s.Recall; s.Phrases > 0 {
			s.HeldBack, s.HeldBackChats = held[i], counted[i]
			d.Intents = append(d.Intents, s)
		}
	}
	slices.SortStableFunc(d.Intents, func(a, b IntentScore) int { return cmp.Compare(a.F1, b.F1) })
	d.Sizes = r.sizes(recalls, alone)
	return d
}

// pooled is how many evaluated rounds the recall of an intent is over: one has too few
// chats of each.
const pooled = 10

// heldBackRecall writes each intent's recall over the last pooled evaluated rounds, and the
// chats of it that were counted.
func heldBackRecall(rounds []Round, recall []float64, counted []uint64) {
	left := pooled
	for i := len(rounds) - 1; i >= 0 && left > 0; i-- {
		e := rounds[i].Evaluation
		if e == nil || e.Chats == 0 {
			continue
		}
		left--
		for j, n := range e.Counted {
			recall[j] += e.Recall[j] * float64(n)
			counted[j] += n
		}
	}
	for j, n := range counted {
		recall[j] /= float64(max(n, 1))
	}
}

// intentScore reads one intent's row and column of the confusions.
func (r *run) intentScore(confusion [][]int, intent int, row []int) IntentScore {
	s := IntentScore{Intent: r.Intents[intent]}
	guessed := 0
	for i, n := range row {
		s.Phrases += n
		guessed += confusion[i][intent]
		if i != intent && n > s.Times {
			s.Confused, s.Times = r.Intents[i], n
		}
	}
	if s.Phrases > 0 {
		s.Recall = float64(row[intent]) / float64(s.Phrases)
		s.F1 = 2 * float64(row[intent]) / float64(s.Phrases+guessed)
	}
	return s
}

// sizes groups devices by their chats: 1, 2 to 3, 4 to 7 and on by powers of two.
func (r *run) sizes(recalls []float64, alone []aloneScore) []SizeScore {
	labels := make(map[string]int, len(r.Intents))
	for i, intent := range r.Intents {
		labels[intent] = i
	}
	var all []SizeScore
	for from := 1; from <= len(r.pool)+1 || from == 1; from *= 2 {
		all = append(all, SizeScore{From: from, To: 2*from - 1})
	}
	of := func(device int) *SizeScore {
		n := len(r.Train[device])
		for i := range all {
			if n >= all[i].From && n <= all[i].To {
				return &all[i]
			}
		}
		return nil
	}
	for device, phrases := range r.Train {
		if s := of(device); s != nil {
			s.Devices++
			for _, p := range phrases {
				s.Together += recalls[labels[p.Intent]] / float64(len(phrases))
			}
		}
	}
	for _, a := range alone {
		if s := of(a.device); s != nil {
			s.Drawn++
			s.Alone += a.accuracy
		}
	}
	all = slices.DeleteFunc(all, func(s SizeScore) bool { return s.Devices == 0 })
	for i := range all {
		s := &all[i]
		s.Together /= float64(s.Devices)
		s.Alone /= float64(max(s.Drawn, 1))
	}
	return all
}
