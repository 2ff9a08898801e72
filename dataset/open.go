package dataset

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Open reads a set of phrases.
//
// path is a file, or a folder that holds train.csv and, if there is one,
// test.csv (or .jsonl, .yml, .yaml, .json; training_data.yml and test_data.yml,
// as Rasa's own split calls them), or CLINC150's data_full.json, or nlu.yml.
// testPath names the test part where it is a file elsewhere, and may be empty; it
// goes before a test part that path holds.
//
// Where there is no test part, a fifth of the phrases is held back, drawn by
// seed: of each intent in proportion, never all of one, and phrases of one
// intent that differ only in case, punctuation and spacing stay on the same
// side. seed is used for nothing else.
//
// An intent that stands in the test part and not in the training part is an
// error, because no model could ever give it.
func Open(path, testPath string, seed uint64) (*Set, error) {
	o := opener{left: MaxBytes}
	trainFile, testFile, err := find(path)
	if err != nil {
		return nil, err
	}
	if testPath != "" {
		testFile = testPath
	}
	train, test, err := o.open(trainFile)
	if err != nil {
		return nil, err
	}
	if len(train.phrases) == 0 {
		return nil, fmt.Errorf("%s: got no phrases to train on, want at least one under train", trainFile)
	}
	if testFile != "" {
		whole, half, err := o.open(testFile)
		if err != nil {
			return nil, err
		}
		test = whole
		if half != nil { // a file with both parts, as CLINC150's
			test = half
		}
	}
	s := &Set{Intents: intentsOf(train.phrases), outside: train.outside}
	if test == nil {
		s.Train, s.Test = holdBack(train.phrases, seed, sameText)
		if len(s.Test) == 0 {
			return nil, fmt.Errorf("%s: got %d phrases of %d intents, too few to hold a fifth back as test; want a few phrases of each intent, or a test file", trainFile, len(train.phrases), len(s.Intents))
		}
		return s, nil
	}
	s.Train, s.Test, s.Outside = train.phrases, test.phrases, test.outside
	if len(s.Test) == 0 {
		return nil, fmt.Errorf("%s: got an empty test part, want at least one phrase, or none at all so that a fifth of the training part is held back", test.name)
	}
	for i, p := range s.Test {
		if _, ok := s.Index(p.Intent); !ok {
			return nil, test.errorf(test.lines[i], "got the unknown label %q, which none of the %d training phrases in %s has; add phrases of it there, or take it out of the test part", p.Intent, len(s.Train), trainFile)
		}
	}
	return s, nil
}

// opener opens files within one budget of bytes.
type opener struct{ left int }

func (o *opener) open(path string) (train, test *part, err error) {
	in, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer in.Close()
	if info, err := in.Stat(); err == nil && info.IsDir() {
		return nil, nil, fmt.Errorf("%s: got a folder, want a file", path)
	}
	f, err := load(path, in, o.left)
	if err != nil {
		return nil, nil, err
	}
	o.left -= len(f.data)
	return parse(f)
}

var (
	trainNames = []string{"train.csv", "train.jsonl", "train.json", "train.yml", "train.yaml", "training_data.yml", "data_full.json", "nlu.yml"}
	testNames  = []string{"test.csv", "test.jsonl", "test.json", "test.yml", "test.yaml", "test_data.yml"}
)

// find tells which files path stands for; test is empty where there is none.
func find(path string) (train, test string, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", "", err
	}
	if !info.IsDir() {
		return path, "", nil
	}
	if train, err = oneOf(path, trainNames); err != nil {
		return "", "", err
	}
	if train == "" {
		return "", "", fmt.Errorf("%s: got a folder without a file to train on, want one of %s; or name the file itself", path, strings.Join(trainNames, ", "))
	}
	test, err = oneOf(path, testNames)
	return train, test, err
}

// oneOf gives the one of names that the folder has, or nothing.
func oneOf(folder string, names []string) (string, error) {
	var found []string
	for _, name := range names {
		path := filepath.Join(folder, name)
		if _, err := os.Stat(path); err == nil {
			found = append(found, path)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	if len(found) > 1 {
		return "", fmt.Errorf("%s: got %s, want one of them; name the file itself", folder, strings.Join(found, " and "))
	}
	return strings.Join(found, ""), nil
}
