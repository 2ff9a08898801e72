package dataset

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// folder writes files, named by their keys, and gives the folder's path.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const (
	trainCSV = "text,intent\nhi,greet\nbye,leave\n"
	testCSV  = "text,intent\nhey,greet\n"
	nluYML   = "nlu:\n- intent: greet\n  examples: |\n    - hi\n- intent: leave\n  examples: |\n    - bye\n"
)

func TestOpenWithTestPart(t *testing.T) {
	want := &Set{
		Intents: []string{"greet", "leave"},
		Train:   []Phrase{{"hi", "greet", ""}, {"bye", "leave", ""}},
		Test:    []Phrase{{"hey", "greet", ""}},
	}
	clinc := `{"train":[["hi","greet"],["bye","leave"]],"test":[["hey","greet"]],"val":[["x","oos"]],"oos_test":[["y","oos"]]}`
	for _, c := range []struct {
		name       string
		files      map[string]string
		path, test string
	}{
		{"folder of csv", map[string]string{"train.csv": trainCSV, "test.csv": testCSV, "README.md": "x"}, "", ""},
		{"folder of jsonl", map[string]string{"train.jsonl": `{"text":"hi","intent":"greet"}` + "\n" + `{"text":"bye","intent":"leave"}`, "test.jsonl": `{"text":"hey","intent":"greet"}`}, "", ""},
		{"folder of both kinds", map[string]string{"train.yml": nluYML, "test.csv": testCSV}, "", ""},
		{"rasa's own split", map[string]string{"training_data.yml": nluYML, "test_data.yml": "nlu:\n- intent: greet\n  examples: |\n    - hey\n"}, "", ""},
		{"folder of clinc", map[string]string{"data_full.json": clinc, "data_small.json": "{"}, "", ""},
		{"clinc", map[string]string{"x": clinc}, "x", ""},
		{"told apart by content", map[string]string{"train.json": trainCSV, "test.yml": testCSV}, "", ""},
		{"two files", map[string]string{"a": trainCSV, "b": testCSV}, "a", "b"},
		{"test part before the folder's own", map[string]string{"train.csv": trainCSV, "test.csv": "broken", "b": testCSV}, "", "b"},
		{"test part before the file's own", map[string]string{"a": strings.Replace(clinc, "hey", "ho", 1), "b": testCSV}, "a", "b"},
		{"test part of another clinc", map[string]string{"a": trainCSV, "b": clinc}, "a", "b"},
		{"test part alone", map[string]string{"a": trainCSV, "b": `{"test":[["hey","greet"]]}`}, "a", "b"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := folder(t, c.files)
			test := c.test
			if test != "" {
				test = filepath.Join(dir, test)
			}
			got, err := Open(filepath.Join(dir, c.path), test, 1)
			if err != nil {
				t.Fatal(err)
			}
			if asked := c.test == "" || c.test == "b" && c.files["b"] == clinc; asked && strings.Contains(c.name, "clinc") != slices.Equal(got.Outside, []string{"y"}) {
				t.Errorf("texts of no intent: %q", got.Outside)
			}
			got.Outside, got.outside = nil, nil
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got  %q\nwant %q", got, want)
			}
		})
	}
}

// TestOutsideGoesWithItsPart: what belongs to the training part is for validation alone.
func TestOutsideGoesWithItsPart(t *testing.T) {
	clinc := `{"oos_train":[["a","oos"]],"train":[["hi","greet"],["hello","greet"],["ho","greet"],["hey","greet"],["yo","greet"],["bye","leave"]],
		"oos_test":[["c","oos"],["d","oos"]],"test":[["hey","greet"]],"oos_val":[["b","oos"]]}`
	s, err := Open(filepath.Join(folder(t, map[string]string{"x": clinc}), "x"), "", 1)
	if err != nil {
		t.Fatal(err)
	}
	v, err := s.Validation(1)
	if err != nil || !slices.Equal(s.Outside, []string{"c", "d"}) || !slices.Equal(v.Outside, []string{"a", "b"}) {
		t.Errorf("%v: to test with %q, to validate with %q", err, s.Outside, v.Outside)
	}
	if _, rest, err := s.Take(1, 1); err != nil || !slices.Equal(rest.Outside, s.Outside) {
		t.Errorf("what is left of the set tests with %q, %v", rest.Outside, err)
	}
}

func TestOpenRefuses(t *testing.T) {
	for _, c := range []struct {
		name       string
		files      map[string]string
		path, test string
		want       string
	}{
		{"no such file", nil, "a", "", "no such file"},
		{"no such test file", map[string]string{"a": trainCSV}, "a", "b", "no such file"},
		{"empty folder", nil, "", "", "got a folder without a file to train on, want one of train.csv"},
		{"two to train on", map[string]string{"train.csv": trainCSV, "nlu.yml": nluYML}, "", "", "nlu.yml, want one of them"},
		{"two to test", map[string]string{"train.csv": trainCSV, "test.csv": testCSV, "test.yml": testCSV}, "", "", "test.yml, want one of them"},
		{"test a folder", map[string]string{"a": trainCSV}, "a", ".", "got a folder, want a file"},
		{"unknown label", map[string]string{"a": trainCSV, "b": testCSV + "\"a\nb\",greet\nwhat?,ask\n"}, "a", "b", `b:5: got the unknown label "ask", which none of the 2 training phrases in `},
		{"unknown label in one file", map[string]string{"a": "{\"train\":[[\"hi\",\"greet\"]],\n\"test\":[[\"bye\",\"leave\"]]}"}, "a", "", `a:2: got the unknown label "leave"`},
		{"broken test file", map[string]string{"a": trainCSV, "b": "text,intent\n,greet\n"}, "a", "b", "b:2: got an empty text"},
		{"empty test part", map[string]string{"a": `{"train":[["hi","greet"]],"test":[]}`}, "a", "", "got an empty test part"},
		{"empty train part", map[string]string{"a": `{"train":[],"test":[["hi","greet"]]}`}, "a", "", "got no phrases to train on"},
		{"too few to hold back", map[string]string{"a": "text,intent\na,x\nb,x\nc,y\nd,z\n"}, "a", "", "got 4 phrases of 3 intents, too few to hold a fifth back"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := folder(t, c.files)
			test := c.test
			if test != "" {
				test = filepath.Join(dir, test)
			}
			_, err := Open(filepath.Join(dir, c.path), test, 1)
			if err == nil {
				t.Fatal("got no error")
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("got  %v\nwant it to say %s", err, c.want)
			}
		})
	}
}

func TestOpenBoundsTheSumOfItsFiles(t *testing.T) {
	dir := folder(t, map[string]string{"a": trainCSV, "b": testCSV})
	o := opener{left: len(trainCSV) + len(testCSV) - 1}
	if _, _, err := o.open(filepath.Join(dir, "a")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := o.open(filepath.Join(dir, "b")); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("more than the %d bytes left", len(testCSV)-1)) {
		t.Errorf("got %v for the second file", err)
	}
}

func TestHoldBack(t *testing.T) {
	var csv strings.Builder
	csv.WriteString("text,intent\n")
	sizes := map[string]int{"one": 1, "two": 2, "five": 5, "hundred": 104}
	for _, intent := range []string{"hundred", "one", "five", "two"} {
		for i := range sizes[intent] {
			fmt.Fprintf(&csv, "%s %c%c,%s\n", intent, 'a'+i/10, 'a'+i%10, intent)
		}
	}
	for range 20 {
		csv.WriteString("Hundred aa!!,hundred\nhundred  AA,hundred\n") // read as the first one does
	}
	path := filepath.Join(folder(t, map[string]string{"a": csv.String()}), "a")
	drawn := make(map[string]bool)
	for seed := range uint64(30) {
		s, err := Open(path, "", seed)
		if err != nil {
			t.Fatal(err)
		}
		if len(s.Train)+len(s.Test) != 152 || len(s.Intents) != 4 {
			t.Fatalf("seed %d: got %d and %d phrases of %d intents, want 152 of 4", seed, len(s.Train), len(s.Test), len(s.Intents))
		}
		held := make(map[string]int)
		for _, p := range s.Test {
			if key := normalise(p.Text); key != "hundred aa" {
				held[p.Intent]++
				drawn[key] = true
			}
		}
		train := make(map[string]bool)
		for _, p := range s.Train {
			train[normalise(p.Text)] = true
		}
		for _, p := range s.Test {
			if train[normalise(p.Text)] {
				t.Fatalf("seed %d: %q is in both parts", seed, p.Text)
			}
		}
		if held["one"] != 0 || held["two"] != 1 || held["five"] != 1 || held["hundred"] < 19 || held["hundred"] > 20 {
			t.Fatalf("seed %d: held back %v of %v", seed, held, sizes)
		}
		again, err := Open(path, "", seed)
		if err != nil || !reflect.DeepEqual(s, again) {
			t.Fatalf("seed %d: the second time it differs (%v)", seed, err)
		}
	}
	if len(drawn) < 90 {
		t.Errorf("30 seeds drew only %d different phrases", len(drawn))
	}
}

// published gives the path of a published data set, or skips the test.
func published(t *testing.T, name string) string {
	t.Helper()
	dir := os.Getenv("DISCREET_DATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "shared", "data")
	}
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("left out the counts of %s: %v; set DISCREET_DATA to the folder that holds it", name, err)
	}
	return path
}

func TestOpenPublished(t *testing.T) {
	for _, c := range []struct {
		path                 string
		train, test, intents int
	}{
		{"clinc150/data_full.json", 15000, 4500, 150},
		{"clinc150", 15000, 4500, 150},
		{"banking77", 10003, 3080, 77},
		{"banking77/train.csv", 8003, 2000, 77},
	} {
		t.Run(c.path, func(t *testing.T) {
			s, err := Open(published(t, c.path), "", 1)
			if err != nil {
				t.Fatal(err)
			}
			if len(s.Train) != c.train || len(s.Test) != c.test || len(s.Intents) != c.intents {
				t.Errorf("got %d and %d phrases of %d intents, want %d and %d of %d", len(s.Train), len(s.Test), len(s.Intents), c.train, c.test, c.intents)
			}
			if slices.Contains(s.Intents, "oos") {
				t.Error("phrases out of scope are among the intents")
			}
		})
	}
}
