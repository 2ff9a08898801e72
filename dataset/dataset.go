// Package dataset reads files of phrases, shares their training part out over
// devices, and carries a small set of its own, so that a demonstration needs no
// file at all.
//
// Begin with Open, which reads a file or a folder into a Set, or with Shop, the
// embedded set. Set.Split deals the training phrases to devices. Read and
// ReadIntents read a single file and are what the commands use for an
// operator's list of intents and for chats that a device is to learn from.
//
// A file's format is told by its content, never by its name:
//
//   - CSV with a header. The text stands under text, utterance or query, the
//     intent under intent, label or category, and an optional user under user;
//     the case of the header does not matter, other columns are passed over.
//   - JSON Lines, one object a line, with the same keys.
//   - Rasa's nlu.yml, versions 2 and 3. Entity annotations are reduced to their
//     text, and of a retrieval intent such as faq/opening_hours the part before
//     the slash is kept, because that is what Rasa's own classifier learns.
//   - The JSON of CLINC150: an object with train and test, each a list of
//     ["text", "intent"] pairs, and oos_train, oos_val and oos_test, texts of no
//     intent. Other keys (val and so on) are passed over.
//
// Files are UTF-8, with or without a byte order mark. What does not fit is an
// error that names the file and the line.
package dataset

import (
	"sort"

	"github.com/discreet-fl/discreet/model"
)

// Bounds on what is read. They are far above any real set of phrases and keep
// a wrong path, a device file or a crafted import from taking the memory.
const (
	// MaxBytes bounds the files of one Open, or the one file of a Read, together.
	MaxBytes = 64 << 20
	// MaxPhrases bounds the phrases of one file.
	MaxPhrases = 1_000_000
	// MaxTextBytes bounds the text of one phrase.
	MaxTextBytes = 16 << 10
	// MaxNameBytes bounds the name of an intent, which becomes a model's label, or of
	// a user.
	MaxNameBytes = model.MaxLabelBytes
	// MaxIntents bounds the distinct intents of a set.
	MaxIntents = 10_000
)

// maxYAMLBytes is smaller than MaxBytes because a YAML document is held as a
// tree whose nodes can take a hundred times the bytes they were read from.
const maxYAMLBytes = 4 << 20

// Phrase is one thing a person typed and what they meant by it. User is empty
// where the data does not say who it was.
type Phrase struct{ Text, Intent, User string }

// Chat is a phrase with how its intent is known, empty where the data does not say.
type Chat struct {
	Phrase
	Signal string
}

// Set is a training part and a test part over one list of intents.
type Set struct {
	Intents []string // sorted and distinct: every intent of Train
	Train   []Phrase // in the order of the file
	Test    []Phrase // its intents all stand in Train
	// Outside are texts of none of the intents, to test with and not to train on: of
	// CLINC150 those under oos_test. Most sets have none.
	Outside []string

	outside []string // those that belong to the training part: oos_train and oos_val
}

// Index gives the place of an intent in s.Intents, which is its label in a
// model, and false for an intent that the set does not have.
func (s *Set) Index(intent string) (int, bool) {
	i := sort.SearchStrings(s.Intents, intent)
	return i, i < len(s.Intents) && s.Intents[i] == intent
}

// intentsOf gives the distinct intents of phrases, sorted.
func intentsOf(phrases []Phrase) []string {
	seen := make(map[string]bool)
	var intents []string
	for _, p := range phrases {
		if !seen[p.Intent] {
			seen[p.Intent] = true
			intents = append(intents, p.Intent)
		}
	}
	sort.Strings(intents)
	return intents
}
