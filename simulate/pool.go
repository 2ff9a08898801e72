package simulate

import (
	"fmt"

	"github.com/discreet-fl/discreet/dataset"
	"github.com/discreet-fl/discreet/model"
)

// pool is what phrases become for the model, kept once however many devices have
// them. It is only read once it is made.
type pool map[said]model.Example

// said is a phrase without the user, who makes no difference to the model.
type said struct{ text, intent string }

// add takes phrases into the pool. labels is each intent's place in the model.
func (p pool) add(phrases []dataset.Phrase, labels map[string]int) error {
	for _, phrase := range phrases {
		key := said{phrase.Text, phrase.Intent}
		if _, ok := p[key]; ok {
			continue
		}
		label, ok := labels[phrase.Intent]
		if !ok {
			return fmt.Errorf("phrase %q has the intent %q, which is not among the model's %d", phrase.Text, phrase.Intent, len(labels))
		}
		p[key] = model.Example{Features: model.LatestTokeniser.Featurise(phrase.Text), Label: label}
	}
	return nil
}

// examples are those of phrases that are in the pool, in their order. Their features
// are shared.
func (p pool) examples(phrases []dataset.Phrase) []model.Example {
	out := make([]model.Example, len(phrases))
	for i, phrase := range phrases {
		out[i] = p[said{phrase.Text, phrase.Intent}]
	}
	return out
}
