package dataset

import (
	"bytes"
	"sort"
	"strings"
	"testing"
	"unicode/utf8"
)

// seeds gives a fuzz target every file of the tables.
func seeds(f *testing.F) {
	for _, c := range good {
		f.Add([]byte(c.data))
	}
	for _, c := range bad {
		if len(c.data) < MaxTextBytes {
			f.Add([]byte(c.data))
		}
	}
	f.Add([]byte("# intents\na\nb c\n"))
	f.Add([]byte(`["a","b"]`))
}

// FuzzRead holds that whatever is read keeps the bounds and whatever is
// refused names the file.
func FuzzRead(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		phrases, err := Read("file", bytes.NewReader(data))
		if err != nil {
			if !strings.HasPrefix(err.Error(), "file:") {
				t.Fatalf("the error does not name the file: %v", err)
			}
			return
		}
		if len(phrases) == 0 {
			t.Fatal("got neither phrases nor an error")
		}
		for _, p := range phrases {
			if p.Text == "" || len(p.Text) > MaxTextBytes || p.Text != strings.TrimSpace(p.Text) {
				t.Fatalf("got the text %q", p.Text)
			}
			if p.Intent == "" || checkName("intent", p.Intent) != nil || checkName("user", p.User) != nil {
				t.Fatalf("got the intent %q and the user %q", p.Intent, p.User)
			}
			if !utf8.ValidString(p.Text + p.Intent + p.User) {
				t.Fatalf("got %q, which is not UTF-8", p)
			}
		}
	})
}

func FuzzReadIntents(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		intents, err := ReadIntents("file", bytes.NewReader(data))
		if err != nil {
			if !strings.HasPrefix(err.Error(), "file:") {
				t.Fatalf("the error does not name the file: %v", err)
			}
			return
		}
		if len(intents) == 0 || !sort.StringsAreSorted(intents) {
			t.Fatalf("got %q", intents)
		}
		for i, intent := range intents {
			if intent == "" || i > 0 && intent == intents[i-1] || checkName("intent", intent) != nil {
				t.Fatalf("got %q", intents)
			}
		}
	})
}
