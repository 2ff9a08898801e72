package dataset

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// good are files of every format with what is to be read from them.
var good = []struct {
	name, data string
	want       []Phrase
}{
	{"csv", "text,intent\nhello there,greet\n\"one, two\",count\n",
		[]Phrase{{"hello there", "greet", ""}, {"one, two", "count", ""}}},
	{"csv as spreadsheets write it", "\ufeffUser , UTTERANCE,Label\r\nann,hi,greet\r\nbob,\"two\r\nlines \"\"q\"\"\",greet\r\n",
		[]Phrase{{"hi", "greet", "ann"}, {"two\nlines \"q\"", "greet", "bob"}}},
	{"csv with columns to pass over", "id,query,,note,,category\n1,hi,a,b,c,greet\n",
		[]Phrase{{"hi", "greet", ""}}},
	{"csv without a last newline", "text,category\nhi,greet", []Phrase{{"hi", "greet", ""}}},
	{"csv with blank lines", "\n\ntext,intent\n\n hi ,greet\n\n", []Phrase{{"hi", "greet", ""}}},

	{"jsonl", `{"text":"hi","intent":"greet"}` + "\n\n  \r\n" + `{"label":"leave","Query":"bye","user":"ann","n":{"text":[1]}}` + "\n",
		[]Phrase{{"hi", "greet", ""}, {"bye", "leave", "ann"}}},
	{"jsonl with a list before the text", `{"entities":[["a","b"]],"utterance":"hi","category":"greet"}`,
		[]Phrase{{"hi", "greet", ""}}},
	{"jsonl with customer numbers", `{"text":"hi","intent":"greet","user":17}` + "\n" + `{"text":"bye","intent":"leave","user":null}`,
		[]Phrase{{"hi", "greet", "17"}, {"bye", "leave", ""}}},
	{"jsonl with escapes", `{"text":"caf\u00e9\n?","intent":"ask"}`, []Phrase{{"café\n?", "ask", ""}}},

	{"clinc", `{"oos_val":[["x","oos"]],"val":[["v","greet"]],"train":[["hi","greet"],["bye","leave"]],"test":[["hey","greet"]]}`,
		[]Phrase{{"hi", "greet", ""}, {"bye", "leave", ""}}},
	{"clinc with other keys first", `{"about":{"a":[1]},"train":[["hi","greet"]]}`, []Phrase{{"hi", "greet", ""}}},

	{"rasa 3", "version: \"3.1\"\nnlu:\n- intent: greet\n  examples: |\n    - hi\n\n    -hello\n- lookup: city\n  examples: |\n    - Bath\n- synonym: bye\n- regex: zip\n- intent: leave\n  examples: |\n    - bye",
		[]Phrase{{"hi", "greet", ""}, {"hello", "greet", ""}, {"bye", "leave", ""}}},
	{"rasa 2 after a remark", "# our bot\n\n---\nversion: \"2.0\"\nstories: []\nnlu:\n  - intent: greet\n    examples: |\n      - hi\n",
		[]Phrase{{"hi", "greet", ""}}},
	{"rasa entities", "nlu:\n- intent: find\n  examples: |\n    - show [chinese](cuisine) in [NYC](city:New York) or [LA]{\"entity\": \"city\", \"role\": \"to\"} [a b][{\"entity\": \"x\"}, {\"entity\": \"y\"}]\n    - [what] is (this) [x]\n",
		[]Phrase{{"show chinese in NYC or LA a b", "find", ""}, {"[what] is (this) [x]", "find", ""}}},
	{"rasa retrieval intents", "nlu:\n- intent: faq/hours\n  examples: |\n    - open?\n- intent: faq/place\n  examples: |\n    - where?\n",
		[]Phrase{{"open?", "faq", ""}, {"where?", "faq", ""}}},
	{"rasa long form", "nlu:\n- intent: greet\n  metadata:\n    a: 1\n  examples:\n  - text: |\n      hi [Ann](name)\n    metadata:\n      b: 2\n  - hello\n",
		[]Phrase{{"hi Ann", "greet", ""}, {"hello", "greet", ""}}},
}

func TestRead(t *testing.T) {
	for _, c := range good {
		t.Run(c.name, func(t *testing.T) {
			got, err := Read("f", strings.NewReader(c.data))
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %q\nwant %q", got, c.want)
			}
		})
	}
}

// bad are files that must be refused, with what the error must say.
var bad = []struct{ name, data, want string }{
	{"empty file", " \n\n", "f: got an empty file, want CSV"},
	{"utf-16", "\xff\xfet\x00e\x00", "f: got UTF-16, want UTF-8"},
	{"invalid utf-8", "text,intent\nhi,greet\ncaf\xe9,ask\n", "f:3: got byte 0xe9"},
	{"binary", "text,intent\nhi\x00,greet\n", "f:2: got byte 0x00"},
	{"binary before invalid", "text,intent\n\x00,\xff\n", "f:2: got byte 0x00"},
	{"prose", "hello there\nhow are you\n", "f:1: got \"hello there\" as the first line, want CSV"},
	{"json array", `[{"text":"hi"}]`, "f:1: got a JSON array, want CSV"},

	{"csv header alone", "text,intent\n", "f: got no phrases at all"},
	{"csv without text column", "words,intent\nhi,greet\n", "column text, utterance or query"},
	{"csv without intent column", "text,meaning\nhi,greet\n", "f:1: got the header \"text,meaning\" without a column for the intent"},
	{"csv with semicolons", "text;intent\nhi;greet\n", "separated by commas"},
	{"csv column twice", "text,intent,Text\nhi,greet,x\n", `f:1: got the column "text" twice`},
	{"csv columns that mean the same", "text,label,intent\nhi,greet,x\n", `f:1: got the columns "label" and "intent", which mean the same`},
	{"csv row too long", "text,intent\nhi,greet\noh, hi,greet\n", "f:3: got 3 columns, want 2"},
	{"csv row too short", "text,intent\n\"a\nb\",greet\nhi\n", "f:4: got 1 columns, want 2"},
	{"csv quote left open", "text,intent\nhi,greet\n\"hey,greet\nbye,leave\n", "f:3: cannot be read as CSV"},
	{"csv bare quote", "text,intent\nhi,greet\na 3\" nail,ask\n", "f:3: cannot be read as CSV"},
	{"csv with many columns", "text,intent\n\"a\nb\",greet\n" + strings.Repeat("\"\n\",", maxColumns), "f:4: got a row of more than 1000 columns"},
	{"csv header with many columns", "text,intent" + strings.Repeat(",a", maxColumns) + "\n", "f:1: got a row of more than 1000 columns"},
	{"csv with a long row", "text,intent\nhi,greet\n\"" + strings.Repeat("\n", maxRowBytes), "f:3: got a row of more than 1048576 bytes"},
	{"csv empty text", "text,intent\nhi,greet\n  ,greet\n", `f:3: got an empty text for intent "greet"`},
	{"csv no intent", "text,intent\n\"a\nb\",greet\nhi,\n", `f:4: got no intent for the text "hi"`},
	{"csv long text", "text,intent\n" + strings.Repeat("x", MaxTextBytes+1) + ",greet\n", "f:2: got a text of 16385 bytes"},
	{"csv long intent", "text,intent\nhi," + strings.Repeat("x", MaxNameBytes+1) + "\n", "f:2: got an intent of 129 bytes"},
	{"csv long user", "text,intent,user\nhi,greet," + strings.Repeat("x", MaxNameBytes+1) + "\n", "f:2: got a user of 129 bytes"},
	{"csv control character", "text,intent\nhi,\"gr\neet\"\n", "f:2: got an intent \"gr\\neet\" with a control character"},

	{"jsonl cut short", `{"text":"hi","intent":"greet"}` + "\n" + `{"text":"bye","inte`, "f:2: got a JSON object that ends before it is complete"},
	{"jsonl over several lines", "{\n\"text\":\"hi\",\n\"intent\":\"greet\"}\n", "f:1: got a JSON object that ends before it is complete"},
	{"jsonl broken", `{"text":"hi","intent":"greet"}` + "\n" + `{"text" "bye"}`, "f:2: got \"{\\\"text\\\" \\\"bye\\\"}\", which is not JSON"},
	{"jsonl not an object", `{"text":"hi","intent":"greet"}` + "\n7\n", `f:2: got "7", want a JSON object`},
	{"jsonl two on a line", `{"text":"hi","intent":"greet"} {"text":"b","intent":"c"}`, "f:1: got more after the object"},
	{"jsonl key twice", `{"text":"hi","text":"ho","intent":"greet"}`, `f:1: got the keys "text" and "text", which mean the same`},
	{"jsonl keys that mean the same", `{"text":"hi","label":"a","category":"b"}`, `f:1: got the keys "label" and "category"`},
	{"jsonl number for a text", `{"text":5,"intent":"greet"}`, `f:1: got a JSON number under "text", want a string`},
	{"jsonl object for a user", `{"text":"hi","intent":"greet","user":{}}`, `f:1: got a JSON object under "user", want a string`},
	{"jsonl without text", `{"intent":"greet"}`, "f:1: got an object without a text"},
	{"jsonl null text", `{"text":null,"intent":"greet"}`, "f:1: got an empty text"},
	{"jsonl without intent", "\n" + `{"text":"hi"}`, `f:2: got no intent for the text "hi"`},
	{"empty object", `{}`, "f:1: got an object without a text"},

	{"clinc cut short", "{\"train\":[[\"hi\",\"greet\"],\n[\"bye\",\"le", "f:2: the JSON ends before it is complete"},
	{"clinc cut between pairs", "{\"train\":[[\"hi\",\"greet\"],\n", "f:2: the JSON ends before it is complete"},
	{"clinc cut before the end", `{"train":[["hi","greet"]]`, "f:1: the JSON ends before it is complete"},
	{"clinc cut in what is passed over", `{"val":[["hi","greet"],`, "the JSON ends before it is complete"},
	{"clinc cut in its first list", `{"oos_val":[["hi","oos"],`, "f:1: the JSON ends before it is complete"},
	{"clinc broken", "{\"train\":[[\"hi\",\"greet\"],\n\n[\"bye\" \"leave\"]]}", "f:3: cannot be read as JSON"},
	{"clinc without train", `{"val":[["hi","greet"]]}`, "f:1: got a JSON object without train"},
	{"clinc test alone", `{"test":[["hi","greet"]]}`, "f:1: got a test part without a train part"},
	{"clinc empty", `{"train":[],"test":[]}`, "f: got no phrases at all"},
	{"clinc train twice", `{"train":[["a","b"]],"train":[["a","b"]]}`, `got the key "train" twice`},
	{"clinc no list", `{"train":{"a":"b"}}`, `f:1: got {, want a list of ["text", "intent"] pairs`},
	{"clinc over several lines", "{\n\"train\": [\n[\n\"a\",\n\"b\"\n],\n[\n\"\",\n\"b\"\n]\n]\n}", `f:7: got an empty text`},
	{"clinc three strings", "{\"train\":[\n[\"a\",\"b\"],\n[\"a\",\"b\",\"c\"]]}", "f:3: got 3 strings"},
	{"clinc number", "{\"train\":[\n[\"a\",5]]}", "f:2: got a JSON number"},
	{"clinc empty text", "{\"train\":[\n[\"\",\"b\"]]}", `f:2: got an empty text for intent "b"`},
	{"clinc more after it", "{\"train\":[[\"a\",\"b\"]]}\n{}", "f:2: got more after the end of the JSON value"},

	{"rasa without nlu", "version: \"3.1\"\nstories: []\n", "f:1: got YAML without the key nlu"},
	{"rasa nlu no list", "version: \"3.1\"\nnlu:\n  intent: greet\n", "f:3: got nlu that is no list"},
	{"rasa broken", "nlu:\n- intent: greet\n  examples: |\n - hi\n", "f: cannot be read as YAML: yaml: line "},
	{"rasa entry of no kind", "nlu:\n- intents: greet\n", "f:2: got an entry without intent, lookup"},
	{"rasa no examples", "nlu:\n- intent: greet\n", `f:2: got intent "greet" without examples`},
	{"rasa examples a mapping", "nlu:\n- intent: greet\n  examples:\n    a: b\n", "f:4: got examples that are neither"},
	{"rasa no dash", "nlu:\n- intent: greet\n  examples: |\n    - hi\n    hello\n", `f:5: got the example "hello" of intent "greet" without a dash`},
	{"rasa empty example", "nlu:\n- intent: greet\n  examples: |\n    - hi\n\n    -\n", `f:6: got an empty text for intent "greet"`},
	{"rasa example without text", "nlu:\n- intent: greet\n  examples:\n  - metadata: 1\n", `f:4: got an example of intent "greet" without text`},
	{"rasa no name", "nlu:\n- intent: /hours\n  examples: |\n    - hi\n", `f:2: got the intent "/hours", want a name`},
	{"rasa name a list", "nlu:\n- intent: [a]\n  examples: |\n    - hi\n", "f:2: got an intent that is no plain name"},
	{"rasa two documents", "nlu:\n- intent: greet\n  examples: |\n    - hi\n---\nnlu: []\n", "f:5: got a second YAML document"},
	{"rasa only synonyms", "nlu:\n- synonym: a\n  examples: |\n    - b\n", "f: got no phrases at all"},
	{"yaml too large", "nlu: []\n# " + strings.Repeat("x", maxYAMLBytes), "bytes of YAML, want at most"},
}

func TestReadRefuses(t *testing.T) {
	for _, c := range bad {
		t.Run(c.name, func(t *testing.T) {
			got, err := Read("f", strings.NewReader(c.data))
			if err == nil {
				t.Fatalf("got %d phrases, want an error", len(got))
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("got  %v\nwant it to say %s", err, c.want)
			}
		})
	}
}

func TestReadPassesOnReadErrors(t *testing.T) {
	broken := errors.New("cable pulled")
	_, err := Read("f", io.MultiReader(strings.NewReader("text,intent\n"), iotest.ErrReader(broken)))
	if !errors.Is(err, broken) || !strings.HasPrefix(err.Error(), "f: ") {
		t.Errorf("got %v, want f: and %v", err, broken)
	}
}

func TestBounds(t *testing.T) {
	if _, err := load("f", strings.NewReader("12345"), 4); err == nil || !strings.Contains(err.Error(), "f: got more than the 4 bytes left") {
		t.Errorf("got %v for 5 bytes where 4 are allowed", err)
	}
	if f, err := load("f", strings.NewReader("1234"), 4); err != nil || string(f.data) != "1234" {
		t.Errorf("got %q, %v for 4 bytes where 4 are allowed", f.data, err)
	}
	p := newPart(file{name: "f"})
	p.phrases = make([]Phrase, MaxPhrases)
	if err := p.add(9, "hi", "greet", ""); err == nil || !strings.Contains(err.Error(), "f:9: got more than 1000000 phrases") {
		t.Errorf("got %v for one phrase too many", err)
	}
	rows := "text,intent\nhi," + strings.TrimSuffix(strings.ReplaceAll(many(MaxIntents+1), "\n", "\nhi,"), "hi,")
	if _, err := Read("f", strings.NewReader(rows)); err == nil || !strings.Contains(err.Error(), "f:10002: got more than 10000 intents") {
		t.Errorf("got %v for one intent too many", err)
	}
}

func TestReadIntents(t *testing.T) {
	for _, c := range []struct {
		name, data string
		want       []string
	}{
		{"lines", "\ufeff# our shop\r\nreturns\r\n\r\nopening hours\r\n  # later: more\r\nback_in_stock?", []string{"back_in_stock?", "opening hours", "returns"}},
		{"array", "[\n\"b\",\n \" a \"]\n", []string{"a", "b"}},
		{"csv", "text,intent\nx,b\ny,a\nz,b\n", []string{"a", "b"}},
		{"jsonl", `{"text":"x","intent":"b"}`, []string{"b"}},
		{"clinc", `{"test":[["x","z"]],"train":[["x","b"],["y","a"]]}`, []string{"a", "b"}},
		{"rasa", "nlu:\n- intent: b\n  examples: |\n    - x\n- intent: a\n  examples: |\n    - y\n", []string{"a", "b"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := ReadIntents("f", strings.NewReader(c.data))
			if err != nil || !slices.Equal(got, c.want) {
				t.Errorf("got %q, %v, want %q", got, err, c.want)
			}
		})
	}
	for _, c := range []struct{ name, data, want string }{
		{"empty", "", "f: got an empty file, want one intent a line"},
		{"remarks alone", "# a\n# b\n", "f: got no intents at all"},
		{"twice", "a\nb\n\na\n", `f:4: got the intent "a" again, which stands on line 1`},
		{"table", "a,b\nc,d\n", `f:1: got "a,b", which looks like a row of a table`},
		{"table without intents", "text,note\nhi,x\n", "want one intent a line, or CSV with a header"},
		{"long", "a\n" + strings.Repeat("x", MaxNameBytes+1), "f:2: got an intent of 129 bytes"},
		{"control character", "a\nb\x07\n", "f:2: got an intent \"b\\a\" with a control character"},
		{"too many", "a\n" + many(MaxIntents), "f:10001: got more than 10000 intents"},
		{"invalid utf-8", "a\n\xff\n", "f:2: got byte 0xff"},
		{"array of numbers", "[\"a\",\n5]", "f:2: got a JSON number, want an array of strings"},
		{"array cut short", "[\"a\",\n\"b", "f:2: the JSON ends before it is complete"},
		{"array cut between", "[\"a\",", "f:1: the JSON ends before it is complete"},
		{"array with a name twice", "[\"a\",\n\"a\"]", `f:2: got the intent "a" again`},
		{"array with an empty name", "[\"a\",\n\" \"]", "f:2: got an empty intent"},
		{"array empty", "[]", "f: got no intents at all"},
		{"array and more", "[\"a\"] []", "f:1: got more after the end"},
		{"phrases refused", "text,intent\n,b\n", `f:2: got an empty text for intent "b"`},
		{"test alone", `{"test":[["x","z"]]}`, "f:1: got a test part without a train part"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := ReadIntents("f", strings.NewReader(c.data))
			if err == nil {
				t.Fatalf("got %q, want an error", got)
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("got  %v\nwant it to say %s", err, c.want)
			}
		})
	}
}

// many gives n different intents, one a line.
func many(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "b%d\n", i)
	}
	return b.String()
}
