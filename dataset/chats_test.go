package dataset

import (
	"fmt"
	"strings"
	"testing"
)

func TestReadChats(t *testing.T) {
	want := "[{{hi greet } confirmed} {{no bye } rejected} {{hey greet } }]"
	for name, text := range map[string]string{
		"csv":   "text,intent,signal\nhi,greet,confirmed\nno,bye, rejected\nhey,greet,\n",
		"jsonl": `{"text":"hi","intent":"greet","signal":"confirmed"}` + "\n" + `{"text":"no","intent":"bye","signal":"rejected"}` + "\n" + `{"text":"hey","intent":"greet"}`,
	} {
		if got, err := ReadChats(name, strings.NewReader(text)); err != nil || fmt.Sprint(got) != want {
			t.Errorf("%s: got %v, %v, want %s", name, got, err, want)
		}
		if _, err := Read(name, strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), "rejected") {
			t.Errorf("%s: phrases with a rejected one: %v", name, err)
		}
	}
	if got, err := ReadChats("rasa", strings.NewReader("nlu:\n- intent: greet\n  examples: |\n    - hi\n")); err != nil || fmt.Sprint(got) != "[{{hi greet } }]" {
		t.Errorf("rasa: got %v, %v", got, err)
	}
}
