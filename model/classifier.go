package model

import (
	"math"

	"github.com/discreet-fl/discreet/model/kernel"
)

// Classifier scores features with one checkpoint's parameters. It reads the parameters where they lie and
// computes into buffers of its own: it is to be reused, and not by two goroutines at once.
type Classifier struct {
	tokeniser                Tokeniser
	labels                   []string
	embedding, weights, bias []float32
	mask                     uint32
	hidden, scores, shares   []float32
	calibration              *Calibration
}

// Intent is one answer of a Classifier.
type Intent struct {
	Label      string
	Index      int     // in the manifest's labels
	Score      float32 // logit
	Confidence float32 // 0 to 1: how sure the model is, by its calibration where it has one
}

// NewClassifier returns a classifier over the checkpoint's parameters, which must stay as they are while it is in use.
// Featurise and Explain need a manifest that names its tokeniser.
func NewClassifier(c *Checkpoint) *Classifier {
	l := c.Manifest.Layout
	embedding, weights, bias := l.Split(c.Params)
	buffer := make([]float32, l.Dim+2*l.Labels)
	return &Classifier{
		tokeniser: c.Manifest.TokeniserVersion,
		labels:    c.Manifest.Labels,
		embedding: embedding, weights: weights, bias: bias, mask: l.Mask(),
		hidden: buffer[:l.Dim],
		scores: buffer[l.Dim:][:l.Labels],
		shares: buffer[l.Dim+l.Labels:],

		calibration: c.Manifest.Calibration,
	}
}

// Featurise returns the features of a text, by the checkpoint's tokeniser.
func (c *Classifier) Featurise(text string) Features { return c.tokeniser.Featurise(text) }

// Scores returns a score (logit) for each label; the largest is the model's answer. The slice is valid until the
// next call of any method. A text without features is scored by the bias alone.
func (c *Classifier) Scores(f Features) []float32 {
	kernel.Bag(c.hidden, c.embedding, c.mask, f, FeatureScale(len(f)))
	kernel.Affine(c.scores, c.hidden, c.weights, c.bias, len(c.hidden))
	return c.scores
}

// Probabilities returns the softmax of Scores, valid until the next call of any method.
func (c *Classifier) Probabilities(f Features) []float32 {
	kernel.Softmax(c.shares, c.Scores(f), len(c.shares))
	return c.shares
}

// Top returns the n most probable intents, the most probable first; of equal ones the lower index comes first.
// It returns fewer when the model has fewer labels. Whether the text is of any of them, Knows tells by the first one's
// score.
func (c *Classifier) Top(f Features, n int) []Intent {
	n = min(n, len(c.labels))
	if n <= 0 {
		return nil
	}
	top := make([]Intent, 0, n+1)
	for i, p := range c.Probabilities(f) {
		if len(top) == n && p <= top[n-1].Confidence {
			continue
		}
		at := len(top)
		for at > 0 && p > top[at-1].Confidence {
			at--
		}
		top = append(top, Intent{})
		copy(top[at+1:], top[at:])
		top[at] = Intent{Label: c.labels[i], Index: i, Score: c.scores[i], Confidence: p}
		top = top[:min(len(top), n)]
	}
	if c.calibration != nil {
		c.calibration.apply(top, kernel.Margin(c.scores, top[0].Index))
	}
	return top
}

// FeatureScale returns what the sum of n features' rows is multiplied by: 1/√n, and zero for none.
func FeatureScale(n int) float32 {
	if n == 0 {
		return 0
	}
	return float32(1 / math.Sqrt(float64(n)))
}
